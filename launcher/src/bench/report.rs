//! What was measured: a line of JSON each, or one table.

use serde::Serialize;

use super::watch::Warm;
use crate::out;

/// One measurement. What does not apply is absent.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Measurement {
    /// What was measured.
    pub name: String,
    /// Source records.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub records: Option<u64>,
    /// Committed results.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub results: Option<u64>,
    /// Worker processes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers: Option<u16>,
    /// From the start of the processes to the commit of the last record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wall_s: Option<f64>,
    /// CPU time of the processes in that time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_s: Option<f64>,
    /// Records per second once warm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rec_per_s_warm: Option<f64>,
    /// Records per second of CPU time once warm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rec_per_cpu_s_warm: Option<f64>,
    /// Largest resident memory of the processes, 10^6 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rss_mb: Option<f64>,
    /// Median.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p50_ms: Option<f64>,
    /// 95 of 100 are not above it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p95_ms: Option<f64>,
    /// 99 of 100 are not above it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99_ms: Option<f64>,
    /// Keys of state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys: Option<u32>,
    /// How often it was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rounds: Option<u32>,
}

impl Measurement {
    /// Of this name, without figures.
    pub fn of(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// With the rates of a run.
    pub fn warm(self, warm: Option<Warm>) -> Self {
        Self {
            rec_per_s_warm: warm.map(|warm| warm.rec_per_s),
            rec_per_cpu_s_warm: warm.and_then(|warm| warm.rec_per_cpu_s),
            ..self
        }
    }
}

/// The smallest value that is not below this share of them (nearest rank); `None` without values. They are sorted.
pub fn percentile(sorted: &[f64], share: f64) -> Option<f64> {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied()
}

/// Collects measurements and shows them.
#[derive(Debug)]
pub struct Report {
    json: bool,
    measured: Vec<Measurement>,
}

impl Report {
    /// As lines of JSON or as a table.
    pub fn new(json: bool) -> Self {
        Self { json, measured: Vec::new() }
    }

    /// Adds one; JSON is written at once.
    pub fn add(&mut self, measurement: Measurement) {
        if self.json
            && let Ok(line) = serde_json::to_string(&measurement)
        {
            out::line(line);
        }
        self.measured.push(measurement);
    }

    /// Whether nothing was measured.
    pub fn is_empty(&self) -> bool {
        self.measured.is_empty()
    }

    /// Writes the table.
    pub fn finish(&self) {
        if !self.json && !self.is_empty() {
            table(&self.measured).iter().for_each(out::line);
        }
    }
}

/// Lines of a table, its columns aligned; what is absent is a dash.
fn table(measured: &[Measurement]) -> Vec<String> {
    const HEAD: [&str; 11] = [
        "measured",
        "records",
        "results",
        "wall s",
        "cpu s",
        "k rec/s",
        "k rec/cpu-s",
        "rss MB",
        "p50 ms",
        "p95 ms",
        "p99 ms",
    ];
    let number = |value: Option<f64>, digits: usize| {
        value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
    };
    let count = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
    let thousands = |value: Option<f64>| number(value.map(|value| value / 1_000.0), 0);
    let mut rows = vec![HEAD.map(str::to_owned)];
    rows.extend(measured.iter().map(|m| {
        [
            m.name.clone(),
            count(m.records),
            count(m.results),
            number(m.wall_s, 1),
            number(m.cpu_s, 1),
            thousands(m.rec_per_s_warm),
            thousands(m.rec_per_cpu_s_warm),
            number(m.rss_mb, 0),
            number(m.p50_ms, 0),
            number(m.p95_ms, 0),
            number(m.p99_ms, 0),
        ]
    }));
    let mut widths = [0; HEAD.len()];
    for row in &rows {
        for (widest, cell) in widths.iter_mut().zip(row) {
            *widest = cell.chars().count().max(*widest);
        }
    }
    let line = |row: &[String; HEAD.len()]| {
        let mut cells = row.iter().zip(widths);
        let first = cells.next().map(|(cell, width)| format!("{cell:<width$}")).unwrap_or_default();
        cells.fold(first, |line, (cell, width)| format!("{line}  {cell:>width$}"))
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(percentile(&values, 0.5), Some(50.0));
        assert_eq!(percentile(&values, 0.99), Some(99.0));
        assert_eq!(percentile(&values[..7], 0.5), Some(4.0));
        assert_eq!(percentile(&values[..1], 0.99), Some(1.0));
        assert_eq!(percentile(&values, 0.0), Some(1.0));
        assert_eq!(percentile(&[], 0.5), None);
    }

    #[test]
    fn a_table_has_a_column_for_each_figure_and_a_dash_for_what_does_not_apply() {
        let warm = Warm { rec_per_s: 250_400.0, rec_per_cpu_s: Some(1_000_000.0) };
        let fast = Measurement { records: Some(1_000_000), cpu_s: Some(1.25), ..Measurement::of("tumbling") };
        let slow = Measurement { p50_ms: Some(41.6), p99_ms: Some(90.2), ..Measurement::of("latency-2000") };
        let lines = table(&[fast.warm(Some(warm)), slow]);
        assert_eq!(lines.len(), 3);
        let cells = |n: usize| lines[n].split_whitespace().collect::<Vec<_>>();
        assert_eq!(cells(1), ["tumbling", "1000000", "-", "-", "1.2", "250", "1000", "-", "-", "-", "-"]);
        assert_eq!(cells(2)[8..], ["42", "-", "90"]);
        assert!(lines.iter().all(|line| line.len() == lines[0].len()), "{lines:?}");
    }

    #[test]
    fn json_has_the_names_of_the_issue_and_only_what_applies() {
        let measured = Measurement { wall_s: Some(1.5), ..Measurement::of("floor") };
        assert_eq!(serde_json::to_string(&measured).unwrap(), r#"{"name":"floor","wall_s":1.5}"#);
    }
}
