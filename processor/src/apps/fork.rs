//! An app under another name: what `millrace savepoint fork` gives a savepoint to.
//!
//! Everything within a task has the names of the original, its state too; only where a task meets Kafka they are
//! translated. Names are `&'static` here, as in every app, so they are leaked: once per name and process.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, ensure};
use millrace_core::cep::LivePattern;
use millrace_core::job::Descriptor;
use millrace_core::state::{Change, Cold, StateError};
use millrace_core::task::{Division, JobStatus, Refused, Share, SourceKind, Totals};
use millrace_core::watermark::InvalidIdleTimeout;
use millrace_core::{Application, Effects, Input, Source, Task, Watermark};
use millrace_wire::fork;

/// A fork of an app.
pub struct Fork {
    name: &'static str,
    of: &'static dyn Application,
    sources: &'static [Source],
    /// Topics of the original that were asked for, and what is in their place here.
    outputs: Mutex<BTreeMap<&'static str, &'static str>>,
}

impl Fork {
    /// The fork of this name, as in `commerce.trial`, of one of the apps in `all`.
    ///
    /// # Errors
    /// The name is none of a fork, or there is no such app.
    pub fn new(name: &str, all: &[&'static dyn Application]) -> anyhow::Result<&'static Self> {
        let (of, own) =
            name.split_once('.').with_context(|| format!("{name} is no fork: APP.NAME is one"))?;
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        ensure!(
            !own.is_empty() && own.len() <= 32 && own.chars().all(fits),
            "{own:?} is no name for a fork: take up to 32 small letters, digits and `-`"
        );
        let of = *all.iter().find(|app| app.name() == of).with_context(|| format!("there is no app {of}"))?;
        let of_fork = |source: &Source| match source.kind {
            SourceKind::Repartition => Source { topic: leak(fork::topic(name, source.topic)), ..*source },
            SourceKind::Stream(_) | SourceKind::Reference => *source,
        };
        let sources: Vec<Source> = of.sources().iter().map(of_fork).collect();
        let name = leak(name.to_owned());
        Ok(Box::leak(Box::new(Self { name, of, sources: sources.leak(), outputs: Mutex::default() })))
    }

    /// What it is a fork of.
    pub fn of(&self) -> &'static dyn Application {
        self.of
    }
}

fn leak(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

impl Application for Fork {
    fn name(&self) -> &'static str {
        self.name
    }

    fn sources(&self) -> &'static [Source] {
        self.sources
    }

    fn task(&self, partition: i32) -> Result<Box<dyn Task>, InvalidIdleTimeout> {
        let task = self.of.task(partition)?;
        Ok(Box::new(ForkTask { task, theirs: self.of.sources(), ours: self.sources }))
    }

    fn descriptors(&self) -> Vec<Descriptor> {
        let outputs = |topics: &[&'static str]| -> &'static [&'static str] {
            topics.iter().map(|topic| self.output(topic)).collect::<Vec<_>>().leak()
        };
        let ours = |job: Descriptor| Descriptor { outputs: outputs(job.outputs), ..job };
        self.of.descriptors().into_iter().map(ours).collect()
    }

    fn output(&self, topic: &'static str) -> &'static str {
        let mut known = self.outputs.lock().unwrap_or_else(PoisonError::into_inner);
        known.entry(topic).or_insert_with(|| leak(fork::topic(self.name, topic)))
    }
}

/// A task that calls its sources by the names of the original.
struct ForkTask {
    task: Box<dyn Task>,
    theirs: &'static [Source],
    ours: &'static [Source],
}

/// The topic in `to` at the place that `topic` has in `from`.
fn translated(topic: &str, from: &[Source], to: &'static [Source]) -> Option<&'static str> {
    from.iter().zip(to).find_map(|(from, to)| (from.topic == topic).then_some(to.topic))
}

impl Task for ForkTask {
    fn step(&mut self, input: Input<'_>, effects: &mut Effects) -> Result<(), Refused> {
        self.task.step(input, effects)
    }

    fn flush(&mut self, effects: &mut Effects) {
        self.task.flush(effects);
    }

    fn changes(&mut self, change: &mut Change<'_>) {
        self.task.changes(change);
    }

    fn snapshot(&mut self, entry: &mut Change<'_>) {
        self.task.snapshot(entry);
    }

    fn load(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<bool, StateError> {
        self.task.load(key, value)
    }

    fn owner(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        self.task.owner(key)
    }

    fn division(&self) -> Option<Division> {
        self.task.division()
    }

    fn divided(&mut self, share: Share) {
        self.task.divided(share);
    }

    fn attach(&mut self, cold: Rc<dyn Cold>, cached: usize) {
        self.task.attach(cold, cached);
    }

    fn reposition(&mut self, topic: &str, next_offset: i64) {
        if let Some(topic) = translated(topic, self.ours, self.theirs) {
            self.task.reposition(topic, next_offset);
        }
    }

    fn start(&mut self) {
        self.task.start();
    }

    fn resume(&mut self, unread: &[&str]) {
        // Streams are the original's.
        self.task.resume(unread);
    }

    fn offsets(&self) -> Vec<(&'static str, i64)> {
        let ours = |(topic, next)| Some((translated(topic, self.theirs, self.ours)?, next));
        self.task.offsets().into_iter().filter_map(ours).collect()
    }

    fn watermark(&self) -> Watermark {
        self.task.watermark()
    }

    fn is_idle(&self) -> bool {
        self.task.is_idle()
    }

    fn totals(&self) -> Totals {
        self.task.totals()
    }

    fn jobs(&self) -> Vec<JobStatus> {
        self.task.jobs()
    }

    fn patterns(&self, visit: &mut dyn FnMut(&'static str, LivePattern<'_>)) {
        self.task.patterns(visit);
    }

    fn entries(&mut self) -> usize {
        self.task.entries()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apps::{ALL, commerce};

    #[test]
    fn only_what_others_read_keeps_its_name() {
        let fork = Fork::new("commerce.trial", ALL).unwrap();
        let (ours, theirs) = (fork.sources(), commerce::APP.sources);
        assert_eq!(ours.len(), theirs.len());
        for (ours, theirs) in ours.iter().zip(theirs) {
            assert_eq!(ours.topic == theirs.topic, theirs.kind != SourceKind::Repartition, "{}", ours.topic);
        }
        for (ours, theirs) in fork.descriptors().iter().zip(commerce::APP.descriptors()) {
            assert_eq!((ours.name, ours.inputs), (theirs.name, theirs.inputs));
            for (ours, theirs) in ours.outputs.iter().zip(theirs.outputs) {
                assert_eq!(*ours, format!("commerce.trial.{theirs}"));
            }
        }
    }

    #[test]
    fn a_task_is_told_offsets_by_its_own_names() {
        let fork = Fork::new("commerce.trial", ALL).unwrap();
        let mut task = fork.task(0).unwrap();
        for (source, at) in fork.sources().iter().zip(7..) {
            task.reposition(source.topic, at);
        }
        let expected: Vec<_> = fork.sources().iter().map(|source| source.topic).zip(7..).collect();
        assert_eq!(task.offsets(), expected);
    }

    #[test]
    fn what_can_be_no_fork_is_refused() {
        for bad in ["commerce", "commerce.", "commerce.a.b", "commerce.A", "shop.trial"] {
            assert!(Fork::new(bad, ALL).is_err(), "{bad}");
        }
    }
}
