use millrace_wire::telemetry::{App, Component, FORMAT, Generator, Job, ProcessUsage, Processor, Task};

use super::*;

fn frame(component: &str, at_ms: i64, started_ms: i64, body: Body) -> Frame {
    let process = ProcessUsage::default();
    Frame { v: FORMAT, component: component.into(), at_ms, started_ms, process, acks: vec![], body }
}

fn producers(at_ms: i64, started_ms: i64, produced: u64) -> Frame {
    let stream =
        Generator { stream: "iot-sensors".into(), target_rate: 100.0, produced, ..Default::default() };
    frame("producers", at_ms, started_ms, Body::Producers { streams: vec![stream] })
}

fn worker(
    component: &str,
    at_ms: i64,
    partition: i32,
    records: u64,
    version: i64,
    watermark: Option<i64>,
) -> Frame {
    let job = Job {
        name: "humidity-average".into(),
        records,
        filtered: records / 2,
        emitted: records / 10,
        params_version: version,
        ..Default::default()
    };
    let task = Task { partition, records, watermark_ms: watermark, ..Default::default() };
    let app = App { name: "sensors".into(), tasks: vec![task], jobs: vec![job], ..Default::default() };
    let latency_us = vec![(20_000, 10)];
    frame(
        component,
        at_ms,
        0,
        Body::Processor(Processor { apps: vec![app], latency_us, ..Default::default() }),
    )
}

#[test]
fn produced_and_consumed_agree_and_make_samples() {
    let mut state = State::default();
    let mut closed = Vec::new();
    for i in 0..=60 {
        let at = 100_000 + i * 200;
        state.apply(producers(at, 1, 5_000 + 20 * i as u64));
        state.apply(worker("processor-1", at + 20, 0, 10 * i as u64, -1, Some(at)));
        state.apply(worker("processor-2", at + 40, 1, 10 * i as u64, -1, Some(at - 5_000)));
        closed.extend(state.advance(at + 50, LagNow { records: Some(3), ..LagNow::default() }));
    }
    let now = 112_050;
    assert!((state.rate("produced/", now) - 100.0).abs() < 0.1);
    assert!((state.rate("task/", now) - 100.0).abs() < 0.1);
    let sample = closed.last().unwrap();
    assert!((sample.produced_per_s - 100.0).abs() < 0.1, "{sample:?}");
    assert!((sample.consumed_per_s - 100.0).abs() < 0.1, "{sample:?}");
    assert_eq!((sample.lag_records, sample.latency.unwrap().count), (Some(3), 100));
    assert_eq!(closed.len(), state.samples().len());
    assert!(closed.windows(2).all(|w| w[1].at_ms == w[0].at_ms + 1000));

    let overview = state.overview(now);
    let job = &overview.jobs[0];
    assert!((job.records_per_s - 50.0).abs() < 0.5, "{job:?}");
    assert_eq!((job.watermark_ms, job.watermark_lag_ms), (Some(107_000), Some(5_050)));
    assert_eq!(overview.workers.len(), 2);
    assert_eq!(overview.produced_total, 6_200);
    assert_eq!(overview.consumed_total, 1_200);
}

#[test]
fn without_a_supervisor_processes_speak_for_themselves() {
    let names = |state: &State, now: i64| -> Vec<String> {
        state.overview(now).components.into_iter().map(|gauge| gauge.component.name).collect()
    };
    let mut state = State::default();
    state.apply(producers(1_000, 1, 0));
    state.apply(worker("processor-1", 9_000, 0, 0, -1, None));
    assert_eq!(names(&state, 9_100), ["processor-1"], "who is silent is not said to run");
    let component = Component { name: "kafka-1".into(), ..Default::default() };
    state.apply(frame("launcher", 9_000, 1, Body::Launcher { components: vec![component] }));
    assert_eq!(names(&state, 9_100), ["kafka-1"]);
}

#[test]
fn a_restarted_process_goes_on_counting() {
    let mut state = State::default();
    state.apply(producers(1_000, 1, 5_000));
    state.apply(producers(2_000, 1, 5_100));
    state.apply(producers(3_000, 2_500, 50));
    assert_eq!(state.total("produced/"), 5_150);
    assert!(state.rate("produced/", 3_000) >= 0.0);
}

#[test]
fn silence_hides_a_component_and_leaves_a_gap() {
    let mut state = State::default();
    state.apply(producers(1_000, 1, 5_000));
    state.advance(2_000, LagNow::default());
    assert_eq!(state.shown(61_000).count(), 1);
    assert_eq!(state.shown(61_001).count(), 0);
    assert_eq!(state.living(4_001).count(), 0);
    assert!(state.advance(30_000, LagNow::default()).len() <= 3);
    assert_eq!(state.overview(70_000).streams, vec![]);
}

#[test]
fn the_slowest_worker_says_which_parameters_are_in_force() {
    let mut state = State::default();
    state.apply(worker("processor-1", 1_000, 0, 1, 7, None));
    state.apply(worker("processor-2", 1_000, 1, 1, 4, None));
    assert_eq!(state.params("sensors", "humidity-average", 1_100).unwrap().0, 4);
    assert_eq!(state.params("sensors", "other", 1_100), None);
}

#[test]
fn an_old_frame_of_the_same_process_changes_nothing() {
    let mut state = State::default();
    state.apply(producers(2_000, 1, 5_100));
    state.apply(producers(1_000, 1, 5_000));
    assert_eq!(state.total("produced/"), 5_100);
}

#[test]
fn without_a_worker_a_form_shows_what_was_asked_for_over_the_defaults() {
    let mut state = State::default();
    let schema = serde_json::json!({"properties": {"size": {"default": 300}, "lateness": {"default": 5}}});
    let descriptor = JobDescriptor { app: "sensors".into(), job: "x".into(), schema, ..Default::default() };
    let shown = |state: &State| serde_json::to_value(state.params_shown(&descriptor, 0)).unwrap();
    assert_eq!(shown(&state), serde_json::json!([-1, {"size": 300, "lateness": 5}]));
    let params = serde_json::json!({"size": 60}).as_object().unwrap().clone();
    let command = Command::Params { app: "sensors".into(), job: "x".into(), params };
    state.command(9, ControlRecord { v: 1, id: "a".into(), issued_at_ms: 0, by: "ann".into(), command });
    assert_eq!(shown(&state), serde_json::json!([9, {"size": 60, "lateness": 5}]));
}

#[test]
fn an_app_says_how_its_last_minute_was() {
    let mut state = State::default();
    let says = |minutes: u64| {
        let job = |name: &str, late, tardy| Job {
            name: name.into(),
            records: 600 * minutes,
            filtered: 100 * minutes,
            late: late * minutes,
            emitted: 30 * minutes,
            windowed: 400 * minutes,
            tardy: tardy * minutes,
            ..Default::default()
        };
        let jobs = vec![job("averages", 5, 8), job("alarms", 0, 0)];
        let task = Task { records: 600 * minutes, dead: 6 * minutes, ..Default::default() };
        let app = App { name: "sensors".into(), tasks: vec![task], jobs, ..Default::default() };
        let descriptor = |job: &str| JobDescriptor {
            app: "sensors".into(),
            job: job.into(),
            alerts: job == "alarms",
            ..Default::default()
        };
        let catalogue = vec![descriptor("averages"), descriptor("alarms")];
        let (apps, restarts) = (vec![app], minutes.saturating_sub(2));
        Body::Processor(Processor { apps, catalogue, restarts, ..Default::default() })
    };
    for minutes in 1..=3 {
        state.apply(frame("processor-1", minutes as i64 * 60_000, 0, says(minutes)));
    }
    let near = |a: f64, b: f64| (a - b).abs() < 1e-9;
    let overview = state.overview(180_000);
    let [app] = overview.apps.as_slice() else { panic!("{:?}", overview.apps) };
    assert!(near(app.records_per_min, 600.0) && near(app.alerts_per_min, 30.0), "{app:?}");
    assert!(near(app.completeness.unwrap(), 0.99) && near(app.late_share.unwrap(), 0.005), "{app:?}");
    assert!(near(app.dead_share.unwrap(), 0.01) && near(app.errors_per_min, 1.0), "{app:?}");
    let later = state.overview(400_000);
    assert_eq!((later.apps[0].completeness, later.apps[0].late_share), (None, None));
}
