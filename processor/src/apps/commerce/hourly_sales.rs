//! `hourly-sales`: what all customers together have ordered, per window. Orders are keyed by customer, so each task
//! adds up its own for a second of event time, and one task adds up these sums.

use millrace_core::Job;
use millrace_core::aggregate::{Count, Sum};
use millrace_core::repartition::Merge;
use millrace_core::stream::job as new_job;
use millrace_wire::Timestamp;
use millrace_wire::event::Order;
use millrace_wire::result::HourlySales;
use millrace_wire::topic;

use super::{Event, WindowParams};

/// The key of all orders.
const ALL: &str = "all";
/// Windows begin and end with a second.
const SLICE_MS: i64 = 1_000;

fn amount(order: &Order) -> f64 {
    order.amount
}

#[allow(clippy::cast_precision_loss)]
pub(super) fn job() -> Box<dyn Job<Event>> {
    new_job::<Event, WindowParams>("hourly-sales", "Sales of all customers together, per window.")
        .topics(&[topic::ORDERS], &[topic::ANALYTICS])
        .source(|order: &Order| Some(order))
        .filter(|order, params| params.categories.admit(order))
        .combine(SLICE_MS, |_| ALL, (Count, Sum(amount)))
        .repartition(
            topic::HOURLY_SALES_REPARTITION,
            |partial| &partial.key,
            |partials| {
                partials
                    .key_by(|partial| &partial.key)
                    .window(WindowParams::windows)
                    .allowed_lateness(|params| params.allowed_lateness_s.ms())
                    .aggregate(Merge::<_, Order>::new((Count, Sum(amount))))
                    .map(|result, _, _| {
                        let (orders, total_sales) = result.value;
                        HourlySales {
                            r#type: "hourly_sales".into(),
                            window_start: Timestamp(result.window.start).to_iso_seconds(),
                            total_sales,
                            average_order_value: total_sales / orders as f64,
                            orders,
                        }
                    })
                    .to(|_| (topic::ANALYTICS, ALL))
            },
        )
}

#[cfg(test)]
mod tests {
    use millrace_core::testing::Harness;
    use serde_json::json;

    use super::super::tests::order;
    use super::*;

    const START: i64 = 1_717_200_000_000;
    const HOUR: i64 = 3_600_000;

    #[test]
    fn an_hour_of_all_customers_is_one_result() {
        let mut test = Harness::new(job);
        for (customer, at, amount) in
            [("a", 0, 10.0), ("b", 1, 30.5), ("a", HOUR, 99.0), ("c", HOUR - 1, 1.5)]
        {
            order(&mut test, customer, START + at, amount);
        }
        test.watermark(START + HOUR - 2);
        assert!(test.emitted("analytics").is_empty());
        test.restore();
        test.watermark(START + HOUR - 1);
        let sales = json!({"type": "hourly_sales", "window_start": "2024-06-01T00:00:00", "total_sales": 42.0,
                           "average_order_value": 14.0, "orders": 3});
        assert_eq!(test.keyed("analytics"), [("all".to_owned(), sales)]);
        // Too late, alone: the one that is in time at the same moment is counted.
        order(&mut test, "a", START, 1.0);
        order(&mut test, "a", START + HOUR + 1, 1.0);
        test.commit();
        assert_eq!(test.rest().len(), 1);
        test.watermark(START + 2 * HOUR);
        assert_eq!(test.emitted("analytics")[0]["total_sales"], 100.0);
    }

    #[test]
    fn size_and_lateness_are_live() {
        let mut test = Harness::new(job);
        test.params(1, &json!({"window_size_s": 10, "allowed_lateness_s": 5})).unwrap();
        order(&mut test, "a", START, 1.0);
        test.watermark(START + 9_999);
        order(&mut test, "b", START + 1, 2.0);
        test.commit();
        let totals: Vec<_> = test.emitted("analytics").iter().map(|s| s["total_sales"].clone()).collect();
        assert_eq!(totals, [1.0, 3.0]);
        assert!(test.params(2, &json!({"window_size_s": 0})).unwrap_err().0.contains("window_size_s"));
    }

    #[test]
    fn the_type_of_window_is_live() {
        let mut test = Harness::new(job);
        test.params(1, &json!({"window": "session", "gap_s": 10})).unwrap();
        order(&mut test, "a", START + 1_500, 1.0);
        order(&mut test, "b", START + 5_000, 1.0);
        test.watermark(START + 20_000);
        let sales = test.emitted("analytics");
        assert_eq!(
            (sales.len(), &sales[0]["window_start"]),
            (1, &json!("2024-06-01T00:00:01")),
            "to the second"
        );
        assert_eq!(sales[0]["orders"], 2);
    }
}
