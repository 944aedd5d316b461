use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use millrace_core::task::{Division, Share, SourceKind, divide};
use millrace_core::{Application, Source, Task};
use millrace_service::clock;
use millrace_wire::ledger::{self, Undone};
use millrace_wire::partition;
use millrace_wire::{fork, topic};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::BaseRecord;
use rdkafka::{Offset, TopicPartitionList};

use super::catalogue::{self, HandedOver, Savepoint, State};
use super::{CALL, CLIENT, Context, chosen, say, state_at, task_with};
use crate::checkpoint::{Changes, Damaged, Encoded, Entry, Manifest, merged};
use crate::runtime::changelog::{Changelog, Clients, Logged};
use crate::runtime::tasks::entry;
use crate::runtime::transaction::Transactions;
use crate::runtime::{Generation, SessionError};

/// How long a restoring transaction may be open.
pub(super) const TRANSACTION: Duration = Duration::from_secs(300);
/// A group forgets workers that have stopped after 6 s (`session.timeout.ms`).
const LEAVING: Duration = Duration::from_secs(25);
/// Who restores, in the ledger and as a client.
const COMPONENT: &str = "savepoint";

/// Puts apps back to a savepoint.
///
/// # Errors
/// It is not there or damaged; workers run; Kafka does not answer. Then nothing has changed for the app that it tells
/// of, and the ones after it.
pub fn restore(
    context: &Context,
    name: &str,
    apps: &[String],
    all: &'static [&'static dyn Application],
) -> anyhow::Result<()> {
    let savepoint = open(context, name)?;
    let of = |app: &str| savepoint.tasks.iter().any(|task| task.app == app);
    let chosen: Vec<_> = chosen(all, apps)?.into_iter().filter(|app| of(app.name())).collect();
    if let Some(app) = apps.iter().find(|app| !of(app)) {
        bail!("the savepoint {name} has no app {app}");
    }
    // Everything is read and understood before anything is changed.
    let mut wanted = Vec::new();
    for &app in &chosen {
        wanted.push((app, read(context, &savepoint, app, app)?));
    }
    let clients = Rc::new(Clients::new(&context.kafka, CLIENT)?);
    for (app, tasks) in &wanted {
        as_many(context, clients.clone(), *app, tasks)?;
    }
    for (app, tasks) in wanted {
        put_back(context, app, tasks).with_context(|| format!("{} was not restored", app.name()))?;
    }
    Ok(())
}

/// Checks that an app has as many partitions as a savepoint of it has tasks.
pub(super) fn as_many(
    context: &Context,
    clients: Rc<Clients>,
    app: &'static dyn Application,
    tasks: &[Saved],
) -> anyhow::Result<()> {
    let log = Changelog::new(clients, app.name(), &context.shutdown);
    let partitions = log.partitions(app.sources())?.map_err(anyhow::Error::msg)?;
    ensure!(
        i32::try_from(tasks.len()) == Ok(partitions),
        "the savepoint has {} tasks of {}, which has {partitions} partitions since: it is from before a `millrace rescale` and \
         can't be used any more",
        tasks.len(),
        app.name()
    );
    Ok(())
}

/// The savepoint of this name.
pub(super) fn open(context: &Context, name: &str) -> anyhow::Result<Savepoint> {
    match context.runtime.block_on(catalogue::open(&context.store, name))? {
        Some(State::Complete(savepoint)) => Ok(savepoint),
        Some(State::Unusable(reason)) => bail!("the savepoint {name} can't be restored: {reason}"),
        None => bail!("there is no savepoint {name}: `millrace savepoint list` shows them"),
    }
}

/// A task of a savepoint, as the app has it that it is for.
pub(super) struct Saved {
    manifest: Manifest,
    state: Vec<u8>,
    task: Box<dyn Task>,
    under_way: Vec<UnderWay>,
}

impl Saved {
    /// The same state for more tasks: these go on with what their keys have. Nothing may be under way between the tasks.
    ///
    /// # Errors
    /// The state can't be read.
    pub(super) fn divided(
        app: &'static dyn Application,
        tasks: &[Self],
        division: Division,
    ) -> anyhow::Result<Vec<Self>> {
        let part = |share: Share| {
            let of = tasks.iter().find(|saved| saved.manifest.partition == share.of());
            let of = of.with_context(|| format!("there is no task {}/{}", app.name(), share.of()))?;
            ensure!(
                of.task.division() == Some(division),
                "the state of {}/{} is not to be divided any more",
                app.name(),
                share.of()
            );
            let entries = merged(&[&of.state]).collect::<Result<Vec<_>, _>>()?;
            let mut task = divide(app, share, partition, entries.into_iter())?;
            let mut state = Changes::default();
            task.snapshot(&mut |key, value| state.put(key, value));
            let manifest = Manifest {
                partition: share.partition,
                offsets: if share.is_new() { Vec::new() } else { of.manifest.offsets.clone() },
                ..of.manifest.clone()
            };
            anyhow::Ok(Self { manifest, state: Encoded::delta(&state).bytes, task, under_way: Vec::new() })
        };
        division.shares().map(part).collect()
    }
}

/// What was under way to a task at the moment of the savepoint.
struct UnderWay {
    /// Where it goes.
    topic: &'static str,
    /// Where it is: the same, but for a fork.
    is_in: &'static str,
    /// From where the task had read to where it was written.
    offsets: (i64, i64),
}

/// What a savepoint has of the app `of`, for `app`: that one, or a fork of it.
pub(super) fn read(
    context: &Context,
    savepoint: &Savepoint,
    of: &'static dyn Application,
    app: &'static dyn Application,
) -> anyhow::Result<Vec<Saved>> {
    let folder = catalogue::folder(&context.store, &savepoint.name);
    let sources = || of.sources().iter().zip(app.sources());
    let mut tasks = Vec::new();
    for manifest in savepoint.tasks.iter().filter(|task| task.app == of.name()) {
        let what = || format!("{}/{} of the savepoint can't be used", app.name(), manifest.partition);
        let file = manifest.files.first().context("it names no file").with_context(what)?;
        let state = context.runtime.block_on(context.store.file(&folder, file)).with_context(what)?;
        let task = task_with(app, manifest.partition, &state).with_context(what)?;
        let read_to =
            |topic: &str| manifest.offsets.iter().find(|(t, _)| t == topic).map(|(_, offset)| *offset);
        let written_to = |topic: &str| {
            let here = |handed: &&HandedOver| handed.topic == topic && handed.partition == manifest.partition;
            savepoint.handed_over.iter().find(here).map_or(0, |handed| handed.end)
        };
        let under_way = sources().filter(|(source, _)| source.kind == SourceKind::Repartition).map(
            |(Source { topic: is_in, .. }, Source { topic, .. })| {
                let offsets = (read_to(is_in).unwrap_or(0), written_to(is_in));
                UnderWay { topic, is_in, offsets }
            },
        );
        let under_way = under_way.collect();
        let offsets =
            sources().filter_map(|(of, source)| Some((source.topic.to_owned(), read_to(of.topic)?)));
        let manifest = Manifest { offsets: offsets.collect(), ..manifest.clone() };
        tasks.push(Saved { manifest, state, task, under_way });
    }
    Ok(tasks)
}

/// What tasks hand to each other is written again when they read their input again. So what is in the topics between them
/// is passed over, but for what was under way at the moment of the savepoint: that is written again here.
fn pass_over(log: &Changelog, saved: &mut Saved) -> anyhow::Result<()> {
    let partition = saved.manifest.partition;
    for &UnderWay { topic, .. } in &saved.under_way {
        for end in log.stable_ends_of(topic, &[partition])? {
            saved.task.reposition(topic, end);
            saved.manifest.offsets.retain(|(known, _)| known != topic);
            saved.manifest.offsets.push((topic.to_owned(), end));
        }
    }
    if !saved.under_way.is_empty() {
        let mut state = Changes::default();
        saved.task.snapshot(&mut |key, value| state.put(key, value));
        saved.state = Encoded::delta(&state).bytes;
    }
    Ok(())
}

/// Gives an app the state and the offsets of its tasks, in one transaction.
pub(super) fn put_back(
    context: &Context,
    app: &'static dyn Application,
    mut tasks: Vec<Saved>,
) -> anyhow::Result<()> {
    let begun = Instant::now();
    let (name, changelog) = (app.name(), topic::changelog(app.name()));
    // Only asks and lends its group's name: it never joins.
    let group: BaseConsumer =
        context.kafka.consumer(CLIENT, &topic::group(name), "read_committed").create()?;
    wait_until_empty(context, &group, name)?;
    let clients = Rc::new(Clients::new(&context.kafka, CLIENT)?);
    let log = Changelog::new(clients, name, &context.shutdown);
    for saved in &mut tasks {
        pass_over(&log, saved)?;
    }
    let offsets = offsets(app, &group, &log, &tasks)?;
    let partitions: Vec<i32> = tasks.iter().map(|saved| saved.manifest.partition).collect();
    let ends = log.stable_ends(&partitions)?;
    let mut transactions = restoring(context, name)?;
    transactions.open();
    let mut records = 0_u64;
    let result = (|| {
        for ((saved, &partition), &end) in tasks.iter().zip(&partitions).zip(&ends) {
            for &UnderWay { topic, is_in, offsets } in &saved.under_way {
                let (from, to) = offsets;
                log.read_of(is_in, &[(partition, from, to)], |Logged { key, value, .. }| {
                    let mut record = BaseRecord::<[u8], [u8]>::to(topic).partition(partition);
                    (record.key, record.payload) = ((!key.is_empty()).then_some(key), value);
                    transactions.send(record)
                })?;
            }
            let now = state_at(context, &log, name, partition, end)?;
            for (key, value) in difference(&now.bytes, &saved.state)? {
                let mut record = BaseRecord::to(&changelog).partition(partition).key(key);
                record.payload = value;
                transactions.send(record)?;
                records += 1;
            }
            let key = ledger::key(name, partition);
            // Results of forks are in no index that they would have to agree with.
            if fork::of(name).is_none() {
                let before = task_with(app, partition, &now.bytes)?;
                let at_ms = clock::now_ms();
                let emitted = emitted(&*before) - emitted(&*saved.task);
                let undone = Undone { v: ledger::FORMAT, app: name.to_owned(), partition, at_ms, emitted };
                let (key, value) = (format!("{key}/undone/{at_ms}"), serde_json::to_vec(&undone)?);
                transactions.send(BaseRecord::to(topic::LEDGER).key(&key).payload(&value))?;
            }
            let entry = entry(name, COMPONENT, app.sources(), partition, &*saved.task);
            let value = serde_json::to_vec(&entry)?;
            transactions.send(BaseRecord::to(topic::LEDGER).key(&key).payload(&value))?;
        }
        // A worker that was started meanwhile waits for this transaction before it reads, unless it was quicker.
        ensure!(members(&group, name)?.is_empty(), "a worker was started meanwhile: stop it, then try again");
        let nobody = Generation::nobody(topic::group(name));
        transactions.commit(&[(&nobody, offsets)], &|| !context.shutdown.requested())?;
        anyhow::Ok(())
    })();
    if result.is_err() {
        transactions.abort();
    }
    result?;
    let seconds = begun.elapsed().as_secs_f64();
    say(format!("{name}: {} tasks, {records} entries written, {seconds:.1} s", tasks.len()));
    Ok(())
}

/// The transactions in which an app is given other state.
pub(super) fn restoring(context: &Context, app: &str) -> Result<Transactions, SessionError> {
    Transactions::start(&context.kafka, &format!("{COMPONENT}-{app}"), &[app], TRANSACTION)
}

/// Results of a task, since the app's first start.
fn emitted(task: &dyn Task) -> i64 {
    let emitted: u64 = task.jobs().iter().map(|job| job.stats.emitted).sum();
    i64::try_from(emitted).unwrap_or(i64::MAX)
}

/// The workers that are in an app's group.
fn members(group: &BaseConsumer, app: &str) -> anyhow::Result<Vec<String>> {
    let name = topic::group(app);
    let groups = group.fetch_group_list(Some(&name), CALL).context("the group can't be looked at")?;
    let members =
        groups.groups().iter().filter(|found| found.name() == name).flat_map(|found| found.members());
    Ok(members.map(|member| member.client_id().to_owned()).collect())
}

/// Waits until an app's group has no member; no worker may run.
pub(super) fn wait_until_empty(context: &Context, group: &BaseConsumer, app: &str) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut told = false;
    loop {
        let members = members(group, app)?;
        if members.is_empty() {
            return Ok(());
        }
        if begun.elapsed() > LEAVING || context.shutdown.requested() {
            bail!(
                "workers run ({}): stop them (`millrace worker stop N`), then try again",
                members.join(", ")
            );
        }
        if !std::mem::replace(&mut told, true) {
            say(format!("{app}: waiting until its group has forgotten {}", members.join(", ")));
        }
        std::thread::park_timeout(Duration::from_millis(200));
    }
}

/// The offsets to put the group back to, all of which can still be read.
fn offsets(
    app: &dyn Application,
    group: &BaseConsumer,
    log: &Changelog,
    tasks: &[Saved],
) -> anyhow::Result<TopicPartitionList> {
    let mut all = TopicPartitionList::new();
    for Saved { manifest, .. } in tasks {
        for source in app.sources() {
            all.add_partition(source.topic, manifest.partition);
        }
    }
    let committed = group.committed_offsets(all, CALL)?;
    let mut offsets = TopicPartitionList::new();
    for Saved { manifest, .. } in tasks {
        let partition = manifest.partition;
        for source in app.sources() {
            let topic = source.topic;
            let saved = manifest.offsets.iter().find(|(t, _)| t == topic).map(|(_, offset)| *offset);
            let has = committed
                .find_partition(topic, partition)
                .is_some_and(|found| matches!(found.offset(), Offset::Offset(_)));
            // Nothing of it had been read then: from its beginning, if anything has been read since.
            let Some(offset) = saved.or(has.then_some(0)) else { continue };
            let (first, end) = log.bounds_of(topic, partition)?;
            ensure!(
                offset <= end,
                "the savepoint stands at offset {offset} of {topic}/{partition}, which ends at {end}: it is of another \
                 cluster, or the topic was made anew"
            );
            if offset < first && saved.is_some() {
                say(format!(
                    "{topic}/{partition}: records {offset} to {first} are gone (retention), so what came of them is too"
                ));
            }
            offsets.add_partition_offset(topic, partition, Offset::Offset(offset))?;
        }
    }
    Ok(offsets)
}

/// What has to be written behind the state `now` to get the state `wanted`.
fn difference<'a>(now: &'a [u8], wanted: &'a [u8]) -> Result<Vec<Entry<'a>>, Damaged> {
    let mut left = merged(&[now]).collect::<Result<BTreeMap<_, _>, _>>()?;
    let mut changes = Vec::new();
    for entry in merged(&[wanted]) {
        let (key, value) = entry?;
        if left.remove(key) != Some(value) {
            changes.push((key, Some(value)));
        }
    }
    changes.extend(left.into_keys().map(|key| (key, None)));
    Ok(changes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn state() -> impl Strategy<Value = BTreeMap<u8, Vec<u8>>> {
        prop::collection::btree_map(0_u8..30, prop::collection::vec(0_u8..3, 0..3), 0..20)
    }

    fn encoded(state: &BTreeMap<u8, Vec<u8>>) -> Encoded {
        let mut encoded = Encoded::default();
        for (key, value) in state {
            encoded.push(&[*key], Some(value));
        }
        encoded
    }

    proptest! {
        #[test]
        fn the_difference_leads_from_one_state_to_the_other(now in state(), wanted in state()) {
            let (now, wanted) = (encoded(&now), encoded(&wanted));
            let mut changes = Changes::default();
            for (key, value) in difference(&now.bytes, &wanted.bytes).unwrap() {
                changes.put(key, value);
            }
            let delta = Encoded::delta(&changes);
            prop_assert_eq!(Encoded::base(&[&now.bytes, &delta.bytes]).unwrap(), wanted);
        }
    }
}
