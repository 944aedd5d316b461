//! One Elasticsearch node with security on: its settings, its first user, its program.

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use tokio::process::Command;

use crate::account::Account;
use crate::credentials::{Credentials, ELASTICSEARCH_USER};
use crate::fetch::Services;
use crate::layout::{Layout, write_private};
use crate::ports::Ports;
use crate::preflight::Java;
use crate::process::{FOREIGN_ENV, Program};

/// JVM options; the ones of the archive write a GC log into a folder that is read-only here. Without a temporary
/// folder of its own, Elasticsearch refuses settings that lie somewhere in /tmp.
const JVM_OPTIONS: &str = "-Xms512m
-Xmx512m
-XX:+UseSerialGC
-XX:TieredStopAtLevel=1
-XX:+ExitOnOutOfMemoryError
-XX:-UsePerfData
-Djava.io.tmpdir=${ES_TMPDIR}
";

/// Everything to standard output: the supervisor writes it to a file.
const LOG4J2: &str = "status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = [%d{ISO8601}][%-5p][%-25c{1.}] %m%n
rootLogger.level = info
rootLogger.appenderRef.console.ref = console
";

/// `elasticsearch.yml`.
pub fn settings(dir: &Path, ports: Ports) -> String {
    format!(
        "cluster.name: millrace
node.name: millrace
path.data: {data}
path.logs: {logs}
discovery.type: single-node
network.host: {host}
http.port: {http}
transport.port: {transport}
xpack.security.enabled: true
xpack.security.transport.ssl.enabled: false
xpack.security.http.ssl.enabled: false
xpack.license.self_generated.type: basic
cluster.routing.allocation.disk.threshold_enabled: false
action.auto_create_index: true
",
        data = dir.join("data").display(),
        logs = dir.join("logs").display(),
        host = ports.host("elasticsearch"),
        http = ports.elasticsearch(),
        transport = ports.elasticsearch_transport(),
    )
}

/// Writes the settings of a start into the node's folder `dir`.
pub fn configure(dir: &Path, ports: Ports) -> Result<()> {
    for name in ["config", "data", "logs", "tmp"] {
        fs::create_dir_all(dir.join(name)).with_context(|| format!("cannot write {}", dir.display()))?;
    }
    let config = dir.join("config");
    write_private(&config.join("elasticsearch.yml"), &settings(dir, ports))?;
    write_private(&config.join("jvm.options"), JVM_OPTIONS)?;
    write_private(&config.join("log4j2.properties"), LOG4J2)?;
    // elasticsearch-users adds to its files and refuses to make them.
    for file in ["users", "users_roles"] {
        fs::OpenOptions::new().append(true).create(true).mode(0o600).open(config.join(file))?;
    }
    Ok(())
}

/// Where Elasticsearch keeps its files: in the data folder if `account` can get there, else outside of it.
pub fn home(layout: &Layout, account: Option<&Account>) -> PathBuf {
    let inside = layout.root().join("elasticsearch");
    if account.is_none_or(|account| account.reaches(layout.root())) {
        return inside;
    }
    let digest = Sha256::digest(layout.root().as_os_str().as_encoded_bytes());
    let name: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    Path::new("/var/lib/millrace").join(name).join("elasticsearch")
}

/// A node on disk.
#[derive(Debug, Clone)]
pub struct Elasticsearch {
    dir: PathBuf,
    services: Services,
    java: Java,
    account: Option<Account>,
}

impl Elasticsearch {
    /// The node that keeps its files in `dir`.
    pub fn new(dir: PathBuf, services: Services, java: Java, account: Option<Account>) -> Self {
        Self { dir, services, java, account }
    }

    fn config(&self) -> PathBuf {
        self.dir.join("config")
    }

    /// Writes the settings of this start and, the first time, makes the user.
    pub async fn prepare(&self, ports: Ports, credentials: &Credentials) -> Result<()> {
        configure(&self.dir, ports)?;
        if let Some(account) = &self.account {
            account.own(&self.dir).with_context(|| format!("cannot own {}", self.dir.display()))?;
        }
        let users = self.config().join("users");
        if fs::read_to_string(users).is_ok_and(|users| users.contains(ELASTICSEARCH_USER)) {
            return Ok(());
        }
        self.add_user(credentials).await
    }

    async fn add_user(&self, credentials: &Credentials) -> Result<()> {
        let program = self.program("bin/elasticsearch-users");
        let mut command = Command::new(&program.path);
        command.args(["useradd", ELASTICSEARCH_USER, "-r", "superuser"]);
        // Its password comes by standard input, because command lines are visible to every user of the machine.
        for name in FOREIGN_ENV {
            command.env_remove(name);
        }
        command.envs(program.env).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.current_dir(program.dir).kill_on_drop(true);
        if let Some(account) = &self.account {
            command.uid(account.uid.as_raw()).gid(account.gid.as_raw());
        }
        let mut child = command.spawn().context("cannot run elasticsearch-users")?;
        if let Some(mut stdin) = child.stdin.take() {
            use tokio::io::AsyncWriteExt;
            let password = &credentials.elasticsearch_password;
            stdin.write_all(format!("{password}\n{password}\n").as_bytes()).await?;
        }
        let output = child.wait_with_output().await?;
        if !output.status.success() {
            let text = [output.stdout, output.stderr].concat();
            bail!("elasticsearch-users could not add its user: {}", String::from_utf8_lossy(&text).trim());
        }
        Ok(())
    }

    fn program(&self, name: &str) -> Program {
        // For a machine that is much smaller or larger.
        let more = std::env::var_os("MILLRACE_ELASTICSEARCH_JVM").unwrap_or_default();
        let env = [
            ("ES_JAVA_OPTS", PathBuf::from(more)),
            ("ES_JAVA_HOME", self.java.home.clone()),
            ("ES_PATH_CONF", self.config()),
            ("ES_TMPDIR", self.dir.join("tmp")),
            ("HOME", self.dir.clone()),
            ("CLI_JAVA_OPTS", PathBuf::from("-Xmx64m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC")),
        ];
        Program {
            path: self.services.elasticsearch().join(name),
            args: Vec::new(),
            env: env.into_iter().map(|(key, value)| (key.to_owned(), value.display().to_string())).collect(),
            account: self.account.clone(),
            dir: self.dir.clone(),
        }
    }

    /// The server; its script starts a small JVM, which starts the large one.
    pub fn server(&self) -> Program {
        self.program("bin/elasticsearch")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_follow_the_ports() {
        let text = settings(Path::new("/data/elasticsearch"), Ports::new(Some(21000)));
        assert!(text.contains("\nhttp.port: 21007\n") && text.contains("\ntransport.port: 21008\n"));
        assert!(text.contains("\npath.data: /data/elasticsearch/data\n"));
        assert!(text.contains("\nnetwork.host: 127.0.0.1\n"));
    }

    #[test]
    fn an_unprivileged_launcher_keeps_everything_in_the_data_folder() {
        let layout = Layout::new(Path::new("/nowhere/data")).unwrap();
        assert_eq!(home(&layout, None), Path::new("/nowhere/data/elasticsearch"));
    }
}
