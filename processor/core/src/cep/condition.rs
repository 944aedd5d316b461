//! Compiled predicates: stages are numbers, and evaluation allocates nothing.

use super::event::{FieldValue, Fields};
use super::predicate::{Agg, Op, Operand, Predicate, Scalar};
use super::sharedbuffer::{EntryId, SharedBuffer};

/// A predicate whose stages are resolved.
#[derive(Debug)]
pub(crate) struct Condition {
    test: Test,
    looks_back: bool,
}

#[derive(Debug)]
enum Test {
    Compare { op: Op, left: Term, right: Term },
    All(Vec<Test>),
    Any(Vec<Test>),
    Not(Box<Test>),
    Always(bool),
}

/// A value in a comparison.
#[derive(Debug)]
enum Term {
    Field(String),
    Const(Scalar),
    Agg { agg: Agg, stage: u16, of: String },
    Add(Vec<Term>),
}

/// What the partial match has taken so far.
pub(crate) struct History<'a, I> {
    pub(crate) buffer: &'a SharedBuffer<I>,
    pub(crate) last: Option<EntryId>,
}

impl<I> Clone for History<'_, I> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<I> Copy for History<'_, I> {}

impl Condition {
    /// Resolves stages; the error is the name of one that does not exist.
    pub(crate) fn new(predicate: &Predicate, stage: &impl Fn(&str) -> Option<u16>) -> Result<Self, String> {
        let test = Test::new(predicate, stage)?;
        Ok(Self { looks_back: test.looks_back(), test })
    }

    /// Whether it depends on what the partial match has taken.
    pub(crate) fn looks_back(&self) -> bool {
        self.looks_back
    }

    /// Whether the event satisfies it.
    pub(crate) fn holds<I: Fields>(&self, event: &I, history: History<'_, I>) -> bool {
        self.test.holds(event, history)
    }
}

impl Test {
    fn new(predicate: &Predicate, stage: &impl Fn(&str) -> Option<u16>) -> Result<Self, String> {
        let list = |items: &[Predicate]| items.iter().map(|p| Self::new(p, stage)).collect::<Result<_, _>>();
        Ok(match predicate {
            Predicate::Compare { op, left, right } => {
                Self::Compare { op: *op, left: Term::new(left, stage)?, right: Term::new(right, stage)? }
            }
            Predicate::And(all) => Self::All(list(all)?),
            Predicate::Or(any) => Self::Any(list(any)?),
            Predicate::Not(inner) => Self::Not(Box::new(Self::new(inner, stage)?)),
            Predicate::Always(always) => Self::Always(*always),
        })
    }

    fn looks_back(&self) -> bool {
        match self {
            Self::Compare { left, right, .. } => left.looks_back() || right.looks_back(),
            Self::All(tests) | Self::Any(tests) => tests.iter().any(Self::looks_back),
            Self::Not(inner) => inner.looks_back(),
            Self::Always(_) => false,
        }
    }

    fn holds<I: Fields>(&self, event: &I, history: History<'_, I>) -> bool {
        match self {
            Self::Compare { op, left, right } => {
                compare(*op, left.value(event, history), right.value(event, history))
            }
            Self::All(all) => all.iter().all(|c| c.holds(event, history)),
            Self::Any(any) => any.iter().any(|c| c.holds(event, history)),
            Self::Not(inner) => !inner.holds(event, history),
            Self::Always(always) => *always,
        }
    }
}

fn compare(op: Op, left: FieldValue<'_>, right: FieldValue<'_>) -> bool {
    use FieldValue::{Bool, Number, Text};
    let order = match (op, left, right) {
        (Op::Contains, Text(l), Text(r)) => return l.contains(r),
        (Op::StartsWith, Text(l), Text(r)) => return l.starts_with(r),
        (Op::Contains | Op::StartsWith, ..) => return false,
        // Not a number is unequal to everything.
        (Op::Ne, Number(l), Number(r)) => return l != r,
        (_, Number(l), Number(r)) => l.partial_cmp(&r),
        (Op::Eq, Text(l), Text(r)) => return l == r,
        (_, Text(l), Text(r)) => Some(l.cmp(r)),
        (_, Bool(l), Bool(r)) => Some(l.cmp(&r)),
        _ => None,
    };
    order.is_some_and(|order| match op {
        Op::Eq => order.is_eq(),
        Op::Ne => order.is_ne(),
        Op::Lt => order.is_lt(),
        Op::Le => order.is_le(),
        Op::Gt => order.is_gt(),
        Op::Ge => order.is_ge(),
        Op::Contains | Op::StartsWith => false,
    })
}

impl Term {
    fn new(operand: &Operand, stage: &impl Fn(&str) -> Option<u16>) -> Result<Self, String> {
        Ok(match operand {
            Operand::Field(name) => Self::Field(name.clone()),
            Operand::Const(value) => Self::Const(value.clone()),
            Operand::Agg { agg, stage: name, of } => Self::Agg {
                agg: *agg,
                stage: stage(name).ok_or_else(|| name.clone())?,
                of: of.clone().unwrap_or_default(),
            },
            Operand::Add(terms) => {
                Self::Add(terms.iter().map(|t| Self::new(t, stage)).collect::<Result<_, _>>()?)
            }
        })
    }

    fn looks_back(&self) -> bool {
        match self {
            Self::Agg { .. } => true,
            Self::Add(terms) => terms.iter().any(Self::looks_back),
            Self::Field(_) | Self::Const(_) => false,
        }
    }

    fn value<'a, I: Fields>(&'a self, event: &'a I, history: History<'a, I>) -> FieldValue<'a> {
        match self {
            Self::Field(name) => event.field(name),
            Self::Const(Scalar::Null) => FieldValue::Null,
            Self::Const(Scalar::Bool(value)) => FieldValue::Bool(*value),
            Self::Const(Scalar::Number(value)) => FieldValue::Number(*value),
            Self::Const(Scalar::Text(value)) => FieldValue::Text(value),
            Self::Agg { agg, stage, of } => aggregate(*agg, *stage, of, history),
            Self::Add(terms) => {
                let mut sum = 0.0;
                for term in terms {
                    match term.value(event, history) {
                        FieldValue::Number(value) => sum += value,
                        _ => return FieldValue::Null,
                    }
                }
                FieldValue::Number(sum)
            }
        }
    }
}

fn aggregate<'a, I: Fields>(agg: Agg, stage: u16, of: &str, history: History<'a, I>) -> FieldValue<'a> {
    let events =
        || history.buffer.latest_first(history.last).filter(move |(s, _)| *s == stage).map(|(_, e)| &e.event);
    let numbers = || {
        events().filter_map(|event| match event.field(of) {
            FieldValue::Number(value) => Some(value),
            _ => None,
        })
    };
    match agg {
        Agg::First => events().last().map_or(FieldValue::Null, |event| event.field(of)),
        Agg::Last => events().next().map_or(FieldValue::Null, |event| event.field(of)),
        Agg::Sum => FieldValue::Number(numbers().sum::<f64>() + 0.0),
        Agg::Min => numbers().reduce(f64::min).into(),
        Agg::Max => numbers().reduce(f64::max).into(),
        Agg::Avg => {
            let (sum, count) = numbers().fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
            (count > 0.0).then(|| sum / count).into()
        }
        // Limits keep the number exact in a float.
        Agg::Count => FieldValue::Number(events().map(|_| 1.0).sum()),
    }
}
