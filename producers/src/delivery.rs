//! What became of the records handed to Kafka: counted when Kafka says so, not when they are handed over.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use millrace_service::{KafkaArgs, clock};
use rdkafka::client::ClientContext;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, ProducerContext};

/// Without an acknowledgement for this long, milliseconds, delivery counts as failing. A change of leader takes less.
const STALL_MS: i64 = 5_000;
/// A refused record is shown as an error for this long, milliseconds.
const SHOW_MS: i64 = 10_000;

/// Counts of one stream, shared between its thread, Kafka's callbacks and telemetry.
#[derive(Debug, Default)]
pub struct Deliveries {
    /// Records acknowledged.
    pub produced: AtomicU64,
    /// Bytes of their values.
    pub bytes: AtomicU64,
    /// Records refused.
    pub failed: AtomicU64,
    /// Records handed over and not yet acknowledged.
    pub in_flight: AtomicU64,
    /// When Kafka last acknowledged something, or had nothing to acknowledge: epoch ms.
    progress_ms: AtomicI64,
    trouble: Mutex<Trouble>,
}

#[derive(Debug, Default)]
struct Trouble {
    /// What the client said last about its connections.
    connection: Option<String>,
    /// The last refusal and when.
    refusal: Option<(i64, String)>,
}

impl Deliveries {
    /// Notes how much is under way.
    pub fn under_way(&self, records: u64, now_ms: i64) {
        self.in_flight.store(records, Relaxed);
        if records == 0 {
            self.progress_ms.store(now_ms, Relaxed);
        }
    }

    /// Why delivery is failing now, if it is.
    pub fn error(&self, now_ms: i64) -> Option<String> {
        let trouble = self.trouble.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (waiting, silent) = (self.in_flight.load(Relaxed), now_ms - self.progress_ms.load(Relaxed));
        if waiting > 0 && silent > STALL_MS {
            let reason = trouble.connection.as_deref().unwrap_or("no error reported");
            return Some(format!(
                "Kafka has acknowledged nothing for {} s ({reason}): {waiting} records are kept and sent when it \
                 answers; the stream pauses when the buffer is full",
                silent / 1_000
            ));
        }
        trouble.refusal.as_ref().filter(|(at, _)| now_ms - at < SHOW_MS).map(|(_, text)| text.clone())
    }

    fn acknowledged(&self, bytes: usize) {
        self.produced.fetch_add(1, Relaxed);
        self.bytes.fetch_add(bytes as u64, Relaxed);
        self.progress_ms.store(clock::now_ms(), Relaxed);
    }

    fn refused(&self, error: &KafkaError) {
        if self.failed.fetch_add(1, Relaxed) == 0 {
            tracing::error!(%error, "Kafka refused a record; further refusals are only counted");
        }
        let mut trouble = self.trouble.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        trouble.refusal = Some((clock::now_ms(), format!("Kafka refused a record: {error}")));
    }
}

/// Receives Kafka's callbacks for one stream.
pub struct Context(Arc<Deliveries>);

impl ClientContext for Context {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(%error, reason, "the Kafka client reports trouble, and goes on trying");
        let mut trouble = self.0.trouble.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // librdkafka counts more brokers than there are: its bootstrap and coordinator connections too.
        let all_down = error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown);
        trouble.connection = Some(if all_down { "no broker can be reached" } else { reason }.to_owned());
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(message) => self.0.acknowledged(message.payload_len()),
            Err((error, _)) => self.0.refused(error),
        }
    }
}

/// The producer of one stream: idempotent, with Java's partitioner. No record expires: while Kafka is away the bounded
/// buffer fills and the stream waits, so that what was generated once arrives once and in order.
///
/// # Errors
/// The client can't be made from these settings.
pub fn producer(
    kafka: &KafkaArgs,
    client_id: &str,
    counts: Arc<Deliveries>,
) -> KafkaResult<BaseProducer<Context>> {
    kafka
        .producer(client_id)
        // What a tick sends goes out together.
        .set("linger.ms", "5")
        .set("message.timeout.ms", "0")
        .set("queue.buffering.max.messages", "100000")
        .set("queue.buffering.max.kbytes", "32768")
        .create_with_context(Context(counts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_an_error_only_while_something_waits() {
        let counts = Deliveries::default();
        counts.under_way(0, 1_000);
        assert_eq!(counts.error(100_000), None, "an idle stream is well");
        counts.under_way(7, 1_000);
        assert_eq!(counts.error(3_000), None);
        let text = counts.error(8_000).unwrap();
        assert!(
            text.starts_with("Kafka has acknowledged nothing for 7 s") && text.contains("7 records"),
            "{text}"
        );
        counts.under_way(0, 9_000);
        assert_eq!(counts.error(9_000), None);
    }

    #[test]
    fn a_refusal_is_counted_and_shown_for_a_while() {
        let counts = Deliveries::default();
        counts.refused(&KafkaError::Canceled);
        let now = clock::now_ms();
        assert_eq!(counts.failed.load(Relaxed), 1);
        assert!(counts.error(now).unwrap().starts_with("Kafka refused a record"));
        assert_eq!(counts.error(now + SHOW_MS + 1), None);
    }
}
