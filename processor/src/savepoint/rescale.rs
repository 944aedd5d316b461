use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail, ensure};
use millrace_core::Application;
use millrace_core::repartition::Message;
use millrace_core::task::{Division, SourceKind};
use millrace_service::clock;
use millrace_wire::{fork as names, partition, topic};
use rdkafka::admin::NewPartitions;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::BaseRecord;
use rdkafka::{Offset, TopicPartitionList};

use super::create::create;
use super::fork::{admin, forks, patience, until_led};
use super::restore::{Saved, TRANSACTION, open, put_back, read, restoring, wait_until_empty};
use super::{CALL, CLIENT, Context, chosen, repartition_topics, say, state_at, task_with};
use crate::runtime::Transactions;
use crate::runtime::changelog::{Changelog, Clients};

/// How long an app may leave as much unread as it did.
const STILL: Duration = Duration::from_secs(30);
/// How often to say how much there is.
const SAY: Duration = Duration::from_secs(5);

/// An app and those that read the same topics: these have as many partitions for all of them.
struct Together<'a> {
    context: &'a Context,
    apps: Vec<&'static dyn Application>,
    clients: Rc<Clients>,
}

impl<'a> Together<'a> {
    fn new(
        context: &'a Context,
        app: &str,
        all: &'static [&'static dyn Application],
    ) -> anyhow::Result<Self> {
        let mut apps = chosen(all, &[app.to_owned()])?;
        let mut topics: BTreeSet<&str> = apps.iter().flat_map(|app| shared(*app)).collect();
        while let Some(&one) = all.iter().find(|one| {
            !apps.iter().any(|known| known.name() == one.name())
                && shared(**one).any(|topic| topics.contains(topic))
        }) {
            topics.extend(shared(one));
            apps.push(one);
        }
        for (fork, _) in context.runtime.block_on(forks(&context.store))? {
            ensure!(
                !apps.iter().any(|app| names::of(&fork) == Some(app.name())),
                "{fork} reads the same topics, and forks can't be rescaled: `millrace savepoint unfork {fork}` removes it"
            );
        }
        let together = Self { context, apps, clients: Rc::new(Clients::new(&context.kafka, CLIENT)?) };
        // Ends what an interrupted command has left open, and another one that goes on.
        drop(together.transactions()?);
        for app in &together.apps {
            drop(restoring(context, app.name())?);
        }
        Ok(together)
    }

    /// For notes.
    fn transactions(&self) -> anyhow::Result<Transactions> {
        let apps: Vec<_> = self.apps.iter().map(|app| app.name()).collect();
        Ok(Transactions::start(&self.context.kafka, "rescale", &apps, TRANSACTION)?)
    }

    fn names(&self) -> String {
        self.apps.iter().map(|app| app.name()).collect::<Vec<_>>().join(", ")
    }

    fn changelog(&self, app: &'static dyn Application) -> Changelog {
        Changelog::new(self.clients.clone(), app.name(), &self.context.shutdown)
    }

    /// How many partitions topics have.
    fn counts<'t>(&self, topics: impl Iterator<Item = &'t str>) -> anyhow::Result<Vec<(&'t str, i32)>> {
        let topics: Vec<&str> = topics.collect::<BTreeSet<_>>().into_iter().collect();
        let counts = self.clients.partitions(&topics)?;
        if let Some((topic, _)) = topics.iter().zip(&counts).find(|(_, count)| **count == 0) {
            bail!("there is no topic {topic}: `millrace topics setup` creates it");
        }
        Ok(topics.into_iter().zip(counts).collect())
    }

    /// What was noted to be done with the state of an app.
    fn noted(&self, app: &'static dyn Application) -> anyhow::Result<Option<Division>> {
        let log = self.changelog(app);
        let end = log.stable_ends(&[0])?.into_iter().sum();
        let state = state_at(self.context, &log, app.name(), 0, end)?;
        Ok(task_with(app, 0, &state.bytes)?.division())
    }

    /// Notes what is to be done with the state of all apps, or takes that back: as long as it is noted, no worker runs them.
    fn note(&self, division: Division, is_noted: bool) -> anyhow::Result<()> {
        let (key, value) = division.entry();
        let mut transactions = self.transactions()?;
        transactions.open();
        for app in &self.apps {
            let changelog = topic::changelog(app.name());
            for partition in 0..division.to {
                let mut record = BaseRecord::to(&changelog).partition(partition).key(&key);
                record.payload = is_noted.then_some(&value);
                transactions.send(record)?;
            }
        }
        transactions.commit(&[], &|| !self.context.shutdown.requested())?;
        Ok(())
    }

    /// Waits until no worker runs any of the apps.
    fn until_stopped(&self) -> anyhow::Result<()> {
        for app in &self.apps {
            wait_until_empty(self.context, &self.group(*app)?, app.name())?;
        }
        Ok(())
    }

    fn group(&self, app: &'static dyn Application) -> anyhow::Result<BaseConsumer> {
        let group = topic::group(app.name());
        Ok(self.context.kafka.consumer(CLIENT, &group, "read_committed").create()?)
    }

    /// How many records in the first so many partitions an app has not read, of those that are `counted` (by partition and key),
    /// and where one of them is. What tasks tell each other of their progress, and the markers of transactions, are no records.
    fn unread(
        &self,
        app: &'static dyn Application,
        partitions: i32,
        counted: impl Fn(i32, &[u8]) -> bool,
    ) -> anyhow::Result<(u64, String)> {
        let (log, group) = (self.changelog(app), self.group(app)?);
        let all: Vec<i32> = (0..partitions).collect();
        let (mut unread, mut place) = (0, String::new());
        for source in app.sources() {
            let mut wanted = TopicPartitionList::new();
            for &partition in &all {
                wanted.add_partition(source.topic, partition);
            }
            let committed = group.committed_offsets(wanted, CALL)?;
            // Also what a transaction has written that is committed, and not to be seen yet.
            let ends = log.stable_ends_of(source.topic, &all)?;
            let mut spans = Vec::new();
            for (&partition, end) in all.iter().zip(ends) {
                let (first, _) = log.bounds_of(source.topic, partition)?;
                let read = match committed.find_partition(source.topic, partition).map(|found| found.offset())
                {
                    Some(Offset::Offset(offset)) => offset,
                    _ => 0,
                };
                spans.push((partition, read.max(first), end));
            }
            log.read_of(source.topic, &spans, |record| {
                let tells = source.kind == SourceKind::Repartition
                    && record
                        .value
                        .is_some_and(|value| matches!(Message::read(value), Ok(Message::Progress { .. })));
                if !tells && counted(record.partition, record.key) {
                    unread += 1;
                    place = format!("{}/{}", source.topic, record.partition);
                }
                Ok(())
            })?;
        }
        Ok((unread, place))
    }

    /// What is unread of any of the apps, in words.
    fn left(&self, partitions: i32) -> anyhow::Result<Option<String>> {
        for app in &self.apps {
            let (unread, place) = self.unread(*app, partitions, |_, _| true)?;
            if unread > 0 {
                return Ok(Some(format!("{} has not read {unread} records ({place})", app.name())));
            }
        }
        Ok(None)
    }

    /// Gives topics the partitions that they lack.
    fn grow(&self, topics: &[(&str, i32)], to: i32) -> anyhow::Result<()> {
        let total = usize::try_from(to)?;
        let few: Vec<_> = topics.iter().filter(|(_, count)| *count < to).map(|(topic, _)| *topic).collect();
        let more: Vec<_> = few.iter().map(|topic| NewPartitions::new(topic, total)).collect();
        let admin = admin(self.context)?;
        self.context.runtime.block_on(async {
            for grown in admin.create_partitions(&more, &patience()).await? {
                grown.map_err(|(topic, code)| anyhow!("{topic} got no partitions: {code}"))?;
            }
            until_led(&admin, &few.iter().map(|topic| (*topic, to)).collect::<Vec<_>>()).await
        })
    }

    /// Gives the state of apps to more tasks, by way of a savepoint.
    fn divide(&self, apps: &[&'static dyn Application], division: Division) -> anyhow::Result<()> {
        let name = format!("before-{}-partitions-{}", division.to, clock::now_ms() / 1_000);
        create(self.context, Some(name.clone()), apps, Some(division.from))?;
        let savepoint = open(self.context, &name)?;
        for &app in apps {
            let tasks = read(self.context, &savepoint, app, app)?;
            put_back(self.context, app, Saved::divided(app, &tasks, division)?)?;
        }
        Ok(())
    }
}

/// What an app reads and others may read too.
fn shared(app: &dyn Application) -> impl Iterator<Item = &'static str> {
    let sources = app.sources().iter().filter(|source| source.kind != SourceKind::Repartition);
    sources.map(|source| source.topic)
}

/// Waits until an app, and those that read the same topics, have read all there is.
///
/// # Errors
/// They do not, or Kafka does not answer.
pub fn drain(context: &Context, app: &str, all: &'static [&'static dyn Application]) -> anyhow::Result<()> {
    let together = Together::new(context, app, all)?;
    let counts = together.counts(together.apps.iter().flat_map(|app| shared(*app)))?;
    let partitions = counts.into_iter().map(|(_, count)| count).min().unwrap_or(0);
    for &app in &together.apps {
        if together.noted(app)?.is_some() {
            // No worker runs it, and what is left to do needs none.
            continue;
        }
        let (mut least, mut moved, mut said) = (u64::MAX, Instant::now(), Instant::now());
        loop {
            let (unread, place) = together.unread(app, partitions, |_, _| true)?;
            if unread == 0 {
                break;
            }
            if unread < least {
                (least, moved) = (unread, Instant::now());
            }
            ensure!(
                moved.elapsed() < STILL && !context.shutdown.requested(),
                "{} leaves {unread} records unread ({place}): no worker runs it, it is slower than what comes, or something \
                 writes to the topic: `millrace health`",
                app.name()
            );
            if said.elapsed() > SAY {
                said = Instant::now();
                say(format!("{}: {unread} records to read", app.name()));
            }
            std::thread::park_timeout(Duration::from_millis(200));
        }
    }
    say(format!("{}: everything is read", together.names()));
    Ok(())
}

/// What a rescale comes to.
struct Plan<'a> {
    together: Together<'a>,
    division: Division,
    /// What the apps read, also of each other, with its partitions.
    read: Vec<(&'static str, i32)>,
    /// Apps with a note of the division, from a rescale that was interrupted.
    noted: Vec<&'static dyn Application>,
}

impl<'a> Plan<'a> {
    fn new(
        context: &'a Context,
        app: &str,
        to: i32,
        all: &'static [&'static dyn Application],
    ) -> anyhow::Result<Self> {
        let together = Together::new(context, app, all)?;
        let between = together.apps.iter().flat_map(|app| repartition_topics(*app));
        let read = together.counts(together.apps.iter().flat_map(|app| shared(*app)).chain(between))?;
        let mut noted = Vec::new();
        for &app in &together.apps {
            noted.extend(together.noted(app)?.map(|division| (app, division)));
        }
        let least = read.iter().map(|(_, count)| *count).min().unwrap_or(0);
        let division = match noted.first() {
            Some((_, division)) => *division,
            None => {
                // Whoever gave one of them more did not divide any state.
                if let Some((topic, count)) = read.iter().find(|(_, count)| *count != least) {
                    bail!(
                        "{topic} has {count} partitions, others of the same apps {least}: give these {count} by hand first"
                    );
                }
                ensure!(least != to, "{}: {to} partitions already", together.names());
                Division::new(least, to)?
            }
        };
        ensure!(
            division.to == to,
            "a rescale to {0} partitions is to be finished first: --partitions {0}",
            division.to
        );
        if let Some((topic, count)) = read.iter().find(|(_, count)| ![division.from, to].contains(count)) {
            bail!("{topic} has {count} partitions, neither {} nor {to}", division.from);
        }
        let noted = noted.into_iter().map(|(app, _)| app).collect();
        Ok(Self { together, division, read, noted })
    }

    /// Whether topics have begun to get their partitions.
    fn has_begun(&self) -> bool {
        !self.noted.is_empty() && self.read.iter().any(|(_, count)| *count == self.division.to)
    }

    fn blocked(&self) -> String {
        let (names, to) = (self.together.names(), self.division.to);
        format!("interrupted: no worker runs {names} until this is done again, with --partitions {to}")
    }

    /// Notes it, if everything is read.
    fn begin(&self) -> anyhow::Result<()> {
        let Self { together, division, noted, .. } = self;
        let Division { from, to } = *division;
        together.until_stopped()?;
        if let Some(left) = together.left(from)? {
            if !noted.is_empty() {
                together.note(*division, false)?;
            }
            bail!(
                "{left}, which would be in the wrong partition afterwards: let workers read all there is, and stop what writes \
                 there. Nothing has been changed"
            );
        }
        let changelogs: Vec<String> = together.apps.iter().map(|app| topic::changelog(app.name())).collect();
        together.grow(&together.counts(changelogs.iter().map(String::as_str))?, to)?;
        together.note(*division, true).with_context(|| self.blocked())?;
        // Now no worker can begin; and one that has begun since is seen.
        match together.until_stopped().and_then(|()| together.left(from)) {
            Ok(None) => Ok(()),
            left => {
                together.note(*division, false)?;
                bail!("{}: nothing has been changed, try again", left?.unwrap_or_default())
            }
        }
    }
}

/// Whether [`rescale`] can be done.
///
/// # Errors
/// Why not.
pub fn check(
    context: &Context,
    app: &str,
    to: i32,
    all: &'static [&'static dyn Application],
) -> anyhow::Result<()> {
    let Plan { together, division, .. } = Plan::new(context, app, to, all)?;
    say(format!("{}: {to} partitions instead of {}", together.names(), division.from));
    Ok(())
}

/// Gives an app, and those that read the same topics, more partitions: state goes with its keys.
///
/// It may be interrupted anywhere and done again. What is to be done is noted first in the changelogs, in every task's state:
/// then no worker runs the apps. The topics get their partitions next; and last, in one transaction per app, the tasks get
/// their shares of the state, without the note.
///
/// # Errors
/// What is wrong, and what to do.
pub fn rescale(
    context: &Context,
    app: &str,
    to: i32,
    all: &'static [&'static dyn Application],
) -> anyhow::Result<()> {
    let begun = Instant::now();
    let plan = Plan::new(context, app, to, all)?;
    let undivided = if plan.has_begun() {
        &plan.noted
    } else {
        plan.begin()?;
        &plan.together.apps
    };
    plan.together.grow(&plan.read, to).with_context(|| plan.blocked())?;
    for &app in undivided {
        let misplaced = |at: i32, key: &[u8]| partition(key, to) != at;
        let (unread, place) = plan.together.unread(app, to, misplaced)?;
        if unread > 0 {
            say(format!(
                "WARNING: {unread} records came between an interruption and now ({place}): they lie where their keys were, and are \
                 read without the state of these"
            ));
        }
    }
    plan.together.divide(undivided, plan.division).with_context(|| plan.blocked())?;
    let (names, seconds) = (plan.together.names(), begun.elapsed().as_secs_f64());
    say(format!("{names}: done, {seconds:.1} s"));
    Ok(())
}
