use std::collections::BTreeMap;
use std::fs::File;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use millrace_tests::{Kafka, Millrace, eventually, variable};

use crate::STOP;

/// Three brokers on a busy machine; what has to be fetched was fetched by an earlier start.
const START: Duration = Duration::from_secs(180);

/// Ports of the cluster; the next one is for what is refused.
pub const PORTS: u16 = 39;

/// One cluster at a time: they are on the same ports.
static TURN: Mutex<()> = Mutex::new(());

/// Where a cluster begins and ends: a data folder and ports.
pub struct House {
    pub millrace: Millrace,
    base: u16,
    _turn: MutexGuard<'static, ()>,
}

/// Process ids by name, with the `supervisor`.
pub type Running = BTreeMap<String, u32>;

impl House {
    pub fn exclusive() -> Self {
        Self {
            millrace: Millrace::from_env(),
            base: variable("MILLRACE_PORT_BASE").parse().expect("MILLRACE_PORT_BASE is a port"),
            _turn: TURN.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// With a data folder of its own, beside that of the others.
    pub fn of(name: &str) -> Self {
        let mut house = Self::exclusive();
        let data = house.millrace.data().with_extension(name);
        house.millrace = house.millrace.with_data(data);
        house
    }

    /// `up --detach` of these components.
    #[track_caller]
    pub fn up(&self, only: &[&str]) {
        let base = self.base.to_string();
        let only = only.iter().flat_map(|name| ["--only", name]);
        let args: Vec<&str> = ["up", "--detach", "--port-base", &base].into_iter().chain(only).collect();
        self.millrace.run(&args, &[]);
    }

    /// `up --detach`.
    #[track_caller]
    pub fn up_detached(&self) -> Running {
        let said = self.millrace.run(&[&up_on(&self.base.to_string())[..], &["--detach"]].concat(), &[]);
        assert!(said.contains("The services run"), "{said}");
        self.running()
    }

    /// `up` as the leader of a process group, as a shell starts it.
    #[track_caller]
    pub fn up_in_a_terminal(&self) -> (Child, Running) {
        self.started(self.millrace.command(&up_on(&self.base.to_string())).process_group(0))
    }

    /// `up` as the child of a shell, which waits for it.
    #[track_caller]
    pub fn up_under_a_shell(&self) -> (Child, Running) {
        let up = self.millrace.command(&up_on(&self.base.to_string()));
        let mut shell = Command::new("sh");
        shell.args(["-c", "\"$0\" \"$@\"; exit"]).arg(up.get_program()).args(up.get_args());
        self.started(&mut shell)
    }

    #[track_caller]
    fn started(&self, command: &mut Command) -> (Child, Running) {
        let out = File::create(self.screen()).unwrap();
        let command = command.stdin(Stdio::null()).stdout(out.try_clone().unwrap()).stderr(out);
        let mut child = command.spawn().unwrap();
        eventually("`up` is ready", START, || {
            if let Some(end) = child.try_wait().unwrap() {
                panic!("`up` ended: {end}\n{}", self.printed());
            }
            let printed = self.printed();
            if printed.contains("The services run") { Ok(()) } else { Err(printed) }
        });
        (child, self.running())
    }

    fn screen(&self) -> PathBuf {
        self.millrace.data().with_extension("screen")
    }

    /// What the last `up` in the foreground has printed.
    pub fn printed(&self) -> String {
        std::fs::read_to_string(self.screen()).unwrap_or_default()
    }

    /// What runs: three brokers and their supervisor.
    #[track_caller]
    pub fn running(&self) -> Running {
        let mut running = self.millrace.pids();
        assert_eq!(running.keys().collect::<Vec<_>>(), ["kafka-1", "kafka-2", "kafka-3"]);
        let supervisor = self.millrace.status()["pid"].as_u64().expect("the supervisor's pid");
        running.insert("supervisor".to_owned(), u32::try_from(supervisor).unwrap());
        assert!(running.values().all(|pid| is_alive(*pid)), "{running:?}");
        assert!(!self.ports_taken().is_empty(), "brokers listen");
        running
    }

    /// Waits until none of these processes is left, and no port is taken.
    #[track_caller]
    pub fn nothing_is_left(&self, running: &Running) {
        eventually("no process and no port is left", STOP, || {
            let left: Vec<_> = running.iter().filter(|(_, pid)| is_alive(**pid)).collect();
            let ports = self.ports_taken();
            if left.is_empty() && ports.is_empty() {
                Ok(())
            } else {
                Err(format!("{left:?}, ports {ports:?}"))
            }
        });
    }

    fn ports_taken(&self) -> Vec<u16> {
        let taken = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_err();
        (self.base..self.base + PORTS).filter(taken).collect()
    }

    /// A foreign client of the cluster as it is now.
    pub fn kafka(&self) -> Kafka {
        Kafka::new(&self.millrace.read("librdkafka.properties"))
    }
}

fn up_on(base: &str) -> [&str; 5] {
    ["up", "--only", "kafka", "--port-base", base]
}

impl Drop for House {
    /// After a failed test: nothing of it stays.
    fn drop(&mut self) {
        self.millrace.output(&["down"], &[], "");
        let _ = std::fs::remove_file(self.screen());
    }
}

/// Whether a process runs; one that has ended and waits to be noticed does not.
fn is_alive(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let state = status.lines().find_map(|line| line.strip_prefix("State:")).map(str::trim_start);
    state.is_some_and(|state| !state.starts_with(['Z', 'X']))
}
