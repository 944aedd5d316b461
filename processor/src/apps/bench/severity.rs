//! `transform`: completed transactions of some risk, with a severity.

use millrace_core::Job;
use millrace_core::params::NoParams;
use millrace_core::stream::job as new_job;
use millrace_wire::event::CardTransaction;
use serde::Serialize;

use super::{Event, card, results};

/// Riskier than this is kept.
const KEPT: f64 = 0.5;
/// Riskier than this is `high`.
const HIGH: f64 = 0.8;

/// A transaction with its severity.
#[derive(Serialize)]
struct Rated {
    #[serde(flatten)]
    transaction: CardTransaction,
    severity: &'static str,
}

fn risk(transaction: &CardTransaction) -> f64 {
    transaction.risk_score.unwrap_or(0.0)
}

pub(super) fn job() -> Box<dyn Job<Event>> {
    new_job::<Event, NoParams>("transform", "Completed transactions of some risk, with a severity.")
        .source(card)
        .filter(|transaction, _| transaction.status == "completed" && risk(transaction) > KEPT)
        .map(|transaction, _, _| Rated {
            transaction: transaction.clone(),
            severity: if risk(transaction) > HIGH { "high" } else { "medium" },
        })
        .to(|rated| (results(), &rated.transaction.user_id))
}

#[cfg(test)]
mod tests {
    use millrace_core::testing::Harness;
    use serde_json::json;

    use super::*;

    #[test]
    fn completed_and_risky_ones_pass_with_a_severity_and_all_their_fields() {
        let mut test = Harness::new(job);
        let transaction = |status: &str, risk: f64| {
            json!({
                "timestamp": 7, "transactionId": "t", "userId": "u", "amount": 9.5, "currency": "EUR",
                "merchantId": "m", "status": status, "riskScore": risk,
            })
        };
        for (status, risk) in [
            ("completed", 0.5),
            ("completed", 0.51),
            ("declined", 0.9),
            ("completed", 0.8),
            ("completed", 0.81),
        ] {
            test.record(&serde_json::from_value(transaction(status, risk)).unwrap(), 7);
        }
        let expected = [(0.51, "medium"), (0.8, "medium"), (0.81, "high")].map(|(risk, severity)| {
            let mut value = transaction("completed", risk);
            value["severity"] = json!(severity);
            ("u".to_owned(), value)
        });
        assert_eq!(test.keyed("results"), expected);
        assert_eq!(test.job().stats().filtered, 2);
    }
}
