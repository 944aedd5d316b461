//! Predicates as data: `{op, left, right}`, `{and: [..]}`, `{or: [..]}`, `{not: p}`, `{always: bool}`.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A condition on an event, and on what its partial match has taken before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "RawPredicate", into = "RawPredicate")]
#[schemars(with = "RawPredicate")]
pub enum Predicate {
    /// Compares two values. False if one is null or they are of different types.
    Compare {
        /// How.
        op: Op,
        /// Left side.
        left: Operand,
        /// Right side.
        right: Operand,
    },
    /// All of them; true if there are none.
    And(Vec<Predicate>),
    /// One of them; false if there are none.
    Or(Vec<Predicate>),
    /// The opposite.
    Not(Box<Predicate>),
    /// Always or never.
    Always(bool),
}

/// How two values are compared. Text compares byte by byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// Equal.
    Eq,
    /// Not equal.
    Ne,
    /// Less.
    Lt,
    /// Less or equal.
    Le,
    /// Greater.
    Gt,
    /// Greater or equal.
    Ge,
    /// The left text contains the right one.
    Contains,
    /// The left text starts with the right one.
    StartsWith,
}

/// A value in a comparison.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "RawOperand", into = "RawOperand")]
#[schemars(with = "RawOperand")]
pub enum Operand {
    /// A field of the current event.
    Field(String),
    /// A constant.
    Const(Scalar),
    /// Something about the events that this partial match has taken for a stage, before the current one.
    Agg {
        /// What.
        agg: Agg,
        /// The stage.
        stage: String,
        /// The field; none for `count`.
        of: Option<String>,
    },
    /// The sum; null if one of them is no number.
    Add(Vec<Operand>),
}

/// A constant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Scalar {
    /// Null: every comparison with it is false.
    Null,
    /// True or false.
    Bool(bool),
    /// A number.
    Number(f64),
    /// Text.
    Text(String),
}

/// What to make of the events of a stage. Values that are no numbers do not count for `sum`, `min`, `max`, `avg`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Agg {
    /// Of the first event; null without one.
    First,
    /// Of the last event; null without one.
    Last,
    /// 0 without events.
    Sum,
    /// Null without events.
    Min,
    /// Null without events.
    Max,
    /// Null without events.
    Avg,
    /// Number of events.
    Count,
}

#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Predicate")]
struct RawPredicate {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    op: Option<Op>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    left: Option<Operand>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    right: Option<Operand>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    and: Option<Vec<Predicate>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    or: Option<Vec<Predicate>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    not: Option<Box<Predicate>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    always: Option<bool>,
}

impl TryFrom<RawPredicate> for Predicate {
    type Error = &'static str;

    fn try_from(raw: RawPredicate) -> Result<Self, Self::Error> {
        match raw {
            RawPredicate {
                op: Some(op),
                left: Some(left),
                right: Some(right),
                and: None,
                or: None,
                not: None,
                always: None,
            } => Ok(Self::Compare { op, left, right }),
            RawPredicate { op: None, left: None, right: None, and, or, not, always } => {
                match (and, or, not, always) {
                    (Some(all), None, None, None) => Ok(Self::And(all)),
                    (None, Some(any), None, None) => Ok(Self::Or(any)),
                    (None, None, Some(inner), None) => Ok(Self::Not(inner)),
                    (None, None, None, Some(always)) => Ok(Self::Always(always)),
                    _ => Err("a predicate is one of {op, left, right}, {and}, {or}, {not}, {always}"),
                }
            }
            _ => Err("a comparison needs op, left and right, and nothing else"),
        }
    }
}

impl From<Predicate> for RawPredicate {
    fn from(predicate: Predicate) -> Self {
        let raw = Self::default();
        match predicate {
            Predicate::Compare { op, left, right } => {
                Self { op: Some(op), left: Some(left), right: Some(right), ..raw }
            }
            Predicate::And(all) => Self { and: Some(all), ..raw },
            Predicate::Or(any) => Self { or: Some(any), ..raw },
            Predicate::Not(inner) => Self { not: Some(inner), ..raw },
            Predicate::Always(always) => Self { always: Some(always), ..raw },
        }
    }
}

#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Operand")]
struct RawOperand {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    // Present and null is a constant, absent is none.
    #[serde(
        rename = "const",
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    constant: Option<Scalar>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    agg: Option<Agg>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stage: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    of: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    add: Option<Vec<Operand>>,
}

fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Scalar>, D::Error> {
    Scalar::deserialize(deserializer).map(Some)
}

impl TryFrom<RawOperand> for Operand {
    type Error = &'static str;

    fn try_from(raw: RawOperand) -> Result<Self, Self::Error> {
        match raw {
            RawOperand {
                field: Some(field),
                constant: None,
                agg: None,
                stage: None,
                of: None,
                add: None,
            } => Ok(Self::Field(field)),
            RawOperand {
                field: None,
                constant: Some(constant),
                agg: None,
                stage: None,
                of: None,
                add: None,
            } => Ok(Self::Const(constant)),
            RawOperand { field: None, constant: None, agg: Some(agg), stage: Some(stage), of, add: None } => {
                if of.is_some() == (agg == Agg::Count) {
                    return Err(
                        "an aggregate needs the field's name in `of`, except count, which takes none",
                    );
                }
                Ok(Self::Agg { agg, stage, of })
            }
            RawOperand {
                field: None,
                constant: None,
                agg: None,
                stage: None,
                of: None,
                add: Some(terms),
            } => Ok(Self::Add(terms)),
            _ => Err("an operand is one of {field}, {const}, {agg, stage, of}, {add}"),
        }
    }
}

impl From<Operand> for RawOperand {
    fn from(operand: Operand) -> Self {
        let raw = Self::default();
        match operand {
            Operand::Field(field) => Self { field: Some(field), ..raw },
            Operand::Const(constant) => Self { constant: Some(constant), ..raw },
            Operand::Agg { agg, stage, of } => Self { agg: Some(agg), stage: Some(stage), of, ..raw },
            Operand::Add(terms) => Self { add: Some(terms), ..raw },
        }
    }
}

impl From<bool> for Operand {
    fn from(value: bool) -> Self {
        Self::Const(Scalar::Bool(value))
    }
}

impl From<f64> for Operand {
    fn from(value: f64) -> Self {
        Self::Const(Scalar::Number(value))
    }
}

impl From<&str> for Operand {
    fn from(value: &str) -> Self {
        Self::Const(Scalar::Text(value.to_owned()))
    }
}

/// A field of the current event.
pub fn field(name: impl Into<String>) -> Operand {
    Operand::Field(name.into())
}

impl Operand {
    fn compare(self, op: Op, right: impl Into<Self>) -> Predicate {
        Predicate::Compare { op, left: self, right: right.into() }
    }

    /// Equal.
    pub fn eq(self, right: impl Into<Self>) -> Predicate {
        self.compare(Op::Eq, right)
    }

    /// Not equal.
    pub fn ne(self, right: impl Into<Self>) -> Predicate {
        self.compare(Op::Ne, right)
    }

    /// Less.
    pub fn lt(self, right: impl Into<Self>) -> Predicate {
        self.compare(Op::Lt, right)
    }

    /// Less or equal.
    pub fn le(self, right: impl Into<Self>) -> Predicate {
        self.compare(Op::Le, right)
    }

    /// Greater.
    pub fn gt(self, right: impl Into<Self>) -> Predicate {
        self.compare(Op::Gt, right)
    }

    /// Greater or equal.
    pub fn ge(self, right: impl Into<Self>) -> Predicate {
        self.compare(Op::Ge, right)
    }
}

impl fmt::Display for Predicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, items: &[Self], between: &str| {
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    f.write_str(between)?;
                }
                match item {
                    Self::And(_) | Self::Or(_) => write!(f, "({item})")?,
                    _ => write!(f, "{item}")?,
                }
            }
            Ok(())
        };
        match self {
            Self::Compare { op, left, right } => {
                let sign = match op {
                    Op::Eq => "=",
                    Op::Ne => "\u{2260}",
                    Op::Lt => "<",
                    Op::Le => "\u{2264}",
                    Op::Gt => ">",
                    Op::Ge => "\u{2265}",
                    Op::Contains => "contains",
                    Op::StartsWith => "starts with",
                };
                write!(f, "{left} {sign} {right}")
            }
            Self::And(all) => list(f, all, " and "),
            Self::Or(any) => list(f, any, " or "),
            Self::Not(inner) => write!(f, "not ({inner})"),
            Self::Always(true) => f.write_str("anything"),
            Self::Always(false) => f.write_str("nothing"),
        }
    }
}

impl fmt::Display for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => f.write_str(name),
            Self::Const(Scalar::Null) => f.write_str("null"),
            Self::Const(Scalar::Bool(value)) => write!(f, "{value}"),
            Self::Const(Scalar::Number(value)) => write!(f, "{value}"),
            Self::Const(Scalar::Text(value)) => write!(f, "\"{value}\""),
            Self::Agg { agg, stage, of } => {
                let agg = match agg {
                    Agg::First => "first",
                    Agg::Last => "last",
                    Agg::Sum => "sum",
                    Agg::Min => "min",
                    Agg::Max => "max",
                    Agg::Avg => "avg",
                    Agg::Count => "count",
                };
                match of {
                    Some(of) => write!(f, "{agg}({stage}.{of})"),
                    None => write!(f, "{agg}({stage})"),
                }
            }
            Self::Add(terms) => {
                for (i, term) in terms.iter().enumerate() {
                    if i > 0 {
                        f.write_str(" + ")?;
                    }
                    write!(f, "{term}")?;
                }
                Ok(())
            }
        }
    }
}
