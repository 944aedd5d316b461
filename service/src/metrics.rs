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
        let (_, _, lines) = self.families.entry(name).or_insert_with(|| (kind, help, String::new()));
        lines.push_str(name);
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
}
