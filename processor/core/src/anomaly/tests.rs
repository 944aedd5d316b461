use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::aggregate::Moments;
use crate::state::{decode, encode};

fn all<D: Detector>(detector: &D, values: &[f64]) -> (Vec<Score>, D::State) {
    let mut state = D::State::default();
    let times = (0_i64..).map(|minute| EventTime(minute * 60_000));
    let scores = values
        .iter()
        .zip(times)
        .map(|(&value, at)| detector.observe(&mut state, value, at).unwrap())
        .collect();
    (scores, state)
}

fn close(a: f64, b: f64, tolerance: f64) -> bool {
    (a - b).abs() <= tolerance
}

#[test]
fn ewma_by_hand() {
    let detector = Ewma { alpha: 0.5, threshold: 2.5, warm_up: 2, min_scale: 1e-9 };
    let (scores, state) = all(&detector, &[10.0, 12.0, 14.0]);
    let expected = Score {
        value: 14.0,
        expected: 11.0,
        lower: 8.5,
        upper: 13.5,
        score: 3.0,
        anomalous: true,
        warming_up: false,
    };
    assert_eq!(scores[2], expected);
    assert_eq!(state, EwmaState { seen: 3, mean: 12.5, variance: 2.75 });
    assert!(scores[1].warming_up && !scores[1].anomalous && scores[1].score > 1e9, "still warming up");
}

#[test]
fn welford_by_hand() {
    let detector = Welford { warm_up: 8, ..Welford::default() };
    let (scores, _) = all(&detector, &[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0, 12.0]);
    let last = scores[8];
    // m2 = 32, n = 8
    assert!(close(last.score, 7.0 / (32.0_f64 / 7.0).sqrt(), 1e-12) && last.anomalous, "{last:?}");
    assert!(close(last.expected, 5.0, 1e-12) && close(last.upper - 5.0, 5.0 - last.lower, 1e-12));
}

#[test]
fn mad_by_hand() {
    let detector = Mad { size: 7, warm_up: 7, ..Mad::default() };
    let (scores, state) = all(&detector, &[1.0, 1.0, 2.0, 2.0, 4.0, 6.0, 9.0, 9.0]);
    // Median 2, distances 0 0 1 1 2 4 7, MAD 1.
    assert!(close(scores[7].score, 0.6745 * 7.0, 1e-12) && scores[7].anomalous, "{:?}", scores[7]);
    assert_eq!(state.len(), 7, "the sample is bounded");
    let even = Sample::from(VecDeque::from([10.0, 1.0, 3.0, 2.0]));
    assert_eq!((even.median(), even.mad()), (Some(2.5), Some(1.0)));
    assert_eq!(Sample::default().mad(), None);
}

#[test]
fn seasonal_by_hand() {
    let (hour, day) = (3_600_000, 86_400_000);
    let detector = Seasonal { warm_up: 2, ..Seasonal::default() };
    let mut state = Hours::default();
    let mut observe = |value, at| detector.observe(&mut state, value, EventTime(at)).unwrap();
    observe(10.0, 0);
    observe(100.0, 12 * hour);
    observe(12.0, day + hour - 1);
    observe(102.0, day + 12 * hour);
    let noon = observe(101.0, 2 * day + 12 * hour);
    assert!(noon.score == 0.0 && !noon.anomalous && noon.expected == 101.0);
    let midnight = observe(101.0, 2 * day);
    assert!(midnight.anomalous && close(midnight.score, 90.0 / 2.0_f64.sqrt(), 1e-9), "{midnight:?}");
    assert!(observe(1.0, hour).warming_up, "the hour after it knows nothing yet");
    observe(7.0, -1);
    assert_eq!(state.at(EventTime(23 * hour)).mean(), Some(7.0), "before the epoch comes hour 23");
}

#[test]
fn rate_by_hand() {
    let detector = RateOfChange { threshold: 1.5, warm_up: 1 };
    let mut state = Last::default();
    let mut observe = |value, at| detector.observe(&mut state, value, EventTime(at)).unwrap();
    assert!(observe(10.0, 0).warming_up);
    let rise = observe(14.0, 2_000);
    assert_eq!((rise.score, rise.expected, rise.lower, rise.upper), (2.0, 10.0, 7.0, 13.0));
    assert!(rise.anomalous);
    let before = observe(99.0, 2_000);
    assert!(before.score == 0.0 && !before.anomalous && !before.warming_up, "no time has passed");
    assert_eq!(observe(13.0, 3_000).score, -1.0, "against the last that was judged");
    assert!(observe(0.0, i64::MAX).score.is_finite());
}

#[test]
fn a_constant_series_is_normal_and_the_least_scale_decides_what_is_not() {
    fn check<D: Detector>(strict: &D, loose: &D) {
        let mut values = vec![5.0; 40];
        values.push(5.001);
        let (scores, _) = all(strict, &values);
        assert!(scores[..40].iter().all(|score| score.score == 0.0 && !score.anomalous));
        assert!(scores[40].anomalous && scores[40].score.is_finite(), "{:?}", scores[40]);
        assert!(!all(loose, &values).0[40].anomalous);
    }
    check(&Ewma::default(), &Ewma { min_scale: 0.1, ..Ewma::default() });
    check(&Welford::default(), &Welford { min_scale: 0.1, ..Welford::default() });
    check(&Mad::default(), &Mad { min_scale: 0.1, ..Mad::default() });
    check(&RateOfChange { threshold: 1e-6, warm_up: 1 }, &RateOfChange::default());
    let hour = Seasonal { warm_up: 30, ..Seasonal::default() };
    check(&hour, &Seasonal { min_scale: 0.1, ..hour });
}

#[test]
fn an_outlier_moves_the_mean_but_hardly_the_median() {
    let mut values: Vec<f64> = (0..40).map(|i| 20.0 + f64::from(i % 5) / 10.0).collect();
    values[35] = 1e6;
    values.push(25.0);
    assert!(!all(&Welford::default(), &values).0[40].anomalous);
    assert!(all(&Mad::default(), &values).0[40].anomalous);
}

#[test]
fn settings_out_of_their_limits_are_refused() {
    assert_eq!(Ewma { alpha: 1.0, ..Ewma::default() }.validate(), Err(InvalidDetector::Alpha(1.0)));
    assert!(Ewma { alpha: f64::NAN, ..Ewma::default() }.validate().is_err());
    assert!(Welford { threshold: f64::NAN, ..Welford::default() }.validate().is_err());
    assert!(Welford { threshold: 0.0, ..Welford::default() }.validate().is_err());
    assert!(Seasonal { min_scale: 0.0, ..Seasonal::default() }.validate().is_err());
    assert_eq!(
        Mad { size: 10, ..Mad::default() }.validate(),
        Err(InvalidDetector::WarmUp { warm_up: 30, least: 2, most: 10 })
    );
    assert_eq!(Mad { size: 5000, ..Mad::default() }.validate(), Err(InvalidDetector::Size(5000)));
    assert!(RateOfChange { warm_up: 0, ..RateOfChange::default() }.validate().is_err());
    assert!(Ewma::default().validate().is_ok() && Welford::default().validate().is_ok());
    assert!(Mad::default().validate().is_ok() && Seasonal::default().validate().is_ok());
    assert!(RateOfChange::default().validate().is_ok());
}

#[test]
fn a_smaller_sample_takes_effect_at_the_next_value() {
    let (_, mut state) = all(&Mad::default(), &[1.0; 50]);
    Mad { size: 5, ..Mad::default() }.observe(&mut state, 2.0, EventTime(0)).unwrap();
    assert_eq!(state.len(), 5);
}

#[test]
fn old_bytes_still_load() {
    // Written by version 1. These lines never change: a new version adds lines.
    let ewma = [&[1, 3][..], &12.5_f64.to_le_bytes(), &2.75_f64.to_le_bytes()].concat();
    assert_eq!(decode(&ewma), Ok(EwmaState { seen: 3, mean: 12.5, variance: 2.75 }));
    let sample = [&[1, 2][..], &9.0_f64.to_le_bytes(), &4.0_f64.to_le_bytes()].concat();
    assert_eq!(decode(&sample), Ok(Sample::from(VecDeque::from([9.0, 4.0]))));
}

/// Restores after every value and feeds what must be refused in between.
fn survives<D: Detector>(detector: &D, values: &[f64]) {
    let (expected, end) = all(detector, values);
    let (mut state, mut bytes, mut again) = (D::State::default(), Vec::new(), Vec::new());
    for (i, (value, expected)) in values.iter().zip(expected).enumerate() {
        let at = EventTime(i64::try_from(i).unwrap() * 60_000);
        encode(&state, &mut bytes);
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e101] {
            assert!(detector.observe(&mut state, bad, at).is_err());
        }
        encode(&state, &mut again);
        assert_eq!(bytes, again, "what is refused leaves no trace");
        state = decode(&bytes).unwrap();
        let score = detector.observe(&mut state, *value, at).unwrap();
        assert_eq!(score, expected);
        let numbers = [score.expected, score.lower, score.upper, score.score];
        assert!(numbers.iter().all(|n| n.is_finite()), "{score:?}");
    }
    encode(&state, &mut bytes);
    encode(&end, &mut again);
    assert_eq!(bytes, again);
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![6 => -1e3..1e3, 2 => (-3..3_i32).prop_map(f64::from), 1 => -1e100..1e100]
}

#[allow(clippy::cast_precision_loss)]
fn two_pass(values: &[f64]) -> (f64, f64) {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    (mean, values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / values.len() as f64)
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[(sorted.len() - 1) / 2] / 2.0 + sorted[sorted.len() / 2] / 2.0
}

proptest! {
    #[test]
    fn every_detector_continues_after_a_restore(values in prop::collection::vec(value(), 0..40)) {
        survives(&Ewma { warm_up: 3, ..Ewma::default() }, &values);
        survives(&Welford { warm_up: 3, ..Welford::default() }, &values);
        survives(&Mad { size: 7, warm_up: 3, ..Mad::default() }, &values);
        survives(&Seasonal { warm_up: 3, ..Seasonal::default() }, &values);
        survives(&RateOfChange::default(), &values);
    }

    #[test]
    fn welford_is_the_two_pass_computation(
        offset in prop_oneof![Just(0.0), Just(1e9)], values in prop::collection::vec(-1e3..1e3, 1..200)
    ) {
        let values: Vec<f64> = values.iter().map(|x: &f64| x + offset).collect();
        let mut moments = Moments::default();
        values.iter().for_each(|x| moments.add(*x));
        let (mean, variance) = two_pass(&values);
        prop_assert!(close(moments.mean().unwrap(), mean, 1e-9 * (1.0 + mean.abs())));
        // The naive formula would be off by some 1e2 at the offset.
        prop_assert!(close(moments.variance().unwrap(), variance, 1e-9 * (1.0 + variance) + offset * 1e-12));
    }

    #[test]
    fn ewma_is_the_weighted_mean_and_variance(
        alpha in 0.01..0.99, values in prop::collection::vec(-1e3..1e3, 1..60)
    ) {
        let (_, state) = all(&Ewma { alpha, ..Ewma::default() }, &values);
        let weight = |i: usize| {
            let fresh = (1.0_f64 - alpha).powi(i32::try_from(values.len() - 1 - i).unwrap());
            if i == 0 { fresh } else { alpha * fresh }
        };
        let mean: f64 = values.iter().enumerate().map(|(i, x)| weight(i) * x).sum();
        let variance: f64 = values.iter().enumerate().map(|(i, x)| weight(i) * (x - mean).powi(2)).sum();
        prop_assert!(close(state.mean, mean, 1e-7) && close(state.variance, variance, 1e-4), "{:?}", state);
    }

    #[test]
    fn mad_is_what_sorting_gives(
        size in 3..20_usize, values in prop::collection::vec(prop_oneof![-9.0..9.0, (-3..3_i32).prop_map(f64::from)], 1..60)
    ) {
        let (_, state) = all(&Mad { size, warm_up: 2, ..Mad::default() }, &values);
        let last = &values[values.len().saturating_sub(size)..];
        let middle = median(last);
        let distances: Vec<f64> = last.iter().map(|x| (x - middle).abs()).collect();
        prop_assert_eq!(state.median(), Some(middle));
        prop_assert_eq!(state.mad(), Some(median(&distances)));
    }
}
