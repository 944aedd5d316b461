//! Fields of records and of parameters.

use millrace_wire::Timestamp;
use serde_json::Value;

use super::batch::{Expect, Params, Row, Window, Windows};

/// A text.
pub fn text(value: &Value, field: &str) -> Option<String> {
    value.get(field)?.as_str().map(str::to_owned)
}

/// A name that may be written as a number.
pub fn name(value: &Value, field: &str) -> Option<String> {
    match value.get(field)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Event time of a record, epoch ms.
pub fn at(value: &Value) -> Option<i64> {
    serde_json::from_value::<Timestamp>(value.get("timestamp")?.clone()).ok().map(Timestamp::millis)
}

/// A row of a record that has such a number.
pub fn row(key: String, value: &Value, number: &str) -> Option<Row> {
    let number = value.get(number)?.as_f64()?;
    Some(Row { key, at: at(value)?, number, others: Vec::new(), text: String::new() })
}

/// A row of a bank transaction; `None`: it is a card payment.
pub fn bank(transaction: &Value) -> Option<Row> {
    row(name(transaction, "account")?, transaction, "amount")
}

/// What the amounts come to.
pub fn sum(rows: &[Row]) -> f64 {
    rows.iter().map(|row| row.number).sum()
}

/// How many there are.
pub fn count(rows: &[Row]) -> Expect {
    Expect::Number(rows.len() as f64)
}

/// A parameter in seconds, as ms.
pub fn seconds(params: &Params, field: &str) -> i64 {
    params.get(field).and_then(Value::as_i64).unwrap_or(0) * 1_000
}

/// Windows of the size that most jobs' parameters name.
pub fn short(params: &Params) -> Windows {
    windows_of(params, "window_size_s")
}

/// The long ones of a job that has two kinds.
pub fn long(params: &Params) -> Windows {
    windows_of(params, "long_window_size_s")
}

/// Windows of the type that is in force, and of a size that the parameters name. A type that is not known here lies nowhere.
pub fn windows_of(params: &Params, size: &str) -> Windows {
    let size = seconds(params, size).max(1);
    match params.get("window").and_then(Value::as_str) {
        Some("tumbling") => Windows::Sliding { size, slide: size },
        Some("sliding") => Windows::Sliding { size, slide: seconds(params, "slide_s").max(1) },
        Some("session") => Windows::Session { gap: seconds(params, "gap_s").max(1) },
        _ => Windows::Unknown,
    }
}

/// The window that a result names, if it is of the size that is in force.
pub fn bounds(result: &Value, params: &Params, size: &str) -> Option<Window> {
    let (start, end) = (result.get("window_start")?.as_i64()?, result.get("window_end")?.as_i64()?);
    (end - start == seconds(params, size)).then_some((start, end))
}

/// The same of a result that names its start only, and in words.
pub fn window_from(result: &Value, params: &Params) -> Option<Window> {
    let start = serde_json::from_value::<Timestamp>(result.get("window_start")?.clone()).ok()?.millis();
    Some((start, start + seconds(params, "window_size_s")))
}

/// Whether a record is of the categories that a job is restricted to; none means all.
pub fn admitted(value: &Value, params: &Params) -> bool {
    let chosen = params.get("categories").and_then(Value::as_array).filter(|chosen| !chosen.is_empty());
    chosen.is_none_or(|chosen| value.get("category").is_some_and(|category| chosen.contains(category)))
}

/// The field of a job's parameters that lets windows wait for late records.
pub fn lateness(params: &Params) -> i64 {
    seconds(params, "allowed_lateness_s")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_job_takes_the_categories_that_it_is_restricted_to() {
        let params = |categories: Value| Params::from_iter([("categories".to_owned(), categories)]);
        let order = json!({"category": "books"});
        assert!(admitted(&order, &Params::new()) && admitted(&order, &params(json!([]))));
        assert!(admitted(&order, &params(json!(["toys", "books"]))));
        assert!(
            !admitted(&order, &params(json!(["toys"]))) && !admitted(&json!({}), &params(json!(["toys"])))
        );
    }
}
