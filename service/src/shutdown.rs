//! Stopping when asked: SIGTERM or SIGINT.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

/// Says when to stop, to threads ([`Shutdown::requested`]) and to tasks ([`Shutdown::wait`]).
#[derive(Clone, Default)]
pub struct Shutdown {
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    requested: AtomicBool,
    notify: Notify,
}

impl Shutdown {
    /// Listens to SIGTERM and SIGINT.
    ///
    /// # Errors
    /// The handlers can't be installed.
    pub fn on_signals() -> std::io::Result<Self> {
        let shutdown = Self::default();
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let this = shutdown.clone();
        tokio::spawn(async move {
            tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
            tracing::info!("asked to stop");
            this.request();
        });
        Ok(shutdown)
    }

    /// Asks everyone to stop.
    pub fn request(&self) {
        self.state.requested.store(true, Ordering::SeqCst);
        self.state.notify.notify_waiters();
    }

    /// Whether it is time to stop.
    pub fn requested(&self) -> bool {
        self.state.requested.load(Ordering::Relaxed)
    }

    /// Returns when it is time to stop.
    pub async fn wait(&self) {
        loop {
            let notified = self.state.notify.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            if self.requested() {
                return;
            }
            notified.await;
        }
    }
}
