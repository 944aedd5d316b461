//! `cep`: an amount below 5, followed by one above 500 within 60 s: somebody tries a card, then uses it.

use compact_str::CompactString;
use millrace_core::cep::{AfterMatch, Detected, FieldValue, Fields, Pattern, field};
use millrace_core::params::NoParams;
use millrace_core::stream::job as new_job;
use millrace_core::{Job, TimeDomain};
use millrace_wire::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Event, card, results};

/// Less is small.
const SMALL: f64 = 5.0;
/// More is large.
const LARGE: f64 = 500.0;

/// What the pattern keeps of a transaction.
#[derive(Clone, Serialize, Deserialize)]
struct Payment {
    user_id: CompactString,
    amount: f64,
    timestamp: Timestamp,
}

impl Fields for Payment {
    fn field(&self, name: &str) -> FieldValue<'_> {
        match name {
            "amount" => FieldValue::Number(self.amount),
            _ => FieldValue::Null,
        }
    }
}

/// A match.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Tried {
    user_id: CompactString,
    small: f64,
    large: f64,
    first_timestamp: Timestamp,
    timestamp: Timestamp,
}

const FIRST: &str = "small";
const SECOND: &str = "large";

fn pattern(_: &NoParams) -> Pattern {
    Pattern::begin(FIRST)
        .where_(field("amount").lt(SMALL))
        .followed_by(SECOND)
        .where_(field("amount").gt(LARGE))
        .within(60_000)
        .after_match(AfterMatch::PastLast)
}

pub(super) fn job() -> Box<dyn Job<Event>> {
    new_job::<Event, NoParams>("cep", "An amount below 5, followed by one above 500 within 60 s.")
        .source(card)
        // What is neither small nor large is no part of a match: `followed_by` passes over it.
        .filter(|transaction, _| transaction.amount < SMALL || transaction.amount > LARGE)
        .map(|transaction, _, _| Payment {
            user_id: transaction.user_id.clone(),
            amount: transaction.amount,
            timestamp: transaction.timestamp,
        })
        .key_by(|payment| &payment.user_id)
        .pattern(pattern, TimeDomain::Event)
        .filter_map(|found, _, _| match found {
            Detected::Match { stages, .. } => {
                let (small, large) = (stages.get(FIRST).first()?, stages.get(SECOND).first()?);
                Some(Tried {
                    user_id: large.user_id.clone(),
                    small: small.amount,
                    large: large.amount,
                    first_timestamp: small.timestamp,
                    timestamp: large.timestamp,
                })
            }
            Detected::TimedOut { .. } => None,
        })
        .to(|tried| (results(), &tried.user_id))
}

#[cfg(test)]
mod tests {
    use millrace_core::Effect;
    use millrace_core::testing::Harness;
    use serde_json::json;

    use super::super::tests::pay;
    use super::*;

    fn found(test: &mut Harness<Event>) -> Vec<(String, f64, f64, i64, i64)> {
        let all = test.keyed("results").into_iter().map(|(key, v)| {
            let number = |name: &str| v[name].as_f64().unwrap();
            let time = |name: &str| v[name].as_i64().unwrap();
            assert_eq!(v["userId"], json!(key));
            (key, number("small"), number("large"), time("firstTimestamp"), time("timestamp"))
        });
        all.collect()
    }

    #[test]
    fn small_then_large_within_a_minute_per_user_and_no_event_twice() {
        let mut test = Harness::new(job);
        pay(&mut test, "a", 1_000, 4.99);
        pay(&mut test, "b", 1_500, 501.0);
        pay(&mut test, "a", 2_000, 100.0);
        pay(&mut test, "a", 3_000, 1.0);
        pay(&mut test, "a", 4_000, 500.0);
        pay(&mut test, "a", 5_000, 500.01);
        pay(&mut test, "a", 6_000, 900.0);
        pay(&mut test, "b", 7_000, 2.0);
        pay(&mut test, "b", 67_001, 600.0);
        test.watermark(70_000);
        assert_eq!(found(&mut test), [("a".to_owned(), 4.99, 500.01, 1_000, 5_000)]);
    }

    #[test]
    fn it_sees_them_in_the_order_of_event_time_and_late_ones_not_at_all() {
        let mut test = Harness::new(job);
        pay(&mut test, "a", 2_000, 700.0);
        pay(&mut test, "a", 1_000, 3.0);
        test.watermark(1_500);
        pay(&mut test, "a", 1_400, 2.0);
        assert_eq!(test.rest(), [Effect::Late { job: "cep", watermark: 1_500 }]);
        test.restore();
        test.watermark(2_000);
        assert_eq!(found(&mut test), [("a".to_owned(), 3.0, 700.0, 1_000, 2_000)]);
    }
}
