//! `customer-tiers`: an event whenever the tier of a customer changes, by what the customer has spent. The first order is a
//! change from no tier.

use garde::Validate;
use millrace_core::Job;
use millrace_core::process::Current;
use millrace_core::stream::job as new_job;
use millrace_wire::event::Order;
use millrace_wire::result::{Tier, TierChange};
use millrace_wire::topic;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Categories, Event, Spent};
use crate::apps::parameters::{TtlDays, not_below};

/// Live parameters. A change shows with the next order of each customer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default, deny_unknown_fields)]
struct Params {
    /// Who has spent this much is VIP.
    #[garde(range(min = 0.0, max = 1e12))]
    #[schemars(title = "VIP from", extend("x-unit" = "$"))]
    vip: f64,
    /// Who has spent this much is PREMIUM; not below VIP.
    #[garde(range(min = 0.0, max = 1e12), custom(not_below(&self.vip)))]
    #[schemars(title = "PREMIUM from", extend("x-unit" = "$"))]
    premium: f64,
    /// Only orders of these categories count; none means all.
    #[garde(dive)]
    #[schemars(title = "Categories")]
    categories: Categories,
    #[garde(dive)]
    ttl_days: TtlDays,
}

impl Default for Params {
    fn default() -> Self {
        Self { vip: 500.0, premium: 1_000.0, categories: Categories::default(), ttl_days: TtlDays::default() }
    }
}

impl Params {
    fn tier(&self, total: f64) -> Tier {
        if total >= self.premium {
            Tier::Premium
        } else if total >= self.vip {
            Tier::Vip
        } else {
            Tier::Regular
        }
    }
}

/// What is known of a customer.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Customer {
    spent: Spent,
    tier: Option<Tier>,
}

pub(super) fn job() -> Box<dyn Job<Event>> {
    new_job::<Event, Params>("customer-tiers", "Changes of a customer's tier.")
        .topics(&[topic::ORDERS], &[topic::CUSTOMER_TIERS])
        .source(|order: &Order| Some(order))
        .filter(|order, params| params.categories.admit(order))
        .key_by(|order| &order.customer_id)
        .map_with_state_ttl(
            |params: &Params| params.ttl_days.ttl(),
            |order, customer: &mut Current<Customer>, _, params: &Params| {
                customer.spent.add(order);
                let Spent { total, orders } = customer.spent;
                let tier = params.tier(total);
                let previous = customer.tier.replace(tier);
                (previous != Some(tier)).then(|| TierChange {
                    customer_id: order.customer_id.clone(),
                    tier,
                    previous,
                    total,
                    orders,
                    changed: previous.is_some(),
                    timestamp: order.timestamp,
                })
            },
        )
        .to(|change| (topic::CUSTOMER_TIERS, &change.customer_id))
}

#[cfg(test)]
mod tests {
    use millrace_core::testing::Harness;
    use serde_json::{Value, json};

    use super::super::tests::order;
    use super::*;

    fn tiers(test: &mut Harness<Event>) -> Vec<Value> {
        test.emitted("customer-tiers").into_iter().map(|change| change["tier"].clone()).collect()
    }

    #[test]
    fn an_event_comes_at_each_change_and_only_then() {
        let mut test = Harness::new(job);
        for (at, amount) in [(1, 499.99), (2, 0.01), (3, 499.99), (4, 0.01), (5, 1.0)] {
            order(&mut test, "c", at, amount);
            test.restore();
        }
        let changes = test.keyed("customer-tiers");
        assert!(changes.iter().all(|(key, _)| key == "c"));
        let seen: Vec<_> = changes
            .iter()
            .map(|(_, c)| {
                (c["tier"].clone(), c["previous"].clone(), c["orders"].clone(), c["timestamp"].clone())
            })
            .collect();
        assert_eq!(
            seen,
            [
                (json!("REGULAR"), json!(null), json!(1), json!(1)),
                (json!("VIP"), json!("REGULAR"), json!(2), json!(2)),
                (json!("PREMIUM"), json!("VIP"), json!(4), json!(4)),
            ]
        );
        assert_eq!(
            changes[1].1,
            json!({"customerId": "c", "tier": "VIP", "previous": "REGULAR", "total": 500.0, "orders": 2,
                   "changed": true, "timestamp": 2})
        );
        assert_eq!(test.job().stats().done, 5);
    }

    #[test]
    fn one_large_order_skips_a_tier_and_customers_are_apart() {
        let mut test = Harness::new(job);
        order(&mut test, "a", 1, 400.0);
        order(&mut test, "b", 2, 400.0);
        order(&mut test, "a", 3, 600.0);
        assert_eq!(tiers(&mut test), ["REGULAR", "REGULAR", "PREMIUM"]);
    }

    #[test]
    fn limits_are_live_and_in_order() {
        let mut test = Harness::new(job);
        order(&mut test, "c", 1, 100.0);
        test.params(1, &json!({"vip": 50, "premium": 102})).unwrap();
        order(&mut test, "c", 2, 1.0);
        order(&mut test, "c", 0, 1.0);
        assert_eq!(tiers(&mut test), ["REGULAR", "VIP", "PREMIUM"]);
        let error = test.params(2, &json!({"vip": 2_000})).unwrap_err();
        assert!(error.0.contains("premium") && error.0.contains("2000"), "{error}");
    }
}
