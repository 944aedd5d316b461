//! How the platform itself does: checkpoints and recoveries, processes, workers and consumer groups.

use leptos::prelude::*;
use millrace_wire::live::{ComponentGauge, GroupGauge, WorkerGauge};
use millrace_wire::telemetry::{ComponentState, WorkerState};

use super::checkpoints::{Checkpoints, Recoveries};
use crate::format;
use crate::page::Page;
use crate::store::STALE_MS;

/// The section.
#[component]
pub fn System() -> impl IntoView {
    view! {
        <section class="pair" aria-label="Checkpoints and processes">
            <Checkpoints/>
            <Components/>
        </section>
        <section class="pair three" aria-label="Workers, groups and recoveries">
            <Workers/>
            <Groups/>
            <Recoveries/>
        </section>
    }
    .into_any()
}

fn old(age_ms: i64) -> bool {
    age_ms as f64 > STALE_MS
}

#[component]
fn Components() -> impl IntoView {
    let page = expect_context::<Page>();
    let gauges = Memo::new(move |_| page.gauge(|o| o.components.clone()).unwrap_or_default());
    let row = |g: &ComponentGauge| {
        let (class, said) = match g.component.state {
            ComponentState::Starting => ("state wait", "◌ starting"),
            ComponentState::Running => ("state good", "● running"),
            ComponentState::Restarting => ("state warn", "▲ restarting"),
            ComponentState::Stopped => ("state wait", "◌ stopped"),
            ComponentState::Failed => ("state bad", "✕ failed"),
        };
        let process = g.component.process;
        let pid = if process.pid == 0 { format::NOTHING.into() } else { process.pid.to_string() };
        view! {
            <tr class:old=old(g.age_ms) data-component=g.component.name.clone()>
                <th scope="row">{g.component.name.clone()}</th>
                <td class="wrap"><span class=class>{said}</span>{g.component.detail.clone().map(|d| view! { <span class="quiet">" "{d}</span> })}</td>
                <td class="n">{pid}</td>
                <td class="n">{format!("{:.0} %", g.cpu * 100.0)}</td>
                <td class="n">{format::bytes(process.resident_bytes)}</td>
                <td class="n">{g.component.restarts}</td>
                <td class="n">{format::age(g.age_ms as f64)}</td>
            </tr>
        }
    };
    let sum = move || {
        gauges.with(|all| {
            let cpu: f64 = all.iter().map(|g| g.cpu).sum();
            let memory = all.iter().map(|g| g.component.process.resident_bytes).sum();
            (!all.is_empty()).then(|| format!("{:.0} % of a core, {}", cpu * 100.0, format::bytes(memory)))
        })
    };
    let empty = move || {
        gauges.with(Vec::is_empty).then(|| {
            view! { <p class="empty">"Nobody is reporting, so nothing is known about processes."</p> }
        })
    };
    view! {
        <div class="card">
            <div class="heading"><h2>"Processes"</h2><span class="quiet">{sum}</span></div>
            <div class="scroll" tabindex="0" role="region" aria-label="Processes">
                <table>
                    <thead><tr>
                        <th scope="col">"Component"</th><th scope="col">"State"</th><th scope="col" class="n">"PID"</th>
                        <th scope="col" class="n">"CPU"</th><th scope="col" class="n">"Memory"</th>
                        <th scope="col" class="n">"Restarts"</th><th scope="col" class="n">"Age"</th>
                    </tr></thead>
                    <tbody data-testid="components">{move || gauges.with(|all| all.iter().map(row).collect_view())}</tbody>
                </table>
            </div>
            {empty}
        </div>
    }
    .into_any()
}

#[component]
fn Workers() -> impl IntoView {
    let page = expect_context::<Page>();
    let gauges = Memo::new(move |_| page.gauge(|o| o.workers.clone()).unwrap_or_default());
    let row = |w: &WorkerGauge| {
        let (class, symbol) = match w.state {
            WorkerState::Running => ("state good", "●"),
            WorkerState::Failed { .. } => ("state bad", "✕"),
            WorkerState::Starting => ("state wait", "◌"),
            WorkerState::Restoring { .. } | WorkerState::Retrying { .. } => ("state warn", "▲"),
        };
        let partitions: Vec<_> = w.partitions.iter().map(i32::to_string).collect();
        let traffic =
            |records, bytes: f64| format!("{}/s, {}/s", format::rate(records), format::bytes(bytes as u64));
        let transaction = w.transaction.map_or_else(
            || format::NOTHING.to_owned(),
            |open| {
                format!(
                    "{}{}",
                    format::millis(open.age_ms),
                    if open.committing { " (committing)" } else { "" }
                )
            },
        );
        view! {
            <tr class:old=old(w.age_ms)>
                <th scope="row">{w.component.clone()}</th>
                <td class="wrap"><span class=class>{symbol}" "{format::worker_state(&w.state)}</span></td>
                <td>{format::time_use(&w.time)}</td>
                <td class="n">{partitions.join(" ")}</td>
                <td class="n">{traffic(w.records_per_s, w.bytes_in_per_s)}</td>
                <td class="n">{traffic(w.records_out_per_s, w.bytes_out_per_s)}</td>
                <td class="n">{format::millis(w.commit_ms)}</td>
                <td class="n">{transaction}</td>
                <td class="n">{format::total(w.restarts)}</td>
                <td class="n">{format::age(w.age_ms as f64)}</td>
            </tr>
        }
    };
    view! {
        <div class="card">
            <div class="heading"><h2>"Workers"</h2></div>
            <div class="scroll" tabindex="0" role="region" aria-label="Workers">
                <table>
                    <thead><tr>
                        <th scope="col">"Worker"</th><th scope="col">"State"</th><th scope="col">"Time"</th>
                        <th scope="col" class="n">"Partitions"</th><th scope="col" class="n">"In"</th>
                        <th scope="col" class="n">"Out"</th><th scope="col" class="n">"Commit"</th>
                        <th scope="col" class="n">"Transaction"</th><th scope="col" class="n">"Restarts"</th>
                        <th scope="col" class="n">"Age"</th>
                    </tr></thead>
                    <tbody data-testid="workers">{move || gauges.with(|all| all.iter().map(row).collect_view())}</tbody>
                </table>
            </div>
        </div>
    }
    .into_any()
}

#[component]
fn Groups() -> impl IntoView {
    let page = expect_context::<Page>();
    let gauges = Memo::new(move |_| page.gauge(|o| o.groups.clone()).unwrap_or_default());
    let row = |g: &GroupGauge| {
        let seconds = g
            .lag_seconds
            .map_or_else(|| format::NOTHING.to_owned(), |s| format!("{} s", format::decimals(s, 1)));
        view! {
            <tr class:old=old(g.age_ms) data-group=g.group.clone()>
                <th scope="row">{g.group.clone()}</th>
                <td class="n">{format::grouped(g.lag_records)}</td>
                <td class="n">{seconds}</td>
                <td>{format::trend(g.lag_records, g.trend_per_s)}</td>
                <td class="n">{format::age(g.age_ms as f64)}</td>
            </tr>
        }
    };
    view! {
        <div class="card">
            <div class="heading"><h2>"Consumer groups"</h2></div>
            <div class="scroll" tabindex="0" role="region" aria-label="Consumer groups">
                <table>
                    <thead><tr>
                        <th scope="col">"Group"</th><th scope="col" class="n">"Lag"</th><th scope="col" class="n">"Oldest"</th>
                        <th scope="col">"Trend"</th><th scope="col" class="n">"Age"</th>
                    </tr></thead>
                    <tbody data-testid="groups">{move || gauges.with(|all| all.iter().map(row).collect_view())}</tbody>
                </table>
            </div>
        </div>
    }
    .into_any()
}
