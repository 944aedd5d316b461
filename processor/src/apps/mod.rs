//! The apps and their jobs. A job is one file; an app lists its jobs.

pub mod bank;
pub mod commerce;
pub mod sensors;

use std::fmt::Display;

use millrace_core::Application;
use millrace_core::stream::Origin;
use millrace_wire::result::Evidence;

/// Every app that a worker runs.
pub const ALL: &[&dyn Application] = &[&bank::APP, &commerce::APP, &sensors::APP];

/// A record that an alert rests on, by its origin.
fn evidence(origin: Option<Origin>) -> Option<Evidence> {
    origin.map(|o| Evidence { topic: o.topic.into(), partition: o.partition, offset: o.offset })
}

/// For parameters: refuses a limit that lies below the one before it.
fn not_below<T: PartialOrd + Display>(lower: &T) -> impl FnOnce(&T, &()) -> garde::Result + '_ {
    move |limit, ()| {
        if limit >= lower {
            Ok(())
        } else {
            Err(garde::Error::new(format!("below the limit before it, which is {lower}")))
        }
    }
}

/// A time span for people: `1 minute`, `90 seconds`.
fn span(seconds: i64) -> String {
    let (n, unit) = match seconds {
        s if s % 3_600 == 0 => (s / 3_600, "hour"),
        s if s % 60 == 0 => (s / 60, "minute"),
        s => (s, "second"),
    };
    format!("{n} {unit}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_well() {
        for (seconds, text) in
            [(1, "1 second"), (60, "1 minute"), (90, "90 seconds"), (300, "5 minutes"), (3_600, "1 hour")]
        {
            assert_eq!(span(seconds), text);
        }
    }
}
