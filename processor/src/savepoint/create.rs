use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use millrace_core::Application;
use millrace_service::clock;
use millrace_wire::topic;

use super::catalogue::{self, HandedOver, MANIFEST, Savepoint, State};
use super::{CLIENT, Context, repartition_topics, say, state_at, task_with};
use crate::checkpoint::{Encoded, FORMAT, File, Manifest, digest, seal};
use crate::runtime::changelog::{Changelog, Clients, Ends};

/// How long to look for a moment without an open transaction. Workers commit for a part of the time only.
const QUIET: Duration = Duration::from_secs(15);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(3);

/// Makes a savepoint of what is committed of `apps`; with `tasks_each`, of so many tasks of each, because the others have just come
/// to be and have no state.
///
/// # Errors
/// There is one of this name; Kafka or the store does not answer.
pub fn create(
    context: &Context,
    name: Option<String>,
    apps: &[&'static dyn Application],
    tasks_each: Option<i32>,
) -> anyhow::Result<()> {
    let begun = Instant::now();
    let created_ms = clock::now_ms();
    let name = name.unwrap_or_else(|| format!("savepoint-{}", created_ms / 1_000));
    catalogue::check_name(&name)?;
    let store = &context.store;
    if let Some(State::Complete(_)) = context.runtime.block_on(catalogue::open(store, &name))? {
        bail!("there is a savepoint {name} already: choose another name");
    }
    let folder = catalogue::folder(store, &name);
    let clients = Rc::new(Clients::new(&context.kafka, CLIENT)?);
    let (mut tasks, mut handed_over) = (Vec::new(), Vec::new());
    for app in apps {
        let changelog = Changelog::new(clients.clone(), app.name(), &context.shutdown);
        let tasks_of_it = match tasks_each {
            Some(tasks) => tasks,
            None => changelog.partitions(app.sources())?.map_err(anyhow::Error::msg)?,
        };
        let mut ends = moment(*app, &changelog)?;
        let of_changelog = ends.remove(&topic::changelog(app.name())).unwrap_or_default();
        for (topic, ends) in ends {
            let handed = |(partition, end)| HandedOver { topic: topic.clone(), partition, end };
            handed_over.extend((0..).zip(ends).map(handed));
        }
        for (partition, end) in (0..tasks_of_it).zip(of_changelog) {
            let begun = Instant::now();
            let state = state_at(context, &changelog, app.name(), partition, end)?;
            let mut task = task_with(*app, partition, &state.bytes)
                .with_context(|| format!("the state of {}/{partition} can't be read", app.name()))?;
            let Encoded { bytes, entries } = state;
            let file = File {
                name: format!("{}-{partition}.state", app.name()),
                entries,
                bytes: bytes.len() as u64,
                sha256: digest(&bytes),
            };
            context
                .runtime
                .block_on(store.put(&folder, &file.name, bytes))
                .with_context(|| format!("{} can't be written", file.name))?;
            say(format!("{}/{partition}: {entries} entries, {} bytes", app.name(), file.bytes));
            tasks.push(Manifest {
                duration_us: u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX),
                files: vec![file],
                ..Manifest::of(&mut *task, app.name(), partition, end)
            });
        }
    }
    let entries: u64 = tasks.iter().map(|task| task.entries).sum();
    let bytes: u64 = tasks.iter().map(Manifest::bytes).sum();
    let count = tasks.len();
    let savepoint = Savepoint { version: FORMAT, name: name.clone(), created_ms, tasks, handed_over };
    context.runtime.block_on(store.put(&folder, MANIFEST, seal(&savepoint)?))?;
    let seconds = begun.elapsed().as_secs_f64();
    say(format!("savepoint {name}: {count} tasks, {entries} entries, {bytes} bytes, {seconds:.1} s"));
    Ok(())
}

/// Where the changelog of each task ended at one moment. Tasks that hand records to each other have to be taken at one
/// moment, with the topics between them; the others may be taken one after the other, each between two of its
/// transactions.
fn moment(app: &dyn Application, changelog: &Changelog) -> anyhow::Result<Ends> {
    let between: Vec<&str> = repartition_topics(app).collect();
    let begun = Instant::now();
    loop {
        match changelog.ends(&between)? {
            Ok(ends) => return Ok(ends),
            Err(committed) if begun.elapsed() > QUIET && between.is_empty() => return Ok(committed),
            Err(_) if begun.elapsed() > QUIET => bail!(
                "the tasks of {} hand records to each other and commit so often that no moment was found to take \
                 them together: stop the workers (`millrace worker stop N`), then try again",
                app.name()
            ),
            Err(_) => std::thread::park_timeout(LOOK),
        }
    }
}
