//! Complex event processing: patterns as data, found in the events of each key. Semantics of Flink CEP.
//!
//! ```text
//! Pattern ─ compile ─ Nfa ──────────────┐
//! event ─ late? ─ sorted until the watermark ─ (event, time) ─ partial matches ─ after-match ─ Detected
//!                                                   └─ shared buffer
//! ```
//!
//! | file | what it holds |
//! |---|---|
//! | `pattern`, `predicate` | the pattern as data; its builder |
//! | `event` | what predicates see of an event |
//! | `limits`, `check`, `compiler`, `condition` | limits, errors; pattern -> NFA |
//! | `nfa`, `matcher` | partial matches: what an event, and time, do to them |
//! | `sharedbuffer` | the events that they refer to, each stored once |
//! | `aftermatch` | what a match removes |
//! | `operator`, `table` | keys, time; state |
//! | `introspection`, `dryrun` | the automaton for people; two patterns compared |
//!
//! ```
//! use millrace_core::cep::{Limits, Pattern, compile};
//!
//! // Patterns are edited as data; what can't be compiled says where and what to do.
//! let pattern: Pattern = serde_json::from_str(r#"{"pattern": [
//!     {"stage": "cart"},
//!     {"stage": "purchase", "contiguity": "not_followed_by"}
//! ]}"#).unwrap();
//! let error = compile(&pattern, Limits::default()).unwrap_err().to_string();
//! assert_eq!(error, r#"stage "purchase" is not_followed_by at the end of the pattern: give the pattern a `within`"#);
//! ```
//!
//! Invariant: the NFA knows no Kafka and no clock; time and events come in the order of time.

mod aftermatch;
mod check;
mod compiler;
mod condition;
mod dryrun;
mod event;
mod fields;
mod introspection;
mod limits;
mod matcher;
mod nfa;
mod operator;
mod pattern;
mod predicate;
mod sharedbuffer;
mod table;
#[cfg(test)]
mod tests;

pub use compiler::compile;
pub use dryrun::{DryMatch, DryRun, dry_run};
pub use event::{FieldValue, Fields, Json};
pub use introspection::{Graph, GraphState, LivePattern, Transition};
pub use limits::{CompileError, Limits, Overflow};
pub use matcher::Stages;
pub use nfa::Nfa;
pub use operator::{CepOperator, Counts, Detected};
pub use pattern::{AfterMatch, Body, Contiguity, Element, Inner, Pattern, Quantifier, Times, valid};
pub use predicate::{Agg, Op, Operand, Predicate, Scalar, field};
