//! The apps and their jobs. A job is one file; an app lists its jobs.

pub mod activity;
pub mod bank;
pub mod bench;
pub mod commerce;
pub mod fork;
#[cfg(test)]
mod fuzz;
mod parameters;
pub mod sensors;

use millrace_core::Application;
use millrace_core::stream::Origin;
use millrace_core::task::SourceKind;
use millrace_core::watermark::Order;
use millrace_wire::result::Evidence;
use serde::de::DeserializeOwned;

/// Every app that a worker runs unless told which.
pub const ALL: &[&dyn Application] = &[&activity::APP, &bank::APP, &commerce::APP, &sensors::APP];

/// The streams of these apps: a record may come 5 s after a later one; one that is silent for 10 s is not waited for.
const STREAM: SourceKind = SourceKind::Stream(Order::bounded(5_000, Some(10_000)));

/// The apps of these names, for the life of the process; [`ALL`] if there are none. Those of [`bench`] read
/// `bench_source`.
///
/// # Errors
/// There is no such app.
pub fn chosen(
    names: &[String],
    bench_source: Option<&str>,
) -> anyhow::Result<&'static [&'static dyn Application]> {
    if names.is_empty() {
        return Ok(ALL);
    }
    let chosen = names.iter().map(|name| {
        let known = ALL.iter().find(|app| app.name() == name).copied();
        known.map_or_else(|| bench::app(name, bench_source), Ok)
    });
    Ok(chosen.collect::<anyhow::Result<Vec<_>>>()?.leak())
}

/// Reads JSON. Whether it is UTF-8 is found out at once, not for each string in it.
fn json<T: DeserializeOwned>(value: &[u8]) -> serde_json::Result<T> {
    match std::str::from_utf8(value) {
        Ok(text) => serde_json::from_str(text),
        // It says where.
        Err(_) => serde_json::from_slice(value),
    }
}

/// A record that an alert rests on, by its origin.
fn evidence(origin: Option<Origin>) -> Option<Evidence> {
    origin.map(|o| Evidence { topic: o.topic.into(), partition: o.partition, offset: o.offset })
}

/// A time span for people: `1 minute`, `90 seconds`.
fn span(seconds: i64) -> String {
    let (n, unit) = match seconds {
        s if s % 3_600 == 0 => (s / 3_600, "hour"),
        s if s % 60 == 0 => (s / 60, "minute"),
        s => (s, "second"),
    };
    format!("{n} {unit}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use millrace_core::{Application, Effect, Effects, Input, Record};

    use super::*;
    use crate::store::Disk;

    /// What docs/your-first-job.md shows is what is built and run: the file whole, and the lines that register it.
    #[test]
    fn the_tutorial_shows_what_is_here() {
        let shown = include_str!("../../../docs/your-first-job.md");
        let mut blocks = shown.split("```rust\n").skip(1).filter_map(|rest| rest.split("```").next());
        assert_eq!(blocks.next(), Some(include_str!("sensors/battery_low.rs")));
        let app = include_str!("sensors/mod.rs");
        assert!(blocks.clone().count() == 2 && blocks.all(|line| app.contains(line)));
        for command in ["--lib battery_low", "params set battery-low threshold=60", "tail alerts -f"] {
            assert!(shown.contains(command), "{command}");
        }
    }

    #[test]
    fn every_job_is_in_the_documents() {
        let shown = include_str!("../../../docs/jobs.md");
        for job in ALL.iter().flat_map(|app| app.descriptors()) {
            let (name, outputs) = (job.name, job.outputs);
            assert!(
                shown.lines().any(|line| line.starts_with(&format!("| `{name}` |"))),
                "{name} is not in docs/jobs.md"
            );
            assert!(!outputs.is_empty(), "{name}");
        }
    }

    /// What becomes of a task at every 13th commit.
    #[derive(Clone, Copy, PartialEq)]
    enum Cut {
        Not,
        /// It is made again from its changelog.
        InMemory,
        /// It is made again from its store; meanwhile it has two entries of each table in memory.
        OnDisk,
    }

    /// A task that is cut at any commit and restored, from its changelog or on disk, gives what an uncut one gives. Runs an
    /// app on 400 records, (source, value), with a change of parameters, (job, values), on the way. Returns the topics that
    /// it wrote.
    pub(super) fn continues_exactly(
        app: &dyn Application,
        (job, values): (&str, &serde_json::Value),
        record: impl Fn(i64) -> (usize, String),
    ) -> BTreeSet<&'static str> {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::open(dir.path()).unwrap();
        let run = |cut: Cut| {
            let (mut task, mut log) = (app.task(3).unwrap(), BTreeMap::new());
            let mut store = disk.task(app.name(), 3, "a cluster").unwrap();
            if cut == Cut::OnDisk {
                task.attach(store.cold(), 2);
            }
            task.start();
            let (mut out, mut topics) = (Vec::new(), BTreeSet::new());
            for i in 0..400_i64 {
                let mut effects = Effects::default();
                if i == 150 {
                    let input = Input::Parameters { job, version: 7, values: values.as_object().unwrap() };
                    task.step(input, &mut effects).unwrap();
                }
                let (source, value) = record(i);
                let record = Record { source, offset: i, key: None, value: Some(value.as_bytes()) };
                task.step(Input::Record(record), &mut effects).unwrap();
                task.flush(&mut effects);
                for effect in effects.iter() {
                    out.push(match effect {
                        Effect::Emit { topic, key, value } => {
                            topics.insert(*topic);
                            format!("{topic} {:?} {:?}", effects.bytes(key), effects.bytes(value))
                        }
                        other => format!("{other:?}"),
                    });
                }
                task.changes(&mut |key, value| {
                    log.insert(key.to_vec(), value.map(<[u8]>::to_vec));
                    store.put(key, value);
                });
                store.check().unwrap();
                store.write(Some(i)).unwrap();
                if cut == Cut::Not || i % 13 != 0 {
                    continue;
                }
                task = app.task(3).unwrap();
                if cut == Cut::OnDisk {
                    store = disk.task(app.name(), 3, "a cluster").unwrap();
                    task.attach(store.cold(), 2);
                } else {
                    for (key, value) in &log {
                        assert!(task.load(key, value.as_deref()).unwrap());
                    }
                }
                task.start();
            }
            let stored =
                store.whole().entries().map(Result::unwrap).map(|(k, v)| (k.to_vec(), Some(v.to_vec())));
            log.retain(|_, value| value.is_some());
            assert_eq!(stored.collect::<BTreeMap<_, _>>(), log);
            let mut whole = BTreeMap::new();
            task.snapshot(&mut |key, value| drop(whole.insert(key.to_vec(), value.map(<[u8]>::to_vec))));
            assert!(log.iter().all(|(key, value)| whole.get(key) == Some(value)), "{}", app.name());
            store.clear().unwrap();
            let stats: Vec<_> =
                task.jobs().into_iter().map(|job| (job.stats, job.pending, job.params_version)).collect();
            ((out, stats, task.offsets(), task.watermark()), topics)
        };
        let (whole, topics) = run(Cut::Not);
        for cut in [Cut::InMemory, Cut::OnDisk] {
            assert_eq!(whole, run(cut).0);
        }
        for (stats, pending, _) in whole.1 {
            assert!(stats.balances(pending) && stats.violations == 0, "{stats:?} {pending}");
        }
        topics
    }

    #[test]
    fn what_jobs_write_is_in_the_catalogue_as_results() {
        let results = millrace_wire::topic::results();
        for app in ALL {
            for job in app.descriptors() {
                assert!(!job.outputs.is_empty(), "{}", job.name);
                for topic in job.outputs {
                    assert!(results.iter().any(|result| result == topic), "{}: {topic}", job.name);
                }
            }
        }
    }

    #[test]
    fn spans_read_well() {
        for (seconds, text) in
            [(1, "1 second"), (60, "1 minute"), (90, "90 seconds"), (300, "5 minutes"), (3_600, "1 hour")]
        {
            assert_eq!(span(seconds), text);
        }
    }
}
