//! `system-metrics`: how this machine is, and each [process of the platform](crate::processes), from `/proc`. Nothing here is
//! invented: a reading is what has happened since the one before of its host, which is the machine or, for a process,
//! `<machine>/<component>`. They take turns.
//!
//! A host is measured once in 100 ms at most. What is asked for beyond that is its newest reading again, without errors, as
//! none have come since: a reading costs some files of `/proc`, saying it again costs the record alone.
//!
//! | field | from |
//! |---|---|
//! | `cpu` | `/proc/stat`: time that processors did not idle or wait for disks, percent of all |
//! | `memory` | `/proc/meminfo`: what is not available, percent |
//! | `diskIo` | `/proc/vmstat`: read from and written to disks, bytes/s |
//! | `netIn`, `netOut` | `/proc/net/dev`: all interfaces, also the one of the machine to itself, bytes/s |
//! | `errors` | `/proc/net/dev`, `/proc/net/snmp`: packets that were broken, dropped or sent again |
//!
//! Of a process there are `cpu` (percent of all processors), `memory` (what is resident, percent) and `diskIo` (`/proc/<pid>/io`, if that may be
//! read). Linux counts no traffic and no errors by process: a process has no `netIn`, `netOut` and `errors`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::process::parent_id;
use std::time::{Duration, Instant};

use compact_str::{CompactString, format_compact};
use millrace_wire::event::SystemMetrics;
use millrace_wire::{Timestamp, topic};
use serde::Serialize;

use crate::generator::rounded;
use crate::processes::{Processes, Usage};
use crate::{Generator, Record, Reference};

/// A host is measured once in this time at most.
const FRESH: Duration = Duration::from_millis(100);

/// Counters since the machine started, and what is in use.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Counters {
    /// Of all processors, ticks.
    busy: f64,
    ticks: f64,
    /// Percent.
    memory: f64,
    disk_bytes: f64,
    in_bytes: f64,
    out_bytes: f64,
    errors: f64,
}

/// The stream.
pub struct SystemReadings {
    machine: Machine,
    processes: Processes,
    /// Readings of components, by name.
    components: BTreeMap<String, Component>,
    /// Whose turn it is next: the component that follows this one; the machine's after the last.
    turn: Option<String>,
}

/// Readings of the machine.
struct Machine {
    host: CompactString,
    before: (Instant, Counters),
    newest: Option<SystemMetrics>,
    /// Percent; kept while no tick has passed.
    cpu: f64,
}

/// Readings of a component.
struct Component {
    /// When, the machine's ticks, and what it had used by then.
    before: (Instant, f64, Usage),
    newest: Option<ProcessMetrics>,
}

/// A reading of a process: what of [`SystemMetrics`] is measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct ProcessMetrics {
    timestamp: Timestamp,
    host: CompactString,
    cpu: f64,
    memory: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    disk_io: Option<f64>,
}

impl SystemReadings {
    /// Of this machine.
    ///
    /// # Errors
    /// `/proc` can't be read: this is not Linux.
    pub fn new() -> io::Result<Self> {
        let host = fs::read_to_string("/proc/sys/kernel/hostname")?;
        let before = (Instant::now(), Counters::now()?);
        let machine = Machine { host: host.trim().into(), before, newest: None, cpu: 0.0 };
        Ok(Self { machine, processes: Processes::of(parent_id()), components: BTreeMap::new(), turn: None })
    }

    /// The component whose turn it is; `None`: the machine's.
    fn next_component(&mut self) -> Option<String> {
        let next = self.processes.after(self.turn.as_deref()).map(str::to_owned);
        self.turn.clone_from(&next);
        next
    }

    /// A reading of a component; none if there is nothing yet to compare with, or it has ended.
    fn component(&mut self, name: &str, timestamp: Timestamp) -> io::Result<Option<ProcessMetrics>> {
        if let Some(Component { before: (at, ..), newest }) = self.components.get(name)
            && at.elapsed() < FRESH
        {
            return Ok(newest.clone().map(|newest| ProcessMetrics { timestamp, ..newest }));
        }
        let Some(usage) = self.processes.usage(name) else {
            self.components.remove(name);
            return Ok(None);
        };
        let stat = fs::read_to_string("/proc/stat")?;
        let ticks = Ticks::parse(&stat).all;
        let total_kb = named(&fs::read_to_string("/proc/meminfo")?, "MemTotal:");
        let known = self.components.remove(name);
        let newest = known.and_then(|Component { before: (at, ticks_before, before), newest }| {
            let host = format_compact!("{}/{name}", self.machine.host);
            let cpu =
                share(usage.ticks - before.ticks, ticks - ticks_before).or_else(|| newest.map(|n| n.cpu))?;
            let memory = share(usage.resident_kb, total_kb)?;
            let disk_io = usage.disk_bytes.zip(before.disk_bytes);
            let disk_io = disk_io.map(|(now, before)| rate(now, before, at.elapsed()));
            Some(ProcessMetrics { timestamp, host, cpu, memory, disk_io })
        });
        let before = (Instant::now(), ticks, usage);
        self.components.insert(name.to_owned(), Component { before, newest: newest.clone() });
        Ok(newest)
    }
}

/// A part of something, percent; `None` of nothing.
fn share(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| rounded((100.0 * part / whole).clamp(0.0, 100.0)))
}

/// How fast a counter has risen, per second.
fn rate(now: f64, before: f64, time: Duration) -> f64 {
    ((now - before).max(0.0) / time.as_secs_f64().max(1e-3)).round()
}

impl Machine {
    /// The newest reading, which is made now if it is not fresh.
    fn newest(&mut self, timestamp: Timestamp) -> io::Result<SystemMetrics> {
        if let Some(newest) = self.newest.as_ref().filter(|_| self.before.0.elapsed() < FRESH) {
            return Ok(SystemMetrics { timestamp, errors: 0.0, ..newest.clone() });
        }
        let now = (Instant::now(), Counters::now()?);
        let reading = self.reading(timestamp, now);
        self.newest = Some(reading.clone());
        Ok(reading)
    }

    /// What has happened since the last call.
    fn reading(&mut self, timestamp: Timestamp, (at, now): (Instant, Counters)) -> SystemMetrics {
        let (before_at, before) = std::mem::replace(&mut self.before, (at, now));
        let time = at.duration_since(before_at);
        if now.ticks > before.ticks {
            self.cpu = 100.0 * (now.busy - before.busy) / (now.ticks - before.ticks);
        }
        SystemMetrics {
            timestamp,
            host: self.host.clone(),
            cpu: rounded(self.cpu.clamp(0.0, 100.0)),
            memory: rounded(now.memory),
            disk_io: rate(now.disk_bytes, before.disk_bytes, time),
            net_in: rate(now.in_bytes, before.in_bytes, time),
            net_out: rate(now.out_bytes, before.out_bytes, time),
            errors: (now.errors - before.errors).max(0.0),
        }
    }
}

/// Time of all processors since the machine started, ticks.
struct Ticks {
    all: f64,
    /// Not idle, and not waiting for disks.
    busy: f64,
}

impl Ticks {
    fn parse(stat: &str) -> Self {
        let cpu = stat.lines().next().map(numbers).unwrap_or_default();
        // user, nice, system, idle, iowait, irq, softirq, steal; guests are counted in user.
        let all = cpu.get(..8).unwrap_or(&cpu).iter().sum();
        Self { all, busy: all - number(&cpu, 3) - number(&cpu, 4) }
    }
}

impl Counters {
    fn now() -> io::Result<Self> {
        let read = |file: &str| fs::read_to_string(format!("/proc/{file}"));
        let (stat, memory, disk) = (read("stat")?, read("meminfo")?, read("vmstat")?);
        Ok(Self::parse(&stat, &memory, &disk, &read("net/dev")?, &read("net/snmp")?))
    }

    /// What a file does not have counts as 0.
    fn parse(stat: &str, memory: &str, disk: &str, interfaces: &str, protocols: &str) -> Self {
        let Ticks { all: ticks, busy } = Ticks::parse(stat);
        let (total, available) = (named(memory, "MemTotal:"), named(memory, "MemAvailable:"));
        let mut counters = Self {
            busy,
            ticks,
            memory: if total > 0.0 { 100.0 * (total - available) / total } else { 0.0 },
            disk_bytes: 1_024.0 * (named(disk, "pgpgin") + named(disk, "pgpgout")),
            errors: protocol(protocols, "Tcp:", "RetransSegs") + protocol(protocols, "Tcp:", "InErrs"),
            ..Self::default()
        };
        for (_, interface) in interfaces.lines().filter_map(|line| line.split_once(':')) {
            // Received: bytes, packets, errs, drop, .. (8 columns); sent: the same.
            let columns = numbers(interface);
            counters.in_bytes += number(&columns, 0);
            counters.out_bytes += number(&columns, 8);
            counters.errors += [2, 3, 10, 11].map(|i| number(&columns, i)).iter().sum::<f64>();
        }
        counters
    }
}

/// The numbers of a line.
fn numbers(line: &str) -> Vec<f64> {
    line.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

fn number(numbers: &[f64], index: usize) -> f64 {
    numbers.get(index).copied().unwrap_or(0.0)
}

/// The number behind a name.
fn named(text: &str, name: &str) -> f64 {
    let line = text.lines().find(|line| line.split_whitespace().next() == Some(name));
    line.map_or(0.0, |line| number(&numbers(line), 0))
}

/// A counter of a protocol: one line has the names, the next one the numbers.
fn protocol(text: &str, protocol: &str, name: &str) -> f64 {
    let mut lines = text.lines().filter(|line| line.starts_with(protocol));
    let (names, values) = (lines.next().unwrap_or(""), lines.next().unwrap_or(""));
    let found = names.split_whitespace().zip(values.split_whitespace()).find(|(n, _)| *n == name);
    found.and_then(|(_, value)| value.parse().ok()).unwrap_or(0.0)
}

impl Generator for SystemReadings {
    fn stream(&self) -> &'static str {
        topic::SYSTEM_METRICS
    }

    fn reference(&self) -> Vec<Reference> {
        Vec::new()
    }

    fn next(&mut self, event_time: Timestamp, record: &mut Record) -> io::Result<()> {
        while let Some(name) = self.next_component() {
            if let Some(reading) = self.component(&name, event_time)? {
                return record.put(&reading.host, &reading);
            }
        }
        let reading = self.machine.newest(event_time)?;
        record.put(&reading.host, &reading)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::processes::tests::Family;

    const STAT: &str = "cpu  100 20 30 800 50 5 5 10 7 0\ncpu0 1 2 3 4 5 6 7 8 9 0\n";
    const MEMORY: &str = "MemTotal:  1000 kB\nMemFree:  100 kB\nMemAvailable:  250 kB\n";
    const DISK: &str = "nr_free_pages 7\npgpgin 10\npgpgout 30\npgpgoutclean 99\n";
    const INTERFACES: &str = "Inter-|   Receive  |  Transmit\n face |bytes packets errs\n\
        lo: 1000 1 0 0 0 0 0 0 1000 1 0 0 0 0 0 0\n  eth0:500 9 1 2 0 0 0 0 300 9 3 4 0 0 0 0\n";
    const PROTOCOLS: &str = "Ip: Forwarding InErrs\nIp: 1 99\nTcp: InSegs RetransSegs InErrs\nTcp: 50 6 7\n";

    #[test]
    fn counters_are_those_of_proc() {
        let counters = Counters::parse(STAT, MEMORY, DISK, INTERFACES, PROTOCOLS);
        let expected = Counters {
            busy: 170.0,
            ticks: 1_020.0,
            memory: 75.0,
            disk_bytes: 40_960.0,
            in_bytes: 1_500.0,
            out_bytes: 1_300.0,
            errors: 23.0,
        };
        assert_eq!(counters, expected);
        assert_eq!(Counters::parse("", "", "", "", ""), Counters::default());
    }

    #[test]
    fn a_reading_is_what_has_happened_since_the_one_before() {
        let start = Instant::now();
        let before =
            Counters { busy: 100.0, ticks: 1_000.0, errors: 5.0, in_bytes: 10.0, ..Counters::default() };
        let mut readings = Machine { host: "h".into(), before: (start, before), newest: None, cpu: 0.0 };
        let now =
            Counters { busy: 150.0, ticks: 1_200.0, errors: 7.0, in_bytes: 4_010.0, memory: 50.0, ..before };
        let reading = readings.reading(Timestamp(5), (start + Duration::from_secs(2), now));
        assert_eq!((reading.cpu, reading.memory, reading.net_in), (25.0, 50.0, 2_000.0));
        assert_eq!((reading.errors, reading.net_out, reading.timestamp), (2.0, 0.0, Timestamp(5)));
        let at_once = readings.reading(Timestamp(6), (start + Duration::from_secs(2), now));
        assert_eq!((at_once.cpu, at_once.errors, at_once.net_in), (25.0, 0.0, 0.0), "no tick has passed");
    }

    #[test]
    fn this_machine_can_be_read() {
        let mut readings = SystemReadings::new().unwrap();
        let mut record = Record::default();
        readings.next(Timestamp(1_717_200_000_000), &mut record).unwrap();
        let reading: SystemMetrics = serde_json::from_slice(&record.value).unwrap();
        assert_eq!(
            (record.key, reading.timestamp),
            (reading.host.as_bytes().to_vec(), Timestamp(1_717_200_000_000))
        );
        assert!(
            (0.0..=100.0).contains(&reading.cpu) && reading.memory > 0.0 && reading.memory < 100.0,
            "{reading:?}"
        );
    }

    #[test]
    fn the_machine_and_its_components_take_turns_and_are_measured_ten_times_a_second_at_most() {
        const LONG: Duration = Duration::from_secs(60);
        let family = Family::of("MILLRACE_COMPONENT=sleeper sleep 60 & wait");
        let mut readings = SystemReadings::new().unwrap();
        let from = Instant::now();
        readings.processes = Processes::of(family.parent());
        while readings.processes.after(None).is_none() {
            assert!(from.elapsed() < LONG, "no child");
            readings.processes = Processes::of(family.parent());
        }
        let mut record = Record::default();
        let mut next = |readings: &mut SystemReadings| -> SystemMetrics {
            readings.next(Timestamp(5), &mut record).unwrap();
            let reading: SystemMetrics = serde_json::from_slice(&record.value).unwrap();
            assert_eq!(record.key, reading.host.as_bytes());
            reading
        };
        let machine = readings.machine.host.clone();
        let sleeper = format!("{machine}/sleeper");
        assert_eq!(next(&mut readings).host, machine, "there is nothing yet to compare the other with");
        let from = Instant::now();
        let first = loop {
            let reading = next(&mut readings);
            if reading.host == sleeper {
                break reading;
            }
            assert!(from.elapsed() < LONG, "no reading of {sleeper}");
        };
        let said = serde_json::to_value(&readings.components["sleeper"].newest).unwrap();
        assert!(said["diskIo"].as_f64() >= Some(0.0) && said.get("netIn").is_none(), "{said}");
        assert!(first.cpu < 50.0 && first.memory > 0.0 && first.memory < 50.0, "{first:?}");
        // Fresh: said again by turns, and not counted again.
        readings.machine.before.0 += LONG;
        readings.components.get_mut("sleeper").unwrap().before.0 += LONG;
        let again = [next(&mut readings), next(&mut readings), next(&mut readings)];
        assert_eq!((again[0].host.as_str(), &again[1], &again[2]), (machine.as_str(), &first, &again[0]));
        assert_eq!(again[0].errors, 0.0);
        let from = Instant::now();
        (0..100_000).for_each(|_| drop(next(&mut readings)));
        assert!(from.elapsed() < LONG, "{:?}", from.elapsed());
        drop(family);
        readings.components.get_mut("sleeper").unwrap().before.0 -= 2 * LONG;
        let from = Instant::now();
        while [next(&mut readings).host, next(&mut readings).host] != [machine.as_str(); 2] {
            assert!(from.elapsed() < LONG, "it has ended");
        }
    }
}
