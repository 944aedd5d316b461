use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use millrace_wire::api::{JobView, Listing, ParamsView};
use millrace_wire::telemetry::WorkerState;
use millrace_wire::topic;
use serde_json::{Map, Value, json};

use crate::{Api, Kafka, Millrace, Search, eventually, signal, variable};

/// Tests break things, so they take turns.
static TURN: Mutex<()> = Mutex::new(());
/// Signing in is rate-limited: once is enough.
static ADMIN: OnceLock<Api> = OnceLock::new();

/// The running cluster, for one test at a time. Set by the environment:
///
/// | variable | what |
/// |---|---|
/// | `MILLRACE_DATA` | the data folder, with `env` and `librdkafka.properties` |
/// | `MILLRACE_URL` | the gateway |
/// | `MILLRACE_ADMIN_PASSWORD` | the admin's password |
/// | `MILLRACE_BIN` | folder of the program `millrace` |
pub struct Cluster {
    /// The admin.
    pub api: Api,
    /// A foreign Kafka client.
    pub kafka: Kafka,
    millrace: Millrace,
    env: BTreeMap<String, String>,
    _turn: MutexGuard<'static, ()>,
}

impl Cluster {
    /// Waits for its turn and until the cluster is well, with `iot-sensors` alone at 100 events/s and default parameters.
    pub fn exclusive() -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let millrace = Millrace::from_env();
        let url = variable("MILLRACE_URL");
        let env = millrace
            .read("env")
            .lines()
            .filter_map(|l| l.split_once('='))
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect();
        let kafka = Kafka::new(&millrace.read("librdkafka.properties"));
        let api =
            ADMIN.get_or_init(|| Api::sign_in(&url, "admin", &variable("MILLRACE_ADMIN_PASSWORD"))).clone();
        let cluster = Self { api, kafka, millrace, env, _turn: turn };
        cluster.wait_until_well(Duration::from_secs(120));
        cluster.api.set_rate(100.0);
        for other in [topic::TRANSACTIONS, topic::ORDERS, topic::USER_EVENTS, topic::SYSTEM_METRICS] {
            cluster.api.set_rate_of(other, 0.0);
        }
        cluster.default_params();
        cluster
    }

    /// Whatever a test before has left, in every job.
    fn default_params(&self) {
        for job in self.api.get("/jobs").expect(200).json::<Listing<JobView>>().items {
            let view: ParamsView = self.api.get(&format!("/jobs/{}/params", job.id)).expect(200).json();
            let properties = view.schema["properties"].as_object().expect("parameters");
            let default =
                |(name, property): (&String, &Value)| Some((name.clone(), property.get("default")?.clone()));
            let defaults: Map<String, Value> = properties.iter().filter_map(default).collect();
            if view.params != defaults {
                self.api.set_params(&job.id, &Value::Object(defaults));
            }
        }
    }

    /// Waits until nothing is missing.
    #[track_caller]
    pub fn wait_until_well(&self, deadline: Duration) {
        eventually("the cluster is well", deadline, || {
            let overview = self.api.overview();
            let running =
                |w: &millrace_wire::live::WorkerGauge| w.state == WorkerState::Running && w.age_ms < 3_000;
            let partitions: usize =
                overview.workers.iter().filter(|w| running(w)).map(|w| w.partitions.len()).sum();
            let all = usize::try_from(topic::PARTITIONS).unwrap();
            if overview.problems.is_empty() && overview.brokers_up == 3 && partitions == all {
                Ok(())
            } else {
                let workers: Vec<_> =
                    overview.workers.iter().map(|w| (&w.component, &w.state, &w.partitions)).collect();
                Err(format!("{:?}, {} brokers, {workers:?}", overview.problems, overview.brokers_up))
            }
        });
    }

    /// Stops the generator and waits until everything written has been processed and committed.
    #[track_caller]
    pub fn quiet(&self) {
        self.api.set_rate(0.0);
        self.drained(Duration::from_secs(90));
    }

    /// Waits until the processor has committed everything that was written.
    #[track_caller]
    pub fn drained(&self, deadline: Duration) {
        eventually("the processor has no lag", deadline, || {
            match self.kafka.lag(&topic::group("sensors"), topic::IOT_SENSORS) {
                0 => Ok(()),
                lag => Err(format!("lag {lag}")),
            }
        });
    }

    /// The folder in which a worker keeps state on disk.
    pub fn local_state(&self, worker: &str) -> PathBuf {
        self.millrace.data().join("state").join(worker)
    }

    /// Elasticsearch.
    pub fn search(&self) -> Search {
        let value =
            |name: &str| self.env.get(name).unwrap_or_else(|| panic!("{name} is missing in env")).as_str();
        Search::new(
            value("ELASTICSEARCH_URL"),
            value("ELASTICSEARCH_USERNAME"),
            value("ELASTICSEARCH_PASSWORD"),
            value("ELASTICSEARCH_INDEX_PREFIX"),
        )
    }

    /// The path of a file in the data folder.
    pub fn file(&self, name: &str) -> String {
        self.millrace.data().join(name).display().to_string()
    }

    /// Runs `millrace ARGS..` on this cluster and returns what it prints.
    #[track_caller]
    pub fn millrace(&self, args: &[&str], env: &[(&str, &str)]) -> String {
        self.millrace.run(args, env)
    }

    /// Runs `millrace ARGS..`, which must fail, and returns what it says of that.
    #[track_caller]
    pub fn millrace_fails(&self, args: &[&str]) -> String {
        self.millrace.fails(args).err
    }

    /// Starts `millrace ARGS..`, which goes on until it is killed, with its output in a pipe.
    #[track_caller]
    pub fn follow(&self, args: &[&str]) -> Child {
        let mut command = self.millrace.command(args);
        command.stdout(Stdio::piped()).spawn().unwrap_or_else(|e| panic!("{command:?} can't be run: {e}"))
    }

    /// Process ids of the components that run, by name.
    #[track_caller]
    pub fn pids(&self) -> BTreeMap<String, u32> {
        self.millrace.pids()
    }

    /// Names of the workers.
    pub fn workers(&self) -> Vec<String> {
        self.pids().into_keys().filter(|name| name.starts_with("processor-")).collect()
    }

    /// Kills a component with SIGKILL, behind its supervisor's back, and waits until the supervisor has started it
    /// again.
    #[track_caller]
    pub fn kill_9(&self, component: &str) {
        let pid = self.pids().get(component).copied().unwrap_or_else(|| panic!("{component} is not running"));
        signal("KILL", &pid.to_string());
        eventually(&format!("{component} is started again"), Duration::from_secs(60), || {
            match self.pids().get(component) {
                Some(new) if *new != pid => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
    }
}

impl Drop for Cluster {
    /// Leaves the demo as it was found; after a failed test only as far as that goes without failing again.
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ =
                self.api.try_send("PUT", "/api/v1/producers/iot-sensors/rate", Some(&json!({"rate": 100.0})));
        } else {
            self.default_params();
            self.api.set_rate(100.0);
        }
    }
}
