use std::io::BufRead as _;
use std::sync::mpsc;
use std::time::Duration;

use millrace_tests::{Cluster, Outgoing, now_ms, reading};
use millrace_wire::topic;
use serde_json::{Value, json};

const PAGE: &str = include_str!("../../docs/your-first-job.md");

/// Arguments of the commands that the page has people type when `./demo` runs.
fn commands() -> Vec<Vec<&'static str>> {
    PAGE.lines().filter_map(|line| Some(line.strip_prefix("./demo ")?.split(' ').collect())).collect()
}

/// A reading of a sensor whose battery has this charge.
fn charged(sensor: &str, percent: f64) -> Outgoing {
    let outgoing = reading(sensor, now_ms(), 50.0);
    let mut value: Value = serde_json::from_slice(&outgoing.value).unwrap();
    value["batteryLevel"] = json!(percent);
    Outgoing { value: value.to_string().into_bytes(), ..outgoing }
}

/// What docs/your-first-job.md has people type shows the job, changes it while it runs, and shows what comes of it.
#[test]
fn the_commands_of_the_first_job_do_what_the_page_says() {
    let cluster = Cluster::exclusive();
    let commands = commands();
    let [jobs, set, tail] = commands.as_slice() else { panic!("three commands: {commands:?}") };
    assert_eq!(set[..3], ["params", "set", "battery-low"], "{set:?}");
    let (name, threshold) = set[3].split_once('=').unwrap();
    let threshold: f64 = threshold.parse().unwrap();
    assert!(cluster.millrace(jobs, &[]).contains("sensors.battery-low"));

    let params = || -> Value { cluster.api.get("/jobs/sensors.battery-low/params").expect(200).json() };
    let before = params()["params"][name].as_f64().unwrap();
    assert!(before < threshold, "the page raises the threshold: {before}, {threshold}");
    cluster.millrace(set, &[]);
    assert_eq!(params()["params"][name], threshold);

    // A battery that is low because of that, and only now.
    let sensor = format!("first-job-{}", now_ms());
    let mut following = cluster.follow(tail);
    let (lines, heard) = mpsc::channel();
    let out = std::io::BufReader::new(following.stdout.take().unwrap());
    let reader = std::thread::spawn(move || {
        for line in out.lines().map_while(Result::ok) {
            if lines.send(line).is_err() {
                return;
            }
        }
    });
    // It shows some of before, and then what comes.
    drop(heard.recv_timeout(Duration::from_secs(20)));
    cluster.kafka.write(topic::IOT_SENSORS, &[charged(&sensor, (before + threshold) / 2.0)]);
    let alert = std::iter::from_fn(|| heard.recv_timeout(Duration::from_secs(30)).ok())
        .map(|line| -> Value { serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}")) })
        .find(|record| record["key"] == sensor);
    following.kill().unwrap();
    following.wait().unwrap();
    drop(heard);
    reader.join().unwrap();
    let alert = alert.unwrap_or_else(|| panic!("millrace {tail:?} does not show the alert of {sensor}"));
    assert_eq!(alert["value"]["type"], "BATTERY_LOW", "{alert}");
    assert_eq!(alert["value"]["threshold"], threshold, "{alert}");
    cluster.api.set_params("battery-low", &json!({(name): before}));
}
