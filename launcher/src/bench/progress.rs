//! Tells on standard error what is being waited for, so that standard output has nothing but figures.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// How often a line is renewed on a terminal.
const ON_TERMINAL: Duration = Duration::from_millis(100);
/// How often one is added elsewhere.
const ELSEWHERE: Duration = Duration::from_secs(10);

/// What is being waited for.
#[derive(Debug)]
pub struct Progress {
    terminal: bool,
    told: Option<Instant>,
}

impl Progress {
    /// Has said nothing.
    pub fn new() -> Self {
        Self { terminal: std::io::stderr().is_terminal(), told: None }
    }

    /// Something that happened, once.
    pub fn say(&mut self, text: &str) {
        let clear = if self.terminal { "\r\x1b[2K" } else { "" };
        let _ = writeln!(std::io::stderr().lock(), "{clear}{text}");
        self.told = Some(Instant::now());
    }

    /// How something goes; said now and then.
    pub fn going(&mut self, text: impl FnOnce() -> String) {
        let every = if self.terminal { ON_TERMINAL } else { ELSEWHERE };
        if self.told.is_some_and(|told| told.elapsed() < every) {
            return;
        }
        if self.terminal {
            let short: String = text().chars().take(100).collect();
            let mut err = std::io::stderr().lock();
            let _ = write!(err, "\r\x1b[2K{short}");
            let _ = err.flush();
            self.told = Some(Instant::now());
        } else {
            self.say(&text());
        }
    }
}
