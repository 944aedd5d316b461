//! What can't start, or has nothing to do, says so.

use std::net::TcpListener;

use millrace_tests::{Millrace, variable};

use crate::house::PORTS;

/// A data folder of its own, beside the other tests'.
fn empty(name: &str) -> Millrace {
    let millrace = Millrace::from_env();
    let data = millrace.data().with_extension(name);
    millrace.with_data(data)
}

#[test]
fn without_a_cluster_every_command_says_how_to_start_one() {
    let millrace = empty("empty");
    let health = millrace.fails(&["health"]).out;
    assert!(
        health.contains("NOT WELL  nothing runs on") && health.contains("`millrace up` starts it"),
        "{health}"
    );
    for args in [&["topics", "list"][..], &["broker", "kill", "1"]] {
        let error = millrace.fails(args).err;
        assert!(error.contains("`millrace up` starts it"), "{args:?}: {error}");
    }
    assert!(millrace.run(&["down"], &[]).contains("nothing runs on"));
    assert!(millrace.run(&["reset"], &[]).contains("there is nothing to reset"));
    assert!(!millrace.data().exists(), "looking leaves nothing behind");
}

#[test]
fn a_start_that_can_not_be_says_what_is_missing() {
    let millrace = empty("refused");
    let port = variable("MILLRACE_PORT_BASE").parse::<u16>().unwrap() + PORTS;
    let up = ["up", "--only", "gateway", "--port-base", &port.to_string()];
    for how in [&[][..], &["--detach"]] {
        let taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let error = millrace.fails(&[&up[..], how].concat()).err;
        assert!(error.contains(&format!("another program has port {port} (gateway)")), "{error}");
        assert!(error.contains("--port-base"), "{error}");
        drop(taken);
        let without_java = [("PATH", "/nowhere"), ("JAVA_HOME", "/nowhere")];
        let said = millrace.output(&[&up[..], how].concat(), &without_java, "");
        assert!(!said.good && said.err.contains("there is no `java`"), "{said:?}");
        assert!(said.err.contains("apt install openjdk-17-jre-headless"), "{said:?}");
    }
    millrace.run(&["reset", "--yes"], &[]);
    assert!(!millrace.data().exists());
}
