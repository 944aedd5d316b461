//! One component's life: start, ready, death, start again, until somebody says otherwise.

use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use millrace_wire::telemetry::ComponentState;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::{mpsc, oneshot};

use crate::backoff::Backoff;
use crate::board::Board;
use crate::logfile::LogFile;
use crate::process::{self, Group, Program};
use crate::ready::{Probe, Ready};

/// What a component is.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Its name in the catalogue of components.
    pub name: String,
    /// What to run.
    pub program: Program,
    /// TCP ports that it listens on.
    pub ports: Vec<u16>,
    /// When it counts as ready.
    pub ready: Ready,
    /// SIGTERM to SIGKILL.
    pub patience: Duration,
    /// Restarted without a wait the first time.
    pub eager: bool,
    /// Its log.
    pub log: PathBuf,
}

/// What a person or the supervisor asks of a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Run, and stay running.
    Start,
    /// SIGKILL, and stay down.
    Kill,
    /// SIGTERM, and stay down.
    Stop,
}

/// An order and where to say that it is done.
pub type Command = (Order, oneshot::Sender<()>);

/// The way to a component's task.
#[derive(Debug, Clone)]
pub struct Handle {
    /// Its name.
    pub name: String,
    orders: mpsc::Sender<Command>,
}

impl Handle {
    /// Gives an order and waits until it is carried out; a start, until there is a process.
    pub async fn order(&self, order: Order) {
        let (done, carried_out) = oneshot::channel();
        if self.orders.send((order, done)).await.is_ok() {
            let _ = carried_out.await;
        }
    }
}

/// Brings a component to life, stopped, on the current `LocalSet`.
pub fn spawn(spec: Spec, board: Rc<Board>, probe: Rc<Probe>) -> Handle {
    let (orders, inbox) = mpsc::channel(4);
    board.add(&spec.name, &spec.ports);
    let handle = Handle { name: spec.name.clone(), orders };
    let backoff = Backoff::new(spec.eager);
    tokio::task::spawn_local(Life { spec, board, probe, inbox, backoff, starts: 0 }.live());
    handle
}

struct Life {
    spec: Spec,
    board: Rc<Board>,
    probe: Rc<Probe>,
    inbox: mpsc::Receiver<Command>,
    backoff: Backoff,
    starts: u32,
}

/// What comes after a process.
enum Next {
    Start,
    Rest,
    End,
}

impl Life {
    async fn live(mut self) {
        let mut next = Next::Rest;
        loop {
            next = match next {
                Next::Start => self.run().await,
                Next::Rest => self.rest(None).await,
                Next::End => return,
            }
        }
    }

    fn state(&self, state: ComponentState, detail: Option<String>) {
        self.board.state(&self.spec.name, state, detail);
    }

    /// Down, until an order or the end of `wait`.
    async fn rest(&mut self, wait: Option<Duration>) -> Next {
        let order = match wait {
            None => self.inbox.recv().await,
            Some(wait) => match tokio::time::timeout(wait, self.inbox.recv()).await {
                Ok(order) => order,
                Err(_) => return Next::Start,
            },
        };
        let Some((order, done)) = order else { return Next::End };
        let next = if order == Order::Start {
            self.backoff.reset();
            // Before the order is reported as done: whoever waits for readiness must not see it resting.
            self.state(ComponentState::Starting, None);
            Next::Start
        } else {
            self.state(ComponentState::Stopped, None);
            Next::Rest
        };
        let _ = done.send(());
        next
    }

    async fn run(&mut self) -> Next {
        let mut group = match process::start(&self.spec.program) {
            Ok((group, output)) => {
                keep_log(output, &self.spec.log);
                group
            }
            Err(error) => {
                self.state(ComponentState::Failed, Some(format!("{error:#}")));
                return Next::Rest;
            }
        };
        self.board.started(&self.spec.name, group.id().unsigned_abs(), self.starts > 0);
        self.starts += 1;
        let began = Instant::now();
        let end = self.watch(&mut group).await;
        let Some(end) = end else { return if self.inbox.is_closed() { Next::End } else { Next::Rest } };
        let wait = self.backoff.after(began.elapsed());
        self.state(ComponentState::Restarting, Some(format!("ended: {end}")));
        self.rest(Some(wait)).await
    }

    /// Until the process ends by itself (how it ended) or was ended on request (`None`).
    async fn watch(&mut self, group: &mut Group) -> Option<String> {
        let ready = Rc::clone(&self.probe);
        let condition = self.spec.ready.clone();
        let mut ready = std::pin::pin!(async move { ready.wait(&condition).await });
        let mut is_ready = false;
        loop {
            tokio::select! {
                end = group.wait() => return Some(end),
                () = &mut ready, if !is_ready => {
                    is_ready = true;
                    self.state(ComponentState::Running, None);
                }
                order = self.inbox.recv() => {
                    let (order, done) = match order {
                        Some((Order::Start, done)) => {
                            let _ = done.send(());
                            continue;
                        }
                        Some((order, done)) => (order, Some(done)),
                        None => (Order::Stop, None),
                    };
                    if order == Order::Kill {
                        group.kill().await;
                    } else {
                        group.stop(self.spec.patience).await;
                    }
                    self.state(ComponentState::Stopped, None);
                    if let Some(done) = done {
                        let _ = done.send(());
                    }
                    return None;
                }
            }
        }
    }
}

/// Copies what a component prints to its log until nobody can print any more.
fn keep_log(output: std::io::PipeReader, path: &std::path::Path) {
    let Ok(mut output) = Receiver::from_owned_fd(output.into()) else { return };
    let mut log = LogFile::open(path).ok();
    tokio::task::spawn_local(async move {
        let mut buffer = vec![0; 64 << 10];
        loop {
            match output.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(n) => {
                    if let (Some(log), Some(bytes)) = (&mut log, buffer.get(..n)) {
                        log.append(bytes);
                    }
                }
            }
        }
    });
}
