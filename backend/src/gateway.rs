//! The process: what its parts share, the threads and tasks it runs, and how it stops.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use millrace_service::clock::now_ms;
use millrace_service::http::Observable;
use millrace_service::{Shutdown, log};
use millrace_wire::api::GroupView;
use millrace_wire::live::{Delta, GroupGauge, Hello};
use millrace_wire::telemetry::Ack;
use millrace_wire::topic;
use tokio::sync::broadcast;

use crate::auth::Database;
use crate::auth::limiter::Limiter;
use crate::auth::password::Passwords;
use crate::clock::locked;
use crate::config::GatewayArgs;
use crate::control::Commands;
use crate::kafka::sampler::Groups;
use crate::kafka::tail::Tail;
use crate::kafka::{self, View};
use crate::ledger::{self, Books};
use crate::live::Hub;
use crate::problems::Tracker;
use crate::search::Search;
use crate::telemetry::{self, LagNow, State};
use crate::{user_cli, web};

/// The live feed's rhythm.
const TICK: Duration = Duration::from_millis(200);
const PING: Duration = Duration::from_secs(2);
/// How long open requests and sockets may take to end.
const DRAIN: Duration = Duration::from_secs(5);

/// What the requests share.
pub struct Gateway {
    /// Settings.
    pub args: GatewayArgs,
    /// Origins that are allowed.
    pub origins: Vec<String>,
    /// Users, sessions, audit.
    pub database: Database,
    /// Password checks.
    pub passwords: Passwords,
    /// Failed sign-ins.
    pub limiter: Limiter,
    /// Telemetry.
    pub state: Mutex<State>,
    /// Kafka.
    pub kafka: kafka::Shared,
    /// The newest results.
    pub tail: Mutex<Tail>,
    /// What has become of every record.
    pub books: Mutex<Books>,
    /// Elasticsearch.
    pub search: Search,
    /// Commands.
    pub commands: Commands,
    /// The live feed.
    pub hub: Arc<Hub>,
    /// When to stop.
    pub shutdown: Shutdown,
    /// Acknowledgements, as telemetry brings them.
    pub acks: broadcast::Sender<Arc<(String, Ack)>>,
    /// Tokens of sessions that end, for the sockets that they opened.
    pub signed_out: broadcast::Sender<Arc<str>>,
}

impl Gateway {
    /// Makes the parts; connects to nothing but the database.
    ///
    /// # Errors
    /// A setting can't be used.
    pub fn new(
        args: GatewayArgs,
        port: u16,
        database: Database,
        shutdown: Shutdown,
    ) -> anyhow::Result<Arc<Self>> {
        let (acks, _) = broadcast::channel(1024);
        Ok(Arc::new(Self {
            origins: args.origins(port),
            passwords: Passwords::new()?,
            limiter: Limiter::default(),
            state: Mutex::default(),
            kafka: kafka::Shared::default(),
            tail: Mutex::default(),
            books: Mutex::default(),
            search: Search::new(&args.elasticsearch)?,
            commands: Commands::new(&args.kafka, acks.clone())
                .context("the command producer can't be made")?,
            hub: Arc::new(Hub::new(u64::try_from(now_ms()).unwrap_or(0))),
            database,
            shutdown,
            acks,
            signed_out: broadcast::channel(64).0,
            args,
        }))
    }

    /// Whether browsers come by https, so that the cookie must not travel otherwise.
    pub fn secure(&self) -> bool {
        self.origins.iter().all(|origin| origin.starts_with("https://"))
    }

    /// Ends the sockets of a session.
    pub fn announce_sign_out(&self, token: &str) {
        // There may be no socket.
        let _ = self.signed_out.send(Arc::from(token));
    }

    /// Groups to watch: every app's and the indexer's, with the topics that they read.
    fn groups(&self) -> Groups {
        let mut groups = Groups::from([
            // Before the first worker has said what its jobs read.
            (topic::group("sensors"), BTreeSet::from([topic::IOT_SENSORS.to_owned()])),
            (topic::INDEXER_GROUP.to_owned(), topic::results().into_iter().collect()),
        ]);
        for job in locked(&self.state).jobs() {
            groups.entry(topic::group(&job.app)).or_default().extend(job.inputs.iter().cloned());
        }
        groups
    }

    fn spawn_threads(self: &Arc<Self>) -> anyhow::Result<Vec<std::thread::JoinHandle<()>>> {
        let spawn = |name: &str, work: fn(&Self)| {
            let gateway = self.clone();
            std::thread::Builder::new().name(name.to_owned()).spawn(move || work(&gateway))
        };
        Ok(vec![
            spawn("telemetry", |g| telemetry::reader::run(&g.args.kafka, &g.state, &g.acks, &g.shutdown))?,
            spawn("results", |g| kafka::tail::run(&g.args.kafka, &g.tail, &g.shutdown))?,
            spawn("ledger", |g| ledger::run(&g.args.kafka, &g.books, &g.shutdown))?,
            spawn("kafka-view", |g| {
                let done =
                    |place: &kafka::sampler::Place, offset| locked(&g.tail).is_after_newest(place, offset);
                kafka::sampler::run(&g.args.kafka, &g.kafka, || g.groups(), done, &g.shutdown);
            })?,
        ])
    }

    fn spawn_tasks(self: &Arc<Self>) {
        let gateway = self.clone();
        tokio::spawn(async move {
            while !gateway.shutdown.requested() {
                gateway.search.ping().await;
                tokio::select! { () = tokio::time::sleep(PING) => {}, () = gateway.shutdown.wait() => {} }
            }
        });
        let gateway = self.clone();
        tokio::spawn(async move {
            let mut ticker = Ticker::default();
            let mut interval = tokio::time::interval(TICK);
            interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            while !gateway.shutdown.requested() {
                interval.tick().await;
                ticker.tick(&gateway, now_ms());
            }
        });
    }
}

/// What a tick remembers of the one before.
#[derive(Default)]
struct Ticker {
    problems: Tracker,
    samples: std::collections::VecDeque<millrace_wire::live::Sample>,
    checkpoints_seen: u64,
    recoveries_seen: u64,
    caught_up: bool,
}

impl Ticker {
    fn tick(&mut self, gateway: &Gateway, now_ms: i64) {
        let view = gateway.kafka.get();
        let elastic = gateway.search.health();
        let mut state = locked(&gateway.state);
        let mut fresh = false;
        if state.caught_up {
            let closed = state.advance(now_ms, lag_now(&view, now_ms));
            fresh = !self.caught_up;
            self.caught_up = true;
            self.samples.extend(closed);
        }
        let mut overview = state.overview(now_ms);
        overview.groups = view
            .groups
            .iter()
            .zip(&view.groups_ms)
            .map(|(g, read_ms)| GroupGauge {
                group: g.group.clone(),
                lag_records: g.lag_records,
                lag_seconds: g.lag_seconds,
                trend_per_s: g.trend_per_s,
                age_ms: (now_ms - read_ms).max(0),
            })
            .collect();
        overview.brokers_up = if view.away(now_ms).is_some() { 0 } else { view.brokers_up };
        overview.ledger = locked(&gateway.books).gauge(&view, now_ms);
        overview.brokers_expected = gateway.args.brokers_expected();
        let (checkpoints, checkpoints_seen) = state.checkpoints();
        let new_checkpoints = newest(checkpoints, checkpoints_seen - self.checkpoints_seen);
        let last_checkpoints = newest(checkpoints, 60);
        let (recoveries, recoveries_seen) = state.recoveries();
        let new_recoveries = newest(recoveries, recoveries_seen - self.recoveries_seen);
        let last_recoveries = newest(recoveries, 20);
        let history = state.samples().iter().cloned().collect();
        drop(state);
        (self.checkpoints_seen, self.recoveries_seen) = (checkpoints_seen, recoveries_seen);
        overview.problems = self.problems.notes(now_ms, &overview, &view, &elastic);
        if fresh {
            self.samples.clear();
        }
        let mut tail = locked(&gateway.tail);
        let ((alerts, alerts_skipped), (averages, averages_skipped)) =
            (tail.alerts.take(), tail.averages.take());
        let (newest_alerts, newest_averages) = (tail.alerts.newest(), tail.averages.newest());
        drop(tail);
        let seq = gateway.hub.next_seq();
        let hello = Hello {
            seq,
            overview: overview.clone(),
            history,
            alerts: newest_alerts,
            averages: newest_averages,
            checkpoints: last_checkpoints,
            recoveries: last_recoveries,
        };
        let delta = Delta {
            seq,
            overview,
            sample: self.samples.pop_front(),
            alerts,
            alerts_skipped,
            averages,
            averages_skipped,
            checkpoints: new_checkpoints,
            recoveries: new_recoveries,
        };
        gateway.hub.publish(delta, hello, fresh);
    }
}

fn newest<T: Clone>(all: &std::collections::VecDeque<T>, count: u64) -> Vec<T> {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    all.iter().skip(all.len().saturating_sub(count)).cloned().collect()
}

/// The lag for a sample; nothing when Kafka's numbers are old.
fn lag_now(view: &View, now_ms: i64) -> LagNow {
    let young = |ms: i64| now_ms - ms <= 5_000;
    if !young(view.ends_ms) {
        return LagNow::default();
    }
    let (indexer, apps): (Vec<_>, Vec<_>) =
        view.groups.iter().zip(&view.groups_ms).partition(|(g, _)| g.group == topic::INDEXER_GROUP);
    let known =
        |groups: &[(&GroupView, &i64)]| !groups.is_empty() && groups.iter().all(|(_, ms)| young(**ms));
    let records = |groups: &[(&GroupView, &i64)]| {
        known(groups).then(|| groups.iter().map(|(g, _)| g.lag_records).sum())
    };
    let seconds: Option<Vec<f64>> = apps.iter().map(|(g, _)| g.lag_seconds).collect();
    LagNow {
        records: records(&apps),
        seconds: seconds.filter(|_| known(&apps)).and_then(|s| s.into_iter().reduce(f64::max)),
        index_records: records(&indexer),
    }
}

/// Serves until it is asked to stop.
///
/// # Errors
/// The database or the listen address can't be used.
pub async fn serve(args: GatewayArgs, database_url: &str) -> anyhow::Result<()> {
    log::init(&args.service)?;
    let shutdown = Shutdown::on_signals()?;
    let database = Database::open(database_url).await?;
    user_cli::first_admin(&database, args.admin_password.clone()).await?;
    let listen = args.listen;
    let listener = tokio::net::TcpListener::bind(listen)
        .await
        .with_context(|| format!("can't listen on {listen}: set MILLRACE_LISTEN to a free address"))?;
    let local = listener.local_addr()?;
    let gateway = Gateway::new(args, local.port(), database, shutdown.clone())?;
    let observed: Arc<dyn Observable> = Arc::new(web::ops::Process(gateway.clone()));
    millrace_service::http::serve(gateway.args.service.http_addr, observed, shutdown.clone()).await?;
    let threads = gateway.spawn_threads()?;
    gateway.spawn_tasks();
    let app = web::router(gateway.clone()).into_make_service_with_connect_info::<std::net::SocketAddr>();
    tracing::info!(address = %local, origins = gateway.origins.join(","), "serving");
    let stop = shutdown.clone();
    let server = axum::serve(listener, app).with_graceful_shutdown(async move { stop.wait().await });
    let late = async {
        shutdown.wait().await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        served = async { server.await } => served.context("serving failed")?,
        () = late => tracing::warn!("some connections were still open"),
    }
    // Upgraded sockets are no longer the server's: give them a moment for their close frames.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(1);
    while gateway.hub.clients() > 0 && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::task::spawn_blocking(move || threads.into_iter().for_each(|t| drop(t.join()))).await?;
    tracing::info!("stopped");
    Ok(())
}
