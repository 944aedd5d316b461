use millrace_core::testing::Harness;
use millrace_core::{Application, Effect, Effects, Input};
use serde_json::json;

use super::*;

/// Humidity readings of a sensor: (event time, percent).
pub(super) fn humid(test: &mut Harness<Event>, sensor: &str, readings: &[(i64, f64)]) {
    for (at, value) in readings {
        let reading = json!({
            "timestamp": at, "sensorId": sensor, "deviceType": "humidity", "value": value, "location": "cellar"
        });
        test.record(&Event::Reading(serde_json::from_value(reading).unwrap()), *at);
    }
}

fn reading(sensor: &str, at: i64, value: f64) -> String {
    format!(
        r#"{{"timestamp":{at},"sensorId":"{sensor}","deviceType":"humidity","value":{value},"location":"cellar"}}"#
    )
}

#[test]
fn malformed_records_are_dead_and_stop_nothing() {
    let mut task = APP.task(0).unwrap();
    task.start();
    let mut effects = Effects::default();
    let values: [Option<&[u8]>; 4] = [Some(b"\xff\xfe"), Some(br#"{"timestamp":"soon"}"#), None, Some(b"")];
    for (offset, value) in values.into_iter().enumerate() {
        let record = Record { source: 0, offset: offset as i64, key: None, value };
        task.step(Input::Record(record), &mut effects).unwrap();
    }
    let good = reading("s", 1_000, 65.0);
    let record = Record { source: 0, offset: 4, key: None, value: Some(good.as_bytes()) };
    task.step(Input::Record(record), &mut effects).unwrap();
    let dead = effects.iter().filter(|e| matches!(e, Effect::Dead { .. })).count();
    let emitted = effects.iter().filter(|e| matches!(e, Effect::Emit { .. })).count();
    assert_eq!((dead, emitted, task.totals().dead, task.totals().records), (4, 1, 4, 5));
    assert_eq!(task.offsets(), [("iot-sensors", 5)]);
}

/// The job of the tutorial, `battery-low`, as far as it is not shown there.
#[test]
fn batteries_count_as_they_come_and_a_silent_sensor_is_forgotten() {
    let day = 24 * 3_600 * 1_000;
    let mut test = Harness::new(battery_low::job);
    let charge = |test: &mut Harness<Event>, sensor: &str, at: i64, level: f64| {
        let reading = json!({"timestamp": at, "sensorId": sensor, "deviceType": "humidity", "value": 50,
                             "location": "cellar", "batteryLevel": level});
        test.record(&Event::Reading(serde_json::from_value(reading).unwrap()), at);
        test.emitted("alerts").len()
    };
    assert_eq!(charge(&mut test, "a", 9_000, 90.0), 0);
    assert_eq!(charge(&mut test, "a", 5_000, 12.0), 1, "measured before, but it came after");
    test.watermark(9_000);
    assert_eq!((charge(&mut test, "b", 1_000, 12.0), test.job().stats().late), (1, 0), "late");
    test.watermark(9_000 + 30 * day - 1);
    assert!(!test.state_is_empty());
    test.watermark(9_000 + 30 * day);
    assert!(test.state_is_empty());
    assert_eq!(charge(&mut test, "a", 31 * day, 12.0), 1, "once more");
    test.params(1, &json!({"ttl_days": 1})).unwrap();
    test.watermark(32 * day);
    assert!(test.state_is_empty());
}

/// See "Duplicates" in docs/semantics.md.
#[test]
fn a_reading_that_comes_twice_is_two_readings() {
    let ewma_off = json!({"ewma_threshold": 1_000});
    let steady: Vec<_> = (0..40).map(|i| (i, 20.0 + (i % 3) as f64)).chain([(40, 90.0)]).collect();
    let none = json!({});
    // Number of the job, parameters, readings of which the last one comes twice, where its results go, what they say.
    let table: [(usize, _, &[_], _, _, _); 6] = [
        (
            0,
            &none,
            &[(1, 85.0)],
            "sensor-alerts.critical",
            "id",
            json!(["mold-filter/test/0/0", "mold-filter/test/0/1"]),
        ),
        (1, &none, &[(1, 50.0)], "sensor-averages", "count", json!([2])),
        (2, &none, &[(1, 71.0), (2, 72.0)], "mold-alerts", "values", json!([[71.0, 72.0, 72.0]])),
        (3, &none, &[(1, 71.0), (2, 75.0), (3, 85.0)], "mold-alerts", "first", json!([71.0])),
        (4, &ewma_off, &steady, "anomalies", "value", json!([90.0, 90.0])),
        (5, &none, &[(1, 50.0)], "alerts", "id", json!(["battery-low/test/0/0"])),
    ];
    for (number, params, readings, topic, field, expected) in table {
        let mut test = Harness::new(move || (APP.jobs)().remove(number));
        test.params(1, params).unwrap();
        for (at, value) in readings.iter().chain(readings.last()) {
            let reading = json!({"timestamp": at, "sensorId": "s", "deviceType": "humidity", "value": value,
                                 "location": "cellar", "batteryLevel": 10});
            test.record(&Event::Reading(serde_json::from_value(reading).unwrap()), *at);
        }
        test.watermark(1_000_000);
        let said: Vec<_> = test.emitted(topic).into_iter().map(|result| result[field].clone()).collect();
        assert_eq!(json!(said), expected, "{}", test.job().descriptor().name);
    }
}

#[test]
fn malformed_reference_data_is_dead_and_a_tombstone_removes() {
    let mut task = APP.task(0).unwrap();
    task.start();
    let mut effects = Effects::default();
    let sensor = br#"{"sensorId":"s","location":"attic","calibration":0.5}"#;
    type Bytes<'a> = Option<&'a [u8]>;
    let records: [(Bytes<'_>, Bytes<'_>); 6] = [
        (Some(b"s"), Some(sensor)),
        (Some(b"s"), Some(br#"{"sensorId":"s"}"#)),
        (Some(b"s"), Some(b"{")),
        (None, None),
        (Some(b"\xff"), None),
        (Some(b"s"), None),
    ];
    let alert = |task: &mut Box<dyn millrace_core::task::Task>, effects: &mut Effects| {
        let value = reading("s", 1_000, 85.0);
        let record = Record { source: 0, offset: 9, key: None, value: Some(value.as_bytes()) };
        task.step(Input::Record(record), effects).unwrap();
    };
    for (offset, (key, value)) in (0..).zip(records) {
        if offset == 5 {
            alert(&mut task, &mut effects);
        }
        task.step(Input::Record(Record { source: 1, offset, key, value }), &mut effects).unwrap();
    }
    alert(&mut task, &mut effects);
    let reasons: Vec<_> = effects
        .iter()
        .filter_map(|effect| if let Effect::Dead { reason } = effect { Some(reason.clone()) } else { None })
        .collect();
    assert_eq!(reasons.len(), 4, "{reasons:?}");
    for (reason, word) in reasons.iter().zip(["not a sensor: ", "not a sensor: ", "no value", "no value"]) {
        assert!(reason.contains(word), "{reason}");
    }
    let sensors: Vec<serde_json::Value> = effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Emit { topic: topic::SENSOR_ALERTS_CRITICAL, value, .. } => {
                let alert: serde_json::Value = serde_json::from_slice(effects.bytes(value)).unwrap();
                Some(alert["sensor"]["location"].clone())
            }
            _ => None,
        })
        .collect();
    assert_eq!(sensors, [json!("attic"), json!(null)], "known until the tombstone");
}

#[test]
fn restored_from_the_changelog_it_continues_exactly() {
    let change = ("humidity-average", &json!({"window_size_s": 10}));
    let written = crate::apps::tests::continues_exactly(&APP, change, |i| {
        let at = 1_000_000 + i * 2_000 - (i % 7) * 1_500;
        let jump = if i == 390 { 500.0 } else { 0.0 };
        (0, reading(&format!("s{}", i % 3), at, 50.0 + jump + (i % 40) as f64))
    });
    for topic in [topic::SENSOR_AVERAGES, topic::SENSOR_ALERTS_HIGH, topic::MOLD_ALERTS, topic::ANOMALIES] {
        assert!(written.contains(topic), "{topic}");
    }
}
