//! Prometheus text exposition, version 0.0.4.

use std::collections::BTreeMap;
use std::fmt::Write;

/// Kind of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only rises, except at a restart.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by upper bound: see [`Exposition::histogram`].
    Histogram,
}

/// Counts of values by upper bound.
#[derive(Debug, Clone)]
pub struct Buckets {
    bounds: &'static [f64],
    /// Values up to each bound and above the one before; then those above all.
    counts: Vec<u64>,
    sum: f64,
}

impl Buckets {
    /// Without values; `bounds` rise.
    pub fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, counts: vec![0; bounds.len() + 1], sum: 0.0 }
    }

    /// Counts a value.
    pub fn add(&mut self, value: f64) {
        let place = self.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.counts.get_mut(place) {
            *count += 1;
        }
        self.sum += value;
    }
}

/// Collects samples and writes them grouped by metric, as the format asks.
#[derive(Default)]
pub struct Exposition {
    families: BTreeMap<&'static str, (Kind, &'static str, String)>,
}

impl Exposition {
    /// Adds a sample. `labels` are pairs of name and value.
    pub fn add(
        &mut self,
        name: &'static str,
        kind: Kind,
        help: &'static str,
        labels: &[(&str, &str)],
        value: f64,
    ) {
        self.sample((name, ""), kind, help, labels, value);
    }

    /// Adds a histogram.
    pub fn histogram(&mut self, name: &'static str, help: &'static str, buckets: &Buckets) {
        let mut below = 0;
        let bounds = buckets.bounds.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        for (bound, count) in bounds.zip(&buckets.counts) {
            below += count;
            self.sample((name, "_bucket"), Kind::Histogram, help, &[("le", &bound)], below as f64);
        }
        self.sample((name, "_sum"), Kind::Histogram, help, &[], buckets.sum);
        self.sample((name, "_count"), Kind::Histogram, help, &[], below as f64);
    }

    fn sample(
        &mut self,
        (name, suffix): (&'static str, &str),
        kind: Kind,
        help: &'static str,
        labels: &[(&str, &str)],
        value: f64,
    ) {
        let (_, _, lines) = self.families.entry(name).or_insert_with(|| (kind, help, String::new()));
        lines.push_str(name);
        lines.push_str(suffix);
        for (i, (label, text)) in labels.iter().enumerate() {
            lines.push(if i == 0 { '{' } else { ',' });
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            // Writing to a string can't fail.
            let _ = write!(lines, "{label}=\"{text}\"");
        }
        if !labels.is_empty() {
            lines.push('}');
        }
        let _ = writeln!(lines, " {value}");
    }

    /// The text.
    pub fn render(&self) -> String {
        let mut out = String::new();
        for (name, (kind, help, lines)) in &self.families {
            let kind = match kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram => "histogram",
            };
            let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{lines}");
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_grouped_and_escaped() {
        let mut text = Exposition::default();
        text.add("b_total", Kind::Counter, "B.", &[("job", "x\"y")], 1.0);
        text.add("a", Kind::Gauge, "A.", &[], 0.5);
        text.add("b_total", Kind::Counter, "B.", &[("job", "z"), ("p", "1")], 2.0);
        assert_eq!(
            text.render(),
            "# HELP a A.\n# TYPE a gauge\na 0.5\n# HELP b_total B.\n# TYPE b_total counter\n\
             b_total{job=\"x\\\"y\"} 1\nb_total{job=\"z\",p=\"1\"} 2\n"
        );
    }

    #[test]
    fn a_histogram_counts_up_to_each_bound() {
        let mut buckets = Buckets::new(&[0.5, 1.0]);
        [0.5, 0.75, 3.0].into_iter().for_each(|value| buckets.add(value));
        let mut text = Exposition::default();
        text.histogram("t", "T.", &buckets);
        assert_eq!(
            text.render(),
            "# HELP t T.\n# TYPE t histogram\nt_bucket{le=\"0.5\"} 1\nt_bucket{le=\"1\"} 2\nt_bucket{le=\"+Inf\"} 3\n\
             t_sum 4.25\nt_count 3\n"
        );
    }
}
