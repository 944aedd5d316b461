//! What Elasticsearch holds, on request.

use leptos::prelude::*;
use millrace_wire::api::ResultsPage;
use millrace_wire::result::SensorAverage;
use millrace_wire::topic::SENSOR_AVERAGES;
use wasm_bindgen_futures::spawn_local;

use crate::format;
use crate::net::rest::{self, Failure};
use crate::page::Page;

/// The newest stored averages and how many there are.
#[component]
pub fn Stored() -> impl IntoView {
    let page = expect_context::<Page>();
    let answer = RwSignal::new(None::<Result<ResultsPage, Failure>>);
    let asked_ms = RwSignal::new(0.0);
    let busy = RwSignal::new(false);
    let load = move || {
        busy.set(true);
        spawn_local(async move {
            let result = rest::results(SENSOR_AVERAGES, 10).await;
            let _ = asked_ms.try_set(js_sys::Date::now());
            let _ = answer.try_set(Some(result));
            let _ = busy.try_set(false);
        });
    };
    load();
    let head = move || {
        match answer.get() {
        None => view! { <span class="quiet">"asking …"</span> }.into_any(),
        Some(Ok(found)) => {
            let age = format::age(page.now_ms.get() - asked_ms.get());
            view! {
                <span data-testid="stored-total" data-value=found.total.to_string()>
                    <b>{format::total(found.total)}</b>" documents"
                </span>
                <span class="quiet">"asked "{age}" ago"</span>
            }
            .into_any()
        }
        Some(Err(failure)) => {
            view! { <span class="ack bad" role="alert" data-testid="stored-error">"✕ "{failure.text()}</span> }.into_any()
        }
    }
    };
    let rows = Memo::new(move |_| {
        answer.with(|a| match a {
            Some(Ok(found)) => {
                let read =
                    |item: &serde_json::Value| serde_json::from_value::<SensorAverage>(item.clone()).ok();
                found.items.iter().filter_map(read).collect::<Vec<_>>()
            }
            _ => vec![],
        })
    });
    let list = move || {
        let rows = rows.get().into_iter().map(|a| {
            view! {
                <li>
                    <b>{a.sensor_id.to_string()}</b>" "{a.location.to_string()}
                    <span class="n">{format!("{:.1} %", a.average)}</span>
                    <span class="quiet n">
                        {format::clock(a.window_end, page.utc_offset_min)}" · "{format::span(a.window_end - a.window_start)}
                    </span>
                </li>
            }
        });
        rows.collect_view()
    };
    view! {
        <section class="card stored" aria-label="Stored results">
            <div class="heading">
                <h2>"Stored in Elasticsearch"</h2>
                {head}
                <span class="space"></span>
                <button type="button" data-testid="stored-refresh" disabled=busy on:click=move |_| load()>"Refresh"</button>
            </div>
            <ul class="stored-list">{list}</ul>
        </section>
    }
    .into_any()
}
