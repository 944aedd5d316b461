//! Parameters that several jobs have. What is a plain number there has its limits, unit and title here.

use std::fmt::Display;

use garde::Validate;
use millrace_core::cep::Pattern;
use millrace_core::state::Ttl;
use millrace_core::window::WindowSpec;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Length of a window. A change applies to new windows; open ones finish under their own length.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema, Validate,
)]
#[serde(transparent)]
#[schemars(inline, title = "Window size", extend("x-unit" = "s"))]
#[garde(transparent)]
pub(super) struct WindowSize(#[garde(range(min = 1, max = 86_400))] pub i64);

impl WindowSize {
    pub fn ms(self) -> i64 {
        self.0 * 1_000
    }
}

/// A sliding window begins every so often. One that is longer than the window leaves records out.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(transparent)]
#[schemars(inline, title = "Slide", extend("x-unit" = "s"))]
#[garde(transparent)]
pub(super) struct Slide(#[garde(range(min = 1, max = 86_400))] pub i64);

/// A pause of this length ends a session.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(transparent)]
#[schemars(inline, title = "Gap", extend("x-unit" = "s"))]
#[garde(transparent)]
pub(super) struct Gap(#[garde(range(min = 1, max = 86_400))] pub i64);

/// Which windows there are: `tumbling`, side by side; `sliding`, a new one each slide; `session`, until nothing has come for
/// the gap. A change applies to new windows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline, title = "Windows")]
pub(super) enum WindowType {
    Tumbling,
    Sliding,
    Session,
}

impl WindowType {
    pub fn spec(self, size: WindowSize, slide: Slide, gap: Gap) -> WindowSpec {
        match self {
            Self::Tumbling => AlignedType::Tumbling.spec(size, slide),
            Self::Sliding => AlignedType::Sliding.spec(size, slide),
            Self::Session => WindowSpec::session(gap.0 * 1_000),
        }
    }
}

/// Which windows there are: `tumbling`, side by side, or `sliding`, a new one each slide. A change applies to new windows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline, title = "Windows")]
pub(super) enum AlignedType {
    Tumbling,
    Sliding,
}

impl AlignedType {
    pub fn spec(self, size: WindowSize, slide: Slide) -> WindowSpec {
        match self {
            Self::Tumbling => WindowSpec::tumbling(size.ms()),
            Self::Sliding => WindowSpec::sliding(size.ms(), slide.0 * 1_000),
        }
    }
}

/// The most windows of a record in a job that gives a result for each of them with each record.
const OVERLAP: i64 = 60;

/// For parameters of such jobs: refuses a slide that is too short for these windows.
pub(super) fn few(window: AlignedType, size: WindowSize) -> impl FnOnce(&Slide, &()) -> garde::Result {
    move |slide, ()| {
        let slide = slide.0.max(1);
        let windows = (size.0 + slide - 1) / slide;
        if window == AlignedType::Tumbling || windows <= OVERLAP {
            return Ok(());
        }
        let text =
            format!("a record would be in {windows} windows and change each of them: at most {OVERLAP}");
        Err(garde::Error::new(text))
    }
}

/// How long after its end a window still takes late records; each gives a corrected result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(transparent)]
#[schemars(inline, title = "Allowed lateness", extend("x-unit" = "s"))]
#[garde(transparent)]
pub(super) struct Lateness(#[garde(range(min = 0, max = 3_600))] pub i64);

impl Lateness {
    pub fn ms(self) -> i64 {
        self.0 * 1_000
    }
}

/// What has not been needed for so long, in event time, is forgotten. A change counts for what is there too.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(transparent)]
#[schemars(inline, title = "Time to live", extend("x-unit" = "days"))]
#[garde(transparent)]
pub(super) struct TtlDays(#[garde(range(min = 1, max = 3_650))] pub i64);

impl TtlDays {
    pub fn ttl(self) -> Ttl {
        Ttl::event_time(self.0 * 24 * 3_600 * 1_000)
    }
}

impl Default for TtlDays {
    fn default() -> Self {
        Self(30)
    }
}

/// For parameters: refuses a pattern that can't be compiled, that looks at other fields than these, or that would keep what
/// never becomes a match for ever.
pub(super) fn compiles(fields: &[&str]) -> impl FnOnce(&Option<Pattern>, &()) -> garde::Result {
    move |pattern, ()| {
        let Some(pattern) = pattern else { return Ok(()) };
        pattern.validate().map_err(garde::Error::new)?;
        if let Some(unknown) = pattern.fields().into_iter().find(|name| !fields.contains(name)) {
            let text = format!("the events have no field {unknown:?}, only {}", fields.join(", "));
            return Err(garde::Error::new(text));
        }
        pattern.within.map(drop).ok_or_else(|| {
            garde::Error::new(
                "`within` is missing: say how many ms lie between the first and the last event at most",
            )
        })
    }
}

/// For parameters: refuses a limit that lies below the one before it.
pub(super) fn not_below<T: PartialOrd + Display>(lower: &T) -> impl FnOnce(&T, &()) -> garde::Result + '_ {
    move |limit, ()| {
        if limit >= lower {
            Ok(())
        } else {
            Err(garde::Error::new(format!("below the limit before it, which is {lower}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use millrace_core::cep::field;
    use millrace_core::job::Descriptor;
    use serde_json::Value;

    use super::super::ALL;
    use super::*;

    /// Jobs that have a parameter, with its schema.
    fn with(name: &str) -> Vec<(Descriptor, Value)> {
        let jobs = ALL.iter().flat_map(|app| app.descriptors());
        jobs.filter_map(|job| job.schema["properties"].get(name).cloned().map(|schema| (job, schema)))
            .collect()
    }

    #[test]
    fn windows_are_described_with_limits_and_units() {
        let jobs = with("window_size_s");
        for (job, size) in &jobs {
            assert_eq!((&size["minimum"], &size["maximum"]), (&1.into(), &86_400.into()), "{}", job.name);
            assert_eq!(
                (&size["x-unit"], &size["title"]),
                (&"s".into(), &"Window size".into()),
                "{}",
                job.name
            );
            assert!(size["default"].is_i64() && size["description"].is_string(), "{}: {size}", job.name);
            let lateness = &job.schema["properties"]["allowed_lateness_s"];
            assert_eq!(
                (&lateness["maximum"], &lateness["x-unit"]),
                (&3_600.into(), &"s".into()),
                "{}",
                job.name
            );
        }
        assert_eq!(jobs.len(), 9);
    }

    #[test]
    fn windowed_jobs_offer_the_types_of_their_windows() {
        let jobs = with("window");
        assert_eq!(jobs.len(), 9);
        for (job, window) in jobs {
            let types: Vec<_> = window["enum"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
            let gap = job.schema["properties"].get("gap_s").is_some();
            let all = ["tumbling", "sliding", "session"];
            assert_eq!(types, all[..if gap { 3 } else { 2 }], "{}", job.name);
            assert!(types.contains(&window["default"].as_str().unwrap()), "{}: {window}", job.name);
            assert!(job.schema["properties"]["slide_s"]["default"].is_i64(), "{}", job.name);
        }
    }

    #[test]
    fn patterns_are_objects_or_nothing() {
        for (name, count) in [("pattern", 4), ("velocity_pattern", 1)] {
            let jobs = with(name);
            assert_eq!(jobs.len(), count);
            for (job, pattern) in jobs {
                assert_eq!(pattern["type"], serde_json::json!(["object", "null"]), "{}", job.name);
                assert!(pattern["default"].is_null() && pattern["description"].is_string(), "{}", job.name);
            }
        }
    }

    #[test]
    fn what_is_kept_per_key_lives_for_a_number_of_days() {
        let jobs = with("ttl_days");
        for (job, days) in &jobs {
            let shown = (&days["default"], &days["minimum"], &days["maximum"], &days["x-unit"]);
            assert_eq!(shown, (&30.into(), &1.into(), &3_650.into(), &"days".into()), "{}", job.name);
        }
        assert_eq!(jobs.len(), 12);
    }

    #[test]
    fn a_record_is_in_few_windows_where_it_changes_all_of_them() {
        let verdict = |window, size, slide| few(window, WindowSize(size))(&Slide(slide), &());
        assert!(
            verdict(AlignedType::Sliding, 60, 1).is_ok() && verdict(AlignedType::Tumbling, 86_400, 1).is_ok()
        );
        let refused = verdict(AlignedType::Sliding, 61, 1).unwrap_err();
        assert!(refused.message().contains("in 61 windows"), "{refused:?}");
    }

    #[test]
    fn a_pattern_that_would_keep_events_for_ever_or_finds_nothing_is_refused() {
        let verdict =
            |pattern| compiles(&["level"])(&pattern, &()).map_err(|error| error.message().to_owned());
        let pattern = Pattern::begin("a").where_(field("level").gt(1.0)).followed_by("b");
        assert_eq!((verdict(None), verdict(Some(pattern.clone().within(1)))), (Ok(()), Ok(())));
        assert!(verdict(Some(pattern.clone())).unwrap_err().contains("`within` is missing"));
        let misspelt = pattern.where_(field("lewel").lt(1.0)).within(1);
        assert_eq!(verdict(Some(misspelt)).unwrap_err(), "the events have no field \"lewel\", only level");
    }
}
