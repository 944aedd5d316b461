use serde::Serialize;
use serde::de::DeserializeOwned;

use super::function::{Collect, Incremental};
use super::operator::{WindowOperator, Windowed};
use super::trigger::Rules;
use super::{Aggregate, Trigger, WindowSpec};
use crate::stream::{Keyed, Stream, Then};
use crate::time::TimeDomain;

impl<E, P, I, Op, K: Fn(&I) -> &str> Keyed<E, P, I, Op, K> {
    /// Groups by window. `spec` is read again whenever the parameters change: open windows finish under their own, see
    /// [`Schedule`](crate::window::Schedule). What [`WindowSpec::validate`] refuses must be kept out by the limits of
    /// the parameters.
    #[allow(clippy::type_complexity)]
    pub fn window<S: Fn(&P) -> WindowSpec>(
        self,
        spec: S,
    ) -> Windows<E, P, I, Op, K, S, fn(&P) -> i64, fn(&I, &P) -> i64> {
        Windows {
            keyed: self,
            spec,
            lateness: |_| 0,
            gap: |_, _| 1,
            time: TimeDomain::Event,
            trigger: None,
            purging: false,
        }
    }

    /// Groups by session, with the gap in ms that `gap` finds for each record (at least 1), by the parameters in force when
    /// it comes: it may make an open session longer, and never shorter.
    #[allow(clippy::type_complexity)]
    pub fn session_window<G: Fn(&I, &P) -> i64>(
        self,
        gap: G,
    ) -> Windows<E, P, I, Op, K, fn(&P) -> WindowSpec, fn(&P) -> i64, G> {
        self.window::<fn(&P) -> WindowSpec>(|_| WindowSpec::SessionDynamic).gap(gap)
    }
}

/// A stream grouped by key and window.
///
/// ```
/// use millrace_core::params::NoParams;
/// use millrace_core::stream::{Job, job};
/// use millrace_core::testing::Harness;
/// use millrace_core::window::{Trigger, WindowSpec};
///
/// type Click = (String, u32);
/// fn sessions() -> Box<dyn Job<Click>> {
///     job::<Click, NoParams>("sessions", "Pages per visit.")
///         .source(|click: &Click| Some(click))
///         .key_by(|(user, _)| user)
///         .window(|_| WindowSpec::session(60_000))
///         .allowed_lateness(|_| 5_000)
///         .process(|visit, _| visit.value.iter().map(|(_, page)| *page).collect::<Vec<_>>())
///         .map(|visit, _, _| (visit.window.start, visit.window.end, visit.value.clone()))
///         .to(|_| ("visits", ""))
/// }
/// let mut test = Harness::new(sessions);
/// test.record(&("ann".into(), 7), 1_000);
/// test.record(&("ann".into(), 8), 31_000);
/// test.watermark(91_000);
/// assert_eq!(test.emitted("visits"), [serde_json::json!([1_000, 91_000, [7, 8]])]);
/// ```
pub struct Windows<E, P, I, Op, K, S, L, G> {
    keyed: Keyed<E, P, I, Op, K>,
    spec: S,
    lateness: L,
    gap: G,
    time: TimeDomain,
    trigger: Option<Trigger>,
    purging: bool,
}

impl<E, P, I, Op, K, S, L, G> Windows<E, P, I, Op, K, S, L, G>
where
    K: Fn(&I) -> &str,
    S: Fn(&P) -> WindowSpec,
    L: Fn(&P) -> i64,
    G: Fn(&I, &P) -> i64,
{
    /// How long after its end a window takes records, ms; each gives a result again. Means nothing in processing time.
    pub fn allowed_lateness<M: Fn(&P) -> i64>(self, lateness: M) -> Windows<E, P, I, Op, K, S, M, G> {
        let Self { keyed, spec, gap, time, trigger, purging, .. } = self;
        Windows { keyed, spec, lateness, gap, time, trigger, purging }
    }

    fn gap<H: Fn(&I, &P) -> i64>(self, gap: H) -> Windows<E, P, I, Op, K, S, L, H> {
        let Self { keyed, spec, lateness, time, trigger, purging, .. } = self;
        Windows { keyed, spec, lateness, gap, time, trigger, purging }
    }

    /// Which time the windows follow; [`TimeDomain::Event`] if not said.
    pub fn time(mut self, time: TimeDomain) -> Self {
        self.time = time;
        self
    }

    /// When windows fire; if not said, when the time they follow reaches their last instant.
    pub fn trigger(mut self, trigger: Trigger) -> Self {
        self.trigger = Some(trigger);
        self
    }

    /// Empties a window when it has fired: results are increments.
    pub fn purging(mut self) -> Self {
        self.purging = true;
        self
    }

    fn rules(&self) -> Rules {
        let plain = match self.time {
            TimeDomain::Event => Trigger::EventTime,
            TimeDomain::Processing => Trigger::ProcessingTime,
        };
        Rules { time: self.time, trigger: self.trigger.unwrap_or(plain), purging: self.purging }
    }

    /// Folds each window.
    #[allow(clippy::type_complexity)]
    pub fn aggregate<A: Aggregate<I>>(
        self,
        aggregate: A,
    ) -> Stream<E, P, Windowed<A::Out>, Then<Op, WindowOperator<K, S, L, G, Incremental<A>, A::Acc>>> {
        let rules = self.rules();
        let Self { keyed: Keyed { stream, key }, spec, lateness, gap, .. } = self;
        stream.then(WindowOperator::new(key, spec, lateness, gap, Incremental(aggregate), rules))
    }

    /// Keeps all records of a window and computes its result from them: those of a slice in the order in which they came,
    /// slices and merged sessions by time. Prefer [`Windows::aggregate`], which keeps less.
    #[allow(clippy::type_complexity)]
    pub fn process<O, F>(
        self,
        function: F,
    ) -> Stream<E, P, Windowed<O>, Then<Op, WindowOperator<K, S, L, G, Collect<F>, Vec<I>>>>
    where
        I: Clone + Serialize + DeserializeOwned,
        F: Fn(&Windowed<&[I]>, &P) -> O,
    {
        let rules = self.rules();
        let Self { keyed: Keyed { stream, key }, spec, lateness, gap, .. } = self;
        stream.then(WindowOperator::new(key, spec, lateness, gap, Collect(function), rules))
    }
}
