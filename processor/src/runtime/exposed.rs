//! What a worker's `/health` and `/metrics` say. The metrics are listed in docs/architecture.md.

use millrace_core::invariant::Violation;
use millrace_service::http::Observable;
use millrace_service::metrics::{Exposition, Kind};
use millrace_wire::telemetry::WorkerState;

use super::status::{AppFigures, Inner, Status};

impl Observable for Status {
    fn health(&self) -> Result<(), String> {
        self.with(|inner| match inner.state() {
            WorkerState::Running => Ok(()),
            WorkerState::Starting => Err("starting: connecting to Kafka and joining the group".to_owned()),
            WorkerState::Restoring { records } => {
                Err(format!("restoring state: {records} changelog records so far"))
            }
            WorkerState::Retrying { error } => Err(format!("restarting after an error: {error}")),
            WorkerState::Failed { error } => Err(format!("failed: {error}")),
        })
    }

    fn metrics(&self, out: &mut Exposition) {
        self.with(|inner| {
            for app in &inner.apps {
                tasks(app, out);
                jobs(app, out);
                recovery(app, out);
            }
            worker(inner, out);
        });
    }
}

fn tasks(app: &AppFigures, out: &mut Exposition) {
    use Kind::{Counter, Gauge};
    for (partition, task) in &app.tasks {
        let partition = partition.to_string();
        let labels = [("app", app.name), ("partition", partition.as_str())];
        let mut add = |name, kind, help, value| out.add(name, kind, help, &labels, value);
        add("millrace_task_numRecordsIn", Counter, "Source records committed.", task.records as f64);
        add("millrace_task_numBytesIn", Counter, "Bytes of their values.", task.bytes as f64);
        add("millrace_task_deadLetters", Counter, "Malformed records.", task.dead as f64);
        add("millrace_task_stateEntries", Gauge, "Entries of keyed state.", task.state_entries as f64);
        if let Some(watermark) = task.watermark_ms {
            let help = "Event-time watermark, epoch ms.";
            add("millrace_task_currentInputWatermark", Gauge, help, watermark as f64);
        }
    }
    for (partition, checkpoint) in &app.last_checkpoints {
        let partition = partition.to_string();
        let labels = [("app", app.name), ("partition", partition.as_str())];
        let mut add = |name, help, value| out.add(name, Gauge, help, &labels, value);
        let size = "State in the last checkpoint, bytes.";
        add("millrace_task_lastCheckpointSize", size, checkpoint.bytes as f64);
        let written = "What was new in it, bytes.";
        add("millrace_task_lastCheckpointWritten", written, checkpoint.written_bytes as f64);
        let duration = "Its duration, s.";
        add("millrace_task_lastCheckpointDuration", duration, checkpoint.duration_ms / 1_000.0);
    }
}

fn jobs(app: &AppFigures, out: &mut Exposition) {
    use Kind::{Counter, Gauge};
    for job in &app.jobs {
        let labels = [("app", app.name), ("job", job.name.as_str())];
        let mut add = |name, kind, help, value: u64| out.add(name, kind, help, &labels, value as f64);
        add("millrace_job_numRecordsIn", Counter, "Records that the job saw.", job.records);
        add("millrace_job_numRecordsOut", Counter, "Results.", job.emitted);
        add("millrace_job_numLateRecordsDropped", Counter, "Records to late-events.", job.late);
        add(
            "millrace_job_pendingRecords",
            Gauge,
            "Records in open windows, patterns and joins.",
            job.pending,
        );
        let help = "Partial matches that a limit of the pattern took, since the app's first start.";
        add("millrace_job_partialMatchesDropped", Gauge, help, job.partial_matches_dropped);
        for violation in Violation::ALL {
            let labels = [("app", app.name), ("job", job.name.as_str()), ("invariant", violation.name())];
            let times = job.violations_by_name.get(violation.name()).copied().unwrap_or_default();
            let help = "Violations of the engine's invariants, by name.";
            out.add("millrace_job_invariantViolations", Counter, help, &labels, times as f64);
        }
    }
}

fn recovery(app: &AppFigures, out: &mut Exposition) {
    let Some(phases) = &app.phases else { return };
    for (phase, ms) in [
        ("detect", phases.detect_ms),
        ("rejoin", Some(phases.rejoin_ms)),
        ("restore", Some(phases.restore_ms)),
        ("catch_up", Some(phases.catch_up_ms)),
    ] {
        let Some(ms) = ms else { continue };
        let labels = [("app", app.name), ("phase", phase)];
        let help = "How the app came back the last time, s.";
        out.add("millrace_recoverySeconds", Kind::Gauge, help, &labels, ms / 1_000.0);
    }
}

fn worker(inner: &Inner, out: &mut Exposition) {
    use Kind::{Counter, Gauge};
    let mut add = |name, kind, help, value| out.add(name, kind, help, &[], value);
    add("millrace_commits", Counter, "Committed transactions.", inner.commits as f64);
    add("millrace_aborts", Counter, "Aborted transactions.", inner.aborts as f64);
    add("millrace_numRestarts", Counter, "Sessions that ended with an error.", inner.restarts as f64);
    add("millrace_commitSeconds", Gauge, "Duration of the latest commit, s.", inner.commit.as_secs_f64());
    let age = inner.opened.map_or(0.0, |opened| opened.elapsed().as_secs_f64());
    add("millrace_transactionAgeSeconds", Gauge, "Age of the open transaction, s; 0: none is open.", age);
    add("millrace_numRecordsOut", Counter, "Records in committed transactions.", inner.sent.records as f64);
    add("millrace_numBytesOut", Counter, "Bytes of their keys and values.", inner.sent.bytes as f64);
    let time = inner.last_time;
    add("millrace_busyTimeMsPerSecond", Gauge, "Processing.", time.busy_ms_per_s);
    add("millrace_idleTimeMsPerSecond", Gauge, "Waiting for records.", time.idle_ms_per_s);
    let help = "Waiting for the producer's queue.";
    add("millrace_backPressuredTimeMsPerSecond", Gauge, help, time.backpressured_ms_per_s);
    let help = "Create time of a source record to the commit of what came of it, s.";
    out.histogram("millrace_latencySeconds", help, &inner.latency_total);
}
