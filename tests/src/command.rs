use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// The program `millrace` with a data folder.
#[derive(Debug, Clone)]
pub struct Millrace {
    program: PathBuf,
    data: PathBuf,
}

/// How a command ended and what it said.
#[derive(Debug, Clone)]
pub struct Said {
    /// Whether it succeeded.
    pub good: bool,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

/// A variable that `./test` sets.
#[track_caller]
pub fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!(
            "{name} is not set: these tests need a running cluster. `./test integration` starts one; for one of your \
             own set MILLRACE_DATA, MILLRACE_URL, MILLRACE_ADMIN_PASSWORD and MILLRACE_BIN"
        )
    })
}

/// Sends a signal to a process, or with `-` before its id to its group.
#[track_caller]
pub fn signal(name: &str, to: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), "--", to]).status().unwrap();
    assert!(sent.success(), "SIG{name} could not be sent to {to}");
}

impl Millrace {
    /// As `MILLRACE_BIN` and `MILLRACE_DATA` say.
    pub fn from_env() -> Self {
        Self {
            program: PathBuf::from(variable("MILLRACE_BIN")).join("millrace"),
            data: PathBuf::from(variable("MILLRACE_DATA")),
        }
    }

    /// The same program with another data folder.
    pub fn with_data(&self, data: PathBuf) -> Self {
        Self { program: self.program.clone(), data }
    }

    /// The data folder.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// A file of the data folder.
    #[track_caller]
    pub fn read(&self, name: &str) -> String {
        let file = self.data.join(name);
        std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
    }

    /// `millrace ARGS..`, to be run.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--data").arg(&self.data).args(args);
        command
    }

    /// Runs `millrace ARGS..`, with `input` typed in.
    #[track_caller]
    pub fn output(&self, args: &[&str], env: &[(&str, &str)], input: &str) -> Said {
        let mut child = self
            .command(args)
            .envs(env.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{} can't be run: {e}", self.program.display()));
        // One that reads nothing may have ended already.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Said { good: output.status.success(), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// Runs `millrace ARGS..` and returns what it prints.
    #[track_caller]
    pub fn run(&self, args: &[&str], env: &[(&str, &str)]) -> String {
        let Said { good, out, err } = self.output(args, env, "");
        assert!(good, "millrace {args:?} failed\n{out}{err}");
        out
    }

    /// Runs `millrace ARGS..`, which must fail, and returns what it says.
    #[track_caller]
    pub fn fails(&self, args: &[&str]) -> Said {
        let said = self.output(args, &[], "");
        assert!(!said.good, "millrace {args:?} did not fail\n{}{}", said.out, said.err);
        said
    }

    /// Process ids of the components that run, by name.
    #[track_caller]
    pub fn pids(&self) -> BTreeMap<String, u32> {
        let status = self.status();
        let components = status["components"].as_array().expect("components");
        let running = components.iter().filter(|c| c["state"] == "running");
        running
            .filter_map(|c| Some((c["name"].as_str()?.to_owned(), u32::try_from(c["pid"].as_u64()?).ok()?)))
            .collect()
    }

    /// `status --json`.
    #[track_caller]
    pub fn status(&self) -> Value {
        serde_json::from_str(&self.run(&["status", "--json"], &[])).unwrap()
    }
}
