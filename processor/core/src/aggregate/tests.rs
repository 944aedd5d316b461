use std::collections::BTreeMap;
use std::fmt::Debug;

use proptest::prelude::*;

use super::*;
use crate::state::{decode, encode};
use crate::time::EventTime;
use crate::window::Aggregate;

type Reading = (String, f64);

fn value(reading: &Reading) -> f64 {
    reading.1
}

fn key(reading: &Reading) -> &str {
    &reading.0
}

fn fold<A: Aggregate<Reading>>(aggregate: &A, readings: &[Reading]) -> A::Acc {
    let mut acc = aggregate.create();
    readings.iter().for_each(|reading| aggregate.add(&mut acc, reading, EventTime(0)));
    acc
}

/// The laws of an aggregate: `create()` is neutral, merging is associative, and splitting does not matter; and an
/// accumulator is the same after it was written and read.
fn laws<A: Aggregate<Reading>>(
    aggregate: &A,
    readings: &[Reading],
    cut: (usize, usize),
    same: impl Fn(&A::Acc, &A::Acc) -> bool,
) where
    A::Acc: Debug,
{
    let (low, high) = (cut.0.min(readings.len()), cut.1.min(readings.len()));
    let (low, high) = (low.min(high), low.max(high));
    let check = |left: &A::Acc, right: &A::Acc, law| assert!(same(left, right), "{law}: {left:?} {right:?}");
    let part = |from, to| fold(aggregate, &readings[from..to]);
    let (whole, end) = (part(0, readings.len()), readings.len());

    let mut neutral = aggregate.create();
    aggregate.merge(&mut neutral, &whole);
    check(&neutral, &whole, "neutral on the left");
    aggregate.merge(&mut neutral, &aggregate.create());
    check(&neutral, &whole, "neutral on the right");

    let mut left = part(0, low);
    aggregate.merge(&mut left, &part(low, high));
    aggregate.merge(&mut left, &part(high, end));
    let (mut tail, mut right) = (part(low, high), part(0, low));
    aggregate.merge(&mut tail, &part(high, end));
    aggregate.merge(&mut right, &tail);
    check(&left, &right, "associative");
    check(&left, &whole, "split and merged");

    let mut bytes = Vec::new();
    encode(&part(0, low), &mut bytes);
    let mut restored: A::Acc = decode(&bytes).unwrap();
    check(&restored, &part(0, low), "written and read");
    readings[low..].iter().for_each(|reading| aggregate.add(&mut restored, reading, EventTime(0)));
    check(&restored, &whole, "continued");
}

fn readings(value: impl Strategy<Value = f64>) -> impl Strategy<Value = Vec<Reading>> {
    prop::collection::vec((0..12_u8, value).prop_map(|(key, value)| (format!("k{key}"), value)), 0..80)
}

fn any_value() -> impl Strategy<Value = f64> {
    prop_oneof![8 => -1e6..1e6, 2 => (-5..5_i32).prop_map(f64::from), 1 => Just(f64::NAN), 1 => Just(f64::INFINITY), 1 => Just(-0.0)]
}

fn finite(readings: &[Reading]) -> Vec<f64> {
    readings.iter().map(value).filter(|value| value.is_finite()).collect()
}

proptest! {
    #[test]
    fn whole_numbers_are_exact(
        readings in readings((-1_000_000..1_000_000_i32).prop_map(f64::from)), cut in (0..80_usize, 0..80_usize)
    ) {
        laws(&Count, &readings, cut, u64::eq);
        laws(&Sum(value), &readings, cut, f64::eq);
        laws(&Avg(value), &readings, cut, PartialEq::eq);
    }

    #[test]
    fn fractions_are_right_to_rounding(readings in readings(any_value()), cut in (0..80_usize, 0..80_usize)) {
        let values = finite(&readings);
        let size: f64 = values.iter().map(|x| x.abs()).sum();
        let squares: f64 = values.iter().map(|x| x * x).sum();
        let near = |a: f64, b: f64, size: f64| (a - b).abs() <= 1e-9 * size;
        laws(&Sum(value), &readings, cut, |a, b| near(*a, *b, size));
        laws(&Avg(value), &readings, cut, |a, b| a.1 == b.1 && near(a.0, b.0, size));
        let moments = |a: &Moments, b: &Moments| {
            a.count() == b.count()
                && near(a.mean().unwrap_or(0.0), b.mean().unwrap_or(0.0), size)
                && near(a.variance().unwrap_or(0.0), b.variance().unwrap_or(0.0), squares)
        };
        laws(&Variance::population(value), &readings, cut, moments);
        laws(&StdDev::sample(value), &readings, cut, moments);
    }

    #[test]
    fn extremes_are_exact(readings in readings(any_value()), cut in (0..80_usize, 0..80_usize)) {
        let bits = |a: &Option<f64>, b: &Option<f64>| a.map(f64::to_bits) == b.map(f64::to_bits);
        laws(&Min(value), &readings, cut, bits);
        laws(&Max(value), &readings, cut, bits);
        let values = finite(&readings);
        prop_assert_eq!(fold(&Min(value), &readings), values.iter().copied().min_by(f64::total_cmp));
        prop_assert_eq!(fold(&Max(value), &readings), values.iter().copied().max_by(f64::total_cmp));
    }

    #[test]
    fn top_n_is_what_sorting_all_keys_gives(
        n in 0..6_usize, readings in readings(any_value()), cut in (0..80_usize, 0..80_usize)
    ) {
        let top = TopN::new(n, key, value);
        laws(&top, &readings, cut, PartialEq::eq);
        let mut best = BTreeMap::<&str, f64>::new();
        for (key, value) in readings.iter().filter(|reading| reading.1.is_finite()) {
            let entry = best.entry(key).or_insert(*value);
            if value.total_cmp(entry).is_gt() {
                *entry = *value;
            }
        }
        let mut expected: Vec<_> = best.into_iter().collect();
        expected.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(b.0)));
        expected.truncate(n);
        let acc = fold(&top, &readings);
        prop_assert_eq!(acc.iter().map(|r| (r.key.as_str(), r.value)).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn quantiles_keep_to_their_accuracy(
        accuracy in 0.001..0.3_f64, q in 0.0..=1.0_f64, readings in readings(any_value()), cut in (0..80_usize, 0..80_usize)
    ) {
        let quantiles = Quantiles::new(value, accuracy, &[q]).unwrap();
        laws(&quantiles, &readings, cut, PartialEq::eq);
        let mut values = finite(&readings);
        values.sort_by(f64::total_cmp);
        let found = quantiles.result(&fold(&quantiles, &readings));
        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let expected = values.len().checked_sub(1).map(|last| values[(q * last as f64) as usize]);
        match expected {
            Some(x) => prop_assert!((found[0].value - x).abs() <= x.abs() * accuracy * (1.0 + 1e-9), "{:?} {}", found, x),
            None => prop_assert!(found.is_empty()),
        }
    }

    #[test]
    fn few_keys_are_counted_exactly(readings in readings(Just(0.0)), cut in (0..80_usize, 0..80_usize)) {
        let distinct = DistinctCount::new(12, key).unwrap();
        let count = |acc: &Distinct| Aggregate::<Reading>::result(&distinct, acc);
        laws(&distinct, &readings, cut, |a, b| count(a) == count(b));
        let keys: std::collections::BTreeSet<_> = readings.iter().map(key).collect();
        prop_assert_eq!(count(&fold(&distinct, &readings)), keys.len() as u64);
    }

    #[test]
    fn a_tuple_is_its_parts(readings in readings((-100..100_i32).prop_map(f64::from)), cut in (0..80_usize, 0..80_usize)) {
        let both = (Count, Sum(value));
        laws(&both, &readings, cut, PartialEq::eq);
        let all = (Count, Sum(value), Min(value), Max(value), TopN::new(2, key, value), Variance::population(value));
        let acc = fold(&all, &readings);
        let (count, sum, min, ..) = all.result(&acc);
        prop_assert_eq!((count, sum), both.result(&fold(&both, &readings)));
        prop_assert_eq!(min, fold(&Min(value), &readings));
    }
}

#[test]
fn many_keys_are_counted_to_the_error_of_the_sketch() {
    let readings: Vec<Reading> = (0..25_000).map(|i| (format!("sensor-{}", i % 20_000), 0.0)).collect();
    for (lg_k, error) in [(10, 0.0325), (12, 0.01625), (14, 0.008125)] {
        let distinct = DistinctCount::new(lg_k, key).unwrap();
        let whole = distinct.result(&fold(&distinct, &readings));
        #[allow(clippy::cast_precision_loss)]
        let off = (whole as f64 / 20_000.0 - 1.0).abs();
        assert!(off < 3.0 * error, "{lg_k}: {whole}, off by {off}");
        let count = |acc: &Distinct| Aggregate::<Reading>::result(&distinct, acc);
        laws(&distinct, &readings, (5_000, 15_000), |a, b| count(a).abs_diff(count(b)) <= 1);
    }
}

#[test]
fn variance_by_hand() {
    let readings: Vec<Reading> =
        [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0].map(|x| (String::new(), x)).into_iter().collect();
    let population = Variance::population(value);
    assert_eq!(population.result(&fold(&population, &readings)), Some(4.0));
    let sample = Variance::sample(value);
    assert_eq!(sample.result(&fold(&sample, &readings)), Some(32.0 / 7.0));
    let deviation = StdDev::population(value);
    assert_eq!(deviation.result(&fold(&deviation, &readings)), Some(2.0));
    assert_eq!(sample.result(&fold(&sample, &readings[..1])), None);
}

#[test]
fn of_too_many_bins_the_lowest_fall_together() {
    // 6000 bins at this accuracy, in three orders that must not matter.
    let at = |i: i32| (1.0_f64 + f64::from(i) * 1e-3, 1);
    let mut sketches = [(); 3].map(|()| QuantileSketch::new(1e-4).unwrap());
    (0..6000).map(at).for_each(|(x, n)| sketches[0].add(x, n));
    (0..6000).rev().map(at).for_each(|(x, n)| sketches[1].add(x, n));
    let mut parts = [(); 3].map(|()| QuantileSketch::new(1e-4).unwrap());
    (0..6000).for_each(|i| parts[usize::try_from(i % 3).unwrap()].add(at(i).0, at(i).1));
    parts.iter().for_each(|part| sketches[2].merge(part));
    assert!(sketches[0] == sketches[1] && sketches[1] == sketches[2]);
    assert_eq!(sketches[0].count(), 6000);
    let high = sketches[0].quantile(0.9).unwrap();
    assert!((high - 6.399).abs() < 6.4e-4, "{high}: the upper end keeps the accuracy");
}

#[test]
fn sketches_of_the_ends_of_the_range_are_finite() {
    let mut sketch = QuantileSketch::new(1e-4).unwrap();
    for x in [f64::MAX, f64::MIN, f64::MIN_POSITIVE, 5e-324, -5e-324, 0.0, -0.0] {
        sketch.add(x, 1);
    }
    assert_eq!(sketch.quantile(0.5), Some(0.0));
    for (q, expected) in [(0.0, f64::MIN), (1.0, f64::MAX)] {
        let found = sketch.quantile(q).unwrap();
        assert!(found.is_finite() && (found / expected - 1.0).abs() <= 1.1e-4, "{found}");
    }
    assert_eq!(QuantileSketch::new(0.01).unwrap().quantile(0.5), None);
}

#[test]
fn sketches_of_different_accuracy_still_merge() {
    let (mut coarse, mut fine) = (QuantileSketch::new(0.1).unwrap(), QuantileSketch::new(0.001).unwrap());
    [-1.0, 0.0, 100.0].into_iter().for_each(|x| fine.add(x, 2));
    coarse.merge(&fine);
    assert_eq!(coarse.count(), 6);
    assert!((coarse.quantile(1.0).unwrap() - 100.0).abs() < 10.2);
}

#[test]
fn settings_out_of_their_limits_are_refused() {
    assert_eq!(DistinctCount::new(3, key).err(), Some(InvalidAggregate::LgK(3)));
    assert_eq!(Quantiles::new(value, 0.0, &[]).err(), Some(InvalidAggregate::Accuracy(0.0)));
    assert_eq!(Quantiles::new(value, 0.01, &[0.5, 99.0]).err(), Some(InvalidAggregate::Quantile(99.0)));
}

#[test]
fn damaged_sketches_are_refused() {
    let mut sketch = QuantileSketch::new(0.01).unwrap();
    [1.0, 2.0].into_iter().for_each(|x| sketch.add(x, 1));
    let mut bytes = Vec::new();
    encode(&sketch, &mut bytes);
    assert_eq!(decode::<QuantileSketch>(&bytes), Ok(sketch));
    // The order of the bins: they are the last but the empty list of negative ones.
    let at = bytes.len() - 5;
    bytes.swap(at, at + 2);
    assert!(decode::<QuantileSketch>(&bytes).is_err(), "{bytes:?}");
    assert!(decode::<Distinct>(&[1, 3, 2, 1, 7]).is_err());
}
