//! `card-fraud`: a card that is tried out with a small payment and then used for a large one, and a card that is used too often
//! in a short time. Both are patterns over the payments of a user in the order of event time.
//!
//! The payments of an alert are not used again: ten within half a minute are two alerts of five.

use garde::Validate;
use millrace_core::cep::{AfterMatch, Detected, Pattern};
use millrace_core::stream::job as new_job;
use millrace_core::{Job, TimeDomain};
use millrace_wire::Timestamp;
use millrace_wire::result::{Alert, CardFraud, Severity, alert_id};
use millrace_wire::topic;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::payment::{FIELDS, Payment, amount, in_order};
use super::{Event, seconds_between};
use crate::apps::parameters::{compiles, not_below};

/// Live parameters. A change forgets what is under way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default, deny_unknown_fields)]
struct Params {
    /// A payment below this may be a test of the card.
    #[garde(range(min = 0.0, max = 1e12))]
    #[schemars(title = "Small: below")]
    small: f64,
    /// The one that follows it is above this, which is not less than what is small.
    #[garde(range(min = 0.0, max = 1e12), custom(not_below(&self.small)))]
    #[schemars(title = "Large: above")]
    large: f64,
    /// Less than this lies between the small and the large payment.
    #[garde(range(min = 1, max = 86_400))]
    #[schemars(title = "Small to large within", extend("x-unit" = "s"))]
    within_s: i64,
    /// So many payments are too many.
    #[garde(range(min = 3, max = 50))]
    #[schemars(title = "Velocity", extend("x-unit" = "payments"))]
    payments: u32,
    /// Less than this lies between the first and the last of them.
    #[garde(range(min = 1, max = 86_400))]
    #[schemars(title = "Velocity within", extend("x-unit" = "s"))]
    velocity_s: i64,
    /// Another pattern of a card that is tried out, over the field `amount` of the payments of a user.
    /// `null` is the one that the other parameters say.
    #[garde(custom(compiles(FIELDS)))]
    #[schemars(title = "Pattern", with = "Option<serde_json::Map<String, serde_json::Value>>")]
    pattern: Option<Pattern>,
    /// Another pattern of a card that is used too often, over the same.
    /// `null` is the one that the other parameters say.
    #[garde(custom(compiles(FIELDS)))]
    #[schemars(title = "Velocity: pattern", with = "Option<serde_json::Map<String, serde_json::Value>>")]
    velocity_pattern: Option<Pattern>,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            small: 5.0,
            large: 500.0,
            within_s: 60,
            payments: 5,
            velocity_s: 30,
            pattern: None,
            velocity_pattern: None,
        }
    }
}

const SMALL: &str = "small";
const LARGE: &str = "large";
const PAYMENTS: &str = "payments";

fn testing(params: &Params) -> Pattern {
    params.pattern.clone().unwrap_or_else(|| {
        Pattern::begin(SMALL)
            .where_(amount().lt(params.small))
            .followed_by(LARGE)
            .where_(amount().gt(params.large))
            .within(params.within_s * 1_000)
            .after_match(AfterMatch::PastLast)
    })
}

fn velocity(params: &Params) -> Pattern {
    params.velocity_pattern.clone().unwrap_or_else(|| {
        Pattern::begin(PAYMENTS)
            .times(params.payments)
            .within(params.velocity_s * 1_000)
            .after_match(AfterMatch::PastLast)
    })
}

pub(super) fn job() -> Box<dyn Job<Event>> {
    let payments = || {
        new_job::<Event, Params>("card-fraud", "Alerts for cards that are tried out, or used too often.")
            .topics(&[topic::TRANSACTIONS], &[topic::ALERTS])
            .alerts()
            .source(Event::card)
            .map(|transaction, _, ctx| Payment::new(transaction, ctx))
    };
    let tested = payments()
        // What is neither is no part of a match. Of another pattern nothing is known.
        .filter(|payment, params: &Params| {
            params.pattern.is_some() || payment.amount < params.small || payment.amount > params.large
        })
        .key_by(|payment| &payment.user_id)
        .pattern(testing, TimeDomain::Event)
        .filter_map(|found, _, ctx| match found {
            Detected::Match { stages, .. } => {
                alert("CARD_TESTING", Severity::Critical, &in_order(stages), Timestamp(ctx.now))
            }
            Detected::TimedOut { .. } => None,
        });
    let used_often = payments()
        .key_by(|payment| &payment.user_id)
        .pattern(velocity, TimeDomain::Event)
        .filter_map(|found, _, ctx| match found {
            Detected::Match { stages, .. } => {
                alert("VELOCITY", Severity::High, &in_order(stages), Timestamp(ctx.now))
            }
            Detected::TimedOut { .. } => None,
        });
    tested.union(used_often).to(|alert| (topic::ALERTS, &alert.key))
}

fn alert(
    r#type: &'static str,
    severity: Severity,
    payments: &[&Payment],
    now: Timestamp,
) -> Option<Alert<CardFraud>> {
    let (first, last) = (payments.first()?, payments.last()?);
    let evidence: Vec<_> = payments.iter().filter_map(|payment| payment.evidence.clone()).collect();
    let seconds = seconds_between(first.at, last.at);
    let message = if r#type == "VELOCITY" {
        format!("{} payments of {} in {seconds} s", payments.len(), last.user_id)
    } else {
        format!("{} paid {:.2} and, {seconds} s later, {:.2}", last.user_id, first.amount, last.amount)
    };
    Some(Alert {
        id: alert_id(&format!("card-fraud/{}", r#type.to_ascii_lowercase()), &evidence),
        r#type: r#type.into(),
        severity,
        key: last.user_id.clone(),
        message,
        timestamp: now,
        evidence,
        details: CardFraud {
            user_id: last.user_id.clone(),
            transaction_ids: payments.iter().map(|payment| payment.transaction_id.clone()).collect(),
            amounts: payments.iter().map(|payment| payment.amount).collect(),
            first_timestamp: first.at,
            last_timestamp: last.at,
        },
    })
}

#[cfg(test)]
mod tests {
    use millrace_core::Effect;
    use millrace_core::testing::Harness;
    use serde_json::json;

    use super::super::tests::{bank, pay};
    use super::*;

    fn alerts(test: &mut Harness<Event>) -> Vec<(String, Vec<f64>)> {
        let all = test.emitted("alerts");
        let amounts = |a: &serde_json::Value| {
            a["amounts"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
        };
        all.iter().map(|a| (a["type"].as_str().unwrap().to_owned(), amounts(a))).collect()
    }

    #[test]
    fn a_small_payment_then_a_large_one_is_exactly_one_alert() {
        let mut test = Harness::new(job);
        test.processing_time(77);
        pay(&mut test, "u", 1_000, 1.5);
        bank(&mut test, 1_500);
        pay(&mut test, "u", 2_000, 50.0);
        pay(&mut test, "other", 3_000, 900.0);
        pay(&mut test, "u", 41_000, 900.0);
        test.watermark(100_000);
        assert_eq!(
            test.keyed("alerts"),
            [(
                "u".into(),
                json!({
                    "id": "card-fraud/card_testing/test/0/0,4", "type": "CARD_TESTING", "severity": "critical", "key": "u",
                    "message": "u paid 1.50 and, 40 s later, 900.00", "timestamp": 77,
                    "evidence": [
                        {"topic": "test", "partition": 0, "offset": 0}, {"topic": "test", "partition": 0, "offset": 4}
                    ],
                    "userId": "u", "transactionIds": ["t1000", "t41000"], "amounts": [1.5, 900.0],
                    "firstTimestamp": 1_000, "lastTimestamp": 41_000
                })
            )]
        );
        assert!(test.state_is_empty(), "nothing is kept when the time is over");
    }

    #[test]
    fn exactly_5_500_and_60_seconds_are_no_match() {
        let mut test = Harness::new(job);
        for (user, small, large, after) in
            [("a", 5.0, 501.0, 10_000), ("b", 4.99, 500.0, 10_000), ("c", 4.99, 501.0, 60_000)]
        {
            pay(&mut test, user, 0, small);
            pay(&mut test, user, after, large);
        }
        pay(&mut test, "d", 0, 4.99);
        pay(&mut test, "d", 59_999, 500.01);
        test.watermark(100_000);
        assert_eq!(alerts(&mut test), [("CARD_TESTING".to_owned(), vec![4.99, 500.01])]);
    }

    #[test]
    fn the_fifth_payment_within_half_a_minute_is_too_many_and_none_counts_twice() {
        let mut test = Harness::new(job);
        for i in 0..9 {
            pay(&mut test, "u", i * 7_000, 20.0);
        }
        test.watermark(1_000_000);
        assert_eq!(alerts(&mut test), [("VELOCITY".to_owned(), vec![20.0; 5])], "28 s; four are left");
        for i in 0..5 {
            pay(&mut test, "v", 2_000_000 + i * 7_500, 20.0);
        }
        test.watermark(3_000_000);
        assert_eq!(alerts(&mut test), [], "30 s");
    }

    #[test]
    fn event_time_decides_whatever_the_order_and_late_payments_are_refused() {
        let mut test = Harness::new(job);
        pay(&mut test, "u", 20_000, 900.0);
        pay(&mut test, "u", 10_000, 1.0);
        pay(&mut test, "v", 10_000, 900.0);
        pay(&mut test, "v", 20_000, 1.0);
        test.restore();
        test.watermark(20_000);
        assert_eq!(alerts(&mut test), [("CARD_TESTING".to_owned(), vec![1.0, 900.0])]);
        pay(&mut test, "v", 20_000, 50.0);
        assert_eq!(test.rest(), [Effect::Late { job: "card-fraud", watermark: 20_000 }]);
        pay(&mut test, "v", 30_000, 700.0);
        test.restore();
        test.watermark(100_000);
        assert_eq!(alerts(&mut test), [("CARD_TESTING".to_owned(), vec![1.0, 700.0])], "also over a restart");
        let stats = test.job().stats();
        assert!(stats.balances(test.job().pending()) && stats.violations == 0, "{stats:?}");
    }

    #[test]
    fn limits_are_live_and_what_makes_no_pattern_is_refused() {
        let mut test = Harness::new(job);
        test.params(1, &json!({"small": 20, "large": 20, "within_s": 1, "payments": 3, "velocity_s": 2}))
            .unwrap();
        for (at, paid) in [(0, 19.0), (999, 21.0), (1_500, 20.0)] {
            pay(&mut test, "u", at, paid);
        }
        test.watermark(10_000);
        let mut found: Vec<String> = alerts(&mut test).into_iter().map(|(kind, _)| kind).collect();
        found.sort();
        assert_eq!(found, ["CARD_TESTING", "VELOCITY"]);
        for (bad, why) in [
            (json!({"payments": 2}), "payments"),
            (json!({"large": 1}), "below the limit before it, which is 5"),
            (json!({"within_s": 0}), "within_s"),
        ] {
            let error = test.params(2, &bad).unwrap_err();
            assert!(error.0.contains(why), "{error}");
        }
    }

    #[test]
    fn both_patterns_are_live() {
        let mut test = Harness::new(job);
        let above = |limit: i64| json!({"op": "gt", "left": {"field": "amount"}, "right": {"const": limit}});
        let twice = |limit: i64| {
            json!({"pattern": [
                       {"stage": "one", "where": above(limit)},
                       {"stage": "two", "contiguity": "next", "where": above(limit)}
                   ],
                   "within": 1_000})
        };
        test.params(1, &json!({"pattern": twice(100), "velocity_pattern": twice(200)})).unwrap();
        for (at, amount) in [(0, 150.0), (1, 101.0), (2, 50.0), (3, 201.0), (4, 202.0)] {
            pay(&mut test, "u", at, amount);
        }
        test.restore();
        test.watermark(10_000);
        let mut found = alerts(&mut test);
        found.sort_by(|a, b| a.1.partial_cmp(&b.1).unwrap());
        assert_eq!(
            found,
            [
                ("CARD_TESTING".to_owned(), vec![150.0, 101.0]),
                ("CARD_TESTING".to_owned(), vec![201.0, 202.0]),
                ("VELOCITY".to_owned(), vec![201.0, 202.0]),
            ]
        );
        for name in ["pattern", "velocity_pattern"] {
            let error =
                test.params(2, &json!({name: {"pattern": [{"stage": "a"}, {"stage": "b"}]}})).unwrap_err();
            assert!(error.0.contains(name) && error.0.contains("contiguity"), "{error}");
        }
    }
}
