//! `millrace up`: supervise in this process, or leave a copy behind that does.

use std::fs::OpenOptions;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{ExitCode, Stdio};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getppid, setsid};
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::board::{Board, Outcome};
use crate::cli::Up;
use crate::control;
use crate::credentials::password;
use crate::layout::Layout;
use crate::out;
use crate::progress::{self, Progress};
use crate::state::State;
use crate::supervisor::{self, Options};

const PASSWORD: &str = "MILLRACE_ADMIN_PASSWORD";

/// The password that the page's first user shall have, if somebody chose one.
pub fn given_password() -> Option<String> {
    std::env::var(PASSWORD).ok().filter(|password| !password.is_empty())
}

/// Starts or resumes the cluster.
pub async fn up(up: &Up, layout: &Layout) -> Result<ExitCode> {
    if let Some(snapshot) = control::status(layout).await? {
        let how = match snapshot.outcome {
            Outcome::Starting => format!("is starting ({})", snapshot.phase),
            Outcome::Stopping => format!("is stopping ({}); try again in a moment", snapshot.phase),
            Outcome::Ready | Outcome::Degraded(_) => "runs already".to_owned(),
        };
        out::line(format!("Millrace {how}: {}", snapshot.url));
        return Ok(if snapshot.outcome == Outcome::Stopping { ExitCode::FAILURE } else { ExitCode::SUCCESS });
    }
    layout.create()?;
    let first = !State::load(layout)?.unwrap_or_default().admin_created;
    let given = given_password();
    let generated = (first && given.is_none()).then(|| password(20));
    if up.detach && !up.supervisor {
        return detach(up, layout, given.or_else(|| generated.clone()), generated).await;
    }
    supervise(up, layout, given.or_else(|| generated.clone()), generated).await
}

async fn supervise(
    up: &Up,
    layout: &Layout,
    admin_password: Option<String>,
    generated: Option<String>,
) -> Result<ExitCode> {
    if up.supervisor {
        setsid().context("cannot leave the terminal's session")?;
    }
    let Some(_lock) = supervisor::lock(layout)? else {
        bail!(
            "another millrace is starting or stopping on {}; try again in a moment",
            layout.root().display()
        );
    };
    let programs = std::env::current_exe()?.parent().context("this program has no folder")?.to_owned();
    let options = Options {
        layout: layout.clone(),
        port_base: up.port_base,
        workers: up.workers,
        checkpoint_url: up.checkpoint_url.clone(),
        backends: up.backends.clone(),
        only: up.only.clone(),
        admin_password,
        programs,
    };
    let board = Rc::new(Board::default());
    let stop = watch::Sender::new(false);
    tokio::task::spawn_local(stop_on_signals(stop.clone()));
    if !up.supervisor {
        tokio::task::spawn_local(stop_with_parent(stop.clone()));
    }
    let mut shown = Progress::new(generated);
    let running = supervisor::run(&options, &board, &stop);
    tokio::pin!(running);
    let mut tick = tokio::time::interval(progress::INTERVAL);
    let result = loop {
        tokio::select! {
            result = &mut running => break result,
            _ = tick.tick() => shown.show(&board.snapshot(), layout),
        }
    };
    shown.show(&board.snapshot(), layout);
    result.map(|()| ExitCode::SUCCESS)
}

async fn stop_on_signals(stop: watch::Sender<bool>) -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    loop {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hang_up.recv() => {}
        }
        stop.send_replace(true);
    }
}

/// A supervisor in the foreground belongs to whoever started it. The parent's id is watched, because the kernel's
/// parent-death signal already comes when the parent's *thread* ends.
async fn stop_with_parent(stop: watch::Sender<bool>) {
    let parent = getppid();
    while getppid() == parent {
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    stop.send_replace(true);
}

async fn detach(
    up: &Up,
    layout: &Layout,
    admin_password: Option<String>,
    generated: Option<String>,
) -> Result<ExitCode> {
    let path = layout.log("launcher");
    let log = OpenOptions::new().append(true).create(true).mode(0o600).open(&path);
    let log = log.with_context(|| format!("cannot write {}", path.display()))?;
    let begin = log.metadata()?.len();
    let mut command = Command::new("/proc/self/exe");
    command.arg("up").arg("--supervisor").arg("--data").arg(layout.root());
    command.args(up.port_base.iter().flat_map(|n| ["--port-base".to_owned(), n.to_string()]));
    command.args(up.workers.iter().flat_map(|n| ["--workers".to_owned(), n.to_string()]));
    command.args(up.checkpoint_url.iter().flat_map(|url| ["--checkpoint-url", url]));
    command.args(up.backends.iter().flat_map(|chosen| ["--backend".to_owned(), chosen.to_string()]));
    command.args(up.only.iter().flat_map(|name| ["--only", name]));
    command.envs(admin_password.map(|password| (PASSWORD, password)));
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let mut child = command.spawn().context("cannot start the supervisor")?;
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);

    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut shown = Progress::new(generated);
    loop {
        tokio::select! {
            status = child.wait() => {
                let mut text = String::new();
                let mut log = std::fs::File::open(&path)?;
                log.seek(SeekFrom::Start(begin))?;
                log.read_to_string(&mut text)?;
                let error = text.rfind("error: ").and_then(|at| text.get(at + 7..)).unwrap_or(&text);
                bail!("{}\n(the supervisor ended: {}; its log is {})", error.trim(), status?, path.display());
            }
            _ = interrupt.recv() => {
                if let Some(pid) = pid {
                    let _ = kill(pid, Signal::SIGTERM);
                }
            }
            () = tokio::time::sleep(progress::INTERVAL) => {}
        }
        let Some(snapshot) = control::status(layout).await.ok().flatten() else { continue };
        shown.show(&snapshot, layout);
        match snapshot.outcome {
            Outcome::Ready => return Ok(ExitCode::SUCCESS),
            Outcome::Degraded(_) => return Ok(ExitCode::FAILURE),
            Outcome::Starting | Outcome::Stopping => {}
        }
    }
}
