use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Aggregate, Windowed};
use crate::time::{EventTime, TimeWindow};

/// What the operator does with the records of a window.
pub trait WindowFunction<P, I> {
    /// What is kept while the window is open.
    type Acc: Serialize + DeserializeOwned;
    /// What comes out of it.
    type Out;
    /// Whether accumulators are small, so that merged ones may be kept beside the slices.
    const SMALL: bool;
    /// Before the first record.
    fn create(&self) -> Self::Acc;
    /// Adds a record.
    fn add(&self, acc: &mut Self::Acc, record: &I, at: EventTime);
    /// Adds what another accumulator holds.
    fn merge(&self, acc: &mut Self::Acc, other: &Self::Acc);
    /// The result so far.
    fn result(&self, key: &Arc<str>, window: TimeWindow, acc: &Self::Acc, params: &P) -> Self::Out;
}

/// Folds record by record.
pub struct Incremental<A>(pub(super) A);

impl<P, I, A: Aggregate<I>> WindowFunction<P, I> for Incremental<A> {
    type Acc = A::Acc;
    type Out = A::Out;
    const SMALL: bool = true;

    fn create(&self) -> A::Acc {
        self.0.create()
    }

    fn add(&self, acc: &mut A::Acc, record: &I, at: EventTime) {
        self.0.add(acc, record, at);
    }

    fn merge(&self, acc: &mut A::Acc, other: &A::Acc) {
        self.0.merge(acc, other);
    }

    fn result(&self, _: &Arc<str>, _: TimeWindow, acc: &A::Acc, _: &P) -> A::Out {
        self.0.result(acc)
    }
}

/// Keeps the records and computes from all of them. Flink's `ProcessWindowFunction`.
pub struct Collect<F>(pub(super) F);

impl<P, I, O, F> WindowFunction<P, I> for Collect<F>
where
    I: Clone + Serialize + DeserializeOwned,
    F: Fn(&Windowed<&[I]>, &P) -> O,
{
    type Acc = Vec<I>;
    type Out = O;
    const SMALL: bool = false;

    fn create(&self) -> Vec<I> {
        Vec::new()
    }

    fn add(&self, acc: &mut Vec<I>, record: &I, _: EventTime) {
        acc.push(record.clone());
    }

    fn merge(&self, acc: &mut Vec<I>, other: &Vec<I>) {
        acc.extend_from_slice(other);
    }

    fn result(&self, key: &Arc<str>, window: TimeWindow, acc: &Vec<I>, params: &P) -> O {
        (self.0)(&Windowed { key: key.clone(), window, value: acc }, params)
    }
}
