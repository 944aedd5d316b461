use leptos::prelude::*;
use millrace_wire::live::JobGauge;
use millrace_wire::telemetry::StateBackend;

use super::layout::{frame, line, size, wrapped};
use super::model::{self, Edge, Health, Node, Status};
use crate::format;
use crate::page::Page;

/// Narrower than this, the nodes are stacked.
const NARROW: &str = "(max-width: 860px)";

fn is_narrow() -> bool {
    window().match_media(NARROW).ok().flatten().is_some_and(|query| query.matches())
}

/// The drawing.
#[component]
pub fn Pipeline() -> impl IntoView {
    let page = expect_context::<Page>();
    let narrow = RwSignal::new(is_narrow());
    let listener = window_event_listener(leptos::ev::resize, move |_| {
        let now = is_narrow();
        if narrow.try_get_untracked().is_some_and(|was| was != now) {
            let _ = narrow.try_set(now);
        }
    });
    on_cleanup(move || listener.remove());
    let edges = Memo::new(move |_| page.overview.with(|o| model::edges(o.as_ref())));
    let drawing = move || {
        let narrow = narrow.get();
        let (width, height) = size(narrow);
        let lines = (0..6).map(|index| arrow(edges, index, narrow)).collect_view();
        let nodes = Node::ALL.map(|node| box_of(page, node, narrow)).into_iter().collect_view();
        view! {
            <svg viewBox=format!("0 0 {width} {height}") role="group" aria-label="Pipeline, from generators to this page">
                <defs>
                    <marker id="tip" viewBox="0 0 8 8" refX="1" refY="4" markerWidth="8" markerHeight="8"
                        markerUnits="userSpaceOnUse" orient="auto">
                        <path class="tip" d="M0 0L8 4L0 8z"></path>
                    </marker>
                </defs>
                {lines}
                {nodes}
            </svg>
        }
    };
    view! { <section class="card pipeline" aria-label="Pipeline">{drawing}</section> }.into_any()
}

fn arrow(edges: Memo<Vec<Edge>>, index: usize, narrow: bool) -> impl IntoView {
    let first = edges.with_untracked(|all| all.get(index).map(|e| (e.from, e.to)))?;
    let place = line(first.0, first.1, narrow);
    // No room for a label between the small boxes.
    let tight = narrow && matches!(first, (Node::Indexer, Node::Elasticsearch));
    let (rate_at, lag_at) = (place.rate_at, place.lag_at);
    let dash = Memo::new(move |_| edges.with(|all| all.get(index).and_then(|e| model::dash_seconds(e.rate))));
    let rate = move || {
        edges.with(|all| {
            let edge = all.get(index)?;
            match (edge.label, edge.rate) {
                (Some(label), _) => Some(label.to_owned()),
                (None, rate) => {
                    Some(rate.map_or(format::NOTHING.into(), |r| format!("{}/s", format::compact(r))))
                }
            }
        })
    };
    let lag = move || edges.with(|all| all.get(index).and_then(|e| e.lag.clone()));
    let lag_anchor = if place.anchor == "start" { "end" } else { "middle" };
    Some(view! {
        <g class="edge">
            <path d=place.path.clone() marker-end="url(#tip)"></path>
            <path
                class="dash"
                class:still=move || dash.get().is_none()
                d=place.path
                style:animation-duration=move || dash.get().map_or_else(|| "0s".into(), |s| format!("{s}s"))
            ></path>
            {(!tight).then(|| view! {
                <text class="rate" x=rate_at.0 y=rate_at.1 text-anchor=place.anchor>{rate}</text>
                <text class="lag" x=lag_at.0 y=lag_at.1 text-anchor=lag_anchor>{lag}</text>
            })}
        </g>
    })
}

fn box_of(page: Page, node: Node, narrow: bool) -> impl IntoView {
    let place = frame(node, narrow);
    let state = Memo::new(move |_| {
        let unknown =
            || Status { health: Health::Unknown, figure: format::NOTHING.into(), words: "waiting".into() };
        page.gauge(|o| model::node(node, o)).unwrap_or_else(unknown)
    });
    let small = place.w < 120.0;
    let (x, y) = (place.x + if small { 9.0 } else { 13.0 }, place.y);
    // A small box has room for short lines only, one below the other.
    let room = if small { 13 } else { usize::MAX };
    let words = move || {
        let lines = wrapped(&state.get().words, room).into_iter().enumerate().map(|(index, line)| {
            let below = (index > 0).then_some((x + 14.0, "1.25em"));
            view! { <tspan x=below.map(|b| b.0) dy=below.map(|b| b.1)>{line}</tspan> }
        });
        lines.collect_view()
    };
    let apps = (node == Node::Processor).then(|| apps(page, place, narrow));
    // On the wide rows of the narrow drawing the figure stands at the right.
    let beside = narrow && !small;
    let (figure_x, figure_y, anchor) =
        if beside { (place.x + place.w - 13.0, y + 44.0, "end") } else { (x, y + 50.0, "start") };
    let words_y = if beside { y + 54.0 } else { y + 74.0 };
    view! {
        <g
            class=move || format!("node {}", state.get().health.class())
            role="img"
            aria-label=move || { let s = state.get(); format!("{}: {}, {}", node.title(), s.figure, s.words) }
        >
            <rect x=place.x y=place.y width=place.w height=place.h rx="9"></rect>
            <text class="title" x=x y=y + 26.0>{node.title()}</text>
            <text class="figure" class:small=small x=figure_x y=figure_y text-anchor=anchor>{move || state.get().figure}</text>
            <text class="words" class:small=small x=x y=words_y>
                <tspan class="symbol">{move || state.get().health.symbol()}</tspan>
                " "
                {words}
            </text>
            {apps}
        </g>
    }
}

/// The box has room for so many.
const APPS: usize = 4;

/// The apps inside of the processor's box.
fn apps(page: Page, place: super::layout::Frame, narrow: bool) -> impl IntoView {
    let rows = Memo::new(move |_| {
        page.gauge(|o| {
            let row = |jobs: &[JobGauge]| {
                let app = jobs.first().map_or_else(String::new, |job| match job.backend {
                    StateBackend::Memory => job.app.clone(),
                    StateBackend::Disk => format!("{} · on disk", job.app),
                });
                let emitted: f64 = jobs.iter().map(|j| j.emitted_per_s).sum();
                (app, emitted, jobs.iter().map(|j| j.violations).sum::<u64>())
            };
            o.jobs.chunk_by(|a, b| a.app == b.app).take(APPS).map(row).collect::<Vec<_>>()
        })
        .unwrap_or_default()
    });
    let top = place.y + if narrow { 72.0 } else { 92.0 };
    let (left, right) = (place.x + 13.0, place.x + place.w - 13.0);
    move || {
        let rows = rows.get().into_iter().enumerate().map(|(index, (app, rate, violations))| {
            let y = top + 19.0 + 21.0 * index as f64;
            let value = if violations > 0 {
                format!("✕ {} violations", format::total(violations))
            } else {
                format!("{}/s", format::compact(rate))
            };
            view! {
                <text class="job" x=left y=y>{app}</text>
                <text class="job value" x=right y=y text-anchor="end">{value}</text>
            }
        });
        view! {
            <path class="rule" d=format!("M{left} {top}H{right}")></path>
            {rows.collect_view()}
        }
    }
}
