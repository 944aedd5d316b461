use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::time::EventTime;

/// Folds the records of a window one by one.
pub trait Aggregate<I> {
    /// What is kept while the window is open.
    type Acc: Serialize + DeserializeOwned;
    /// What comes out of it.
    type Out;
    /// Before the first record.
    fn create(&self) -> Self::Acc;
    /// Adds a record.
    fn add(&self, acc: &mut Self::Acc, record: &I, at: EventTime);
    /// Adds what another accumulator of the same key holds: slices of a sliding window, sessions that meet. Associative,
    /// and `create()` changes nothing.
    fn merge(&self, acc: &mut Self::Acc, other: &Self::Acc);
    /// The result so far.
    fn result(&self, acc: &Self::Acc) -> Self::Out;
}
