//! `high-activity`: an alert as soon as the absolute amounts of an account in a window exceed a threshold, once
//! per account and window.

use std::collections::BTreeMap;

use garde::Validate;
use millrace_core::process::{Current, ProcessContext, ProcessFunction, Timer};
use millrace_core::stream::job as new_job;
use millrace_core::window::{Aggregate, Trigger, WindowSpec, Windowed};
use millrace_core::{EventTime, Job, TimeDomain};
use millrace_wire::Timestamp;
use millrace_wire::event::Account;
use millrace_wire::result::{Alert, Evidence, HighActivity, Severity, alert_id};
use millrace_wire::topic;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Event, bank};
use crate::apps::parameters::{AlignedType, Lateness, Slide, WindowSize, few};
use crate::apps::{evidence, span};

/// Live parameters.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default, deny_unknown_fields)]
struct Params {
    /// More than this in a window raises an alert.
    #[garde(range(min = 0.0, max = 1e12))]
    #[schemars(title = "Threshold", extend("x-unit" = "$"))]
    threshold: f64,
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
            threshold: 5_000.0,
            window: AlignedType::Tumbling,
            window_size_s: WindowSize(60),
            slide_s: Slide(10),
            allowed_lateness_s: Lateness(0),
        }
    }
}

impl Params {
    fn windows(&self) -> WindowSpec {
        self.window.spec(self.window_size_s, self.slide_s)
    }
}

/// A bank transaction with where it is from.
struct Movement {
    account: Account,
    amount: f64,
    evidence: Option<Evidence>,
}

/// What an alert names of the transactions of its window: the last ones.
const EVIDENCE: usize = 20;

/// Sum of the absolute amounts, and what it rests on.
#[derive(Clone, Serialize, Deserialize)]
struct Activity {
    total: f64,
    /// In the form of its newest transaction.
    account: Option<Account>,
    evidence: Vec<Evidence>,
}

struct Sum;

impl Aggregate<Movement> for Sum {
    type Acc = Activity;
    type Out = Activity;

    fn create(&self) -> Activity {
        Activity { total: 0.0, account: None, evidence: Vec::new() }
    }

    fn add(&self, acc: &mut Activity, movement: &Movement, _: EventTime) {
        let one = Activity {
            total: movement.amount.abs(),
            account: Some(movement.account.clone()),
            evidence: movement.evidence.clone().into_iter().collect(),
        };
        self.merge(acc, &one);
    }

    fn merge(&self, acc: &mut Activity, other: &Activity) {
        acc.total += other.total;
        if other.account.is_some() {
            acc.account.clone_from(&other.account);
        }
        acc.evidence.extend_from_slice(&other.evidence);
        acc.evidence.drain(..acc.evidence.len().saturating_sub(EVIDENCE));
    }

    fn result(&self, acc: &Activity) -> Activity {
        acc.clone()
    }
}

/// Raises the alert of a window when its sum passes the threshold for the first time.
struct Once;

impl ProcessFunction<Params, Windowed<Activity>> for Once {
    /// Windows (start, end) that have raised their alert, with the time at which they take no more transactions.
    type State = BTreeMap<(i64, i64), i64>;
    type Out = Alert<HighActivity>;

    fn record(
        &mut self,
        result: &Windowed<Activity>,
        _: EventTime,
        alerted: &mut Current<Self::State>,
        ctx: &mut ProcessContext<'_, '_, Params, Self::Out>,
    ) {
        let Windowed { key, window, value: activity } = result;
        let params = *ctx.params();
        if activity.total <= params.threshold || alerted.contains_key(&(window.start, window.end)) {
            return;
        }
        let over = window.last() + params.allowed_lateness_s.ms();
        alerted.insert((window.start, window.end), over);
        ctx.register_timer(TimeDomain::Event, over);
        let now = Timestamp(ctx.now());
        ctx.collect(alert(key, (window.start, window.end), activity, params.threshold, now));
    }

    fn timer(
        &mut self,
        timer: Timer,
        alerted: &mut Current<Self::State>,
        _: &mut ProcessContext<'_, '_, Params, Self::Out>,
    ) {
        alerted.retain(|_, over| *over > timer.time);
    }
}

fn alert(
    key: &str,
    (window_start, window_end): (i64, i64),
    activity: &Activity,
    threshold: f64,
    now: Timestamp,
) -> Alert<HighActivity> {
    let Activity { total, account, evidence } = activity.clone();
    Alert {
        // Overlapping windows may hold the same records.
        id: alert_id(&format!("high-activity/{window_start}-{window_end}"), &evidence),
        r#type: "HIGH_ACTIVITY".into(),
        severity: Severity::High,
        key: key.into(),
        message: format!(
            "Account {key} has ${total:.2} activity in {} (threshold: ${threshold:?})",
            span((window_end - window_start) / 1_000)
        ),
        timestamp: now,
        evidence,
        details: HighActivity {
            account: account.unwrap_or_else(|| key.into()),
            total_activity: total,
            threshold,
            alert_type: "HIGH_ACTIVITY".into(),
            window_start,
            window_end,
        },
    }
}

pub(super) fn job() -> Box<dyn Job<Event>> {
    new_job::<Event, Params>("high-activity", "Alerts for accounts that move much money in a window.")
        .topics(&[topic::TRANSACTIONS], &[topic::FRAUD_ALERTS])
        .alerts()
        .source(bank)
        .map(|transaction, _, ctx| Movement {
            account: transaction.account.clone(),
            amount: transaction.amount,
            evidence: evidence(ctx.origin),
        })
        .key_by(|movement| movement.account.as_str())
        .window(Params::windows)
        .allowed_lateness(|params| params.allowed_lateness_s.ms())
        .trigger(Trigger::Count { n: 1 })
        .aggregate(Sum)
        .key_by(|result| &result.key)
        .process(Once)
        .to(|alert| (topic::FRAUD_ALERTS, &alert.key))
}

#[cfg(test)]
mod tests {
    use millrace_core::Effect;
    use millrace_core::testing::Harness;
    use serde_json::json;

    use super::super::tests::{pay, transfer};
    use super::*;

    fn totals(test: &mut Harness<Event>) -> Vec<f64> {
        test.emitted("fraud-alerts").iter().map(|a| a["total_activity"].as_f64().unwrap()).collect()
    }

    #[test]
    fn an_alert_comes_once_as_soon_as_the_sum_passes_the_threshold() {
        let mut test = Harness::new(job);
        test.processing_time(77);
        pay(&mut test, 0, 9_000.0);
        transfer(&mut test, &json!("x"), 0, 4_000.0);
        transfer(&mut test, &json!(9999), 1_000, 2_500.0);
        transfer(&mut test, &json!(9999), 2_000, -2_500.0);
        assert!(test.emitted("fraud-alerts").is_empty(), "5000 is not above 5000");
        transfer(&mut test, &json!(9999), 59_999, 2_500.0);
        assert_eq!(
            test.keyed("fraud-alerts"),
            [(
                "9999".into(),
                json!({
                    "id": "high-activity/0-60000/test/0/2,3,4", "type": "HIGH_ACTIVITY", "severity": "high", "key": "9999",
                    "message": "Account 9999 has $7500.00 activity in 1 minute (threshold: $5000.0)",
                    "timestamp": 77,
                    "evidence": [
                        {"topic": "test", "partition": 0, "offset": 2}, {"topic": "test", "partition": 0, "offset": 3},
                        {"topic": "test", "partition": 0, "offset": 4}
                    ],
                    "account": 9999, "total_activity": 7_500.0, "threshold": 5_000.0, "alert_type": "HIGH_ACTIVITY",
                    "window_start": 0, "window_end": 60_000
                })
            )]
        );
        test.restore();
        transfer(&mut test, &json!(9999), 30_000, 9_000.0);
        assert!(totals(&mut test).is_empty(), "once per account and window");
        transfer(&mut test, &json!(9999), 60_000, 5_001.0);
        assert_eq!(totals(&mut test), [5_001.0], "another window");
        test.watermark(119_999);
        assert_eq!(test.job().pending(), 0);
        let stats = test.job().stats();
        assert!(stats.balances(0) && stats.violations == 0, "{stats:?}");
    }

    #[test]
    fn late_transactions_count_only_while_that_is_allowed() {
        let mut test = Harness::new(job);
        transfer(&mut test, &json!(1), 10, 4_000.0);
        test.watermark(59_999);
        transfer(&mut test, &json!(1), 20, 4_000.0);
        assert_eq!(test.rest(), [Effect::Late { job: "high-activity", watermark: 59_999 }]);

        let mut test = Harness::new(job);
        test.params(1, &json!({"allowed_lateness_s": 10})).unwrap();
        transfer(&mut test, &json!(1), 10, 4_000.0);
        test.watermark(59_999);
        for _ in 0..3 {
            transfer(&mut test, &json!(1), 20, 4_000.0);
        }
        assert_eq!(totals(&mut test), [8_000.0], "a late window too raises one");
    }

    #[test]
    fn an_alert_names_the_last_transactions_only() {
        let mut test = Harness::new(job);
        for _ in 0..51 {
            transfer(&mut test, &json!(1), 10, 100.0);
        }
        let alerts = test.emitted("fraud-alerts");
        let evidence = alerts[0]["evidence"].as_array().unwrap();
        assert_eq!((alerts.len(), evidence.len(), &evidence[19]["offset"]), (1, 20, &json!(50)));
    }

    #[test]
    fn threshold_and_window_are_live() {
        let mut test = Harness::new(job);
        transfer(&mut test, &json!(1), 10, 3_000.0);
        test.params(1, &json!({"threshold": 2_000, "window_size_s": 90})).unwrap();
        transfer(&mut test, &json!(1), 20, 1.0);
        assert_eq!(totals(&mut test), [3_001.0], "a lower threshold counts for the open window too");
        transfer(&mut test, &json!(1), 200_000, 2_001.0);
        let alerts = test.emitted("fraud-alerts");
        assert_eq!(
            alerts[0]["message"],
            "Account 1 has $2001.00 activity in 90 seconds (threshold: $2000.0)"
        );
        assert!(test.params(2, &json!({"threshold": -1})).unwrap_err().0.contains("threshold"));
    }

    #[test]
    fn windows_may_slide_and_each_raises_its_alert() {
        let mut test = Harness::new(job);
        test.params(1, &json!({"window": "sliding", "slide_s": 30})).unwrap();
        transfer(&mut test, &json!(1), 45_000, 3_000.0);
        transfer(&mut test, &json!(1), 65_000, 3_000.0);
        transfer(&mut test, &json!(1), 66_000, 3_000.0);
        let alerts = test.emitted("fraud-alerts");
        let windows: Vec<_> =
            alerts.iter().map(|a| (a["window_start"].as_i64(), a["total_activity"].as_f64())).collect();
        assert_eq!(windows, [(Some(30_000), Some(6_000.0)), (Some(60_000), Some(6_000.0))]);
        assert!(
            test.params(2, &json!({"window": "sliding", "slide_s": 0})).unwrap_err().0.contains("slide_s")
        );
    }
}
