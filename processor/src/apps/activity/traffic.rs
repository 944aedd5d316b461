//! `traffic`: events per page and type in short and in long windows. Events are keyed by user, so this job counts
//! them again by page and type.
//!
//! A window that has changed says so once a second; when it is over it says its final count.

use std::collections::BTreeMap;

use compact_str::{CompactString, format_compact};
use garde::Validate;
use millrace_core::aggregate::Count;
use millrace_core::process::{Current, ProcessContext, ProcessFunction, Timer};
use millrace_core::repartition::{Merge, Partial};
use millrace_core::stream::{Operator, Stream, job as new_job};
use millrace_core::window::{Trigger, Windowed};
use millrace_core::{EventTime, Job, TimeDomain};
use millrace_wire::event::UserEvent;
use millrace_wire::result::PageStats;
use millrace_wire::topic;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Event;
use crate::apps::parameters::{AlignedType, Lateness, Slide, WindowSize, few};

/// Live parameters.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default, deny_unknown_fields)]
struct Params {
    #[garde(skip)]
    window: AlignedType,
    #[garde(dive)]
    window_size_s: WindowSize,
    #[garde(dive, custom(few(self.window, self.window_size_s.max(self.long_window_size_s))))]
    slide_s: Slide,
    #[garde(dive)]
    #[schemars(title = "Size of the long windows")]
    long_window_size_s: WindowSize,
    #[garde(dive)]
    allowed_lateness_s: Lateness,
    /// How often an open window that has changed gives a result.
    #[garde(range(min = 1, max = 3_600))]
    #[schemars(title = "Early results every", extend("x-unit" = "s"))]
    early_every_s: i64,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            window: AlignedType::Tumbling,
            window_size_s: WindowSize(60),
            slide_s: Slide(10),
            long_window_size_s: WindowSize(300),
            allowed_lateness_s: Lateness(0),
            early_every_s: 1,
        }
    }
}

/// Windows begin and end with a second.
const SLICE_MS: i64 = 1_000;
const NAME: &str = "traffic";
const DESCRIPTION: &str = "Events per page and type, in short and long windows.";

/// Events of a page and type that came between two commits.
type Views = Partial<u64>;

/// An event, with its type and page as one key.
struct View {
    key: CompactString,
}

impl View {
    fn new(event: &UserEvent) -> Self {
        Self { key: format_compact!("{} {}", event.event_type.name(), event.page) }
    }
}

/// A count of a window, to be told now or later.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Open {
    count: u64,
    /// Not told yet.
    news: bool,
}

/// Tells what is new of open windows every so often, and each window when it is over.
struct Tell;

impl ProcessFunction<Params, Windowed<u64>> for Tell {
    /// Open windows, by end and start.
    type State = BTreeMap<(i64, i64), Open>;
    type Out = PageStats;

    fn record(
        &mut self,
        window: &Windowed<u64>,
        _: EventTime,
        open: &mut Current<Self::State>,
        ctx: &mut ProcessContext<'_, '_, Params, PageStats>,
    ) {
        let (place, last) = ((window.window.end, window.window.start), window.window.last());
        if last <= ctx.watermark().0 {
            // It is over, and takes late events.
            ctx.collect(stats(&window.key, place, window.value, true));
            return;
        }
        open.insert(place, Open { count: window.value, news: true });
        let every = ctx.params().early_every_s * 1_000;
        ctx.register_timer(TimeDomain::Processing, (ctx.now().div_euclid(every) + 1) * every);
        ctx.register_timer(TimeDomain::Event, last);
    }

    fn timer(
        &mut self,
        timer: Timer,
        open: &mut Current<Self::State>,
        ctx: &mut ProcessContext<'_, '_, Params, PageStats>,
    ) {
        if timer.domain == TimeDomain::Processing {
            for (place, window) in open.iter_mut().filter(|(_, window)| window.news) {
                window.news = false;
                ctx.collect(stats(ctx.key(), *place, window.count, false));
            }
            return;
        }
        while let Some(window) = open.first_entry().filter(|window| window.key().0 - 1 <= timer.time) {
            let (place, Open { count, .. }) = window.remove_entry();
            ctx.collect(stats(ctx.key(), place, count, true));
        }
    }
}

fn stats(key: &str, (window_end, window_start): (i64, i64), count: u64, r#final: bool) -> PageStats {
    let (event_type, page) = key.split_once(' ').unwrap_or((key, ""));
    PageStats { page: page.into(), event_type: event_type.into(), window_start, window_end, count, r#final }
}

/// Windows of one size.
fn counted<Op: Operator<Params, Views, Out = Views>>(
    views: Stream<Views, Params, Views, Op>,
    size: fn(&Params) -> WindowSize,
) -> Stream<Views, Params, PageStats, impl Operator<Params, Views, Out = PageStats>> {
    views
        .key_by(|views| &views.key)
        .window(move |params| params.window.spec(size(params), params.slide_s))
        .allowed_lateness(|params| params.allowed_lateness_s.ms())
        .trigger(Trigger::Count { n: 1 })
        .aggregate(Merge::<_, View>::new(Count))
        .key_by(|window| &window.key)
        .process(Tell)
}

pub(super) fn job() -> Box<dyn Job<Event>> {
    new_job::<Event, Params>(NAME, DESCRIPTION)
        .topics(&[topic::USER_EVENTS], &[topic::PAGE_STATS])
        .source(Event::user_event)
        .map(|event, _, _| View::new(event))
        .combine(SLICE_MS, |view| &view.key, Count)
        .repartition(
            topic::TRAFFIC_REPARTITION,
            |views| &views.key,
            |views| {
                let again = new_job::<Views, Params>(NAME, DESCRIPTION).source(|views: &Views| Some(views));
                counted(views, |params| params.window_size_s)
                    .union(counted(again, |params| params.long_window_size_s))
                    .to(|stats| (topic::PAGE_STATS, &stats.page))
            },
        )
}

#[cfg(test)]
mod tests {
    use millrace_core::testing::Harness;
    use serde_json::json;

    use super::super::tests::view;
    use super::*;

    /// (page, type, size, count, final) of each result.
    fn told(test: &mut Harness<Event>) -> Vec<(String, String, i64, u64, bool)> {
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let all = test.emitted("page-stats").into_iter().map(|s| {
            let size = s["window_end"].as_i64().unwrap() - s["window_start"].as_i64().unwrap();
            let (count, last) = (s["count"].as_u64().unwrap(), s["final"].as_bool().unwrap());
            (text(&s["page"]), text(&s["eventType"]), size, count, last)
        });
        all.collect()
    }

    fn is(page: &str, kind: &str, size: i64, count: u64, last: bool) -> (String, String, i64, u64, bool) {
        (page.into(), kind.into(), size, count, last)
    }

    #[test]
    fn all_users_of_a_page_are_counted_each_second_and_finally() {
        let mut test = Harness::new(job);
        test.processing_time(10_500);
        view(&mut test, "a", "page_view", "/x y", 1_000);
        view(&mut test, "b", "page_view", "/x y", 59_000);
        view(&mut test, "b", "click", "/x y", 2_000);
        test.commit();
        assert_eq!(told(&mut test), [], "once a second, not at once");
        test.processing_time(11_000);
        let mut early = told(&mut test);
        early.sort();
        assert_eq!(
            early,
            [
                is("/x y", "click", 60_000, 1, false),
                is("/x y", "click", 300_000, 1, false),
                is("/x y", "page_view", 60_000, 2, false),
                is("/x y", "page_view", 300_000, 2, false),
            ]
        );
        test.restore();
        test.processing_time(12_000);
        assert_eq!(told(&mut test), [], "nothing is new");
        test.watermark(59_998);
        assert_eq!(told(&mut test), []);
        test.watermark(59_999);
        let last = [is("/x y", "click", 60_000, 1, true), is("/x y", "page_view", 60_000, 2, true)];
        assert_eq!(told(&mut test), last);
        view(&mut test, "a", "click", "/x y", 60_000);
        test.watermark(299_999);
        assert_eq!(
            told(&mut test),
            [
                is("/x y", "click", 60_000, 1, true),
                is("/x y", "click", 300_000, 2, true),
                is("/x y", "page_view", 300_000, 2, true),
            ]
        );
        test.processing_time(13_000);
        assert!(test.state_is_empty() && told(&mut test).is_empty());
        let stats = test.job().stats();
        assert!(stats.balances(0) && stats.violations == 0, "{stats:?}");
    }

    #[test]
    fn a_result_is_keyed_by_its_page() {
        let mut test = Harness::new(job);
        view(&mut test, "a", "search", "/search", 1_000);
        test.watermark(59_999);
        let result = json!({"page": "/search", "eventType": "search", "window_start": 0, "window_end": 60_000, "count": 1,
                            "final": true});
        assert_eq!(test.keyed("page-stats"), [("/search".to_owned(), result)]);
    }

    #[test]
    fn late_events_correct_a_window_only_while_that_is_allowed() {
        let mut test = Harness::new(job);
        view(&mut test, "a", "click", "/", 1_000);
        test.watermark(300_000);
        told(&mut test);
        view(&mut test, "a", "click", "/", 2_000);
        test.commit();
        assert_eq!(test.rest().len(), 2, "late for the short window and for the long one");

        let mut test = Harness::new(job);
        test.params(1, &json!({"allowed_lateness_s": 10})).unwrap();
        view(&mut test, "a", "click", "/", 1_000);
        test.watermark(60_000);
        told(&mut test);
        view(&mut test, "a", "click", "/", 2_000);
        test.commit();
        assert_eq!(told(&mut test), [is("/", "click", 60_000, 2, true)]);
    }

    #[test]
    fn sizes_and_the_pace_of_early_results_are_live() {
        let mut test = Harness::new(job);
        test.params(1, &json!({"window_size_s": 10, "long_window_size_s": 20, "early_every_s": 5})).unwrap();
        view(&mut test, "a", "click", "/", 1_000);
        test.processing_time(4_999);
        assert_eq!(told(&mut test), []);
        test.processing_time(5_000);
        assert_eq!(told(&mut test).len(), 2);
        test.watermark(19_999);
        let last = [is("/", "click", 10_000, 1, true), is("/", "click", 20_000, 1, true)];
        assert_eq!(told(&mut test), last);
        for bad in ["early_every_s", "long_window_size_s"] {
            assert!(test.params(2, &json!({bad: 0})).unwrap_err().0.contains(bad));
        }
    }

    #[test]
    fn windows_may_slide_as_long_as_they_are_few() {
        let mut test = Harness::new(job);
        let sliding =
            json!({"window": "sliding", "window_size_s": 20, "long_window_size_s": 40, "slide_s": 20});
        test.params(1, &sliding).unwrap();
        view(&mut test, "a", "click", "/", 25_000);
        test.watermark(60_000);
        let last = [20_000, 40_000, 40_000].map(|size| is("/", "click", size, 1, true));
        assert_eq!(told(&mut test), last);
        assert!(
            test.params(2, &json!({"window": "sliding", "slide_s": 1})).unwrap_err().0.contains("slide_s")
        );
    }
}
