//! The queries of `millrace bench`: card transactions in, keyed by `userId`. A worker runs one when it is asked to by name
//! (`run --app bench-<query>-<run>`); to the runtime they are apps like any other.
//!
//! An app's name, its source and its result topic are chosen by whoever runs the bench. Names are `&'static` here, as in
//! every app, so they are leaked: once per process.

mod cep;
mod severity;
mod totals;
mod windows;

use std::sync::OnceLock;

use anyhow::Context;
use millrace_core::task::{Malformed, Parsed, SourceKind};
use millrace_core::watermark::Order;
use millrace_core::{App, Application, EventTime, Job, Record, Source};
use millrace_wire::bench::{self, Query};
use millrace_wire::event::CardTransaction;
use millrace_wire::topic;

use super::json;

/// What a record of these apps is.
pub type Event = CardTransaction;

/// Where the one query of this process writes.
static RESULTS: OnceLock<&'static str> = OnceLock::new();

/// The result topic; without one, as in tests, `results`.
fn results() -> &'static str {
    RESULTS.get().copied().unwrap_or("results")
}

fn card(event: &Event) -> Option<&Event> {
    Some(event)
}

/// The app of this name, which says its query; it reads `source`.
///
/// # Errors
/// There is no such app, no source is named, or a process that already runs one of these apps is asked for another.
pub fn app(name: &str, source: Option<&str>) -> anyhow::Result<&'static dyn Application> {
    let query = Query::of_app(name).with_context(|| format!("there is no app {name}"))?;
    let source = source.with_context(|| format!("{name} reads what --bench-source names: name it"))?;
    let results = leak(bench::results(name));
    anyhow::ensure!(RESULTS.set(results).is_ok(), "a worker runs one app of the bench: {name} is the second");
    let sources = Box::leak(Box::new([Source { topic: leak(source.to_owned()), kind: STREAM }]));
    Ok(Box::leak(Box::new(App {
        name: leak(name.to_owned()),
        sources,
        partitions: topic::PARTITIONS,
        parse,
        jobs: jobs(query),
    })))
}

/// The watermark does not go by the clock.
const STREAM: SourceKind = SourceKind::Stream(Order::bounded(bench::OUT_OF_ORDERNESS_MS, None));

fn leak(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

fn jobs(query: Query) -> fn() -> Vec<Box<dyn Job<Event>>> {
    match query {
        Query::Transform => || vec![severity::job()],
        Query::Tumbling => || vec![windows::tumbling()],
        Query::Sliding => || vec![windows::sliding()],
        Query::Session => || vec![windows::session()],
        Query::Cep => || vec![cep::job()],
        Query::Totals => || vec![totals::job()],
    }
}

fn parse(record: &Record<'_>) -> Result<Parsed<Event>, Malformed> {
    let value = record.value.ok_or("the record has no value")?;
    let event: Event = json(value).map_err(|e| format!("not a card transaction: {e}"))?;
    let at = EventTime(event.timestamp.millis());
    Ok(Parsed::new(event, at))
}

#[cfg(test)]
pub(super) mod tests {
    use millrace_core::testing::Harness;
    use serde_json::json;

    use super::*;

    /// A transaction of a user at an event time.
    pub(super) fn pay(test: &mut Harness<Event>, user: &str, at: i64, amount: f64) {
        let event = json!({
            "timestamp": at, "transactionId": format!("t{at}"), "userId": user, "amount": amount,
            "status": "completed", "riskScore": 0.75,
        });
        test.record(&serde_json::from_value(event).unwrap(), at);
    }

    #[test]
    fn each_query_has_a_job_of_its_name_and_what_is_no_app_is_refused() {
        for query in Query::ALL {
            let [job] = &jobs(query)()[..] else { panic!("one job each") };
            assert_eq!(job.descriptor().name, query.name());
        }
        assert!(app("bench-tumbling-x", None).err().unwrap().to_string().contains("--bench-source"));
        assert!(app("sensor", Some("t")).err().unwrap().to_string().contains("no app sensor"));
    }

    #[test]
    fn restored_from_the_changelog_it_continues_exactly() {
        for query in Query::ALL {
            let written =
                crate::apps::tests::continues_exactly(&app_of(query), (query.name(), &json!({})), |i| {
                    // A pause now and then, for sessions to end.
                    let at = 1_000_000 + i * 700 - (i % 7) * 250 + i / 40 * 6_000;
                    let value = json!({
                        "timestamp": at, "transactionId": "t", "userId": format!("u{}", i % 3),
                        "amount": if i % 5 == 0 { 2.0 } else { (i % 40) as f64 * 20.0 },
                        "status": "completed", "riskScore": (i % 10) as f64 / 10.0,
                    });
                    (0, value.to_string())
                });
            assert_eq!(written.len(), 1, "{query:?}");
        }
    }

    /// The app of a query, which reads `cards`.
    pub(in crate::apps) fn app_of(query: Query) -> App<Event> {
        const SOURCES: &[Source] = &[Source { topic: "cards", kind: STREAM }];
        App { name: "bench", sources: SOURCES, partitions: 6, parse, jobs: jobs(query) }
    }

    #[test]
    fn what_is_no_card_transaction_is_refused_with_a_reason() {
        let record = |value| Record { source: 0, offset: 0, key: None, value };
        assert!(parse(&record(None)).unwrap_err().0.contains("no value"));
        let error = parse(&record(Some(br#"{"timestamp":1,"userId":"u"}"#))).unwrap_err();
        assert!(error.0.contains("not a card transaction"), "{error}");
    }
}
