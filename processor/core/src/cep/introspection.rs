//! The automaton, and how many partial matches are where: for the page to draw.

use serde::Serialize;

use super::nfa::{Nfa, Step};
use super::operator::Counts;

/// A pattern of a job at work. What costs something, the [graph](LivePattern::graph), is made when it is asked for.
///
/// ```
/// use millrace_core::TimeDomain;
/// use millrace_core::cep::{Json, Pattern};
/// use millrace_core::params::NoParams;
/// use millrace_core::stream::job;
/// use millrace_core::testing::Harness;
///
/// let mut test = Harness::new(|| {
///     job::<Json, NoParams>("pairs", "Any two events.")
///         .source(|event: &Json| Some(event))
///         .key_by(|_| "all")
///         .pattern(|_| Pattern::begin("one").next("two"), TimeDomain::Processing)
///         .to(|_| ("pairs", "all"))
/// });
/// test.record(&Json::default(), 0);
/// test.job().patterns(&mut |pattern| {
///     let stages: Vec<_> = pattern.graph().unwrap().states.into_iter().map(|state| state.label).collect();
///     assert_eq!((stages, pattern.live), (vec!["start".to_owned(), "one".into(), "two".into()], &[0, 1, 0][..]));
/// });
/// ```
#[derive(Debug, Clone, Copy)]
pub struct LivePattern<'a> {
    pub(super) nfa: Option<&'a Nfa>,
    /// Live partial matches per state of the graph, over all keys of the task.
    pub live: &'a [u64],
    /// What the limits and changes of the pattern have taken.
    pub counts: Counts,
}

impl LivePattern<'_> {
    /// The automaton in force; none while there has not been a pattern that could be compiled.
    pub fn graph(&self) -> Option<Graph> {
        self.nfa.map(Nfa::graph)
    }
}

/// The states and transitions of a pattern.
///
/// ```
/// use millrace_core::cep::{Limits, Pattern, compile, field};
///
/// let pattern = Pattern::begin("small").where_(field("amount").lt(5.0))
///     .followed_by("large").where_(field("amount").gt(500.0));
/// let graph = compile(&pattern, Limits::default()).unwrap().graph();
/// assert_eq!(graph.states.len(), 3);
/// assert_eq!(graph.transitions[0].label, "amount > 500");
/// ```
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Graph {
    /// The start is number 0.
    pub states: Vec<GraphState>,
    /// In the order of the states that they leave, those of the start last.
    pub transitions: Vec<Transition>,
    /// Time limit of a match, ms.
    pub within: Option<i64>,
}

/// "An event has just been taken here", or the start.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GraphState {
    /// Its number.
    pub id: usize,
    /// The stage; none for the start.
    pub stage: Option<String>,
    /// Name for people: the stage, and which repetition if there are several.
    pub label: String,
    /// A match is complete here.
    pub accepting: bool,
    /// A match is complete here when something has not come: the `not_*` element at the end of the pattern.
    pub waiting: bool,
}

/// How a partial match gets from one state to another.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Transition {
    /// State.
    pub from: usize,
    /// State.
    pub to: usize,
    /// `start`, `next`, `followed_by`, `followed_by_any`.
    pub contiguity: &'static str,
    /// Condition of the event that is taken.
    pub label: String,
    /// What must not come in between.
    pub without: Vec<String>,
}

impl Nfa {
    /// The automaton, for people.
    pub fn graph(&self) -> Graph {
        let stage_of = |state: usize| self.states.get(state).and_then(|state| state.stage).map(usize::from);
        let name = |stage: usize| self.stages.get(stage).map_or("start", |name| name).to_owned();
        let text = |stage: usize| self.conditions.get(stage).cloned().unwrap_or_default();
        let mut states = Vec::with_capacity(self.states.len());
        let mut transitions = Vec::new();
        for (id, state) in self.states.iter().enumerate() {
            let stage = stage_of(id);
            let same: Vec<usize> = (0..self.states.len()).filter(|other| stage_of(*other) == stage).collect();
            let copy = same.iter().position(|other| *other == id).unwrap_or_default() + 1;
            let label = stage.map_or_else(|| "start".to_owned(), name);
            states.push(GraphState {
                id,
                stage: stage.map(name),
                label: if same.len() > 1 { format!("{label} #{copy}") } else { label },
                accepting: state.accepting,
                waiting: state.ending.is_some(),
            });
            for (i, edge) in state.edges.iter().enumerate() {
                let to = edge.target as usize;
                let guards = state.guards.iter().filter(|guard| guard.closes & (1 << i) != 0);
                transitions.push(Transition {
                    from: id,
                    to,
                    contiguity: match edge.step {
                        _ if stage.is_none() => "start",
                        Step::Strict => "next",
                        Step::Relaxed => "followed_by",
                        Step::Any => "followed_by_any",
                    },
                    label: stage_of(to).map(text).unwrap_or_default(),
                    without: guards
                        .map(|guard| format!("{}: {}", name(guard.stage), text(guard.stage)))
                        .collect(),
                });
            }
        }
        transitions.sort_by_key(|transition| transition.from == 0);
        Graph { states, transitions, within: self.within }
    }
}
