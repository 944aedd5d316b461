use std::time::{Duration, Instant};

use millrace_tests::{Api, Cluster, Live};
use millrace_wire::live::{ClientMessage, ServerMessage};

/// The next hello or delta.
fn update(live: &mut Live) -> ServerMessage {
    loop {
        let message = live.hear();
        if matches!(message, ServerMessage::Hello(_) | ServerMessage::Delta(_)) {
            return message;
        }
    }
}

fn seq(message: &ServerMessage) -> u64 {
    match message {
        ServerMessage::Hello(hello) => hello.seq,
        ServerMessage::Delta(delta) => delta.seq,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_foreign_origin_and_an_anonymous_client_are_refused() {
    let cluster = Cluster::exclusive();
    assert_eq!(Live::connect(&cluster.api, "https://evil.example").err(), Some(403));
    assert_eq!(Live::connect(&cluster.api, &format!("{}.evil.example", cluster.api.url)).err(), Some(403));
    assert_eq!(Live::connect(&Api::anonymous(&cluster.api.url), &cluster.api.url).err(), Some(401));
}

#[test]
fn hello_comes_first_and_deltas_follow_five_times_a_second() {
    let cluster = Cluster::exclusive();
    let mut live = Live::connect(&cluster.api, &cluster.api.url).unwrap();
    let ServerMessage::Hello(hello) = live.hear() else { panic!("the server says hello first") };
    assert!(!hello.overview.streams.is_empty() && !hello.overview.jobs.is_empty());
    let started = Instant::now();
    let mut last = hello.seq;
    for _ in 0..15 {
        let message = update(&mut live);
        assert!(matches!(message, ServerMessage::Delta(_)), "{message:?}");
        assert!(seq(&message) > last, "seq rises: {} after {last}", seq(&message));
        last = seq(&message);
    }
    let took = started.elapsed();
    assert!(took < Duration::from_secs(6), "15 deltas took {took:?}");
    live.say(&ClientMessage::Ping { nonce: 17 });
    let answered = (0..20).any(|_| live.hear() == ServerMessage::Pong { nonce: 17 });
    assert!(answered, "a ping is answered");
}

#[test]
fn a_client_that_comes_back_gets_what_it_missed() {
    let cluster = Cluster::exclusive();
    let mut live = Live::connect(&cluster.api, &cluster.api.url).unwrap();
    update(&mut live);
    let seen = seq(&update(&mut live));
    // It misses a few ticks.
    for _ in 0..5 {
        update(&mut live);
    }
    drop(live);

    let mut live = Live::connect(&cluster.api, &cluster.api.url).unwrap();
    live.say(&ClientMessage::Resume { seq: seen });
    let heard: Vec<ServerMessage> = (0..20).map(|_| update(&mut live)).collect();
    let first =
        heard.iter().position(|m| matches!(m, ServerMessage::Delta(d) if d.seq == seen + 1)).unwrap_or_else(
            || panic!("delta {} did not come: {:?}", seen + 1, heard.iter().map(seq).collect::<Vec<_>>()),
        );
    let resumed: Vec<u64> = heard[first..].iter().map(seq).collect();
    assert!(resumed.len() > 5 && resumed.windows(2).all(|w| w[1] > w[0]), "{resumed:?}");

    // What is no longer in the server's history is answered by everything.
    live.say(&ClientMessage::Resume { seq: seen.saturating_sub(10_000_000) });
    let again = (0..20).any(|_| matches!(update(&mut live), ServerMessage::Hello(_)));
    assert!(again || seen < 100, "a hello");
}
