use millrace_tests::Cluster;
use millrace_wire::topic;

#[test]
fn a_foreign_client_sees_three_brokers_and_every_topic() {
    let cluster = Cluster::exclusive();
    let (brokers, topics) = cluster.kafka.layout();
    assert_eq!(brokers, 3);
    for wanted in topic::catalogue() {
        let partitions = topics.get(&wanted.name).unwrap_or_else(|| panic!("{} is missing", wanted.name));
        let internal = [topic::CONTROL, topic::LEDGER, topic::TELEMETRY].contains(&wanted.name.as_str());
        assert_eq!(partitions.len(), if internal { 1 } else { 6 }, "partitions of {}", wanted.name);
        assert!(partitions.iter().all(|(replicas, _)| *replicas == 3), "{}: {partitions:?}", wanted.name);
    }
}

#[test]
fn reference_data_names_every_sensor_of_the_stream() {
    let cluster = Cluster::exclusive();
    let from = vec![0; 6];
    let known: std::collections::BTreeSet<String> =
        cluster.kafka.read(topic::SENSORS, &from).into_iter().map(|m| m.key).collect();
    let ends = cluster.kafka.ends(topic::IOT_SENSORS);
    let recent: Vec<i64> = ends.iter().map(|end| (end - 50).max(0)).collect();
    let generated = cluster
        .kafka
        .read(topic::IOT_SENSORS, &recent)
        .into_iter()
        .filter(|m| known.contains(&m.key))
        .count();
    assert!(known.len() >= 20, "{} sensors", known.len());
    assert!(generated > 0, "readings of known sensors");
}
