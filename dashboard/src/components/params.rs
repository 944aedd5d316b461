//! A form per job, made from the JSON Schema of its parameters.

use std::time::Duration;

use leptos::prelude::*;
use millrace_wire::api::{JobView, ParamsView};
use millrace_wire::live::JobGauge;
use serde_json::{Map, Value};
use wasm_bindgen_futures::spawn_local;

use super::controls::Outcome;
use crate::field::{self, Kind};
use crate::format;
use crate::net::rest;
use crate::page::Page;

/// A form for every job that has parameters, by app.
#[component]
pub fn JobForms() -> impl IntoView {
    let jobs = RwSignal::new(Vec::<JobView>::new());
    let error = RwSignal::new(None::<String>);
    load_jobs(jobs, error);
    let forms = move || {
        let jobs = jobs.get();
        let app = |jobs: &[JobView]| {
            let name = jobs.first().map(|job| job.app.clone()).unwrap_or_default();
            let open = name == "sensors";
            let count = if let [_] = jobs { "1 job".to_owned() } else { format!("{} jobs", jobs.len()) };
            let forms = jobs.iter().map(|job| view! { <JobForm job=job.clone()/> }).collect_view();
            view! {
                <details class="app" open=open data-app=name>
                    <summary><h3>"App "<code>{name.clone()}</code></h3><span class="quiet">{count}</span></summary>
                    <div class="forms">{forms}</div>
                </details>
            }
        };
        jobs.chunk_by(|a, b| a.app == b.app).map(app).collect_view()
    };
    let missing = move || {
        error.get().map(|text| {
            view! { <div class="card form"><h3>"Jobs"</h3><p class="ack warn" role="status">"▲ "{text}" Asking again …"</p></div> }
        })
    };
    view! { {missing}{forms} }
}

/// Asks until there is an answer: workers may be starting.
fn load_jobs(jobs: RwSignal<Vec<JobView>>, error: RwSignal<Option<String>>) {
    spawn_local(async move {
        let answer = rest::jobs().await;
        let again = match answer {
            Ok(list) => {
                let again = list.is_empty();
                let _ = error.try_set(again.then(|| "No worker has said yet which jobs it runs.".into()));
                let _ = jobs.try_set(list);
                again
            }
            Err(failure) if failure.signed_out() => false,
            Err(failure) => {
                let _ = error.try_set(Some(failure.text()));
                true
            }
        };
        // A disposed signal means that the form is gone.
        if again && jobs.try_get_untracked().is_some() {
            set_timeout(move || load_jobs(jobs, error), Duration::from_secs(3));
        }
    });
}

type Edits = RwSignal<Map<String, Value>>;

/// How far event time is, and what holds it.
fn progress(job: &JobGauge) -> String {
    let held = job.watermark_partition.map(|partition| format!(", held by partition {partition}"));
    let behind = job.watermark_lag_ms.map_or_else(
        || "No watermark yet".to_owned(),
        |lag| {
            format!("Watermark {} behind the clock{}", format::millis(lag as f64), held.unwrap_or_default())
        },
    );
    format!(
        "{behind}; {} records pending, {} late",
        format::total(job.pending),
        format::total(job.late_total)
    )
}

#[component]
fn JobForm(job: JobView) -> impl IntoView {
    let page = expect_context::<Page>();
    let id = StoredValue::new(job.id.clone());
    let params = RwSignal::new(None::<Result<ParamsView, String>>);
    let edits: Edits = RwSignal::default();
    let outcome = RwSignal::new(Outcome::None);
    let retry = RwSignal::new(0_u32);
    let load = move || {
        let Some(id) = id.try_get_value() else { return };
        spawn_local(async move {
            let answer = rest::params(&id).await.map_err(|failure| failure.text());
            let failed = answer.is_err();
            let _ = params.try_set(Some(answer));
            if failed {
                set_timeout(
                    move || {
                        let _ = retry.try_update(|n| *n = n.wrapping_add(1));
                    },
                    Duration::from_secs(3),
                );
            }
        });
    };
    // At first, and whenever somebody (perhaps elsewhere) has changed them.
    let (app, name) = (job.app.clone(), job.job.clone());
    let version = Memo::new(move |_| {
        page.gauge(|o| o.jobs.iter().find(|j| j.app == app && j.job == name).map(|j| j.params_version))
            .flatten()
    });
    let (app, name) = (job.app.clone(), job.job.clone());
    let now = Memo::new(move |_| {
        let is_it = |gauge: &&JobGauge| gauge.app == app && gauge.job == name;
        page.gauge(|o| o.jobs.iter().find(is_it).map(progress)).flatten().unwrap_or_default()
    });
    Effect::new(move || {
        version.track();
        retry.track();
        load();
    });
    let apply = move || {
        let Some(id) = id.try_get_value() else { return };
        let mut changes = edits.get_untracked();
        if changes.is_empty() {
            changes = params.with_untracked(|p| match p {
                Some(Ok(view)) => view.params.clone(),
                _ => Map::new(),
            });
        }
        outcome.set(Outcome::Sent);
        spawn_local(async move {
            let answer = rest::set_params(&id, changes).await;
            if answer.is_ok() {
                let _ = edits.try_set(Map::new());
            }
            let _ = outcome.try_set(Outcome::of(answer));
            load();
        });
    };
    // Inputs are made once per schema; their values follow the answer.
    let schema = Memo::new(move |_| {
        params.with(|p| match p {
            Some(Ok(view)) => view.schema.get("properties").cloned().unwrap_or_default(),
            _ => Value::Null,
        })
    });
    let fields = move || {
        let Value::Object(properties) = schema.get() else { return ().into_any() };
        let field = |(name, property): (String, Value)| {
            let field = Field { job: id.get_value(), name, property, params, edits };
            field.view(page, apply)
        };
        properties.into_iter().map(field).collect_view().into_any()
    };
    let trouble = move || match params.get() {
        None => Some(view! { <p class="ack wait">"asking …"</p> }.into_any()),
        Some(Err(text)) => Some(view! { <p class="ack bad" role="alert">"✕ "{text}</p> }.into_any()),
        Some(Ok(_)) => None,
    };
    let submit = move |event: leptos::ev::SubmitEvent| {
        event.prevent_default();
        apply();
    };
    view! {
        <form class="card form" on:submit=submit novalidate>
            <h3>"Job "<code>{job.job.clone()}</code></h3>
            <p class="quiet">{job.description.clone()}</p>
            <p class="quiet" data-testid=format!("progress-{}", job.id)>{move || now.get()}</p>
            {fields}
            {trouble}
            <div class="actions">
                <button
                    type="submit" class="primary" data-testid=format!("params-apply-{}", job.id)
                    disabled=move || !page.may_operate() || params.with(|p| !matches!(p, Some(Ok(_))))
                >"Apply"</button>
                <span class="quiet">
                    {move || if edits.with(Map::is_empty) { "" } else { "changed, not applied yet" }}
                </span>
            </div>
            <p
                class=move || outcome.with(Outcome::class) role="status"
                data-testid=format!("params-ack-{}", job.id)
                data-ms=move || outcome.with(Outcome::acknowledged_ms)
            >
                {move || outcome.with(Outcome::text)}
            </p>
        </form>
    }
    .into_any()
}

/// One parameter.
struct Field {
    job: String,
    name: String,
    property: Value,
    params: RwSignal<Option<Result<ParamsView, String>>>,
    edits: Edits,
}

impl Field {
    fn text(&self, key: &str) -> Option<String> {
        match self.property.get(key)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => number.as_f64().map(|float| float.to_string()),
            other => Some(other.to_string()),
        }
    }

    fn view(self, page: Page, apply: impl Fn() + Copy + Send + Sync + 'static) -> AnyView {
        let Self { params, edits, .. } = self;
        let name = StoredValue::new(self.name.clone());
        let fallback = self.property.get("default").cloned();
        let value = Memo::new(move |_| {
            let name = name.get_value();
            let edited = edits.with(|e| e.get(&name).cloned());
            let in_force = || params.with(|p| p.as_ref()?.as_ref().ok()?.params.get(&name).cloned());
            edited.or_else(in_force).or_else(|| fallback.clone())
        });
        let shown = Memo::new(move |_| match value.get() {
            Some(Value::String(text)) => text,
            // `60.0` is shown as `60`, and stays untouched while somebody types `60.05`.
            Some(Value::Number(number)) => {
                number.as_f64().map_or_else(|| number.to_string(), |float| float.to_string())
            }
            Some(Value::Array(items)) => format::list(&items),
            Some(other @ Value::Bool(_)) => other.to_string(),
            Some(other) => field::json(&other),
            None => String::new(),
        });
        let edit = move |value: Value| edits.update(|e| drop(e.insert(name.get_value(), value)));
        let wrong = RwSignal::new(None::<String>);
        let input_id = format!("param-{}-{}", self.job, self.name);
        let disabled = move || !page.may_operate();
        let input = match Kind::of(&self.property) {
            Kind::Choice(options) => {
                let options = options.into_iter().map(|text| {
                    let same = text.clone();
                    let label = text.clone();
                    view! { <option value=text prop:selected=move || shown.get() == same>{label}</option> }
                });
                let options = options.collect_view();
                view! {
                    <select id=input_id.clone() data-testid=input_id.clone() disabled=disabled
                        on:change=move |e| edit(event_target_value(&e).into())>{options}</select>
                }
                .into_any()
            }
            Kind::Check => view! {
                <input id=input_id.clone() data-testid=input_id.clone() type="checkbox" disabled=disabled
                    prop:checked=move || value.get() == Some(Value::Bool(true))
                    on:change=move |e| edit(event_target_checked(&e).into())/>
            }
            .into_any(),
            Kind::Number { whole } => {
                let typed = move |event: leptos::ev::Event| {
                    let text = event_target_value(&event);
                    match (text.parse::<i64>(), text.parse::<f64>()) {
                        (Ok(number), _) => edit(number.into()),
                        (_, Ok(number)) => edit(number.into()),
                        // Half-typed: the gateway's answer stands until it is a number.
                        _ => (),
                    }
                };
                view! {
                    <input id=input_id.clone() data-testid=input_id.clone() type="number" disabled=disabled
                        min=self.text("minimum") max=self.text("maximum") step=if whole { "1" } else { "any" }
                        prop:value=move || shown.get() on:input=typed/>
                }
                .into_any()
            }
            Kind::List => view! {
                <input id=input_id.clone() data-testid=input_id.clone() type="text" disabled=disabled
                    placeholder="names, with commas between them"
                    prop:value=move || shown.get() on:change=move |e| edit(format::listed(&event_target_value(&e)))/>
            }
            .into_any(),
            Kind::Json => {
                let typed = move |event| match field::typed_json(&event_target_value(&event)) {
                    Ok(value) => {
                        wrong.set(None);
                        edit(value);
                    }
                    Err(text) => wrong.set(Some(text)),
                };
                view! {
                    <textarea id=input_id.clone() data-testid=input_id.clone() rows="4" spellcheck="false"
                        placeholder="JSON, or nothing" disabled=disabled prop:value=move || shown.get() on:change=typed/>
                }
                .into_any()
            }
            Kind::Text => view! {
                <input id=input_id.clone() data-testid=input_id.clone() type="text" disabled=disabled
                    prop:value=move || shown.get() on:input=move |e| edit(event_target_value(&e).into())/>
            }
            .into_any(),
        };
        let unit = self.text("x-unit").unwrap_or_default();
        let to_ms = match unit.as_str() {
            "ms" => Some(1),
            "s" => Some(1_000),
            _ => None,
        };
        // 86400 s is hard to read: what that is in words, when it is not the same.
        let meaning = to_ms.map(|factor| {
            let unit = unit.clone();
            let text = move || {
                let number = value.get().and_then(|v| v.as_i64())?;
                let words = format::span(number.saturating_mul(factor));
                (words != format!("{number} {unit}")).then(|| format!("= {words}"))
            };
            view! { <span class="quiet">{text}</span> }
        });
        let quick = to_ms.filter(|_| self.name.starts_with("window_size")).map(|factor| {
            let choices = [10_000, 30_000, 60_000, 300_000].map(|millis: i64| {
                let number = millis / factor;
                let choose = move |_| {
                    edit(number.into());
                    apply();
                };
                view! {
                    <button type="button" class="chip" disabled=disabled on:click=choose data-size-ms=millis.to_string()
                        aria-pressed=move || (value.get().and_then(|v| v.as_i64()) == Some(number)).to_string()>
                        {format::span(millis)}
                    </button>
                }
            });
            view! { <div class="chips" role="group" aria-label="Window size, applied at once">{choices.into_iter().collect_view()}</div> }
        });
        let speak = |text: String| match (to_ms, text.parse::<i64>()) {
            (Some(factor), Ok(number)) => format::span(number.saturating_mul(factor)),
            _ if text == "[]" || text == "null" => "none".to_owned(),
            _ => text,
        };
        let limits = match (self.text("minimum"), self.text("maximum"), self.text("default")) {
            (Some(low), Some(high), Some(default)) => {
                format!(" {} to {}; default {}.", speak(low), speak(high), speak(default))
            }
            (_, _, Some(default)) => format!(" Default {}.", speak(default)),
            _ => String::new(),
        };
        view! {
            <div class="field">
                <label for=input_id>{self.text("title").unwrap_or_else(|| self.name.clone())}</label>
                <span class="input">{input}<span class="unit">{unit}</span>{meaning}</span>
            </div>
            {quick}
            {move || wrong.get().map(|text| view! { <p class="ack bad" role="alert">"✕ "{text}" It is not applied."</p> })}
            <p class="quiet help">{self.text("description")}{limits}</p>
        }
        .into_any()
    }
}
