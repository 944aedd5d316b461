use std::path::Path;
use std::process::Command;
use std::time::Duration;

use millrace_tests::{Cluster, eventually};
use millrace_wire::topic;

/// Runs `scripts/<name>`, as a person does in the repository, and returns what it prints.
#[track_caller]
fn script(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts").join(name);
    let mut command = Command::new(&path);
    // What cargo tells this test about its package is not for the build that the script looks at.
    for (variable, _) in std::env::vars().filter(|(name, _)| name.starts_with("CARGO_PKG_")) {
        command.env_remove(variable);
    }
    let output =
        command.env_remove("CARGO_MANIFEST_DIR").env_remove("LD_LIBRARY_PATH").output().unwrap_or_else(|e| {
            panic!("{} can't be run: {e}", path.display());
        });
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{name} failed\n{out}{err}");
    out
}

#[test]
fn the_scripts_do_what_their_names_say() {
    let cluster = Cluster::exclusive();
    let topics = script("setup-topics.sh");
    assert!(topics.contains("every topic is there"), "{topics}");
    let health = script("health-check.sh");
    assert!(health.contains("checks passed") && !health.contains("NOT WELL"), "{health}");

    let produced = || cluster.kafka.ends(topic::IOT_SENSORS).iter().sum::<i64>();
    cluster.millrace(&["component", "kill", "producers"], &[]);
    assert!(!cluster.pids().contains_key("producers"));
    let before = produced();
    let started = script("start-producers.sh");
    assert!(started.contains("producers is ready"), "{started}");
    assert!(cluster.pids().contains_key("producers"));
    eventually("readings come again", Duration::from_secs(30), || {
        let more = produced() - before;
        if more > 0 { Ok(()) } else { Err(format!("{more} more")) }
    });
    cluster.wait_until_well(Duration::from_secs(60));
}
