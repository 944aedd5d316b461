//! App `bank`: bank transactions. Reads `transactions`, where card transactions are not its own.

mod account_balances;
mod high_activity;

use millrace_core::task::{Malformed, Parsed};
use millrace_core::{App, EventTime, Record, Source};
use millrace_wire::event::{BankTransaction, Transaction};
use millrace_wire::topic;

/// What a record of this app is.
pub type Event = Transaction;

fn bank(event: &Event) -> Option<&BankTransaction> {
    match event {
        Transaction::Bank(transaction) => Some(transaction),
        Transaction::Card(_) => None,
    }
}

/// The app.
pub const APP: App<Event> = App {
    name: "bank",
    sources: &[Source { topic: topic::TRANSACTIONS, kind: super::STREAM }],
    partitions: topic::PARTITIONS,
    parse,
    jobs: || vec![account_balances::job(), high_activity::job()],
};

fn parse(record: &Record<'_>) -> Result<Parsed<Event>, Malformed> {
    let value = record.value.ok_or("the record has no value")?;
    let event = Transaction::from_json(value).map_err(|e| format!("not a transaction: {e}"))?;
    let at = EventTime(event.timestamp().millis());
    Ok(Parsed::new(event, at))
}

#[cfg(test)]
mod tests {
    use millrace_core::testing::Harness;
    use millrace_core::{Application, Effect, Effects, Input};
    use serde_json::{Value, json};

    use super::*;

    /// A bank transaction at an event time.
    pub(super) fn transfer(test: &mut Harness<Event>, account: &Value, at: i64, amount: f64) {
        let text =
            json!({"account": account, "amount": amount, "timestamp": at, "type": "deposit"}).to_string();
        test.record(&Transaction::from_json(text.as_bytes()).unwrap(), at);
    }

    /// A card transaction at an event time.
    pub(super) fn pay(test: &mut Harness<Event>, at: i64, amount: f64) {
        let text =
            json!({"transactionId": "t", "userId": "u", "amount": amount, "timestamp": at}).to_string();
        test.record(&Transaction::from_json(text.as_bytes()).unwrap(), at);
    }

    /// The promise of the specification, through the bytes that any Kafka client may write.
    #[test]
    fn ten_deposits_of_600_raise_one_alert() {
        let mut task = APP.task(0).unwrap();
        task.start();
        let mut effects = Effects::default();
        let card = br#"{"timestamp":1717200000000,"transactionId":"t","userId":"u","amount":9000}"#;
        let broken = br#"{"account":9999,"amount":600}"#;
        let deposit = br#"{"account":9999,"amount":600,"timestamp":"1717200001","type":"deposit"}"#;
        let values = [card.as_slice(), broken].into_iter().chain([deposit.as_slice(); 10]);
        for (offset, value) in values.enumerate() {
            let record = Record { source: 0, offset: offset as i64, key: None, value: Some(value) };
            task.step(Input::Record(record), &mut effects).unwrap();
        }
        let mut alerts = effects.iter().filter_map(|effect| match effect {
            Effect::Emit { topic: "fraud-alerts", key, value } => {
                Some((effects.bytes(key), serde_json::from_slice::<Value>(effects.bytes(value)).unwrap()))
            }
            _ => None,
        });
        let (key, alert) = alerts.next().unwrap();
        assert_eq!((key, &alert["account"]), (b"9999".as_slice(), &json!(9999)));
        assert_eq!(alert["message"], "Account 9999 has $5400.00 activity in 1 minute (threshold: $5000.0)");
        assert!(alerts.next().is_none());
        assert_eq!(
            task.totals().dead,
            1,
            "the card transaction is none of the app's, the broken one is malformed"
        );
        for job in task.jobs() {
            assert_eq!((job.stats.filtered, job.stats.violations), (1, 0), "{}", job.name);
            assert!(job.stats.balances(job.pending), "{:?}", job.stats);
        }
    }

    /// See "Duplicates" in docs/semantics.md.
    #[test]
    fn a_transaction_that_comes_twice_is_two_transactions() {
        // Number of the job, amount, where its results go, what they say.
        let table = [
            (0, 10.0, "account-balances", "balance", json!([10.0, 20.0, 20.0])),
            (1, 3_000.0, "fraud-alerts", "total_activity", json!([6_000.0])),
        ];
        for (number, amount, topic, field, expected) in table {
            let mut test = Harness::new(move || (APP.jobs)().remove(number));
            transfer(&mut test, &json!(7), 1_000, amount);
            transfer(&mut test, &json!(7), 1_000, amount);
            test.watermark(1_000_000);
            let said: Vec<_> = test.emitted(topic).into_iter().map(|result| result[field].clone()).collect();
            assert_eq!(json!(said), expected, "{}", test.job().descriptor().name);
        }
    }

    #[test]
    fn restored_from_the_changelog_it_continues_exactly() {
        let change =
            ("high-activity", &json!({"threshold": 2_000, "window_size_s": 20, "allowed_lateness_s": 5}));
        let written = crate::apps::tests::continues_exactly(&APP, change, |i| {
            let at = 1_000_000 + i * 500 - (i % 7) * 1_500;
            let account = if i % 4 == 0 { json!("DE-1") } else { json!(i % 4) };
            let value =
                json!({"account": account, "amount": (i % 40) * 20 - 200, "timestamp": at, "type": "x"});
            (0, value.to_string())
        });
        assert_eq!(written.into_iter().collect::<Vec<_>>(), [topic::ACCOUNT_BALANCES, topic::FRAUD_ALERTS]);
    }
}
