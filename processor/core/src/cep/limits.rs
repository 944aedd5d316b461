//! What a pattern may be, and what the errors of the compiler say.

/// What a pattern and the state of one key may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Stages in a pattern.
    pub stages: usize,
    /// Groups inside of groups, and predicates inside of predicates.
    pub nesting: usize,
    /// Comparisons, operands and connectives in one predicate.
    pub predicate: usize,
    /// States of the NFA: a stage counts once for each repetition that is bounded.
    pub states: usize,
    /// Partial and held-back matches per key.
    pub partial_matches: usize,
    /// Events per key: as many may wait for the watermark, and as many may be held by partial matches.
    pub buffered_events: usize,
    /// What happens beyond the limit of partial matches, or of the events they hold.
    pub overflow: Overflow,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            stages: 32,
            nesting: 16,
            predicate: 256,
            states: 1_024,
            partial_matches: 1_000,
            buffered_events: 10_000,
            overflow: Overflow::DropOldest,
        }
    }
}

/// Which partial matches go when there are too many; they are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overflow {
    /// Those of that key which began first.
    DropOldest,
    /// The new ones.
    RefuseNew,
}

/// A pattern that can't be compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// No elements.
    #[error("{0} has no elements: give it at least one stage")]
    Empty(String),
    /// Two stages of one name.
    #[error("stage {0:?} exists twice: give each stage its own name")]
    DuplicateStage(String),
    /// The first of a chain has a contiguity.
    #[error("{0} is the first of its chain: leave out its contiguity")]
    ContiguityOfFirst(String),
    /// One that is not the first of its chain has none.
    #[error("{0} has no contiguity: say how it follows what precedes it, e.g. followed_by")]
    NoContiguity(String),
    /// A group that must not come.
    #[error("{0} is a group: only a stage can be not_next or not_followed_by")]
    NotGroup(String),
    /// A quantifier on something that must not come.
    #[error("stage {0:?} must not come, so it takes no quantifier: remove it")]
    NotQuantified(String),
    /// Numbers of times that can't be.
    #[error("{0} comes {1} to {2} times: the maximum must be at least 1 and at least the minimum")]
    Times(String, u32, u32),
    /// Until without a loop.
    #[error("{0} has `until` but no unbounded loop: remove `max`, or `until`")]
    UntilWithoutLoop(String),
    /// A trailing not_followed_by that would wait for ever.
    #[error("stage {0:?} is not_followed_by at the end of the pattern: give the pattern a `within`")]
    NotFollowedByWithoutWithin(String),
    /// A time span that can't be.
    #[error("the pattern's `within` is {0} ms: it must be above 0")]
    Within(i64),
    /// A stage that does not exist.
    #[error("{0} names stage {1:?}, which the pattern does not have")]
    UnknownStage(String, String),
    /// Beyond a limit.
    #[error("{place} has more than {limit} {what}: make it smaller")]
    Limit {
        /// Where.
        place: String,
        /// How many may be there.
        limit: usize,
        /// Of what.
        what: &'static str,
    },
}
