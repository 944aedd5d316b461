//! Events of the raw topics, as any Kafka client may write them.
//!
//! Required fields are the ones that a job cannot do without; the others have a default. Unknown fields are ignored.

mod activity;

use std::fmt;

use compact_str::{CompactString, ToCompactString};
use serde::de::{self, Deserializer, IgnoredAny, Visitor};
use serde::{Deserialize, Serialize, Serializer};

pub use activity::{EventType, Location, Merchant, SystemMetrics, User, UserEvent};

use crate::Timestamp;

/// What a sensor measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceType {
    /// Degrees Celsius.
    Temperature,
    /// Relative humidity in percent.
    Humidity,
    /// Velocity in mm/s.
    Vibration,
    /// Hectopascal.
    Pressure,
}

impl DeviceType {
    /// As in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Temperature => "temperature",
            Self::Humidity => "humidity",
            Self::Vibration => "vibration",
            Self::Pressure => "pressure",
        }
    }
}

/// A record of `iot-sensors`, keyed by `sensorId`.
///
/// ```
/// let reading: millrace_wire::event::Reading = serde_json::from_str(
///     r#"{"timestamp":1717200000000,"sensorId":"s-1","deviceType":"humidity","value":71.5}"#).unwrap();
/// assert_eq!(reading.value, 71.5);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reading {
    /// Event time: when the sensor measured.
    pub timestamp: Timestamp,
    /// Which sensor.
    pub sensor_id: CompactString,
    /// What it measures.
    pub device_type: DeviceType,
    /// The measurement, in `unit`.
    pub value: f64,
    /// Unit of `value`, for people.
    #[serde(default)]
    pub unit: CompactString,
    /// Where the sensor is mounted.
    #[serde(default)]
    pub location: CompactString,
    /// Charge of its battery in percent.
    #[serde(default)]
    pub battery_level: Option<f64>,
}

/// A record of the compacted reference topic `sensors`, keyed by `sensorId`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sensor {
    /// Which sensor.
    pub sensor_id: CompactString,
    /// Where it is mounted.
    pub location: CompactString,
    /// What to add to its readings to correct them, in their unit.
    pub calibration: f64,
}

/// A record of `transactions`. Two kinds share the topic; the one with an `account` is a bank transaction.
#[derive(Debug, Clone, PartialEq)]
pub enum Transaction {
    /// Keyed by `userId`.
    Card(CardTransaction),
    /// Keyed by `account`.
    Bank(BankTransaction),
}

impl Transaction {
    /// Reads either kind from JSON.
    ///
    /// # Errors
    /// It is neither; the error is that of the kind it looks like.
    ///
    /// ```
    /// use millrace_wire::event::Transaction;
    ///
    /// let bank = br#"{"account":9999,"amount":600,"timestamp":"1717200000","type":"deposit"}"#;
    /// assert!(matches!(Transaction::from_json(bank), Ok(Transaction::Bank(_))));
    /// assert!(Transaction::from_json(br#"{"timestamp":1}"#).unwrap_err().to_string().contains("transactionId"));
    /// ```
    pub fn from_json(json: &[u8]) -> serde_json::Result<Self> {
        #[derive(Deserialize)]
        #[serde(expecting = "a transaction")]
        struct Kind {
            account: Option<IgnoredAny>,
        }
        if serde_json::from_slice::<Kind>(json)?.account.is_some() {
            serde_json::from_slice(json).map(Self::Bank)
        } else {
            serde_json::from_slice(json).map(Self::Card)
        }
    }

    /// Event time.
    pub fn timestamp(&self) -> Timestamp {
        match self {
            Self::Card(card) => card.timestamp,
            Self::Bank(bank) => bank.timestamp,
        }
    }
}

/// A card transaction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CardTransaction {
    /// Event time.
    pub timestamp: Timestamp,
    /// Unique.
    pub transaction_id: CompactString,
    /// Who pays.
    pub user_id: CompactString,
    /// In `currency`.
    pub amount: f64,
    /// ISO 4217.
    #[serde(default)]
    pub currency: CompactString,
    /// Who is paid.
    #[serde(default)]
    pub merchant_id: CompactString,
    /// `approved`, `declined`.
    #[serde(default)]
    pub status: CompactString,
    /// The issuer's guess, 0 to 1.
    #[serde(default)]
    pub risk_score: Option<f64>,
}

/// A bank transaction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BankTransaction {
    /// Whose money it is.
    pub account: Account,
    /// May be negative.
    pub amount: f64,
    /// Event time.
    pub timestamp: Timestamp,
    /// `deposit`, `withdraw`.
    #[serde(default)]
    pub r#type: CompactString,
}

/// The name of an account: in JSON a whole number or text, and written as it was read.
///
/// ```
/// use millrace_wire::event::Account;
///
/// for json in ["9999", r#""9999""#, r#""DE-7""#, "-1", "18446744073709551615"] {
///     let account: Account = serde_json::from_str(json).unwrap();
///     assert_eq!(serde_json::to_string(&account).unwrap(), json);
/// }
/// assert!(serde_json::from_str::<Account>("1.5").is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Account {
    text: CompactString,
    /// Whether JSON has it as a number.
    number: bool,
}

impl Account {
    /// The same for a number and its digits as text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn number(number: &impl ToCompactString) -> Self {
        Self { text: number.to_compact_string(), number: true }
    }
}

impl From<i64> for Account {
    fn from(number: i64) -> Self {
        Self::number(&number)
    }
}

impl From<&str> for Account {
    fn from(text: &str) -> Self {
        Self { text: text.into(), number: false }
    }
}

impl Serialize for Account {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !serializer.is_human_readable() {
            return (&self.text, self.number).serialize(serializer);
        }
        match (self.number, self.text.parse::<i64>(), self.text.parse::<u64>()) {
            (true, Ok(number), _) => serializer.serialize_i64(number),
            (true, _, Ok(number)) => serializer.serialize_u64(number),
            _ => serializer.serialize_str(&self.text),
        }
    }
}

impl<'de> Deserialize<'de> for Account {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_any(NumberOrText)
        } else {
            <(CompactString, bool)>::deserialize(deserializer).map(|(text, number)| Self { text, number })
        }
    }
}

struct NumberOrText;

impl Visitor<'_> for NumberOrText {
    type Value = Account;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an account: a whole number or a string")
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Account, E> {
        Ok(Account::number(&number))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Account, E> {
        Ok(Account::number(&number))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Account, E> {
        Ok(text.into())
    }
}

/// A record of `orders`, keyed by `customerId`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Order {
    /// Unique.
    pub order_id: CompactString,
    /// Who orders.
    pub customer_id: CompactString,
    /// Of all items, dollars.
    pub amount: f64,
    /// Of what.
    #[serde(default)]
    pub category: CompactString,
    /// Event time.
    pub timestamp: Timestamp,
    /// As the shop has them.
    #[serde(default)]
    pub items: Vec<serde_json::Value>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The three forms of a timestamp.
    const FORMS: [&str; 3] = [r#""2024-06-01T00:00:00Z""#, "1717200000000", r#""1717200000""#];
    const AT: Timestamp = Timestamp(1_717_200_000_000);

    #[test]
    fn either_kind_of_transaction_is_read_with_each_form_of_timestamp() {
        for form in FORMS {
            let card = format!(
                r#"{{"timestamp":{form},"transactionId":"t","userId":"u","amount":9.5,"currency":"USD","merchantId":"m",
                     "status":"approved","riskScore":0.25,"channel":"web"}}"#
            );
            let expected = CardTransaction {
                timestamp: AT,
                transaction_id: "t".into(),
                user_id: "u".into(),
                amount: 9.5,
                currency: "USD".into(),
                merchant_id: "m".into(),
                status: "approved".into(),
                risk_score: Some(0.25),
            };
            assert_eq!(Transaction::from_json(card.as_bytes()).unwrap(), Transaction::Card(expected));
            let bank =
                format!(r#"{{"account":"9","amount":-1,"timestamp":{form},"type":"withdraw","note":1}}"#);
            let expected = BankTransaction {
                account: "9".into(),
                amount: -1.0,
                timestamp: AT,
                r#type: "withdraw".into(),
            };
            assert_eq!(Transaction::from_json(bank.as_bytes()).unwrap(), Transaction::Bank(expected));
        }
    }

    #[test]
    fn what_is_neither_kind_is_refused_with_a_reason() {
        for (json, reason) in [
            (r#"{"account":9,"timestamp":1}"#, "amount"),
            (r#"{"account":9,"amount":"much","timestamp":1}"#, "f64"),
            (r#"{"account":{},"amount":1,"timestamp":1}"#, "an account"),
            (r#"{"account":9,"amount":1,"timestamp":"soon"}"#, "a timestamp"),
            (r#"{"account":null,"amount":1,"timestamp":1}"#, "transactionId"),
            (r#"{"transactionId":"t","userId":"u","timestamp":1}"#, "amount"),
            ("[]", "a transaction"),
            ("{", "EOF"),
        ] {
            let error = Transaction::from_json(json.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(reason), "{json}: {error}");
        }
    }

    #[test]
    fn an_account_keeps_its_form_in_state_too() {
        for account in [Account::from(9), Account::from("9"), Account::from("x")] {
            let bytes = postcard::to_stdvec(&account).unwrap();
            assert_eq!(postcard::from_bytes::<Account>(&bytes).unwrap(), account);
        }
        assert_ne!(Account::from(9), Account::from("9"));
    }

    #[test]
    fn an_order_is_read_with_each_form_of_timestamp() {
        for form in FORMS {
            let text = format!(
                r#"{{"orderId":"o","customerId":"c","amount":12,"category":"books","timestamp":{form},"items":[{{"sku":1}}],"coupon":"x"}}"#
            );
            let expected = Order {
                order_id: "o".into(),
                customer_id: "c".into(),
                amount: 12.0,
                category: "books".into(),
                timestamp: AT,
                items: vec![json!({"sku": 1})],
            };
            assert_eq!(serde_json::from_str::<Order>(&text).unwrap(), expected);
        }
        assert!(serde_json::from_str::<Order>(r#"{"orderId":"o","customerId":"c","timestamp":1}"#).is_err());
    }
}
