//! Drafts -> states: edges and what blocks them as bits.

use super::draft::{Draft, EdgeDraft, Not, Scope, Tail};
use super::{Compiler, START};
use crate::cep::limits::CompileError;
use crate::cep::nfa::{Edge, Ending, Guard, Nfa, Skip, State};
use crate::cep::pattern::{AfterMatch, Pattern};

impl Compiler {
    pub(super) fn finish(self, pattern: &Pattern, tails: &[Tail]) -> Result<Nfa, CompileError> {
        let skip = self.skip(&pattern.after_match)?;
        let mut states = Vec::with_capacity(self.drafts.len());
        for (number, draft) in self.drafts.iter().enumerate() {
            let ends: Vec<&Tail> = tails.iter().filter(|tail| tail.source == number).collect();
            states.push(self.state(draft, number, &ends, pattern.within)?);
        }
        Ok(Nfa {
            states,
            stages: self.stages.iter().map(|stage| stage.name.clone()).collect(),
            conditions: self.stages.into_iter().map(|stage| stage.text).collect(),
            within: pattern.within,
            skip,
            limits: self.limits,
        })
    }

    fn skip(&self, strategy: &AfterMatch) -> Result<Skip, CompileError> {
        let stage = |name: &String| {
            let at = self.stages.iter().position(|stage| *stage.name == **name);
            at.and_then(|at| u16::try_from(at).ok())
                .ok_or_else(|| CompileError::UnknownStage("`after_match`".to_owned(), name.clone()))
        };
        Ok(match strategy {
            AfterMatch::NoSkip => Skip::None,
            AfterMatch::ToNext => Skip::ToNext,
            AfterMatch::PastLast => Skip::PastLast,
            AfterMatch::ToFirst(name) => Skip::ToFirst(stage(name)?),
            AfterMatch::ToLast(name) => Skip::ToLast(stage(name)?),
        })
    }

    fn state(
        &self,
        draft: &Draft,
        number: usize,
        ends: &[&Tail],
        within: Option<i64>,
    ) -> Result<State, CompileError> {
        let mask = |wanted: &dyn Fn(&EdgeDraft) -> bool| {
            draft
                .edges
                .iter()
                .enumerate()
                .filter(|(_, e)| wanted(e))
                .fold(0, |bits, (i, _)| bits | 1_u64 << i)
        };
        let tagged =
            |greedy: &[usize]| mask(&|edge: &EdgeDraft| edge.tags.iter().any(|tag| greedy.contains(tag)));
        let mut guards: Vec<Guard> = Vec::new();
        let mut guard = |not: &Not, takes: u64, closes: u64| {
            // The same element on several edges is one guard.
            let condition = not.condition.clone();
            match guards.iter_mut().find(|g| g.stage == not.stage) {
                Some(same) => {
                    same.takes |= takes;
                    same.closes |= closes;
                }
                None => guards.push(Guard {
                    stage: not.stage,
                    condition,
                    only_next: not.only_next,
                    takes,
                    closes,
                }),
            }
        };
        let edges: Vec<Edge> = draft
            .edges
            .iter()
            .enumerate()
            .map(|(i, edge)| {
                let target = self.drafts.get(edge.target);
                Edge {
                    target: u32::try_from(edge.target).unwrap_or(u32::MAX),
                    stage: target.and_then(|target| target.stage).unwrap_or_default(),
                    step: edge.step,
                    condition: target
                        .and_then(|target| self.stages.get(target.stage?))
                        .and_then(|stage| stage.condition.clone()),
                    until: target.map(|target| target.until.clone()).unwrap_or_default(),
                    blocked_by: tagged(&edge.greedy) & !(1 << i),
                }
            })
            .collect();
        let end_bit = 1_u64 << edges.len();
        let mut accepting = false;
        let mut ending = None;
        // What a match waits for at its end blocks and closes like an edge.
        let mut end_blocked_by = 0;
        if number != START {
            for (i, edge) in draft.edges.iter().enumerate() {
                for not in &edge.nots {
                    guard(not, if not.only_next { 1 << i } else { 0 }, 1 << i);
                }
            }
            for tail in ends {
                let trailing = tail.nots.get(tail.crossed..).unwrap_or_default();
                if trailing.is_empty() {
                    accepting = true;
                    continue;
                }
                let never = trailing.iter().find(|not| !not.only_next);
                if let (Some(not), None) = (never, within) {
                    let name = self.stages.get(not.stage).map(|stage| stage.name.to_string());
                    return Err(CompileError::NotFollowedByWithoutWithin(name.unwrap_or_default()));
                }
                ending = Some(if never.is_some() { Ending::AfterWithin } else { Ending::AfterNext });
                end_blocked_by |= tagged(&tail.greedy);
                for not in &tail.nots {
                    guard(not, 0, end_bit);
                }
            }
            let all = u64::MAX;
            for (not, scope) in &draft.stops {
                let takes = match scope {
                    Scope::All => all,
                    Scope::Loop(number) => tagged(&[*number]),
                };
                guard(not, takes, all);
            }
        }
        let open = if ending.is_some() { end_bit | (end_bit - 1) } else { end_bit - 1 };
        Ok(State {
            stage: draft.stage.and_then(|stage| u16::try_from(stage).ok()),
            edges,
            guards,
            accepting,
            ending,
            end_blocked_by,
            open,
        })
    }
}
