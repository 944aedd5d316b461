use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use crate::time::EventTime;
use crate::window::Aggregate;

/// A key and its largest value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ranked {
    /// The key.
    pub key: String,
    /// Its largest value.
    pub value: f64,
}

/// The `n` keys with the largest values, largest first; equal values in the order of their keys. A key counts once, with
/// its largest value.
///
/// Exact with at most `n` keys in memory: a key falls out only when `n` keys are before it, and these only rise; it comes
/// back with a value that is before one of them. (Of *sums* or *counts* per key that would not be so.)
///
/// ```
/// use millrace_core::aggregate::TopN;
/// use millrace_core::time::EventTime;
/// use millrace_core::window::Aggregate;
///
/// let top = TopN::new(2, |r: &(&str, f64)| r.0, |r| r.1);
/// let mut acc = top.create();
/// for record in [("c", 5.0), ("a", 1.0), ("b", 5.0), ("a", 7.0)] {
///     top.add(&mut acc, &record, EventTime(0));
/// }
/// let keys: Vec<_> = top.result(&acc).into_iter().map(|r| (r.key, r.value)).collect();
/// assert_eq!(keys, [("a".to_owned(), 7.0), ("b".to_owned(), 5.0)]);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct TopN<K, F> {
    n: usize,
    key: K,
    value: F,
}

impl<K, F> TopN<K, F> {
    /// The first `n` by `value`.
    pub const fn new<I>(n: usize, key: K, value: F) -> Self
    where
        K: Fn(&I) -> &str,
        F: Fn(&I) -> f64,
    {
        Self { n, key, value }
    }

    fn offer(&self, best: &mut Vec<Ranked>, key: &str, value: f64) {
        let before = |other: &Ranked| order(key, value, other) == Ordering::Less;
        if !value.is_finite() || (best.len() >= self.n && !best.last().is_some_and(before)) {
            return;
        }
        let entry = match best.iter().position(|other| other.key == key) {
            Some(at) if best.get(at).is_some_and(before) => Ranked { value, ..best.remove(at) },
            Some(_) => return,
            None => Ranked { key: key.to_owned(), value },
        };
        let at = best.partition_point(|other| !before(other));
        best.insert(at, entry);
        best.truncate(self.n);
    }
}

fn order(key: &str, value: f64, other: &Ranked) -> Ordering {
    other.value.total_cmp(&value).then_with(|| key.cmp(&other.key))
}

impl<I, K: Fn(&I) -> &str, F: Fn(&I) -> f64> Aggregate<I> for TopN<K, F> {
    /// In order, at most `n`.
    type Acc = Vec<Ranked>;
    type Out = Vec<Ranked>;

    fn create(&self) -> Vec<Ranked> {
        Vec::new()
    }

    fn add(&self, acc: &mut Vec<Ranked>, record: &I, _: EventTime) {
        self.offer(acc, (self.key)(record), (self.value)(record));
    }

    fn merge(&self, acc: &mut Vec<Ranked>, other: &Vec<Ranked>) {
        for Ranked { key, value } in other {
            self.offer(acc, key, *value);
        }
    }

    fn result(&self, acc: &Vec<Ranked>) -> Vec<Ranked> {
        acc.clone()
    }
}
