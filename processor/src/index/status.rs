use std::sync::Mutex;

use millrace_service::http::Observable;
use millrace_service::metrics::{Exposition, Kind};
use millrace_wire::telemetry::Indexer;

/// What the indexer shows of itself.
#[derive(Default)]
pub struct Status(Mutex<Indexer>);

impl Status {
    /// Changes the figures.
    pub fn update(&self, change: impl FnOnce(&mut Indexer)) {
        match self.0.lock() {
            Ok(mut figures) => change(&mut figures),
            Err(poisoned) => change(&mut poisoned.into_inner()),
        }
    }

    /// The figures.
    pub fn get(&self) -> Indexer {
        let mut copy = Indexer::default();
        self.update(|figures| copy = figures.clone());
        copy
    }
}

impl Observable for Status {
    fn health(&self) -> Result<(), String> {
        match self.get().error {
            None => Ok(()),
            Some(error) => Err(format!("not indexing: {error}")),
        }
    }

    fn metrics(&self, out: &mut Exposition) {
        let figures = self.get();
        let mut add = |name, kind, help, value| out.add(name, kind, help, &[], value);
        add(
            "millrace_indexer_documents_total",
            Kind::Counter,
            "Documents acknowledged.",
            figures.indexed as f64,
        );
        add(
            "millrace_indexer_rejected_total",
            Kind::Counter,
            "Documents refused for good.",
            figures.rejected as f64,
        );
        add(
            "millrace_indexer_retries_total",
            Kind::Counter,
            "Bulk requests repeated.",
            figures.retries as f64,
        );
        add(
            "millrace_indexer_bulk_seconds",
            Kind::Gauge,
            "Duration of the latest bulk request.",
            figures.bulk_ms / 1e3,
        );
        add(
            "millrace_indexer_up",
            Kind::Gauge,
            "1 if Elasticsearch takes documents.",
            f64::from(figures.error.is_none()),
        );
    }
}
