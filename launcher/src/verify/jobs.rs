//! The windowed jobs as plain arithmetic, written from SPEC.md and not from their code.

use millrace_wire::{Timestamp, topic};
use serde_json::Value;

use super::batch::{Expect, Oracle, Params, Row, Window, Windows};

/// Every job that can be verified.
pub const ALL: [Oracle; 5] = [
    Oracle {
        app: "sensors",
        job: "humidity-average",
        input: topic::IOT_SENSORS,
        streams: &[topic::IOT_SENSORS],
        output: topic::SENSOR_AVERAGES,
        global: false,
        windows: tumbling,
        row: |reading| {
            let humidity = text(reading, "deviceType")? == "humidity";
            humidity.then(|| row(text(reading, "sensorId")?, reading, "value"))?
        },
        expected: |rows, _| {
            let numbers = || rows.iter().map(|row| row.number);
            Some(vec![
                ("count", count(rows)),
                ("average", Expect::Number(sum(rows) / rows.len() as f64)),
                ("min", Expect::Number(numbers().fold(f64::INFINITY, f64::min))),
                ("max", Expect::Number(numbers().fold(f64::NEG_INFINITY, f64::max))),
            ])
        },
        result: |result, params| Some((text(result, "sensorId")?, bounds(result, params)?)),
        updated: false,
        partial: None,
    },
    Oracle {
        app: "bank",
        job: "account-balances",
        input: topic::TRANSACTIONS,
        streams: &[topic::TRANSACTIONS],
        output: topic::ACCOUNT_BALANCES,
        global: false,
        windows: tumbling,
        row: bank,
        expected: |rows, _| Some(vec![("balance", Expect::Number(sum(rows)))]),
        result: |result, params| Some((name(result, "account")?, bounds(result, params)?)),
        updated: true,
        partial: None,
    },
    Oracle {
        app: "bank",
        job: "high-activity",
        input: topic::TRANSACTIONS,
        streams: &[topic::TRANSACTIONS],
        output: topic::FRAUD_ALERTS,
        global: false,
        windows: tumbling,
        row: bank,
        expected: |rows, params| {
            let total: f64 = rows.iter().map(|row| row.number.abs()).sum();
            let threshold = params.get("threshold").and_then(Value::as_f64)?;
            let alert = ("alert_type", Expect::Text("HIGH_ACTIVITY".to_owned()));
            // Raised as soon as the sum passes the threshold: it says what it was then.
            (total > threshold).then(|| vec![alert, ("total_activity", Expect::Between(threshold, total))])
        },
        result: |alert, params| Some((name(alert, "account")?, bounds(alert, params)?)),
        updated: false,
        partial: None,
    },
    Oracle {
        app: "commerce",
        job: "customer-stats",
        input: topic::ORDERS,
        streams: &[topic::ORDERS],
        output: topic::ANALYTICS,
        global: false,
        windows: tumbling,
        row: |order| row(name(order, "customerId")?, order, "amount"),
        expected: |rows, _| Some(vec![("orders", count(rows)), ("total_spent", Expect::Number(sum(rows)))]),
        result: |result, params| {
            let ours = text(result, "type")? == "customer_stats";
            ours.then(|| Some((name(result, "customer_id")?, window_from(result, params)?)))?
        },
        updated: false,
        partial: None,
    },
    Oracle {
        app: "commerce",
        job: "hourly-sales",
        input: topic::ORDERS,
        streams: &[topic::ORDERS],
        output: topic::ANALYTICS,
        global: true,
        windows: tumbling,
        row: |order| row("all".to_owned(), order, "amount"),
        expected: |rows, _| {
            let mean = Expect::Number(sum(rows) / rows.len() as f64);
            Some(vec![
                ("orders", count(rows)),
                ("total_sales", Expect::Number(sum(rows))),
                ("average_order_value", mean),
            ])
        },
        result: |result, params| {
            let ours = text(result, "type")? == "hourly_sales";
            ours.then(|| Some(("all".to_owned(), window_from(result, params)?)))?
        },
        updated: false,
        partial: Some(|message| {
            let partial = message.get("record")?;
            let sums = partial.get("acc")?;
            Some((
                text(partial, "key")?,
                message.get("at")?.as_i64()?,
                sums.get(0)?.as_f64()?,
                sums.get(1)?.as_f64()?,
            ))
        }),
    },
];

fn text(value: &Value, field: &str) -> Option<String> {
    value.get(field)?.as_str().map(str::to_owned)
}

/// A name that may be written as a number.
fn name(value: &Value, field: &str) -> Option<String> {
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

fn row(key: String, value: &Value, number: &str) -> Option<Row> {
    Some(Row { key, at: at(value)?, number: value.get(number)?.as_f64()?, text: String::new() })
}

fn bank(transaction: &Value) -> Option<Row> {
    row(name(transaction, "account")?, transaction, "amount")
}

fn sum(rows: &[Row]) -> f64 {
    rows.iter().map(|row| row.number).sum()
}

fn count(rows: &[Row]) -> Expect {
    Expect::Number(rows.len() as f64)
}

fn seconds(params: &Params, field: &str) -> i64 {
    params.get(field).and_then(Value::as_i64).unwrap_or(0) * 1_000
}

fn tumbling(params: &Params) -> Windows {
    let size = seconds(params, "window_size_s").max(1);
    Windows::Sliding { size, slide: size }
}

/// The window that a result names, if it is of the size that is in force.
fn bounds(result: &Value, params: &Params) -> Option<Window> {
    let (start, end) = (result.get("window_start")?.as_i64()?, result.get("window_end")?.as_i64()?);
    (end - start == seconds(params, "window_size_s")).then_some((start, end))
}

/// The same of a result that names its start only, and in words.
fn window_from(result: &Value, params: &Params) -> Option<Window> {
    let start = serde_json::from_value::<Timestamp>(result.get("window_start")?.clone()).ok()?.millis();
    Some((start, start + seconds(params, "window_size_s")))
}

/// The field of a job's parameters that lets windows wait for late records.
pub fn lateness(params: &Params) -> i64 {
    seconds(params, "allowed_lateness_s")
}
