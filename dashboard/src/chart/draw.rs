//! A chart on a canvas. plotters-canvas counts in backing-store pixels and knows nothing of the device's pixel ratio:
//! the backing store is made that much larger and every length is scaled with it.

use millrace_wire::live::Sample;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters_canvas::CanvasBackend;
use web_sys::HtmlCanvasElement;

use super::data::{Spec, largest, pieces, scale_end};

/// Room for the labels left of the plot, CSS px.
pub const LEFT: f64 = 54.0;
/// Room right of the plot, CSS px.
pub const RIGHT: f64 = 12.0;
const TOP: f64 = 8.0;
const BOTTOM: f64 = 22.0;
const FONT: &str = "system-ui, sans-serif";

/// Okabe and Ito's colours, which stay apart for colour-blind eyes; `--series-1..3` in style.css are the same.
const LIGHT: [RGBColor; 3] = [RGBColor(0, 114, 178), RGBColor(213, 94, 0), RGBColor(0, 138, 101)];
const DARK: [RGBColor; 3] = [RGBColor(86, 180, 233), RGBColor(240, 160, 60), RGBColor(60, 200, 160)];

/// Draws everything anew.
pub fn draw(canvas: &HtmlCanvasElement, samples: &[Sample], spec: &Spec, ratio: f64, dark: bool) {
    let (width, height) = (f64::from(canvas.client_width()), f64::from(canvas.client_height()));
    if width < 80.0 || height < 60.0 {
        return;
    }
    // Setting the size also clears it.
    canvas.set_width((width * ratio).round() as u32);
    canvas.set_height((height * ratio).round() as u32);
    let Some(backend) = CanvasBackend::with_canvas_object(canvas.clone()) else { return };
    if let Err(error) = plot(&backend.into_drawing_area(), samples, spec, ratio, dark) {
        leptos::logging::warn!("the chart “{}” could not be drawn: {error}", spec.title);
    }
}

fn plot<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    samples: &[Sample],
    spec: &Spec,
    ratio: f64,
    dark: bool,
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    let px = |css: f64| (css * ratio).round() as i32;
    let line = |css: f64| (css * ratio).round().max(1.0) as u32;
    let (ink, rule) = if dark {
        (RGBColor(160, 170, 184), RGBColor(46, 54, 66))
    } else {
        (RGBColor(88, 98, 112), RGBColor(226, 230, 236))
    };
    let colours = if dark { DARK } else { LIGHT };
    let end = scale_end(largest(samples, spec.series), spec.floor);

    let mut chart = ChartBuilder::on(area)
        .margin_top(px(TOP))
        .margin_right(px(RIGHT))
        .x_label_area_size(px(BOTTOM))
        .y_label_area_size(px(LEFT))
        .build_cartesian_2d(-5.0..0.0, 0.0..end)?;
    let minutes = |m: &f64| if m.abs() < 0.01 { "now".to_owned() } else { format!("−{:.0} min", -m) };
    let tick = |value: &f64| (spec.tick)(*value);
    chart
        .configure_mesh()
        .disable_x_mesh()
        .bold_line_style(rule.stroke_width(line(1.0)))
        .light_line_style(TRANSPARENT)
        .axis_style(rule.stroke_width(line(1.0)))
        .x_labels(6)
        .y_labels(5)
        .x_label_formatter(&minutes)
        .y_label_formatter(&tick)
        .label_style((FONT, 11.0 * ratio).into_font().color(&ink))
        .draw()?;

    for (series, colour) in spec.series.iter().zip(colours) {
        for piece in pieces(samples, series) {
            let (Some(first), Some(last)) = (piece.first().copied(), piece.last().copied()) else { continue };
            if series.filled && piece.len() > 1 {
                let mut outline = vec![(first.0, 0.0)];
                outline.extend(&piece);
                outline.push((last.0, 0.0));
                chart.draw_series([Polygon::new(outline, colour.mix(0.16))])?;
            }
            if piece.len() == 1 {
                chart.draw_series([Circle::new(first, px(1.5), colour.filled())])?;
            } else {
                chart.draw_series(LineSeries::new(piece, colour.stroke_width(line(1.75))))?;
            }
        }
    }
    Ok(())
}
