//! The NFA and what it keeps per key. It acts on (event, time) and on time alone; it knows no clock. Flink's `NFA`.
//!
//! A partial match ([`Run`]) is what it has taken, the state it is in, and which edges out of that state are still open.
//! An event is offered to every open edge: it may be taken (a new partial match), and the edge stays open or closes. A
//! partial match without open edges is gone.

use std::borrow::Cow;
use std::sync::Arc;

use super::compiler::START;
use super::condition::{Condition, History};
use super::event::Fields;
use super::limits::{Limits, Overflow};
use super::matcher::{Found, Held, Matcher, Run, Stages, Work};
use super::sharedbuffer::{EntryId, SharedBuffer};

/// A compiled pattern, made by [`compile`](super::compile).
#[derive(Debug)]
pub struct Nfa {
    pub(crate) states: Vec<State>,
    pub(crate) stages: Vec<Arc<str>>,
    /// Text of the stages' conditions.
    pub(crate) conditions: Vec<String>,
    pub(crate) within: Option<i64>,
    pub(crate) skip: Skip,
    pub(crate) limits: Limits,
}

#[derive(Debug)]
pub(crate) struct State {
    /// `None`: the start.
    pub(crate) stage: Option<u16>,
    pub(crate) edges: Vec<Edge>,
    pub(crate) guards: Vec<Guard>,
    /// A match is complete on arrival here.
    pub(crate) accepting: bool,
    /// A match waits here to become complete; the bit behind those of the edges says whether it still may.
    pub(crate) ending: Option<Ending>,
    /// Edges of greedy loops: while one of them can take the event, the loop does not end here.
    pub(crate) end_blocked_by: u64,
    /// What is open on arrival.
    pub(crate) open: u64,
}

#[derive(Debug)]
pub(crate) struct Edge {
    pub(crate) target: u32,
    /// Of the target.
    pub(crate) stage: usize,
    pub(crate) step: Step,
    pub(crate) condition: Option<Arc<Condition>>,
    /// Of the loops around the target: such an event is neither taken nor skipped.
    pub(crate) until: Vec<Arc<Condition>>,
    /// Edges of greedy loops: while one of them can take the event, the loop does not end here.
    pub(crate) blocked_by: u64,
}

/// Contiguity towards what precedes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Strict,
    Relaxed,
    Any,
}

/// A `not_*` element.
#[derive(Debug)]
pub(crate) struct Guard {
    pub(crate) stage: usize,
    pub(crate) condition: Option<Arc<Condition>>,
    /// It concerns only the very next event.
    pub(crate) only_next: bool,
    /// These edges can't take an event that satisfies it.
    pub(crate) takes: u64,
    /// These close on it.
    pub(crate) closes: u64,
}

/// What a match waits for behind its last event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    AfterNext,
    AfterWithin,
}

/// [`AfterMatch`](super::AfterMatch) with stages as numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Skip {
    None,
    ToNext,
    PastLast,
    ToFirst(u16),
    ToLast(u16),
}

/// What is known of the event at hand: conditions that look at nothing else are evaluated once, however many partial
/// matches ask.
#[derive(Default)]
struct Known {
    asked: u64,
    holds: u64,
}

impl Known {
    fn holds<I: Fields>(
        &mut self,
        stage: usize,
        condition: Option<&Condition>,
        event: &I,
        history: History<'_, I>,
    ) -> bool {
        let Some(condition) = condition else { return true };
        if stage >= 64 || condition.looks_back() {
            return condition.holds(event, history);
        }
        let bit = 1 << stage;
        if self.asked & bit == 0 {
            self.asked |= bit;
            if condition.holds(event, history) {
                self.holds |= bit;
            }
        }
        self.holds & bit != 0
    }
}

/// Which open edges take the event, and what stays open.
struct Choices {
    takes: u64,
    open: u64,
}

impl Nfa {
    /// When the first partial match reaches its time limit.
    pub(crate) fn deadline<I>(&self, matcher: &Matcher<I>) -> Option<i64> {
        Some(matcher.runs.first()?.started.saturating_add(self.within?))
    }

    fn state(&self, number: u32) -> Option<&State> {
        self.states.get(number as usize)
    }

    fn choose<I: Fields>(
        state: &State,
        (open, fresh): (u64, bool),
        event: &I,
        history: History<'_, I>,
        known: &mut Known,
    ) -> Choices {
        let (mut barred, mut closes) = (0, 0);
        for guard in &state.guards {
            if (fresh || !guard.only_next)
                && guard.closes & open != 0
                && known.holds(guard.stage, guard.condition.as_deref(), event, history)
            {
                barred |= guard.takes;
                closes |= guard.closes;
            }
        }
        let (mut takes, mut stays) = (0, open);
        for (i, edge) in state.edges.iter().enumerate() {
            let bit = 1_u64 << i;
            if open & bit == 0 {
                continue;
            }
            if edge.until.iter().any(|until| until.holds(event, history)) {
                stays &= !bit;
                continue;
            }
            let satisfied = known.holds(edge.stage, edge.condition.as_deref(), event, history);
            if satisfied && barred & bit == 0 {
                takes |= bit;
            }
            if edge.step == Step::Strict || (edge.step == Step::Relaxed && satisfied) {
                stays &= !bit;
            }
        }
        if takes != 0 {
            let could = takes;
            for (i, edge) in state.edges.iter().enumerate() {
                if edge.blocked_by & could != 0 {
                    takes &= !(1 << i);
                    stays &= !(1 << i);
                }
            }
            if state.end_blocked_by & could != 0 {
                stays &= !(1 << state.edges.len());
            }
        }
        Choices { takes, open: stays & !closes }
    }

    /// Handles an event. Time has been [advanced](Nfa::advance) to `at`; events come in the order of (time, arrival).
    pub(crate) fn event<I: Fields + Clone>(
        &self,
        matcher: &mut Matcher<I>,
        event: Cow<'_, I>,
        at: i64,
        work: &mut Work,
        out: &mut impl FnMut(Found<I>),
    ) {
        matcher.step += 1;
        let Matcher { buffer, runs, held, step } = matcher;
        let step = *step;
        let mut known = Known::default();
        for mut run in runs.drain(..) {
            let Some(state) = self.state(run.state) else { continue };
            let history = History { buffer, last: run.taken };
            let Choices { takes, open } =
                Self::choose(state, (run.open, run.fresh), &*event, history, &mut known);
            (run.open, run.fresh) = (open, false);
            let (first, started, taken) = (run.first, run.started, run.taken);
            let end_bit = 1 << state.edges.len();
            if state.ending == Some(Ending::AfterNext)
                && run.open & end_bit != 0
                && let Some(taken) = taken
            {
                run.open &= !end_bit;
                buffer.retain(taken);
                held.push(Held { taken, first, step, started, ended: at });
            }
            if run.open != 0 {
                work.next.push(run);
            } else {
                work.ends(run.state);
                work.ended.extend(taken);
            }
            self.branch(state, takes, work, |run| Run { taken, first, started, ..run });
        }
        if let Some(start) = self.states.get(START) {
            let history = History { buffer, last: None };
            let Choices { takes, .. } = Self::choose(start, (start.open, true), &*event, history, &mut known);
            self.branch(start, takes, work, |run| Run { first: step, started: at, ..run });
        }
        std::mem::swap(runs, &mut work.next);
        if runs.iter().any(|run| run.fresh) {
            let event = buffer.store(event.into_owned(), step);
            runs.retain_mut(|run| {
                if !run.fresh {
                    return true;
                }
                let Some(state) = self.state(run.state) else { return false };
                let taken = buffer.take(event, state.stage.unwrap_or_default(), run.taken);
                run.taken = Some(taken);
                if state.accepting {
                    let &mut Run { first, started, .. } = run;
                    buffer.retain(taken);
                    held.push(Held { taken, first, step, started, ended: at });
                }
                if run.open == 0 {
                    work.ends(run.state);
                    buffer.release(taken);
                }
                run.open != 0
            });
        }
        work.ended.drain(..).for_each(|taken| buffer.release(taken));
        self.release(matcher, work, out);
        self.limit(matcher, work, out);
    }

    fn branch(&self, state: &State, takes: u64, work: &mut Work, make: impl Fn(Run) -> Run) {
        let mut rest = takes;
        while rest != 0 {
            let edge = state.edges.get(rest.trailing_zeros() as usize);
            rest &= rest - 1;
            if let Some((target, open)) = edge.and_then(|e| Some((e.target, self.state(e.target)?.open))) {
                work.begins(target);
                let run = Run { taken: None, state: target, open, fresh: true, first: 0, started: 0 };
                work.next.push(make(run));
            }
        }
    }

    /// Time goes on: partial matches whose time is over go, in the order of their time limits.
    pub(crate) fn advance<I: Fields + Clone>(
        &self,
        matcher: &mut Matcher<I>,
        to: i64,
        work: &mut Work,
        out: &mut impl FnMut(Found<I>),
    ) {
        while let Some(deadline) = self.deadline(matcher).filter(|deadline| *deadline <= to) {
            matcher.step += 1;
            let over = matcher.runs.partition_point(|run| {
                self.within.is_some_and(|within| run.started.saturating_add(within) <= deadline)
            });
            // `deadline` is that of the first, so there is at least one.
            for run in matcher.runs.drain(..over.max(1)) {
                work.ends(run.state);
                let (Some(state), Some(taken)) = (self.state(run.state), run.taken) else { continue };
                if state.ending == Some(Ending::AfterWithin) && run.open & (1 << state.edges.len()) != 0 {
                    matcher.held.push(Held {
                        taken,
                        first: run.first,
                        step: matcher.step,
                        started: run.started,
                        ended: deadline,
                    });
                } else {
                    out(self.found(&matcher.buffer, taken, (run.started, deadline), true));
                    matcher.buffer.release(taken);
                }
            }
            self.release(matcher, work, out);
        }
    }

    /// Keeps within the limits of a key.
    fn limit<I: Fields + Clone>(
        &self,
        matcher: &mut Matcher<I>,
        work: &mut Work,
        out: &mut impl FnMut(Found<I>),
    ) {
        let Limits { partial_matches, buffered_events, overflow, .. } = self.limits;
        loop {
            let Matcher { buffer, runs, held, .. } = matcher;
            let over = (runs.len() + held.len()).saturating_sub(partial_matches);
            let excess = match over {
                0 if buffer.len() <= buffered_events => return,
                // With each one that goes, held-back matches may be released, or events freed.
                1.. if held.is_empty() => over,
                _ => 1,
            };
            let mut dropped = 0;
            let mut drop = |run: &Run| {
                dropped += 1;
                work.ends(run.state);
                run.taken.into_iter().for_each(|taken| buffer.release(taken));
            };
            match overflow {
                Overflow::DropOldest => runs.drain(..excess.min(runs.len())).for_each(|run| drop(&run)),
                Overflow::RefuseNew => {
                    let mut stay = runs.iter().filter(|run| run.fresh).count().saturating_sub(excess);
                    runs.retain(|run| {
                        let stays = !run.fresh || stay > 0;
                        if !stays {
                            drop(run);
                        } else if run.fresh {
                            stay -= 1;
                        }
                        stays
                    });
                }
            }
            if dropped == 0 {
                let Some(held) = held.pop() else { return };
                buffer.release(held.taken);
                dropped = 1;
            }
            work.dropped += dropped;
            self.release(matcher, work, out);
        }
    }

    /// Forgets everything of a key. Returns how many partial and held-back matches that were.
    pub(crate) fn forget<I>(matcher: &mut Matcher<I>) -> u64 {
        let count = matcher.runs.len() + matcher.held.len();
        *matcher = Matcher { step: matcher.step, ..Matcher::default() };
        count as u64
    }

    /// The events of a match, by stage.
    pub(crate) fn found<I: Clone>(
        &self,
        buffer: &SharedBuffer<I>,
        taken: EntryId,
        (started, ended): (i64, i64),
        timed_out: bool,
    ) -> Found<I> {
        let mut stages: Vec<(u16, Vec<I>)> = Vec::new();
        for (stage, stored) in buffer.latest_first(Some(taken)) {
            match stages.iter_mut().find(|(s, _)| *s == stage) {
                Some((_, events)) => events.push(stored.event.clone()),
                None => stages.push((stage, vec![stored.event.clone()])),
            }
        }
        stages.sort_unstable_by_key(|(stage, _)| *stage);
        let stages = stages.into_iter().filter_map(|(stage, mut events)| {
            events.reverse();
            Some((self.stages.get(usize::from(stage))?.clone(), events))
        });
        Found { stages: Stages(stages.collect()), started, ended, timed_out }
    }

    /// Counts live partial matches again, after loading.
    pub(crate) fn count<I>(&self, matcher: &Matcher<I>, work: &mut Work) {
        work.live.resize(self.states.len(), 0);
        for run in &matcher.runs {
            work.begins(run.state);
        }
    }
}
