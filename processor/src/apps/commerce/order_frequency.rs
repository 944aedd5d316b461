//! `order-frequency`: an event whenever the number of a customer's orders makes the customer another kind.

use garde::Validate;
use millrace_core::Job;
use millrace_core::process::Current;
use millrace_core::stream::job as new_job;
use millrace_wire::event::Order;
use millrace_wire::result::{Frequency, FrequencyChange};
use millrace_wire::topic;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Categories, Event};
use crate::apps::parameters::{TtlDays, not_below};

/// Live parameters. A change shows with the next order of each customer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default, deny_unknown_fields)]
struct Params {
    /// A customer is OCCASIONAL from this order on, and NEW_CUSTOMER before.
    #[garde(range(min = 1, max = 1_000_000))]
    #[schemars(title = "OCCASIONAL from", extend("x-unit" = "orders"))]
    occasional: u64,
    /// REGULAR from this order on; not below OCCASIONAL.
    #[garde(range(min = 1, max = 1_000_000), custom(not_below(&self.occasional)))]
    #[schemars(title = "REGULAR from", extend("x-unit" = "orders"))]
    regular: u64,
    /// FREQUENT from this order on; not below REGULAR.
    #[garde(range(min = 1, max = 1_000_000), custom(not_below(&self.regular)))]
    #[schemars(title = "FREQUENT from", extend("x-unit" = "orders"))]
    frequent: u64,
    /// Only orders of these categories count; none means all.
    #[garde(dive)]
    #[schemars(title = "Categories")]
    categories: Categories,
    #[garde(dive)]
    ttl_days: TtlDays,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            occasional: 2,
            regular: 6,
            frequent: 10,
            categories: Categories::default(),
            ttl_days: TtlDays::default(),
        }
    }
}

impl Params {
    fn frequency(&self, orders: u64) -> Frequency {
        if orders >= self.frequent {
            Frequency::Frequent
        } else if orders >= self.regular {
            Frequency::Regular
        } else if orders >= self.occasional {
            Frequency::Occasional
        } else {
            Frequency::NewCustomer
        }
    }
}

/// What is known of a customer.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Customer {
    orders: u64,
    frequency: Option<Frequency>,
}

pub(super) fn job() -> Box<dyn Job<Event>> {
    new_job::<Event, Params>("order-frequency", "Changes of how often a customer orders.")
        .topics(&[topic::ORDERS], &[topic::ORDER_FREQUENCY])
        .source(|order: &Order| Some(order))
        .filter(|order, params| params.categories.admit(order))
        .key_by(|order| &order.customer_id)
        .map_with_state_ttl(
            |params: &Params| params.ttl_days.ttl(),
            |order, customer: &mut Current<Customer>, _, params: &Params| {
                customer.orders += 1;
                let orders = customer.orders;
                let frequency = params.frequency(orders);
                let previous = customer.frequency.replace(frequency);
                (previous != Some(frequency)).then(|| FrequencyChange {
                    customer_id: order.customer_id.clone(),
                    orders,
                    frequency,
                    previous,
                    changed: previous.is_some(),
                    timestamp: order.timestamp,
                })
            },
        )
        .to(|change| (topic::ORDER_FREQUENCY, &change.customer_id))
}

#[cfg(test)]
mod tests {
    use millrace_core::testing::Harness;
    use serde_json::json;

    use super::super::tests::order;
    use super::*;

    #[test]
    fn an_event_comes_at_the_first_second_sixth_and_tenth_order() {
        let mut test = Harness::new(job);
        for at in 1..=12 {
            order(&mut test, "c", at, 1.0);
            test.restore();
        }
        let change = |orders: i64, frequency: &str, previous: Option<&str>| {
            let change = json!({"customerId": "c", "orders": orders, "frequency": frequency, "previous": previous,
                                "changed": previous.is_some(), "timestamp": orders});
            ("c".to_owned(), change)
        };
        assert_eq!(
            test.keyed("order-frequency"),
            [
                change(1, "NEW_CUSTOMER", None),
                change(2, "OCCASIONAL", Some("NEW_CUSTOMER")),
                change(6, "REGULAR", Some("OCCASIONAL")),
                change(10, "FREQUENT", Some("REGULAR")),
            ]
        );
    }

    #[test]
    fn limits_are_live_and_in_order() {
        let mut test = Harness::new(job);
        test.params(1, &json!({"occasional": 1, "regular": 2, "frequent": 2})).unwrap();
        for at in [5, 4] {
            order(&mut test, "c", at, 1.0);
        }
        let kinds: Vec<_> = test.emitted("order-frequency").iter().map(|c| c["frequency"].clone()).collect();
        assert_eq!(kinds, ["OCCASIONAL", "FREQUENT"]);
        assert!(test.params(2, &json!({"regular": 1})).unwrap_err().0.contains("regular"));
        assert!(test.params(2, &json!({"occasional": 0})).unwrap_err().0.contains("occasional"));
    }
}
