//! What comes out: the newest averages and alerts, live, and what is stored.

use leptos::prelude::*;
use millrace_wire::result::Severity;

use super::stored::Stored;
use crate::format;
use crate::page::Page;

const ROWS: usize = 15;

/// The section.
#[component]
pub fn Results() -> impl IntoView {
    view! {
        <section class="pair" aria-label="Results">
            <Averages/>
            <Alerts/>
        </section>
        <Stored/>
    }
    .into_any()
}

fn skipped(count: u64) -> Option<impl IntoView> {
    (count > 0).then(|| {
        view! { <span class="quiet" title="More came than a page can show; all of them are in Kafka and Elasticsearch">
            {format::total(count)}" more not shown"</span> }
    })
}

#[component]
fn Averages() -> impl IntoView {
    let page = expect_context::<Page>();
    let rows = move || {
        page.averages.with(|all| {
            let row = |a: &millrace_wire::result::SensorAverage| {
                let size = a.window_end - a.window_start;
                let window = format!(
                    "{}–{}",
                    format::clock(a.window_start, page.utc_offset_min),
                    format::clock(a.window_end, page.utc_offset_min)
                );
                view! {
                    <tr data-size-ms=size.to_string() data-sensor=a.sensor_id.to_string()>
                        <th scope="row">{a.sensor_id.to_string()}</th>
                        <td>{a.location.to_string()}</td>
                        <td class="n">{window}</td>
                        <td class="n">{format::span(size)}</td>
                        <td class="n"><b>{format!("{:.1} %", a.average)}</b></td>
                        <td class="n">{format!("{:.1}", a.min)}</td>
                        <td class="n">{format!("{:.1}", a.max)}</td>
                        <td class="n">{format::total(a.count)}</td>
                    </tr>
                }
            };
            all.iter().take(ROWS).map(row).collect_view()
        })
    };
    let empty = move || {
        page.averages.with(Vec::is_empty).then(|| {
        view! { <p class="empty">"No window has closed since this page looks. The first comes a window's length after the start."</p> }
    })
    };
    view! {
        <div class="card">
            <div class="heading"><h2>"Newest averages"</h2><span class="space"></span>{move || skipped(page.averages_skipped.get())}</div>
            <div class="scroll" tabindex="0" role="region" aria-label="Newest averages">
                <table>
                    <thead><tr>
                        <th scope="col">"Sensor"</th><th scope="col">"Location"</th>
                        <th scope="col" class="n">"Window"</th><th scope="col" class="n">"Size"</th>
                        <th scope="col" class="n">"Average"</th><th scope="col" class="n">"Min"</th>
                        <th scope="col" class="n">"Max"</th><th scope="col" class="n">"Count"</th>
                    </tr></thead>
                    <tbody data-testid="averages">{rows}</tbody>
                </table>
            </div>
            {empty}
        </div>
    }
    .into_any()
}

/// `HIGH_ACTIVITY` for people.
fn words(kind: &str) -> String {
    kind.replace('_', " ").to_lowercase()
}

#[component]
fn Alerts() -> impl IntoView {
    let page = expect_context::<Page>();
    let rows = move || {
        page.alerts.with(|all| {
            let row = |a: &millrace_wire::live::AlertNote| {
                let (class, said) = match a.severity {
                    Severity::Warning => ("tag warning", "△ warning"),
                    Severity::High => ("tag high", "▲ high"),
                    Severity::Critical => ("tag critical", "◆ critical"),
                };
                view! {
                    <tr>
                        <td class="n">{format::clock(a.timestamp.millis(), page.utc_offset_min)}</td>
                        <td><span class=class>{said}</span></td>
                        <td>{words(&a.r#type)}</td>
                        <th scope="row">{a.key.clone()}</th>
                        <td class="long" title=a.message.clone()>{a.message.clone()}</td>
                    </tr>
                }
            };
            all.iter().take(ROWS).map(row).collect_view()
        })
    };
    let empty = move || {
        page.alerts
            .with(Vec::is_empty)
            .then(|| view! { <p class="empty">"No alert since this page looks."</p> })
    };
    view! {
        <div class="card">
            <div class="heading"><h2>"Newest alerts"</h2><span class="space"></span>{move || skipped(page.alerts_skipped.get())}</div>
            <div class="scroll" tabindex="0" role="region" aria-label="Newest alerts">
                <table>
                    <thead><tr>
                        <th scope="col" class="n">"Time"</th><th scope="col">"Severity"</th><th scope="col">"Kind"</th>
                        <th scope="col">"Whom it concerns"</th><th scope="col">"Message"</th>
                    </tr></thead>
                    <tbody data-testid="alerts">{rows}</tbody>
                </table>
            </div>
            {empty}
        </div>
    }
    .into_any()
}
