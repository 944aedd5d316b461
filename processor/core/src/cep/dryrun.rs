//! What a changed pattern would have found: the old and the new one over the same events.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::compiler::compile;
use super::event::{FieldValue, Fields};
use super::limits::{CompileError, Limits};
use super::matcher::{Found, Matcher, Work};
use super::nfa::Nfa;
use super::pattern::Pattern;

/// A match in a dry run; events are named by their place in the list given.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct DryMatch {
    /// The key.
    pub key: Arc<str>,
    /// Stages with the places of their events, in the order of the pattern.
    pub stages: Vec<(Arc<str>, Vec<usize>)>,
}

/// What two patterns find, in the order of key and stages. A match found twice is listed twice.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct DryRun {
    /// Found by both.
    pub both: Vec<DryMatch>,
    /// Found by the old one alone.
    pub only_old: Vec<DryMatch>,
    /// Found by the new one alone.
    pub only_new: Vec<DryMatch>,
}

/// Runs both patterns over the same events `(key, time in ms, event)`, in the order of time, equal times as given. In
/// the end all time limits pass, as if nothing came any more.
///
/// ```
/// use millrace_core::cep::{Limits, Pattern, dry_run, field};
/// use serde_json::json;
///
/// let alarm = |above: f64| Pattern::begin("a").where_(field("v").gt(above)).times(2);
/// let events: Vec<(&str, i64, serde_json::Value)> =
///     [5, 7, 9].iter().zip(0..).map(|(v, at)| ("k", at, json!({"v": v}))).collect();
/// let compared = dry_run(&alarm(4.0), &alarm(6.0), &events, Limits::default()).unwrap();
/// assert_eq!(compared.both[0].stages[0].1, [1, 2]);
/// assert_eq!(compared.only_old[0].stages[0].1, [0, 1]);
/// assert!(compared.only_new.is_empty());
/// ```
///
/// # Errors
/// One of them can't be compiled.
pub fn dry_run<I: Fields, K: AsRef<str>>(
    old: &Pattern,
    new: &Pattern,
    events: &[(K, i64, I)],
    limits: Limits,
) -> Result<DryRun, CompileError> {
    let (old, new) = (compile(old, limits)?, compile(new, limits)?);
    let (mut old, mut new) = (matches(&old, events), matches(&new, events));
    old.sort_unstable();
    new.sort_unstable();
    let mut result = DryRun::default();
    let (mut old, mut new) = (old.into_iter().peekable(), new.into_iter().peekable());
    loop {
        let order = match (old.peek(), new.peek()) {
            (Some(a), Some(b)) => a.cmp(b),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (None, None) => return Ok(result),
        };
        if order.is_le() {
            let found = old.next();
            (if order.is_eq() { &mut result.both } else { &mut result.only_old }).extend(found);
        }
        if order.is_ge() {
            let found = new.next();
            if order.is_gt() {
                result.only_new.extend(found);
            }
        }
    }
}

/// An event by its place.
struct Placed<'a, I>(usize, &'a I);

impl<I> Clone for Placed<'_, I> {
    fn clone(&self) -> Self {
        Self(self.0, self.1)
    }
}

impl<I: Fields> Fields for Placed<'_, I> {
    fn field(&self, name: &str) -> FieldValue<'_> {
        self.1.field(name)
    }
}

fn matches<I: Fields, K: AsRef<str>>(nfa: &Nfa, events: &[(K, i64, I)]) -> Vec<DryMatch> {
    let mut order: Vec<(usize, &(K, i64, I))> = events.iter().enumerate().collect();
    order.sort_by_key(|(_, (_, at, _))| *at);
    let mut keys: BTreeMap<&str, Matcher<Placed<'_, I>>> = BTreeMap::new();
    let mut work = Work::default();
    let mut all = Vec::new();
    let mut note = |key: &str, found: Found<Placed<'_, I>>| {
        if !found.timed_out {
            let places = |events: Vec<Placed<'_, I>>| events.into_iter().map(|event| event.0).collect();
            let stages = found.stages.0.into_iter().map(|(stage, events)| (stage, places(events)));
            all.push(DryMatch { key: key.into(), stages: stages.collect() });
        }
    };
    for (place, (key, at, event)) in order {
        let key = key.as_ref();
        let matcher = keys.entry(key).or_default();
        nfa.advance(matcher, *at, &mut work, &mut |found| note(key, found));
        nfa.event(matcher, Cow::Owned(Placed(place, event)), *at, &mut work, &mut |found| note(key, found));
    }
    for (key, mut matcher) in keys {
        nfa.advance(&mut matcher, i64::MAX, &mut work, &mut |found| note(key, found));
    }
    all
}
