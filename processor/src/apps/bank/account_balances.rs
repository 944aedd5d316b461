//! `account-balances`: the sum of the amounts per account and window, updated with each transaction, and once
//! more when the window is over: then it is final.

use std::collections::BTreeMap;

use garde::Validate;
use millrace_core::process::{Current, ProcessContext, ProcessFunction, Timer};
use millrace_core::stream::job as new_job;
use millrace_core::window::{Aggregate, Trigger, WindowSpec};
use millrace_core::{EventTime, Job, TimeDomain};
use millrace_wire::event::{Account, BankTransaction};
use millrace_wire::result::AccountBalance;
use millrace_wire::topic;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Event, bank};
use crate::apps::parameters::{AlignedType, Lateness, Slide, WindowSize, few};

/// Live parameters.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default, deny_unknown_fields)]
struct Params {
    #[garde(skip)]
    window: AlignedType,
    #[garde(dive)]
    window_size_s: WindowSize,
    #[garde(dive, custom(few(self.window, self.window_size_s)))]
    slide_s: Slide,
    #[garde(dive)]
    allowed_lateness_s: Lateness,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            window: AlignedType::Tumbling,
            window_size_s: WindowSize(10),
            slide_s: Slide(5),
            allowed_lateness_s: Lateness(0),
        }
    }
}

impl Params {
    fn windows(&self) -> WindowSpec {
        self.window.spec(self.window_size_s, self.slide_s)
    }
}

/// Hands on each balance, and again when its window is over.
struct Finally;

impl ProcessFunction<Params, AccountBalance> for Finally {
    /// The newest balance of each open window, by its end and start.
    type State = BTreeMap<(i64, i64), AccountBalance>;
    type Out = AccountBalance;

    fn record(
        &mut self,
        balance: &AccountBalance,
        _: EventTime,
        open: &mut Current<Self::State>,
        ctx: &mut ProcessContext<'_, '_, Params, AccountBalance>,
    ) {
        let last = balance.window_end - 1;
        if last > ctx.watermark().0 {
            open.insert((balance.window_end, balance.window_start), balance.clone());
            ctx.register_timer(TimeDomain::Event, last);
        }
        ctx.collect(balance.clone());
    }

    fn timer(
        &mut self,
        timer: Timer,
        open: &mut Current<Self::State>,
        ctx: &mut ProcessContext<'_, '_, Params, AccountBalance>,
    ) {
        while let Some(window) = open.first_entry().filter(|window| window.key().0 - 1 <= timer.time) {
            ctx.collect(window.remove());
        }
    }
}

/// The sum, with the account in the form of its newest transaction.
struct Balance;

impl Aggregate<BankTransaction> for Balance {
    type Acc = (f64, Option<Account>);
    type Out = Self::Acc;

    fn create(&self) -> Self::Acc {
        (0.0, None)
    }

    fn add(&self, (sum, account): &mut Self::Acc, transaction: &BankTransaction, _: EventTime) {
        *sum += transaction.amount;
        *account = Some(transaction.account.clone());
    }

    fn merge(&self, (sum, account): &mut Self::Acc, other: &Self::Acc) {
        *sum += other.0;
        if other.1.is_some() {
            account.clone_from(&other.1);
        }
    }

    fn result(&self, acc: &Self::Acc) -> Self::Acc {
        acc.clone()
    }
}

pub(super) fn job() -> Box<dyn Job<Event>> {
    new_job::<Event, Params>("account-balances", "Sum of the amounts per account and window.")
        .topics(&[topic::TRANSACTIONS], &[topic::ACCOUNT_BALANCES])
        .source(bank)
        .key_by(|transaction| transaction.account.as_str())
        .window(Params::windows)
        .allowed_lateness(|params| params.allowed_lateness_s.ms())
        .trigger(Trigger::Count { n: 1 })
        .aggregate(Balance)
        .map(|result, _, _| AccountBalance {
            account: result.value.1.clone().unwrap_or_else(|| (&*result.key).into()),
            balance: result.value.0,
            window_start: result.window.start,
            window_end: result.window.end,
        })
        .key_by(|balance| balance.account.as_str())
        .process(Finally)
        .to(|balance| (topic::ACCOUNT_BALANCES, balance.account.as_str()))
}

#[cfg(test)]
mod tests {
    use millrace_core::Effect;
    use millrace_core::testing::Harness;
    use serde_json::{Value, json};

    use super::super::tests::{pay, transfer};
    use super::*;

    fn balances(test: &mut Harness<Event>) -> Vec<(Value, f64, i64)> {
        let all = test.emitted("account-balances");
        all.iter()
            .map(|b| {
                (b["account"].clone(), b["balance"].as_f64().unwrap(), b["window_start"].as_i64().unwrap())
            })
            .collect()
    }

    #[test]
    fn a_balance_is_updated_by_each_transaction_and_final_at_the_end_of_its_window() {
        let mut test = Harness::new(job);
        transfer(&mut test, &json!(7), 1_000, 100.0);
        assert_eq!(
            test.keyed("account-balances"),
            [("7".into(), json!({"account": 7, "balance": 100.0, "window_start": 0, "window_end": 10_000}))]
        );
        pay(&mut test, 1_500, 1e6);
        transfer(&mut test, &json!(7), 9_999, -30.5);
        transfer(&mut test, &json!("DE-1"), 2_000, 5.0);
        transfer(&mut test, &json!(7), 10_000, 1.0);
        let updates = [(json!(7), 69.5, 0), (json!("DE-1"), 5.0, 0), (json!(7), 1.0, 10_000)];
        assert_eq!(balances(&mut test), updates);
        test.watermark(9_998);
        test.restore();
        assert!(balances(&mut test).is_empty());
        test.watermark(9_999);
        assert_eq!(balances(&mut test), [(json!(7), 69.5, 0), (json!("DE-1"), 5.0, 0)]);
        test.watermark(19_999);
        assert_eq!(balances(&mut test), [(json!(7), 1.0, 10_000)]);
        let stats = test.job().stats();
        assert!(stats.balances(0) && stats.filtered == 1 && stats.violations == 0, "{stats:?}");
        assert_eq!(test.job().pending(), 0);
    }

    #[test]
    fn a_number_and_its_digits_are_one_account_in_the_form_that_came_last() {
        let mut test = Harness::new(job);
        transfer(&mut test, &json!(7), 1, 1.0);
        transfer(&mut test, &json!("7"), 2, 2.0);
        assert_eq!(balances(&mut test), [(json!(7), 1.0, 0), (json!("7"), 3.0, 0)]);
    }

    #[test]
    fn out_of_order_transactions_count_and_late_ones_only_while_that_is_allowed() {
        let mut test = Harness::new(job);
        transfer(&mut test, &json!(7), 12_000, 1.0);
        transfer(&mut test, &json!(7), 3_000, 2.0);
        assert_eq!(balances(&mut test), [(json!(7), 1.0, 10_000), (json!(7), 2.0, 0)]);
        test.watermark(9_999);
        test.rest();
        transfer(&mut test, &json!(7), 4_000, 4.0);
        assert_eq!(test.rest(), [Effect::Late { job: "account-balances", watermark: 9_999 }]);

        let mut test = Harness::new(job);
        test.params(1, &json!({"allowed_lateness_s": 5})).unwrap();
        transfer(&mut test, &json!(7), 3_000, 2.0);
        test.watermark(9_999);
        transfer(&mut test, &json!(7), 4_000, 4.0);
        let updates = [(json!(7), 2.0, 0), (json!(7), 2.0, 0), (json!(7), 6.0, 0)];
        assert_eq!(balances(&mut test), updates, "updated, final, corrected");
        test.watermark(14_999);
        transfer(&mut test, &json!(7), 4_000, 4.0);
        assert_eq!((test.job().stats().late, test.job().pending()), (1, 0));
    }

    #[test]
    fn a_new_window_size_applies_to_new_windows() {
        let mut test = Harness::new(job);
        transfer(&mut test, &json!(7), 1_000, 1.0);
        test.params(1, &json!({"window_size_s": 60})).unwrap();
        transfer(&mut test, &json!(7), 2_000, 1.0);
        transfer(&mut test, &json!(7), 61_000, 1.0);
        assert_eq!(balances(&mut test), [(json!(7), 1.0, 0), (json!(7), 2.0, 0), (json!(7), 1.0, 60_000)]);
        assert!(test.params(2, &json!({"window_size_s": 0})).unwrap_err().0.contains("window_size_s"));
    }

    #[test]
    fn windows_may_slide_as_long_as_they_are_few() {
        let mut test = Harness::new(job);
        test.params(1, &json!({"window": "sliding", "slide_s": 5})).unwrap();
        transfer(&mut test, &json!(7), 7_000, 1.0);
        assert_eq!(balances(&mut test), [(json!(7), 1.0, 0), (json!(7), 1.0, 5_000)]);
        test.watermark(9_999);
        assert_eq!(balances(&mut test), [(json!(7), 1.0, 0)]);
        let error =
            test.params(2, &json!({"window": "sliding", "window_size_s": 61, "slide_s": 1})).unwrap_err();
        assert!(error.0.contains("slide_s") && error.0.contains("61 windows"), "{error}");
        assert!(test.params(2, &json!({"window": "session"})).unwrap_err().0.contains("session"));
    }
}
