use leptos::html::Canvas;
use leptos::prelude::*;
use millrace_wire::live::Sample;
use web_sys::PointerEvent;

use super::data::{Spec, nearest};
use super::draw::{LEFT, RIGHT, draw};
use crate::format;
use crate::page::Page;
use crate::theme;

/// A chart with its legend, which shows the newest values, or those under the pointer.
#[component]
pub fn Chart(
    /// What it is about.
    spec: &'static Spec,
) -> impl IntoView {
    let page = expect_context::<Page>();
    let canvas = NodeRef::<Canvas>::new();
    let resized = RwSignal::new(0_u32);
    // Share of the time axis under the pointer, and its place in CSS px.
    let pointer = RwSignal::new(None::<(f64, f64)>);

    let listener = window_event_listener(leptos::ev::resize, move |_| {
        let _ = resized.try_update(|n| *n = n.wrapping_add(1));
    });
    on_cleanup(move || listener.remove());
    Effect::new(move || {
        resized.track();
        page.theme_changes.track();
        let Some(canvas) = canvas.get() else { return };
        let ratio = window().device_pixel_ratio().clamp(1.0, 4.0);
        page.history.with(|samples| draw(&canvas, samples, spec, ratio, theme::is_dark()));
    });

    let shown = Memo::new(move |_| {
        page.history.with(|samples| match pointer.get() {
            Some((share, _)) => nearest(samples, share).cloned(),
            None => samples.last().cloned(),
        })
    });
    let value = move |index: usize| {
        let series = spec.series.get(index)?;
        shown.with(|sample| sample.as_ref().and_then(series.value))
    };
    let text = move |index: usize| value(index).map_or_else(|| format::NOTHING.to_owned(), spec.text);
    let when = move || match (pointer.get(), shown.get()) {
        (Some(_), Some(Sample { at_ms, .. })) => format::clock(at_ms, page.utc_offset_min),
        (Some(_), None) => "no data".into(),
        _ => "now".into(),
    };
    let description = move || {
        let latest = page.history.with(|samples| samples.last().cloned());
        let values = spec.series.iter().map(|s| {
            let value = latest.as_ref().and_then(s.value).map_or_else(|| "no data".to_owned(), spec.text);
            format!("{} {value}", s.label)
        });
        format!(
            "{}, {}, last 5 minutes. Latest: {}.",
            spec.title,
            spec.subtitle,
            values.collect::<Vec<_>>().join(", ")
        )
    };
    let moved = move |event: PointerEvent| {
        let Some(canvas) = canvas.get_untracked() else { return };
        let width = f64::from(canvas.client_width()) - LEFT - RIGHT;
        let x = f64::from(event.offset_x());
        let share = (x - LEFT) / width.max(1.0);
        pointer.set((-0.02..=1.02).contains(&share).then_some((share, x)));
    };

    let legend = spec.series.iter().enumerate().map(|(index, series)| {
        view! {
            <span class=format!("key s{}", index + 1)>
                <i aria-hidden="true"></i>
                {series.label}
                <b>{move || text(index)}</b>
            </span>
        }
    });
    let legend = legend.collect_view();
    view! {
        <figure class="card chart">
            <figcaption>
                <h2>{spec.title}</h2>
                <span class="quiet">{spec.subtitle}</span>
                <span class="when quiet">{when}</span>
            </figcaption>
            <div class="legend">{legend}</div>
            <div class="plot" on:pointermove=moved on:pointerleave=move |_| pointer.set(None)>
                <canvas node_ref=canvas role="img" aria-label=description></canvas>
                <div
                    class="crosshair"
                    hidden=move || pointer.get().is_none()
                    style:left=move || pointer.get().map_or_else(String::new, |(_, x)| format!("{x}px"))
                ></div>
            </div>
        </figure>
    }
    .into_any()
}
