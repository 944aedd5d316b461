use datasketches::hash::value::raw_bytes;
use datasketches::hll::{HllSketch, HllType, HllUnion};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::InvalidAggregate;
use crate::time::EventTime;
use crate::window::Aggregate;

/// How many different keys, estimated by HyperLogLog (Flajolet and others, 2007).
///
/// The sketch is that of Apache DataSketches: MurmurHash3 with its fixed seed, and a serialised form that is the same in
/// Java, C++ and Go. Up to 3/32 of `2^lg_k` keys it holds their hashes and counts almost exactly; then it holds `2^lg_k`
/// bytes, with a standard error of `1.04 / sqrt(2^lg_k)` (1.6 % and 4 KiB at `lg_k` 12). The estimator is the composite
/// one, which does not depend on the order of the records.
///
/// ```
/// use millrace_core::aggregate::DistinctCount;
/// use millrace_core::time::EventTime;
/// use millrace_core::window::Aggregate;
///
/// let distinct = DistinctCount::new(12, |key: &String| key.as_str())?;
/// let mut acc = distinct.create();
/// for n in 0..300 {
///     distinct.add(&mut acc, &format!("sensor-{}", n % 100), EventTime(0));
/// }
/// assert_eq!(distinct.result(&acc), 100);
/// # Ok::<_, millrace_core::aggregate::InvalidAggregate>(())
/// ```
#[derive(Debug, Clone)]
pub struct DistinctCount<K> {
    empty: HllSketch,
    key: K,
}

impl<K> DistinctCount<K> {
    /// A sketch of `2^lg_k` registers over the bytes of a key.
    ///
    /// # Errors
    /// `lg_k` is not from 4 to 21.
    pub fn new<I, T: AsRef<[u8]> + ?Sized>(lg_k: u8, key: K) -> Result<Self, InvalidAggregate>
    where
        K: Fn(&I) -> &T,
    {
        let empty = HllSketch::new(lg_k, HllType::Hll8).map_err(|_| InvalidAggregate::LgK(lg_k))?;
        Ok(Self { empty, key })
    }
}

/// The accumulator of a [`DistinctCount`]. Few keys are a set of hashes, written in the order of their table: the bytes of
/// two equal sets may differ, what is counted does not.
#[derive(Debug, Clone, PartialEq)]
pub struct Distinct(HllSketch);

impl<I, T: AsRef<[u8]> + ?Sized, K: Fn(&I) -> &T> Aggregate<I> for DistinctCount<K> {
    type Acc = Distinct;
    type Out = u64;

    fn create(&self) -> Distinct {
        Distinct(self.empty.clone())
    }

    fn add(&self, acc: &mut Distinct, record: &I, _: EventTime) {
        acc.0.update(raw_bytes::from_slice((self.key)(record).as_ref()));
    }

    fn merge(&self, acc: &mut Distinct, other: &Distinct) {
        // The size is the one of a sketch that exists, so it is a valid one.
        if let Ok(mut union) = HllUnion::new(acc.0.lg_config_k()) {
            union.update(&acc.0);
            union.update(&other.0);
            acc.0 = union.to_sketch(HllType::Hll8);
        }
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn result(&self, acc: &Distinct) -> u64 {
        acc.0.composite_estimate().round() as u64
    }
}

impl Serialize for Distinct {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0.serialize())
    }
}

impl<'de> Deserialize<'de> for Distinct {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Distinct;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a serialised HLL sketch")
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Distinct, E> {
                HllSketch::deserialize(bytes).map(Distinct).map_err(E::custom)
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}
