//! Checkpoints and recoveries: two cards that [`super::system`] places.

use leptos::prelude::*;
use millrace_wire::live::WorkerGauge;
use millrace_wire::telemetry::{Checkpoint, RecoveryPhases};

use crate::format;
use crate::page::Page;

const ROWS: usize = 12;

/// The newest checkpoints.
#[component]
pub fn Checkpoints() -> impl IntoView {
    let page = expect_context::<Page>();
    let rows = move || {
        page.checkpoints.with(|all| {
            let longest = all.iter().take(ROWS).map(|c| c.duration_ms).fold(1.0, f64::max);
            let row = |c: &Checkpoint| {
                let share = (c.duration_ms / longest * 100.0).clamp(2.0, 100.0);
                let state = c.error.clone().map(|error| view! { <span class="ack bad">"✕ "{error}</span> });
                view! {
                    <tr class:failed=c.error.is_some()>
                        <td class="n">{format::clock(c.at_ms, page.utc_offset_min)}</td>
                        <td>{c.app.clone()}"/"{c.partition}</td>
                        <td class="gauge">
                            <span class="gauge" style:width=format!("{share:.0}%") aria-hidden="true"></span>
                        </td>
                        <td class="n">{format::millis(c.duration_ms)}</td>
                        <td class="n">{format::millis(c.blocked_ms)}</td>
                        <td class="n">{format::bytes(c.written_bytes)}</td>
                        <td class="n">{format::bytes(c.bytes)}</td>
                        <td class="n">{c.files}</td>
                        <td class="n">{format::total(c.entries)}{state}</td>
                    </tr>
                }
            };
            all.iter().take(ROWS).map(row).collect_view()
        })
    };
    let empty = move || {
        page.checkpoints
            .with(Vec::is_empty)
            .then(|| view! { <p class="empty">"No checkpoint yet; there is one every 10 s."</p> })
    };
    view! {
        <div class="card">
            <div class="heading"><h2>"Checkpoints"</h2><span class="quiet">"start to durable; “blocked” held up processing"</span></div>
            <div class="scroll" tabindex="0" role="region" aria-label="Checkpoints">
                <table>
                    <thead><tr>
                        <th scope="col" class="n">"Time"</th><th scope="col">"Task"</th>
                        <th scope="col" class="gauge"><span class="hidden">"Duration, drawn"</span></th>
                        <th scope="col" class="n">"Duration"</th><th scope="col" class="n">"Blocked"</th>
                        <th scope="col" class="n">"Written"</th><th scope="col" class="n">"Size"</th>
                        <th scope="col" class="n">"Files"</th><th scope="col" class="n">"Entries"</th>
                    </tr></thead>
                    <tbody data-testid="checkpoints">{rows}</tbody>
                </table>
            </div>
            {empty}
        </div>
    }
    .into_any()
}

/// The newest recoveries.
#[component]
pub fn Recoveries() -> impl IntoView {
    let page = expect_context::<Page>();
    let rows = move || {
        page.recoveries.with(|all| {
            let row = |r: &millrace_wire::telemetry::Recovery| {
                let from = match (r.local_offset, r.checkpoint) {
                    (Some(_), _) => "local disk".to_owned(),
                    (None, Some(id)) => format!("checkpoint {id}"),
                    (None, None) => "changelog only".to_owned(),
                };
                let passed_over = r.passed_over.iter().map(|reason| {
                    view! { <br/><span class="ack bad">"✕ "{reason.clone()}</span> }
                });
                let passed_over = passed_over.collect_view();
                view! {
                    <tr>
                        <td class="n">{format::clock(r.at_ms, page.utc_offset_min)}</td>
                        <td>{r.app.clone()}"/"{r.partition}</td>
                        <td class="n">{format::millis(r.duration_ms)}</td>
                        <td>{from}{passed_over}</td>
                        <td class="n">{format::total(r.changelog_records)}</td>
                        <td class="n">{format::grouped(r.offset)}</td>
                    </tr>
                }
            };
            all.iter().take(ROWS).map(row).collect_view()
        })
    };
    let empty = move || {
        page.recoveries.with(Vec::is_empty).then(|| {
            view! { <p class="empty">"No state had to be put back. Kill a worker to see one: "<code>"millrace worker kill 1"</code></p> }
        })
    };
    view! {
        <div class="card">
            <div class="heading"><h2>"Recoveries"</h2><span class="quiet">"a task's state put back after a restart"</span></div>
            <Phases/>
            <div class="scroll" tabindex="0" role="region" aria-label="Recoveries">
                <table>
                    <thead><tr>
                        <th scope="col" class="n">"Time"</th><th scope="col">"Task"</th>
                        <th scope="col" class="n">"Took"</th><th scope="col">"From"</th>
                        <th scope="col" class="n">"Replayed"</th><th scope="col" class="n">"Goes on at"</th>
                    </tr></thead>
                    <tbody data-testid="recoveries">{rows}</tbody>
                </table>
            </div>
            {empty}
        </div>
    }
    .into_any()
}

/// How long each app was away the last time, phase by phase.
#[component]
fn Phases() -> impl IntoView {
    let page = expect_context::<Page>();
    let workers = Memo::new(move |_| {
        let phases = |w: &WorkerGauge| (w.component.clone(), w.phases.clone());
        page.gauge(|o| o.workers.iter().map(phases).collect::<Vec<_>>()).unwrap_or_default()
    });
    let row = move |worker: &str, app: &str, phases: &RecoveryPhases| {
        let detect = phases.detect_ms.map_or_else(|| format::NOTHING.to_owned(), format::millis);
        view! {
            <tr>
                <td class="n">{format::clock(phases.at_ms, page.utc_offset_min)}</td>
                <td>{format!("{worker} {app}")}</td>
                <td class="n">{detect}</td>
                <td class="n">{format::millis(phases.rejoin_ms)}</td>
                <td class="n">{format::millis(phases.restore_ms)}</td>
                <td class="n">{format::millis(phases.catch_up_ms)}</td>
                <td class="n">{format::millis(phases.total_ms())}</td>
            </tr>
        }
    };
    let rows = move || {
        workers.with(|all| {
            let of = |(worker, apps): &(String, Vec<(String, RecoveryPhases)>)| {
                apps.iter().map(|(app, phases)| row(worker, app, phases)).collect_view()
            };
            all.iter().map(of).collect_view()
        })
    };
    view! {
        <div class="scroll" tabindex="0" role="region" aria-label="Phases of the last recovery">
            <table>
                <thead><tr>
                    <th scope="col" class="n">"Time"</th><th scope="col">"App"</th>
                    <th scope="col" class="n">"Detect"</th><th scope="col" class="n">"Rejoin"</th>
                    <th scope="col" class="n">"Restore"</th><th scope="col" class="n">"Catch up"</th>
                    <th scope="col" class="n">"Away"</th>
                </tr></thead>
                <tbody data-testid="phases">{rows}</tbody>
            </table>
        </div>
    }
    .into_any()
}
