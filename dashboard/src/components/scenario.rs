//! What can be provoked in a generator's stream, and what is provoked now.

use leptos::prelude::*;
use millrace_wire::api::ScenarioStart;
use millrace_wire::scenario::Scenario;
use wasm_bindgen_futures::spawn_local;

use super::controls::Outcome;
use crate::net::rest;
use crate::page::Page;

/// How long what is provoked here lasts, s.
const SECONDS: u32 = 30;

/// A choice of scenarios and a button; nothing for a stream that is measured.
#[component]
pub fn Provoke(
    /// The generator's.
    stream: String,
) -> impl IntoView {
    let page = expect_context::<Page>();
    let fit: Vec<Scenario> = Scenario::ALL.into_iter().filter(|scenario| scenario.fits(&stream)).collect();
    let first = fit.first().copied()?;
    let chosen = RwSignal::new(first);
    let outcome = RwSignal::new(Outcome::None);
    let (id, name) = (format!("scenario-{stream}"), StoredValue::new(stream.clone()));
    let now = Memo::new(move |_| {
        page.gauge(|o| o.streams.iter().find(|s| s.stream == stream).and_then(|s| s.scenario.clone()))
            .flatten()
    });
    let options =
        fit.into_iter().map(|scenario| view! { <option value=scenario.name()>{scenario.name()}</option> });
    let options = options.collect_view();
    let choose = move |event: leptos::ev::Event| {
        let value = event_target_value(&event);
        if let Some(scenario) = Scenario::ALL.into_iter().find(|scenario| scenario.name() == value) {
            chosen.set(scenario);
        }
    };
    let start = move |_| {
        let Some(stream) = name.try_get_value() else { return };
        let start = ScenarioStart { name: chosen.get_untracked(), seconds: SECONDS };
        outcome.set(Outcome::Sent);
        spawn_local(async move {
            let answer = rest::start_scenario(&stream, &start).await;
            let _ = outcome.try_set(Outcome::of(answer));
        });
    };
    let words = move || match now.get() {
        Some(provoked) => {
            let left = ((provoked.ends_ms as f64 - page.now_ms.get()) / 1_000.0).max(0.0).round();
            format!("{}: {left} s left; look for {}", provoked.name.name(), provoked.provokes)
        }
        None => format!("for {SECONDS} s; look for {}", chosen.get().provokes()),
    };
    Some(view! {
        <div class="field">
            <label for=id.clone()>"Provoke"</label>
            <span class="input">
                <select id=id.clone() data-testid=id.clone() on:change=choose>{options}</select>
                <button
                    type="button" class="chip" data-testid=format!("{id}-start")
                    disabled=move || !page.may_operate() on:click=start
                >"start"</button>
            </span>
        </div>
        <p class="note" data-testid=format!("{id}-now")>{words}</p>
        <p class=move || outcome.with(Outcome::class) role="status">{move || outcome.with(Outcome::text)}</p>
    })
}
