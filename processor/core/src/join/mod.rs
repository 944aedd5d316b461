//! Joins: pairs of records of two keyed streams that belong together in time, and records with the version of a table
//! that was valid at their time.
//!
//! | join | which belong together | Flink |
//! |---|---|---|
//! | [`Keyed::interval_join`] | left l and right r with `lower <= r.time - l.time <= upper` | `IntervalJoinOperator`, `RowTimeIntervalJoin` |
//! | [`Keyed::window_join`] | all of a window | `WindowJoinOperator`, `CoGroupedStreams` |
//! | [`Keyed::temporal_join`] | record and newest version not after it | `TemporalRowTimeJoinOperator` |
//! | [`Keyed::enrich`] | record and newest version | `TemporalProcessTimeJoinOperator` |
//!
//! The path of a record: late? -> joined with what the other side holds (interval), or kept until its windows fire ->
//! held, once, in the order of time within its key -> dropped when the watermark says that nothing can join it any more.
//! Per key there is one deadline, for the first thing that is to happen: nothing ever looks at all keys.
//!
//! Both streams are of the same job and read the same events: a record counts once for each side.
//!
//! ```
//! use millrace_core::join::{Interval, JoinType};
//! use millrace_core::params::NoParams;
//! use millrace_core::stream::{Job, job};
//! use millrace_core::testing::Harness;
//!
//! enum Event {
//!     Order(String, u32),
//!     Payment(String, u32),
//! }
//!
//! fn paid() -> Box<dyn Job<Event>> {
//!     let job = || job::<Event, NoParams>("paid", "Orders with payments within a minute.");
//!     let orders = job().source(|e: &Event| Some(e)).filter_map(|e, _, _| match e {
//!         Event::Order(id, amount) => Some((id.clone(), *amount)),
//!         Event::Payment(..) => None,
//!     });
//!     let payments = job().source(|e: &Event| Some(e)).filter_map(|e, _, _| match e {
//!         Event::Payment(id, amount) => Some((id.clone(), *amount)),
//!         Event::Order(..) => None,
//!     });
//!     let within = Interval::new(0, 60_000).expect("0 is less than a minute");
//!     orders
//!         .key_by(|(id, _)| id)
//!         .interval_join(payments.key_by(|(id, _)| id), move |_| within, JoinType::Left)
//!         .map(|j, _, _| (j.key.to_string(), j.left.as_ref().map(|l| l.1), j.right.as_ref().map(|r| r.1)))
//!         .to(|(id, ..)| ("paid", id.as_str()))
//! }
//! let mut test = Harness::new(paid);
//! test.record(&Event::Order("a".into(), 10), 1_000);
//! test.record(&Event::Order("b".into(), 20), 2_000);
//! test.record(&Event::Payment("a".into(), 10), 9_000);
//! assert_eq!(test.emitted("paid"), [serde_json::json!(["a", 10, 10])]);
//! test.watermark(62_000);
//! assert_eq!(test.emitted("paid"), [serde_json::json!(["b", 20, null])]);
//! assert!(test.state_is_empty());
//! ```

mod buffer;
mod enrich;
mod interval;
#[cfg(test)]
mod model;
mod temporal;
mod window;

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use enrich::{Enrich, Enriched};
pub use interval::{Interval, IntervalJoin};
pub use temporal::{Retention, TemporalJoin, Version};
pub use window::{CoGroup, CoGrouped, JoinWindows, WindowFunction, WindowJoin};

use crate::stream::{Keyed, Operator, Stream, Then};

/// What a join hands on, its sides named left and right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JoinType {
    /// Pairs.
    Inner,
    /// Pairs, and left records without partner.
    Left,
    /// Pairs, and right records without partner.
    Right,
    /// Pairs, and records without partner.
    Full,
    /// Left records that have a partner, once each.
    Semi,
    /// Left records that have none.
    Anti,
}

impl JoinType {
    /// Whether left records without partner are handed on.
    fn keeps_left(self) -> bool {
        matches!(self, Self::Left | Self::Full | Self::Anti)
    }

    /// Whether right records without partner are handed on.
    fn keeps_right(self) -> bool {
        matches!(self, Self::Right | Self::Full)
    }
}

/// What comes out of a join.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Joined<L, R> {
    /// The key.
    pub key: Arc<str>,
    /// The left record.
    pub left: Option<L>,
    /// The right record.
    pub right: Option<R>,
}

/// A specification that no join can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidJoin {
    /// Nothing is within the interval.
    #[error("the lower bound of an interval join must not be above the upper one: {lower} ms, {upper} ms")]
    Bounds {
        /// Lower bound, inclusive, ms.
        lower: i64,
        /// Upper bound, inclusive, ms.
        upper: i64,
    },
    /// Not windows.
    #[error("size and slide of windows must be greater than zero, they are {size} ms and {slide} ms")]
    Windows {
        /// Length, ms.
        size: i64,
        /// From start to start, ms.
        slide: i64,
    },
    /// As Flink has it.
    #[error("the window offset must be smaller than the slide, it is {offset} ms of {slide} ms")]
    Offset {
        /// Shift, ms.
        offset: i64,
        /// From start to start, ms.
        slide: i64,
    },
    /// No version would be kept.
    #[error("at least one version of a key must be retained, for 0 ms or more")]
    Retention,
}

/// What a join holds: cloned into results, written to the changelog.
pub trait Held: Clone + Serialize + DeserializeOwned {}

impl<T: Clone + Serialize + DeserializeOwned> Held for T {}

#[allow(clippy::type_complexity)]
impl<E, P, L, A, KL> Keyed<E, P, L, A, KL>
where
    A: Operator<P, E, Out = L>,
    KL: Fn(&L) -> &str,
    L: Held,
{
    /// Joins records of the same key that are near enough in time, as soon as both are there, at the later of their
    /// times. One without partner comes, at its own time, when the watermark says that none can come any more.
    ///
    /// `interval` is read again whenever the parameters change: a new one holds for the records that come from then on, and
    /// for those that are held. One that a shorter interval has dropped does not come back.
    ///
    /// A record with `time < watermark` is late. The name of the job and what describes it are taken from this side.
    pub fn interval_join<R, B, KR, N>(
        self,
        right: Keyed<E, P, R, B, KR>,
        interval: N,
        join: JoinType,
    ) -> Stream<E, P, Joined<L, R>, IntervalJoin<A, B, KL, KR, L, R, N>>
    where
        B: Operator<P, E, Out = R>,
        KR: Fn(&R) -> &str,
        R: Held,
        N: Fn(&P) -> Interval,
    {
        let (left, right) = (self, right);
        Stream {
            descriptor: left.stream.descriptor,
            op: IntervalJoin::new(left.stream.op, right.stream.op, left.key, right.key, interval, join),
            types: std::marker::PhantomData,
        }
    }

    /// Hands what both sides have in a window to `function` when the watermark reaches its last instant, per key: a
    /// [`JoinType`], [`CoGroup`] or your own. Results have the time of that instant.
    ///
    /// A record is late when all of its windows have fired. The windows are fixed when the job is built: unlike those of
    /// an aggregation and the interval of an interval join, they don't follow the parameters.
    pub fn window_join<R, B, KR, F>(
        self,
        right: Keyed<E, P, R, B, KR>,
        windows: JoinWindows,
        function: F,
    ) -> Stream<E, P, F::Out, WindowJoin<A, B, KL, KR, L, R, F>>
    where
        B: Operator<P, E, Out = R>,
        KR: Fn(&R) -> &str,
        R: Held,
        F: WindowFunction<L, R>,
    {
        let (left, right) = (self, right);
        Stream {
            descriptor: left.stream.descriptor,
            op: WindowJoin::new(left.stream.op, right.stream.op, left.key, right.key, windows, function),
            types: std::marker::PhantomData,
        }
    }
}

#[allow(clippy::type_complexity)]
impl<E, P, I, Op, K: Fn(&I) -> &str> Keyed<E, P, I, Op, K> {
    /// Adds the version of the key's reference data that is valid at the record's time: the newest one with
    /// `valid from <= time`. `reference` names the version in an event of a reference topic.
    pub fn temporal_join<T, R>(
        self,
        retention: Retention,
        reference: R,
    ) -> Stream<E, P, Enriched<I, T>, Then<Op, TemporalJoin<K, R, E, T>>>
    where
        I: Clone,
        E: 'static,
        R: Fn(&E) -> Option<Version<'_, T>>,
        T: Held + PartialEq,
    {
        self.stream.then(TemporalJoin::new(self.key, retention, reference))
    }
}

/// To the nearest instant that there is.
fn instant(t: i128) -> i64 {
    i64::try_from(t).unwrap_or(if t < 0 { i64::MIN } else { i64::MAX })
}
