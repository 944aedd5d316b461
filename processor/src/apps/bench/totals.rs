//! `totals`: sum, count and largest amount per user so far, told with each transaction. Its state has an entry for each
//! user: what is measured where the size of the state matters.

use compact_str::CompactString;
use millrace_core::Job;
use millrace_core::params::NoParams;
use millrace_core::process::Current;
use millrace_core::stream::job as new_job;
use millrace_core::window::Aggregate;
use millrace_wire::Timestamp;
use serde::Serialize;

use super::windows::{Amounts, Sums};
use super::{Event, card, results};

/// A user's transactions so far.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Total {
    user_id: CompactString,
    /// Of the transaction that brought it up to date.
    timestamp: Timestamp,
    #[serde(flatten)]
    sums: Sums,
}

pub(super) fn job() -> Box<dyn Job<Event>> {
    new_job::<Event, NoParams>("totals", "Sum, count and largest amount per user so far.")
        .source(card)
        .key_by(|transaction| &transaction.user_id)
        .map_with_state(|transaction, sums: &mut Current<Sums>, at, _| {
            Amounts.add(sums, transaction, at);
            Some(Total {
                user_id: transaction.user_id.clone(),
                timestamp: transaction.timestamp,
                sums: **sums,
            })
        })
        .to(|total| (results(), &total.user_id))
}

#[cfg(test)]
mod tests {
    use millrace_core::testing::Harness;
    use serde_json::json;

    use super::super::tests::pay;
    use super::*;

    #[test]
    fn each_transaction_tells_the_totals_so_far() {
        let mut test = Harness::new(job);
        pay(&mut test, "a", 1_000, 10.0);
        pay(&mut test, "b", 2_000, 5.5);
        assert_eq!(test.restore(), 2);
        pay(&mut test, "a", 500, 4.0);
        let total = |user: &str, at: i64, sum: f64, count: u64, max: f64| {
            (
                user.to_owned(),
                json!({"userId": user, "timestamp": at, "sum": sum, "count": count, "max": max}),
            )
        };
        assert_eq!(
            test.keyed("results"),
            [
                total("a", 1_000, 10.0, 1, 10.0),
                total("b", 2_000, 5.5, 1, 5.5),
                total("a", 500, 14.0, 2, 10.0)
            ]
        );
    }
}
