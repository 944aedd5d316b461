use std::any::Any;
use std::marker::PhantomData;
use std::sync::Arc;

use super::{Held, InvalidJoin};
use crate::state::{SortedState, Table};
use crate::stream::{Context, Enriched, Operator};
use crate::time::{EventTime, Watermark};
use crate::timer::Deadlines;

/// A version of a key's reference data.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Version<'a, T> {
    /// The key.
    pub key: &'a str,
    /// From when on it is valid, until the next version is.
    pub from: EventTime,
    /// The data; `None` means that the key has none from then on.
    pub value: Option<&'a T>,
}

/// Which versions are kept: of each key the newest ones, and those among them that were valid after the watermark less
/// some time. A record from before them finds nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    versions: usize,
    behind: i64,
}

impl Retention {
    /// At most so many versions of a key; those that were valid up to `behind` ms before the watermark.
    ///
    /// # Errors
    /// No version, or less than 0 ms.
    pub fn new(versions: usize, behind: i64) -> Result<Self, InvalidJoin> {
        if versions == 0 || behind < 0 {
            return Err(InvalidJoin::Retention);
        }
        Ok(Self { versions, behind })
    }
}

/// Joins a stream with the versions of a table that a reference topic keeps up to date.
pub struct TemporalJoin<K, R, E, T> {
    key: K,
    reference: R,
    retention: Retention,
    versions: SortedState<i64, Option<T>>,
    /// Per key, the watermark at which its first version is no longer kept.
    deadlines: Deadlines<Arc<str>>,
    events: PhantomData<fn(E)>,
}

impl<K, R, E, T: Held> TemporalJoin<K, R, E, T> {
    pub(super) fn new(key: K, retention: Retention, reference: R) -> Self {
        Self {
            key,
            reference,
            retention,
            versions: SortedState::default(),
            deadlines: Deadlines::default(),
            events: PhantomData,
        }
    }

    /// The first version goes when the second covers all that is kept, or, if it says that there is nothing, when it
    /// does so itself.
    fn plan(&mut self, key: &str) {
        let Some(shared) = self.versions.shared(key).cloned() else { return };
        let goes = {
            let mut versions = self.versions.range(key, ..);
            match (versions.next(), versions.next()) {
                (Some((from, None)), _) | (Some(_), Some((from, _))) => Some(*from),
                _ => None,
            }
        };
        if let Some(from) = goes {
            let deadline = from.saturating_add(self.retention.behind);
            self.deadlines.no_later_than(&shared, deadline, || shared.clone());
        }
    }

    fn retire(&mut self, watermark: Watermark) {
        while let Some((_, key)) = self.deadlines.pop(watermark.0) {
            // A version that came later may have moved the deadline.
            let first = self.versions.first(&key).map(|(from, value)| (*from, value.is_none()));
            let second = self.versions.range(&key, ..).nth(1).map(|(from, _)| *from);
            if let Some((first, is_nothing)) = first {
                let covered_by = if is_nothing { Some(first) } else { second };
                if covered_by.is_some_and(|from| from.saturating_add(self.retention.behind) <= watermark.0) {
                    self.versions.remove(&key, &first);
                }
            }
            self.plan(&key);
        }
    }
}

impl<P, I, K, R, E, T> Operator<P, I> for TemporalJoin<K, R, E, T>
where
    I: Clone,
    K: Fn(&I) -> &str,
    E: 'static,
    R: Fn(&E) -> Option<Version<'_, T>>,
    T: Held + PartialEq,
{
    type Out = Enriched<I, T>;

    fn record(
        &mut self,
        record: &I,
        at: EventTime,
        ctx: &mut Context<'_, P>,
        out: &mut impl FnMut(&Self::Out, EventTime, &mut Context<'_, P>),
    ) {
        let valid = self.versions.range((self.key)(record), ..=at.0).next_back();
        let reference = valid.and_then(|(_, value)| value.clone());
        out(&Enriched { record: record.clone(), reference }, at, ctx);
    }

    fn reference(&mut self, event: &dyn Any) {
        let Some(version) = event.downcast_ref::<E>().and_then(&self.reference) else { return };
        let Version { key, from: EventTime(from), value } = version;
        if self.versions.get(key, &from).is_some_and(|known| known.as_ref() == value) {
            return;
        }
        self.versions.set(key, from, value.cloned());
        if self.versions.range(key, ..).count() > self.retention.versions
            && let Some(first) = self.versions.first(key).map(|(from, _)| *from)
        {
            self.versions.remove(key, &first);
        }
        self.plan(key);
    }

    fn watermark(
        &mut self,
        ctx: &mut Context<'_, P>,
        _: &mut impl FnMut(&Self::Out, EventTime, &mut Context<'_, P>),
    ) {
        self.retire(ctx.watermark);
    }

    fn start(&mut self, _: &mut Context<'_, P>) {
        self.deadlines.clear();
        let keys: Vec<Arc<str>> = self.versions.keys().cloned().collect();
        keys.iter().for_each(|key| self.plan(key));
    }

    fn tables(&mut self, visit: &mut dyn FnMut(&mut dyn Table)) {
        visit(&mut self.versions);
    }
}
