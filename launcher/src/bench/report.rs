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
    /// The most memory that a process has had resident, 10^6 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_mb: Option<f64>,
    /// Median time of a task's checkpoint, from its begin until it is durable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint_ms: Option<f64>,
    /// The longest that one held up processing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocked_ms: Option<f64>,
    /// Bytes of the newest checkpoints of all tasks, 10^6.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint_mb: Option<f64>,
    /// Median time that all tasks of a worker took to restore their state, one after the other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restore_ms: Option<f64>,
    /// Median time from a kill to the first new committed result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub back_ms: Option<f64>,
    /// The longest that a partition went without a new committed result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause_ms: Option<f64>,
    /// The same in as long a time before, with nothing done to the workers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usual_pause_ms: Option<f64>,
    /// Bytes of the checkpoints that are restored, by the time that it takes, 10^6 bytes per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restore_mb_per_s: Option<f64>,
    /// State in the worker's folder, 10^6 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_mb: Option<f64>,
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

/// Lines of a table, its columns aligned; what is absent is a dash, and a column without any figure is left out.
fn table(measured: &[Measurement]) -> Vec<String> {
    type Cell = fn(&Measurement) -> Option<String>;
    fn number(value: Option<f64>, digits: usize) -> Option<String> {
        value.map(|value| format!("{value:.digits$}"))
    }
    fn thousands(value: Option<f64>) -> Option<String> {
        number(value.map(|value| value / 1_000.0), 0)
    }
    const COLUMNS: [(&str, Cell); 21] = [
        ("measured", |m| Some(m.name.clone())),
        ("records", |m| m.records.map(|n| n.to_string())),
        ("results", |m| m.results.map(|n| n.to_string())),
        ("wall s", |m| number(m.wall_s, 1)),
        ("cpu s", |m| number(m.cpu_s, 1)),
        ("k rec/s", |m| thousands(m.rec_per_s_warm)),
        ("k rec/cpu-s", |m| thousands(m.rec_per_cpu_s_warm)),
        ("rss MB", |m| number(m.rss_mb, 0)),
        ("peak MB", |m| number(m.peak_mb, 0)),
        ("p50 ms", |m| number(m.p50_ms, 0)),
        ("p95 ms", |m| number(m.p95_ms, 0)),
        ("p99 ms", |m| number(m.p99_ms, 0)),
        ("checkpoint ms", |m| number(m.checkpoint_ms, 0)),
        ("blocked ms", |m| number(m.blocked_ms, 1)),
        ("checkpoint MB", |m| number(m.checkpoint_mb, 1)),
        ("restore ms", |m| number(m.restore_ms, 0)),
        ("restore MB/s", |m| number(m.restore_mb_per_s, 0)),
        ("back ms", |m| number(m.back_ms, 0)),
        ("pause ms", |m| number(m.pause_ms, 0)),
        ("usual pause ms", |m| number(m.usual_pause_ms, 0)),
        ("disk MB", |m| number(m.disk_mb, 1)),
    ];
    let mut lines = vec![String::new(); measured.len() + 1];
    for (title, cell) in COLUMNS {
        let cells: Vec<Option<String>> = measured.iter().map(cell).collect();
        if cells.iter().all(Option::is_none) {
            continue;
        }
        let head = std::iter::once(title.to_owned());
        let column: Vec<String> =
            head.chain(cells.into_iter().map(|c| c.unwrap_or("-".to_owned()))).collect();
        let width = column.iter().map(|cell| cell.chars().count()).max().unwrap_or(0);
        for (line, cell) in lines.iter_mut().zip(column) {
            if line.is_empty() {
                *line = format!("{cell:<width$}");
            } else {
                line.push_str(&format!("  {cell:>width$}"));
            }
        }
    }
    lines
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
    fn a_table_has_a_column_for_each_figure_that_there_is_and_a_dash_for_what_does_not_apply() {
        let warm = Warm { rec_per_s: 250_400.0, rec_per_cpu_s: Some(1_000_000.0) };
        let fast = Measurement { records: Some(1_000_000), cpu_s: Some(1.25), ..Measurement::of("tumbling") };
        let slow = Measurement { p50_ms: Some(41.6), p99_ms: Some(90.2), ..Measurement::of("latency-2000") };
        let lines = table(&[fast.warm(Some(warm)), slow]);
        assert_eq!(lines.len(), 3);
        let cells = |n: usize| lines[n].split_whitespace().collect::<Vec<_>>();
        assert_eq!(cells(0).concat(), "measuredrecordscpuskrec/skrec/cpu-sp50msp99ms");
        assert_eq!(cells(1), ["tumbling", "1000000", "1.2", "250", "1000", "-", "-"]);
        assert_eq!(cells(2), ["latency-2000", "-", "-", "-", "-", "42", "90"]);
        assert!(lines.iter().all(|line| line.len() == lines[0].len()), "{lines:?}");
    }

    #[test]
    fn json_has_the_names_of_the_issue_and_only_what_applies() {
        let measured = Measurement { wall_s: Some(1.5), ..Measurement::of("floor") };
        assert_eq!(serde_json::to_string(&measured).unwrap(), r#"{"name":"floor","wall_s":1.5}"#);
    }
}
