//! `enrich`: each card transaction with what is known of its user and of its merchant.
//!
//! Transactions and `users` are both keyed by user, `merchants` by merchant: so a transaction finds its user in its own task,
//! goes through a repartition topic, and finds its merchant in the merchant's task. No task holds all merchants, and nothing is
//! read twice.

use garde::Validate;
use millrace_core::Job;
use millrace_core::stream::job as new_job;
use millrace_wire::event::{CardTransaction, User};
use millrace_wire::result::EnrichedTransaction;
use millrace_wire::topic;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Event;

/// Live parameters.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default, deny_unknown_fields)]
struct Params {
    /// Only transactions of these statuses; none means all.
    #[garde(length(max = 100), inner(length(max = 100)))]
    #[schemars(title = "Statuses")]
    statuses: Vec<String>,
}

impl Params {
    fn admit(&self, transaction: &CardTransaction) -> bool {
        self.statuses.is_empty() || self.statuses.iter().any(|status| *status == transaction.status)
    }
}

/// A transaction on its way to its merchant.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct OfUser {
    transaction: CardTransaction,
    user: Option<User>,
}

pub(super) fn job() -> Box<dyn Job<Event>> {
    new_job::<Event, Params>("enrich", "Card transactions with what is known of user and merchant.")
        .topics(&[topic::TRANSACTIONS, topic::USERS, topic::MERCHANTS], &[topic::PROCESSED_EVENTS])
        .source(Event::card)
        .filter(|transaction, params: &Params| params.admit(transaction))
        .key_by(|transaction| &transaction.user_id)
        .enrich(Event::user)
        .map(|known, _, _| OfUser { transaction: known.record.clone(), user: known.reference.clone() })
        .repartition(
            topic::ENRICH_REPARTITION,
            |known| &known.transaction.merchant_id,
            |known| {
                known
                    .key_by(|known| &known.transaction.merchant_id)
                    .enrich(Event::merchant)
                    .map(|known, _, _| EnrichedTransaction {
                        transaction: known.record.transaction.clone(),
                        user: known.record.user.clone(),
                        merchant: known.reference.clone(),
                    })
                    .to(|enriched| (topic::PROCESSED_EVENTS, &enriched.transaction.user_id))
            },
        )
}

#[cfg(test)]
mod tests {
    use millrace_core::testing::Harness;
    use serde_json::{Value, json};

    use super::super::tests::{bank, pay_to};
    use super::*;

    fn user(country: &str) -> Event {
        let user = json!({"userId": "u", "homeCountry": country, "homeLocation": {"lat": 1, "lon": 2}, "segment": "thrifty"});
        Event::UserData("u".into(), Some(serde_json::from_value(user).unwrap()))
    }

    fn merchant(name: &str) -> Event {
        let merchant = json!({"merchantId": "m", "name": name, "category": "books", "country": "FR", "riskClass": "low"});
        Event::MerchantData("m".into(), Some(serde_json::from_value(merchant).unwrap()))
    }

    fn enriched(test: &mut Harness<Event>) -> Vec<(Value, Value)> {
        test.commit();
        let all = test.emitted("processed-events");
        all.iter().map(|e| (e["user"]["homeCountry"].clone(), e["merchant"]["name"].clone())).collect()
    }

    #[test]
    fn a_transaction_is_told_with_its_user_and_its_merchant() {
        let mut test = Harness::new(job);
        test.reference(&user("DE"));
        test.reference(&merchant("Livres"));
        bank(&mut test, 4);
        pay_to(&mut test, "u", "m", 5, 9.5);
        test.restore();
        let expected = json!({
            "timestamp": 5, "transactionId": "t5", "userId": "u", "amount": 9.5, "currency": "EUR", "merchantId": "m",
            "status": "approved", "riskScore": 0.25,
            "user": {"userId": "u", "homeCountry": "DE", "homeLocation": {"lat": 1.0, "lon": 2.0}, "segment": "thrifty"},
            "merchant": {"merchantId": "m", "name": "Livres", "category": "books", "country": "FR", "riskClass": "low"}
        });
        assert_eq!(test.keyed("processed-events"), [("u".to_owned(), expected)]);
        let stats = test.job().stats();
        assert!(stats.balances(0) && stats.filtered == 1 && stats.violations == 0, "{stats:?}");
    }

    #[test]
    fn reference_data_survive_a_restart_change_and_go() {
        let mut test = Harness::new(job);
        pay_to(&mut test, "u", "m", 1, 1.0);
        assert_eq!(enriched(&mut test), [(json!(null), json!(null))], "nothing is known yet");
        test.reference(&user("DE"));
        test.reference(&merchant("Livres"));
        assert_eq!(test.restore(), 2);
        pay_to(&mut test, "u", "m", 2, 1.0);
        test.commit();
        test.reference(&user("AT"));
        test.reference(&Event::MerchantData("m".into(), None));
        pay_to(&mut test, "u", "m", 3, 1.0);
        assert_eq!(enriched(&mut test), [(json!("DE"), json!("Livres")), (json!("AT"), json!(null))]);
        test.reference(&Event::UserData("u".into(), None));
        assert!(test.state_is_empty());
    }

    #[test]
    fn a_transaction_is_never_too_late() {
        let mut test = Harness::new(job);
        test.reference(&user("DE"));
        test.reference(&merchant("Livres"));
        for (at, watermark) in [(9_000, 9_000), (5, 10_000), (8_000, 10_000), (20_000, 30_000)] {
            pay_to(&mut test, "u", "m", at, 1.0);
            test.commit();
            test.watermark(watermark);
        }
        let told: Vec<i64> =
            test.emitted("processed-events").iter().map(|e| e["timestamp"].as_i64().unwrap()).collect();
        assert_eq!(told, [9_000, 5, 8_000, 20_000], "in the order in which they came");
        assert_eq!(test.job().stats().late, 0);
    }

    #[test]
    fn the_statuses_that_count_are_live() {
        let mut test = Harness::new(job);
        test.params(1, &json!({"statuses": ["declined"]})).unwrap();
        pay_to(&mut test, "u", "m", 1, 1.0);
        assert_eq!(enriched(&mut test).len(), 0);
        test.params(2, &json!({"statuses": ["declined", "approved"]})).unwrap();
        pay_to(&mut test, "u", "m", 2, 1.0);
        assert_eq!(enriched(&mut test).len(), 1);
        assert!(test.params(3, &json!({"statuses": vec!["x"; 101]})).unwrap_err().0.contains("statuses"));
    }
}
