//! How a cluster begins and ends, with Kafka alone: `./test integration`, before the main cluster is up. The tests start
//! and end it themselves, in the data folder `MILLRACE_DATA` and on the 40 ports from `MILLRACE_PORT_BASE` on.

// All of this is test code: it asserts.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

mod commands;
mod house;
mod records;
mod refusals;
mod rescale;

use std::time::{Duration, Instant};

use house::House;
use millrace_tests::{eventually, signal};
use records::Records;

/// A stop takes seconds; this is for a busy machine.
const STOP: Duration = Duration::from_secs(60);

#[test]
fn nothing_is_lost_or_left_behind_however_a_cluster_ends() {
    let house = House::exclusive();
    let mut records = Records::default();
    let began = Instant::now();
    let at = |what: &str| println!("{:>4} s  {what}", began.elapsed().as_secs());

    at("the first start, and a second one while it runs");
    let running = house.up_detached();
    records.survived_and_grow(&house);
    let again = house.millrace.run(&["up", "--detach"], &[]);
    assert!(again.contains("Millrace runs already"), "{again}");
    assert_eq!(house.running(), running, "a repeated `up` changes nothing");
    at("`down`");
    house.millrace.run(&["down"], &[]);
    house.nothing_is_left(&running);

    at("resumes in a terminal");
    let (mut up, running) = house.up_in_a_terminal();
    records.survived_and_grow(&house);
    at("Ctrl-C");
    signal("INT", &format!("-{}", up.id()));
    let end = eventually("`up` ends", STOP, || up.try_wait().unwrap().ok_or("not yet".to_owned()));
    assert!(end.success(), "{end}\n{}", house.printed());
    house.nothing_is_left(&running);

    at("resumes detached");
    let running = house.up_detached();
    records.survived_and_grow(&house);
    at("kill -9 of the supervisor");
    signal("KILL", &running["supervisor"].to_string());
    house.nothing_is_left(&running);

    at("resumes under a shell");
    let (mut parent, running) = house.up_under_a_shell();
    records.survived_and_grow(&house);
    at("topics, logs, health");
    commands::topics(&house);
    commands::logs(&house);
    commands::health(&house);
    commands::reset_refuses(&house);
    at("kill -9 of the shell");
    parent.kill().unwrap();
    parent.wait().unwrap();
    house.nothing_is_left(&running);
    assert!(house.printed().contains("stopping kafka"), "a clean stop\n{}", house.printed());
    commands::reset_asks(&house);
    at("done");
}
