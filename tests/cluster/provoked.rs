use std::time::Duration;

use millrace_tests::{Cluster, eventually};
use millrace_wire::topic;
use serde_json::{Value, json};

/// What is provoked comes: alerts of a stolen card, dead letters of records that are cut off. What makes no sense is refused.
#[test]
fn what_is_provoked_comes() {
    let cluster = Cluster::exclusive();
    let since = |topic: &'static str| (topic, cluster.kafka.ends(topic));
    let (alerts, dead) = (since(topic::ALERTS), since(topic::DEAD_LETTERS));
    cluster.api.set_rate_of(topic::TRANSACTIONS, 50.0);
    let said = cluster.millrace(&["scenario", "card-fraud", "--seconds", "15"], &[]);
    assert!(said.contains("CARD_TESTING"), "{said}");
    let producers: Value = cluster.api.get("/producers").expect(200).json();
    let stream =
        producers["items"].as_array().unwrap().iter().find(|p| p["stream"] == topic::TRANSACTIONS).unwrap();
    assert_eq!(stream["scenario"]["name"], "card-fraud", "{stream}");
    eventually("a stolen card is noticed", Duration::from_secs(60), || {
        let found = cluster.kafka.read(alerts.0, &alerts.1);
        let testing =
            |value: &[u8]| serde_json::from_slice::<Value>(value).unwrap()["type"] == "CARD_TESTING";
        if found.iter().any(|m| testing(&m.value)) { Ok(()) } else { Err(format!("{} alerts", found.len())) }
    });
    let body = json!({"name": "malformed", "seconds": 10});
    let answer = cluster.api.send("POST", "/producers/transactions/scenario", Some(&body)).expect(200);
    assert!(answer.text.contains(r#""applied":true"#), "{}", answer.text);
    eventually("records that are cut off are dead letters", Duration::from_secs(60), || {
        match cluster.kafka.read(dead.0, &dead.1).len() {
            0 => Err("none".to_owned()),
            _ => Ok(()),
        }
    });
    eventually("it ends by itself", Duration::from_secs(30), || {
        let producers: Value = cluster.api.get("/producers").expect(200).json();
        let stream =
            producers["items"].as_array().unwrap().iter().find(|p| p["stream"] == topic::TRANSACTIONS);
        if stream.unwrap()["scenario"].is_null() { Ok(()) } else { Err(producers.to_string()) }
    });
    let error = cluster.millrace_fails(&["scenario", "burst"]);
    assert!(error.contains("--stream"), "{error}");
    cluster.api.set_rate_of(topic::TRANSACTIONS, 0.0);
    cluster.wait_until_well(Duration::from_secs(60));
}
