//! `humidity-average`: average, minimum, maximum and count per sensor and window.

use compact_str::CompactString;
use garde::Validate;
use millrace_core::stream::job as new_job;
use millrace_core::window::{Aggregate, WindowSpec};
use millrace_core::{EventTime, Job};
use millrace_wire::event::Reading;
use millrace_wire::result::SensorAverage;
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
            window: WindowType::Tumbling,
            window_size_s: WindowSize(300),
            slide_s: Slide(60),
            gap_s: Gap(60),
            allowed_lateness_s: Lateness(0),
        }
    }
}

impl Params {
    fn windows(&self) -> WindowSpec {
        self.window.spec(self.window_size_s, self.slide_s, self.gap_s)
    }
}

struct Average;

#[derive(Serialize, Deserialize)]
struct Acc {
    sum: f64,
    min: f64,
    max: f64,
    count: u64,
    location: CompactString,
    location_at: i64,
}

impl Aggregate<Reading> for Average {
    type Acc = Acc;
    type Out = (Acc,);

    fn create(&self) -> Acc {
        Acc {
            sum: 0.0,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            count: 0,
            location: CompactString::default(),
            location_at: i64::MIN,
        }
    }

    fn add(&self, acc: &mut Acc, reading: &Reading, at: EventTime) {
        acc.sum += reading.value;
        acc.min = acc.min.min(reading.value);
        acc.max = acc.max.max(reading.value);
        acc.count += 1;
        if at.0 >= acc.location_at {
            acc.location_at = at.0;
            acc.location.clone_from(&reading.location);
        }
    }

    fn merge(&self, acc: &mut Acc, other: &Acc) {
        acc.sum += other.sum;
        acc.min = acc.min.min(other.min);
        acc.max = acc.max.max(other.max);
        acc.count += other.count;
        if other.location_at >= acc.location_at {
            acc.location_at = other.location_at;
            acc.location.clone_from(&other.location);
        }
    }

    fn result(&self, acc: &Acc) -> (Acc,) {
        (Acc { location: acc.location.clone(), ..*acc },)
    }
}

pub(super) fn job() -> Box<dyn Job<Event>> {
    new_job::<Event, Params>("humidity-average", "Average humidity per sensor and window.")
        .topics(&[topic::IOT_SENSORS], &[topic::SENSOR_AVERAGES])
        .source(Event::humidity)
        .key_by(|reading| &reading.sensor_id)
        .window(Params::windows)
        .allowed_lateness(|params| params.allowed_lateness_s.ms())
        .aggregate(Average)
        .map(|result, _, _| {
            let (acc,) = &result.value;
            SensorAverage {
                sensor_id: (&*result.key).into(),
                location: acc.location.clone(),
                window_start: result.window.start,
                window_end: result.window.end,
                average: acc.sum / acc.count as f64,
                min: acc.min,
                max: acc.max,
                count: acc.count,
            }
        })
        .to(|average| (topic::SENSOR_AVERAGES, &average.sensor_id))
}

#[cfg(test)]
mod tests {
    use millrace_core::Effect;
    use millrace_core::testing::Harness;
    use serde_json::json;

    use super::*;

    fn add(test: &mut Harness<Event>, sensor: &str, at: i64, value: f64) {
        let reading = json!({
            "timestamp": at, "sensorId": sensor, "deviceType": "humidity", "value": value, "location": "attic"
        });
        test.record(&Event::Reading(serde_json::from_value(reading).unwrap()), at);
    }

    #[test]
    fn a_window_gives_one_result_per_sensor() {
        let mut test = Harness::new(job);
        add(&mut test, "a", 0, 50.0);
        add(&mut test, "a", 299_999, 60.0);
        add(&mut test, "b", 10, 40.0);
        add(&mut test, "a", 300_000, 99.0);
        test.watermark(299_998);
        assert!(test.emitted("sensor-averages").is_empty());
        assert_eq!(test.restore(), 4, "three windows and the schedule");
        test.watermark(299_999);
        assert_eq!(
            test.keyed("sensor-averages"),
            [
                (
                    "a".into(),
                    json!({"sensorId": "a", "location": "attic", "window_start": 0, "window_end": 300_000,
                           "average": 55.0, "min": 50.0, "max": 60.0, "count": 2})
                ),
                (
                    "b".into(),
                    json!({"sensorId": "b", "location": "attic", "window_start": 0, "window_end": 300_000,
                           "average": 40.0, "min": 40.0, "max": 40.0, "count": 1})
                ),
            ]
        );
        assert_eq!(test.job().pending(), 1);
    }

    #[test]
    fn a_late_reading_is_refused_or_corrects_its_window_while_that_is_allowed() {
        let mut test = Harness::new(job);
        test.watermark(299_999);
        add(&mut test, "a", 10, 50.0);
        assert_eq!(test.rest(), [Effect::Late { job: "humidity-average", watermark: 299_999 }]);

        let mut test = Harness::new(job);
        test.params(1, &json!({"allowed_lateness_s": 60})).unwrap();
        add(&mut test, "a", 5, 50.0);
        test.watermark(299_999);
        add(&mut test, "a", 10, 70.0);
        let averages: Vec<_> = test.emitted("sensor-averages").iter().map(|r| r["average"].clone()).collect();
        assert_eq!(averages, [json!(50.0), json!(60.0)]);
        test.restore();
        test.watermark(359_998);
        assert!(
            test.emitted("sensor-averages").is_empty(),
            "a restored window that has fired does not fire again"
        );
        assert_eq!(test.job().pending(), 2);
        test.watermark(359_999);
        add(&mut test, "a", 20, 1.0);
        let stats = test.job().stats();
        assert_eq!((stats.records, stats.done, stats.late, test.job().pending()), (3, 2, 1, 0));
    }

    #[test]
    fn a_new_window_size_applies_to_new_windows_and_open_ones_finish() {
        let mut test = Harness::new(job);
        add(&mut test, "a", 5_000, 50.0);
        test.params(1, &json!({"window_size_s": 10})).unwrap();
        add(&mut test, "a", 6_000, 52.0);
        add(&mut test, "a", 12_000, 54.0);
        test.restore();
        test.watermark(300_000);
        let windows: Vec<_> = test
            .emitted("sensor-averages")
            .iter()
            .map(|r| {
                (
                    r["window_start"].as_i64().unwrap(),
                    r["window_end"].as_i64().unwrap(),
                    r["count"].as_u64().unwrap(),
                )
            })
            .collect();
        assert_eq!(windows, [(10_000, 20_000, 1), (0, 300_000, 3)]);
        let stats = test.job().stats();
        assert!(stats.balances(test.job().pending()) && stats.violations == 0, "{stats:?}");
    }

    #[test]
    fn a_size_outside_of_its_limits_is_refused() {
        let mut test = Harness::new(job);
        let error = test.params(1, &json!({"window_size_s": 0})).unwrap_err();
        assert!(error.0.contains("window_size_s"), "{error}");
    }

    #[test]
    fn the_type_of_window_is_live() {
        let mut test = Harness::new(job);
        let windows = |test: &mut Harness<Event>| -> Vec<_> {
            let bounds = |r: &serde_json::Value| {
                ["window_start", "window_end", "count"].map(|f| r[f].as_i64().unwrap())
            };
            test.emitted("sensor-averages").iter().map(bounds).collect()
        };
        test.params(1, &json!({"window": "sliding", "window_size_s": 20, "slide_s": 10})).unwrap();
        add(&mut test, "a", 15_000, 50.0);
        test.watermark(40_000);
        assert_eq!(windows(&mut test), [[0, 20_000, 1], [10_000, 30_000, 1]]);
        test.params(2, &json!({"window": "session", "gap_s": 5})).unwrap();
        add(&mut test, "a", 41_000, 50.0);
        add(&mut test, "a", 44_000, 50.0);
        test.restore();
        test.watermark(60_000);
        assert_eq!(windows(&mut test), [[41_000, 49_000, 2]]);
        for (bad, why) in [
            (json!({"window": "global"}), "global"),
            (json!({"gap_s": 0}), "gap_s"),
            (json!({"slide_s": 0}), "slide_s"),
        ] {
            let error = test.params(3, &bad).unwrap_err();
            assert!(error.0.contains(why), "{error}");
        }
    }
}
