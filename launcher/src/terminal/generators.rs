//! `millrace rate`, `scenario`.

use std::collections::BTreeSet;
use std::process::ExitCode;

use anyhow::{Result, bail};
use millrace_wire::control::{Command, MAX_RATE, MAX_SECONDS, RateSettings, ScenarioSettings};
use millrace_wire::scenario::Scenario;
use millrace_wire::telemetry::Body;
use millrace_wire::topic;

use super::talk::Talk;
use crate::layout::Layout;
use crate::out;

/// `rate STREAM N`.
pub fn rate(layout: &Layout, stream: &str, rate: f64) -> Result<ExitCode> {
    if !(0.0..=MAX_RATE).contains(&rate) {
        bail!("a rate is from 0 to {MAX_RATE} events/s");
    }
    let command = Command::Rate { stream: stream.to_owned(), settings: RateSettings { rate } };
    let ms = give(layout, stream, command)?;
    out::line(format!("{rate} events/s in force after {ms:.0} ms"));
    Ok(ExitCode::SUCCESS)
}

/// `scenario [NAME]`.
pub fn scenario(layout: &Layout, name: Option<&str>, stream: Option<&str>, seconds: u32) -> Result<ExitCode> {
    let Some(name) = name else {
        for scenario in Scenario::ALL {
            let fit = streams(scenario).join(", ");
            out::line(format!("{:<18} in {fit}: {}", scenario.name(), scenario.provokes()));
        }
        return Ok(ExitCode::SUCCESS);
    };
    if !(1..=MAX_SECONDS).contains(&seconds) {
        bail!("a scenario lasts 1 to {MAX_SECONDS} s");
    }
    let (scenario, stream) = choose(name, stream)?;
    let settings = ScenarioSettings { name: scenario, seconds };
    let ms = give(layout, stream, Command::Scenario { stream: stream.to_owned(), settings })?;
    out::line(format!(
        "{name} in {stream} for {seconds} s, begun after {ms:.0} ms; it should provoke: {}",
        scenario.provokes()
    ));
    Ok(ExitCode::SUCCESS)
}

/// The scenario of this name, and the stream that it is for.
fn choose<'a>(name: &str, stream: Option<&'a str>) -> Result<(Scenario, &'a str)> {
    let Some(scenario) = Scenario::ALL.into_iter().find(|scenario| scenario.name() == name) else {
        let all: Vec<_> = Scenario::ALL.into_iter().map(Scenario::name).collect();
        bail!("no scenario {name}, only {}", all.join(", "));
    };
    let fit = streams(scenario);
    match (stream, fit.as_slice()) {
        (Some(stream), _) if scenario.fits(stream) => Ok((scenario, stream)),
        (Some(stream), _) => bail!("{name} can't be provoked in {stream}, only in {}", fit.join(", ")),
        (None, [only]) => Ok((scenario, only)),
        (None, _) => bail!("say in which stream, --stream {}", fit.join("|")),
    }
}

/// The streams in which it can be provoked.
fn streams(scenario: Scenario) -> Vec<&'static str> {
    let all = [topic::IOT_SENSORS, topic::TRANSACTIONS, topic::ORDERS, topic::USER_EVENTS];
    all.into_iter().filter(|stream| scenario.fits(stream)).collect()
}

/// Gives a command to those who generate a stream. Returns how long it took, ms.
fn give(layout: &Layout, stream: &str, command: Command) -> Result<f64> {
    let mut talk = Talk::new(layout)?;
    let (mut concerned, mut streams) = (BTreeSet::new(), Vec::new());
    for frame in talk.frames() {
        if let Body::Producers { streams: here } = &frame.body {
            streams.extend(here.iter().map(|generator| generator.stream.clone()));
            if here.iter().any(|generator| generator.stream == stream) {
                concerned.insert(frame.component.clone());
            }
        }
    }
    if concerned.is_empty() && !streams.is_empty() {
        bail!("no generator of {stream}, only of {}", streams.join(", "));
    }
    talk.command(command, concerned, "no generator runs")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_needs_a_stream_only_if_it_fits_several() {
        assert_eq!(choose("mold", None).unwrap(), (Scenario::Mold, "iot-sensors"));
        assert_eq!(choose("burst", Some("orders")).unwrap(), (Scenario::Burst, "orders"));
        for (name, stream, says) in [
            ("burst", None, "--stream iot-sensors|transactions|orders|user-events"),
            ("mold", Some("orders"), "only in iot-sensors"),
            ("burst", Some("system-metrics"), "can't be provoked"),
            ("mould", None, "only burst, late-storm"),
        ] {
            let error = choose(name, stream).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
