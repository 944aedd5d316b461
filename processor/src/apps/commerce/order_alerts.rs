//! `order-alerts`: an alert for an order of high value, and for one that follows the customer's last order too soon.
//!
//! Time is event time: of two orders that come in the wrong order, the one that comes second raises the alert.

use garde::Validate;
use millrace_core::process::{Current, ProcessContext, ProcessFunction};
use millrace_core::state::Ttl;
use millrace_core::stream::job as new_job;
use millrace_core::{EventTime, Job};
use millrace_wire::Timestamp;
use millrace_wire::event::Order;
use millrace_wire::result::{Alert, Evidence, OrderAlert, Severity, alert_id};
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
    /// An order above this amount is of high value.
    #[garde(range(min = 0.0, max = 1e12))]
    #[schemars(title = "High value above", extend("x-unit" = "$"))]
    high_value: f64,
    /// Less than this after the customer's last order is too soon.
    #[garde(range(min = 1, max = 86_400))]
    #[schemars(title = "Rapid within", extend("x-unit" = "s"))]
    rapid_s: i64,
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
            high_value: 400.0,
            rapid_s: 300,
            categories: Categories::default(),
            ttl_days: TtlDays::default(),
        }
    }
}

/// The latest order of a customer, by event time.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Latest {
    at: i64,
    evidence: Option<Evidence>,
}

struct Watch;

impl ProcessFunction<Params, Order> for Watch {
    type State = Option<Latest>;
    type Out = Alert<OrderAlert>;

    fn record(
        &mut self,
        order: &Order,
        at: EventTime,
        latest: &mut Current<Option<Latest>>,
        ctx: &mut ProcessContext<'_, '_, Params, Self::Out>,
    ) {
        let Params { high_value, rapid_s, .. } = *ctx.params();
        let (this, now) = (evidence(ctx.origin()), Timestamp(ctx.now()));
        if order.amount > high_value {
            let message =
                format!("Order {} of ${:.2} is above ${high_value:.2}", order.order_id, order.amount);
            ctx.collect(alert("HIGH_VALUE_ORDER", order, message, now, this.iter().cloned().collect()));
        }
        if let Some(last) = &**latest {
            let gap = (at.0 - last.at).abs();
            if gap < rapid_s * 1_000 {
                let message = format!(
                    "Order {} is {} s from the last one of {}, less than {}",
                    order.order_id,
                    gap / 1_000,
                    order.customer_id,
                    span(rapid_s)
                );
                let both = last.evidence.iter().chain(&this).cloned().collect();
                ctx.collect(alert("RAPID_ORDERING", order, message, now, both));
            }
        }
        if latest.as_ref().is_none_or(|last| last.at <= at.0) {
            **latest = Some(Latest { at: at.0, evidence: this });
        }
    }

    fn ttl(&self, params: &Params) -> Option<Ttl> {
        Some(params.ttl_days.ttl())
    }
}

fn alert(
    r#type: &'static str,
    order: &Order,
    message: String,
    now: Timestamp,
    evidence: Vec<Evidence>,
) -> Alert<OrderAlert> {
    Alert {
        id: alert_id("order-alerts", &evidence),
        r#type: r#type.into(),
        severity: Severity::Warning,
        key: order.customer_id.clone(),
        message,
        timestamp: now,
        evidence,
        details: OrderAlert {
            customer_id: order.customer_id.clone(),
            order_id: order.order_id.clone(),
            amount: order.amount,
        },
    }
}

pub(super) fn job() -> Box<dyn Job<Event>> {
    new_job::<Event, Params>("order-alerts", "Alerts for orders of high value and for rapid ordering.")
        .topics(&[topic::ORDERS], &[topic::ALERTS])
        .alerts()
        .source(|order: &Order| Some(order))
        .filter(|order, params| params.categories.admit(order))
        .key_by(|order| &order.customer_id)
        .process(Watch)
        .to(|alert| (topic::ALERTS, &alert.key))
}

#[cfg(test)]
mod tests {
    use millrace_core::testing::Harness;
    use serde_json::{Value, json};

    use super::super::tests::order;
    use super::*;

    fn alerts(test: &mut Harness<Event>) -> Vec<(Value, Value)> {
        test.emitted("alerts").into_iter().map(|a| (a["type"].clone(), a["orderId"].clone())).collect()
    }

    #[test]
    fn an_order_above_400_is_of_high_value() {
        let mut test = Harness::new(job);
        test.processing_time(77);
        order(&mut test, "a", 0, 400.0);
        order(&mut test, "c", 1, 400.01);
        assert_eq!(
            test.keyed("alerts"),
            [(
                "c".into(),
                json!({
                    "id": "order-alerts/test/0/1", "type": "HIGH_VALUE_ORDER", "severity": "warning", "key": "c",
                    "message": "Order o1 of $400.01 is above $400.00", "timestamp": 77,
                    "evidence": [{"topic": "test", "partition": 0, "offset": 1}],
                    "customerId": "c", "orderId": "o1", "amount": 400.01
                })
            )]
        );
    }

    #[test]
    fn less_than_five_minutes_after_the_last_order_is_rapid() {
        let mut test = Harness::new(job);
        order(&mut test, "c", 0, 1.0);
        order(&mut test, "other", 1, 1.0);
        order(&mut test, "c", 300_000, 1.0);
        assert_eq!(alerts(&mut test), []);
        test.restore();
        order(&mut test, "c", 599_999, 1.0);
        let alerts = test.emitted("alerts");
        assert_eq!(alerts.len(), 1);
        assert_eq!(
            (&alerts[0]["type"], &alerts[0]["id"], &alerts[0]["message"]),
            (
                &json!("RAPID_ORDERING"),
                &json!("order-alerts/test/0/2,3"),
                &json!("Order o599999 is 299 s from the last one of c, less than 5 minutes")
            )
        );
    }

    #[test]
    fn an_order_may_raise_both() {
        let mut test = Harness::new(job);
        order(&mut test, "c", 0, 1.0);
        order(&mut test, "c", 1, 500.0);
        assert_eq!(
            alerts(&mut test),
            [(json!("HIGH_VALUE_ORDER"), json!("o1")), (json!("RAPID_ORDERING"), json!("o1"))]
        );
        let stats = test.job().stats();
        assert!(stats.balances(0) && stats.emitted == 2, "{stats:?}");
    }

    #[test]
    fn orders_in_the_wrong_order_are_rapid_too_and_the_latest_stays_the_latest() {
        let mut test = Harness::new(job);
        order(&mut test, "c", 1_000_000, 1.0);
        test.watermark(1_000_000);
        order(&mut test, "c", 999_000, 1.0);
        order(&mut test, "c", 400_000, 1.0);
        assert_eq!(alerts(&mut test), [(json!("RAPID_ORDERING"), json!("o999000"))]);
        order(&mut test, "c", 1_299_999, 1.0);
        assert_eq!(alerts(&mut test).len(), 1);
    }

    #[test]
    fn limits_are_live() {
        let mut test = Harness::new(job);
        test.params(1, &json!({"high_value": 10, "rapid_s": 1})).unwrap();
        order(&mut test, "c", 0, 11.0);
        order(&mut test, "c", 1_000, 1.0);
        order(&mut test, "c", 1_999, 1.0);
        assert_eq!(
            alerts(&mut test),
            [(json!("HIGH_VALUE_ORDER"), json!("o0")), (json!("RAPID_ORDERING"), json!("o1999"))]
        );
        assert!(test.params(2, &json!({"rapid_s": 0})).unwrap_err().0.contains("rapid_s"));
    }
}
