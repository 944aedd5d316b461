//! Records of a partition, as Kafka stores and sends them: record batches of version 2.
//!
//! <https://kafka.apache.org/documentation/#recordbatch>

use std::io::Write;

use bytes::Bytes;
use lz4_flex::frame::{BlockMode, FrameEncoder, FrameInfo};
use rdkafka::message::{Headers, OwnedHeaders};

/// Batches of so many bytes are compressed: below, it saves nothing that a broker would notice.
const WORTH_COMPRESSING: usize = 1024;
const LZ4: i16 = 3;
const TRANSACTIONAL: i16 = 0x10;
/// Bytes from the attributes to the first record: what the checksum covers, besides the records.
const HEADER: usize = 40;

/// The identity of a producer: Kafka's id for it, and an epoch that changes with each transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Producer id.
    pub id: i64,
    /// Producer epoch.
    pub epoch: i16,
}

/// A record to add.
#[derive(Debug, Clone, Copy, Default)]
pub struct Content<'a> {
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value; `None`: a tombstone.
    pub value: Option<&'a [u8]>,
    /// Its headers.
    pub headers: Option<&'a OwnedHeaders>,
}

/// Records that wait to be sent, encoded.
#[derive(Debug, Default)]
pub struct Batch {
    records: Vec<u8>,
    count: i32,
    /// The record that is being encoded.
    record: Vec<u8>,
}

impl Batch {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of its records.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Adds a record.
    pub fn push(&mut self, content: Content<'_>) {
        let record = &mut self.record;
        record.clear();
        // Attributes, of which there are none, and the time since the batch's.
        record.extend([0, 0]);
        varint(record, i64::from(self.count));
        bytes(record, content.key);
        bytes(record, content.value);
        varint(record, content.headers.map_or(0, |headers| length(headers.count())));
        for header in content.headers.into_iter().flat_map(Headers::iter) {
            bytes(record, Some(header.key.as_bytes()));
            bytes(record, header.value);
        }
        varint(&mut self.records, length(record.len()));
        self.records.extend_from_slice(record);
        self.count += 1;
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.records.clear();
        self.count = 0;
    }

    /// Takes the records out, ready to be sent, created at `now_ms`, of which the first is number `sequence` of the producer in this
    /// partition. Returns how many there are.
    pub fn seal(&mut self, from: Identity, sequence: i32, now_ms: i64) -> (Bytes, i32) {
        let compressed = (self.records.len() >= WORTH_COMPRESSING).then(|| compress(&self.records)).flatten();
        let records = compressed.as_deref().unwrap_or(&self.records);
        let mut summed = Vec::with_capacity(HEADER + records.len());
        let attributes = TRANSACTIONAL | if compressed.is_some() { LZ4 } else { 0 };
        summed.extend(attributes.to_be_bytes());
        summed.extend((self.count - 1).to_be_bytes());
        // The times of the first record and of the newest.
        summed.extend(now_ms.to_be_bytes());
        summed.extend(now_ms.to_be_bytes());
        summed.extend(from.id.to_be_bytes());
        summed.extend(from.epoch.to_be_bytes());
        summed.extend(sequence.to_be_bytes());
        summed.extend(self.count.to_be_bytes());
        summed.extend_from_slice(records);

        let mut batch = Vec::with_capacity(21 + summed.len());
        // The offset is the broker's to give.
        batch.extend(0_i64.to_be_bytes());
        batch.extend(i32::try_from(9 + summed.len()).unwrap_or(i32::MAX).to_be_bytes());
        // No epoch of the leader is known; format 2.
        batch.extend((-1_i32).to_be_bytes());
        batch.push(2);
        batch.extend(crc32c::crc32c(&summed).to_be_bytes());
        batch.append(&mut summed);
        let count = self.count;
        self.clear();
        (batch.into(), count)
    }
}

fn compress(records: &[u8]) -> Option<Vec<u8>> {
    // Java's clients read independent blocks only.
    let frame = FrameInfo::new().block_mode(BlockMode::Independent);
    let mut encoder = FrameEncoder::with_frame_info(frame, Vec::with_capacity(records.len() / 2));
    encoder.write_all(records).ok()?;
    encoder.finish().ok()
}

fn length(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

/// Length and bytes; -1 for nothing.
fn bytes(to: &mut Vec<u8>, bytes: Option<&[u8]>) {
    varint(to, bytes.map_or(-1, |bytes| length(bytes.len())));
    to.extend_from_slice(bytes.unwrap_or_default());
}

/// Zigzag, seven bits a byte, the lowest first.
fn varint(to: &mut Vec<u8>, value: i64) {
    let mut left = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while left > 0x7f {
        to.push((left & 0x7f) as u8 | 0x80);
        left >>= 7;
    }
    to.push(left as u8);
}

#[cfg(test)]
mod tests {
    use kafka_protocol::records::{Compression, RecordBatchDecoder};
    use lz4_flex::frame::FrameDecoder;
    use rdkafka::message::Header;

    use super::*;

    const WHO: Identity = Identity { id: 4_000_000_001, epoch: 7 };

    fn decoded(mut batch: Bytes) -> Vec<kafka_protocol::records::Record> {
        let unpack = |bytes: &mut Bytes, compression: Compression| {
            if compression == Compression::None {
                return Ok(std::mem::take(bytes));
            }
            assert_eq!(compression, Compression::Lz4);
            let mut whole = Vec::new();
            std::io::copy(&mut FrameDecoder::new(&bytes[..]), &mut whole).unwrap();
            bytes.clear();
            Ok(Bytes::from(whole))
        };
        RecordBatchDecoder::decode_with_custom_compression(&mut batch, Some(unpack)).unwrap().records
    }

    #[test]
    fn another_implementation_reads_what_was_written() {
        let mut batch = Batch::default();
        let headers = OwnedHeaders::new()
            .insert(Header { key: "why", value: Some("late") })
            .insert(Header::<&str> { key: "none", value: None });
        batch.push(Content { key: Some(b"k"), value: Some(b"v"), headers: None });
        batch.push(Content { key: None, value: Some(b""), headers: Some(&headers) });
        batch.push(Content { key: Some(b"gone"), value: None, headers: None });
        let (sealed, count) = batch.seal(WHO, 41, 1_717_200_000_000);
        assert!(batch.is_empty() && count == 3);
        let records = decoded(sealed);
        let seen: Vec<_> =
            records.iter().map(|r| (r.sequence, r.key.as_deref(), r.value.as_deref())).collect();
        assert_eq!(
            seen,
            [
                (41, Some(&b"k"[..]), Some(&b"v"[..])),
                (42, None, Some(&b""[..])),
                (43, Some(&b"gone"[..]), None)
            ]
        );
        for record in &records {
            assert!(record.transactional && !record.control);
            assert_eq!(
                (record.producer_id, record.producer_epoch, record.timestamp),
                (WHO.id, WHO.epoch, 1_717_200_000_000)
            );
        }
        let found: Vec<_> = records[1].headers.iter().map(|(k, v)| (k.as_str(), v.as_deref())).collect();
        assert_eq!(found, [("why", Some(&b"late"[..])), ("none", None)]);
    }

    #[test]
    fn long_batches_are_compressed_and_come_out_whole() {
        let mut batch = Batch::default();
        let value = |n: usize| format!("{{\"user\":{n},\"amount\":{}}}", n * 7).repeat(n % 50);
        for n in 0..20_000_usize {
            batch.push(Content {
                key: Some(&n.to_be_bytes()),
                value: Some(value(n).as_bytes()),
                headers: None,
            });
        }
        let raw = batch.len();
        let (sealed, count) = batch.seal(WHO, 0, 0);
        assert!(sealed.len() < raw / 3 && count == 20_000, "{} of {raw}", sealed.len());
        for (n, record) in decoded(sealed).iter().enumerate() {
            assert_eq!(record.key.as_deref(), Some(&n.to_be_bytes()[..]));
            assert_eq!(record.value.as_deref(), Some(value(n).as_bytes()));
        }
    }

    #[test]
    fn varints_of_any_size() {
        for (value, expected) in [
            (0, vec![0]),
            (-1, vec![1]),
            (1, vec![2]),
            (-64, vec![0x7f]),
            (64, vec![0x80, 1]),
            (i64::MAX, vec![0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
        ] {
            let mut encoded = Vec::new();
            varint(&mut encoded, value);
            assert_eq!(encoded, expected, "{value}");
        }
    }
}
