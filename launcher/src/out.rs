//! What people see of a command. A closed pipe ends nothing.

use std::io::{IsTerminal, Write};

/// One line on standard output.
pub fn line(text: impl AsRef<str>) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{}", text.as_ref());
    let _ = out.flush();
}

/// One line on standard error.
pub fn complain(text: impl AsRef<str>) {
    let _ = writeln!(std::io::stderr().lock(), "{}", text.as_ref());
}

/// Whether a person watches.
pub fn is_terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// Replaces the terminal's current line.
pub fn status(text: &str) {
    let width = 100;
    let short: String = text.chars().take(width).collect();
    let mut out = std::io::stdout().lock();
    let _ = write!(out, "\r\x1b[2K{short}");
    let _ = out.flush();
}
