//! The numbers that matter most.

use leptos::prelude::*;
use millrace_wire::live::Overview;
use millrace_wire::topic::INDEXER_GROUP;

use crate::format;
use crate::page::Page;

/// Lag of the processor's groups: records, and the largest age in seconds. `None` when no group is known.
pub fn processor_lag(overview: &Overview) -> Option<(i64, Option<f64>)> {
    overview.groups.iter().filter(|g| g.group != INDEXER_GROUP).fold(None, |sum, group| {
        let (records, seconds) = sum.unwrap_or((0, None));
        let seconds: Option<f64> = [seconds, group.lag_seconds].into_iter().flatten().reduce(f64::max);
        Some((records + group.lag_records, seconds))
    })
}

type Read = fn(&Overview) -> Option<f64>;

/// All of them.
#[component]
pub fn Tiles() -> impl IntoView {
    let page = expect_context::<Page>();
    let tile = move |label: &'static str,
                     unit: &'static str,
                     id: &'static str,
                     text: fn(f64) -> String,
                     read: Read| {
        let value = Memo::new(move |_| page.gauge(read).flatten());
        view! {
            <div class="tile">
                <dt>{label}</dt>
                <dd>
                    <b
                        data-testid=id
                        data-value=move || value.get().map_or_else(String::new, |v| v.to_string())
                    >
                        {move || value.get().map_or_else(|| format::NOTHING.to_owned(), text)}
                    </b>
                    <span class="quiet">{unit}</span>
                </dd>
            </div>
        }
    };
    let ms: fn(f64) -> String =
        |v| if v < 10.0 { format::decimals(v, 1) } else { format::grouped(v.round() as i64) };
    let whole: fn(f64) -> String = |v| format::grouped(v as i64);
    view! {
        <section aria-label="Key numbers">
            <dl class="tiles">
                {tile("Produced", "/s", "produced-rate", format::rate, |o| Some(o.produced_per_s))}
                {tile("Consumed", "/s", "consumed-rate", format::rate, |o| Some(o.consumed_per_s))}
                {tile("Emitted", "/s", "emitted-rate", format::rate, |o| Some(o.emitted_per_s))}
                {tile("Indexed", "/s", "indexed-rate", format::rate, |o| o.indexer.as_ref().map(|i| i.indexed_per_s))}
                {tile("Latency p50", "ms", "latency-p50", ms, |o| o.latency.map(|l| l.p50_ms))}
                {tile("Latency p95", "ms", "latency-p95", ms, |o| o.latency.map(|l| l.p95_ms))}
                {tile("Latency p99", "ms", "latency-p99", ms, |o| o.latency.map(|l| l.p99_ms))}
                {tile("Lag, records", "", "lag-records", whole, |o| processor_lag(o).map(|l| l.0 as f64))}
                {tile("Late records", "", "late-total", whole, |o| Some(o.late_total as f64))}
                {tile("Dead letters", "", "dead-total", whole, |o| Some(o.dead_total as f64))}
            </dl>
        </section>
    }
    .into_any()
}
