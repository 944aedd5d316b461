//! The three charts of the last five minutes.

use leptos::prelude::*;

use crate::chart::Chart;
use crate::chart::data::{Series, Spec};
use crate::format;

static THROUGHPUT: Spec = Spec {
    title: "Throughput",
    subtitle: "records per second",
    text: format::rate,
    tick: format::compact,
    floor: 10.0,
    series: &[
        Series { label: "produced", value: |s| Some(s.produced_per_s), filled: true },
        Series { label: "consumed", value: |s| Some(s.consumed_per_s), filled: false },
        Series { label: "emitted", value: |s| Some(s.emitted_per_s), filled: false },
    ],
};

static LATENCY: Spec = Spec {
    title: "Latency",
    subtitle: "Kafka create time to commit",
    text: format::millis,
    tick: format::millis,
    floor: 10.0,
    series: &[
        Series { label: "p50", value: |s| s.latency.map(|l| l.p50_ms), filled: true },
        Series { label: "p95", value: |s| s.latency.map(|l| l.p95_ms), filled: false },
        Series { label: "p99", value: |s| s.latency.map(|l| l.p99_ms), filled: false },
    ],
};

static LAG: Spec = Spec {
    title: "Lag",
    subtitle: "records not yet committed",
    text: |v| format::grouped(v as i64),
    tick: format::compact,
    floor: 10.0,
    series: &[
        Series { label: "processor", value: |s| s.lag_records.map(|l| l as f64), filled: true },
        Series { label: "indexer", value: |s| s.index_lag_records.map(|l| l as f64), filled: false },
    ],
};

/// All three.
#[component]
pub fn Charts() -> impl IntoView {
    view! {
        <section class="charts" aria-label="The last five minutes">
            <Chart spec=&THROUGHPUT/>
            <Chart spec=&LATENCY/>
            <Chart spec=&LAG/>
        </section>
    }
    .into_any()
}
