//! What a windowed job must have emitted, by grouping and adding up: no state, no stream, nothing of the engine.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// A job whose results are recomputed.
pub struct Oracle {
    /// Its app.
    pub app: &'static str,
    /// Its name.
    pub job: &'static str,
    /// Which of its windows, if it has several kinds.
    pub which: Option<&'static str>,
    /// The topic that it reads.
    pub input: &'static str,
    /// The topics whose event time holds its windows back: all streams of the app.
    pub streams: &'static [&'static str],
    /// The topic that it writes.
    pub output: &'static str,
    /// Whether records of all partitions meet in one window.
    pub global: bool,
    /// How its windows lie.
    pub windows: fn(&Params) -> Windows,
    /// The row of an input record; `None`: it is not the job's.
    pub row: fn(&Value) -> Option<Row>,
    /// What the result of a window must say; `None`: there must be none.
    pub expected: fn(&[Row], &Params) -> Option<Fields>,
    /// Key and window of a result; `None`: it is another job's, or of windows of another size.
    pub result: fn(&Value, &Params) -> Option<(String, Window)>,
    /// Whether a window has several results, of which the last one counts; otherwise it has one.
    pub updated: bool,
    /// Sessions: one result of several that lie in its window.
    pub merge: Option<Merge>,
    /// Amounts in a late record that is a partial sum.
    pub partial: Option<Partial>,
    /// How often a partial sum is a late event when it was too late for these windows: once for each kind of windows that were
    /// over, and those of other kinds are over before.
    pub late_times: usize,
}

impl Oracle {
    /// Why there is nothing to compare under these parameters.
    pub fn refusal(&self, params: &Params) -> Option<String> {
        let type_in_force = params.get("window").cloned().unwrap_or_default();
        match (self.windows)(params) {
            Windows::Sliding { .. } => None,
            // What came in time for a part of a session only is two results in the stream and one in batch.
            Windows::Session { .. } if self.merge.is_some() => None,
            _ => Some(format!("its windows are {type_in_force} now, which can't be recomputed for this job")),
        }
    }

    /// What it is called in what is said about it.
    pub fn name(&self) -> String {
        let which = self.which.map(|which| format!(" ({which})"));
        format!("{}.{}{}", self.app, self.job, which.unwrap_or_default())
    }
}

/// One result of several.
pub type Merge = fn(&[Value]) -> Option<Value>;
/// Key, event time, number and sum of a partial sum.
pub type Partial = fn(&Value) -> Option<(String, i64, f64, f64)>;
/// Parameters in force.
pub type Params = serde_json::Map<String, Value>;
/// Start (inclusive) and end (exclusive), epoch ms.
pub type Window = (i64, i64);
/// What a result says, by field; `a.b` is a field of a field.
pub type Fields = Vec<(&'static str, Expect)>;

/// How windows lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Windows {
    /// Of this size, a new one each slide, ms.
    Sliding {
        /// Size.
        size: i64,
        /// Slide.
        slide: i64,
    },
    /// Until nothing came for so long, ms.
    Session {
        /// Gap.
        gap: i64,
    },
    /// Of a type that is not known here.
    Unknown,
}

/// An expected value.
#[derive(Debug, Clone, PartialEq)]
pub enum Expect {
    /// Within rounding: sums depend on their order.
    Number(f64),
    /// Between these: quantiles of a sketch.
    Between(f64, f64),
    /// Exactly.
    Text(String),
    /// Exactly.
    Flag(bool),
}

/// What of an input record matters.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Key of the window.
    pub key: String,
    /// Event time, epoch ms.
    pub at: i64,
    /// Amount.
    pub number: f64,
    /// Further amounts.
    pub others: Vec<f64>,
    /// Words.
    pub text: String,
}

/// A row with where it is from.
#[derive(Debug)]
pub struct Placed {
    /// Partition and offset.
    pub place: (i32, i64),
    /// How far event time was in its partition when it came, epoch ms.
    pub ahead: i64,
    /// The row.
    pub row: Row,
}

/// An expected window.
#[derive(Debug, Default)]
pub struct Group {
    /// Its rows, by event time.
    pub rows: Vec<Row>,
    /// Where they are from.
    pub places: BTreeSet<(i32, i64)>,
    /// Whether it may have been over when a row of it came that was in time for another window.
    pub uncertain: bool,
}

impl Group {
    /// What the result must say; `None`: there must be none, as when all of its rows were late.
    pub fn expected(&self, oracle: &Oracle, params: &Params) -> Option<Fields> {
        if self.rows.is_empty() { None } else { (oracle.expected)(&self.rows, params) }
    }

    /// Takes out a late partial sum: so many rows of this event time (or of its second) that come to `sum`.
    pub fn without(&mut self, at: i64, count: f64, sum: f64) {
        // One record each, because what is late takes no others with it.
        let is_it = |row: &Row| row.at == at && (row.number * count - sum).abs() < 1e-9;
        if let Some(found) = self.rows.iter().position(is_it) {
            self.rows.remove(found);
        }
    }
}

/// Rows by key and window. Windows wait for late rows for `lateness`, ms. `doubtful`: a row that is too late for the window may
/// be in time for one of other parameters, or by another stream.
pub fn group(
    rows: impl IntoIterator<Item = Placed>,
    windows: Windows,
    lateness: i64,
    doubtful: impl Fn(Window) -> bool,
) -> BTreeMap<(String, Window), Group> {
    let mut groups = BTreeMap::<(String, Window), Group>::new();
    let mut put = |window: Window, placed: &Placed| {
        let group = groups.entry((placed.row.key.clone(), window)).or_default();
        let overlap = matches!(windows, Windows::Sliding { size, slide } if slide < size);
        group.uncertain |= (overlap || doubtful(window)) && placed.ahead >= window.1 - 1 + lateness;
        group.rows.push(placed.row.clone());
        group.places.insert(placed.place);
    };
    let mut rows: Vec<Placed> = rows.into_iter().collect();
    rows.sort_by(|a, b| (&a.row.key, a.row.at, a.place).cmp(&(&b.row.key, b.row.at, b.place)));
    match windows {
        Windows::Sliding { size, slide } => {
            for placed in &rows {
                let last = placed.row.at.div_euclid(slide) * slide;
                let starts = (0..).map(|n| last - n * slide).take_while(|start| start + size > placed.row.at);
                starts.for_each(|start| put((start, start + size), placed));
            }
        }
        Windows::Unknown => {}
        Windows::Session { gap } => {
            for session in rows.chunk_by(|a, b| a.row.key == b.row.key && b.row.at - a.row.at <= gap) {
                let (Some(first), Some(last)) = (session.first(), session.last()) else { continue };
                session.iter().for_each(|placed| put((first.row.at, last.row.at + gap), placed));
            }
        }
    }
    groups
}

/// What differs between a result and what it must say.
pub fn differs(result: &Value, expected: &Fields) -> Option<String> {
    expected.iter().find_map(|(field, expect)| {
        let found = field.split('.').try_fold(result, |value, name| value.get(name)).unwrap_or(&Value::Null);
        let same = match expect {
            Expect::Number(number) => found.as_f64().is_some_and(|found| near(found, *number)),
            Expect::Between(low, high) => {
                found.as_f64().is_some_and(|found| (*low - 1e-9..=*high + 1e-9).contains(&found))
            }
            Expect::Text(text) => found.as_str() == Some(text),
            Expect::Flag(flag) => found.as_bool() == Some(*flag),
        };
        (!same).then(|| format!("{field} is {found}, expected {expect:?}"))
    })
}

/// Sums of the same numbers in another order.
fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn placed(offset: i64, key: &str, at: i64) -> Placed {
        Placed {
            place: (0, offset),
            ahead: 0,
            row: Row { key: key.into(), at, number: 1.0, others: Vec::new(), text: String::new() },
        }
    }

    fn shape(rows: Vec<Placed>, windows: Windows) -> Vec<(String, Window, usize)> {
        group(rows, windows, 0, |_| false)
            .into_iter()
            .map(|((key, window), group)| (key, window, group.rows.len()))
            .collect()
    }

    #[test]
    fn windows_lie_where_they_should() {
        let rows = || vec![placed(0, "a", -1), placed(1, "a", 0), placed(2, "b", 9), placed(3, "a", 10)];
        let one = |key: &str, window, count| (key.to_owned(), window, count);
        assert_eq!(
            shape(rows(), Windows::Sliding { size: 10, slide: 10 }),
            [one("a", (-10, 0), 1), one("a", (0, 10), 1), one("a", (10, 20), 1), one("b", (0, 10), 1)]
        );
        assert_eq!(
            shape(vec![placed(0, "a", 12)], Windows::Sliding { size: 10, slide: 5 }),
            [one("a", (5, 15), 1), one("a", (10, 20), 1)]
        );
        assert_eq!(
            shape(rows(), Windows::Session { gap: 10 }),
            [one("a", (-1, 20), 3), one("b", (9, 19), 1)]
        );
    }

    #[test]
    fn a_window_that_was_perhaps_over_when_a_row_came_is_not_judged() {
        let sliding = Windows::Sliding { size: 10, slide: 5 };
        let uncertain = |windows, doubtful: fn(Window) -> bool| -> Vec<bool> {
            let groups = group([Placed { ahead: 14, ..placed(0, "a", 12) }], windows, 0, doubtful);
            groups.into_values().map(|group| group.uncertain).collect()
        };
        assert_eq!(uncertain(sliding, |_| false), [true, false]);
        let tumbling = Windows::Sliding { size: 5, slide: 5 };
        assert_eq!(uncertain(tumbling, |_| false), [false]);
        assert_eq!(uncertain(tumbling, |window| window.0 < 11), [true]);
        assert_eq!(uncertain(tumbling, |window| window.0 < 10), [false]);
    }

    #[test]
    fn a_window_whose_rows_were_all_late_has_no_result() {
        let sales = crate::verify::jobs::ALL.iter().find(|oracle| oracle.job == "hourly-sales").unwrap();
        let mut group =
            Group { rows: vec![placed(0, "all", 5).row, placed(1, "all", 7).row], ..Group::default() };
        group.without(5, 1.0, 1.0);
        assert_eq!(group.expected(sales, &Params::new()).unwrap()[0], ("orders", Expect::Number(1.0)));
        group.without(7, 1.0, 1.0);
        assert_eq!(group.expected(sales, &Params::new()), None);
    }

    #[test]
    fn a_difference_is_named() {
        let expected = vec![("sum", Expect::Number(0.3)), ("name", Expect::Text("x".into()))];
        assert_eq!(differs(&json!({"once": true}), &vec![("once", Expect::Flag(true))]), None);
        assert!(differs(&json!({"once": true}), &vec![("once", Expect::Flag(false))]).is_some());
        assert_eq!(differs(&json!({"sum": 0.1 + 0.2, "name": "x"}), &expected), None);
        assert!(differs(&json!({"sum": 0.31, "name": "x"}), &expected).unwrap().starts_with("sum is 0.31"));
        assert!(differs(&json!({"sum": 0.3}), &expected).unwrap().starts_with("name is null"));
        assert_eq!(differs(&json!({"p": {"q": 2.0}}), &vec![("p.q", Expect::Between(1.0, 2.0))]), None);
    }
}
