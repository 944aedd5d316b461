use std::fmt;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize};
use time::format_description::well_known::Iso8601;
use time::{OffsetDateTime, PrimitiveDateTime};

/// A point in time: milliseconds since 1970-01-01T00:00:00Z.
///
/// Read from an ISO 8601 string (UTC when it names no offset), a number (epoch milliseconds) or a numeric string
/// (epoch seconds, fractions allowed); written as epoch milliseconds.
///
/// ```
/// use millrace_wire::Timestamp;
/// for text in [r#""2024-06-01T00:00:00Z""#, r#""2024-06-01T00:00:00""#, "1717200000000", r#""1717200000""#] {
///     assert_eq!(serde_json::from_str::<Timestamp>(text).unwrap(), Timestamp(1_717_200_000_000));
/// }
/// assert!(serde_json::from_str::<Timestamp>(r#""yesterday""#).is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

/// The years 0001 to 9999, which is what ISO 8601 can write: a timestamp outside is a unit error of its sender.
const RANGE: std::ops::RangeInclusive<i64> = -62_135_596_800_000..=253_402_300_799_999;

impl Timestamp {
    /// Milliseconds since the epoch.
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// `2024-06-01T00:00:00.000Z`; the bare number if it is outside of the years that ISO 8601 can write.
    pub fn to_iso(self) -> String {
        let nanos = i128::from(self.0) * 1_000_000;
        OffsetDateTime::from_unix_timestamp_nanos(nanos)
            .ok()
            .map(|t| {
                format!(
                    "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
                    t.year(),
                    u8::from(t.month()),
                    t.day(),
                    t.hour(),
                    t.minute(),
                    t.second(),
                    t.millisecond()
                )
            })
            .unwrap_or_else(|| self.0.to_string())
    }

    /// `2024-06-01T00:00:00`: whole seconds of UTC, without saying so.
    pub fn to_iso_seconds(self) -> String {
        let mut text = self.to_iso();
        if let Some(point) = text.find('.') {
            text.truncate(point);
        }
        text
    }

    /// Parses the text forms: numeric (epoch seconds) or ISO 8601.
    pub fn parse(text: &str) -> Option<Self> {
        let numeric = text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'.'));
        let millis = match numeric.then(|| text.parse::<f64>().ok()).flatten() {
            Some(seconds) => (seconds * 1000.0).round() as i64,
            None => {
                let instant = OffsetDateTime::parse(text, &Iso8601::DEFAULT)
                    .or_else(|_| {
                        PrimitiveDateTime::parse(text, &Iso8601::DEFAULT).map(PrimitiveDateTime::assume_utc)
                    })
                    .ok()?;
                i64::try_from(instant.unix_timestamp_nanos().div_euclid(1_000_000)).ok()?
            }
        };
        RANGE.contains(&millis).then_some(Self(millis))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_iso())
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // A number is all that the binary formats know; only JSON has the text forms.
        if !deserializer.is_human_readable() {
            return i64::deserialize(deserializer).map(Self);
        }
        deserializer.deserialize_any(AnyForm)
    }
}

struct AnyForm;

impl AnyForm {
    fn checked<E: de::Error>(millis: i64) -> Result<Timestamp, E> {
        if RANGE.contains(&millis) {
            Ok(Timestamp(millis))
        } else {
            Err(E::custom(format_args!("timestamp {millis} ms is outside of the years 0001 to 9999")))
        }
    }
}

impl Visitor<'_> for AnyForm {
    type Value = Timestamp;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "a timestamp: an ISO 8601 string, epoch milliseconds as a number or epoch seconds as a string",
        )
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Timestamp, E> {
        Self::checked(value)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Timestamp, E> {
        Self::checked(i64::try_from(value).unwrap_or(i64::MAX))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Timestamp, E> {
        Self::checked(value.round() as i64)
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Timestamp, E> {
        Timestamp::parse(value).ok_or_else(|| E::invalid_value(de::Unexpected::Str(value), &self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_and_fractions_are_read() {
        assert_eq!(Timestamp::parse("2024-06-01T02:00:00.250+02:00"), Some(Timestamp(1_717_200_000_250)));
        assert_eq!(Timestamp::parse("1717200000.25"), Some(Timestamp(1_717_200_000_250)));
        assert_eq!(Timestamp(1_717_200_000_250).to_iso(), "2024-06-01T00:00:00.250Z");
        assert_eq!(Timestamp(1_717_200_000_250).to_iso_seconds(), "2024-06-01T00:00:00");
    }

    #[test]
    fn everything_else_is_refused() {
        for text in ["", "-", "soon", "2024-13-01T00:00:00Z", "1e400", "99999999999999999999"] {
            assert_eq!(Timestamp::parse(text), None, "{text}");
        }
        for json in ["null", "true", "[1]", "1e300", r#"{"seconds":1}"#] {
            assert!(serde_json::from_str::<Timestamp>(json).is_err(), "{json}");
        }
    }
}
