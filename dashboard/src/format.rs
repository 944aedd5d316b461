//! Numbers, times and durations in words. Pure: the caller says what time it is and how far the clock on the wall is
//! from UTC, so that every line here is tested on the host.

use millrace_wire::telemetry::{TimeUse, WorkerState};
use serde_json::Value;

/// What stands where there is no number: never a zero that nobody measured.
pub const NOTHING: &str = "–";

/// `1234567` → `1,234,567`.
pub fn grouped(value: i64) -> String {
    let digits = value.unsigned_abs().to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3 + 1);
    if value < 0 {
        text.push('−');
    }
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A total that is counted as `u64`.
pub fn total(value: u64) -> String {
    grouped(i64::try_from(value).unwrap_or(i64::MAX))
}

/// Records per second, without the unit: `0`, `0.4`, `12.5`, `4,980`.
pub fn rate(value: f64) -> String {
    if !value.is_finite() {
        return NOTHING.into();
    }
    if value.abs() < 0.05 {
        return "0".into();
    }
    if value.abs() < 100.0 { decimals(value, 1) } else { grouped(value.round() as i64) }
}

/// Short form for places with little room: `4,980`, `12.4k`, `3.1M`.
pub fn compact(value: f64) -> String {
    let size = value.abs();
    match size {
        s if !s.is_finite() => NOTHING.into(),
        s if s < 10_000.0 => rate(if s < 100.0 { value } else { value.round() }),
        s if s < 1_000_000.0 => format!("{}k", decimals(value / 1_000.0, if s < 100_000.0 { 1 } else { 0 })),
        s if s < 1_000_000_000.0 => format!("{}M", decimals(value / 1_000_000.0, 1)),
        _ => format!("{}G", decimals(value / 1_000_000_000.0, 1)),
    }
}

/// With at most so many decimals, none of them a trailing zero.
pub fn decimals(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    match text.strip_prefix('-') {
        Some("0") => "0".into(),
        Some(rest) => format!("−{rest}"),
        None => text.into(),
    }
}

/// Milliseconds with the unit that suits: `0.4 ms`, `34 ms`, `1.2 s`, `5 min`.
pub fn millis(value: f64) -> String {
    match value {
        v if !v.is_finite() => NOTHING.into(),
        v if v < 10.0 => format!("{} ms", decimals(v, 1)),
        v if v < 1_000.0 => format!("{v:.0} ms"),
        v if v < 60_000.0 => format!("{} s", decimals(v / 1_000.0, 1)),
        v => age(v),
    }
}

/// How long ago, coarse: `0 s`, `12 s`, `5 min`, `3 h`, `2 d`.
pub fn age(millis: f64) -> String {
    let seconds = (millis.max(0.0) / 1_000.0).floor();
    match seconds {
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7_200.0 => format!("{:.0} min", (s / 60.0).floor()),
        s if s < 172_800.0 => format!("{:.0} h", (s / 3_600.0).floor()),
        s => format!("{:.0} d", (s / 86_400.0).floor()),
    }
}

/// An exact span such as a window's size: `10 s`, `1 min`, `90 s`, `5 min`, `1 h`.
pub fn span(millis: i64) -> String {
    match millis {
        m if m != 0 && m % 3_600_000 == 0 => format!("{} h", m / 3_600_000),
        m if m != 0 && m % 60_000 == 0 => format!("{} min", m / 60_000),
        m if m % 1_000 == 0 => format!("{} s", m / 1_000),
        m => format!("{m} ms"),
    }
}

/// Bytes: `512 B`, `34 KB`, `1.2 GB` (powers of 1,024).
pub fn bytes(value: u64) -> String {
    let value = value as f64;
    match value {
        v if v < 1_024.0 => format!("{v:.0} B"),
        v if v < 1_048_576.0 => format!("{} KB", decimals(v / 1_024.0, if v < 10_240.0 { 1 } else { 0 })),
        v if v < 1_073_741_824.0 => format!("{:.0} MB", v / 1_048_576.0),
        v => format!("{} GB", decimals(v / 1_073_741_824.0, 1)),
    }
}

/// Time of day on the wall: `14:03:27`.
pub fn clock(epoch_ms: i64, utc_offset_min: i64) -> String {
    let seconds = (epoch_ms + utc_offset_min * 60_000).div_euclid(1_000).rem_euclid(86_400);
    format!("{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

/// How a group's lag moves: `catching up 120/s`, `falling behind 40/s`, `steady`, `none`.
pub fn trend(lag_records: i64, per_second: f64) -> String {
    if lag_records == 0 && per_second.abs() < 1.0 {
        return "up to date".into();
    }
    match per_second {
        t if t <= -1.0 => format!("catching up {}/s", rate(-t)),
        t if t >= 1.0 => format!("falling behind {}/s", rate(t)),
        _ => "steady".into(),
    }
}

/// Backpressure in words: `idle`, `busy 34 %`, `backpressured 60 %`.
pub fn time_use(time: &TimeUse) -> String {
    let sum = time.busy_ms_per_s + time.idle_ms_per_s + time.backpressured_ms_per_s;
    if sum <= 0.0 {
        return NOTHING.into();
    }
    let (busy, pressed) = (time.busy_ms_per_s / sum, time.backpressured_ms_per_s / sum);
    if pressed >= 0.1 {
        format!("backpressured {:.0} %", pressed * 100.0)
    } else if busy >= 0.01 {
        format!("busy {:.0} %", busy * 100.0)
    } else {
        "idle".into()
    }
}

/// What a worker is doing, in words.
pub fn worker_state(state: &WorkerState) -> String {
    match state {
        WorkerState::Starting => "starting".into(),
        WorkerState::Restoring { records } => format!("restoring, {} records", total(*records)),
        WorkerState::Running => "running".into(),
        WorkerState::Retrying { error } => format!("retrying: {error}"),
        WorkerState::Failed { error } => format!("failed: {error}"),
    }
}

/// A part of everything, 0 to 1, in percent: never 100 % unless it is all of it, nor 0 % unless it is nothing.
pub fn share(part: f64) -> String {
    let percent = (part * 100.0).clamp(0.0, 100.0);
    let shown = match percent {
        p if p > 99.9 && p < 100.0 => 99.9,
        p if p > 0.0 && p < 0.1 => 0.1,
        p => p,
    };
    format!("{} %", decimals(shown, 1))
}

/// Names as somebody would type them; [`listed`] reads them again.
pub fn list(items: &[Value]) -> String {
    let names = items.iter().map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned));
    names.collect::<Vec<_>>().join(", ")
}

/// Names with commas between them.
pub fn listed(text: &str) -> Value {
    text.split(',').map(str::trim).filter(|name| !name.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(grouped(-100), "−100");
        assert_eq!(grouped(0), "0");
        assert_eq!(rate(0.0), "0");
        assert_eq!(rate(12.55), "12.6");
        assert_eq!(rate(4_980.4), "4,980");
        assert_eq!(rate(f64::NAN), NOTHING);
        assert_eq!(compact(9_999.0), "9,999");
        assert_eq!(compact(12_400.0), "12.4k");
        assert_eq!(compact(3_100_000.0), "3.1M");
        assert_eq!(decimals(2.50, 2), "2.5");
        assert_eq!(decimals(-0.001, 1), "0");
        assert_eq!(decimals(100.0, 0), "100");
    }

    #[test]
    fn spans_keep_their_unit() {
        assert_eq!(millis(0.44), "0.4 ms");
        assert_eq!(millis(34.2), "34 ms");
        assert_eq!(millis(1_250.0), "1.2 s");
        assert_eq!(age(2_900.0), "2 s");
        assert_eq!(age(300_000.0), "5 min");
        assert_eq!(span(300_000), "5 min");
        assert_eq!(span(90_000), "90 s");
        assert_eq!(span(3_600_000), "1 h");
        assert_eq!(span(1_500), "1500 ms");
        assert_eq!(bytes(35_000), "34 KB");
        assert_eq!(bytes(2_147_483_648), "2 GB");
    }

    #[test]
    fn a_share_is_all_or_nothing_only_if_it_is() {
        let shown = [0.0, 0.000_1, 0.123_4, 0.999_99, 1.0].map(share);
        assert_eq!(shown, ["0 %", "0.1 %", "12.3 %", "99.9 %", "100 %"]);
    }

    #[test]
    fn lists_are_read_as_they_are_shown() {
        let names = serde_json::json!(["books", "home & garden"]);
        assert_eq!(list(names.as_array().unwrap()), "books, home & garden");
        assert_eq!(listed(" books,home & garden ,, "), names);
        assert_eq!(listed("  "), serde_json::json!([]));
    }

    #[test]
    fn the_clock_follows_the_wall() {
        assert_eq!(clock(1_717_200_000_000, 0), "00:00:00");
        assert_eq!(clock(1_717_200_000_000, 120), "02:00:00");
        assert_eq!(clock(1_717_200_000_000, -1), "23:59:00");
    }

    #[test]
    fn lag_and_pressure_are_said_in_words() {
        assert_eq!(trend(0, 0.0), "up to date");
        assert_eq!(trend(500, -120.0), "catching up 120/s");
        assert_eq!(trend(500, 40.0), "falling behind 40/s");
        assert_eq!(trend(500, 0.2), "steady");
        let time = |busy_ms_per_s, idle_ms_per_s, backpressured_ms_per_s| TimeUse {
            busy_ms_per_s,
            idle_ms_per_s,
            backpressured_ms_per_s,
        };
        assert_eq!(time_use(&time(340.0, 660.0, 0.0)), "busy 34 %");
        assert_eq!(time_use(&time(5.0, 995.0, 0.0)), "idle");
        assert_eq!(time_use(&time(300.0, 100.0, 600.0)), "backpressured 60 %");
        assert_eq!(time_use(&time(0.0, 0.0, 0.0)), NOTHING);
    }
}
