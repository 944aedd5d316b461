//! Pattern -> NFA. Flink's `NFACompiler`, with another construction.
//!
//! A state means "an event has just been taken here" (a position automaton): bounded repetitions are unrolled, optional
//! elements become edges that pass them by, and `not_*` elements become guards on the edges that cross them. So there are
//! no empty transitions, and a partial match is one state with a set of edges that are still open.

mod draft;
mod finish;

use std::sync::Arc;

use super::condition::Condition;
use super::limits::{CompileError, Limits};
use super::nfa::{Nfa, Step};
use super::pattern::{Body, Contiguity, Element, Inner, Pattern, Quantifier, Times};
use super::predicate::Predicate;
pub(super) use draft::StageDraft;
use draft::{Draft, EdgeDraft, Entry, Fragment, Not, Scope, Tail};

/// Edges that leave one state; one bit of a word each, and one for the end.
const EDGES: usize = 63;

/// Compiles a pattern.
///
/// # Errors
/// What is wrong, where, and what to do.
pub fn compile(pattern: &Pattern, limits: Limits) -> Result<Nfa, CompileError> {
    let mut compiler =
        Compiler { limits, stages: Vec::new(), drafts: Vec::new(), loops: 0, until: Vec::new() };
    compiler.declare("the pattern", &pattern.elements, 0)?;
    if let Some(within) = pattern.within.filter(|within| *within <= 0) {
        return Err(CompileError::Within(within));
    }
    compiler.resolve(&pattern.elements)?;
    // The start: before any event.
    compiler.drafts.push(Draft::default());
    let whole = compiler.chain(&pattern.elements)?;
    let start = [Tail { source: START, nots: Vec::new(), crossed: 0, greedy: Vec::new() }];
    compiler.link(&start, &whole.entries, Step::Any)?;
    compiler.finish(pattern, &whole.tails)
}

/// The state before any event.
pub(crate) const START: usize = 0;

pub(super) type Shared = Arc<Condition>;

pub(super) struct Compiler {
    pub(super) limits: Limits,
    pub(super) stages: Vec<StageDraft>,
    drafts: Vec<Draft>,
    /// Loops so far; each unrolled copy of a loop is one of its own.
    loops: usize,
    /// Of the loops around the element at hand.
    until: Vec<Shared>,
}

pub(super) fn place(element: &Element) -> String {
    match &element.body {
        Body::Stage { name, .. } => format!("stage {name:?}"),
        Body::Group(elements) => match elements.first() {
            Some(first) => format!("the group that begins with {}", place(first)),
            None => "a group".to_owned(),
        },
    }
}

fn join<T: Clone>(a: &[T], b: &[T]) -> Vec<T> {
    a.iter().chain(b).cloned().collect()
}

/// `(min, max)`, and whether the element can be left out.
pub(super) fn repetitions(quantifier: &Quantifier) -> (u32, Option<u32>, bool) {
    let Times { min, max } = quantifier.times.unwrap_or(Times { min: 1, max: Some(1) });
    (min.max(1), max, quantifier.optional || min == 0)
}

impl Compiler {
    pub(super) fn limit(place: impl Into<String>, limit: usize, what: &'static str) -> CompileError {
        CompileError::Limit { place: place.into(), limit, what }
    }

    fn condition(&self, place: &str, predicate: &Predicate) -> Result<Shared, CompileError> {
        let number = |name: &str| {
            let at = self.stages.iter().position(|stage| *stage.name == *name)?;
            u16::try_from(at).ok()
        };
        Condition::new(predicate, &number)
            .map(Arc::new)
            .map_err(|unknown| CompileError::UnknownStage(place.to_owned(), unknown))
    }

    /// Compiles the conditions of the stages, whose names are all known now.
    fn resolve(&mut self, elements: &[Element]) -> Result<(), CompileError> {
        for element in elements {
            match &element.body {
                Body::Stage { name, condition: Some(predicate) } => {
                    let condition = self.condition(&place(element), predicate)?;
                    if let Some(stage) = self.stages.iter_mut().find(|stage| *stage.name == **name) {
                        stage.condition = Some(condition);
                    }
                }
                Body::Stage { .. } => {}
                Body::Group(inner) => self.resolve(inner)?,
            }
        }
        Ok(())
    }

    fn stage(&self, name: &str) -> usize {
        self.stages.iter().position(|stage| *stage.name == *name).unwrap_or_default()
    }

    fn not(&self, element: &Element) -> Option<Not> {
        let only_next = match element.contiguity? {
            Contiguity::NotNext => true,
            Contiguity::NotFollowedBy => false,
            _ => return None,
        };
        let Body::Stage { name, .. } = &element.body else { return None };
        let stage = self.stage(name);
        let condition = self.stages.get(stage).and_then(|stage| stage.condition.clone());
        Some(Not { stage, only_next, condition })
    }

    fn chain(&mut self, elements: &[Element]) -> Result<Fragment, CompileError> {
        let mut done: Option<Fragment> = None;
        for (i, element) in elements.iter().enumerate() {
            if let (Some(not), Some(before)) = (self.not(element), &mut done) {
                before.tails.iter_mut().for_each(|tail| tail.nots.push(not.clone()));
                if let Some((nots, _)) = &mut before.pass {
                    nots.push(not);
                }
                continue;
            }
            let behind: Vec<Not> =
                elements.iter().skip(i + 1).map_while(|element| self.not(element)).collect();
            let next = self.element(element, &behind)?;
            done = Some(match done {
                None => next,
                Some(before) => self.concatenate(before, next, step(element.contiguity))?,
            });
        }
        done.ok_or_else(|| CompileError::Empty("a group".to_owned()))
    }

    fn concatenate(
        &mut self,
        before: Fragment,
        next: Fragment,
        contiguity: Step,
    ) -> Result<Fragment, CompileError> {
        self.link(&before.tails, &next.entries, contiguity)?;
        let mut entries = before.entries;
        if let Some((nots, greedy)) = &before.pass {
            entries.extend(next.entries.iter().map(|entry| Entry {
                target: entry.target,
                step: Some(entry.step.unwrap_or(contiguity)),
                nots: join(nots, &entry.nots),
                tags: entry.tags.clone(),
                greedy: join(greedy, &entry.greedy),
            }));
        }
        let mut tails = next.tails;
        if let Some((nots, greedy)) = &next.pass {
            tails.extend(before.tails.iter().map(|tail| Tail {
                source: tail.source,
                crossed: tail.nots.len(),
                nots: join(&tail.nots, nots),
                greedy: join(&tail.greedy, greedy),
            }));
        }
        let pass = match (before.pass, next.pass) {
            (Some((a, b)), Some((c, d))) => Some((join(&a, &c), join(&b, &d))),
            _ => None,
        };
        Ok(Fragment { entries, tails, pass })
    }

    fn link(&mut self, tails: &[Tail], entries: &[Entry], contiguity: Step) -> Result<(), CompileError> {
        for tail in tails {
            for entry in entries {
                let label = self.label(tail.source);
                let Some(draft) = self.drafts.get_mut(tail.source) else { continue };
                if draft.edges.len() >= EDGES {
                    return Err(Self::limit(label, EDGES, "choices of what comes next"));
                }
                draft.edges.push(EdgeDraft {
                    target: entry.target,
                    step: entry.step.unwrap_or(contiguity),
                    nots: join(&tail.nots, &entry.nots),
                    tags: entry.tags.clone(),
                    greedy: join(&tail.greedy, &entry.greedy),
                });
            }
        }
        Ok(())
    }

    fn label(&self, state: usize) -> String {
        let stage = self.drafts.get(state).and_then(|draft| self.stages.get(draft.stage?));
        stage.map_or_else(|| "the start".to_owned(), |stage| format!("stage {:?}", stage.name))
    }

    /// An element with its quantifier. `behind` are the `not_*` elements that follow it.
    fn element(&mut self, element: &Element, behind: &[Not]) -> Result<Fragment, CompileError> {
        let quantifier = &element.quantifier;
        let (min, max, optional) = repetitions(quantifier);
        let unbounded = max.is_none();
        let inner = match quantifier.inner {
            Inner::Relaxed => Step::Relaxed,
            Inner::Strict => Step::Strict,
            Inner::Any => Step::Any,
        };
        // A `not_followed_by` behind a group holds inside of the second round, but not of the first.
        let apart = unbounded && min == 1 && matches!(element.body, Body::Group(_));
        let split = apart && behind.iter().any(|not| !not.only_next);
        let copies = max.unwrap_or(min + u32::from(split));
        let until = match &quantifier.until {
            Some(until) => Some(self.condition(&place(element), until)?),
            None => None,
        };
        let number = self.loops;
        self.loops += 1;
        self.until.extend(until.clone());
        let (mut entries, mut tails, mut last) = (Vec::new(), Vec::new(), Vec::<Tail>::new());
        let mut min = min;
        let mut nullable = optional;
        let mut rounds = Vec::new();
        for copy in 1..=copies {
            let first_state = self.drafts.len();
            let mut body = self.body(element)?;
            body.entries.iter_mut().for_each(|entry| entry.tags.push(number));
            if quantifier.greedy {
                body.tails.iter_mut().for_each(|tail| tail.greedy.push(number));
            }
            if body.pass.is_some() {
                // Rounds may be empty, so any smaller number of rounds that are not will do.
                (min, nullable) = (1, true);
            }
            self.link(&last, &body.entries, inner)?;
            if copy == 1 {
                entries.clone_from(&body.entries);
            }
            if copy == copies && unbounded {
                self.link(&body.tails, &body.entries, inner)?;
            }
            if copy >= min {
                tails.extend_from_slice(&body.tails);
            }
            rounds.push((copy, first_state..self.drafts.len(), body.tails.clone()));
            last = body.tails;
        }
        if until.is_some() {
            self.until.pop();
        }
        if unbounded || copies > 1 {
            self.stops(number, min, &rounds, behind);
        }
        let pass = nullable.then(|| (Vec::new(), if quantifier.greedy { vec![number] } else { Vec::new() }));
        Ok(Fragment { entries, tails, pass })
    }

    /// A `not_*` element behind a repeated one already holds between its repetitions.
    fn stops(
        &mut self,
        number: usize,
        min: u32,
        rounds: &[(u32, std::ops::Range<usize>, Vec<Tail>)],
        behind: &[Not],
    ) {
        for not in behind {
            for (copy, states, tails) in rounds {
                for state in states.clone() {
                    let Some(draft) = self.drafts.get_mut(state) else { continue };
                    let ends = tails.iter().any(|tail| tail.source == state);
                    let repeats = ends && draft.edges.iter().any(|edge| edge.tags.contains(&number));
                    if not.only_next {
                        if repeats && *copy >= min {
                            draft.stops.push((not.clone(), Scope::All));
                        }
                    } else if repeats {
                        draft.stops.push((not.clone(), Scope::Loop(number)));
                    } else if !ends && *copy > 1 {
                        draft.stops.push((not.clone(), Scope::All));
                    }
                }
            }
        }
    }

    /// An element, once.
    fn body(&mut self, element: &Element) -> Result<Fragment, CompileError> {
        match &element.body {
            Body::Group(elements) => self.chain(elements),
            Body::Stage { name, .. } => {
                if self.drafts.len() > self.limits.states {
                    return Err(Self::limit(
                        place(element),
                        self.limits.states,
                        "states, counting repetitions, with what precedes it",
                    ));
                }
                let target = self.drafts.len();
                let stage = Some(self.stage(name));
                self.drafts.push(Draft { stage, until: self.until.clone(), ..Draft::default() });
                let entry =
                    Entry { target, step: None, nots: Vec::new(), tags: Vec::new(), greedy: Vec::new() };
                let tail = Tail { source: target, nots: Vec::new(), crossed: 0, greedy: Vec::new() };
                Ok(Fragment { entries: vec![entry], tails: vec![tail], pass: None })
            }
        }
    }
}

fn step(contiguity: Option<Contiguity>) -> Step {
    match contiguity {
        Some(Contiguity::Next) => Step::Strict,
        Some(Contiguity::FollowedByAny) => Step::Any,
        _ => Step::Relaxed,
    }
}
