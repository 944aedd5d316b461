//! State of a million keys on disk, in a process that holds a part of it: it runs, checkpoints and recovers.
//!
//! A process of its own, so that the most memory that it has had resident says something.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

use std::time::{Duration, Instant};

use millrace_core::{Application, Effects, Input, Record, Task};
use millrace_processor::apps;
use millrace_processor::checkpoint::{Chain, Collector, Store, merged};
use millrace_processor::store::{Disk, TaskStore};

const KEYS: u32 = 1_000_000;
const COMMIT: u32 = 2_000;
const CHECKPOINT: u32 = 100_000;
const CACHED: usize = 10_000;
/// The limit, of which a worker with its Kafka client needs 60.
const MOST_MB: u64 = 256 - 60;

fn peak_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1_024
}

fn pay(task: &mut dyn Task, effects: &mut Effects, offset: u32, user: u32) {
    let value = format!(
        r#"{{"timestamp":{},"transactionId":"t","userId":"u-{user:06}","amount":2.5,"status":"completed","riskScore":0.5}}"#,
        1_700_000_000_000_i64 + i64::from(offset)
    );
    let record = Record { source: 0, offset: i64::from(offset), key: None, value: Some(value.as_bytes()) };
    effects.clear();
    task.step(Input::Record(record), effects).unwrap();
}

/// The state of a user after one more payment, as the result tells it.
fn total(task: &mut dyn Task, user: u32) -> serde_json::Value {
    let mut effects = Effects::default();
    pay(task, &mut effects, 3 * KEYS, user);
    let millrace_core::Effect::Emit { value, .. } = effects.iter().next().unwrap() else {
        panic!("no result")
    };
    serde_json::from_slice(effects.bytes(value)).unwrap()
}

fn attached(app: &dyn Application, store: &TaskStore) -> Box<dyn Task> {
    let mut task = app.task(0).unwrap();
    task.attach(store.cold(), CACHED);
    task.start();
    task
}

#[test]
fn a_million_keys_run_checkpoint_and_recover() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let checkpoints = Store::open(&url::Url::from_directory_path(dir.path().join("c")).unwrap()).unwrap();
    let name = "bench-totals-million".to_owned();
    let app = apps::chosen(std::slice::from_ref(&name), Some("cards")).unwrap()[0];
    let disk = Disk::open(&dir.path().join("d")).unwrap();
    let mut store = disk.task(&name, 0, "c").unwrap();
    let mut task = attached(app, &store);
    let mut collector = Collector::of_disk(Chain::new(checkpoints.clone(), &name, 0, Some(0), None));
    let (mut effects, mut blocked) = (Effects::default(), Vec::new());
    let began = Instant::now();
    // Every user once, then some of them again.
    for n in 0..KEYS + 2 * CHECKPOINT {
        pay(&mut *task, &mut effects, n, (n % KEYS) * 7 % KEYS);
        if (n + 1) % COMMIT == 0 {
            task.changes(&mut |key, value| {
                collector.put(key, value);
                store.put(key, value);
            });
            store.check().unwrap();
            store.write(Some(i64::from(n))).unwrap();
        }
        if (n + 1) % CHECKPOINT == 0 {
            let begun = Instant::now();
            let write = collector.begin(&mut *task, Some(store.whole()), &name, 0, i64::from(n)).unwrap();
            blocked.push(begun.elapsed());
            let told = runtime.block_on(write);
            assert_eq!((told.error, told.files), (None, 1), "so many changes are a base");
        }
    }
    blocked.sort_unstable();
    println!("{:?}, peak {} MB, blocked {:?}", began.elapsed(), peak_mb(), blocked.last());
    // To be held up by a checkpoint is to take notice of the files, not to read them.
    let all: Duration = blocked.iter().sum();
    assert!(all * 10 < began.elapsed(), "{blocked:?}");
    assert_eq!(task.entries(), KEYS as usize);
    assert!(peak_mb() < MOST_MB, "{} MB", peak_mb());

    // A few changes are a delta.
    pay(&mut *task, &mut effects, 2 * KEYS, 1);
    task.changes(&mut |key, value| {
        collector.put(key, value);
        store.put(key, value);
    });
    store.write(Some(2)).unwrap();
    let told = runtime.block_on(collector.begin(&mut *task, Some(store.whole()), &name, 0, 2).unwrap());
    assert_eq!((told.error, told.files), (None, 2));

    // The process starts again: from its own disk.
    let expected = [total(&mut *task, 1), total(&mut *task, 7), total(&mut *task, KEYS - 1)];
    drop((task, store, disk));
    let began = Instant::now();
    let disk = Disk::open(&dir.path().join("d")).unwrap();
    let store = disk.task(&name, 0, "c").unwrap();
    let mut task = attached(app, &store);
    println!("from its disk in {:?}, peak {} MB", began.elapsed(), peak_mb());
    assert_eq!([total(&mut *task, 1), total(&mut *task, 7), total(&mut *task, KEYS - 1)], expected);
    assert_eq!(expected[0]["count"], 3);
    drop((task, store, disk));

    // Another machine: from the checkpoint.
    let began = Instant::now();
    let disk = Disk::open(&dir.path().join("e")).unwrap();
    let mut store = disk.task(&name, 0, "c").unwrap();
    let found = runtime.block_on(checkpoints.newest(&name, 0, |_| Ok(()))).loaded.unwrap();
    let files: Vec<&[u8]> = found.files.iter().map(Vec::as_slice).collect();
    for entry in merged(&files) {
        let (key, value) = entry.unwrap();
        store.put(key, Some(value));
        if store.pending() >= 1_000 {
            store.write(None).unwrap();
        }
    }
    store.write(Some(2)).unwrap();
    drop(found);
    let mut task = attached(app, &store);
    println!("from the checkpoint in {:?}, peak {} MB", began.elapsed(), peak_mb());
    assert_eq!([total(&mut *task, 1), total(&mut *task, 7), total(&mut *task, KEYS - 1)], expected);
    assert!(peak_mb() < MOST_MB, "{} MB", peak_mb());
}
