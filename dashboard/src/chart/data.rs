//! What a chart shows: lines broken where data is missing, and a scale that ends at a round number. Pure.

use millrace_wire::live::Sample;

/// Samples further apart than this are not joined: nothing is known about the time between.
const GAP_MS: i64 = 2_500;

/// One line of a chart.
#[derive(Debug, Clone, Copy)]
pub struct Series {
    /// Its name in the legend.
    pub label: &'static str,
    /// Its value in a sample; `None` where there is no data.
    pub value: fn(&Sample) -> Option<f64>,
    /// Whether the area under it is filled.
    pub filled: bool,
}

/// What a chart is about.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    /// Heading.
    pub title: &'static str,
    /// What is measured, in a few words.
    pub subtitle: &'static str,
    /// A value with its unit, for legend and readout.
    pub text: fn(f64) -> String,
    /// A value at the axis.
    pub tick: fn(f64) -> String,
    /// The smallest upper end of the scale.
    pub floor: f64,
    /// Its lines.
    pub series: &'static [Series],
}

/// Unbroken pieces of a line as (minutes before the newest sample, value).
pub fn pieces(samples: &[Sample], series: &Series) -> Vec<Vec<(f64, f64)>> {
    let Some(newest) = samples.last().map(|s| s.at_ms) else { return vec![] };
    let mut pieces: Vec<Vec<(f64, f64)>> = vec![];
    let mut last_at: Option<i64> = None;
    for sample in samples {
        let Some(value) = (series.value)(sample).filter(|v| v.is_finite()) else {
            last_at = None;
            continue;
        };
        let point = ((sample.at_ms - newest) as f64 / 60_000.0, value);
        match (pieces.last_mut(), last_at) {
            (Some(piece), Some(at)) if sample.at_ms - at <= GAP_MS => piece.push(point),
            _ => pieces.push(vec![point]),
        }
        last_at = Some(sample.at_ms);
    }
    pieces
}

/// The largest value of all lines.
pub fn largest(samples: &[Sample], series: &[Series]) -> f64 {
    let values = samples.iter().flat_map(|sample| series.iter().filter_map(move |s| (s.value)(sample)));
    values.filter(|v| v.is_finite()).fold(0.0, f64::max)
}

/// The upper end of a scale: 1, 1.5, 2, 3, 4, 5 or 8 times a power of ten, with some air above the largest value.
pub fn scale_end(largest: f64, floor: f64) -> f64 {
    let wanted = (largest * 1.05).max(floor);
    let power = 10_f64.powf(wanted.log10().floor());
    let steps = [1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 8.0, 10.0];
    steps.into_iter().map(|s| s * power).find(|end| *end >= wanted).unwrap_or(wanted)
}

/// The sample nearest to a place on the time axis, `share` from 0 (five minutes ago) to 1 (newest).
pub fn nearest(samples: &[Sample], share: f64) -> Option<&Sample> {
    let newest = samples.last()?.at_ms as f64;
    let at = newest - (1.0 - share.clamp(0.0, 1.0)) * 300_000.0;
    let found = samples.iter().min_by(|a, b| {
        let far = |s: &Sample| (s.at_ms as f64 - at).abs();
        far(a).total_cmp(&far(b))
    })?;
    ((found.at_ms as f64 - at).abs() <= GAP_MS as f64).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAG: Series = Series { label: "lag", value: |s| s.lag_records.map(|l| l as f64), filled: false };

    fn sample(at_s: i64, lag: Option<i64>) -> Sample {
        Sample { at_ms: at_s * 1_000, lag_records: lag, ..Sample::default() }
    }

    #[test]
    fn missing_data_breaks_the_line() {
        let samples = [
            sample(0, Some(1)),
            sample(1, Some(2)),
            sample(2, None),
            sample(3, Some(4)),
            sample(60, Some(5)),
        ];
        let pieces = pieces(&samples, &LAG);
        assert_eq!(
            pieces,
            [vec![(-1.0, 1.0), (-59.0 / 60.0, 2.0)], vec![(-57.0 / 60.0, 4.0)], vec![(0.0, 5.0)]]
        );
    }

    #[test]
    fn scales_end_at_round_numbers() {
        assert_eq!(scale_end(0.0, 10.0), 10.0);
        assert_eq!(scale_end(4_980.0, 10.0), 8_000.0);
        assert_eq!(scale_end(101.0, 10.0), 150.0);
    }

    #[test]
    fn the_readout_finds_a_sample_or_says_nothing() {
        let samples = [sample(0, Some(1)), sample(100, Some(2)), sample(300, Some(3))];
        assert_eq!(nearest(&samples, 1.0).unwrap().lag_records, Some(3));
        assert_eq!(nearest(&samples, 0.0).unwrap().lag_records, Some(1));
        assert!(nearest(&samples, 0.8).is_none());
        assert!(nearest(&[], 0.5).is_none());
    }
}
