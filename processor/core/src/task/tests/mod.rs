//! What a task does with its sources, its jobs and its state: through the interface that its owner uses.

mod invariants;
mod order;
mod patterns;
mod restore;

use std::collections::BTreeMap;

use super::*;
use crate::effect::Effect;

/// State as its owner keeps it: the newest bytes of each key.
type State = BTreeMap<Vec<u8>, Vec<u8>>;

/// (time, mark)
type Event = (i64, Option<i64>);

/// Two streams, each with its own order, and no jobs.
const ORDERED: App<Event> = App {
    name: "ordered",
    sources: &[
        Source { topic: "a", kind: SourceKind::Stream(Order::bounded(3, Some(10))) },
        Source { topic: "b", kind: SourceKind::Stream(Order::Punctuated { idle_timeout: Some(15) }) },
    ],
    partitions: 1,
    parse: |record| {
        let event: Event =
            serde_json::from_slice(record.value.unwrap_or_default()).map_err(|e| e.to_string())?;
        Ok(Parsed { event, at: EventTime(event.0), mark: event.1.map(Watermark) })
    },
    jobs: Vec::new,
};

/// A started task of an app, with what was committed before.
fn task<E: 'static>(app: App<E>, state: &State) -> Box<dyn Task> {
    let mut task = app.task(0).unwrap();
    for (key, value) in state {
        assert!(task.load(key, Some(value)).unwrap());
    }
    task.start();
    task
}

/// Writes what has changed.
fn commit(task: &mut dyn Task, state: &mut State) {
    task.changes(&mut |key, value| {
        match value {
            Some(value) => state.insert(key.to_vec(), value.to_vec()),
            None => state.remove(key),
        };
    });
}

fn record(source: usize, offset: i64, value: &str) -> Input<'_> {
    Input::Record(Record { source, offset, key: None, value: Some(value.as_bytes()) })
}

/// What the owner is asked for.
fn told(effects: &Effects) -> Vec<String> {
    let told = effects.iter().map(|effect| match effect {
        Effect::Emit { topic, value, .. } => {
            format!("{topic} {}", String::from_utf8_lossy(effects.bytes(value)))
        }
        other => format!("{other:?}"),
    });
    told.collect()
}
