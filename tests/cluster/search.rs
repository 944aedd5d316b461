use std::collections::BTreeMap;
use std::time::Duration;

use millrace_tests::{Cluster, Outgoing, Stage, eventually};
use millrace_wire::result::SensorAverage;
use millrace_wire::topic;

/// Waits until the index holds this test's committed averages: each once, each as it was committed.
fn indexed(cluster: &Cluster, stage: &Stage<'_>, deadline: Duration) {
    let committed: Vec<SensorAverage> = stage
        .since(topic::SENSOR_AVERAGES)
        .iter()
        .map(|m| serde_json::from_slice::<SensorAverage>(&m.value).unwrap())
        .filter(|a| a.sensor_id.starts_with(&stage.prefix))
        .collect();
    let key = |a: &SensorAverage| (a.sensor_id.to_string(), a.window_start, a.window_end);
    let expected: BTreeMap<_, _> = committed.iter().map(|a| (key(a), a.clone())).collect();
    assert_eq!(expected.len(), committed.len(), "no window has two results");
    let documents = eventually("every committed result is a document", deadline, || {
        let found = cluster.search().by_sensor(topic::SENSOR_AVERAGES, &stage.prefix)?;
        if found.len() >= expected.len() {
            Ok(found)
        } else {
            Err(format!("{} of {}", found.len(), expected.len()))
        }
    });
    assert_eq!(documents.len(), expected.len(), "and no document is there twice");
    for (id, document) in documents {
        let average: SensorAverage = serde_json::from_value(document).unwrap();
        assert_eq!(expected.get(&key(&average)), Some(&average), "document {id}");
    }
    let alerts = stage.alerts();
    eventually("every committed alert is a document", deadline, || {
        let mut found = BTreeMap::new();
        for name in [topic::SENSOR_ALERTS_CRITICAL, topic::SENSOR_ALERTS_HIGH, topic::SENSOR_ALERTS_WARNING] {
            found.extend(cluster.search().by_sensor(name, &stage.prefix)?);
        }
        assert!(found.len() <= alerts.len(), "{} documents of {} alerts", found.len(), alerts.len());
        if found.len() == alerts.len() { Ok(()) } else { Err(format!("{} of {}", found.len(), alerts.len())) }
    });
}

#[test]
fn the_index_is_what_was_committed() {
    let cluster = Cluster::exclusive();
    let stage = Stage::new(&cluster, "index", 2);
    stage.write(&stage.input(40, 4, 2_000));
    stage.close(4);
    stage.settle(Duration::from_secs(60));
    indexed(&cluster, &stage, Duration::from_secs(60));
}

#[test]
fn without_elasticsearch_results_go_on_and_the_index_catches_up() {
    let cluster = Cluster::exclusive();
    let stage = Stage::new(&cluster, "outage", 2);
    let input = stage.input(40, 6, 3_000);
    let (before, during) = input.split_at(1_500);
    stage.write(before);
    cluster.drained(Duration::from_secs(60));

    cluster.millrace(&["component", "kill", "elasticsearch"], &[]);
    stage.write(during);
    stage.close(6);
    stage.settle(Duration::from_secs(60));
    eventually("the page says what is missing", Duration::from_secs(30), || {
        let problems = cluster.api.overview().problems;
        let names = |p: &millrace_wire::live::ProblemNote| format!("{} {}", p.about, p.text).to_lowercase();
        if problems.iter().any(|p| names(p).contains("elasticsearch")) {
            Ok(())
        } else {
            Err(format!("{problems:?}"))
        }
    });

    cluster.millrace(&["component", "start", "elasticsearch"], &[]);
    cluster.wait_until_well(Duration::from_secs(120));
    indexed(&cluster, &stage, Duration::from_secs(120));
}

/// The indexer commits its offsets after Elasticsearch has acknowledged: a kill in between repeats documents, under
/// the same ids.
#[test]
fn kill_9_of_the_indexer_loses_and_doubles_no_document() {
    let cluster = Cluster::exclusive();
    let stage = Stage::new(&cluster, "indexer", 2);
    let input = stage.input(40, 4, 4_000);
    for chunk in input.chunks(2_000) {
        stage.write(chunk);
        cluster.kill_9("indexer");
    }
    stage.close(4);
    stage.settle(Duration::from_secs(60));
    indexed(&cluster, &stage, Duration::from_secs(120));
}

/// What Elasticsearch can't take goes to the dead letters as it is, with the reason. Results in the same batches are stored, and the
/// indexer goes on.
#[test]
fn what_elasticsearch_refuses_goes_to_the_dead_letters() {
    let cluster = Cluster::exclusive();
    let stage = Stage::new(&cluster, "refused", 2);
    let rejected = || cluster.api.overview().indexer.map_or(0, |indexer| indexer.rejected_total);
    let before = rejected();
    let bad = [("text", "no document"), ("time", r#"{"timestamp": "when?"}"#)];
    let bad = bad.map(|(name, value)| Outgoing {
        key: format!("{}{name}", stage.prefix),
        value: value.as_bytes().to_vec(),
        partition: None,
    });
    stage.write(&stage.input(40, 4, 1_000));
    cluster.kafka.write(topic::MILESTONES, &bad);
    stage.close(4);
    stage.settle(Duration::from_secs(60));
    indexed(&cluster, &stage, Duration::from_secs(60));
    eventually("both are dead letters", Duration::from_secs(30), || {
        let mut letters = stage.since(topic::DEAD_LETTERS);
        letters.retain(|letter| letter.key.starts_with(&stage.prefix));
        letters.sort_by(|a, b| a.key.cmp(&b.key));
        let found: Vec<_> = letters.iter().map(|letter| (&letter.key, &letter.value)).collect();
        if found.len() < bad.len() {
            return Err(format!("{found:?}"));
        }
        assert_eq!(found, bad.each_ref().map(|bad| (&bad.key, &bad.value)));
        for letter in &letters {
            let header = |name: &str| letter.headers.get(name).map_or("", String::as_str);
            assert_eq!((header("error-kind"), header("source-topic")), ("rejected", topic::MILESTONES));
            assert!(!header("error-text").is_empty(), "{letter:?}");
        }
        Ok(())
    });
    eventually("the page counts them", Duration::from_secs(15), || match rejected() - before {
        2 => Ok(()),
        others => Err(format!("{others}")),
    });
}
