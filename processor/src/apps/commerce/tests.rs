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
        // Those of windows keep nothing for longer than their windows.
        let lives = test.job().descriptor().schema["properties"].get("ttl_days").is_some();
        let categories = json!(["toys", "games"]);
        let params = if lives {
            json!({"categories": categories, "ttl_days": 2})
        } else {
            json!({"categories": categories})
        };
        test.params(1, &params).unwrap();
        order_of(&mut test, "c", "books", 0, 2_000.0);
        order_of(&mut test, "c", "toys", 1, 2_000.0);
        let stats = test.job().stats();
        assert_eq!((stats.records, stats.filtered), (2, 1), "{name}");
        test.commit();
        assert!(!test.state_is_empty(), "{name}");
        let days = 2 * 24 * 3_600 * 1_000;
        test.watermark(days);
        assert!(!lives || !test.state_is_empty(), "{name}");
        test.watermark(1 + days);
        assert!(test.state_is_empty(), "{name}");
        let many = vec!["x"; 101];
        assert!(test.params(2, &json!({"categories": many})).unwrap_err().0.contains("categories"), "{name}");
        let schema = &test.job().descriptor().schema;
        assert_eq!(schema["properties"]["categories"]["type"], "array", "{name}: {schema}");
    }
}

/// See "Duplicates" in docs/semantics.md.
#[test]
fn an_order_that_comes_twice_is_two_orders() {
    let too_many = json!(["More than 5 orders in 1 minute"]);
    // Number of the job, amounts of orders of which the last one comes twice, where its results go, what they say.
    let table: [(usize, &[f64], _, _, _); 9] = [
        (0, &[10.0], "customer-totals", "orders", json!([1, 2])),
        (1, &[300.0], "customer-tiers", "tier", json!(["REGULAR", "VIP"])),
        (2, &[1.0], "order-frequency", "frequency", json!(["NEW_CUSTOMER", "OCCASIONAL"])),
        (3, &[600.0], "milestones", "milestone", json!([1_000.0])),
        (4, &[500.0], "alerts", "type", json!(["HIGH_VALUE_ORDER", "HIGH_VALUE_ORDER", "RAPID_ORDERING"])),
        (5, &[1.0], "analytics", "orders", json!([2])),
        (6, &[1.0], "analytics", "orders", json!([2])),
        (7, &[1.0, 2.0, 3.0, 4.0, 5.0], "analytics", "reason", too_many),
        (
            8,
            &[600.0],
            "customer-segments",
            "segments",
            json!([["NEW_CUSTOMER"], ["NEW_CUSTOMER", "HIGH_VALUE"]]),
        ),
    ];
    for (number, amounts, topic, field, expected) in table {
        let mut test = Harness::new(move || (APP.jobs)().remove(number));
        for (at, amount) in (1..).zip(amounts).chain([(amounts.len() as i64, &amounts[amounts.len() - 1])]) {
            order(&mut test, "c", at, *amount);
        }
        test.watermark(10_000_000);
        let said: Vec<_> = test.emitted(topic).into_iter().map(|result| result[field].clone()).collect();
        assert_eq!(json!(said), expected, "{}", test.job().descriptor().name);
    }
}

/// Jobs that follow each customer or category: for them there is no late order, nor one out of order.
#[test]
fn orders_count_as_they_come_whatever_their_time() {
    let table = [
        (0, "customer-totals"),
        (1, "customer-tiers"),
        (2, "order-frequency"),
        (3, "category-stats"),
        (3, "milestones"),
        (8, "customer-segments"),
    ];
    for (number, topic) in table {
        let run = |times: [i64; 3], watermark: i64| {
            let mut test = Harness::new(move || (APP.jobs)().remove(number));
            order(&mut test, "c", times[0], 600.0);
            test.watermark(watermark);
            order(&mut test, "c", times[1], 300.0);
            order(&mut test, "c", times[2], 200.0);
            test.commit();
            let without_time = |mut result: serde_json::Value| {
                result.as_object_mut().unwrap().remove("timestamp");
                result
            };
            let said: Vec<_> = test.emitted(topic).into_iter().map(without_time).collect();
            let stats = test.job().stats();
            assert!(stats.late == 0 && stats.balances(0), "{topic}: {stats:?}");
            said
        };
        let in_order = run([1, 2, 3], 0);
        assert!(!in_order.is_empty(), "{topic}");
        assert_eq!(run([3, 1, 2], 0), in_order, "{topic}: out of order");
        assert_eq!(run([90_000, 1, 2], 90_000), in_order, "{topic}: late");
    }
}

#[test]
fn malformed_orders_are_dead_and_stop_nothing() {
    let mut task = APP.task(0).unwrap();
    task.start();
    let mut effects = Effects::default();
    let good =
        br#"{"orderId":"o","customerId":"c","amount":5,"category":"x","timestamp":"2024-06-01T00:00:00Z"}"#;
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
    let totals =
        effects.iter().filter(|e| matches!(e, Effect::Emit { topic: topic::CUSTOMER_TOTALS, .. })).count();
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
