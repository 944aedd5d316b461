//! Keyed state: typed values in memory, serialised only when they have changed, and only at a commit.
//!
//! Entries may be [`Cold`]: then a table holds those that are in use, and reads the others when it needs them. What has
//! changed stays in memory until it is told, and what is clean is let go at the first use after a commit if there is too
//! much of it; what is used again and again stays. So memory holds as much as the cache may, and what one transaction
//! touches. State kinds that are bounded by something else than the number of keys take all of it into memory.
//!
//! A [`Table`] is named by its job and its place in the job: that is its namespace. Its entries travel to the changelog
//! and into snapshots as bytes: a key that the table chooses, and a value that starts with [`VERSION`].
//!
//! | state | per key | Flink |
//! |---|---|---|
//! | [`KeyedState`] | one value, as it is | |
//! | [`SortedState`] | values in the order of a second key, as they are | |
//! | [`ValueState`] | one value | `ValueState` |
//! | [`ListState`] | values in the order in which they came | `ListState` |
//! | [`MapState`] | values by a second key, in its order | `MapState` |
//! | [`ReducingState`] | one value, folded by a function of two values | `ReducingState` |
//! | [`AggregatingState`] | one accumulator of an [`Aggregate`](crate::window::Aggregate) | `AggregatingState` |
//!
//! The latter five may have a time to live ([`Ttl`]): per value, per element of a list, per entry of a map. What has
//! expired can't be seen any more, and is cleaned up in portions when time moves on.
//!
//! ```
//! use millrace_core::state::{MapState, Moment, Ttl};
//!
//! let mut logins = MapState::<String, u32>::with_ttl(Ttl::processing_time(60_000));
//! logins.set("ada", "laptop".to_owned(), 1, Moment::processing(0));
//! logins.set("ada", "phone".to_owned(), 2, Moment::processing(50_000));
//! assert_eq!(logins.entries("ada", Moment::processing(59_999)).count(), 2);
//! assert_eq!(logins.entries("ada", Moment::processing(60_000)).count(), 1);
//! ```
//!
//! # Compatibility rule
//!
//! As long as a table stays where it is (below), the bytes that a build wrote are read by every later build, or refused; they
//! are never read as something else.
//! - A value is one version byte and the fields of its type in order, all of it: bytes that are left over are refused, so a
//!   build refuses what a newer one has added.
//! - The type of a value does not change. One that may have to is an enum of its versions from the start; variants are only
//!   appended. Any other is a new state: the job takes a new name, and begins with no state at the offsets where the app
//!   stands. What the engine itself comes to know it writes as entries of their own, which an older build passes over.
//! - Another layout around the values is a new [`VERSION`], whose readers go on reading the older ones.
//!
//! Entries are named by their job, the position of their table among the job's tables, and their key. So operators with
//! state may be added to a job behind those that it has, and the last ones taken away; a job in which one is put before
//! others, or in which they change places, must take a new name: otherwise an operator is given the entries of another one,
//! which are refused only if they have no meaning to it. A table or a job that is no longer there is passed over.

mod cold;
mod keyed;
mod kinds;
mod map;
#[cfg(test)]
mod model;
#[cfg(test)]
mod old_bytes;
mod sorted;
mod ttl;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use cold::{Cold, ColdTable, Take, Visit};
pub use keyed::KeyedState;
pub(crate) use kinds::Access;
pub use kinds::{AggregatingState, ReducingState, ValueState};
pub use map::{ListState, MapKey, MapState};
pub use sorted::SortedState;
pub use ttl::{Moment, Refresh, Timed, Ttl};

/// First byte of every value.
pub const VERSION: u8 = 1;

/// State that can't be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum StateError {
    /// Bytes of another version.
    #[error(
        "state of version {0} can't be read by this build, which knows up to {VERSION}: use the build that wrote it"
    )]
    Version(u8),
    /// Bytes that are no state.
    #[error("state can't be decoded ({0}): it is damaged or belongs to another job")]
    Damaged(String),
}

/// Receives an entry: its key, and its value or `None` if it is gone.
pub type Change<'a> = dyn FnMut(&[u8], Option<&[u8]>) + 'a;

/// A table of state, as its owner sees it.
pub trait Table {
    /// Calls `change` for every entry that changed since the last call.
    fn changes(&mut self, change: &mut Change<'_>);
    /// Calls `entry` for every entry. Does not touch what [`Table::changes`] will say.
    fn snapshot(&self, entry: &mut Change<'_>);
    /// Puts an entry back, or takes it away.
    ///
    /// # Errors
    /// The bytes can't be read.
    fn load(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), StateError>;
    /// Gives an empty table its entries. Unless the kind of state has a better idea, all of them come into memory. The
    /// store is told what can't be read.
    fn attach(&mut self, cold: ColdTable) {
        cold.each(&mut |key, value| self.load(key, Some(value)));
    }
    /// The key of the records that an entry is of; `None`: it is of the table as a whole.
    ///
    /// # Errors
    /// The bytes can't be read.
    fn owner(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError>;
    /// What has been counted so far is another task's.
    fn count_anew(&mut self) {}
    /// Number of entries, in memory or not.
    fn len(&self) -> usize;
    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// State whose entries may expire.
pub trait State: Table {
    /// Forgets some of what has expired: a bounded number of entries, the oldest first.
    fn expire(&mut self, moment: Moment);
}

/// Where one value per key is kept. It may be a cache, which is why reading needs `&mut` and why a value is changed in
/// place rather than replaced.
pub trait Store<V>: Table {
    /// Shows some of the entries that were last told, other ones with each call, and all of them again and again. Those in
    /// memory alone are not among them.
    fn some(&mut self, entries: usize, entry: &mut dyn FnMut(&[u8], &V));

    /// The value of a key.
    fn get(&mut self, key: &[u8]) -> Option<&V>;

    /// Hands the value of a key to `change`, which leaves there what is to be kept (`None`: nothing) and says whether it
    /// has changed it.
    fn modify<R>(&mut self, key: &[u8], change: impl FnOnce(&mut Option<V>) -> (bool, R)) -> R;
}

/// Writes a value with its version into `out`, which is cleared first.
pub fn encode<T: Serialize>(value: &T, out: &mut Vec<u8>) {
    out.clear();
    out.push(VERSION);
    // Writing to memory fails only for types without a length, which state types do not have; the reader would say so.
    if let Ok(bytes) = postcard::to_extend(value, std::mem::take(out)) {
        *out = bytes;
    }
}

/// Reads what [`encode`] wrote.
///
/// # Errors
/// Another version, or bytes that are no `T`, or more than that.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, StateError> {
    match bytes.split_first() {
        Some((&VERSION, rest)) => match postcard::take_from_bytes(rest) {
            Ok((value, [])) => Ok(value),
            Ok((_, more)) => Err(StateError::Damaged(format!("{} bytes too many", more.len()))),
            Err(error) => Err(StateError::Damaged(error.to_string())),
        },
        Some((&version, _)) => Err(StateError::Version(version)),
        None => Err(StateError::Damaged("no bytes".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Counts {
        V1(u32),
        V2 { count: u32, last: i64 },
    }

    #[test]
    fn old_bytes_still_load() {
        // Written by version 1. These lines never change: a new version adds lines.
        let mut state = KeyedState::<(u32, String)>::default();
        state.load(b"k", Some(&[1, 5, 2, b'h', b'i'])).unwrap();
        assert_eq!(state.get(b"k"), Some(&(5, "hi".to_owned())));
        assert_eq!(state.load(b"k", Some(&[9, 5])), Err(StateError::Version(9)));
        assert!(matches!(state.load(b"k", Some(&[1, 0xff])), Err(StateError::Damaged(_))));
        state.load(b"k", None).unwrap();
        assert!(state.is_empty());

        let mut value = ValueState::<u32>::with_ttl(Ttl::processing_time(100));
        value.load(b"k", Some(&[1, 7, 20])).unwrap();
        assert_eq!(value.get("k", Moment::processing(109)), Some(&7));
        assert_eq!(value.get("k", Moment::processing(110)), None);

        let mut map = MapState::<String, u32>::default();
        map.load(&[1, 1, b'k', 1, b'a'], Some(&[1, 7, 0])).unwrap();
        assert_eq!(map.get("k", &"a".to_owned(), Moment::processing(0)), Some(&7));

        let mut list = ListState::<u32>::default();
        list.load(&[1, 1, b'k', 3], Some(&[1, 7, 0])).unwrap();
        list.add("k", 8, Moment::processing(0));
        assert_eq!(list.elements("k", Moment::processing(0)).copied().collect::<Vec<_>>(), [7, 8]);
    }

    #[test]
    fn a_type_that_may_change_is_an_enum_of_its_versions() {
        assert_eq!(decode::<Counts>(&[1, 0, 7]), Ok(Counts::V1(7)));
        let mut bytes = Vec::new();
        encode(&Counts::V2 { count: 7, last: -1 }, &mut bytes);
        assert_eq!(bytes, [1, 1, 7, 1]);
        assert!(matches!(decode::<Counts>(&[1, 2, 7]), Err(StateError::Damaged(_))), "from a newer build");
    }
}
