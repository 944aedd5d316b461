//! `cart-abandonment`: something was put into the cart, and nothing was bought within some minutes.
//!
//! The alert comes when that time is over, in event time: nothing has to happen for it.

use compact_str::CompactString;
use garde::Validate;
use millrace_core::cep::{Detected, FieldValue, Fields, Pattern, field};
use millrace_core::stream::{Context, job as new_job};
use millrace_core::{Job, TimeDomain};
use millrace_wire::Timestamp;
use millrace_wire::event::{EventType, UserEvent};
use millrace_wire::result::{Alert, CartAbandonment, Evidence, Severity, alert_id};
use millrace_wire::topic;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Event;
use crate::apps::parameters::compiles;
use crate::apps::{evidence, span};

/// Live parameters. A change forgets the carts that are waited for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default, deny_unknown_fields)]
struct Params {
    /// A purchase within this time is waited for.
    #[garde(range(min = 1, max = 86_400))]
    #[schemars(title = "Within", extend("x-unit" = "s"))]
    within_s: i64,
    /// Another pattern, over the fields `eventType` and `page` of the events of a user.
    /// `null` is the one that the other parameters say.
    #[garde(custom(compiles(FIELDS)))]
    #[schemars(title = "Pattern", with = "Option<serde_json::Map<String, serde_json::Value>>")]
    pattern: Option<Pattern>,
}

impl Default for Params {
    fn default() -> Self {
        Self { within_s: 120, pattern: None }
    }
}

/// What the pattern keeps of an event. Part of the state.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Step {
    user_id: CompactString,
    session_id: CompactString,
    page: CompactString,
    kind: EventType,
    at: Timestamp,
    evidence: Option<Evidence>,
}

impl Step {
    fn new<P>(event: &UserEvent, ctx: &Context<'_, P>) -> Self {
        Self {
            user_id: event.user_id.clone(),
            session_id: event.session_id.clone(),
            page: event.page.clone(),
            kind: event.event_type,
            at: event.timestamp,
            evidence: evidence(ctx.origin),
        }
    }
}

/// Those of a step.
const FIELDS: &[&str] = &["eventType", "page"];

impl Fields for Step {
    fn field(&self, name: &str) -> FieldValue<'_> {
        match name {
            "eventType" => FieldValue::Text(self.kind.name()),
            "page" => FieldValue::Text(&self.page),
            _ => FieldValue::Null,
        }
    }
}

fn pattern(params: &Params) -> Pattern {
    params.pattern.clone().unwrap_or_else(|| {
        Pattern::begin("cart")
            .where_(field("eventType").eq(EventType::AddToCart.name()))
            .not_followed_by("purchase")
            .where_(field("eventType").eq(EventType::Purchase.name()))
            .within(params.within_s * 1_000)
    })
}

pub(super) fn job() -> Box<dyn Job<Event>> {
    new_job::<Event, Params>("cart-abandonment", "Alerts for carts that are not bought.")
        .topics(&[topic::USER_EVENTS], &[topic::ALERTS])
        .alerts()
        .source(Event::user_event)
        // What is neither is no part of a match. Of another pattern nothing is known.
        .filter(|event, params: &Params| {
            params.pattern.is_some() || matches!(event.event_type, EventType::AddToCart | EventType::Purchase)
        })
        .map(|event, _, ctx| Step::new(event, ctx))
        .key_by(|step| &step.user_id)
        .pattern(pattern, TimeDomain::Event)
        .filter_map(|found, _, ctx| match found {
            Detected::Match { stages, .. } => {
                let mut taken: Vec<_> = stages.iter().flat_map(|(_, steps)| steps).collect();
                taken.sort_by_key(|step| step.at);
                alert(&taken, ctx.params, Timestamp(ctx.now))
            }
            Detected::TimedOut { .. } => None,
        })
        .to(|alert| (topic::ALERTS, &alert.key))
}

/// It is about the first event of the match: what was put into the cart.
fn alert(taken: &[&Step], params: &Params, now: Timestamp) -> Option<Alert<CartAbandonment>> {
    let added = taken.first()?;
    let evidence: Vec<_> = taken.iter().filter_map(|step| step.evidence.clone()).collect();
    let message = if params.pattern.is_some() {
        format!("{} did what the pattern says, from {} on", added.user_id, added.page)
    } else {
        format!("{} bought nothing within {} of filling the cart", added.user_id, span(params.within_s))
    };
    Some(Alert {
        id: alert_id("cart-abandonment", &evidence),
        r#type: "CART_ABANDONMENT".into(),
        severity: Severity::Warning,
        key: added.user_id.clone(),
        message,
        timestamp: now,
        evidence,
        details: CartAbandonment {
            user_id: added.user_id.clone(),
            session_id: added.session_id.clone(),
            page: added.page.clone(),
            first_timestamp: added.at,
        },
    })
}

#[cfg(test)]
mod tests {
    use millrace_core::Effect;
    use millrace_core::testing::Harness;
    use serde_json::json;

    use super::super::tests::view;
    use super::*;

    fn users(test: &mut Harness<Event>) -> Vec<String> {
        test.emitted("alerts").iter().map(|a| a["key"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn a_cart_that_is_not_bought_within_two_minutes_is_one_alert() {
        let mut test = Harness::new(job);
        test.processing_time(77);
        view(&mut test, "u", "add_to_cart", "/product/7", 1_000);
        view(&mut test, "u", "page_view", "/", 2_000);
        view(&mut test, "other", "purchase", "/checkout", 3_000);
        test.watermark(120_999);
        test.restore();
        assert_eq!(users(&mut test), [""; 0]);
        test.watermark(121_000);
        assert_eq!(
            test.keyed("alerts"),
            [(
                "u".into(),
                json!({
                    "id": "cart-abandonment/test/0/0", "type": "CART_ABANDONMENT", "severity": "warning", "key": "u",
                    "message": "u bought nothing within 2 minutes of filling the cart", "timestamp": 77,
                    "evidence": [{"topic": "test", "partition": 0, "offset": 0}],
                    "userId": "u", "sessionId": "s-u", "page": "/product/7", "firstTimestamp": 1_000
                })
            )]
        );
        assert!(test.state_is_empty());
    }

    #[test]
    fn a_purchase_in_time_prevents_it_whatever_the_order_in_which_events_come() {
        let mut test = Harness::new(job);
        view(&mut test, "u", "purchase", "/", 120_999);
        view(&mut test, "u", "add_to_cart", "/", 1_000);
        view(&mut test, "v", "purchase", "/", 121_000);
        view(&mut test, "v", "add_to_cart", "/", 1_000);
        view(&mut test, "w", "purchase", "/", 999);
        view(&mut test, "w", "add_to_cart", "/", 1_000);
        test.watermark(500_000);
        assert_eq!(users(&mut test), ["v", "w"], "two minutes later is too late, and before is not after");
        let stats = test.job().stats();
        assert!(stats.balances(0) && stats.violations == 0, "{stats:?}");
    }

    #[test]
    fn each_article_is_waited_for_and_late_events_are_refused() {
        let mut test = Harness::new(job);
        view(&mut test, "u", "add_to_cart", "/a", 0);
        view(&mut test, "u", "add_to_cart", "/b", 60_000);
        view(&mut test, "u", "purchase", "/", 150_000);
        test.watermark(200_000);
        let pages: Vec<_> = test.emitted("alerts").iter().map(|a| a["page"].clone()).collect();
        assert_eq!(pages, ["/a"], "the second was bought in time");
        view(&mut test, "u", "add_to_cart", "/c", 200_000);
        assert_eq!(test.rest(), [Effect::Late { job: "cart-abandonment", watermark: 200_000 }]);
    }

    #[test]
    fn the_time_is_live() {
        let mut test = Harness::new(job);
        test.params(1, &json!({"within_s": 5})).unwrap();
        view(&mut test, "u", "add_to_cart", "/", 0);
        test.watermark(5_000);
        assert_eq!(users(&mut test), ["u"]);
        assert!(test.params(2, &json!({"within_s": 0})).unwrap_err().0.contains("within_s"));
    }

    #[test]
    fn the_pattern_is_live() {
        let mut test = Harness::new(job);
        let is =
            |field: &str, text: &str| json!({"op": "eq", "left": {"field": field}, "right": {"const": text}});
        let searched_and_left = json!({
            "pattern": [
                {"stage": "search", "where": is("page", "/search")},
                {"stage": "leaves", "contiguity": "next", "where": is("eventType", "logout")}
            ],
            "within": 60_000
        });
        test.params(1, &json!({"pattern": searched_and_left})).unwrap();
        view(&mut test, "u", "search", "/search", 1_000);
        view(&mut test, "u", "logout", "/", 2_000);
        view(&mut test, "v", "add_to_cart", "/", 1_000);
        test.watermark(500_000);
        let alerts = test.emitted("alerts");
        assert_eq!((alerts.len(), &alerts[0]["id"]), (1, &json!("cart-abandonment/test/0/0,1")));
        assert_eq!(alerts[0]["message"], "u did what the pattern says, from /search on");
        assert!(test.params(2, &json!({"pattern": {"pattern": []}})).unwrap_err().0.contains("no elements"));
    }
}
