//! Process functions: a record at a time, with state and timers of its key. Flink's `KeyedProcessFunction`.
//!
//! A record finds the [state](Current) of its key, which is [`Default`] if there is none, and is nothing again as soon
//! as it equals the default. It may hand on any number of results, write to other topics, and set timers; a timer finds
//! the state of the key that it was set for. What a function keeps in its own fields is lost at a restart: state
//! beside that of the key belongs into [`ProcessFunction::states`].
//!
//! A record counts as done when the function has seen it, or as many times as it has results.
//!
//! ```
//! use millrace_core::params::NoParams;
//! use millrace_core::process::{Current, ProcessContext, ProcessFunction, Timer};
//! use millrace_core::stream::{Job, job};
//! use millrace_core::testing::Harness;
//! use millrace_core::time::TimeDomain;
//! use millrace_core::EventTime;
//!
//! /// Says which sensors have been silent for a minute.
//! struct Silence;
//!
//! impl<P> ProcessFunction<P, String> for Silence {
//!     type State = Option<i64>;
//!     type Out = String;
//!
//!     fn record(
//!         &mut self,
//!         _sensor: &String,
//!         at: EventTime,
//!         deadline: &mut Current<Option<i64>>,
//!         ctx: &mut ProcessContext<'_, '_, P, String>,
//!     ) {
//!         if let Some(old) = deadline.replace(at.0 + 60_000) {
//!             ctx.delete_timer(TimeDomain::Event, old);
//!         }
//!         ctx.register_timer(TimeDomain::Event, at.0 + 60_000);
//!     }
//!
//!     fn timer(
//!         &mut self,
//!         _timer: Timer,
//!         deadline: &mut Current<Option<i64>>,
//!         ctx: &mut ProcessContext<'_, '_, P, String>,
//!     ) {
//!         **deadline = None;
//!         ctx.collect(ctx.key().to_owned());
//!     }
//! }
//!
//! fn silent() -> Box<dyn Job<String>> {
//!     job::<String, NoParams>("silent", "Sensors that are silent.")
//!         .source(|sensor: &String| Some(sensor))
//!         .key_by(|sensor| sensor)
//!         .process(Silence)
//!         .to(|sensor| ("silent", sensor.as_str()))
//! }
//! let mut test = Harness::new(silent);
//! test.record(&"a".to_owned(), 0);
//! test.record(&"b".to_owned(), 0);
//! test.record(&"a".to_owned(), 30_000);
//! test.watermark(60_000);
//! assert_eq!(test.emitted("silent"), ["b"]);
//! ```

mod context;
mod function;
mod operator;
#[cfg(test)]
mod tests;

pub use context::{Current, ProcessContext};
pub use function::{MapWithState, ProcessFunction, Timer};
pub use operator::Process;

use crate::state::Ttl;
use crate::stream::{Keyed, Stream, Then};
use crate::time::EventTime;

#[allow(clippy::type_complexity)]
impl<E, P: Default, I, Op, K: Fn(&I) -> &str> Keyed<E, P, I, Op, K> {
    /// Hands each record to a function with state and timers of its key.
    pub fn process<F: ProcessFunction<P, I>>(
        self,
        function: F,
    ) -> Stream<E, P, F::Out, Then<Op, Process<K, F, F::State, F::Out>>> {
        self.stream.then(Process::new(self.key, function.ttl(&P::default()), function))
    }

    /// Makes one record of each, or none, with state of its key.
    ///
    /// ```
    /// use millrace_core::params::NoParams;
    /// use millrace_core::process::Current;
    /// use millrace_core::stream::job;
    ///
    /// job::<String, NoParams>("news", "Each word once.")
    ///     .source(|word: &String| Some(word))
    ///     .key_by(|word| word)
    ///     .map_with_state(|word, seen: &mut Current<bool>, _, _| {
    ///         (!std::mem::replace(&mut **seen, true)).then(|| word.clone())
    ///     })
    ///     .to(|word| ("news", word.as_str()));
    /// ```
    pub fn map_with_state<S, O, F>(
        self,
        map: F,
    ) -> Stream<E, P, O, Then<Op, Process<K, MapWithState<F, fn(&P) -> Ttl, S, O>, S, O>>>
    where
        S: Default + PartialEq + serde::Serialize + serde::de::DeserializeOwned,
        F: Fn(&I, &mut Current<S>, EventTime, &P) -> Option<O>,
    {
        self.process(MapWithState::new(map, None))
    }

    /// As [`Keyed::map_with_state`], with a time to live of the state that `ttl` reads from the parameters.
    pub fn map_with_state_ttl<S, O, F, T>(
        self,
        ttl: T,
        map: F,
    ) -> Stream<E, P, O, Then<Op, Process<K, MapWithState<F, T, S, O>, S, O>>>
    where
        T: Fn(&P) -> Ttl,
        S: Default + PartialEq + serde::Serialize + serde::de::DeserializeOwned,
        F: Fn(&I, &mut Current<S>, EventTime, &P) -> Option<O>,
    {
        self.process(MapWithState::new(map, Some(ttl)))
    }
}
