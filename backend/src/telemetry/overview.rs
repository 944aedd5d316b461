//! Gauges from the state.

use std::collections::BTreeMap;

use millrace_wire::live::{
    AppGauge, ComponentGauge, IndexerGauge, JobGauge, Overview, StreamGauge, WorkerGauge,
};
use millrace_wire::telemetry::{Body, Component, ComponentState};

use super::state::{State, Tracked};

/// What gauges of apps are about.
const MINUTE_MS: i64 = 60_000;

impl State {
    /// What telemetry knows of the overview; Kafka's part (groups, brokers) and the problems are the caller's.
    pub fn overview(&self, now_ms: i64) -> Overview {
        let mut overview = Overview {
            at_ms: now_ms,
            apps: self.app_gauges(now_ms),
            jobs: self.job_gauges(now_ms),
            latency: self.latency(now_ms),
            produced_total: self.total("produced/"),
            consumed_total: self.total("task/"),
            dead_total: self.total("dead/"),
            late_total: self.total("late/"),
            produced_per_s: self.rate("produced/", now_ms),
            consumed_per_s: self.rate("task/", now_ms),
            emitted_per_s: self.rate("emitted/", now_ms),
            ..Overview::default()
        };
        for (name, tracked) in self.shown(now_ms) {
            let age_ms = tracked.age(now_ms);
            match &tracked.frame.body {
                Body::Producers { streams } => overview.streams.extend(streams.iter().map(|s| StreamGauge {
                    stream: s.stream.clone(),
                    target_rate: s.target_rate,
                    rate: tracked.rate(&format!("produced/{}", s.stream), now_ms),
                    scenario: s.scenario.clone(),
                    age_ms,
                    error: s.error.clone(),
                })),
                Body::Processor(_) => overview.workers.push(worker(name, tracked, now_ms)),
                Body::Indexer(indexer) => {
                    overview.indexer = Some(IndexerGauge {
                        indexed_per_s: tracked.rate("indexed", now_ms),
                        indexed_total: indexer.indexed,
                        rejected_total: indexer.rejected,
                        error: indexer.error.clone(),
                        age_ms,
                    });
                }
                Body::Launcher { components } => {
                    overview.components.extend(components.iter().map(|component| ComponentGauge {
                        cpu: tracked.rate(&format!("child-cpu/{}/", component.name), now_ms),
                        component: component.clone(),
                        age_ms,
                    }));
                }
            }
        }
        if overview.components.is_empty() {
            overview.components = self.heard(now_ms);
        }
        overview
    }

    fn app_gauges(&self, now_ms: i64) -> Vec<AppGauge> {
        let gain = |kind: &str, app: &str| self.gain(&format!("{kind}/{app}/"), now_ms - MINUTE_MS, now_ms);
        let share = |part: f64, of: f64| (of > 0.0).then(|| (part / of).min(1.0));
        let mut apps: Vec<&str> = self.jobs().map(|job| job.app.as_str()).collect();
        apps.dedup();
        let gauge = |app: &str| {
            let alerts = self.jobs().filter(|job| job.app == app && job.alerts);
            let runs = |tracked: &&Tracked| match &tracked.frame.body {
                Body::Processor(processor) => processor.apps.iter().any(|known| known.name == app),
                _ => false,
            };
            let workers = self.shown(now_ms).map(|(_, tracked)| tracked).filter(runs);
            let restarts: f64 = workers.map(|w| w.gain("restarts", now_ms - MINUTE_MS, now_ms)).sum();
            AppGauge {
                app: app.to_owned(),
                records_per_min: gain("task", app),
                alerts_per_min: alerts.map(|job| gain("emitted", &format!("{app}/{}", job.job))).sum(),
                completeness: share(gain("tardy", app), gain("windowed", app)).map(|tardy| 1.0 - tardy),
                late_share: share(gain("late", app), gain("concerned", app)),
                dead_share: share(gain("dead", app), gain("task", app)),
                errors_per_min: restarts + gain("violations", app),
            }
        };
        apps.into_iter().map(gauge).collect()
    }

    /// Containers have no supervisor that watches processes: the ones that are heard speak for themselves.
    fn heard(&self, now_ms: i64) -> Vec<ComponentGauge> {
        let gauge = |(name, tracked): (&String, &Tracked)| ComponentGauge {
            cpu: tracked.rate("cpu", now_ms),
            component: Component {
                name: name.clone(),
                process: tracked.frame.process,
                state: ComponentState::Running,
                ..Component::default()
            },
            age_ms: tracked.age(now_ms),
        };
        self.living(now_ms).map(gauge).collect()
    }

    fn job_gauges(&self, now_ms: i64) -> Vec<JobGauge> {
        let mut gauges: BTreeMap<(String, String), JobGauge> = self
            .jobs()
            .map(|d| {
                let gauge = JobGauge {
                    app: d.app.clone(),
                    job: d.job.clone(),
                    params_version: i64::MAX,
                    ..Default::default()
                };
                ((d.app.clone(), d.job.clone()), gauge)
            })
            .collect();
        for (_, tracked) in self.shown(now_ms) {
            let Body::Processor(processor) = &tracked.frame.body else { continue };
            for app in &processor.apps {
                let running = app.tasks.iter().filter(|task| !task.idle);
                let slowest = running.filter_map(|task| Some((task.watermark_ms?, task.partition))).min();
                for job in &app.jobs {
                    let gauge =
                        gauges.entry((app.name.clone(), job.name.clone())).or_insert_with(|| JobGauge {
                            app: app.name.clone(),
                            job: job.name.clone(),
                            params_version: i64::MAX,
                            ..Default::default()
                        });
                    let id = format!("{}/{}/", app.name, job.name);
                    gauge.backend = app.backend;
                    gauge.records_per_s += tracked.rate(&format!("concerned/{id}"), now_ms);
                    gauge.emitted_per_s += tracked.rate(&format!("emitted/{id}"), now_ms);
                    gauge.pending += job.pending;
                    gauge.violations += job.violations;
                    gauge.params_version = gauge.params_version.min(job.params_version);
                    let before = gauge.watermark_ms.zip(gauge.watermark_partition);
                    let slowest = before.into_iter().chain(slowest).min();
                    (gauge.watermark_ms, gauge.watermark_partition) = slowest.unzip();
                }
            }
        }
        gauges
            .into_values()
            .map(|mut gauge| {
                let id = format!("{}/{}/", gauge.app, gauge.job);
                gauge.emitted_total = self.total(&format!("emitted/{id}"));
                gauge.late_total = self.total(&format!("late/{id}"));
                gauge.watermark_lag_ms = gauge.watermark_ms.map(|w| now_ms - w);
                if gauge.params_version == i64::MAX {
                    gauge.params_version = -1;
                }
                gauge
            })
            .collect()
    }
}

fn worker(name: &str, tracked: &Tracked, now_ms: i64) -> WorkerGauge {
    let Body::Processor(processor) = &tracked.frame.body else { return WorkerGauge::default() };
    let mut partitions: Vec<i32> =
        processor.apps.iter().flat_map(|a| &a.tasks).map(|t| t.partition).collect();
    partitions.sort_unstable();
    partitions.dedup();
    WorkerGauge {
        component: name.to_owned(),
        state: processor.state.clone(),
        partitions,
        records_per_s: tracked.rates("task/", now_ms),
        records_out_per_s: tracked.rate("out/records", now_ms),
        bytes_in_per_s: tracked.rates("bytes/", now_ms),
        bytes_out_per_s: tracked.rate("out/bytes", now_ms),
        time: processor.time,
        transaction: processor.transaction,
        restarts: processor.restarts,
        commit_ms: processor.commit_ms,
        commits_per_s: tracked.rate("commits", now_ms),
        phases: processor
            .apps
            .iter()
            .filter_map(|app| Some((app.name.clone(), app.phases.clone()?)))
            .collect(),
        age_ms: tracked.age(now_ms),
    }
}
