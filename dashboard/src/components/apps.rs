//! How each app did in the last minute.

use leptos::prelude::*;
use millrace_wire::live::AppGauge;

use crate::format;
use crate::page::Page;

/// The section.
#[component]
pub fn Apps() -> impl IntoView {
    let page = expect_context::<Page>();
    let apps = Memo::new(move |_| page.gauge(|o| o.apps.clone()).unwrap_or_default());
    let row = |app: AppGauge| {
        let share = |share: Option<f64>| share.map_or_else(|| format::NOTHING.to_owned(), format::share);
        view! {
            <tr>
                <th scope="row">{app.app}</th>
                <td class="n">{format::rate(app.records_per_min)}</td>
                <td class="n">{format::rate(app.alerts_per_min)}</td>
                <td class="n">{share(app.completeness)}</td>
                <td class="n">{share(app.late_share)}</td>
                <td class="n">{share(app.dead_share)}</td>
                <td class="n">{format::rate(app.errors_per_min)}</td>
            </tr>
        }
    };
    let rows = move || apps.get().into_iter().map(row).collect_view();
    let empty = move || {
        apps.with(Vec::is_empty)
            .then(|| view! { <p class="empty">"No worker has said yet which jobs it runs."</p> })
    };
    view! {
        <section aria-label="Apps">
            <div class="card">
                <div class="heading"><h2>"Apps"</h2><span class="quiet">"the last minute"</span></div>
                <p class="quiet">"Windows complete: the share of their records that came before their first result."</p>
                <div class="scroll" tabindex="0" role="region" aria-label="Apps">
                    <table>
                        <thead><tr>
                            <th scope="col">"App"</th><th scope="col" class="n">"Records"</th>
                            <th scope="col" class="n">"Alerts"</th><th scope="col" class="n">"Windows complete"</th>
                            <th scope="col" class="n">"Late"</th><th scope="col" class="n">"Dead letters"</th>
                            <th scope="col" class="n">"Errors"</th>
                        </tr></thead>
                        <tbody data-testid="apps">{rows}</tbody>
                    </table>
                </div>
                {empty}
            </div>
        </section>
    }
    .into_any()
}
