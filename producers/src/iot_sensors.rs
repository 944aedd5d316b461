//! `iot-sensors`: readings of a building site's sensors.
//!
//! A sensor's value is: mean of its location and kind + day curve + weather of the location (shared by its sensors, so
//! that neighbours rise together) + its own drift. Weather and drift are Ornstein-Uhlenbeck processes, advanced by the
//! exact solution over the event time that has passed, so that the picture does not depend on the rate. Sensors report
//! in turn.

use std::f64::consts::TAU;
use std::io;

use compact_str::{CompactString, format_compact};
use millrace_wire::event::{DeviceType, Reading, Sensor};
use millrace_wire::scenario::Scenario;
use millrace_wire::{Timestamp, topic};

use crate::generator::{HOT, rounded};
use crate::{Generator, Random, Record, Reference};

/// Locations and their mean relative humidity (percent) and temperature (degrees Celsius).
const LOCATIONS: [(&str, f64, f64); 20] = [
    ("basement-a", 63.0, 15.0),
    ("basement-b", 60.0, 15.5),
    ("cellar", 66.0, 13.0),
    ("laundry", 59.0, 23.0),
    ("kitchen", 52.0, 22.0),
    ("bathroom-1", 58.0, 23.0),
    ("bathroom-2", 57.0, 23.0),
    ("attic", 47.0, 20.0),
    ("office-1", 42.0, 21.5),
    ("office-2", 43.0, 21.5),
    ("meeting-room", 44.0, 22.0),
    ("server-room", 38.0, 25.0),
    ("warehouse-north", 50.0, 14.0),
    ("warehouse-south", 49.0, 16.0),
    ("cold-store", 56.0, 5.0),
    ("greenhouse-1", 70.0, 25.0),
    ("greenhouse-2", 73.0, 26.0),
    ("workshop", 46.0, 19.0),
    ("garage", 54.0, 12.0),
    ("pump-house", 64.0, 11.0),
];

/// Half of the sensors measure humidity.
const KINDS: [DeviceType; 8] = [
    DeviceType::Humidity,
    DeviceType::Temperature,
    DeviceType::Humidity,
    DeviceType::Vibration,
    DeviceType::Humidity,
    DeviceType::Pressure,
    DeviceType::Humidity,
    DeviceType::Temperature,
];

const DAY_MS: f64 = 86_400_000.0;
/// A battery lasts 100 to 400 days.
const BATTERY_DAYS: (f64, f64) = (100.0, 400.0);
/// Weather of a location turns over in about half an hour.
const WEATHER_MS: f64 = 1_800_000.0;
/// A sensor's own drift in about four minutes.
const DRIFT_MS: f64 = 240_000.0;

/// Where it gets damp, how damp when that begins, percent, and how fast it rises from there, percent/s.
const DAMP: (usize, f64, f64) = (2, 72.0, 0.6);
/// A faulty sensor is wrong by this, as a multiple of its limits.
const FAULT: f64 = 3.0;

/// How a kind behaves: letter in the id, unit, amplitude of the day curve, deviation of weather and of drift, limits,
/// spread of calibration. A negative amplitude is lowest in the afternoon.
struct Behaviour {
    letter: char,
    unit: &'static str,
    day: f64,
    weather: f64,
    drift: f64,
    limits: (f64, f64),
    calibration: f64,
}

const fn behaviour(kind: DeviceType) -> Behaviour {
    match kind {
        DeviceType::Humidity => Behaviour {
            letter: 'h',
            unit: "%",
            day: -4.0,
            weather: 5.0,
            drift: 3.0,
            limits: (30.0, 95.0),
            calibration: 1.5,
        },
        DeviceType::Temperature => Behaviour {
            letter: 't',
            unit: "°C",
            day: 2.5,
            weather: 1.0,
            drift: 0.4,
            limits: (-20.0, 60.0),
            calibration: 0.3,
        },
        DeviceType::Vibration => Behaviour {
            letter: 'v',
            unit: "mm/s",
            day: 0.5,
            weather: 0.4,
            drift: 0.6,
            limits: (0.0, 40.0),
            calibration: 0.05,
        },
        DeviceType::Pressure => Behaviour {
            letter: 'p',
            unit: "hPa",
            day: 0.8,
            weather: 2.0,
            drift: 0.2,
            limits: (950.0, 1_060.0),
            calibration: 0.5,
        },
    }
}

/// A mean-reverting walk around 0 with deviation 1.
#[derive(Clone)]
struct Walk {
    value: f64,
    at: Option<Timestamp>,
}

impl Walk {
    /// Moves on to `now`, which may be before the last call: then it stays.
    fn advance(&mut self, now: Timestamp, turnover_ms: f64, random: &mut Random) -> f64 {
        match self.at {
            None => self.value = random.normal(),
            Some(at) if now > at => {
                let keep = (-((now.millis() - at.millis()) as f64) / turnover_ms).exp();
                self.value = self.value * keep + (1.0 - keep * keep).sqrt() * random.normal();
            }
            Some(_) => return self.value,
        }
        self.at = Some(now);
        self.value
    }
}

#[derive(Clone)]
struct Device {
    id: CompactString,
    kind: DeviceType,
    location: usize,
    mean: f64,
    calibration: f64,
    battery: f64,
    battery_per_ms: f64,
    drift: Walk,
}

/// The stream.
pub struct IotSensors {
    random: Random,
    devices: Vec<Device>,
    weather: Vec<Walk>,
    turn: usize,
    first: Option<Timestamp>,
    provoked: Option<Scenario>,
    /// When it began to get damp.
    damp_since: Option<Timestamp>,
}

impl IotSensors {
    /// `sensors` sensors over 20 locations.
    pub fn new(seed: u64, sensors: u32) -> Self {
        let mut random = Random::new(seed, 1);
        let mut devices: Vec<Device> =
            (0_usize..).zip(0..sensors).map(|(i, _)| device(i, &mut random)).collect();
        // Neighbours should not report one after the other (Fisher-Yates).
        for i in (1..devices.len()).rev() {
            devices.swap(i, (random.unit() * (i + 1) as f64) as usize);
        }
        let weather = vec![Walk { value: 0.0, at: None }; LOCATIONS.len()];
        Self { random, devices, weather, turn: 0, first: None, provoked: None, damp_since: None }
    }

    /// Whose turn it is.
    fn device(&mut self) -> usize {
        if self.provoked == Some(Scenario::HotKey) && self.random.unit() < HOT {
            return 0;
        }
        let turn = self.turn;
        self.turn = (turn + 1) % self.devices.len();
        turn
    }

    /// What a device would measure, as it is provoked to.
    fn provoked(&mut self, number: usize, value: f64, at: Timestamp) -> f64 {
        let Some(device) = self.devices.get(number) else { return value };
        match self.provoked {
            Some(Scenario::Mold) if device.kind == DeviceType::Humidity && device.location == DAMP.0 => {
                let since = *self.damp_since.get_or_insert(at);
                let seconds = (at.millis() - since.millis()).max(0) as f64 / 1_000.0;
                (DAMP.1 + DAMP.2 * seconds).min(95.0)
            }
            Some(Scenario::SensorFault) if number == 0 => value + FAULT * behaviour(device.kind).limits.1,
            _ => value,
        }
    }
}

fn device(i: usize, random: &mut Random) -> Device {
    let (location, ordinal) = (i % LOCATIONS.len(), i / LOCATIONS.len());
    let kind = KINDS.get((ordinal + location) % KINDS.len()).copied().unwrap_or(DeviceType::Humidity);
    let (name, humidity, temperature) = LOCATIONS.get(location).copied().unwrap_or(("site", 50.0, 20.0));
    let behaviour = behaviour(kind);
    let mean = match kind {
        DeviceType::Humidity => humidity,
        DeviceType::Temperature => temperature,
        DeviceType::Vibration => 2.8,
        DeviceType::Pressure => 1_013.0,
    };
    Device {
        id: format_compact!("{name}-{}{:02}", behaviour.letter, ordinal + 1),
        kind,
        location,
        mean: mean + behaviour.drift * 0.7 * random.normal(),
        calibration: rounded(behaviour.calibration * random.between(-1.0, 1.0)),
        battery: random.between(35.0, 100.0),
        battery_per_ms: 100.0 / (random.between(BATTERY_DAYS.0, BATTERY_DAYS.1) * DAY_MS),
        drift: Walk { value: 0.0, at: None },
    }
}

fn location_name(index: usize) -> CompactString {
    LOCATIONS.get(index).map_or_else(CompactString::default, |(name, ..)| CompactString::const_new(name))
}

impl Generator for IotSensors {
    fn stream(&self) -> &'static str {
        topic::IOT_SENSORS
    }

    fn reference(&self) -> Vec<Reference> {
        let mut all: Vec<Reference> = self
            .devices
            .iter()
            .filter_map(|device| {
                let sensor = Sensor {
                    sensor_id: device.id.clone(),
                    location: location_name(device.location),
                    calibration: device.calibration,
                };
                let value = serde_json::to_vec(&sensor).ok()?;
                Some(Reference {
                    topic: topic::SENSORS,
                    record: Record { key: device.id.as_bytes().to_vec(), value },
                })
            })
            .collect();
        all.sort_by(|a, b| a.record.key.cmp(&b.record.key));
        all
    }

    fn provoke(&mut self, scenario: Option<Scenario>) {
        (self.provoked, self.damp_since) = (scenario, None);
    }

    fn next(&mut self, event_time: Timestamp, record: &mut Record) -> io::Result<()> {
        let first = *self.first.get_or_insert(event_time);
        let number = self.device();
        let Some(device) = self.devices.get_mut(number) else { return Ok(()) };
        let behaviour = behaviour(device.kind);
        let weather = self
            .weather
            .get_mut(device.location)
            .map_or(0.0, |w| w.advance(event_time, WEATHER_MS, &mut self.random));
        let drift = device.drift.advance(event_time, DRIFT_MS, &mut self.random);
        // Warmest, and driest, at 15 h UTC.
        let day = (TAU * (event_time.millis() as f64 / DAY_MS - 15.0 / 24.0)).cos();
        let value = device.mean + behaviour.day * day + behaviour.weather * weather + behaviour.drift * drift;
        let used = (event_time.millis() - first.millis()).max(0) as f64 * device.battery_per_ms;
        let mut reading = Reading {
            timestamp: event_time,
            sensor_id: device.id.clone(),
            device_type: device.kind,
            value: value.clamp(behaviour.limits.0, behaviour.limits.1),
            unit: CompactString::const_new(behaviour.unit),
            location: location_name(device.location),
            // An empty battery is replaced by a full one.
            battery_level: Some(rounded((device.battery - used).rem_euclid(100.0))),
        };
        reading.value = rounded(self.provoked(number, reading.value, event_time));
        record.put(&reading.sensor_id, &reading)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    const START: i64 = 1_717_200_000_000;

    fn events(seed: u64, n: i64, step_ms: i64) -> Vec<Record> {
        let mut generator = IotSensors::new(seed, 200);
        (0..n)
            .map(|i| {
                let mut record = Record::default();
                generator.next(Timestamp(START + i * step_ms), &mut record).unwrap();
                record
            })
            .collect()
    }

    fn reading(record: &Record) -> Reading {
        serde_json::from_slice(&record.value).unwrap()
    }

    #[test]
    fn the_same_seed_gives_the_same_events_and_another_gives_others() {
        assert_eq!(events(42, 5_000, 10), events(42, 5_000, 10));
        assert_ne!(events(42, 5_000, 10), events(43, 5_000, 10));
    }

    #[test]
    fn what_is_provoked_happens_where_it_should_and_ends() {
        let mut generator = IotSensors::new(42, 200);
        let mut at = START;
        let mut run = |generator: &mut IotSensors, scenario| -> Vec<Reading> {
            generator.provoke(scenario);
            let next = |_| {
                let mut record = Record::default();
                at += 10;
                generator.next(Timestamp(at), &mut record).unwrap();
                reading(&record)
            };
            (0..3_000).map(next).collect()
        };
        let damp: Vec<f64> = run(&mut generator, Some(Scenario::Mold))
            .into_iter()
            .filter(|r| r.location == "cellar" && r.device_type == DeviceType::Humidity)
            .map(|r| r.value)
            .collect();
        assert!(damp.is_sorted() && damp[0] >= 72.0 && damp[damp.len() - 1] > 85.0, "{damp:?}");
        let faulty: BTreeSet<CompactString> = run(&mut generator, Some(Scenario::SensorFault))
            .into_iter()
            .filter(|r| r.value > behaviour(r.device_type).limits.1)
            .map(|r| r.sensor_id)
            .collect();
        assert_eq!(faulty.len(), 1);
        let mut counts: BTreeMap<CompactString, u32> = BTreeMap::new();
        for reading in run(&mut generator, Some(Scenario::HotKey)) {
            *counts.entry(reading.sensor_id).or_default() += 1;
        }
        assert!(counts.values().any(|count| *count > 2_000));
        let after = run(&mut generator, None);
        assert!(after.iter().all(|r| r.value <= behaviour(r.device_type).limits.1));
    }

    #[test]
    fn an_event_is_json_as_specified_and_keyed_by_its_sensor() {
        let all = events(42, 1_000, 10);
        for record in &all {
            let reading = reading(record);
            assert_eq!(record.key, reading.sensor_id.as_bytes());
            assert!((0.0..=100.0).contains(&reading.battery_level.unwrap()));
        }
        let value: serde_json::Value = serde_json::from_slice(&all[0].value).unwrap();
        let names: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
        let mut expected =
            ["timestamp", "sensorId", "deviceType", "value", "unit", "location", "batteryLevel"];
        expected.sort_unstable();
        assert_eq!(names.into_iter().collect::<BTreeSet<_>>(), BTreeSet::from(expected));
    }

    #[test]
    fn half_of_the_sensors_measure_humidity_at_twenty_locations() {
        let first_round: Vec<Reading> = events(42, 200, 10).iter().map(reading).collect();
        assert_eq!(first_round.iter().filter(|r| r.device_type == DeviceType::Humidity).count(), 100);
        let count =
            |of: fn(&Reading) -> &CompactString| first_round.iter().map(of).collect::<BTreeSet<_>>().len();
        assert_eq!((count(|r| &r.sensor_id), count(|r| &r.location)), (200, 20));
    }

    #[test]
    fn a_realistic_minority_is_humid() {
        // A day, in which every sensor reports every 40 s.
        for seed in [1, 42, 99] {
            let values: Vec<f64> = events(seed, 432_000, 200)
                .iter()
                .map(reading)
                .filter(|r| r.device_type == DeviceType::Humidity)
                .map(|r| r.value)
                .collect();
            assert!(values.iter().all(|v| (30.0..=95.0).contains(v)));
            let above =
                |limit: f64| values.iter().filter(|v| **v > limit).count() as f64 / values.len() as f64;
            let shares = [above(60.0), above(70.0), above(80.0)];
            assert!((0.15..0.4).contains(&shares[0]), "{shares:?}");
            assert!((0.03..0.15).contains(&shares[1]), "{shares:?}");
            assert!((0.001..0.04).contains(&shares[2]), "{shares:?}");
        }
    }

    #[test]
    fn a_value_drifts_instead_of_jumping_and_neighbours_move_together() {
        let mut last: BTreeMap<CompactString, f64> = BTreeMap::new();
        // At 100 events/s a sensor reports every 2 s.
        for reading in events(42, 200_000, 10).iter().map(reading) {
            if reading.device_type != DeviceType::Humidity {
                continue;
            }
            if let Some(before) = last.insert(reading.sensor_id, reading.value) {
                assert!((before - reading.value).abs() < 3.5, "{before} to {}", reading.value);
            }
        }
        // Minutes of one location: the deviation of the mean of its sensors is far above that of independent ones.
        let mut sums: BTreeMap<(CompactString, i64), (f64, u32)> = BTreeMap::new();
        for reading in
            events(42, 432_000, 200).iter().map(reading).filter(|r| r.location == "cellar" && r.unit == "%")
        {
            let minute = sums.entry((reading.sensor_id, reading.timestamp.millis() / 600_000)).or_default();
            *minute = (minute.0 + reading.value, minute.1 + 1);
        }
        let ids: Vec<CompactString> =
            sums.keys().map(|k| k.0.clone()).collect::<BTreeSet<_>>().into_iter().collect();
        let series = |id: &CompactString| -> Vec<f64> {
            sums.iter().filter(|(k, _)| k.0 == *id).map(|(_, (sum, n))| sum / f64::from(*n)).collect()
        };
        assert!(correlation(&series(&ids[0]), &series(&ids[1])) > 0.5);
    }

    fn correlation(a: &[f64], b: &[f64]) -> f64 {
        let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len() as f64;
        let (ma, mb) = (mean(a), mean(b));
        let cov: f64 = a.iter().zip(b).map(|(x, y)| (x - ma) * (y - mb)).sum();
        let var = |x: &[f64], m: f64| x.iter().map(|v| (v - m).powi(2)).sum::<f64>();
        cov / (var(a, ma) * var(b, mb)).sqrt()
    }

    #[test]
    fn reference_data_names_every_sensor_once() {
        let reference = IotSensors::new(42, 200).reference();
        let ids: BTreeSet<CompactString> = reference
            .iter()
            .map(|r| serde_json::from_slice::<Sensor>(&r.record.value).unwrap().sensor_id)
            .collect();
        assert_eq!((reference.len(), ids.len()), (200, 200));
        assert!(reference.iter().all(|r| r.topic == "sensors"));
    }
}
