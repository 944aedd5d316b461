//! The ledger: what has become of every record, and whether that adds up.

use leptos::prelude::*;
use millrace_wire::live::{LedgerGauge, LedgerJob};

use crate::format;
use crate::page::Page;

/// The section.
#[component]
pub fn Ledger() -> impl IntoView {
    let page = expect_context::<Page>();
    let gauge = Memo::new(move |_| page.gauge(|o| o.ledger.clone()).flatten());
    let row = |job: &LedgerJob| {
        let count = &job.count;
        let (class, said) = if count.balances() {
            ("state good", "● adds up")
        } else {
            ("state bad", "✕ does not add up")
        };
        view! {
            <tr data-job=count.job.clone()>
                <th scope="row">{job.app.clone()}"/"{count.job.clone()}</th>
                <td class="n">{format::total(count.records)}</td>
                <td class="n">{format::total(count.filtered)}</td>
                <td class="n">{format::total(count.late)}</td>
                <td class="n">{format::total(count.dead)}</td>
                <td class="n">{format::total(count.pending)}</td>
                <td class="n">{format::total(count.done)}</td>
                <td class="n">{format::total(count.emitted)}</td>
                <td><span class=class>{said}</span></td>
            </tr>
        }
    };
    let verdict = move || {
        gauge.with(|gauge| {
            gauge.as_ref().map(|LedgerGauge { findings, records, dead, .. }| {
                let (class, said) =
                    if findings.is_empty() { ("state good", "● balanced") } else { ("state bad", "✕ not balanced") };
                let sums = format!(
                    " {} records read, {} of them malformed",
                    format::total(*records),
                    format::total(*dead)
                );
                view! { <span class=class data-testid="ledger-verdict">{said}</span><span class="quiet">{sums}</span> }
            })
        })
    };
    let findings = move || {
        gauge.with(|gauge| {
            let findings = gauge.as_ref().map(|gauge| gauge.findings.clone()).unwrap_or_default();
            findings.into_iter().map(|text| view! { <p class="ack bad">"✕ "{text}</p> }).collect_view()
        })
    };
    let rows =
        move || gauge.with(|gauge| gauge.as_ref().map(|gauge| gauge.jobs.iter().map(row).collect_view()));
    let empty = move || {
        gauge.with(Option::is_none).then(|| view! { <p class="empty">"No commit has been counted yet."</p> })
    };
    view! {
        <section aria-label="Ledger">
            <div class="card">
                <div class="heading"><h2>"Ledger"</h2>{verdict}</div>
                <p class="quiet">"Every record since the first start is in exactly one place: seen = filtered + late + dead + pending + done. \
                    Written in the transaction that commits it, compared with Kafka's own offsets."</p>
                {findings}
                <div class="scroll" tabindex="0" role="region" aria-label="Ledger">
                    <table>
                        <thead><tr>
                            <th scope="col">"Job"</th><th scope="col" class="n">"Seen"</th>
                            <th scope="col" class="n">"Filtered"</th><th scope="col" class="n">"Late"</th>
                            <th scope="col" class="n">"Dead"</th>
                            <th scope="col" class="n">"Pending"</th><th scope="col" class="n">"Done"</th>
                            <th scope="col" class="n">"Results"</th><th scope="col"><span class="hidden">"Balance"</span></th>
                        </tr></thead>
                        <tbody data-testid="ledger">{rows}</tbody>
                    </table>
                </div>
                {empty}
            </div>
        </section>
    }
    .into_any()
}
