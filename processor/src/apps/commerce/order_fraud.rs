//! `order-fraud`: an alert for an order of a very large amount, at once, and for each order that makes it too many of one
//! customer in a short time.
//!
//! Time is event time, whatever the order in which orders come: the sixth of six within a minute raises the alert, and so
//! does each further one as long as there are more than five.

use garde::Validate;
use millrace_core::process::{Current, ProcessContext, ProcessFunction};
use millrace_core::state::Ttl;
use millrace_core::stream::job as new_job;
use millrace_core::{EventTime, Job};
use millrace_wire::Timestamp;
use millrace_wire::event::Order;
use millrace_wire::result::{Alert, Evidence, OrderFraud, Severity, alert_id};
use millrace_wire::topic;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Categories, Event};
use crate::apps::parameters::TtlDays;
use crate::apps::{evidence, span};

/// Live parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default, deny_unknown_fields)]
struct Params {
    /// An order above this amount raises an alert.
    #[garde(range(min = 0.0, max = 1e12))]
    #[schemars(title = "Amount above", extend("x-unit" = "$"))]
    amount: f64,
    /// More orders than this of one customer within the period raise an alert.
    #[garde(range(min = 1, max = 50))]
    #[schemars(title = "More than", extend("x-unit" = "orders"))]
    orders: usize,
    /// The period.
    #[garde(range(min = 1, max = 86_400))]
    #[schemars(title = "Within", extend("x-unit" = "s"))]
    period_s: i64,
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
            amount: 1_000.0,
            orders: 5,
            period_s: 60,
            categories: Categories::default(),
            ttl_days: TtlDays::default(),
        }
    }
}

/// An order, as it is remembered.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Placed {
    at: i64,
    evidence: Option<Evidence>,
}

struct Watch;

impl ProcessFunction<Params, Order> for Watch {
    /// The latest orders of a customer, oldest first: one more than may come within the period.
    type State = Vec<Placed>;
    type Out = Alert<OrderFraud>;

    fn record(
        &mut self,
        order: &Order,
        at: EventTime,
        latest: &mut Current<Vec<Placed>>,
        ctx: &mut ProcessContext<'_, '_, Params, Self::Out>,
    ) {
        let Params { amount, orders, period_s, .. } = *ctx.params();
        let (this, now) = (evidence(ctx.origin()), Timestamp(ctx.now()));
        if order.amount > amount {
            let reason = format!("Order amount > ${amount}");
            ctx.collect(alert(order, reason, now, this.iter().cloned().collect()));
        }
        let place = latest.partition_point(|placed| placed.at <= at.0);
        latest.insert(place, Placed { at: at.0, evidence: this });
        let surplus = latest.len().saturating_sub(orders + 1);
        latest.drain(..surplus);
        // One that is older than all that are remembered is not in a crowd.
        let too_many = place >= surplus
            && latest.len() > orders
            && latest.first().zip(latest.last()).is_some_and(|(a, b)| b.at - a.at < period_s * 1_000);
        if too_many {
            let reason = format!("More than {orders} orders in {}", span(period_s));
            let evidence = latest.iter().filter_map(|placed| placed.evidence.clone()).collect();
            ctx.collect(alert(order, reason, now, evidence));
        }
    }

    fn ttl(&self, params: &Params) -> Option<Ttl> {
        Some(params.ttl_days.ttl())
    }
}

fn alert(order: &Order, reason: String, now: Timestamp, evidence: Vec<Evidence>) -> Alert<OrderFraud> {
    Alert {
        id: alert_id("order-fraud", &evidence),
        r#type: "fraud_alert".into(),
        severity: Severity::High,
        key: order.customer_id.clone(),
        message: format!("{reason}: order {} of customer {}", order.order_id, order.customer_id),
        timestamp: now,
        evidence,
        details: OrderFraud {
            customer_id: order.customer_id.clone(),
            reason,
            order_id: order.order_id.clone(),
            amount: order.amount,
        },
    }
}

pub(super) fn job() -> Box<dyn Job<Event>> {
    new_job::<Event, Params>("order-fraud", "Alerts for very large orders and for too many of one customer.")
        .topics(&[topic::ORDERS], &[topic::ANALYTICS])
        .alerts()
        .source(|order: &Order| Some(order))
        .filter(|order, params| params.categories.admit(order))
        .key_by(|order| &order.customer_id)
        .process(Watch)
        .to(|alert| (topic::ANALYTICS, &alert.key))
}

#[cfg(test)]
mod tests {
    use millrace_core::testing::Harness;
    use serde_json::{Value, json};

    use super::super::tests::order;
    use super::*;

    fn alerts(test: &mut Harness<Event>) -> Vec<(Value, Value)> {
        test.emitted("analytics").into_iter().map(|a| (a["order_id"].clone(), a["reason"].clone())).collect()
    }

    #[test]
    fn an_order_above_1000_raises_an_alert_at_once() {
        let mut test = Harness::new(job);
        test.processing_time(77);
        order(&mut test, "a", 0, 1_000.0);
        order(&mut test, "c", 1, 1_000.5);
        assert_eq!(
            test.keyed("analytics"),
            [(
                "c".into(),
                json!({
                    "id": "order-fraud/test/0/1", "type": "fraud_alert", "severity": "high", "key": "c",
                    "message": "Order amount > $1000: order o1 of customer c", "timestamp": 77,
                    "evidence": [{"topic": "test", "partition": 0, "offset": 1}],
                    "customer_id": "c", "reason": "Order amount > $1000", "order_id": "o1", "amount": 1_000.5
                })
            )]
        );
    }

    #[test]
    fn the_sixth_order_within_a_minute_raises_an_alert_with_all_six() {
        let mut test = Harness::new(job);
        for at in [0, 10_000, 20_000, 30_000, 40_000] {
            order(&mut test, "c", at, 1.0);
            order(&mut test, &format!("other-{at}"), at, 1.0);
        }
        test.restore();
        assert_eq!(alerts(&mut test), []);
        order(&mut test, "c", 59_999, 7.0);
        let found = test.emitted("analytics");
        assert_eq!(found.len(), 1);
        assert_eq!(
            (&found[0]["reason"], &found[0]["order_id"], &found[0]["amount"], &found[0]["id"]),
            (
                &json!("More than 5 orders in 1 minute"),
                &json!("o59999"),
                &json!(7.0),
                &json!("order-fraud/test/0/0,2,4,6,8,10")
            )
        );
    }

    #[test]
    fn six_in_a_whole_minute_are_not_too_many_and_any_minute_counts() {
        let mut test = Harness::new(job);
        for at in [0, 50_000, 51_000, 52_000, 53_000, 60_000] {
            order(&mut test, "c", at, 1.0);
        }
        assert_eq!(alerts(&mut test), []);
        order(&mut test, "c", 61_000, 1.0);
        assert_eq!(alerts(&mut test).len(), 1, "50 to 61 s: across two minutes of the clock");
    }

    #[test]
    fn the_order_in_which_orders_come_does_not_matter() {
        let mut test = Harness::new(job);
        for at in [50_000, 10_000, 30_000, 20_000, 40_000] {
            order(&mut test, "c", at, 1.0);
        }
        test.watermark(50_000);
        order(&mut test, "c", 15_000, 1.0);
        assert_eq!(alerts(&mut test), [(json!("o15000"), json!("More than 5 orders in 1 minute"))]);
        order(&mut test, "c", 1, 1.0);
        assert_eq!(alerts(&mut test), [], "older than all of the six");
    }

    #[test]
    fn limits_are_live() {
        let mut test = Harness::new(job);
        test.params(1, &json!({"amount": 99.5, "orders": 1, "period_s": 90})).unwrap();
        order(&mut test, "c", 0, 100.0);
        order(&mut test, "c", 89_999, 1.0);
        assert_eq!(
            alerts(&mut test),
            [
                (json!("o0"), json!("Order amount > $99.5")),
                (json!("o89999"), json!("More than 1 orders in 90 seconds"))
            ]
        );
        assert!(test.params(2, &json!({"orders": 0})).unwrap_err().0.contains("orders"));
    }
}
