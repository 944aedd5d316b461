//! The signals that views read, owned by the root so that they live as long as the page.

use leptos::prelude::*;
use millrace_wire::api::{Role, Session};
use millrace_wire::live::{AlertNote, Overview, Sample};
use millrace_wire::result::SensorAverage;
use millrace_wire::telemetry::{Checkpoint, Recovery};
use wasm_bindgen_futures::spawn_local;

use crate::net::{live, rest};
use crate::store::{Changed, Connection, STALE_MS, State};

/// Whether somebody is signed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// Not known yet.
    Asking,
    /// Nobody, and why that is worth saying.
    SignedOut(Option<String>),
    /// Somebody.
    SignedIn(Session),
}

/// Everything that views read. `Copy`: it is handles only.
#[derive(Clone, Copy)]
pub struct Page {
    /// Who is signed in.
    pub access: RwSignal<Access>,
    /// The live connection.
    pub connection: RwSignal<Connection>,
    /// When the last message came, epoch ms; 0 before the first.
    pub received_ms: RwSignal<f64>,
    /// Now, twice a second, epoch ms.
    pub now_ms: RwSignal<f64>,
    /// Gauges; `None` before the first message.
    pub overview: RwSignal<Option<Overview>>,
    /// One sample a second, oldest first.
    pub history: RwSignal<Vec<Sample>>,
    /// Newest first.
    pub alerts: RwSignal<Vec<AlertNote>>,
    /// Alerts not sent by the server.
    pub alerts_skipped: RwSignal<u64>,
    /// Newest first.
    pub averages: RwSignal<Vec<SensorAverage>>,
    /// Averages not sent by the server.
    pub averages_skipped: RwSignal<u64>,
    /// Newest first.
    pub checkpoints: RwSignal<Vec<Checkpoint>>,
    /// Newest first.
    pub recoveries: RwSignal<Vec<Recovery>>,
    /// Counts up when colours change, so that canvases are drawn again.
    pub theme_changes: RwSignal<u32>,
    /// Minutes that the wall clock is ahead of UTC.
    pub utc_offset_min: i64,
}

impl Page {
    /// Empty, under the current owner.
    pub fn new() -> Self {
        Self {
            access: RwSignal::new(Access::Asking),
            connection: RwSignal::default(),
            received_ms: RwSignal::default(),
            now_ms: RwSignal::new(js_sys::Date::now()),
            overview: RwSignal::default(),
            history: RwSignal::default(),
            alerts: RwSignal::default(),
            alerts_skipped: RwSignal::default(),
            averages: RwSignal::default(),
            averages_skipped: RwSignal::default(),
            checkpoints: RwSignal::default(),
            recoveries: RwSignal::default(),
            theme_changes: RwSignal::default(),
            utc_offset_min: -(js_sys::Date::new_0().get_timezone_offset() as i64),
        }
    }

    /// Asks the gateway who is signed in.
    pub fn ask(self) {
        spawn_local(async move {
            match rest::session().await {
                Ok(session) => self.signed_in(session),
                Err(failure) if failure.signed_out() => self.set_access(Access::SignedOut(None)),
                Err(failure) => self.set_access(Access::SignedOut(Some(failure.text()))),
            }
        });
    }

    /// Somebody is: the live connection starts.
    pub fn signed_in(self, session: Session) {
        let _ = self.received_ms.try_set(0.0);
        self.commit(&State::default(), Changed::ALL);
        self.set_access(Access::SignedIn(session));
        live::start(self);
    }

    /// The session has ended.
    pub fn signed_out(self, reason: &str) {
        live::stop();
        let _ = self.connection.try_set(Connection::SignedOut);
        self.set_access(Access::SignedOut((!reason.is_empty()).then(|| reason.into())));
    }

    fn set_access(self, access: Access) {
        let _ = self.access.try_set(access);
    }

    /// Copies what changed.
    pub fn commit(self, state: &State, changed: Changed) {
        if changed.overview {
            let _ = self.overview.try_set(state.overview.clone());
        }
        if changed.history {
            let _ = self.history.try_set(state.history.iter().cloned().collect());
        }
        if changed.alerts {
            let _ = self.alerts_skipped.try_set(state.alerts_skipped);
            let _ = self.alerts.try_set(state.alerts.iter().cloned().collect());
        }
        if changed.averages {
            let _ = self.averages_skipped.try_set(state.averages_skipped);
            let _ = self.averages.try_set(state.averages.iter().cloned().collect());
        }
        if changed.checkpoints {
            let _ = self.checkpoints.try_set(state.checkpoints.iter().cloned().collect());
        }
        if changed.recoveries {
            let _ = self.recoveries.try_set(state.recoveries.iter().cloned().collect());
        }
    }

    /// Whether the user may change anything; tracked.
    pub fn may_operate(self) -> bool {
        self.access.with(|access| matches!(access, Access::SignedIn(s) if s.role >= Role::Operator))
    }

    /// How old the newest message is, ms; `None` before the first; tracked.
    pub fn age_ms(self) -> Option<f64> {
        let received = self.received_ms.get();
        (received > 0.0).then(|| (self.now_ms.get() - received).max(0.0))
    }

    /// Whether what is shown is too old to be trusted; tracked.
    pub fn stale(self) -> bool {
        self.age_ms().is_some_and(|age| age > STALE_MS)
    }

    /// A value of the gauges; `None` before the first message; tracked.
    pub fn gauge<T>(self, read: impl FnOnce(&Overview) -> T) -> Option<T> {
        self.overview.with(|overview| overview.as_ref().map(read))
    }
}

impl Default for Page {
    fn default() -> Self {
        Self::new()
    }
}
