//! What can be changed while everything runs: the generators' rates here, jobs' parameters in [`super::params`].

use std::time::Duration;

use leptos::prelude::*;
use millrace_wire::api::Acknowledgement;
use wasm_bindgen_futures::spawn_local;

use super::params::JobForms;
use super::scenario::Provoke;
use crate::format;
use crate::net::rest::{self, Failure};
use crate::page::Page;
use crate::scale::{MAX_RATE, STEPS, position_of, rate_at};

const DEBOUNCE: Duration = Duration::from_millis(150);
/// How long the chosen rate is shown while the gauges catch up with the acknowledgement.
const SETTLE: Duration = Duration::from_millis(1_500);

/// What became of a change.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Nothing was asked.
    None,
    /// On its way.
    Sent,
    /// Answered.
    Answered(Acknowledgement),
    /// Refused, or the gateway can't be reached.
    Failed(Failure),
}

impl Outcome {
    /// Of a request's answer.
    pub fn of(answer: Result<Acknowledgement, Failure>) -> Self {
        answer.map_or_else(Self::Failed, Self::Answered)
    }

    /// Class in style.css.
    pub fn class(&self) -> &'static str {
        match self {
            Self::None => "ack",
            Self::Sent => "ack wait",
            Self::Answered(ack) if ack.applied => "ack good",
            Self::Answered(_) => "ack warn",
            Self::Failed(_) => "ack bad",
        }
    }

    /// In words.
    pub fn text(&self) -> String {
        match self {
            Self::None => String::new(),
            Self::Sent => "sending …".into(),
            Self::Answered(ack) => {
                let time = ack.acknowledged_ms.map_or_else(|| "?".into(), format::millis);
                match (ack.applied, ack.waiting_for.as_slice()) {
                    (true, []) => format!("● applied in {time}, version {}", ack.version),
                    (true, who) => {
                        format!("● applied in {time}, version {}; {}", ack.version, who.join(", "))
                    }
                    (false, []) => "▲ not applied yet".into(),
                    (false, who) => format!("▲ waiting for {}", who.join(", ")),
                }
            }
            Self::Failed(failure) => format!("✕ {}", failure.text()),
        }
    }

    /// Milliseconds to the acknowledgement, for the browser test.
    pub fn acknowledged_ms(&self) -> String {
        match self {
            Self::Answered(Acknowledgement { applied: true, acknowledged_ms: Some(ms), .. }) => {
                ms.to_string()
            }
            _ => String::new(),
        }
    }
}

/// The section.
#[component]
pub fn Controls() -> impl IntoView {
    let page = expect_context::<Page>();
    let reason = move || {
        (!page.may_operate()).then(|| {
            view! { <p class="note">"You are signed in as a viewer: you can watch. Changing anything takes the role "
                <b>"operator"</b>" or "<b>"admin"</b>"."</p> }
        })
    };
    let streams = Memo::new(move |_| {
        page.gauge(|o| o.streams.iter().map(|s| s.stream.clone()).collect::<Vec<_>>()).unwrap_or_default()
    });
    let rates = move || streams.get().into_iter().map(|stream| view! { <Rate stream/> }).collect_view();
    view! {
        <section class="controls" aria-label="Controls">
            <div class="heading"><h2>"Change it while it runs"</h2>{reason}</div>
            <div class="forms">{rates}</div>
            <JobForms/>
        </section>
    }
    .into_any()
}

/// A generator's rate.
#[component]
fn Rate(stream: String) -> impl IntoView {
    let page = expect_context::<Page>();
    let name = stream.clone();
    let target = Memo::new(move |_| {
        page.gauge(|o| o.streams.iter().find(|s| s.stream == name).map(|s| s.target_rate)).flatten()
    });
    let id = format!("rate-{stream}");
    let name = StoredValue::new(stream.clone());
    // What the user chose, until the gauges say the same.
    let chosen = RwSignal::new(None::<f64>);
    let outcome = RwSignal::new(Outcome::None);
    // Which choice is the newest: answers to older ones don't count.
    let turn = RwSignal::new(0_u32);
    let shown = Memo::new(move |_| chosen.get().or(target.get()));
    let disabled = move || !page.may_operate() || shown.get().is_none();

    let settle = move |mine: u32| {
        set_timeout(
            move || {
                if turn.try_get_untracked() == Some(mine) {
                    let _ = chosen.try_set(None);
                }
            },
            SETTLE,
        );
    };
    let send = move |mine: u32, rate: f64| {
        let Some(stream) = name.try_get_value() else { return };
        spawn_local(async move {
            let answer = rest::set_rate(&stream, rate).await;
            if turn.try_get_untracked() != Some(mine) {
                return;
            }
            if answer.is_err() {
                let _ = chosen.try_set(None);
            }
            let _ = outcome.try_set(Outcome::of(answer));
            settle(mine);
        });
    };
    let choose = move |rate: f64, wait: Duration| {
        let rate = if rate.is_finite() { rate.clamp(0.0, MAX_RATE) } else { return };
        chosen.set(Some(rate));
        turn.update(|n| *n = n.wrapping_add(1));
        let mine = turn.get_untracked();
        set_timeout(
            move || {
                if turn.try_get_untracked() == Some(mine) {
                    let _ = outcome.try_set(Outcome::Sent);
                    send(mine, rate);
                }
            },
            wait,
        );
    };
    let dragged = move |event: leptos::ev::Event| {
        if let Ok(position) = event_target_value(&event).parse() {
            choose(rate_at(position), DEBOUNCE);
        }
    };
    let typed = move |event: leptos::ev::Event| {
        if let Ok(rate) = event_target_value(&event).parse() {
            choose(rate, Duration::ZERO);
        }
    };
    let position = Memo::new(move |_| position_of(shown.get().unwrap_or(0.0)).to_string());
    let number = Memo::new(move |_| shown.get().map_or_else(String::new, |r| r.round().to_string()));
    let presets = [0.0, 100.0, 1_000.0, 5_000.0, 20_000.0].map(|rate| {
        view! {
            <button
                type="button" class="chip" disabled=disabled
                aria-pressed=move || (shown.get() == Some(rate)).to_string()
                on:click=move |_| choose(rate, Duration::ZERO)
            >
                {if rate == 0.0 { "pause".to_owned() } else { format::grouped(rate as i64) }}
            </button>
        }
    });
    view! {
        <div class="card form">
            <h3>"Generator "<code>{stream.clone()}</code></h3>
            <div class="field">
                <label for=id.clone()>"Rate"</label>
                <span class="input">
                    <input
                        id=id.clone() type="number" min="0" max=MAX_RATE.to_string() step="1" inputmode="numeric"
                        data-testid=format!("{id}-number") disabled=disabled prop:value=move || number.get() on:change=typed
                    />
                    <span class="unit">"events/s"</span>
                </span>
            </div>
            <input
                type="range" min="0" max=STEPS.to_string() step="1" data-testid=format!("{id}-slider")
                aria-label=format!("Rate of {stream}, logarithmic") disabled=disabled prop:value=move || position.get() on:input=dragged
                aria-valuetext=move || format!("{} events per second", number.get())
            />
            <div class="scale" aria-hidden="true"><span>"0"</span><span>"50,000"</span></div>
            <div class="chips">{presets.into_iter().collect_view()}</div>
            <p
                class=move || outcome.with(Outcome::class) role="status" data-testid=format!("{id}-ack")
                data-ms=move || outcome.with(Outcome::acknowledged_ms)
            >
                {move || outcome.with(Outcome::text)}
            </p>
            <Provoke stream=stream/>
        </div>
    }
}
