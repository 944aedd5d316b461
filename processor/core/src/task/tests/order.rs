//! Each stream of an app moves event time by its own order.

use super::*;

/// The watermark after a record of a source, or a tick.
fn after(task: &mut dyn Task, input: Input<'_>) -> Watermark {
    task.step(input, &mut Effects::default()).unwrap();
    task.watermark()
}

#[test]
fn a_marked_record_moves_event_time_and_the_others_do_not() {
    let mut running = task(ORDERED, &State::default());
    assert_eq!(after(&mut *running, record(0, 0, "[100, null]")), Watermark::NONE, "b has said nothing");
    assert_eq!(after(&mut *running, record(1, 0, "[50, null]")), Watermark::NONE, "not marked");
    assert_eq!(after(&mut *running, record(1, 1, "[52, 40]")), Watermark(40));
    assert_eq!(after(&mut *running, record(1, 2, "[54, 30]")), Watermark(40), "it never falls");
    assert_eq!(after(&mut *running, record(1, 3, "[999, null]")), Watermark(40));
    assert_eq!(
        after(&mut *running, record(1, 4, "[200, 150]")),
        Watermark(96),
        "a is up to 3 ms out of order"
    );
    // The bounded stream takes no notice of marks.
    assert_eq!(after(&mut *running, record(0, 1, "[110, 10000]")), Watermark(106));
}

#[test]
fn a_punctuated_stream_that_is_silent_is_not_waited_for_until_it_is_back() {
    let mut running = task(ORDERED, &State::default());
    after(&mut *running, record(1, 0, "[50, 40]"));
    after(&mut *running, record(0, 0, "[100, null]"));
    assert_eq!(after(&mut *running, Input::ProcessingTime(0)), Watermark(40));
    // It is idle after 15 ms, the other after 10.
    after(&mut *running, Input::ProcessingTime(9));
    assert_eq!(after(&mut *running, record(0, 1, "[101, null]")), Watermark(40));
    assert_eq!(after(&mut *running, Input::ProcessingTime(16)), Watermark(97));
    assert_eq!(after(&mut *running, record(1, 1, "[60, null]")), Watermark(97));
    assert_eq!(after(&mut *running, record(0, 2, "[120, null]")), Watermark(97), "it is waited for again");
    assert_eq!(after(&mut *running, record(1, 2, "[130, 110]")), Watermark(110));
}

#[test]
fn a_restored_task_knows_the_marks() {
    let (mut running, mut state) = (task(ORDERED, &State::default()), State::default());
    after(&mut *running, record(0, 0, "[100, null]"));
    after(&mut *running, record(1, 0, "[150, 140]"));
    commit(&mut *running, &mut state);
    let mut running = task(ORDERED, &state);
    assert_eq!(running.watermark(), Watermark(96));
    // The mark of b lets a go on to it, and no further.
    assert_eq!(after(&mut *running, record(0, 1, "[200, null]")), Watermark(140));
}

#[test]
fn an_idle_timeout_of_zero_is_refused_for_both_orders() {
    const BOUNDED: &[Source] = &[Source { topic: "a", kind: SourceKind::Stream(Order::bounded(1, Some(0))) }];
    const PUNCTUATED: &[Source] =
        &[Source { topic: "a", kind: SourceKind::Stream(Order::Punctuated { idle_timeout: Some(0) }) }];
    for sources in [BOUNDED, PUNCTUATED] {
        let error = App { sources, ..ORDERED }.task(0).err().unwrap().to_string();
        assert_eq!(error, "the idle timeout must be greater than zero, it is 0 ms");
    }
}
