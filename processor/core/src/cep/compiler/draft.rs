//! What the compiler has in hand.

use std::sync::Arc;

use super::Shared;
use crate::cep::nfa::Step;

/// A stage whose condition is compiled when all names are known.
pub struct StageDraft {
    pub name: Arc<str>,
    pub text: String,
    pub condition: Option<Shared>,
}

/// A state in the making.
#[derive(Default)]
pub struct Draft {
    pub stage: Option<usize>,
    pub until: Vec<Shared>,
    pub edges: Vec<EdgeDraft>,
    pub stops: Vec<(Not, Scope)>,
}

pub struct EdgeDraft {
    pub target: usize,
    pub step: Step,
    pub nots: Vec<Not>,
    /// Loops that the edge enters or repeats.
    pub tags: Vec<usize>,
    /// Greedy loops that the edge leaves or passes by.
    pub greedy: Vec<usize>,
}

/// A `not_*` element.
#[derive(Clone)]
pub struct Not {
    pub stage: usize,
    pub only_next: bool,
    pub condition: Option<Shared>,
}

/// Which edges can't take an event that ends the partial match.
#[derive(Clone, Copy)]
pub enum Scope {
    Loop(usize),
    All,
}

/// A way into a fragment.
#[derive(Clone)]
pub struct Entry {
    pub target: usize,
    /// `None`: as the fragment itself follows what precedes.
    pub step: Option<Step>,
    pub nots: Vec<Not>,
    pub tags: Vec<usize>,
    pub greedy: Vec<usize>,
}

/// A state from which a fragment can be left.
#[derive(Clone)]
pub struct Tail {
    pub source: usize,
    pub nots: Vec<Not>,
    /// So many of `nots` have an element behind them: they do not trail.
    pub crossed: usize,
    pub greedy: Vec<usize>,
}

/// Part of an automaton.
pub struct Fragment {
    pub entries: Vec<Entry>,
    pub tails: Vec<Tail>,
    /// It can be left out: what one crosses then.
    pub pass: Option<(Vec<Not>, Vec<usize>)>,
}
