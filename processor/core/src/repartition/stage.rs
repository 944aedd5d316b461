use std::any::Any;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::message;
use crate::cep::LivePattern;
use crate::invariant::Stats;
use crate::job::{Chain, Descriptor, Job, Sink};
use crate::params::{Params, Refused};
use crate::state::Table;
use crate::stream::{Context, Operator, Scope, Stream};
use crate::task::Malformed;
use crate::time::{EventTime, Watermark};
use crate::transform::Identity;

/// The part of a job behind its repartition topic. Its event time is of its own: the [`Scope`] of each call has it.
pub trait SecondStage {
    /// The topic.
    fn topic(&self) -> &'static str;
    /// A record of the topic, as JSON.
    ///
    /// # Errors
    /// It can't be read.
    fn record(&mut self, record: &str, at: EventTime, scope: &mut Scope<'_>) -> Result<(), Malformed>;
    /// The watermark of the topic has risen.
    fn watermark(&mut self, scope: &mut Scope<'_>);
    /// Where event time stands: watermark and latest time seen. Told before the job starts.
    fn restore(&mut self, watermark: Watermark, max_seen: Option<i64>);
}

/// To the task of another key.
struct Forward<K> {
    topic: &'static str,
    key: K,
}

impl<P, I: Serialize, K: Fn(&I) -> &str> Sink<P, I> for Forward<K> {
    fn take(&mut self, record: &I, at: EventTime, ctx: &mut Context<'_, P>) {
        ctx.forward(self.topic, (self.key)(record), &message::record(at, ctx.origin, record));
    }
}

/// Both stages as one job.
struct Repartitioned<P, Op, K, I> {
    first: Chain<P, Op, Forward<K>>,
    second: Box<dyn Job<I>>,
    topic: &'static str,
    watermark: Watermark,
    max_seen: Option<i64>,
}

impl<E: 'static, P, I, Op> Stream<E, P, I, Op>
where
    P: Params + 'static,
    I: Serialize + DeserializeOwned + 'static,
    Op: Operator<P, E, Out = I> + 'static,
{
    /// Goes on in the task of the key, through `topic`, which must be a source of the app of kind
    /// [`Repartition`](crate::task::SourceKind::Repartition). Records must have a JSON form from which they can be read.
    /// Once per job.
    pub fn repartition<K: Fn(&I) -> &str + 'static>(
        self,
        topic: &'static str,
        key: K,
        then: impl FnOnce(Stream<I, P, I, Identity>) -> Box<dyn Job<I>>,
    ) -> Box<dyn Job<E>> {
        let second = Stream::new(self.descriptor.clone(), Identity);
        let first = Chain::new(self.descriptor, self.op, Forward { topic, key });
        Box::new(Repartitioned {
            first,
            second: then(second),
            topic,
            watermark: Watermark::NONE,
            max_seen: None,
        })
    }
}

impl<P, Op, K, I> Repartitioned<P, Op, K, I> {
    /// The second stage, and the scope as it is there.
    fn second<'a>(&'a mut self, scope: &'a mut Scope<'_>) -> (&'a mut dyn Job<I>, Scope<'a>) {
        let (watermark, max_seen) = (self.watermark, self.max_seen);
        let scope =
            Scope { now: scope.now, watermark, max_seen, origin: scope.origin, effects: &mut *scope.effects };
        (&mut *self.second, scope)
    }
}

impl<E, P, I, Op, K> Job<E> for Repartitioned<P, Op, K, I>
where
    E: 'static,
    P: Params,
    I: Serialize + DeserializeOwned,
    Op: Operator<P, E, Out = I>,
    K: Fn(&I) -> &str,
{
    fn descriptor(&self) -> &Descriptor {
        Job::<E>::descriptor(&self.first)
    }

    fn record(&mut self, event: &E, at: EventTime, scope: &mut Scope<'_>) {
        self.first.record(event, at, scope);
    }

    fn reference(&mut self, event: &dyn Any) {
        Job::<E>::reference(&mut self.first, event);
        self.second.reference(event);
    }

    fn watermark(&mut self, scope: &mut Scope<'_>) {
        Job::<E>::watermark(&mut self.first, scope);
    }

    fn processing_time(&mut self, scope: &mut Scope<'_>) {
        Job::<E>::processing_time(&mut self.first, scope);
        let (second, mut scope) = self.second(scope);
        second.processing_time(&mut scope);
    }

    fn flush(&mut self, scope: &mut Scope<'_>) {
        Job::<E>::flush(&mut self.first, scope);
        let (second, mut scope) = self.second(scope);
        second.flush(&mut scope);
    }

    fn start(&mut self, scope: &mut Scope<'_>) {
        Job::<E>::start(&mut self.first, scope);
        let (second, mut scope) = self.second(scope);
        second.start(&mut scope);
    }

    fn set_params(
        &mut self,
        version: i64,
        values: &Map<String, Value>,
        scope: &mut Scope<'_>,
    ) -> Result<(), Refused> {
        Job::<E>::set_params(&mut self.first, version, values, scope)?;
        let (second, mut scope) = self.second(scope);
        second.set_params(version, values, &mut scope)
    }

    fn load_params(&mut self, version: i64, values: &Map<String, Value>) -> Result<(), Refused> {
        Job::<E>::load_params(&mut self.first, version, values)?;
        self.second.load_params(version, values)
    }

    fn params(&self) -> Map<String, Value> {
        Job::<E>::params(&self.first)
    }

    fn params_version(&self) -> i64 {
        Job::<E>::params_version(&self.first)
    }

    fn tables(&mut self, visit: &mut dyn FnMut(&mut dyn Table)) {
        Job::<E>::tables(&mut self.first, visit);
        self.second.tables(visit);
    }

    fn patterns(&self, visit: &mut dyn FnMut(LivePattern<'_>)) {
        Job::<E>::patterns(&self.first, visit);
        self.second.patterns(visit);
    }

    fn stats(&self) -> Stats {
        Job::<E>::stats(&self.first) + self.second.stats()
    }

    fn restore_stats(&mut self, stats: Stats) {
        Job::<E>::restore_stats(&mut self.first, stats);
        self.second.restore_stats(Stats::default());
    }

    fn pending(&self) -> u64 {
        Job::<E>::pending(&self.first) + self.second.pending()
    }

    fn second_stage(&mut self) -> Option<&mut dyn SecondStage> {
        Some(self)
    }
}

impl<P, Op, K, I: DeserializeOwned> SecondStage for Repartitioned<P, Op, K, I> {
    fn topic(&self) -> &'static str {
        self.topic
    }

    fn record(&mut self, record: &str, at: EventTime, scope: &mut Scope<'_>) -> Result<(), Malformed> {
        let record =
            serde_json::from_str(record).map_err(|e| format!("not a record of {}: {e}", self.topic))?;
        self.max_seen = scope.max_seen;
        self.second.record(&record, at, scope);
        Ok(())
    }

    fn watermark(&mut self, scope: &mut Scope<'_>) {
        self.watermark = scope.watermark;
        self.second.watermark(scope);
    }

    fn restore(&mut self, watermark: Watermark, max_seen: Option<i64>) {
        (self.watermark, self.max_seen) = (watermark, max_seen);
    }
}
