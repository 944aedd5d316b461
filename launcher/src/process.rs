//! Starting and ending one process, with everything that it forks.
//!
//! A component is started through `millrace __exec`, which runs in the new process, makes it its own process group's
//! leader, gives up root where asked, arranges to be killed with the supervisor, and then becomes the program. That
//! way no code has to run between fork and exec.

use std::ffi::OsString;
use std::io::PipeReader;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, User, getppid, setgid, setgroups, setuid};
use tokio::process::{Child, Command};

use crate::account::Account;

/// First argument that turns `millrace` into the wrapper.
pub const WRAPPER: &str = "__exec";

/// Variables of the launcher's own environment that would change what a component does.
pub const FOREIGN_ENV: [&str; 6] = [
    "MILLRACE_ADMIN_PASSWORD",
    "MILLRACE_DATA",
    "JAVA_HOME",
    "JAVA_TOOL_OPTIONS",
    "ES_JAVA_OPTS",
    "CLASSPATH",
];

/// A program and what it runs with.
#[derive(Debug, Clone)]
pub struct Program {
    /// Its file.
    pub path: PathBuf,
    /// Arguments.
    pub args: Vec<OsString>,
    /// Environment on top of the launcher's own.
    pub env: Vec<(String, String)>,
    /// Who it runs as; `None`: as the launcher.
    pub account: Option<Account>,
    /// Working directory.
    pub dir: PathBuf,
}

/// A running process and everything that it forked.
#[derive(Debug)]
pub struct Group {
    child: Child,
    id: Pid,
}

/// Starts a program; whatever it and its children print can be read from the pipe.
///
/// Call it on the main thread only: the kernel ends a child when the *thread* that started it ends.
pub fn start(program: &Program) -> Result<(Group, PipeReader)> {
    if !program.path.exists() {
        bail!("{} does not exist: `./demo` builds it", program.path.display());
    }
    let (reader, writer) = std::io::pipe()?;
    // /proc/self/exe is this program even while a new build replaces its file.
    let mut command = Command::new("/proc/self/exe");
    for name in FOREIGN_ENV {
        command.env_remove(name);
    }
    command
        .arg(WRAPPER)
        .arg(std::process::id().to_string())
        .arg(program.account.as_ref().map_or("", |account| account.name.as_str()))
        .arg(&program.path)
        .args(&program.args)
        .envs(program.env.iter().map(|(key, value)| (key, value)))
        .current_dir(&program.dir)
        .stdin(std::process::Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .process_group(0)
        .kill_on_drop(true);
    let child = command.spawn().with_context(|| format!("cannot start {}", program.path.display()))?;
    let id = child.id().and_then(|id| i32::try_from(id).ok()).context("the process ended at once")?;
    Ok((Group { child, id: Pid::from_raw(id) }, reader))
}

impl Group {
    /// The leader's process id, which is the group's.
    pub fn id(&self) -> i32 {
        self.id.as_raw()
    }

    /// Waits for the leader's end and then ends what it left behind, which would hold its ports.
    pub async fn wait(&mut self) -> String {
        let end = match self.child.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        let _ = killpg(self.id, Signal::SIGKILL);
        end
    }

    /// SIGKILL, at once.
    pub async fn kill(&mut self) {
        let _ = killpg(self.id, Signal::SIGKILL);
        self.wait().await;
    }

    /// SIGTERM, and SIGKILL after `patience`. Returns whether it stopped by itself.
    pub async fn stop(&mut self, patience: Duration) -> bool {
        let _ = killpg(self.id, Signal::SIGTERM);
        let clean = tokio::time::timeout(patience, self.wait()).await.is_ok();
        if !clean {
            self.kill().await;
        }
        clean
    }
}

/// The wrapper's work: `__exec <supervisor's pid> <user or empty> <program> [args]`. Returns only if it fails.
pub fn become_program(args: &[OsString]) -> Result<()> {
    let [parent, user, program, args @ ..] = args else { bail!("{WRAPPER} is for the launcher's own use") };
    let parent: i32 = parent.to_string_lossy().parse()?;
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
    if !user.is_empty() {
        let name = user.to_string_lossy();
        let account = User::from_name(&name)?.with_context(|| format!("there is no user {name}"))?;
        setgroups(&[account.gid]).and_then(|()| setgid(account.gid)).and_then(|()| setuid(account.uid))?;
    }
    // After setuid, which would clear it. It holds across exec.
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    if getppid().as_raw() != parent {
        bail!("the supervisor is gone");
    }
    let error = std::process::Command::new(program).args(args).exec();
    Err(error).with_context(|| format!("cannot run {}", program.to_string_lossy()))
}
