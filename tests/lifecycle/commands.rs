//! The commands on a cluster of brokers that runs.

use std::time::Duration;

use millrace_tests::eventually;
use millrace_wire::topic;

use crate::house::House;

/// Every topic is there; the setup can be repeated.
#[track_caller]
pub fn topics(house: &House) {
    assert_eq!(house.millrace.run(&["topics", "setup"], &[]).trim(), "every topic is there");
    // A broker that was killed has some catching up to do.
    eventually("every topic is listed, and no copy is behind", Duration::from_secs(60), || {
        let listed = house.millrace.run(&["topics", "list"], &[]);
        for wanted in topic::catalogue() {
            let row = listed.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
            let row = row.filter(|row| row.first() == Some(&wanted.name.as_str())).collect::<Vec<_>>();
            assert_eq!(row.len(), 1, "{} in\n{listed}", wanted.name);
            let [_, partitions, copies, behind] = row[0][..] else { panic!("{row:?}") };
            assert!(["1", "6"].contains(&partitions) && copies == "3", "{row:?}");
            if behind != "0" {
                return Err(format!("{row:?}"));
            }
        }
        Ok(())
    });
}

/// The end of one log or of all; a wrong name gets the right ones.
#[track_caller]
pub fn logs(house: &House) {
    let one = house.millrace.run(&["logs", "-n", "5", "kafka-2"], &[]);
    assert!(one.lines().count() == 5 && !one.contains(" | "), "{one}");
    assert!(house.millrace.read("logs/kafka-2.log").contains(one.lines().next().unwrap()), "{one}");
    let all = house.millrace.run(&["logs", "-n", "1"], &[]);
    assert!(all.contains("kafka-1        | ") && all.contains("kafka-3        | "), "{all}");
    let wrong = house.millrace.fails(&["logs", "kafka-9"]).err;
    assert!(wrong.contains("no log of kafka-9; there are kafka-1, kafka-2, kafka-3"), "{wrong}");
}

/// A broker that is down is named with the command that starts it; that command helps.
#[track_caller]
pub fn health(house: &House) {
    well(house);
    house.millrace.run(&["broker", "kill", "2"], &[]);
    let sick = house.millrace.fails(&["health"]).out;
    assert!(sick.contains("NOT WELL  kafka-2: stopped. `millrace component start kafka-2`"), "{sick}");
    assert!(sick.contains("checks failed"), "{sick}");
    house.millrace.run(&["component", "start", "kafka-2"], &[]);
    well(house);
}

/// Copies catch up in their own time.
#[track_caller]
fn well(house: &House) {
    eventually("`health` passes", Duration::from_secs(90), || {
        let said = house.millrace.output(&["health"], &[], "");
        if said.good && said.out.contains("ok        kafka: 3 brokers answer") {
            Ok(())
        } else {
            Err(said.out)
        }
    });
}

/// Nothing is removed under a running cluster.
#[track_caller]
pub fn reset_refuses(house: &House) {
    let refused = house.millrace.fails(&["reset", "--yes"]).err;
    assert!(refused.contains("`millrace down` first"), "{refused}");
}

/// Only a yes removes the data folder.
#[track_caller]
pub fn reset_asks(house: &House) {
    let data = house.millrace.data();
    for answer in ["n\n", "\n", ""] {
        let said = house.millrace.output(&["reset"], &[], answer);
        assert!(
            !said.good && said.out.contains("[y/N]") && said.out.contains("nothing was removed"),
            "{said:?}"
        );
        assert!(data.join("kafka-1").is_dir() && data.join("credentials.json").is_file(), "{answer:?}");
    }
    let said = house.millrace.output(&["reset"], &[], "y\n");
    assert!(said.good && said.out.contains("is reset"), "{said:?}");
    assert!(!data.exists(), "{}", data.display());
}
