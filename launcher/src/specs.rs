//! Every component of the cluster: what it runs, with which settings, in which order it stops.

use std::path::{Path, PathBuf};
use std::time::Duration;

use millrace_wire::telemetry::AppBackend;

use crate::component::Spec;
use crate::connection;
use crate::credentials::{Credentials, ELASTICSEARCH_USER};
use crate::elasticsearch::Elasticsearch;
use crate::fetch::Services;
use crate::http;
use crate::kafka;
use crate::layout::Layout;
use crate::ports::{BROKERS, Ports};
use crate::preflight::Java;
use crate::process::Program;
use crate::ready::Ready;

/// Names and ports of every component, brokers first.
pub fn catalogue(ports: Ports, workers: u16) -> Vec<(String, Vec<u16>)> {
    let mut all: Vec<(String, Vec<u16>)> =
        (1..=BROKERS).map(|n| (format!("kafka-{n}"), vec![ports.broker(n), ports.controller(n)])).collect();
    all.push(("elasticsearch".to_owned(), vec![ports.elasticsearch(), ports.elasticsearch_transport()]));
    all.extend((1..=workers).map(|n| (format!("processor-{n}"), vec![ports.processor(n)])));
    all.push(("indexer".to_owned(), vec![ports.indexer()]));
    all.push(("producers".to_owned(), vec![ports.producers()]));
    all.push(("gateway".to_owned(), vec![ports.gateway()]));
    all
}

/// Whether `--only` asks for a component: by its name, or by the name without the number.
pub fn wanted(only: &[String], name: &str) -> bool {
    let kind = name.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches('-');
    only.is_empty() || only.iter().any(|wanted| wanted == name || wanted == kind)
}

/// Components that stop together, in the order of stopping: sources first, Kafka last.
pub fn stop_stage(name: &str) -> usize {
    match name {
        "producers" => 0,
        "gateway" => 1,
        "indexer" => 2,
        "elasticsearch" => 4,
        _ if name.starts_with("kafka-") => 5,
        _ => 3,
    }
}

/// Number of stages.
pub const STOP_STAGES: usize = 6;

/// What components are built from.
#[derive(Debug)]
pub struct Plan<'a> {
    /// The data folder.
    pub layout: &'a Layout,
    /// The ports.
    pub ports: Ports,
    /// Worker processes.
    pub workers: u16,
    /// The secrets.
    pub credentials: &'a Credentials,
    /// Kafka and Elasticsearch on disk.
    pub services: &'a Services,
    /// What runs them.
    pub java: &'a Java,
    /// The Elasticsearch node.
    pub elasticsearch: &'a Elasticsearch,
    /// Folder of our own programs.
    pub programs: &'a Path,
    /// The built dashboard.
    pub dashboard: &'a Path,
    /// Where checkpoints are kept.
    pub checkpoints: &'a str,
    /// Where the state of apps is kept.
    pub backends: &'a [AppBackend],
    /// For the page's first user, at the first start.
    pub admin_password: Option<&'a str>,
}

impl Plan<'_> {
    /// Everything.
    pub fn specs(&self) -> Vec<Spec> {
        let mut specs: Vec<Spec> = (1..=BROKERS).map(|n| self.broker(n)).collect();
        specs.push(self.elasticsearch());
        specs.extend((1..=self.workers).map(|n| self.processor(n)));
        specs.extend([self.indexer(), self.producers(), self.gateway()]);
        specs
    }

    fn spec(&self, name: String, mut program: Program, ready: Ready, patience_s: u64) -> Spec {
        // Also of programs that are not ours: by it they are found in `/proc`.
        program.env.push(("MILLRACE_COMPONENT".to_owned(), name.clone()));
        let ports = catalogue(self.ports, self.workers)
            .into_iter()
            .find_map(|(component, ports)| (component == name).then_some(ports))
            .unwrap_or_default();
        let log = self.layout.log(&name);
        Spec { eager: false, name, program, ports, ready, patience: Duration::from_secs(patience_s), log }
    }

    fn broker(&self, n: u16) -> Spec {
        let program = Program {
            path: self.java.program(),
            args: kafka::args(n, self.layout, &self.services.kafka_class_path())
                .into_iter()
                .map(Into::into)
                .collect(),
            env: Vec::new(),
            account: None,
            dir: self.layout.broker(n),
        };
        self.spec(format!("kafka-{n}"), program, Ready::Broker { id: n, port: self.ports.broker(n) }, 30)
    }

    fn elasticsearch(&self) -> Spec {
        let ready = Ready::Http {
            port: self.ports.elasticsearch(),
            path: "/_cluster/health?wait_for_status=yellow&timeout=1s",
            authorization: Some(http::basic(ELASTICSEARCH_USER, &self.credentials.elasticsearch_password)),
        };
        self.spec("elasticsearch".to_owned(), self.elasticsearch.server(), ready, 20)
    }

    /// One of our own programs; `metrics` is where it serves `/health` and `/metrics`.
    fn own(&self, program: &str, args: &[&str], metrics: Option<u16>, env: Vec<(String, String)>) -> Program {
        let mut all = vec![("MILLRACE_LOG_FORMAT".to_owned(), "json".to_owned())];
        all.extend(metrics.map(|port| ("MILLRACE_HTTP_ADDR".to_owned(), format!("127.0.0.1:{port}"))));
        all.extend(connection::kafka_env(self.ports, self.credentials));
        all.extend(env);
        Program {
            path: self.programs.join(program),
            args: args.iter().map(Into::into).collect(),
            env: all,
            account: None,
            dir: self.layout.root().to_owned(),
        }
    }

    fn healthy(port: u16) -> Ready {
        Ready::Http { port, path: "/health", authorization: None }
    }

    fn processor(&self, n: u16) -> Spec {
        let name = format!("processor-{n}");
        let port = self.ports.processor(n);
        let mut env = vec![
            ("MILLRACE_CHECKPOINT_URL".to_owned(), self.checkpoints.to_owned()),
            ("MILLRACE_STATE_DIR".to_owned(), self.layout.local_states().join(&name).display().to_string()),
        ];
        if !self.backends.is_empty() {
            let chosen: Vec<String> = self.backends.iter().map(ToString::to_string).collect();
            env.push(("MILLRACE_STATE_BACKEND".to_owned(), chosen.join(",")));
        }
        let program = self.own("millrace-processor", &["run"], Some(port), env);
        Spec { eager: true, ..self.spec(name, program, Self::healthy(port), 10) }
    }

    fn indexer(&self) -> Spec {
        let port = self.ports.indexer();
        let env = connection::elasticsearch_env(self.ports, self.credentials);
        let program = self.own("millrace-processor", &["index"], Some(port), env);
        self.spec("indexer".to_owned(), program, Self::healthy(port), 10)
    }

    fn producers(&self) -> Spec {
        let port = self.ports.producers();
        let program = self.own("millrace-producers", &[], Some(port), Vec::new());
        self.spec("producers".to_owned(), program, Self::healthy(port), 10)
    }

    fn gateway(&self) -> Spec {
        let port = self.ports.gateway();
        let mut env = connection::elasticsearch_env(self.ports, self.credentials);
        env.extend([
            ("MILLRACE_LISTEN".to_owned(), format!("127.0.0.1:{port}")),
            ("MILLRACE_DATABASE_URL".to_owned(), self.layout.gateway_database_url()),
            ("MILLRACE_STATIC_DIR".to_owned(), self.dashboard.display().to_string()),
            ("MILLRACE_SUPERVISOR_SOCKET".to_owned(), self.layout.socket().display().to_string()),
        ]);
        if let Some(password) = self.admin_password {
            env.push(("MILLRACE_ADMIN_PASSWORD".to_owned(), password.to_owned()));
        }
        let program = self.own("millrace-gateway", &[], None, env);
        self.spec("gateway".to_owned(), program, Self::healthy(port), 10)
    }
}

/// The built dashboard: `$MILLRACE_DASHBOARD_DIR`, else where the repository or a package has it.
pub fn dashboard(programs: &Path) -> PathBuf {
    if let Some(dir) = std::env::var_os("MILLRACE_DASHBOARD_DIR") {
        return PathBuf::from(dir);
    }
    let packaged = programs.join("dashboard");
    if packaged.join("index.html").exists() { packaged } else { programs.join("../../dashboard/dist") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_takes_names_and_kinds() {
        let only = ["kafka".to_owned(), "processor-2".to_owned()];
        let names: Vec<_> = catalogue(Ports::new(None), 2).into_iter().map(|(name, _)| name).collect();
        let chosen: Vec<_> = names.iter().filter(|name| wanted(&only, name)).collect();
        assert_eq!(chosen, ["kafka-1", "kafka-2", "kafka-3", "processor-2"]);
        assert!(names.iter().all(|name| wanted(&[], name)));
    }

    #[test]
    fn sources_stop_first_and_kafka_last() {
        let mut names: Vec<_> = catalogue(Ports::new(None), 1).into_iter().map(|(name, _)| name).collect();
        names.sort_by_key(|name| stop_stage(name));
        assert_eq!(names.first().map(String::as_str), Some("producers"));
        assert!(names.iter().skip(5).all(|name| name.starts_with("kafka-")), "{names:?}");
        assert!(names.iter().all(|name| stop_stage(name) < STOP_STAGES));
    }
}
