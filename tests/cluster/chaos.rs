use millrace_tests::Cluster;
use serde_json::Value;

/// Short: kinds of fault that a minute has room for and that take no root. `millrace chaos --minutes 10` is the long one.
#[test]
fn what_comes_out_of_a_broken_cluster_is_exact() {
    let cluster = Cluster::exclusive();
    let only = "worker,workers,pause,indexer,broker";
    let out = cluster.millrace(&["chaos", "--minutes", "0.8", "--seed", "3", "--only", only, "--json"], &[]);
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let verdict = lines.last().unwrap();
    assert_eq!(verdict["verdict"], "exact", "{out}");
    assert!(verdict["faults"].as_u64() >= Some(1) && verdict["results"].as_u64() >= Some(1_000), "{out}");
}
