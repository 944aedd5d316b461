//! Tells a person how a start is going: a line for each change, and on a terminal what is being waited for.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use millrace_wire::telemetry::ComponentState;

use crate::board::{Outcome, Snapshot};
use crate::layout::Layout;
use crate::logfile::tail;
use crate::out;

/// How often a snapshot is worth looking at.
pub const INTERVAL: Duration = Duration::from_millis(150);

/// Remembers what was said.
#[derive(Debug)]
pub struct Progress {
    terminal: bool,
    began: Instant,
    phase: String,
    states: HashMap<String, ComponentState>,
    greeted: bool,
    /// Made up for this start; told once.
    password: Option<String>,
}

impl Progress {
    /// `password`: to be told as soon as the page's first user has it.
    pub fn new(password: Option<String>) -> Self {
        Self {
            terminal: out::is_terminal(),
            began: Instant::now(),
            phase: String::new(),
            states: HashMap::new(),
            greeted: false,
            password,
        }
    }

    /// Says what is new.
    pub fn show(&mut self, snapshot: &Snapshot, layout: &Layout) {
        let lines = self.news(snapshot, layout);
        if self.terminal && (!lines.is_empty() || self.greeted) {
            out::status("");
        }
        for line in lines {
            out::line(line);
        }
        if self.terminal && !self.greeted {
            out::status(&format!("  {} .. {:.0} s", snapshot.phase, snapshot.phase_s));
        }
    }

    fn news(&mut self, snapshot: &Snapshot, layout: &Layout) -> Vec<String> {
        let mut lines = Vec::new();
        if snapshot.phase != self.phase {
            self.phase.clone_from(&snapshot.phase);
            if !self.terminal && !matches!(snapshot.outcome, Outcome::Ready | Outcome::Degraded(_)) {
                lines.push(format!("{:>6.1} s  {}", self.began.elapsed().as_secs_f64(), snapshot.phase));
            } else if self.terminal && snapshot.outcome == Outcome::Stopping {
                lines.push(format!("{} ..", snapshot.phase));
            }
        }
        for component in &snapshot.components {
            let before = self.states.insert(component.name.clone(), component.state);
            if before == Some(component.state) || snapshot.outcome == Outcome::Stopping {
                continue;
            }
            let at = self.began.elapsed().as_secs_f64();
            let name = &component.name;
            let detail = component.detail.as_deref().unwrap_or("no reason given");
            match component.state {
                ComponentState::Running => lines.push(format!("{at:>6.1} s  {name} is ready")),
                ComponentState::Restarting => {
                    lines.push(format!("{at:>6.1} s  {name} {detail}; starting it again"));
                }
                ComponentState::Failed => lines.push(format!("{at:>6.1} s  {name} failed: {detail}")),
                ComponentState::Stopped if before.is_some() && self.greeted => {
                    lines.push(format!("{at:>6.1} s  {name} is stopped"));
                }
                ComponentState::Stopped | ComponentState::Starting => {}
            }
        }
        if snapshot.admin_created
            && let Some(password) = self.password.take()
        {
            lines.extend(password_box(&snapshot.url, &password, "millrace user --help"));
        }
        if !self.greeted && matches!(snapshot.outcome, Outcome::Ready | Outcome::Degraded(_)) {
            self.greeted = true;
            lines.extend(greeting(snapshot, layout));
        }
        lines
    }
}

fn greeting(snapshot: &Snapshot, layout: &Layout) -> Vec<String> {
    let mut lines = Vec::new();
    let has_gateway = snapshot
        .components
        .iter()
        .any(|component| component.name == "gateway" && component.state == ComponentState::Running);
    if let Outcome::Degraded(failed) = &snapshot.outcome {
        for name in failed {
            lines.push(format!("{name} is not ready; everything else runs. The last lines of its log:"));
            lines.extend(tail(&layout.log(name), 10).into_iter().map(|line| format!("    {line}")));
        }
    }
    if has_gateway {
        lines.push(format!("Millrace runs: {}", snapshot.url));
    } else {
        lines.push("The services run, without a gateway.".to_owned());
    }
    lines
}

/// What to open and how to sign in; `renew` is the command for another password.
pub fn password_box(url: &str, password: &str, renew: &str) -> Vec<String> {
    let rows = [
        format!("Open      {url}"),
        "Sign in   admin".to_owned(),
        format!("Password  {password}"),
        format!("Shown once. A new one: {renew}"),
    ];
    let width = rows.iter().map(|row| row.chars().count()).max().unwrap_or(0);
    let edge = "-".repeat(width + 2);
    let mut lines = vec![format!("+{edge}+")];
    lines.extend(rows.iter().map(|row| format!("| {row:width$} |")));
    lines.push(format!("+{edge}+"));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_wire::telemetry::Component;
    use std::path::Path;

    fn snapshot(outcome: Outcome, state: ComponentState, admin_created: bool) -> Snapshot {
        let component = Component { name: "gateway".to_owned(), state, ..Component::default() };
        Snapshot {
            url: "http://127.0.0.1:8080".to_owned(),
            pid: 1,
            phase: "waiting for gateway".to_owned(),
            phase_s: 0.0,
            outcome,
            components: vec![component],
            state_s: vec![0.0],
            admin_created,
        }
    }

    #[test]
    fn the_password_is_told_once_and_every_change_is_one_line() {
        let layout = Layout::new(Path::new("/nowhere")).unwrap();
        let mut progress = Progress { terminal: false, ..Progress::new(Some("s3cret".to_owned())) };
        let first = progress.news(&snapshot(Outcome::Starting, ComponentState::Starting, false), &layout);
        assert_eq!(first.len(), 1, "{first:?}");
        let ready = snapshot(Outcome::Ready, ComponentState::Running, true);
        let second = progress.news(&ready, &layout).join("\n");
        assert!(second.contains("gateway is ready"), "{second}");
        assert!(second.contains("| Password  s3cret "), "{second}");
        assert!(second.ends_with("Millrace runs: http://127.0.0.1:8080"), "{second}");
        assert!(progress.news(&ready, &layout).is_empty());
    }
}
