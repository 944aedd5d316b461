//! `impossible-travel`: two events of a user at places so far from each other that nobody gets there in the time between.
//!
//! Time is event time: of two events that come in the wrong order, the one that comes second raises the alert.

use garde::Validate;
use millrace_core::process::{Current, ProcessContext, ProcessFunction};
use millrace_core::state::Ttl;
use millrace_core::stream::job as new_job;
use millrace_core::{EventTime, Job};
use millrace_wire::Timestamp;
use millrace_wire::event::{Location, UserEvent};
use millrace_wire::result::{Alert, Evidence, ImpossibleTravel, Severity, alert_id};
use millrace_wire::topic;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Event;
use super::geography::distance_km;
use crate::apps::evidence;
use crate::apps::parameters::TtlDays;

/// Live parameters.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default, deny_unknown_fields)]
struct Params {
    /// Nobody travels faster.
    #[garde(range(min = 1.0, max = 1e6))]
    #[schemars(title = "Speed above", extend("x-unit" = "km/h"))]
    speed_kmh: f64,
    /// Places that are nearer to each other are the same: what locates users errs.
    #[garde(range(min = 0.0, max = 20_000.0))]
    #[schemars(title = "Distance above", extend("x-unit" = "km"))]
    distance_km: f64,
    #[garde(dive)]
    ttl_days: TtlDays,
}

impl Default for Params {
    fn default() -> Self {
        Self { speed_kmh: 900.0, distance_km: 1.0, ttl_days: TtlDays::default() }
    }
}

/// The latest place of a user, by event time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Seen {
    at: Timestamp,
    place: Location,
    evidence: Option<Evidence>,
}

struct Travel;

impl ProcessFunction<Params, UserEvent> for Travel {
    type State = Option<Seen>;
    type Out = Alert<ImpossibleTravel>;

    fn record(
        &mut self,
        event: &UserEvent,
        _: EventTime,
        latest: &mut Current<Option<Seen>>,
        ctx: &mut ProcessContext<'_, '_, Params, Self::Out>,
    ) {
        let Some(place) = event.location else { return };
        let this = Seen { at: event.timestamp, place, evidence: evidence(ctx.origin()) };
        if let Some(last) = &**latest {
            let (from, to) = if last.at <= this.at { (last, &this) } else { (&this, last) };
            if let Some(alert) = judge(event, from, to, ctx.params(), Timestamp(ctx.now())) {
                ctx.collect(alert);
            }
        }
        if latest.as_ref().is_none_or(|last| last.at <= this.at) {
            **latest = Some(this);
        }
    }

    fn ttl(&self, params: &Params) -> Option<Ttl> {
        Some(params.ttl_days.ttl())
    }
}

#[allow(clippy::cast_precision_loss)]
fn judge(
    event: &UserEvent,
    from: &Seen,
    to: &Seen,
    params: &Params,
    now: Timestamp,
) -> Option<Alert<ImpossibleTravel>> {
    let distance_km = distance_km(from.place, to.place);
    let ms = to.at.millis() - from.at.millis();
    let hours = ms as f64 / 3_600_000.0;
    if distance_km <= params.distance_km || distance_km <= params.speed_kmh * hours {
        return None;
    }
    let evidence: Vec<_> = [from, to].into_iter().filter_map(|seen| seen.evidence.clone()).collect();
    Some(Alert {
        id: alert_id("impossible-travel", &evidence),
        r#type: "IMPOSSIBLE_TRAVEL".into(),
        severity: Severity::High,
        key: event.user_id.clone(),
        message: format!("{} was {distance_km:.0} km away {} s before", event.user_id, ms / 1_000),
        timestamp: now,
        evidence,
        details: ImpossibleTravel {
            user_id: event.user_id.clone(),
            from: from.place,
            to: to.place,
            distance_km,
            speed_kmh: (ms > 0).then(|| distance_km / hours),
            first_timestamp: from.at,
            second_timestamp: to.at,
        },
    })
}

pub(super) fn job() -> Box<dyn Job<Event>> {
    new_job::<Event, Params>(
        "impossible-travel",
        "Alerts for users who are at two places at nearly one time.",
    )
    .topics(&[topic::USER_EVENTS], &[topic::ALERTS])
    .alerts()
    .source(Event::user_event)
    .filter(|event, _| event.location.is_some())
    .key_by(|event| &event.user_id)
    .process(Travel)
    .to(|alert| (topic::ALERTS, &alert.key))
}

#[cfg(test)]
mod tests {
    use millrace_core::testing::Harness;
    use serde_json::json;

    use super::super::tests::{HOUR, PARIS, at_place, view};
    use super::*;

    const LONDON: (f64, f64) = (51.5074, -0.1278);
    const NEW_YORK: (f64, f64) = (40.7128, -74.006);

    fn speeds(test: &mut Harness<Event>) -> Vec<Option<f64>> {
        test.emitted("alerts").iter().map(|a| a["speedKmh"].as_f64().map(f64::round)).collect()
    }

    #[test]
    fn paris_to_new_york_in_an_hour_is_impossible_and_in_seven_it_is_not() {
        let mut test = Harness::new(job);
        test.processing_time(77);
        at_place(&mut test, "u", "click", 0, PARIS);
        at_place(&mut test, "v", "click", 0, PARIS);
        view(&mut test, "u", "click", "/", 10);
        test.restore();
        at_place(&mut test, "u", "click", HOUR, NEW_YORK);
        at_place(&mut test, "v", "click", 7 * HOUR, NEW_YORK);
        let mut alerts = test.keyed("alerts");
        assert_eq!(alerts.len(), 1);
        let (key, mut alert) = alerts.remove(0);
        let distance = alert["distanceKm"].as_f64().unwrap();
        assert!((distance - 5_837.0).abs() < 1.0 && alert["speedKmh"].as_f64() == Some(distance), "{alert}");
        alert.as_object_mut().unwrap().retain(|name, _| name != "distanceKm" && name != "speedKmh");
        assert_eq!(
            (key.as_str(), alert),
            (
                "u",
                json!({
                    "id": "impossible-travel/test/0/0,3", "type": "IMPOSSIBLE_TRAVEL", "severity": "high", "key": "u",
                    "message": "u was 5837 km away 3600 s before", "timestamp": 77,
                    "evidence": [
                        {"topic": "test", "partition": 0, "offset": 0}, {"topic": "test", "partition": 0, "offset": 3}
                    ],
                    "userId": "u", "from": {"lat": 48.8566, "lon": 2.3522}, "to": {"lat": 40.7128, "lon": -74.006},
                    "firstTimestamp": 0, "secondTimestamp": HOUR
                })
            )
        );
        let stats = test.job().stats();
        assert!(stats.balances(0) && stats.filtered == 1, "{stats:?}");
    }

    #[test]
    fn two_places_at_one_time_are_impossible_unless_they_are_the_same() {
        let mut test = Harness::new(job);
        at_place(&mut test, "u", "click", 0, PARIS);
        at_place(&mut test, "u", "click", 0, (PARIS.0, PARIS.1 + 0.001));
        assert_eq!(speeds(&mut test), []);
        at_place(&mut test, "u", "click", 0, LONDON);
        assert_eq!(speeds(&mut test), [None]);
    }

    #[test]
    fn the_wrong_order_is_no_excuse_and_the_latest_place_stays_the_latest() {
        let mut test = Harness::new(job);
        at_place(&mut test, "u", "click", 10 * HOUR, PARIS);
        test.watermark(20 * HOUR);
        at_place(&mut test, "u", "click", 9 * HOUR, NEW_YORK);
        let alerts = test.emitted("alerts");
        assert_eq!((alerts.len(), &alerts[0]["id"]), (1, &json!("impossible-travel/test/0/1,0")));
        at_place(&mut test, "u", "click", 11 * HOUR, PARIS);
        assert_eq!(speeds(&mut test), [], "Paris again, an hour after Paris");
        assert_eq!(test.job().stats().late, 0);
    }

    #[test]
    fn limits_are_live_and_a_user_who_stays_away_is_forgotten() {
        let mut test = Harness::new(job);
        test.params(1, &json!({"speed_kmh": 300, "distance_km": 500})).unwrap();
        at_place(&mut test, "u", "click", 0, PARIS);
        at_place(&mut test, "u", "click", HOUR, LONDON);
        assert_eq!(speeds(&mut test), [], "344 km are the same place now");
        test.params(2, &json!({"speed_kmh": 300})).unwrap();
        at_place(&mut test, "u", "click", 2 * HOUR, PARIS);
        assert_eq!(speeds(&mut test), [Some(344.0)]);
        assert!(test.params(3, &json!({"speed_kmh": 0})).unwrap_err().0.contains("speed_kmh"));
        test.watermark(2 * HOUR + TtlDays::default().ttl().ttl);
        assert!(test.state_is_empty());
    }
}
