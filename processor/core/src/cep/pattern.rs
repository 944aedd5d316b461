//! A pattern as data, and the builder for jobs in Rust. Flink's `Pattern`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::compiler::compile;
use super::limits::{CompileError, Limits};
use super::predicate::Predicate;

/// A pattern: what to look for in the events of one key.
///
/// It reads and writes the shape of the conformance cases: `{pattern: [element, ..], within?, after_match?}`.
///
/// ```
/// use millrace_core::cep::{Pattern, field};
///
/// let built = Pattern::begin("high").where_(field("humidity").gt(70.0))
///     .followed_by("critical").where_(field("humidity").gt(80.0))
///     .within(600_000);
/// let read: Pattern = serde_json::from_str(r#"{
///     "pattern": [
///         {"stage": "high", "where": {"op": "gt", "left": {"field": "humidity"}, "right": {"const": 70}}},
///         {"stage": "critical", "contiguity": "followed_by",
///          "where": {"op": "gt", "left": {"field": "humidity"}, "right": {"const": 80}}}
///     ],
///     "within": 600000
/// }"#).unwrap();
/// assert_eq!(built, read);
/// assert_eq!(built.validate(), Ok(()));
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pattern {
    /// Its elements, one after the other.
    #[serde(rename = "pattern")]
    pub elements: Vec<Element>,
    /// Less than so many ms lie between the first and the last event of a match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<i64>,
    /// What a match does to those that overlap it.
    #[serde(default)]
    pub after_match: AfterMatch,
}

/// A stage, a group of elements, or something that must not come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "RawElement", into = "RawElement")]
#[schemars(with = "RawElement")]
pub struct Element {
    /// What it takes.
    pub body: Body,
    /// How it follows what precedes; none for the first of a chain.
    pub contiguity: Option<Contiguity>,
    /// How often.
    pub quantifier: Quantifier,
}

/// What an element takes.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// One event.
    Stage {
        /// Its name, unique in the pattern.
        name: String,
        /// The event satisfies it; without one every event does.
        condition: Option<Predicate>,
    },
    /// A chain of elements.
    Group(Vec<Element>),
}

/// How an element follows what precedes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Contiguity {
    /// It is the very next event.
    Next,
    /// Events that do not satisfy it are skipped, the first that does is taken.
    FollowedBy,
    /// Events that satisfy it may be skipped too: each choice is a match.
    FollowedByAny,
    /// The very next event does not satisfy it.
    NotNext,
    /// No event satisfies it until the next element's.
    NotFollowedBy,
}

impl Contiguity {
    /// Whether the element must not come.
    pub fn is_not(self) -> bool {
        matches!(self, Self::NotNext | Self::NotFollowedBy)
    }
}

/// How often an element comes. The default is exactly once.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Quantifier {
    /// How many times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<Times>,
    /// It may be left out.
    #[serde(default)]
    pub optional: bool,
    /// A loop does not end on an event that it could take.
    #[serde(default)]
    pub greedy: bool,
    /// How repetitions follow each other.
    #[serde(default)]
    pub inner: Inner,
    /// Ends an unbounded loop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Predicate>,
}

/// A number of repetitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Times {
    /// At least; 0 is 1 and optional.
    pub min: u32,
    /// At most; none is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
}

/// How repetitions follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Inner {
    /// As [`Contiguity::FollowedBy`].
    #[default]
    Relaxed,
    /// As [`Contiguity::Next`].
    Strict,
    /// As [`Contiguity::FollowedByAny`].
    Any,
}

/// What an emitted match removes. Flink's `AfterMatchSkipStrategy`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "RawAfterMatch", into = "RawAfterMatch")]
#[schemars(with = "RawAfterMatch")]
pub enum AfterMatch {
    /// Nothing: all matches.
    #[default]
    NoSkip,
    /// What begins with the same event.
    ToNext,
    /// What begins before the match ends.
    PastLast,
    /// What begins before the first event of this stage.
    ToFirst(String),
    /// What begins before the last event of this stage.
    ToLast(String),
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Element")]
struct RawElement {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stage: Option<String>,
    #[serde(rename = "where", default, skip_serializing_if = "Option::is_none")]
    condition: Option<Predicate>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    group: Option<Vec<Element>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    contiguity: Option<Contiguity>,
    #[serde(default)]
    quantifier: Quantifier,
}

impl TryFrom<RawElement> for Element {
    type Error = &'static str;

    fn try_from(raw: RawElement) -> Result<Self, Self::Error> {
        let body = match (raw.stage, raw.group, raw.condition) {
            (Some(name), None, condition) => Body::Stage { name, condition },
            (None, Some(elements), None) => Body::Group(elements),
            (None, Some(_), Some(_)) => return Err("a group takes no `where`: give it to its stages"),
            _ => return Err("an element has either `stage` or `group`"),
        };
        Ok(Self { body, contiguity: raw.contiguity, quantifier: raw.quantifier })
    }
}

impl From<Element> for RawElement {
    fn from(element: Element) -> Self {
        let (stage, condition, group) = match element.body {
            Body::Stage { name, condition } => (Some(name), condition, None),
            Body::Group(elements) => (None, None, Some(elements)),
        };
        Self { stage, condition, group, contiguity: element.contiguity, quantifier: element.quantifier }
    }
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Strategy {
    NoSkip,
    ToNext,
    PastLast,
    ToFirst,
    ToLast,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "AfterMatch")]
struct RawAfterMatch {
    strategy: Strategy,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stage: Option<String>,
}

impl TryFrom<RawAfterMatch> for AfterMatch {
    type Error = &'static str;

    fn try_from(raw: RawAfterMatch) -> Result<Self, Self::Error> {
        match (raw.strategy, raw.stage) {
            (Strategy::NoSkip, None) => Ok(Self::NoSkip),
            (Strategy::ToNext, None) => Ok(Self::ToNext),
            (Strategy::PastLast, None) => Ok(Self::PastLast),
            (Strategy::ToFirst, Some(stage)) => Ok(Self::ToFirst(stage)),
            (Strategy::ToLast, Some(stage)) => Ok(Self::ToLast(stage)),
            _ => Err("to_first and to_last name a stage, other strategies do not"),
        }
    }
}

impl From<AfterMatch> for RawAfterMatch {
    fn from(after: AfterMatch) -> Self {
        let (strategy, stage) = match after {
            AfterMatch::NoSkip => (Strategy::NoSkip, None),
            AfterMatch::ToNext => (Strategy::ToNext, None),
            AfterMatch::PastLast => (Strategy::PastLast, None),
            AfterMatch::ToFirst(stage) => (Strategy::ToFirst, Some(stage)),
            AfterMatch::ToLast(stage) => (Strategy::ToLast, Some(stage)),
        };
        Self { strategy, stage }
    }
}

impl Pattern {
    /// Starts with a stage. `where_` and quantifiers apply to the element added last.
    pub fn begin(stage: impl Into<String>) -> Self {
        Self { elements: Vec::new(), within: None, after_match: AfterMatch::NoSkip }.stage(stage, None)
    }

    /// Starts with a group: the elements of another pattern.
    pub fn begin_group(group: Self) -> Self {
        Self { elements: Vec::new(), within: None, after_match: AfterMatch::NoSkip }.add(group, None)
    }

    fn push(mut self, body: Body, contiguity: Option<Contiguity>) -> Self {
        self.elements.push(Element { body, contiguity, quantifier: Quantifier::default() });
        self
    }

    fn stage(self, name: impl Into<String>, contiguity: Option<Contiguity>) -> Self {
        self.push(Body::Stage { name: name.into(), condition: None }, contiguity)
    }

    fn add(self, group: Self, contiguity: Option<Contiguity>) -> Self {
        self.push(Body::Group(group.elements), contiguity)
    }

    fn quantify(mut self, change: impl FnOnce(&mut Quantifier)) -> Self {
        if let Some(last) = self.elements.last_mut() {
            change(&mut last.quantifier);
        }
        self
    }

    /// The last stage's events satisfy it, and what was given before. Has no effect on a group.
    pub fn where_(mut self, predicate: Predicate) -> Self {
        if let Some(Element { body: Body::Stage { condition, .. }, .. }) = self.elements.last_mut() {
            *condition = Some(match condition.take() {
                None => predicate,
                Some(before) => Predicate::And(vec![before, predicate]),
            });
        }
        self
    }

    /// See [`Contiguity::Next`].
    pub fn next(self, stage: impl Into<String>) -> Self {
        self.stage(stage, Some(Contiguity::Next))
    }

    /// See [`Contiguity::FollowedBy`].
    pub fn followed_by(self, stage: impl Into<String>) -> Self {
        self.stage(stage, Some(Contiguity::FollowedBy))
    }

    /// See [`Contiguity::FollowedByAny`].
    pub fn followed_by_any(self, stage: impl Into<String>) -> Self {
        self.stage(stage, Some(Contiguity::FollowedByAny))
    }

    /// See [`Contiguity::NotNext`].
    pub fn not_next(self, stage: impl Into<String>) -> Self {
        self.stage(stage, Some(Contiguity::NotNext))
    }

    /// See [`Contiguity::NotFollowedBy`].
    pub fn not_followed_by(self, stage: impl Into<String>) -> Self {
        self.stage(stage, Some(Contiguity::NotFollowedBy))
    }

    /// A group of the elements of another pattern.
    pub fn group(self, group: Self, contiguity: Contiguity) -> Self {
        self.add(group, Some(contiguity))
    }

    /// Exactly so many times.
    pub fn times(self, times: u32) -> Self {
        self.quantify(|q| q.times = Some(Times { min: times, max: Some(times) }))
    }

    /// From `min` to `max` times.
    pub fn times_range(self, min: u32, max: u32) -> Self {
        self.quantify(|q| q.times = Some(Times { min, max: Some(max) }))
    }

    /// `min` times or more.
    pub fn times_or_more(self, min: u32) -> Self {
        self.quantify(|q| q.times = Some(Times { min, max: None }))
    }

    /// Once or more.
    pub fn one_or_more(self) -> Self {
        self.times_or_more(1)
    }

    /// May be left out.
    pub fn optional(self) -> Self {
        self.quantify(|q| q.optional = true)
    }

    /// See [`Quantifier::greedy`].
    pub fn greedy(self) -> Self {
        self.quantify(|q| q.greedy = true)
    }

    /// Repetitions follow each other directly.
    pub fn consecutive(self) -> Self {
        self.quantify(|q| q.inner = Inner::Strict)
    }

    /// Repetitions may be left out: each combination is a match.
    pub fn allow_combinations(self) -> Self {
        self.quantify(|q| q.inner = Inner::Any)
    }

    /// See [`Quantifier::until`].
    pub fn until(self, predicate: Predicate) -> Self {
        self.quantify(|q| q.until = Some(predicate))
    }

    /// See [`Pattern::within`], ms.
    pub fn within(mut self, ms: i64) -> Self {
        self.within = Some(ms);
        self
    }

    /// See [`AfterMatch`].
    pub fn after_match(mut self, strategy: AfterMatch) -> Self {
        self.after_match = strategy;
        self
    }

    /// Whether it can be compiled, within the default [`Limits`].
    ///
    /// # Errors
    /// What is wrong, where, and what to do.
    pub fn validate(&self) -> Result<(), CompileError> {
        self.validate_within(Limits::default())
    }

    /// Whether it can be compiled within these limits.
    ///
    /// # Errors
    /// As [`Pattern::validate`].
    pub fn validate_within(&self, limits: Limits) -> Result<(), CompileError> {
        compile(self, limits).map(drop)
    }
}

/// For parameters: `#[garde(custom(millrace_core::cep::valid))]`. An operator with limits of its own
/// ([`Keyed::pattern_within`](crate::stream::Keyed::pattern_within)) needs a function of its own with [`Pattern::validate_within`].
///
/// # Errors
/// As [`Pattern::validate`].
pub fn valid(pattern: &Pattern, _: &()) -> garde::Result {
    pattern.validate().map_err(garde::Error::new)
}
