//! Records that wait for their commit.
//!
//! The Kafka client makes a request for each partition as soon as its linger time is over, whoever waits for it or not, and its
//! threads spin while more is to be sent than may be under way. Nobody sees a record before its transaction is committed, so
//! they are handed to the client together: at the commit, or when there are enough for large batches.

use std::ops::Range;

use rdkafka::message::{OwnedHeaders, ToBytes};
use rdkafka::producer::BaseRecord;

/// Bytes that are worth handing over before the commit.
const ENOUGH: usize = 512 * 1024;

/// Records that wait for their commit, in order.
#[derive(Default)]
pub struct Outbox {
    topics: Vec<String>,
    bytes: Vec<u8>,
    records: Vec<Waiting>,
}

struct Waiting {
    /// Index in `topics`.
    topic: usize,
    partition: Option<i32>,
    key: Option<Range<usize>>,
    payload: Option<Range<usize>>,
    headers: Option<OwnedHeaders>,
}

impl Outbox {
    /// Adds a record. Returns whether there is enough to hand over.
    pub fn put<K: ToBytes + ?Sized, V: ToBytes + ?Sized>(&mut self, record: BaseRecord<'_, K, V>) -> bool {
        let BaseRecord { topic, partition, payload, key, headers, .. } = record;
        let known = self.topics.iter().position(|known| known == topic);
        let topic = known.unwrap_or_else(|| {
            self.topics.push(topic.to_owned());
            self.topics.len() - 1
        });
        let mut keep = |bytes: &[u8]| {
            let start = self.bytes.len();
            self.bytes.extend_from_slice(bytes);
            start..self.bytes.len()
        };
        let (key, payload) = (key.map(|key| keep(key.to_bytes())), payload.map(|p| keep(p.to_bytes())));
        self.records.push(Waiting { topic, partition, key, payload, headers });
        self.bytes.len() >= ENOUGH
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.records.clear();
    }

    /// Hands every record to `send`, and forgets them.
    ///
    /// # Errors
    /// Those of `send`; the records are forgotten all the same, because their transaction can't be committed any more.
    pub fn empty<E>(
        &mut self,
        mut send: impl FnMut(BaseRecord<'_, [u8], [u8]>) -> Result<(), E>,
    ) -> Result<(), E> {
        let (topics, bytes) = (&self.topics, &self.bytes);
        let of = |range: &Option<Range<usize>>| range.clone().and_then(|range| bytes.get(range));
        let sent = self.records.drain(..).try_for_each(|waiting| {
            let topic = topics.get(waiting.topic).map(String::as_str).unwrap_or_default();
            let mut record = BaseRecord::<[u8], [u8]>::to(topic);
            (record.partition, record.headers) = (waiting.partition, waiting.headers);
            (record.key, record.payload) = (of(&waiting.key), of(&waiting.payload));
            send(record)
        });
        self.clear();
        sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_out_as_they_went_in_and_once() {
        let mut outbox = Outbox::default();
        assert!(!outbox.put(BaseRecord::to("a").key("k").payload("v")));
        outbox.put(BaseRecord::<str, str>::to("b").partition(3).key("gone"));
        outbox.put(BaseRecord::<str, str>::to("a").payload(""));
        let mut seen = Vec::new();
        let mut see = |r: BaseRecord<'_, [u8], [u8]>| {
            seen.push((
                r.topic.to_owned(),
                r.partition,
                r.key.map(<[u8]>::to_vec),
                r.payload.map(<[u8]>::to_vec),
            ));
            Ok::<_, ()>(())
        };
        outbox.empty(&mut see).unwrap();
        outbox.empty(&mut see).unwrap();
        let bytes = |text: &str| Some(text.as_bytes().to_vec());
        assert_eq!(
            seen,
            [
                ("a".to_owned(), None, bytes("k"), bytes("v")),
                ("b".to_owned(), Some(3), bytes("gone"), None),
                ("a".to_owned(), None, None, bytes("")),
            ]
        );
        assert!(outbox.put(BaseRecord::<str, [u8]>::to("a").payload(&[0; ENOUGH])));
        assert_eq!(outbox.empty(|_| Err("full")), Err("full"));
        assert!(outbox.records.is_empty() && outbox.bytes.is_empty());
    }
}
