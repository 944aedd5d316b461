use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use millrace_wire::event::Reading;
use millrace_wire::result::{SensorAlert, SensorAverage};
use millrace_wire::topic;
use serde_json::json;

use crate::{Cluster, Message, Outgoing, eventually, now_ms, tasks};

/// The sensors app lets records be this much out of order, ms.
const OUT_OF_ORDERNESS_MS: i64 = 5_000;

/// A known input and what must come of it, computed independently of the engine.
///
/// A task's watermark never goes back, and a later test needs one that is not far ahead of the clock. So the generator
/// is stopped first, the input's event times begin just after the latest one seen, windows are small, and everything
/// together spans less than a minute.
pub struct Stage<'a> {
    cluster: &'a Cluster,
    /// Unique to this run; every sensor's name starts with it.
    pub prefix: String,
    /// Length of a window, ms.
    pub window_ms: i64,
    /// Start of the first window that is completely the test's, epoch ms.
    pub base_ms: i64,
    /// Where the topics ended before.
    before: BTreeMap<String, Vec<i64>>,
}

/// Results by sensor and start of window.
pub type Averages = BTreeMap<(String, i64), SensorAverage>;

/// A humidity reading as JSON.
pub fn reading(sensor: &str, at_ms: i64, value: f64) -> Outgoing {
    let value = json!({
        "timestamp": at_ms, "sensorId": sensor, "deviceType": "humidity", "value": value, "unit": "%",
        "location": "test-bench", "batteryLevel": 50.0,
    });
    Outgoing { key: sensor.to_owned(), value: value.to_string().into_bytes(), partition: None }
}

impl<'a> Stage<'a> {
    /// Stops the generator, sets the window size, and finds a time for the test's events.
    pub fn new(cluster: &'a Cluster, name: &str, window_s: i64) -> Self {
        cluster.quiet();
        cluster
            .api
            .set_params("humidity-average", &json!({"window_size_s": window_s, "allowed_lateness_s": 0}));
        let window_ms = window_s * 1_000;
        // A new size is in force for windows that start after the latest event seen.
        let latest =
            tasks(&cluster.kafka, "sensors").into_values().filter_map(|task| task.watermark_ms).max();
        let latest = latest.map_or(0, |watermark| watermark + OUT_OF_ORDERNESS_MS + 1);
        let base_ms = (latest.max(now_ms() - 10_000) / window_ms + 2) * window_ms;
        let mut topics = topic::results();
        topics.extend([topic::IOT_SENSORS, topic::LATE_EVENTS, topic::DEAD_LETTERS].map(str::to_owned));
        let before = topics.into_iter().map(|t| (t.clone(), cluster.kafka.ends(&t))).collect();
        Self { cluster, prefix: format!("{name}-{}-", now_ms()), window_ms, base_ms, before }
    }

    /// `n` readings of `sensors` sensors over `windows` windows, in the order in which they are to be written: at most
    /// 3 s out of order. Values are multiples of a half from 40 to 89.5, so that sums are exact.
    pub fn input(&self, sensors: u64, windows: i64, n: u64) -> Vec<Outgoing> {
        let span = windows * self.window_ms;
        let mut state = self.base_ms.unsigned_abs();
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        (0..n)
            .map(|i| {
                let on_time = self.base_ms + i64::try_from(i).unwrap() * span / i64::try_from(n).unwrap();
                let at = (on_time - i64::try_from(random(3_000)).unwrap()).max(self.base_ms);
                reading(
                    &format!("{}{:03}", self.prefix, random(sensors)),
                    at,
                    40.0 + random(100) as f64 / 2.0,
                )
            })
            .collect()
    }

    /// Closes every window that ends by `windows` windows after the base: a later reading in each partition.
    pub fn close(&self, windows: i64) {
        let at = self.base_ms + windows * self.window_ms + OUT_OF_ORDERNESS_MS + 1;
        let closing: Vec<Outgoing> = (0..topic::PARTITIONS)
            .map(|partition| Outgoing {
                partition: Some(partition),
                ..reading(&format!("close-{}{partition}", self.prefix), at, 35.0)
            })
            .collect();
        self.write(&closing);
    }

    /// Writes to `iot-sensors`.
    pub fn write(&self, records: &[Outgoing]) {
        self.cluster.kafka.write(topic::IOT_SENSORS, records);
    }

    /// What a topic has got since the stage was set.
    pub fn since(&self, topic: &str) -> Vec<Message> {
        self.cluster.kafka.read(topic, &self.before[topic])
    }

    /// This test's records in `iot-sensors`, as they lie there.
    pub fn written(&self) -> Vec<Message> {
        self.since(topic::IOT_SENSORS).into_iter().filter(|m| m.key.starts_with(&self.prefix)).collect()
    }

    /// This test's committed averages for windows of its own size.
    ///
    /// # Panics
    /// A window has two results.
    #[track_caller]
    pub fn averages(&self) -> Averages {
        let mut found = Averages::new();
        for message in self.since(topic::SENSOR_AVERAGES) {
            let average: SensorAverage = serde_json::from_slice(&message.value).unwrap();
            assert_eq!(message.key, average.sensor_id.as_str(), "the key is the sensor");
            let own = average.sensor_id.starts_with(&self.prefix);
            // A window of the size before the change may still be open beside the new ones.
            if own && average.window_end - average.window_start == self.window_ms {
                let key = (average.sensor_id.to_string(), average.window_start);
                let twice = found.insert(key, average);
                assert!(twice.is_none(), "two results of one window: {twice:?}");
            }
        }
        found
    }

    /// This test's committed alerts by id.
    ///
    /// # Panics
    /// An id comes twice.
    #[track_caller]
    pub fn alerts(&self) -> BTreeMap<String, SensorAlert> {
        let mut found = BTreeMap::new();
        for name in [topic::SENSOR_ALERTS_CRITICAL, topic::SENSOR_ALERTS_HIGH, topic::SENSOR_ALERTS_WARNING] {
            for message in self.since(name) {
                let alert: SensorAlert = serde_json::from_slice(&message.value).unwrap();
                if alert.sensor_id.starts_with(&self.prefix) {
                    let routed = name.rsplit('.').next().unwrap();
                    assert_eq!(serde_json::to_value(alert.severity).unwrap(), routed);
                    let twice = found.insert(alert.id.clone(), alert);
                    assert!(twice.is_none(), "two alerts with one id: {twice:?}");
                }
            }
        }
        found
    }

    /// Waits until the committed averages and alerts are exactly what the written input asks for.
    #[track_caller]
    pub fn settle(&self, deadline: Duration) -> Averages {
        let written = self.written();
        let (expected, alerts) = (averages(&written, self.window_ms), alert_ids(&written, 60.0));
        assert!(!expected.is_empty() && !alerts.is_empty());
        let found = eventually("every window has its result", deadline, || {
            let found = self.averages();
            let missing = expected.keys().find(|k| !found.contains_key(*k));
            missing.map_or(Ok(found.clone()), |m| {
                Err(format!("{} of {}, without {m:?}", found.len(), expected.len()))
            })
        });
        assert_eq!(found.len(), expected.len(), "windows that no reading asked for");
        for (key, want) in &expected {
            let got = &found[key];
            assert_eq!((got.count, got.min, got.max), (want.count, want.min, want.max), "{key:?}");
            assert!(
                (got.average - want.average).abs() < 1e-9,
                "{key:?}: {} is not {}",
                got.average,
                want.average
            );
            assert_eq!(got.location, "test-bench");
        }
        self.cluster.drained(deadline);
        let raised: BTreeSet<String> = self.alerts().into_keys().collect();
        assert_eq!(raised.len(), alerts.len(), "one alert for each reading above the threshold");
        assert_eq!(raised, alerts);
        found
    }
}

/// The averages that these readings ask for.
pub fn averages(readings: &[Message], window_ms: i64) -> Averages {
    let mut sums: BTreeMap<(String, i64), (f64, SensorAverage)> = BTreeMap::new();
    for message in readings {
        let reading: Reading = serde_json::from_slice(&message.value).unwrap();
        let start = reading.timestamp.millis().div_euclid(window_ms) * window_ms;
        let entry = sums.entry((reading.sensor_id.to_string(), start)).or_insert_with(|| {
            let empty = SensorAverage {
                sensor_id: reading.sensor_id.clone(),
                location: reading.location.clone(),
                window_start: start,
                window_end: start + window_ms,
                average: 0.0,
                min: f64::INFINITY,
                max: f64::NEG_INFINITY,
                count: 0,
            };
            (0.0, empty)
        });
        entry.0 += reading.value;
        entry.1.count += 1;
        entry.1.min = entry.1.min.min(reading.value);
        entry.1.max = entry.1.max.max(reading.value);
    }
    let mean = |(sum, average): (f64, SensorAverage)| SensorAverage {
        average: sum / average.count as f64,
        ..average
    };
    sums.into_iter().map(|(key, sum)| (key, mean(sum))).collect()
}

/// Ids of the alerts that these readings ask for.
pub fn alert_ids(readings: &[Message], threshold: f64) -> BTreeSet<String> {
    let above = |m: &&Message| serde_json::from_slice::<Reading>(&m.value).unwrap().value > threshold;
    let id = |m: &Message| format!("mold-filter/{}/{}/{}", topic::IOT_SENSORS, m.partition, m.offset);
    readings.iter().filter(above).map(id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expectations_are_computed_by_hand() {
        let message = |offset, sensor, at, value| {
            let outgoing = reading(sensor, at, value);
            Message {
                partition: 2,
                offset,
                created_ms: 0,
                key: outgoing.key,
                value: outgoing.value,
                headers: BTreeMap::new(),
            }
        };
        let input =
            [message(0, "a", 1_999, 50.0), message(1, "a", 2_000, 61.0), message(2, "a", 3_999, 60.0)];
        let found = averages(&input, 2_000);
        let brief: Vec<_> = found
            .values()
            .map(|a| (a.window_start, a.window_end, a.count, a.average, a.min, a.max))
            .collect();
        assert_eq!(brief, [(0, 2_000, 1, 50.0, 50.0, 50.0), (2_000, 4_000, 2, 60.5, 60.0, 61.0)]);
        assert_eq!(alert_ids(&input, 60.0), BTreeSet::from(["mold-filter/iot-sensors/2/1".to_owned()]));
    }
}
