//! One start of the cluster, from checks to a clean stop.
//!
//! prepare -> brokers and Elasticsearch -> topics -> everything else, sources last -> watch -> stop in order. The components' own
//! tasks restart what dies (component.rs); this task only decides what should be running.

use std::cell::RefCell;
use std::fs::File;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use millrace_wire::telemetry::{AppBackend, ComponentState};
use tokio::sync::watch;

use crate::account::{self, Account};
use crate::board::{Board, Outcome};
use crate::cluster::{Cluster, client_config};
use crate::component::{self, Handle, Order, Spec};
use crate::connection;
use crate::credentials::Credentials;
use crate::elasticsearch::{self, Elasticsearch};
use crate::fetch;
use crate::kafka;
use crate::layout::{Layout, with_suffix};
use crate::logfile::tail;
use crate::ports::{BROKERS, Ports};
use crate::preflight;
use crate::ready::Probe;
use crate::server;
use crate::specs::{self, Plan};
use crate::state::State;
use crate::telemetry;
use crate::topics;

/// What a start is asked for.
#[derive(Debug, Clone)]
pub struct Options {
    /// The data folder.
    pub layout: Layout,
    /// `--port-base`.
    pub port_base: Option<u16>,
    /// `--workers`.
    pub workers: Option<u16>,
    /// `--checkpoint-url`.
    pub checkpoint_url: Option<String>,
    /// `--backend`.
    pub backends: Vec<AppBackend>,
    /// `--only`.
    pub only: Vec<String>,
    /// For the page's first user, if this is the first start.
    pub admin_password: Option<String>,
    /// Folder of our own programs.
    pub programs: PathBuf,
}

/// Handles of every component, shared with the control socket.
pub type Handles = Rc<RefCell<Vec<Handle>>>;

/// Takes the data folder for this process; `None` if another supervisor has it.
pub fn lock(layout: &Layout) -> Result<Option<File>> {
    let path = layout.lock();
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(std::fs::TryLockError::WouldBlock) => Ok(None),
        Err(std::fs::TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}

/// Runs the cluster until `stop` says so; the caller holds the folder's lock.
pub async fn run(options: &Options, board: &Rc<Board>, stop: &watch::Sender<bool>) -> Result<()> {
    let handles = Handles::default();
    let listener = crate::control::bind(&options.layout)?;
    let serving = tokio::task::spawn_local(server::serve(
        listener,
        Rc::clone(board),
        Rc::clone(&handles),
        stop.clone(),
    ));
    let mut stopping = stop.subscribe();
    let started = tokio::select! {
        started = start(options, board, &handles) => started,
        _ = stopping.wait_for(|stop| *stop) => Ok(()),
    };
    if started.is_ok() {
        let _ = stopping.wait_for(|stop| *stop).await;
    }
    board.outcome(Outcome::Stopping);
    shut_down(&handles, board).await;
    let _ = std::fs::remove_file(options.layout.socket());
    serving.abort();
    started
}

async fn start(options: &Options, board: &Rc<Board>, handles: &Handles) -> Result<()> {
    let layout = &options.layout;
    let mut state = State::load(layout)?.unwrap_or_default();
    state.port_base = options.port_base.or(state.port_base);
    state.workers = options.workers.unwrap_or(state.workers);
    state.checkpoint_url = options.checkpoint_url.clone().or(state.checkpoint_url);
    state.choose(&options.backends);
    let ports = state.ports();
    board.url(ports.url());
    let is_wanted = |name: &str| specs::wanted(&options.only, name);

    board.phase("checking ports, disk and Java");
    preflight::disk(layout.root(), "--data DIR")?;
    let mut all = specs::catalogue(ports, state.workers);
    all.retain(|(name, _)| is_wanted(name));
    preflight::ports(&all).await?;
    let java = preflight::java().await?;
    let account = Account::for_services()?;
    let services = fetch::ensure(&account::cache(account.as_ref())?, board).await?;

    let home = state.elasticsearch.clone().unwrap_or_else(|| elasticsearch::home(layout, account.as_ref()));
    state.elasticsearch = Some(home.clone());
    state.save(layout)?;
    let credentials = Credentials::load_or_generate(layout)?;
    connection::write(layout, ports, &credentials)?;
    let elasticsearch = Elasticsearch::new(home, services.clone(), java.clone(), account);
    if !state.admin_created {
        forget_unfinished_users(layout);
    }

    kafka::configure(layout, ports, &credentials)?;
    board.phase("preparing storage of Kafka and Elasticsearch");
    let formats = async {
        let format = async |n| {
            if kafka::is_formatted(layout, n) {
                return Ok(());
            }
            kafka::format(n, layout, &services, &java, &credentials).await
        };
        tokio::try_join!(format(1), format(2), format(3))
    };
    let (formatted, prepared) = tokio::join!(formats, elasticsearch.prepare(ports, &credentials));
    formatted?;

    let cluster = Cluster::new(ports, &credentials)?;
    let probe = Rc::new(Probe::new(cluster.clone()));
    let plan = Plan {
        layout,
        ports,
        workers: state.workers,
        checkpoints: &state.checkpoints(layout),
        backends: &state.backends,
        credentials: &credentials,
        services: &services,
        java: &java,
        elasticsearch: &elasticsearch,
        programs: &options.programs,
        dashboard: &specs::dashboard(&options.programs),
        admin_password: options.admin_password.as_deref().filter(|_| !state.admin_created),
    };
    let mut specs: Vec<Spec> = plan.specs();
    specs.retain(|spec| is_wanted(&spec.name));
    for spec in specs {
        handles.borrow_mut().push(component::spawn(spec, Rc::clone(board), Rc::clone(&probe)));
    }
    tokio::task::spawn_local(telemetry::measure(Rc::clone(board)));

    let (first, later): (Vec<Handle>, Vec<Handle>) = handles.borrow().iter().cloned().partition(|handle| {
        handle.name.starts_with("kafka-") || handle.name == "elasticsearch" && prepared.is_ok()
    });
    order(&first, Order::Start).await;
    if let Err(error) = prepared {
        board.state("elasticsearch", ComponentState::Failed, Some(format!("{error:#}")));
    }
    if is_wanted("kafka-1") {
        kafka_ready(board, layout).await?;
        board.phase("creating topics");
        topics::setup(&cluster, Duration::from_secs(60)).await?;
        publish_telemetry(board, ports, &credentials);
    }
    if !state.admin_created && is_wanted("gateway") {
        tokio::task::spawn_local(remember_admin(Rc::clone(board), layout.clone(), state));
    }
    // Sources start last, as they stop first: records would only take from the others the CPU that they start with.
    let (sources, later): (Vec<Handle>, Vec<Handle>) = later
        .into_iter()
        .filter(|handle| handle.name != "elasticsearch")
        .partition(|handle| specs::stop_stage(&handle.name) == 0);
    let mut failed = Vec::new();
    for stage in [later, sources] {
        order(&stage, Order::Start).await;
        let mut names: Vec<String> = handles.borrow().iter().map(|handle| handle.name.clone()).collect();
        names.retain(|name| !failed.contains(name));
        failed.extend(settle(board, &names, Duration::from_secs(240)).await);
    }
    board.phase("running");
    board.outcome(if failed.is_empty() { Outcome::Ready } else { Outcome::Degraded(failed) });
    Ok(())
}

/// A start that ended before anyone was told the admin's password leaves users that nobody can be.
fn forget_unfinished_users(layout: &Layout) {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let _ = std::fs::remove_file(with_suffix(&layout.gateway_database(), suffix));
    }
}

async fn remember_admin(board: Rc<Board>, layout: Layout, mut state: State) {
    let mut changes = board.subscribe();
    while !board.get("gateway").is_some_and(|(gateway, _)| gateway.state == ComponentState::Running) {
        if changes.changed().await.is_err() {
            return;
        }
    }
    state.admin_created = true;
    if state.save(&layout).is_ok() {
        board.admin_created();
    }
}

fn publish_telemetry(board: &Rc<Board>, ports: Ports, credentials: &Credentials) {
    if let Ok(publisher) = telemetry::Publisher::new(client_config(ports, credentials)) {
        tokio::task::spawn_local(publisher.run(Rc::clone(board)));
    }
}

async fn kafka_ready(board: &Board, layout: &Layout) -> Result<()> {
    let brokers: Vec<String> = (1..=BROKERS).map(|n| format!("kafka-{n}")).collect();
    let failed = settle(board, &brokers, Duration::from_secs(300)).await;
    if let Some(broker) = failed.first() {
        let why = board.get(broker).and_then(|(component, _)| component.detail).unwrap_or_default();
        bail!(
            "{} did not become ready {why}. The last lines of its log ({}):\n{}",
            failed.join(", "),
            layout.log(broker).display(),
            tail(&layout.log(broker), 15).join("\n")
        );
    }
    Ok(())
}

/// Gives every handle an order, all at once.
async fn order(handles: &[Handle], order: Order) {
    let orders: Vec<_> = handles
        .iter()
        .cloned()
        .map(|handle| tokio::task::spawn_local(async move { handle.order(order).await }))
        .collect();
    for order in orders {
        let _ = order.await;
    }
}

/// Deaths before it was ever ready, after which a start no longer waits for a component.
const HOPELESS: u32 = 3;

/// Waits until each of `names` was ready once; the ones that do not get there.
async fn settle(board: &Board, names: &[String], patience: Duration) -> Vec<String> {
    let deadline = Instant::now() + patience;
    let mut changes = board.subscribe();
    let mut waiting = names.to_vec();
    let mut failed = Vec::new();
    loop {
        waiting.retain(|name| {
            let Some((component, _)) = board.get(name) else { return false };
            match component.state {
                ComponentState::Running | ComponentState::Stopped => return false,
                ComponentState::Starting | ComponentState::Restarting if component.restarts < HOPELESS => {
                    return true;
                }
                _ => failed.push(name.clone()),
            }
            false
        });
        if waiting.is_empty() {
            return failed;
        }
        board.phase(&format!("waiting for {}", waiting.join(", ")));
        let left = deadline.saturating_duration_since(Instant::now());
        if tokio::time::timeout(left, changes.changed()).await.is_err() {
            failed.extend(waiting);
            return failed;
        }
    }
}

/// Stops everything in order.
async fn shut_down(handles: &Handles, board: &Board) {
    for stage in 0..specs::STOP_STAGES {
        let together: Vec<Handle> = handles
            .borrow()
            .iter()
            .filter(|handle| specs::stop_stage(&handle.name) == stage)
            .cloned()
            .collect();
        let names: Vec<&str> = together
            .iter()
            .filter(|handle| {
                board.get(&handle.name).is_some_and(|(component, _)| {
                    !matches!(component.state, ComponentState::Stopped | ComponentState::Failed)
                })
            })
            .map(|handle| handle.name.as_str())
            .collect();
        if !names.is_empty() {
            board.phase(&format!("stopping {}", names.join(", ")));
        }
        order(&together, Order::Stop).await;
    }
    board.phase("stopped");
}
