//! `customer-stats`: orders and spending per customer and window.

use millrace_core::Job;
use millrace_core::aggregate::{Count, Sum};
use millrace_core::stream::job as new_job;
use millrace_wire::Timestamp;
use millrace_wire::event::Order;
use millrace_wire::result::CustomerStats;
use millrace_wire::topic;

use super::{Event, WindowParams};

pub(super) fn job() -> Box<dyn Job<Event>> {
    new_job::<Event, WindowParams>("customer-stats", "Orders and spending per customer and window.")
        .topics(&[topic::ORDERS], &[topic::ANALYTICS])
        .source(|order: &Order| Some(order))
        .filter(|order, params| params.categories.admit(order))
        .key_by(|order| &order.customer_id)
        .window(WindowParams::windows)
        .allowed_lateness(|params| params.allowed_lateness_s.ms())
        .aggregate((Count, Sum(|order: &Order| order.amount)))
        .map(|result, _, _| CustomerStats {
            r#type: "customer_stats".into(),
            window_start: Timestamp(result.window.start).to_iso_seconds(),
            customer_id: (&*result.key).into(),
            orders: result.value.0,
            total_spent: result.value.1,
        })
        .to(|stats| (topic::ANALYTICS, &stats.customer_id))
}

#[cfg(test)]
mod tests {
    use millrace_core::Effect;
    use millrace_core::testing::Harness;
    use serde_json::json;

    use super::super::tests::order;
    use super::*;

    const START: i64 = 1_717_200_000_000;
    const HOUR: i64 = 3_600_000;

    #[test]
    fn a_window_gives_one_result_per_customer() {
        let mut test = Harness::new(job);
        order(&mut test, "a", START, 10.0);
        order(&mut test, "b", START + 1, 1.5);
        order(&mut test, "a", START + HOUR, 99.0);
        order(&mut test, "a", START + HOUR - 1, 20.0);
        test.watermark(START + HOUR - 2);
        assert!(test.emitted("analytics").is_empty());
        test.restore();
        test.watermark(START + HOUR - 1);
        let stats = |customer: &str, orders: u64, total: f64| {
            let stats = json!({"type": "customer_stats", "window_start": "2024-06-01T00:00:00",
                               "customer_id": customer, "orders": orders, "total_spent": total});
            (customer.to_owned(), stats)
        };
        assert_eq!(test.keyed("analytics"), [stats("a", 2, 30.0), stats("b", 1, 1.5)]);
        order(&mut test, "a", START, 1.0);
        assert_eq!(test.rest(), [Effect::Late { job: "customer-stats", watermark: START + HOUR - 1 }]);
    }

    #[test]
    fn size_and_lateness_are_live() {
        let mut test = Harness::new(job);
        test.params(1, &json!({"window_size_s": 10, "allowed_lateness_s": 5})).unwrap();
        order(&mut test, "a", START, 1.0);
        test.watermark(START + 9_999);
        order(&mut test, "a", START + 1, 2.0);
        let totals: Vec<_> = test.emitted("analytics").iter().map(|s| s["total_spent"].clone()).collect();
        assert_eq!(totals, [1.0, 3.0]);
        assert!(test.params(2, &json!({"window_size_s": 0})).unwrap_err().0.contains("window_size_s"));
    }

    #[test]
    fn the_type_of_window_is_live() {
        let mut test = Harness::new(job);
        test.params(1, &json!({"window": "sliding", "window_size_s": 20, "slide_s": 10})).unwrap();
        order(&mut test, "a", START + 5_000, 1.0);
        test.watermark(START + HOUR);
        let starts: Vec<_> = test.emitted("analytics").iter().map(|s| s["window_start"].clone()).collect();
        assert_eq!(starts, ["2024-05-31T23:59:50", "2024-06-01T00:00:00"]);
    }
}
