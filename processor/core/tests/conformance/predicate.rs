//! What a predicate of a case says of one record: written again, apart from the engine's.

use std::cmp::Ordering;

use millrace_core::cep::{Op, Operand, Predicate, Scalar};
use serde_json::{Value, json};

/// Whether a record's value satisfies a predicate. There is no partial match, so an aggregate is an error.
pub fn holds(predicate: &Predicate, record: &Value) -> Result<bool, String> {
    Ok(match predicate {
        Predicate::Compare { op, left, right } => compare(*op, &value(left, record)?, &value(right, record)?),
        Predicate::And(all) => {
            all.iter().map(|p| holds(p, record)).collect::<Result<Vec<_>, _>>()?.into_iter().all(|held| held)
        }
        Predicate::Or(any) => {
            any.iter().map(|p| holds(p, record)).collect::<Result<Vec<_>, _>>()?.into_iter().any(|held| held)
        }
        Predicate::Not(inner) => !holds(inner, record)?,
        Predicate::Always(always) => *always,
    })
}

fn value(operand: &Operand, record: &Value) -> Result<Value, String> {
    Ok(match operand {
        Operand::Field(name) => record.get(name).cloned().unwrap_or_default(),
        Operand::Const(Scalar::Null) => Value::Null,
        Operand::Const(Scalar::Bool(value)) => json!(value),
        Operand::Const(Scalar::Number(value)) => json!(value),
        Operand::Const(Scalar::Text(value)) => json!(value),
        Operand::Add(terms) => {
            let terms = terms.iter().map(|term| value(term, record)).collect::<Result<Vec<_>, _>>()?;
            terms.iter().map(Value::as_f64).sum::<Option<f64>>().map_or(Value::Null, Value::from)
        }
        Operand::Agg { stage, .. } => return Err(format!("no stage {stage}: there is no pattern here")),
    })
}

/// False for null, and for values of different types.
fn compare(op: Op, left: &Value, right: &Value) -> bool {
    let order = match (left, right) {
        (Value::String(l), Value::String(r)) => match op {
            Op::Contains => return l.contains(r.as_str()),
            Op::StartsWith => return l.starts_with(r.as_str()),
            _ => Some(l.cmp(r)),
        },
        (Value::Number(l), Value::Number(r)) => l.as_f64().partial_cmp(&r.as_f64()),
        (Value::Bool(l), Value::Bool(r)) => Some(l.cmp(r)),
        _ => None,
    };
    let Some(order) = order else { return false };
    match op {
        Op::Eq => order == Ordering::Equal,
        Op::Ne => order != Ordering::Equal,
        Op::Lt => order == Ordering::Less,
        Op::Le => order != Ordering::Greater,
        Op::Gt => order == Ordering::Greater,
        Op::Ge => order != Ordering::Less,
        Op::Contains | Op::StartsWith => false,
    }
}
