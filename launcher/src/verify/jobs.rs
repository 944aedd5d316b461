//! The windowed jobs as plain arithmetic, written from SPEC.md and not from their code.

use std::collections::BTreeSet;

use millrace_wire::topic;
use serde_json::{Value, json};

use super::batch::{Expect, Fields, Oracle, Params, Row, Window, Windows};
use super::fields::{at, bank, bounds, count, long, name, row, short, sum, text, window_from};

/// Every job that can be verified.
pub const ALL: [Oracle; 10] = [
    Oracle {
        app: "sensors",
        job: "humidity-average",
        which: None,
        input: topic::IOT_SENSORS,
        streams: &[topic::IOT_SENSORS],
        output: topic::SENSOR_AVERAGES,
        global: false,
        windows: short,
        row: |reading| {
            let humidity = text(reading, "deviceType")? == "humidity";
            let row = humidity.then(|| row(text(reading, "sensorId")?, reading, "value"))??;
            Some(Row { text: text(reading, "location").unwrap_or_default(), ..row })
        },
        expected: |rows, _| {
            let numbers = || rows.iter().map(|row| row.number);
            Some(vec![
                ("count", count(rows)),
                ("location", Expect::Text(rows.last()?.text.clone())),
                ("average", Expect::Number(sum(rows) / rows.len() as f64)),
                ("min", Expect::Number(numbers().fold(f64::INFINITY, f64::min))),
                ("max", Expect::Number(numbers().fold(f64::NEG_INFINITY, f64::max))),
            ])
        },
        result: |result, params| Some((text(result, "sensorId")?, bounds(result, params, "window_size_s")?)),
        updated: false,
        merge: None,
        partial: None,
        late_times: 1,
    },
    Oracle {
        app: "bank",
        job: "account-balances",
        which: None,
        input: topic::TRANSACTIONS,
        streams: &[topic::TRANSACTIONS],
        output: topic::ACCOUNT_BALANCES,
        global: false,
        windows: short,
        row: bank,
        expected: |rows, _| Some(vec![("balance", Expect::Number(sum(rows)))]),
        result: |result, params| Some((name(result, "account")?, bounds(result, params, "window_size_s")?)),
        updated: true,
        merge: None,
        partial: None,
        late_times: 1,
    },
    Oracle {
        app: "bank",
        job: "high-activity",
        which: None,
        input: topic::TRANSACTIONS,
        streams: &[topic::TRANSACTIONS],
        output: topic::FRAUD_ALERTS,
        global: false,
        windows: short,
        row: bank,
        expected: |rows, params| {
            let total: f64 = rows.iter().map(|row| row.number.abs()).sum();
            let threshold = params.get("threshold").and_then(Value::as_f64)?;
            let alert = ("alert_type", Expect::Text("HIGH_ACTIVITY".to_owned()));
            // Raised as soon as the sum passes the threshold: it says what it was then.
            (total > threshold).then(|| vec![alert, ("total_activity", Expect::Between(threshold, total))])
        },
        result: |alert, params| Some((name(alert, "account")?, bounds(alert, params, "window_size_s")?)),
        updated: false,
        merge: None,
        partial: None,
        late_times: 1,
    },
    Oracle {
        app: "commerce",
        job: "customer-stats",
        which: None,
        input: topic::ORDERS,
        streams: &[topic::ORDERS],
        output: topic::ANALYTICS,
        global: false,
        windows: short,
        row: |order| row(name(order, "customerId")?, order, "amount"),
        expected: |rows, _| Some(vec![("orders", count(rows)), ("total_spent", Expect::Number(sum(rows)))]),
        result: |result, params| {
            let ours = text(result, "type")? == "customer_stats";
            ours.then(|| Some((name(result, "customer_id")?, window_from(result, params)?)))?
        },
        updated: false,
        merge: None,
        partial: None,
        late_times: 1,
    },
    Oracle {
        app: "commerce",
        job: "hourly-sales",
        which: None,
        input: topic::ORDERS,
        streams: &[topic::ORDERS],
        output: topic::ANALYTICS,
        global: true,
        windows: short,
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
        merge: None,
        partial: Some(two_sums),
        late_times: 1,
    },
    traffic(Some("short windows"), 1, short, |result, params| views(result, params, "window_size_s")),
    traffic(Some("long windows"), 2, long, |result, params| views(result, params, "long_window_size_s")),
    Oracle {
        app: "activity",
        job: "spend-trend",
        which: None,
        input: topic::TRANSACTIONS,
        streams: &ACTIVITY,
        output: topic::MERCHANT_TRENDS,
        global: true,
        windows: short,
        row: |payment| {
            let card = payment.get("account").is_none();
            card.then(|| row(text(payment, "merchantId")?, payment, "amount"))?
        },
        expected: |rows, _| {
            let mean = Expect::Number(sum(rows) / rows.len() as f64);
            Some(vec![("count", count(rows)), ("sum", Expect::Number(sum(rows))), ("average", mean)])
        },
        result: |result, params| {
            Some((text(result, "merchantId")?, bounds(result, params, "window_size_s")?))
        },
        updated: false,
        merge: None,
        partial: Some(two_sums),
        late_times: 1,
    },
    Oracle {
        app: "activity",
        job: "sessions",
        which: None,
        input: topic::USER_EVENTS,
        streams: &ACTIVITY,
        output: topic::USER_SESSIONS,
        global: false,
        windows: short,
        row: |event| {
            let stage = match text(event, "eventType")?.as_str() {
                "add_to_cart" => 1.0,
                "checkout" => 2.0,
                "purchase" => 3.0,
                _ => 0.0,
            };
            Some(Row {
                key: text(event, "userId")?,
                at: at(event)?,
                number: stage,
                others: Vec::new(),
                text: text(event, "page").unwrap_or_default(),
            })
        },
        expected: |rows, _| {
            let (first, last) = (rows.first()?, rows.last()?);
            let pages: BTreeSet<&String> = rows.iter().map(|row| &row.text).collect();
            let furthest = rows.iter().map(|row| row.number).fold(0.0, f64::max);
            let stage = STAGES.get(furthest as usize)?;
            Some(vec![
                ("events", count(rows)),
                ("pages", Expect::Number(pages.len() as f64)),
                ("funnelStage", Expect::Text((*stage).to_owned())),
                ("bounce", Expect::Flag(rows.len() == 1)),
                ("duration", Expect::Number((last.at - first.at) as f64)),
                ("entryPage", Expect::Text(first.text.clone())),
                ("exitPage", Expect::Text(last.text.clone())),
            ])
        },
        result: |result, _| {
            let bound = |field| result.get(field)?.as_i64();
            Some((text(result, "userId")?, (bound("window_start")?, bound("window_end")?)))
        },
        updated: false,
        merge: Some(one_visit),
        partial: None,
        late_times: 1,
    },
    Oracle {
        app: "activity",
        job: "host-health",
        which: None,
        input: topic::SYSTEM_METRICS,
        streams: &ACTIVITY,
        output: topic::HOST_STATS,
        global: false,
        windows: short,
        row: |metrics| {
            let row = row(text(metrics, "host")?, metrics, "cpu")?;
            let errors = metrics.get("errors").and_then(Value::as_f64).unwrap_or(0.0);
            Some(Row { others: vec![metrics.get("memory")?.as_f64()?, errors], ..row })
        },
        expected: |rows, _| {
            let of =
                |column: fn(&Row) -> Option<f64>| -> Option<Vec<f64>> { rows.iter().map(column).collect() };
            let cpu = of(|row| Some(row.number))?;
            let memory = of(|row| row.others.first().copied())?;
            let errors = of(|row| row.others.get(1).copied())?;
            let mut fields = vec![("count", count(rows))];
            fields.extend(quantiles(["cpu.p50", "cpu.p95", "cpu.p99"], cpu)?);
            fields.extend(quantiles(["memory.p50", "memory.p95", "memory.p99"], memory)?);
            fields.extend(quantiles(["errors.p50", "errors.p95", "errors.p99"], errors)?);
            Some(fields)
        },
        result: |result, params| Some((text(result, "host")?, bounds(result, params, "window_size_s")?)),
        updated: false,
        merge: None,
        partial: None,
        late_times: 1,
    },
];

const fn traffic(
    which: Option<&'static str>,
    late_times: usize,
    windows: fn(&Params) -> Windows,
    result: fn(&Value, &Params) -> Option<(String, Window)>,
) -> Oracle {
    Oracle {
        app: "activity",
        job: "traffic",
        which,
        input: topic::USER_EVENTS,
        streams: &ACTIVITY,
        output: topic::PAGE_STATS,
        global: true,
        windows,
        row: |event| {
            let page = text(event, "page").unwrap_or_default();
            let key = format!("{} {page}", text(event, "eventType")?);
            Some(Row { key, at: at(event)?, number: 1.0, others: Vec::new(), text: String::new() })
        },
        expected: |rows, _| Some(vec![("count", count(rows))]),
        result,
        updated: false,
        merge: None,
        partial: Some(|message| {
            let partial = message.get("record")?;
            let views = partial.get("acc")?.as_f64()?;
            Some((text(partial, "key")?, message.get("at")?.as_i64()?, views, views))
        }),
        late_times,
    }
}

/// The final count of a window whose size is this parameter.
fn views(result: &Value, params: &Params, size: &str) -> Option<(String, Window)> {
    let key = format!("{} {}", text(result, "eventType")?, text(result, "page")?);
    let is_final = result.get("final")?.as_bool()?;
    is_final.then(|| Some((key, bounds(result, params, size)?)))?
}

/// How far a visit may come.
const STAGES: [&str; 4] = ["BROWSE", "CART", "CHECKOUT", "PURCHASE"];

/// Streams of the app `activity`.
const ACTIVITY: [&str; 3] = [topic::USER_EVENTS, topic::TRANSACTIONS, topic::SYSTEM_METRICS];

/// A late partial sum of `(number, sum)`.
fn two_sums(message: &Value) -> Option<(String, i64, f64, f64)> {
    let partial = message.get("record")?;
    let sums = partial.get("acc")?;
    Some((
        text(partial, "key")?,
        message.get("at")?.as_i64()?,
        sums.get(0)?.as_f64()?,
        sums.get(1)?.as_f64()?,
    ))
}

/// What visits of one user that touch each other come to together.
fn one_visit(parts: &[Value]) -> Option<Value> {
    let number = |part: &Value, field: &str| part.get(field).and_then(Value::as_i64);
    let first = parts.iter().min_by_key(|part| number(part, "window_start"))?;
    let last = parts.iter().max_by_key(|part| number(part, "window_end"))?;
    let ended = |part: &Value| Some(number(part, "window_start")? + number(part, "duration")?);
    let reached = |stage: &&&str| parts.iter().any(|part| part.get("funnelStage") == Some(&json!(**stage)));
    // Not how many different pages: some may be in both.
    Some(json!({
        "events": parts.iter().filter_map(|part| number(part, "events")).sum::<i64>(),
        "funnelStage": STAGES.iter().rev().find(reached)?,
        "bounce": parts.len() == 1 && first.get("bounce")?.as_bool()?,
        "duration": ended(last)? - number(first, "window_start")?,
        "entryPage": first.get("entryPage")?,
        "exitPage": last.get("exitPage")?,
    }))
}

/// The median and the values that a twentieth and a hundredth lie above, in these fields.
fn quantiles(fields: [&'static str; 3], mut values: Vec<f64>) -> Option<Fields> {
    values.sort_by(f64::total_cmp);
    // The sketch is exact to 1 %, and between two readings either is right.
    let quantile = |q: f64| {
        let rank = q * (values.len() as f64 - 1.0);
        let (low, high) = (values.get(rank.floor() as usize)?, values.get(rank.ceil() as usize)?);
        Some(Expect::Between(low * 0.99, high * 1.01))
    };
    fields.into_iter().zip([0.5, 0.95, 0.99]).map(|(field, q)| Some((field, quantile(q)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(window: &str) -> Params {
        let params = json!({"window": window, "window_size_s": 60, "long_window_size_s": 300, "slide_s": 10, "gap_s": 30});
        params.as_object().unwrap().clone()
    }

    #[test]
    fn windows_are_those_of_the_type_in_force_and_sessions_are_compared_where_they_can_be_united() {
        for oracle in &ALL {
            let size = if oracle.which == Some("long windows") { 300_000 } else { 60_000 };
            let lie = |window| (oracle.windows)(&params(window));
            assert_eq!(lie("tumbling"), Windows::Sliding { size, slide: size });
            assert_eq!(lie("sliding"), Windows::Sliding { size, slide: 10_000 });
            assert_eq!(lie("session"), Windows::Session { gap: 30_000 });
            let compared = ["tumbling", "sliding", "session", "global"]
                .map(|window| oracle.refusal(&params(window)).is_none());
            assert_eq!(compared, [true, true, oracle.job == "sessions", false], "{}", oracle.name());
        }
    }
}
