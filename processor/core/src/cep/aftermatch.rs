//! What happens to complete matches: held back, emitted, and what each one removes. Flink's `AfterMatchSkipStrategy`.

use super::matcher::{Found, Held, Matcher, Work};
use super::nfa::{Nfa, Skip};
use super::sharedbuffer::SharedBuffer;

/// What begins up to here goes.
#[derive(Clone, Copy)]
enum Bound {
    Including(u64),
    Before(u64),
}

impl Bound {
    fn covers(self, first: u64) -> bool {
        match self {
            Self::Including(last) => first <= last,
            Self::Before(end) => first < end,
        }
    }
}

impl Nfa {
    /// Emits the complete matches that nothing holds back.
    pub(crate) fn release<I: Clone>(
        &self,
        matcher: &mut Matcher<I>,
        work: &mut Work,
        out: &mut impl FnMut(Found<I>),
    ) {
        if matcher.held.is_empty() {
            return;
        }
        let Matcher { buffer, runs, held, .. } = matcher;
        if self.skip != Skip::None
            && runs.first().is_some_and(|run| held.iter().all(|held| run.first < held.first))
        {
            return;
        }
        if held.len() > 1 {
            sort(buffer, held);
        }
        if self.skip == Skip::None {
            for done in held.drain(..) {
                out(self.found(buffer, done.taken, (done.started, done.ended), false));
                buffer.release(done.taken);
            }
            return;
        }
        while let Some(next) = held.first() {
            if runs.first().is_some_and(|run| run.first < next.first) {
                break;
            }
            let done = held.remove(0);
            out(self.found(buffer, done.taken, (done.started, done.ended), false));
            let bound = self.bound(buffer, &done);
            runs.retain(|run| {
                let goes = bound.is_some_and(|bound| bound.covers(run.first));
                if goes {
                    work.ends(run.state);
                    run.taken.into_iter().for_each(|taken| buffer.release(taken));
                }
                !goes
            });
            held.retain(|other| {
                let goes = bound.is_some_and(|bound| bound.covers(other.first));
                if goes {
                    buffer.release(other.taken);
                }
                !goes
            });
            buffer.release(done.taken);
        }
    }

    fn bound<I>(&self, buffer: &SharedBuffer<I>, done: &Held) -> Option<Bound> {
        let mut events = buffer.latest_first(Some(done.taken));
        let of_stage = |stage: u16| move |(s, _): &(u16, _)| *s == stage;
        match self.skip {
            Skip::None => None,
            Skip::ToNext => Some(Bound::Including(done.first)),
            Skip::PastLast => events.next().map(|(_, event)| Bound::Including(event.seq)),
            Skip::ToFirst(stage) => {
                events.filter(of_stage(stage)).last().map(|(_, event)| Bound::Before(event.seq))
            }
            Skip::ToLast(stage) => events.find(of_stage(stage)).map(|(_, event)| Bound::Before(event.seq)),
        }
    }
}

/// By first event; then the one completed first; then the smallest list of events.
fn sort<I>(buffer: &SharedBuffer<I>, held: &mut [Held]) {
    held.sort_by_cached_key(|held| {
        let mut events: Vec<u64> = buffer.latest_first(Some(held.taken)).map(|(_, e)| e.seq).collect();
        events.reverse();
        (held.first, held.step, events)
    });
}
