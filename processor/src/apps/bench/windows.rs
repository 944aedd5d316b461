//! `tumbling`, `sliding`, `session`: sum, count and largest amount per user and window. No lateness, so a window has one
//! result, which is final.

use std::sync::Arc;

use millrace_core::params::NoParams;
use millrace_core::stream::job as new_job;
use millrace_core::window::{Aggregate, WindowSpec};
use millrace_core::{EventTime, Job, TimeWindow};
use serde::{Deserialize, Serialize};

use super::{Event, card, results};

/// Sum, count and largest.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Sums {
    sum: f64,
    count: u64,
    max: f64,
}

/// Folds amounts.
pub(super) struct Amounts;

impl Aggregate<Event> for Amounts {
    type Acc = Sums;
    type Out = Sums;

    fn create(&self) -> Sums {
        Sums::default()
    }

    fn add(&self, acc: &mut Sums, transaction: &Event, _: EventTime) {
        self.merge(acc, &Sums { sum: transaction.amount, count: 1, max: transaction.amount });
    }

    fn merge(&self, acc: &mut Sums, other: &Sums) {
        let max = if acc.count == 0 { other.max } else { acc.max.max(other.max) };
        // Nothing is added by what holds nothing.
        if other.count > 0 {
            *acc = Sums { sum: acc.sum + other.sum, count: acc.count + other.count, max };
        }
    }

    fn result(&self, acc: &Sums) -> Sums {
        *acc
    }
}

/// A window of a user.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Window {
    user_id: Arc<str>,
    window_start: i64,
    window_end: i64,
    sum: f64,
    count: u64,
    max: f64,
}

fn job(name: &'static str, description: &'static str, spec: fn() -> WindowSpec) -> Box<dyn Job<Event>> {
    new_job::<Event, NoParams>(name, description)
        .source(card)
        .key_by(|transaction| &transaction.user_id)
        .window(move |_| spec())
        .aggregate(Amounts)
        .map(|result, _, _| {
            let (TimeWindow { start, end }, Sums { sum, count, max }) = (result.window, result.value);
            Window { user_id: result.key.clone(), window_start: start, window_end: end, sum, count, max }
        })
        .to(|window| (results(), &window.user_id))
}

pub(super) fn tumbling() -> Box<dyn Job<Event>> {
    job("tumbling", "Sum, count and largest amount per user in windows of 10 s.", || {
        WindowSpec::tumbling(10_000)
    })
}

pub(super) fn sliding() -> Box<dyn Job<Event>> {
    job("sliding", "Sum, count and largest amount per user in windows of 10 s by 2 s.", || {
        WindowSpec::sliding(10_000, 2_000)
    })
}

pub(super) fn session() -> Box<dyn Job<Event>> {
    job("session", "Sum, count and largest amount per user in sessions with a gap of 5 s.", || {
        WindowSpec::session(5_000)
    })
}

#[cfg(test)]
mod tests {
    use millrace_core::Effect;
    use millrace_core::testing::Harness;
    use serde_json::json;

    use super::super::tests::pay;
    use super::*;

    /// (user, start, end, sum, count, max), in order.
    type Result = (String, i64, i64, f64, u64, f64);

    fn windows(test: &mut Harness<Event>) -> Vec<Result> {
        let number = |value: &serde_json::Value| value.as_i64().unwrap();
        let all = test.keyed("results").into_iter().map(|(key, w)| {
            assert_eq!(w["userId"], key);
            let (start, end) = (number(&w["windowStart"]), number(&w["windowEnd"]));
            let (sum, max) = (w["sum"].as_f64().unwrap(), w["max"].as_f64().unwrap());
            (key, start, end, sum, w["count"].as_u64().unwrap(), max)
        });
        all.collect()
    }

    #[test]
    fn a_tumbling_window_has_one_final_result_and_late_ones_change_nothing() {
        let mut test = Harness::new(tumbling);
        for (user, at, amount) in [("a", 1_000, -1.0), ("a", 9_999, -3.0), ("b", 0, 2.0), ("a", 10_000, 5.0)]
        {
            pay(&mut test, user, at, amount);
        }
        test.watermark(9_998);
        assert_eq!(windows(&mut test), []);
        test.watermark(9_999);
        let expected = [("a".into(), 0, 10_000, -4.0, 2, -1.0), ("b".into(), 0, 10_000, 2.0, 1, 2.0)];
        assert_eq!(windows(&mut test), expected);
        pay(&mut test, "a", 9_000, 1.0);
        assert_eq!(test.rest(), [Effect::Late { job: "tumbling", watermark: 9_999 }]);
        test.watermark(19_999);
        assert_eq!(windows(&mut test), [("a".into(), 10_000, 20_000, 5.0, 1, 5.0)]);
        let stats = test.job().stats();
        assert!(stats.balances(0) && stats.late == 1, "{stats:?}");
        assert!(test.state_is_empty());
    }

    #[test]
    fn a_transaction_is_in_five_sliding_windows() {
        let mut test = Harness::new(sliding);
        pay(&mut test, "a", 11_000, 4.0);
        pay(&mut test, "a", 12_000, 6.0);
        test.watermark(30_000);
        let starts: Vec<_> = windows(&mut test).into_iter().map(|w| (w.1, w.3, w.4, w.5)).collect();
        let both = |start| (start, 10.0, 2, 6.0);
        let expected = [
            (2_000, 4.0, 1, 4.0),
            both(4_000),
            both(6_000),
            both(8_000),
            both(10_000),
            (12_000, 6.0, 1, 6.0),
        ];
        assert_eq!(starts, expected);
    }

    #[test]
    fn a_session_ends_five_seconds_after_its_last_transaction() {
        let mut test = Harness::new(session);
        for (at, amount) in [(1_000, 1.0), (8_000, 2.0), (4_000, 3.0)] {
            pay(&mut test, "a", at, amount);
        }
        pay(&mut test, "a", 14_000, 9.0);
        test.watermark(12_999);
        let expected = [("a".to_owned(), 1_000, 13_000, 6.0, 3, 3.0)];
        assert_eq!(windows(&mut test), expected, "the third joins the first two");
        test.watermark(18_999);
        assert_eq!(windows(&mut test), [("a".to_owned(), 14_000, 19_000, 9.0, 1, 9.0)]);
        assert_eq!(test.emitted("results"), [json!(null); 0]);
    }
}
