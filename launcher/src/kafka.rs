//! Three combined brokers and controllers: their settings, the first format, the command line.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use tokio::process::Command;

use crate::credentials::{CONTROLLER_USER, Credentials, KAFKA_USER};
use crate::fetch::Services;
use crate::layout::{Layout, write_private};
use crate::ports::{BROKERS, Ports};
use crate::preflight::Java;

/// JVM flags of a broker. Both compilers: until it is ready that costs 10.5 s of CPU and not 5.7 s, but then the three take
/// 0.8 and not 1.2 of a core for 100 events/s, and at 5,000 the median latency is half.
const JVM: [&str; 10] = [
    "-Xms256m",
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:+ExitOnOutOfMemoryError",
    "-XX:-UsePerfData",
    "-Djava.awt.headless=true",
    "-Djava.net.preferIPv4Stack=true",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
    "-Dorg.slf4j.simpleLogger.showThreadName=false",
];

/// Broker `n`'s `server.properties`.
pub fn properties(n: u16, layout: &Layout, ports: Ports, credentials: &Credentials) -> String {
    let (broker, controller) = (ports.broker_address(n), ports.controller_address(n));
    let voters: Vec<_> = (1..=BROKERS).map(|n| format!("{n}@{}", ports.controller_address(n))).collect();
    let (voters, data) = (voters.join(","), layout.broker(n).join("data"));
    let Credentials { kafka_password, controller_password, .. } = credentials;
    format!(
        r#"node.id={n}
process.roles=broker,controller
controller.quorum.voters={voters}
listeners=SASL_PLAINTEXT://{broker},CONTROLLER://{controller}
controller.listener.names=CONTROLLER
inter.broker.listener.name=SASL_PLAINTEXT
listener.security.protocol.map=CONTROLLER:SASL_PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT
sasl.enabled.mechanisms=SCRAM-SHA-512
sasl.mechanism.inter.broker.protocol=SCRAM-SHA-512
sasl.mechanism.controller.protocol=PLAIN
listener.name.controller.sasl.enabled.mechanisms=PLAIN
listener.name.controller.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required username="{CONTROLLER_USER}" password="{controller_password}" user_{CONTROLLER_USER}="{controller_password}";
listener.name.sasl_plaintext.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required username="{KAFKA_USER}" password="{kafka_password}";
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:{KAFKA_USER};User:{CONTROLLER_USER}
log.dirs={data}

# Topics are created from the catalogue only.
auto.create.topics.enable=false
num.partitions=6
default.replication.factor=3
min.insync.replicas=2
offsets.topic.replication.factor=3
offsets.topic.num.partitions=12
transaction.state.log.replication.factor=3
transaction.state.log.min.isr=2
transaction.state.log.num.partitions=12

# A small machine where failures are watched: notice them soon.
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
replica.lag.time.max.ms=10000
replica.socket.timeout.ms=3000
request.timeout.ms=4000
socket.connection.setup.timeout.ms=1000
socket.connection.setup.timeout.max.ms=2000
# Not at once: a broker that leads before it has compiled its code holds everybody up.
leader.imbalance.check.interval.seconds=30
leader.imbalance.per.broker.percentage=0
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
transaction.abort.timed.out.transaction.cleanup.interval.ms=2000
num.network.threads=2
num.io.threads=4
log.cleaner.dedupe.buffer.size=16777216
# Indexes are mapped into memory, and what a partition's first entries cost grows with their files: with the usual 10 MiB, the
# brokers spent half a core on them for 15 s after the first records.
log.index.size.max.bytes=1048576
# What is not in a closed segment is read again after a kill, and before a coordinator goes on.
log.segment.bytes=33554432
offsets.topic.segment.bytes=4194304
transaction.state.log.segment.bytes=4194304
"#,
        data = data.display()
    )
}

/// Writes every broker's settings; they follow the ports of this start.
pub fn configure(layout: &Layout, ports: Ports, credentials: &Credentials) -> Result<()> {
    for n in 1..=BROKERS {
        let dir = layout.broker(n);
        fs::create_dir_all(dir.join("data")).with_context(|| format!("cannot create {}", dir.display()))?;
        write_private(&config(layout, n), &properties(n, layout, ports, credentials))?;
    }
    Ok(())
}

fn config(layout: &Layout, n: u16) -> PathBuf {
    layout.broker(n).join("server.properties")
}

/// Whether broker `n`'s storage has been formatted.
pub fn is_formatted(layout: &Layout, n: u16) -> bool {
    layout.broker(n).join("data/meta.properties").exists()
}

/// Arguments of `java` that format broker `n`'s storage, with the first user in it, unless that has been done.
pub fn format_args(n: u16, layout: &Layout, class_path: &str, credentials: &Credentials) -> Vec<String> {
    let config = config(layout, n).display().to_string();
    let user = format!("SCRAM-SHA-512=[name={KAFKA_USER},password={}]", credentials.kafka_password);
    let jvm = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-XX:-UsePerfData"];
    let tool = ["-cp", class_path, "kafka.tools.StorageTool", "format", "--ignore-formatted"];
    let options = ["--cluster-id", &credentials.cluster_id, "--config", &config, "--add-scram", &user];
    jvm.iter().chain(&tool).chain(&options).map(|&arg| arg.to_owned()).collect()
}

/// Arguments of `java` for broker `n`.
pub fn args(n: u16, layout: &Layout, class_path: &str) -> Vec<String> {
    // For a machine that is much smaller or larger; later flags win.
    let more = std::env::var("MILLRACE_KAFKA_JVM").unwrap_or_default();
    let config = config(layout, n).display().to_string();
    let program = ["-cp", class_path, "kafka.Kafka", &config];
    JVM.into_iter().chain(more.split_ascii_whitespace()).chain(program).map(str::to_owned).collect()
}

/// Writes arguments as a file for `java @FILE`, because command lines are visible to every user of the machine.
pub fn write_args(file: &Path, args: &[String]) -> Result<()> {
    let text: String = args.iter().map(|arg| format!("\"{}\"\n", arg.replace('\\', "\\\\"))).collect();
    write_private(file, &text)
}

/// Formats broker `n`'s storage.
pub async fn format(
    n: u16,
    layout: &Layout,
    services: &Services,
    java: &Java,
    credentials: &Credentials,
) -> Result<()> {
    let file = layout.broker(n).join("format.args");
    write_args(&file, &format_args(n, layout, &services.kafka_class_path(), credentials))?;
    let output = Command::new(java.program())
        .arg(format!("@{}", file.display()))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await;
    fs::remove_file(&file)?;
    let output = output.context("cannot run java")?;
    if !output.status.success() {
        let text = [output.stdout, output.stderr].concat();
        bail!("formatting kafka-{n} failed: {}", String::from_utf8_lossy(&text).trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_knows_its_own_ports_and_every_voter() {
        let layout = Layout::new(Path::new("/data")).unwrap();
        let text = properties(2, &layout, Ports::new(Some(21000)), &Credentials::generate());
        for line in [
            "node.id=2",
            "controller.quorum.voters=1@127.0.0.1:21004,2@127.0.0.1:21005,3@127.0.0.1:21006",
            "listeners=SASL_PLAINTEXT://127.0.0.1:21002,CONTROLLER://127.0.0.1:21005",
            "log.dirs=/data/kafka-2/data",
            "auto.create.topics.enable=false",
            "min.insync.replicas=2",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn on_a_host_of_its_name_only_the_addresses_differ() {
        let (layout, credentials) = (Layout::new(Path::new("/data")).unwrap(), Credentials::generate());
        let native = properties(2, &layout, Ports::new(None), &credentials);
        let named = properties(2, &layout, Ports::on_named_hosts(), &credentials);
        let differ: Vec<_> =
            named.lines().zip(native.lines()).filter(|(a, b)| a != b).map(|(a, _)| a).collect();
        assert_eq!(
            differ,
            [
                "controller.quorum.voters=1@kafka-1:9192,2@kafka-2:9193,3@kafka-3:9194",
                "listeners=SASL_PLAINTEXT://kafka-2:9093,CONTROLLER://kafka-2:9193",
            ]
        );
    }
}
