//! App `commerce`: customers and their orders. Reads `orders`; two jobs read them again, keyed otherwise.
//!
//! Its jobs follow each customer in the order in which the orders come. A customer without an order for 30 days of event
//! time is forgotten, and starts anew.

mod category_stats;
mod customer_stats;
mod customer_tiers;
mod customer_totals;
mod hourly_sales;
mod order_alerts;
mod order_fraud;
mod order_frequency;
mod segments;

use garde::Validate;
use millrace_core::state::Ttl;
use millrace_core::task::{Parsed, SourceKind};
use millrace_core::{App, EventTime, Record, Source};
use millrace_wire::event::Order;
use millrace_wire::topic;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Lateness, WindowSize};

/// What a record of this app is.
pub type Event = Order;

/// The app.
pub const APP: App<Event> = App {
    name: "commerce",
    sources: &[
        Source { topic: topic::ORDERS, kind: super::STREAM },
        Source { topic: topic::CATEGORY_STATS_REPARTITION, kind: SourceKind::Repartition },
        Source { topic: topic::HOURLY_SALES_REPARTITION, kind: SourceKind::Repartition },
    ],
    partitions: topic::PARTITIONS,
    parse,
    jobs: || {
        vec![
            customer_totals::job(),
            customer_tiers::job(),
            order_frequency::job(),
            category_stats::job(),
            order_alerts::job(),
            hourly_sales::job(),
            customer_stats::job(),
            order_fraud::job(),
            segments::job(),
        ]
    },
};

fn parse(record: &Record<'_>) -> Result<Parsed<Event>, String> {
    let value = record.value.ok_or("the record has no value")?;
    let order: Order = super::json(value).map_err(|e| format!("not an order: {e}"))?;
    let at = EventTime(order.timestamp.millis());
    Ok(Parsed::new(order, at))
}

/// How long the state of a customer lives after the last order.
const TTL: Ttl = Ttl::event_time(30 * 24 * 3_600 * 1_000);

/// Restricts a job to orders of these categories; none means all.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(transparent)]
#[schemars(inline)]
#[garde(transparent)]
struct Categories(#[garde(length(max = 100), inner(length(max = 100)))] Vec<String>);

impl Categories {
    fn admit(&self, order: &Order) -> bool {
        self.0.is_empty() || self.0.iter().any(|category| *category == order.category)
    }
}

/// Live parameters of windows over an hour, if nobody says otherwise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default, deny_unknown_fields)]
struct WindowParams {
    #[garde(dive)]
    window_size_s: WindowSize,
    #[garde(dive)]
    allowed_lateness_s: Lateness,
    /// Only orders of these categories count; none means all.
    #[garde(dive)]
    #[schemars(title = "Categories")]
    categories: Categories,
}

impl Default for WindowParams {
    fn default() -> Self {
        Self {
            window_size_s: WindowSize(3_600),
            allowed_lateness_s: Lateness(0),
            categories: Categories::default(),
        }
    }
}

/// What a customer has ordered so far. Part of the state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Spent {
    total: f64,
    orders: u64,
}

impl Spent {
    fn add(&mut self, order: &Order) {
        self.total += order.amount;
        self.orders += 1;
    }
}

#[cfg(test)]
mod tests {
    use millrace_core::testing::Harness;
    use millrace_core::{Application, Effect, Effects, Input};
    use serde_json::json;

    use super::*;

    /// An order of category `books`, named `o<event time>`.
    pub(super) fn order(test: &mut Harness<Event>, customer: &str, at: i64, amount: f64) {
        order_of(test, customer, "books", at, amount);
    }

    pub(super) fn order_of(test: &mut Harness<Event>, customer: &str, category: &str, at: i64, amount: f64) {
        let order = json!({
            "orderId": format!("o{at}"), "customerId": customer, "amount": amount, "category": category, "timestamp": at
        });
        test.record(&serde_json::from_value(order).unwrap(), at);
    }

    /// Every job of the app may be restricted to categories, and forgets a customer that stays away.
    #[test]
    fn jobs_take_the_categories_that_they_are_restricted_to_and_forget() {
        for number in 0..(APP.jobs)().len() {
            let mut test = Harness::new(move || (APP.jobs)().remove(number));
            let name = test.job().descriptor().name;
            test.params(1, &json!({"categories": ["toys", "games"]})).unwrap();
            order_of(&mut test, "c", "books", 0, 2_000.0);
            order_of(&mut test, "c", "toys", 1, 2_000.0);
            let stats = test.job().stats();
            assert_eq!((stats.records, stats.filtered), (2, 1), "{name}");
            test.commit();
            assert!(!test.state_is_empty(), "{name}");
            test.watermark(1 + TTL.ttl);
            assert!(test.state_is_empty(), "{name}");
            let many = vec!["x"; 101];
            assert!(
                test.params(2, &json!({"categories": many})).unwrap_err().contains("categories"),
                "{name}"
            );
            let schema = &test.job().descriptor().schema;
            assert_eq!(schema["properties"]["categories"]["type"], "array", "{name}: {schema}");
        }
    }

    #[test]
    fn malformed_orders_are_dead_and_stop_nothing() {
        let mut task = APP.task(0).unwrap();
        task.start();
        let mut effects = Effects::default();
        let good = br#"{"orderId":"o","customerId":"c","amount":5,"category":"x","timestamp":"2024-06-01T00:00:00Z"}"#;
        let values = [
            Some(b"{}".as_slice()),
            None,
            Some(br#"{"orderId":"o","customerId":"c","timestamp":1}"#),
            Some(good),
        ];
        for (offset, value) in values.into_iter().enumerate() {
            let record = Record { source: 0, offset: offset as i64, key: None, value };
            task.step(Input::Record(record), &mut effects).unwrap();
        }
        let dead = effects.iter().filter(|e| matches!(e, Effect::Dead { .. })).count();
        let totals = effects
            .iter()
            .filter(|e| matches!(e, Effect::Emit { topic: topic::CUSTOMER_TOTALS, .. }))
            .count();
        assert_eq!((dead, totals), (3, 1));
        for job in task.jobs() {
            assert!(job.stats.balances(job.pending) && job.stats.violations == 0, "{:?}", job.stats);
        }
    }

    #[test]
    fn restored_from_the_changelog_it_continues_exactly() {
        let change = ("customer-stats", &json!({"window_size_s": 30}));
        let written = crate::apps::tests::continues_exactly(&APP, change, |i| {
            let at = 1_000_000 + i * 2_000 - (i % 7) * 1_500;
            let category = ["books", "toys", "games"][i as usize % 3];
            let value = json!({"orderId": i.to_string(), "customerId": format!("c{}", i % 5), "amount": (i % 40) * 30,
                   "category": category, "timestamp": at});
            (0, value.to_string())
        });
        let all = [
            topic::ALERTS,
            topic::ANALYTICS,
            topic::CUSTOMER_SEGMENTS,
            topic::CUSTOMER_TIERS,
            topic::CUSTOMER_TOTALS,
            topic::CATEGORY_STATS_REPARTITION,
            topic::HOURLY_SALES_REPARTITION,
            topic::ORDER_FREQUENCY,
        ];
        assert_eq!(written.into_iter().collect::<Vec<_>>(), all);
    }
}
