//! `segments`: what kind of customer it is, by all orders so far; an event whenever that changes. A customer may be of
//! several segments, or of none.

use std::collections::BTreeMap;

use compact_str::CompactString;
use garde::Validate;
use millrace_core::Job;
use millrace_core::process::Current;
use millrace_core::stream::job as new_job;
use millrace_wire::event::Order;
use millrace_wire::result::{Segment, SegmentChange};
use millrace_wire::topic;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Categories, Event, Spent};
use crate::apps::parameters::TtlDays;

/// Live parameters. A change shows with the next order of each customer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default, deny_unknown_fields)]
struct Params {
    /// NEW_CUSTOMER up to so many orders; PRICE_SENSITIVE and CATEGORY_FOCUSED need more.
    #[garde(range(min = 0, max = 1_000_000))]
    #[schemars(title = "New up to", extend("x-unit" = "orders"))]
    new_orders: u64,
    /// PRICE_SENSITIVE with an average order below this amount.
    #[garde(range(min = 0.0, max = 1e12))]
    #[schemars(title = "Price sensitive below", extend("x-unit" = "$"))]
    low_average: f64,
    /// HIGH_VALUE from this total on.
    #[garde(range(min = 0.0, max = 1e12))]
    #[schemars(title = "High value from", extend("x-unit" = "$"))]
    high_total: f64,
    /// FREQUENT_BUYER from so many orders on.
    #[garde(range(min = 1, max = 1_000_000))]
    #[schemars(title = "Frequent from", extend("x-unit" = "orders"))]
    frequent_orders: u64,
    /// CATEGORY_FOCUSED with at least this share of the orders in one category.
    #[garde(range(min = 0.0, max = 1.0))]
    #[schemars(title = "Focused from a share of")]
    focus_share: f64,
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
            new_orders: 2,
            low_average: 50.0,
            high_total: 1_000.0,
            frequent_orders: 10,
            focus_share: 0.7,
            categories: Categories::default(),
            ttl_days: TtlDays::default(),
        }
    }
}

/// Categories that are counted per customer; orders of further ones count without their category.
const COUNTED: usize = 100;

/// What is known of a customer.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Customer {
    spent: Spent,
    categories: BTreeMap<CompactString, u64>,
    segments: Vec<Segment>,
}

impl Customer {
    fn add(&mut self, order: &Order) {
        self.spent.add(order);
        if let Some(orders) = self.categories.get_mut(&order.category) {
            *orders += 1;
        } else if self.categories.len() < COUNTED {
            self.categories.insert(order.category.clone(), 1);
        }
    }

    /// The category with most orders, the first by name if there are several, and how many.
    fn favourite(&self) -> (CompactString, u64) {
        let most = self.categories.iter().rev().max_by_key(|(_, orders)| **orders);
        most.map(|(category, orders)| (category.clone(), *orders)).unwrap_or_default()
    }

    fn average(&self) -> f64 {
        self.spent.total / self.spent.orders.max(1) as f64
    }

    fn segments(&self, params: &Params) -> Vec<Segment> {
        let Spent { total, orders } = self.spent;
        let known = orders > params.new_orders;
        let focus = self.favourite().1 as f64 / orders.max(1) as f64;
        let rules = [
            (Segment::NewCustomer, !known),
            (Segment::PriceSensitive, known && self.average() < params.low_average),
            (Segment::HighValue, total >= params.high_total),
            (Segment::FrequentBuyer, orders >= params.frequent_orders),
            (Segment::CategoryFocused, known && focus >= params.focus_share),
        ];
        rules.into_iter().filter(|(_, holds)| *holds).map(|(segment, _)| segment).collect()
    }
}

pub(super) fn job() -> Box<dyn Job<Event>> {
    new_job::<Event, Params>("segments", "Changes of what kind of customer it is.")
        .topics(&[topic::ORDERS], &[topic::CUSTOMER_SEGMENTS])
        .source(|order: &Order| Some(order))
        .filter(|order, params| params.categories.admit(order))
        .key_by(|order| &order.customer_id)
        .map_with_state_ttl(
            |params: &Params| params.ttl_days.ttl(),
            |order, customer: &mut Current<Customer>, _, params: &Params| {
                customer.add(order);
                let segments = customer.segments(params);
                if segments == customer.segments {
                    return None;
                }
                let previous = std::mem::replace(&mut customer.segments, segments.clone());
                Some(SegmentChange {
                    customer_id: order.customer_id.clone(),
                    segments,
                    previous,
                    orders: customer.spent.orders,
                    total: customer.spent.total,
                    average: customer.average(),
                    category: customer.favourite().0,
                    timestamp: order.timestamp,
                })
            },
        )
        .to(|change| (topic::CUSTOMER_SEGMENTS, &change.customer_id))
}

#[cfg(test)]
mod tests {
    use millrace_core::testing::Harness;
    use serde_json::{Value, json};

    use super::super::tests::order_of;
    use super::*;

    /// Segments after each change, for orders (category, amount).
    fn segments(test: &mut Harness<Event>, orders: &[(&str, f64)]) -> Vec<Value> {
        for (at, (category, amount)) in (0..).zip(orders) {
            order_of(test, "c", category, at, *amount);
            test.restore();
        }
        test.emitted("customer-segments").into_iter().map(|change| change["segments"].clone()).collect()
    }

    #[test]
    fn two_orders_are_a_new_customer_then_habits_show() {
        let orders = [("books", 100.0), ("toys", 100.0), ("games", 100.0), ("books", 100.0)];
        let mut test = Harness::new(job);
        assert_eq!(segments(&mut test, &orders), [json!(["NEW_CUSTOMER"]), json!([])]);
        let mut test = Harness::new(job);
        let orders = [("books", 49.0), ("toys", 49.0), ("games", 49.0)];
        assert_eq!(segments(&mut test, &orders), [json!(["NEW_CUSTOMER"]), json!(["PRICE_SENSITIVE"])]);
    }

    #[test]
    fn a_change_says_what_it_rests_on() {
        let mut test = Harness::new(job);
        let orders = [("books", 500.0), ("books", 499.0), ("books", 501.0), ("toys", 0.0), ("toys", 0.0)];
        for (at, (category, amount)) in (0..).zip(orders) {
            order_of(&mut test, "c", category, at, amount);
        }
        let changes = test.keyed("customer-segments");
        assert_eq!(changes.len(), 3, "new; valuable and focused with the third; not focused with 3 of 5");
        assert_eq!(
            changes[1],
            (
                "c".into(),
                json!({"customerId": "c", "segments": ["HIGH_VALUE", "CATEGORY_FOCUSED"], "previous": ["NEW_CUSTOMER"],
                       "orders": 3, "total": 1_500.0, "average": 500.0, "category": "books", "timestamp": 2})
            )
        );
        assert_eq!(changes[2].1["segments"], json!(["HIGH_VALUE"]));
    }

    #[test]
    fn ten_orders_are_frequent() {
        let mut test = Harness::new(job);
        let orders: Vec<_> = (0..10).map(|i| (["a", "b"][i % 2], 60.0)).collect();
        assert_eq!(
            segments(&mut test, &orders),
            [json!(["NEW_CUSTOMER"]), json!([]), json!(["FREQUENT_BUYER"])]
        );
    }

    #[test]
    fn limits_are_live() {
        let mut test = Harness::new(job);
        test.params(1, &json!({"new_orders": 0, "low_average": 1_000, "focus_share": 1})).unwrap();
        assert_eq!(segments(&mut test, &[("x", 1.0)]), [json!(["PRICE_SENSITIVE", "CATEGORY_FOCUSED"])]);
        assert!(test.params(2, &json!({"focus_share": 1.5})).unwrap_err().0.contains("focus_share"));
    }

    #[test]
    fn a_customer_of_very_many_categories_takes_bounded_state() {
        let mut customer = Customer::default();
        for i in 0..1_000 {
            let order = json!({"orderId": "o", "customerId": "c", "amount": 1, "timestamp": 0, "category": i.to_string()});
            customer.add(&serde_json::from_value(order).unwrap());
        }
        assert_eq!((customer.categories.len(), customer.spent.orders), (COUNTED, 1_000));
    }
}
