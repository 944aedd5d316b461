//! Where the bench takes place: its topics, groups and files, and their end.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use millrace_wire::bench::{Query, results};
use millrace_wire::topic::{self, Kind, Retention, Topic};

use super::Options;
use super::progress::Progress;
use super::target::Target;
use crate::clock::now_ms;

/// How long a dead worker counts as a member of its group, and some more.
const MEMBERSHIP: Duration = Duration::from_secs(20);
const RETENTION: Retention = Retention::Millis(7 * 24 * 3_600 * 1_000);

/// What workers read and write whichever app they run.
const NEEDED: [&str; 5] =
    [topic::CONTROL, topic::LEDGER, topic::TELEMETRY, topic::LATE_EVENTS, topic::DEAD_LETTERS];

/// Where the bench takes place.
pub struct Stage {
    /// The cluster.
    pub target: Target,
    /// Says what is being waited for.
    pub progress: Progress,
    /// Folder for checkpoints and logs of the workers.
    pub dir: PathBuf,
    /// Part of the name of everything that belongs to this run.
    run: String,
    measurements: u32,
    topics: Vec<String>,
    groups: Vec<String>,
    /// Apps whose entries are in the ledger, with their partitions.
    apps: Vec<(String, i32)>,
}

impl Stage {
    /// Creates what workers need and is not there.
    ///
    /// # Errors
    /// Kafka refuses, or there is no place for files.
    pub async fn set(target: Target, options: &Options) -> Result<Self> {
        let run = format!("{:x}", now_ms());
        let dir = std::env::temp_dir().join(format!("{}{run}", millrace_wire::bench::PREFIX));
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let (topics, groups, apps) = (Vec::new(), Vec::new(), Vec::new());
        let mut stage =
            Self { target, progress: Progress::new(), dir, run, measurements: 0, topics, groups, apps };
        for topic in topic::catalogue().into_iter().filter(|topic| NEEDED.contains(&topic.name.as_str())) {
            stage.topic(&topic).await?;
        }
        if options.is_foreign() {
            stage.progress.say("the cluster is not ours: whatever else it does runs beside this");
        }
        Ok(stage)
    }

    /// Where a worker keeps state on disk.
    pub fn state_dir(&self, component: &str) -> PathBuf {
        self.dir.join("state").join(component)
    }

    /// Creates a topic unless it is there; what was created goes in the end.
    pub async fn topic(&mut self, topic: &Topic) -> Result<()> {
        if self.target.create(topic).await? {
            self.topics.push(topic.name.clone());
        }
        Ok(())
    }

    /// A topic of its own for a measurement. Returns its name.
    pub async fn own_topic(&mut self, what: &str) -> Result<String> {
        let name = format!("millrace.bench.{what}-{}", self.run);
        self.topic(&data(&name, topic::PARTITIONS)).await?;
        Ok(name)
    }

    /// The app of a query for one measurement, with empty topics, for a source of so many partitions.
    pub async fn app(&mut self, query: Query, partitions: i32) -> Result<String> {
        self.measurements += 1;
        let app = query.app(&format!("{}-{}", self.run, self.measurements));
        let retention = Retention::Compacted;
        let changelog = Topic { name: topic::changelog(&app), kind: Kind::Internal, partitions, retention };
        self.topic(&changelog).await?;
        self.topic(&data(&results(&app), partitions)).await?;
        self.groups.push(topic::group(&app));
        self.apps.push((app.clone(), partitions));
        Ok(app)
    }

    /// Removes what was created; says what it could not.
    pub async fn clear(mut self, keep: bool) {
        if let Err(error) = std::fs::remove_dir_all(&self.dir) {
            self.progress.say(&format!("{} is left: {error}", self.dir.display()));
        }
        if keep {
            self.progress.say(&format!("kept: {}", self.topics.join(", ")));
            return;
        }
        if let Err(error) = super::worker::forget(&self.target, &self.apps) {
            self.progress.say(&format!("the ledger keeps entries of the bench: {error:#}"));
        }
        let mut left =
            if self.topics.is_empty() { Vec::new() } else { self.target.remove_topics(&self.topics).await };
        // A group can't be removed while a worker that has died counts as its member.
        let (began, mut groups) = (Instant::now(), std::mem::take(&mut self.groups));
        while !groups.is_empty() {
            let failed = self.target.remove_groups(&groups).await;
            let known = |group: &String| failed.iter().any(|failed| failed.starts_with(group.as_str()));
            groups.retain(known);
            if began.elapsed() > MEMBERSHIP {
                left.extend(failed);
                break;
            }
            if groups.is_empty() {
                break;
            }
            self.progress
                .going(|| "waiting for the workers' membership to end, to remove their groups".to_owned());
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        if left.is_empty() {
            self.progress.say("removed every topic and group that was created");
        } else {
            self.progress.say(&format!("not removed: {}", left.join("; ")));
        }
    }
}

/// A data topic.
pub fn data(name: &str, partitions: i32) -> Topic {
    Topic { name: name.to_owned(), kind: Kind::Raw, partitions, retention: RETENTION }
}
