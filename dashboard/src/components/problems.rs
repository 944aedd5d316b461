//! What is not well, in words.

use leptos::prelude::*;

use crate::format;
use crate::page::Page;

/// The banner; read aloud when it changes.
#[component]
pub fn Problems() -> impl IntoView {
    let page = expect_context::<Page>();
    let problems = Memo::new(move |_| page.gauge(|o| o.problems.clone()));
    let stale = Memo::new(move |_| page.stale());
    let list = move || {
        let stale = stale.get().then(|| {
            view! { <p class="problem"><i aria-hidden="true">"▲"</i><span><b>"This page"</b>
            " gets no data at the moment: what you see below is how things were."</span></p> }
        });
        let rows = match problems.get() {
            None => view! { <p class="fine">"Waiting for the first message …"</p> }.into_any(),
            Some(rows) if rows.is_empty() => match stale {
                None => view! { <p class="fine"><i aria-hidden="true">"●"</i>"All is well"</p> }.into_any(),
                Some(_) => ().into_any(),
            },
            Some(rows) => rows
                .into_iter()
                .map(|row| {
                    let since = format::clock(row.since_ms, page.utc_offset_min);
                    // Most texts name what they are about.
                    let named = row.text.to_lowercase().contains(&row.about.to_lowercase());
                    let about = (!named).then(|| view! { <b>{row.about.clone()}": "</b> });
                    view! {
                        <p class="problem" data-about=row.about.clone()>
                            <i aria-hidden="true">"▲"</i>
                            <span>{about}{row.text}<span class="quiet">" since "{since}</span></span>
                        </p>
                    }
                })
                .collect_view()
                .into_any(),
        };
        view! { {stale}{rows} }
    };
    view! { <section class="problems" aria-label="Problems" aria-live="polite" data-testid="problems">{list}</section> }
        .into_any()
}
