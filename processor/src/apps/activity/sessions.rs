//! `sessions`: what a user does without a longer pause is a visit: how long it was, how far it came, where it began and ended.

use std::collections::BTreeSet;

use compact_str::CompactString;
use garde::Validate;
use millrace_core::Job;
use millrace_core::stream::job as new_job;
use millrace_core::window::{WindowSpec, Windowed};
use millrace_wire::Timestamp;
use millrace_wire::event::EventType;
use millrace_wire::result::{FunnelStage, UserSession};
use millrace_wire::topic;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Event;
use crate::apps::parameters::{Gap, Lateness, Slide, WindowSize, WindowType};

/// Live parameters. A new gap holds for visits that begin after the change.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default, deny_unknown_fields)]
struct Params {
    #[garde(skip)]
    window: WindowType,
    #[garde(dive)]
    window_size_s: WindowSize,
    #[garde(dive)]
    slide_s: Slide,
    /// A pause of this length ends a visit. 30 s let the demo's visits end while one looks; 1,800 s are usual elsewhere.
    #[garde(dive)]
    gap_s: Gap,
    #[garde(dive)]
    allowed_lateness_s: Lateness,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            window: WindowType::Session,
            window_size_s: WindowSize(300),
            slide_s: Slide(60),
            gap_s: Gap(30),
            allowed_lateness_s: Lateness(0),
        }
    }
}

impl Params {
    fn windows(&self) -> WindowSpec {
        self.window.spec(self.window_size_s, self.slide_s, self.gap_s)
    }
}

/// What a visit keeps of an event. Part of the state.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Step {
    user_id: CompactString,
    at: Timestamp,
    page: CompactString,
    kind: EventType,
}

fn stage(kind: EventType) -> FunnelStage {
    match kind {
        EventType::AddToCart => FunnelStage::Cart,
        EventType::Checkout => FunnelStage::Checkout,
        EventType::Purchase => FunnelStage::Purchase,
        _ => FunnelStage::Browse,
    }
}

fn session(visit: &Windowed<&[Step]>) -> UserSession {
    let mut steps: Vec<&Step> = visit.value.iter().collect();
    steps.sort_by_key(|step| step.at);
    let end =
        |step: Option<&&Step>| step.map(|step| (step.at.millis(), step.page.clone())).unwrap_or_default();
    let ((began, entry_page), (ended, exit_page)) = (end(steps.first()), end(steps.last()));
    UserSession {
        user_id: CompactString::from(&*visit.key),
        window_start: visit.window.start,
        window_end: visit.window.end,
        duration: ended - began,
        events: steps.len() as u64,
        pages: steps.iter().map(|step| &step.page).collect::<BTreeSet<_>>().len() as u64,
        funnel_stage: steps.iter().map(|step| stage(step.kind)).max().unwrap_or(FunnelStage::Browse),
        bounce: steps.len() == 1,
        entry_page,
        exit_page,
    }
}

pub(super) fn job() -> Box<dyn Job<Event>> {
    new_job::<Event, Params>("sessions", "Visits of users: length, pages, how far they came.")
        .topics(&[topic::USER_EVENTS], &[topic::USER_SESSIONS])
        .source(Event::user_event)
        .map(|event, _, _| Step {
            user_id: event.user_id.clone(),
            at: event.timestamp,
            page: event.page.clone(),
            kind: event.event_type,
        })
        .key_by(|step| &step.user_id)
        .window(Params::windows)
        .allowed_lateness(|params| params.allowed_lateness_s.ms())
        .process(|visit, _| session(visit))
        .map(|visit, _, _| visit.value.clone())
        .to(|session| (topic::USER_SESSIONS, &session.user_id))
}

#[cfg(test)]
mod tests {
    use millrace_core::Effect;
    use millrace_core::testing::Harness;
    use serde_json::json;

    use super::super::tests::view;
    use super::*;

    fn lengths(test: &mut Harness<Event>) -> Vec<(i64, u64)> {
        let all = test.emitted("user-sessions");
        all.iter().map(|s| (s["duration"].as_i64().unwrap(), s["events"].as_u64().unwrap())).collect()
    }

    #[test]
    fn a_visit_is_told_when_its_user_has_paused() {
        let mut test = Harness::new(job);
        for (kind, page, at) in [
            ("add_to_cart", "/product/7", 20_000),
            ("page_view", "/", 1_000),
            ("login", "/account", 40_000),
            ("page_view", "/", 45_000),
        ] {
            view(&mut test, "u", kind, page, at);
        }
        view(&mut test, "v", "page_view", "/search", 44_000);
        test.watermark(74_998);
        test.restore();
        let bounce = json!({"userId": "v", "window_start": 44_000, "window_end": 74_000, "duration": 0, "events": 1,
                            "pages": 1, "funnelStage": "BROWSE", "bounce": true, "entryPage": "/search",
                            "exitPage": "/search"});
        assert_eq!(test.keyed("user-sessions"), [("v".to_owned(), bounce)]);
        test.watermark(74_999);
        let visit = json!({"userId": "u", "window_start": 1_000, "window_end": 75_000, "duration": 44_000, "events": 4,
                           "pages": 3, "funnelStage": "CART", "bounce": false, "entryPage": "/", "exitPage": "/"});
        assert_eq!(test.keyed("user-sessions"), [("u".to_owned(), visit)]);
        assert!(test.state_is_empty());
    }

    #[test]
    fn a_pause_as_long_as_the_gap_separates_and_an_event_between_unites() {
        let mut test = Harness::new(job);
        view(&mut test, "u", "click", "/", 0);
        view(&mut test, "u", "click", "/", 30_001);
        view(&mut test, "v", "click", "/", 0);
        view(&mut test, "v", "click", "/", 30_001);
        view(&mut test, "v", "click", "/", 15_000);
        test.watermark(100_000);
        assert_eq!(lengths(&mut test), [(0, 1), (0, 1), (30_001, 3)]);
    }

    #[test]
    fn how_far_a_visit_came_is_its_furthest_stage() {
        let stages = [
            ("page_view", "BROWSE"),
            ("add_to_cart", "CART"),
            ("checkout", "CHECKOUT"),
            ("purchase", "PURCHASE"),
        ];
        for (kind, expected) in stages {
            let mut test = Harness::new(job);
            view(&mut test, "u", kind, "/", 0);
            view(&mut test, "u", "logout", "/", 1);
            test.watermark(100_000);
            assert_eq!(test.emitted("user-sessions")[0]["funnelStage"], expected);
        }
    }

    #[test]
    fn what_is_late_is_refused_and_the_gap_is_live() {
        let mut test = Harness::new(job);
        test.params(1, &json!({"gap_s": 1})).unwrap();
        view(&mut test, "u", "click", "/", 0);
        view(&mut test, "u", "click", "/", 1_500);
        test.watermark(2_499);
        assert_eq!(lengths(&mut test), [(0, 1), (0, 1)]);
        view(&mut test, "u", "click", "/", 700);
        assert_eq!(test.rest(), [Effect::Late { job: "sessions", watermark: 2_499 }]);
        assert!(test.params(2, &json!({"gap_s": 0})).unwrap_err().0.contains("gap_s"));
    }

    #[test]
    fn visits_may_be_cut_by_the_clock_instead() {
        let mut test = Harness::new(job);
        test.params(1, &json!({"window": "tumbling", "window_size_s": 60})).unwrap();
        for at in [1_000, 50_000, 61_000] {
            view(&mut test, "u", "click", "/", at);
        }
        test.watermark(59_999);
        let visits = test.emitted("user-sessions");
        assert_eq!(visits.len(), 1);
        let shown = ["window_start", "window_end", "events", "duration"]
            .map(|field| visits[0][field].as_i64().unwrap());
        assert_eq!(shown, [0, 60_000, 2, 49_000]);
    }
}
