use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use millrace_core::{Application, Task};
use millrace_service::clock;
use millrace_wire::ledger::{self, Undone};
use millrace_wire::topic;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::BaseRecord;
use rdkafka::{Offset, TopicPartitionList};

use super::catalogue::{self, HandedOver, Savepoint, State};
use super::{Context, chosen, repartition_topics, say, state_at, task_with};
use crate::checkpoint::{Changes, Damaged, Encoded, Entry, Manifest, merged};
use crate::runtime::changelog::{Changelog, Clients};
use crate::runtime::tasks::entry;
use crate::runtime::transaction::Transactions;

/// How long a broker may take to answer.
const CALL: Duration = Duration::from_secs(10);
/// How long a restoring transaction may be open.
const TRANSACTION: Duration = Duration::from_secs(300);
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
    let savepoint = match context.runtime.block_on(catalogue::open(&context.store, name))? {
        Some(State::Complete(savepoint)) => savepoint,
        Some(State::Unusable(reason)) => bail!("the savepoint {name} can't be restored: {reason}"),
        None => bail!("there is no savepoint {name}: `millrace savepoint list` shows them"),
    };
    let of = |app: &str| savepoint.tasks.iter().any(|task| task.app == app);
    let chosen: Vec<_> = chosen(all, apps)?.into_iter().filter(|app| of(app.name())).collect();
    if let Some(app) = apps.iter().find(|app| !of(app)) {
        bail!("the savepoint {name} has no app {app}");
    }
    // Everything is read and understood before anything is changed.
    let mut wanted = Vec::new();
    for &app in &chosen {
        wanted.push((app, read(context, &savepoint, app)?));
    }
    for (app, tasks) in wanted {
        put_back(context, app, tasks).with_context(|| format!("{} was not restored", app.name()))?;
    }
    Ok(())
}

/// A task of a savepoint.
struct Saved {
    manifest: Manifest,
    state: Vec<u8>,
    task: Box<dyn Task>,
    /// What was under way to it, by topic: from where it had read to where it was written.
    under_way: Vec<(&'static str, i64, i64)>,
}

fn read(
    context: &Context,
    savepoint: &Savepoint,
    app: &'static dyn Application,
) -> anyhow::Result<Vec<Saved>> {
    let folder = catalogue::folder(&context.store, &savepoint.name);
    let mut tasks = Vec::new();
    for manifest in savepoint.tasks.iter().filter(|task| task.app == app.name()) {
        let what = || format!("{}/{} of the savepoint can't be used", app.name(), manifest.partition);
        let file = manifest.files.first().context("it names no file").with_context(what)?;
        let state = context.runtime.block_on(context.store.file(&folder, file)).with_context(what)?;
        let task = task_with(app, manifest.partition, &state).with_context(what)?;
        let read_to =
            |topic: &str| manifest.offsets.iter().find(|(t, _)| t == topic).map_or(0, |(_, offset)| *offset);
        let of = |topic: &str| {
            let here = |handed: &&HandedOver| handed.topic == topic && handed.partition == manifest.partition;
            savepoint.handed_over.iter().find(here).map_or(0, |handed| handed.end)
        };
        let under_way = repartition_topics(app).map(|topic| (topic, read_to(topic), of(topic))).collect();
        tasks.push(Saved { manifest: manifest.clone(), state, task, under_way });
    }
    Ok(tasks)
}

/// What tasks hand to each other is written again when they read their input again. So what is in the topics between them
/// is passed over, but for what was under way at the moment of the savepoint: that is written again here.
fn pass_over(log: &Changelog, saved: &mut Saved) -> anyhow::Result<()> {
    let partition = saved.manifest.partition;
    for &(topic, ..) in &saved.under_way {
        let end = log.stable_end_of(topic, partition)?;
        saved.task.reposition(topic, end);
        saved.manifest.offsets.retain(|(known, _)| known != topic);
        saved.manifest.offsets.push((topic.to_owned(), end));
    }
    if !saved.under_way.is_empty() {
        let mut state = Changes::default();
        saved.task.snapshot(&mut |key, value| state.put(key, value));
        saved.state = Encoded::delta(&state).bytes;
    }
    Ok(())
}

fn put_back(context: &Context, app: &'static dyn Application, mut tasks: Vec<Saved>) -> anyhow::Result<()> {
    let begun = Instant::now();
    let (name, changelog) = (app.name(), topic::changelog(app.name()));
    // Only asks and lends its group's name: it never joins.
    let group: BaseConsumer =
        context.kafka.consumer("millrace-savepoint", &topic::group(name), "read_committed").create()?;
    wait_until_empty(context, &group, name)?;
    let clients = Rc::new(Clients::new(&context.kafka, "millrace-savepoint")?);
    let log = Changelog::new(clients, name, &context.shutdown);
    for saved in &mut tasks {
        pass_over(&log, saved)?;
    }
    let offsets = offsets(app, &group, &log, &tasks)?;
    let mut transactions = Transactions::start(
        &context.kafka,
        &format!("{COMPONENT}-{name}"),
        vec![changelog.clone()],
        TRANSACTION,
    )?;
    transactions.open()?;
    let mut records = 0_u64;
    let result = (|| {
        for saved in &tasks {
            let partition = saved.manifest.partition;
            for &(topic, from, to) in &saved.under_way {
                log.read_of(topic, partition, (from, to), |_, key, value| {
                    let mut record = BaseRecord::<[u8], [u8]>::to(topic).partition(partition);
                    (record.key, record.payload) = ((!key.is_empty()).then_some(key), value);
                    transactions.send(record)
                })?;
            }
            let now = state_at(context, &log, name, partition, log.stable_end(partition)?)?;
            for (key, value) in difference(&now.bytes, &saved.state)? {
                let mut record = BaseRecord::to(&changelog).partition(partition).key(key);
                record.payload = value;
                transactions.send(record)?;
                records += 1;
            }
            let before = task_with(app, partition, &now.bytes)?;
            let at_ms = clock::now_ms();
            let undone = Undone {
                v: ledger::FORMAT,
                app: name.to_owned(),
                partition,
                at_ms,
                emitted: emitted(&*before) - emitted(&*saved.task),
            };
            let (key, value) = (format!("{name}/{partition}/undone/{at_ms}"), serde_json::to_vec(&undone)?);
            transactions.send(BaseRecord::to(topic::LEDGER).key(&key).payload(&value))?;
            let entry = entry(name, COMPONENT, app.sources(), partition, &*saved.task);
            let (key, value) = (format!("{name}/{partition}"), serde_json::to_vec(&entry)?);
            transactions.send(BaseRecord::to(topic::LEDGER).key(&key).payload(&value))?;
        }
        // A worker that was started meanwhile waits for this transaction before it reads, unless it was quicker.
        ensure!(members(&group, name)?.is_empty(), "a worker was started meanwhile: stop it, then try again");
        transactions.commit(&[(&group, offsets)], &|| !context.shutdown.requested())?;
        anyhow::Ok(())
    })();
    if result.is_err() {
        transactions.abort();
    }
    result?;
    let seconds = begun.elapsed().as_secs_f64();
    say(format!("{name}: {} tasks are back, {records} entries had changed, {seconds:.1} s", tasks.len()));
    Ok(())
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

fn wait_until_empty(context: &Context, group: &BaseConsumer, app: &str) -> anyhow::Result<()> {
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
