//! What is known about the cluster now: written by the supervisor's tasks, read by whoever shows or waits for it.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use millrace_wire::telemetry::{Component, ComponentState, ProcessUsage};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// How a start is going.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Not everything has been started yet.
    Starting,
    /// Everything is ready.
    Ready,
    /// What could be started is ready; these are not.
    Degraded(Vec<String>),
    /// On the way down.
    Stopping,
}

/// Everything at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Where people open the page.
    pub url: String,
    /// The supervisor.
    pub pid: u32,
    /// What is being done or waited for.
    pub phase: String,
    /// For how long, seconds.
    pub phase_s: f64,
    /// How the start is going.
    pub outcome: Outcome,
    /// Every component.
    pub components: Vec<Component>,
    /// How long each has been in its state, seconds, in the same order.
    pub state_s: Vec<f64>,
    /// The gateway has a user whose password a person was told, now or earlier.
    pub admin_created: bool,
}

#[derive(Debug)]
struct Entry {
    component: Component,
    since: Instant,
}

#[derive(Debug)]
struct Inner {
    phase: String,
    phase_since: Instant,
    outcome: Outcome,
    entries: Vec<Entry>,
    url: String,
    admin_created: bool,
}

/// The shared state of one supervisor. Single-threaded: borrows never cross an await.
#[derive(Debug)]
pub struct Board {
    inner: RefCell<Inner>,
    revision: watch::Sender<u64>,
}

impl Default for Board {
    fn default() -> Self {
        let inner = Inner {
            phase: "getting ready".to_owned(),
            phase_since: Instant::now(),
            outcome: Outcome::Starting,
            entries: Vec::new(),
            url: String::new(),
            admin_created: false,
        };
        Self { inner: RefCell::new(inner), revision: watch::Sender::new(0) }
    }
}

impl Board {
    fn change(&self, change: impl FnOnce(&mut Inner)) {
        change(&mut self.inner.borrow_mut());
        self.revision.send_modify(|revision| *revision += 1);
    }

    fn change_entry(&self, name: &str, change: impl FnOnce(&mut Entry)) {
        self.change(|inner| {
            if let Some(entry) = inner.entries.iter_mut().find(|entry| entry.component.name == name) {
                change(entry);
            }
        });
    }

    /// Says what is being done or waited for.
    pub fn phase(&self, phase: &str) {
        if self.inner.borrow().phase != phase {
            self.change(|inner| {
                phase.clone_into(&mut inner.phase);
                inner.phase_since = Instant::now();
            });
        }
    }

    /// Says where the page is.
    pub fn url(&self, url: String) {
        self.change(|inner| inner.url = url);
    }

    /// Says how the start went.
    pub fn outcome(&self, outcome: Outcome) {
        self.change(|inner| inner.outcome = outcome);
    }

    /// Says that the page's first user exists.
    pub fn admin_created(&self) {
        self.change(|inner| inner.admin_created = true);
    }

    /// Adds a component, stopped.
    pub fn add(&self, name: &str, ports: &[u16]) {
        let component = Component {
            name: name.to_owned(),
            state: ComponentState::Stopped,
            ports: ports.to_vec(),
            ..Component::default()
        };
        self.change(|inner| inner.entries.push(Entry { component, since: Instant::now() }));
    }

    /// A component came into a state.
    pub fn state(&self, name: &str, state: ComponentState, detail: Option<String>) {
        self.change_entry(name, |entry| {
            entry.component.state = state;
            entry.component.detail = detail;
            entry.since = Instant::now();
            if !matches!(state, ComponentState::Starting | ComponentState::Running) {
                entry.component.process = ProcessUsage::default();
            }
        });
    }

    /// A component has a new process.
    pub fn started(&self, name: &str, pid: u32, again: bool) {
        self.change_entry(name, |entry| {
            entry.component.process = ProcessUsage { pid, ..ProcessUsage::default() };
            entry.component.restarts += u32::from(again);
            entry.component.state = ComponentState::Starting;
            entry.since = Instant::now();
        });
    }

    /// Notes what every running component takes; `measure` maps a process group to (CPU seconds, resident bytes).
    pub fn measure(&self, measure: impl Fn(u32) -> Option<(f64, u64)>) {
        // No new revision: nobody waits for this.
        for entry in &mut self.inner.borrow_mut().entries {
            let process = &mut entry.component.process;
            if process.pid == 0 {
                continue;
            }
            if let Some((cpu_seconds, resident_bytes)) = measure(process.pid) {
                process.cpu_seconds = cpu_seconds;
                process.resident_bytes = resident_bytes;
            }
        }
    }

    /// State of one component and since when.
    pub fn get(&self, name: &str) -> Option<(Component, Duration)> {
        let inner = self.inner.borrow();
        let entry = inner.entries.iter().find(|entry| entry.component.name == name)?;
        Some((entry.component.clone(), entry.since.elapsed()))
    }

    /// Everything.
    pub fn snapshot(&self) -> Snapshot {
        let inner = self.inner.borrow();
        Snapshot {
            url: inner.url.clone(),
            pid: std::process::id(),
            phase: inner.phase.clone(),
            phase_s: inner.phase_since.elapsed().as_secs_f64(),
            outcome: inner.outcome.clone(),
            components: inner.entries.iter().map(|entry| entry.component.clone()).collect(),
            state_s: inner.entries.iter().map(|entry| entry.since.elapsed().as_secs_f64()).collect(),
            admin_created: inner.admin_created,
        }
    }

    /// Counts changes; for waiting.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }
}
