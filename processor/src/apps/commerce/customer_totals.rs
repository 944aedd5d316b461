//! `customer-totals`: what a customer has spent and how often, updated with each order.

use garde::Validate;
use millrace_core::Job;
use millrace_core::process::Current;
use millrace_core::stream::job as new_job;
use millrace_wire::event::Order;
use millrace_wire::result::CustomerTotal;
use millrace_wire::topic;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Categories, Event, Spent};
use crate::apps::parameters::TtlDays;

/// Live parameters.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default, deny_unknown_fields)]
struct Params {
    /// Only orders of these categories count; none means all.
    #[garde(dive)]
    #[schemars(title = "Categories")]
    categories: Categories,
    #[garde(dive)]
    ttl_days: TtlDays,
}

pub(super) fn job() -> Box<dyn Job<Event>> {
    new_job::<Event, Params>("customer-totals", "Running total and number of orders per customer.")
        .topics(&[topic::ORDERS], &[topic::CUSTOMER_TOTALS])
        .source(|order: &Order| Some(order))
        .filter(|order, params| params.categories.admit(order))
        .key_by(|order| &order.customer_id)
        .map_with_state_ttl(
            |params: &Params| params.ttl_days.ttl(),
            |order, spent: &mut Current<Spent>, _, _| {
                spent.add(order);
                let Spent { total, orders } = **spent;
                Some(CustomerTotal { customer_id: order.customer_id.clone(), total, orders })
            },
        )
        .to(|total| (topic::CUSTOMER_TOTALS, &total.customer_id))
}

#[cfg(test)]
mod tests {
    use millrace_core::testing::Harness;
    use serde_json::json;

    use super::super::tests::order;
    use super::*;

    #[test]
    fn each_order_gives_the_totals_so_far_in_whatever_order_they_come() {
        let mut test = Harness::new(job);
        order(&mut test, "a", 1_000, 10.0);
        order(&mut test, "b", 2_000, 5.5);
        test.watermark(9_000_000);
        assert_eq!(test.restore(), 2);
        order(&mut test, "a", 500, 20.0);
        let total = |customer: &str, total: f64, orders: u64| {
            (customer.to_owned(), json!({"customerId": customer, "total": total, "orders": orders}))
        };
        assert_eq!(
            test.keyed("customer-totals"),
            [total("a", 10.0, 1), total("b", 5.5, 1), total("a", 30.0, 2)],
            "a late order counts too"
        );
    }

    #[test]
    fn a_customer_who_comes_back_after_thirty_days_starts_anew() {
        let mut test = Harness::new(job);
        let back = 1_000 + TtlDays::default().ttl().ttl;
        order(&mut test, "a", 1_000, 10.0);
        order(&mut test, "b", 1_000, 10.0);
        test.watermark(back - 1);
        order(&mut test, "a", back, 1.0);
        test.watermark(back);
        order(&mut test, "b", back + 1, 1.0);
        let totals: Vec<_> = test.emitted("customer-totals").iter().map(|t| t["total"].clone()).collect();
        assert_eq!(totals, [10.0, 10.0, 11.0, 1.0]);
    }
}
