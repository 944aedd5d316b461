//! `login-then-spend`: a login from a country that is new for the user, followed by a large payment.
//!
//! The country is that in which the login's location lies. A user's countries are the home that `users` names, and those of the
//! logins so far; of a user of whom nothing is known, the first place that is seen counts as home.

use std::collections::BTreeSet;

use compact_str::CompactString;
use garde::Validate;
use millrace_core::join::{Enriched, Interval, JoinType};
use millrace_core::process::{Current, ProcessContext, ProcessFunction};
use millrace_core::state::Ttl;
use millrace_core::stream::job as new_job;
use millrace_core::{EventTime, Job};
use millrace_wire::Timestamp;
use millrace_wire::event::{EventType, User};
use millrace_wire::result::{Alert, Evidence, LoginThenSpend, Severity, alert_id};
use millrace_wire::topic;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::geography::country;
use super::payment::Payment;
use super::{Event, seconds_between};
use crate::apps::evidence;
use crate::apps::parameters::TtlDays;

/// Live parameters.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default, deny_unknown_fields)]
struct Params {
    /// A payment above this is large.
    #[garde(range(min = 0.0, max = 1e12))]
    #[schemars(title = "Amount above")]
    amount: f64,
    /// At most this lies between the login and the payment.
    #[garde(range(min = 1, max = 86_400))]
    #[schemars(title = "Within", extend("x-unit" = "s"))]
    within_s: i64,
    #[garde(dive)]
    ttl_days: TtlDays,
}

impl Default for Params {
    fn default() -> Self {
        Self { amount: 300.0, within_s: 300, ttl_days: TtlDays::default() }
    }
}

/// An event of a user in a country. Part of the state.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Visit {
    user_id: CompactString,
    country: CompactString,
    login: bool,
    at: Timestamp,
    evidence: Option<Evidence>,
}

/// Hands on logins from countries that are new.
struct NewCountry;

impl ProcessFunction<Params, Enriched<Visit, User>> for NewCountry {
    /// Countries of the user, beside the home that is in the reference data.
    type State = BTreeSet<CompactString>;
    type Out = Visit;

    fn record(
        &mut self,
        known: &Enriched<Visit, User>,
        _: EventTime,
        countries: &mut Current<Self::State>,
        ctx: &mut ProcessContext<'_, '_, Params, Visit>,
    ) {
        let Enriched { record: visit, reference } = known;
        let home = reference.as_ref().map(|user| &user.home_country).filter(|home| !home.is_empty());
        let first = home.is_none() && countries.is_empty();
        if first || visit.login && home != Some(&visit.country) {
            let new = countries.insert(visit.country.clone());
            if new && !first {
                ctx.collect(visit.clone());
            }
        }
    }

    fn ttl(&self, params: &Params) -> Option<Ttl> {
        Some(params.ttl_days.ttl())
    }
}

pub(super) fn job() -> Box<dyn Job<Event>> {
    let start = || {
        new_job::<Event, Params>(
            "login-then-spend",
            "Alerts for logins from a new country before large payments.",
        )
        .topics(&[topic::USER_EVENTS, topic::TRANSACTIONS, topic::USERS], &[topic::ALERTS])
        .alerts()
    };
    let logins = start()
        .source(Event::user_event)
        .filter_map(|event, _, ctx| {
            Some(Visit {
                user_id: event.user_id.clone(),
                country: country(event.location?)?.into(),
                login: event.event_type == EventType::Login,
                at: event.timestamp,
                evidence: evidence(ctx.origin),
            })
        })
        .key_by(|visit| &visit.user_id)
        .enrich(Event::user)
        .key_by(|known| &known.record.user_id)
        .process(NewCountry);
    let payments = start()
        .source(Event::card)
        .filter(|transaction, params| transaction.amount > params.amount)
        .map(|transaction, _, ctx| Payment::new(transaction, ctx));
    logins
        .key_by(|login| &login.user_id)
        .interval_join(
            payments.key_by(|payment| &payment.user_id),
            |params| Interval::within(params.within_s * 1_000),
            JoinType::Inner,
        )
        .filter_map(|pair, _, ctx| Some(alert(pair.left.as_ref()?, pair.right.as_ref()?, Timestamp(ctx.now))))
        .to(|alert| (topic::ALERTS, &alert.key))
}

fn alert(login: &Visit, payment: &Payment, now: Timestamp) -> Alert<LoginThenSpend> {
    let evidence: Vec<_> = login.evidence.iter().chain(&payment.evidence).cloned().collect();
    Alert {
        id: alert_id("login-then-spend", &evidence),
        r#type: "LOGIN_THEN_SPEND".into(),
        severity: Severity::Critical,
        key: login.user_id.clone(),
        message: format!(
            "{} signed in from {}, a new country, and paid {:.2} {} s later",
            login.user_id,
            login.country,
            payment.amount,
            seconds_between(login.at, payment.at)
        ),
        timestamp: now,
        evidence,
        details: LoginThenSpend {
            user_id: login.user_id.clone(),
            country: login.country.clone(),
            transaction_id: payment.transaction_id.clone(),
            amount: payment.amount,
            first_timestamp: login.at,
            second_timestamp: payment.at,
        },
    }
}

#[cfg(test)]
mod tests {
    use millrace_core::Effect;
    use millrace_core::testing::Harness;
    use serde_json::json;

    use super::super::tests::{HOUR, PARIS, TOKYO, at_place, pay, view};
    use super::*;

    const BERLIN: (f64, f64) = (52.52, 13.405);

    fn home(test: &mut Harness<Event>, country: &str) {
        let user = json!({"userId": "u", "homeCountry": country});
        test.reference(&Event::UserData("u".into(), Some(serde_json::from_value(user).unwrap())));
    }

    fn alerts(test: &mut Harness<Event>) -> Vec<(String, f64)> {
        let all = test.emitted("alerts");
        all.iter()
            .map(|a| (a["country"].as_str().unwrap().to_owned(), a["amount"].as_f64().unwrap()))
            .collect()
    }

    #[test]
    fn a_login_abroad_then_a_large_payment_is_exactly_one_alert() {
        let mut test = Harness::new(job);
        home(&mut test, "FR");
        test.processing_time(77);
        at_place(&mut test, "u", "login", 1_000, TOKYO);
        pay(&mut test, "u", 2_000, 300.0);
        pay(&mut test, "other", 2_000, 900.0);
        assert_eq!(alerts(&mut test), []);
        test.restore();
        pay(&mut test, "u", 61_000, 300.5);
        assert_eq!(
            test.keyed("alerts"),
            [(
                "u".into(),
                json!({
                    "id": "login-then-spend/test/0/0,3", "type": "LOGIN_THEN_SPEND", "severity": "critical", "key": "u",
                    "message": "u signed in from JP, a new country, and paid 300.50 60 s later", "timestamp": 77,
                    "evidence": [
                        {"topic": "test", "partition": 0, "offset": 0}, {"topic": "test", "partition": 0, "offset": 3}
                    ],
                    "userId": "u", "country": "JP", "transactionId": "t61000", "amount": 300.5,
                    "firstTimestamp": 1_000, "secondTimestamp": 61_000
                })
            )]
        );
        at_place(&mut test, "u", "login", 70_000, TOKYO);
        test.watermark(400_000);
        pay(&mut test, "u", 400_001, 900.0);
        assert_eq!(alerts(&mut test), [], "Japan is not new any more");
        let (stats, pending) = (test.job().stats(), test.job().pending());
        assert!(stats.balances(pending) && stats.violations == 0, "{stats:?} {pending}");
    }

    #[test]
    fn home_is_not_new_nor_is_what_only_a_page_was_seen_from() {
        let mut test = Harness::new(job);
        home(&mut test, "FR");
        at_place(&mut test, "u", "login", 0, PARIS);
        at_place(&mut test, "u", "page_view", 1, BERLIN);
        view(&mut test, "u", "login", "/", 2);
        pay(&mut test, "u", 10, 900.0);
        assert_eq!(alerts(&mut test), []);
        at_place(&mut test, "u", "login", 20, BERLIN);
        pay(&mut test, "u", 30, 900.0);
        assert_eq!(alerts(&mut test), [("DE".to_owned(), 900.0)], "a page seen there does not make it known");
    }

    #[test]
    fn of_an_unknown_user_the_first_place_is_home() {
        let mut test = Harness::new(job);
        at_place(&mut test, "u", "page_view", 0, PARIS);
        at_place(&mut test, "u", "login", 1, PARIS);
        pay(&mut test, "u", 10, 900.0);
        assert_eq!(alerts(&mut test), []);
        at_place(&mut test, "u", "login", 20, BERLIN);
        pay(&mut test, "u", 30, 900.0);
        assert_eq!(alerts(&mut test), [("DE".to_owned(), 900.0)]);
    }

    #[test]
    fn five_minutes_are_the_limit_the_payment_may_come_first_and_late_ones_are_refused() {
        let mut test = Harness::new(job);
        home(&mut test, "FR");
        pay(&mut test, "u", 301_000, 400.0);
        pay(&mut test, "u", 301_001, 500.0);
        pay(&mut test, "u", 999, 600.0);
        at_place(&mut test, "u", "login", 1_000, TOKYO);
        assert_eq!(
            alerts(&mut test),
            [("JP".to_owned(), 400.0)],
            "301 s are too late, and before is not after"
        );
        test.watermark(301_002);
        pay(&mut test, "u", 301_000, 700.0);
        assert_eq!(test.rest(), [Effect::Late { job: "login-then-spend", watermark: 301_002 }]);
        test.watermark(301_001 + 300_001);
        assert_eq!(test.job().pending(), 0, "nothing is held when the time is over");
    }

    #[test]
    fn limits_are_live_also_for_what_is_held() {
        let mut test = Harness::new(job);
        home(&mut test, "FR");
        at_place(&mut test, "u", "login", 0, TOKYO);
        test.params(1, &json!({"amount": 10, "within_s": 1_000})).unwrap();
        test.watermark(500_000);
        pay(&mut test, "u", 1_000_000, 11.0);
        assert_eq!(alerts(&mut test), [("JP".to_owned(), 11.0)], "the login was held for longer");
        test.params(2, &json!({"amount": 10, "within_s": 1})).unwrap();
        pay(&mut test, "u", 500_000, 12.0);
        assert_eq!(alerts(&mut test), []);
        assert!(test.params(3, &json!({"within_s": 0})).unwrap_err().0.contains("within_s"));
    }

    #[test]
    fn countries_of_a_user_who_stays_away_for_so_long_are_forgotten() {
        let mut test = Harness::new(job);
        test.params(1, &json!({"ttl_days": 1})).unwrap();
        at_place(&mut test, "u", "page_view", 0, PARIS);
        at_place(&mut test, "u", "login", 1_000, TOKYO);
        test.watermark(1_000 + 24 * HOUR - 1);
        assert!(!test.state_is_empty());
        test.watermark(1_000 + 24 * HOUR);
        assert!(test.state_is_empty());
        assert!(test.params(2, &json!({"ttl_days": 3_651})).unwrap_err().0.contains("ttl_days"));
    }
}
