use std::time::Duration;

use millrace_tests::{Cluster, eventually};
use serde_json::{Value, json};

/// What people with a terminal do: look at jobs, change a parameter and a rate, read a topic.
#[test]
fn a_terminal_is_enough() {
    let cluster = Cluster::exclusive();
    let jobs = cluster.millrace(&["jobs"], &[]);
    assert!(jobs.contains("sensors.mold-filter") && jobs.contains("commerce.hourly-sales"), "{jobs}");

    let threshold = || -> Value { cluster.api.get("/jobs/sensors.mold-filter/params").json() };
    cluster.millrace(&["params", "set", "mold-filter", "threshold=59.5"], &[]);
    // The workers have it; the gateway hears of it with their next figures.
    eventually("the gateway knows", Duration::from_secs(10), || {
        let now = threshold()["params"]["threshold"].clone();
        if now == 59.5 { Ok(()) } else { Err(now.to_string()) }
    });
    let shown = cluster.millrace(&["params", "get", "sensors.mold-filter"], &[]);
    assert!(shown.contains("threshold = 59.5 %") && shown.contains("default 60"), "{shown}");
    for (args, says) in [
        (["params", "set", "mold-filter", "threshold=101"].as_slice(), "threshold"),
        (&["params", "set", "mold-filter", "treshold=50"], "no parameter treshold"),
        (&["params", "get", "mould-filter"], "millrace jobs"),
        (&["rate", "iot-sensor", "5"], "iot-sensors"),
        (&["tail", "mold"], "mold-alerts"),
    ] {
        let error = cluster.millrace_fails(args);
        assert!(error.contains(says), "{args:?}: {error}");
    }
    assert_eq!(threshold()["params"]["threshold"], 59.5, "what was refused changes nothing");
    cluster.api.set_params("mold-filter", &json!({"threshold": 60}));

    cluster.millrace(&["rate", "iot-sensors", "50"], &[]);
    let producers: Value = cluster.api.get("/producers").json();
    assert!(producers.to_string().contains("50.0"), "{producers}");
    eventually("readings are in the topic", Duration::from_secs(30), || {
        let lines = cluster.millrace(&["tail", "iot-sensors", "-n", "3"], &[]);
        let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let good = |line: &Value| line["value"]["sensorId"] == line["key"] && line["offset"].is_u64();
        if lines.len() == 3 && lines.iter().all(good) { Ok(()) } else { Err(format!("{lines:?}")) }
    });
    cluster.api.set_rate(100.0);
}
