//! `spend-trend`: what each merchant takes, in sliding windows. Payments are keyed by user, so each task adds up its own for a
//! second of event time, and the merchant's task adds up these sums.

use compact_str::CompactString;
use garde::Validate;
use millrace_core::Job;
use millrace_core::aggregate::{Count, Sum};
use millrace_core::repartition::Merge;
use millrace_core::stream::job as new_job;
use millrace_core::window::WindowSpec;
use millrace_wire::event::CardTransaction;
use millrace_wire::result::MerchantTrend;
use millrace_wire::topic;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Event;
use crate::apps::parameters::{Gap, Lateness, Slide, WindowSize, WindowType};

/// Live parameters.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default, deny_unknown_fields)]
struct Params {
    #[garde(skip)]
    window: WindowType,
    #[garde(dive)]
    window_size_s: WindowSize,
    #[garde(dive)]
    slide_s: Slide,
    #[garde(dive)]
    gap_s: Gap,
    #[garde(dive)]
    allowed_lateness_s: Lateness,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            window: WindowType::Sliding,
            window_size_s: WindowSize(60),
            slide_s: Slide(10),
            gap_s: Gap(10),
            allowed_lateness_s: Lateness(0),
        }
    }
}

impl Params {
    fn windows(&self) -> WindowSpec {
        self.window.spec(self.window_size_s, self.slide_s, self.gap_s)
    }
}

/// Windows begin and end with a second.
const SLICE_MS: i64 = 1_000;

fn amount(payment: &CardTransaction) -> f64 {
    payment.amount
}

#[allow(clippy::cast_precision_loss)]
pub(super) fn job() -> Box<dyn Job<Event>> {
    new_job::<Event, Params>("spend-trend", "What each merchant takes: sum, number, average, sliding.")
        .topics(&[topic::TRANSACTIONS], &[topic::MERCHANT_TRENDS])
        .source(Event::card)
        .combine(SLICE_MS, |payment| &payment.merchant_id, (Count, Sum(amount)))
        .repartition(
            topic::SPEND_TREND_REPARTITION,
            |partial| &partial.key,
            |partials| {
                partials
                    .key_by(|partial| &partial.key)
                    .window(Params::windows)
                    .allowed_lateness(|params| params.allowed_lateness_s.ms())
                    .aggregate(Merge::<_, CardTransaction>::new((Count, Sum(amount))))
                    .map(|window, _, _| {
                        let (count, sum) = window.value;
                        MerchantTrend {
                            merchant_id: CompactString::from(&*window.key),
                            window_start: window.window.start,
                            window_end: window.window.end,
                            sum,
                            count,
                            average: sum / count as f64,
                        }
                    })
                    .to(|trend| (topic::MERCHANT_TRENDS, &trend.merchant_id))
            },
        )
}

#[cfg(test)]
mod tests {
    use millrace_core::testing::Harness;
    use serde_json::json;

    use super::super::tests::{bank, pay_to};
    use super::*;

    fn trends(test: &mut Harness<Event>) -> Vec<(i64, f64, u64)> {
        let all = test.emitted("merchant-trends");
        let of = |t: &serde_json::Value| {
            (t["window_start"].as_i64().unwrap(), t["sum"].as_f64().unwrap(), t["count"].as_u64().unwrap())
        };
        all.iter().map(of).collect()
    }

    #[test]
    fn payments_of_all_users_add_up_in_each_window_that_holds_them() {
        let mut test = Harness::new(job);
        pay_to(&mut test, "a", "m-1", 65_000, 10.0);
        pay_to(&mut test, "b", "m-1", 61_000, 30.0);
        pay_to(&mut test, "a", "m-2", 61_000, 1.0);
        bank(&mut test, 62_000);
        test.watermark(69_999);
        let trend = json!({"merchantId": "m-1", "window_start": 10_000, "window_end": 70_000, "sum": 40.0, "count": 2,
                           "average": 20.0});
        let first = test.keyed("merchant-trends");
        assert_eq!((first.len(), &first[0]), (2, &("m-1".to_owned(), trend)));
        test.restore();
        test.watermark(129_999);
        let all = trends(&mut test);
        assert_eq!(all.len(), 10, "five more windows of each merchant: {all:?}");
        assert!(all.contains(&(60_000, 40.0, 2)) && all.contains(&(20_000, 1.0, 1)), "{all:?}");
        assert!(test.state_is_empty());
        let stats = test.job().stats();
        assert!(stats.balances(0) && stats.filtered == 1 && stats.violations == 0, "{stats:?}");
    }

    #[test]
    fn what_is_late_for_all_of_its_windows_is_late() {
        let mut test = Harness::new(job);
        pay_to(&mut test, "a", "m", 1_000, 1.0);
        test.watermark(60_000);
        trends(&mut test);
        pay_to(&mut test, "b", "m", 500, 5.0);
        test.commit();
        assert_eq!(test.rest().len(), 1);
        test.watermark(120_000);
        assert!(trends(&mut test).iter().all(|(_, sum, _)| *sum == 1.0));
    }

    #[test]
    fn size_and_slide_are_live() {
        let mut test = Harness::new(job);
        test.params(1, &json!({"window_size_s": 2, "slide_s": 1})).unwrap();
        pay_to(&mut test, "a", "m", 1_500, 1.0);
        test.watermark(5_000);
        assert_eq!(trends(&mut test), [(0, 1.0, 1), (1_000, 1.0, 1)]);
        assert!(test.params(2, &json!({"slide_s": 0})).unwrap_err().0.contains("slide_s"));
    }

    #[test]
    fn the_type_of_window_is_live() {
        let mut test = Harness::new(job);
        test.params(1, &json!({"window": "tumbling"})).unwrap();
        pay_to(&mut test, "a", "m", 65_500, 1.0);
        test.watermark(200_000);
        assert_eq!(trends(&mut test), [(60_000, 1.0, 1)]);
        test.params(2, &json!({"window": "session", "gap_s": 10})).unwrap();
        pay_to(&mut test, "a", "m", 201_500, 1.0);
        pay_to(&mut test, "b", "m", 205_000, 1.0);
        test.watermark(300_000);
        assert_eq!(trends(&mut test), [(201_000, 2.0, 2)], "to the second");
    }
}
