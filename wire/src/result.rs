//! Records of the result topics. Each becomes one document in the index `<prefix>-<topic>`.

mod activity;

use compact_str::CompactString;
use serde::{Deserialize, Serialize};

pub use activity::{
    CardFraud, CartAbandonment, EnrichedTransaction, FunnelStage, HostStats, ImpossibleTravel,
    LoginThenSpend, MerchantTrend, PageStats, Percentiles, UserSession,
};

use crate::Timestamp;
use crate::event::{Account, Sensor};

/// How bad it is. Ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Above the threshold.
    Warning,
    /// Well above.
    High,
    /// Act now.
    Critical,
}

/// A source record that a result rests on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Evidence {
    /// Topic of the record.
    pub topic: CompactString,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
}

/// The id of an alert, derived from its evidence, so that it is the same after a replay: `job/topic/partition/offset`,
/// further offsets of the same partition behind commas, records from elsewhere behind a plus sign. A job that may raise two
/// alerts about the same records adds to its name what tells them apart: `high-activity/<start>-<end>`.
///
/// ```
/// use millrace_wire::result::{Evidence, alert_id};
///
/// let at = |partition, offset| Evidence { topic: "orders".into(), partition, offset };
/// assert_eq!(alert_id("order-fraud", &[at(2, 7)]), "order-fraud/orders/2/7");
/// assert_eq!(alert_id("order-fraud", &[at(2, 7), at(2, 9), at(3, 1)]), "order-fraud/orders/2/7,9+orders/3/1");
/// ```
pub fn alert_id(job: &str, evidence: &[Evidence]) -> String {
    let mut id = job.to_owned();
    let mut before: Option<&Evidence> = None;
    for record in evidence {
        let Evidence { topic, partition, offset } = record;
        id += &match before {
            Some(b) if (&b.topic, b.partition) == (topic, *partition) => format!(",{offset}"),
            Some(_) => format!("+{topic}/{partition}/{offset}"),
            None => format!("/{topic}/{partition}/{offset}"),
        };
        before = Some(record);
    }
    id
}

/// An alert: what all of them have, and the fields of its type beside them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert<D> {
    /// See [`alert_id`].
    pub id: String,
    /// What kind of alert it is.
    pub r#type: CompactString,
    /// How bad it is.
    pub severity: Severity,
    /// Whom it concerns; also the key of the record.
    pub key: CompactString,
    /// For people.
    pub message: String,
    /// Processing time: when the alert was made.
    pub timestamp: Timestamp,
    /// The source records that it rests on.
    pub evidence: Vec<Evidence>,
    /// Fields of its type.
    #[serde(flatten)]
    pub details: D,
}

/// A record of `sensor-alerts.{critical,high,warning}`, keyed by location: job `mold-filter`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SensorAlert {
    /// See [`alert_id`].
    pub id: String,
    /// `MOLD_RISK`.
    pub r#type: String,
    /// By the reading's value.
    pub severity: Severity,
    /// `ALERT`; what a consumer switches on.
    pub status: String,
    /// The sensor.
    pub key: CompactString,
    /// The sensor, again under its own name.
    pub sensor_id: CompactString,
    /// The reading's location, or the reference data's when the reading has none.
    pub location: CompactString,
    /// Relative humidity in percent, as measured.
    pub value: f64,
    /// Event time of the reading.
    pub reading_timestamp: Timestamp,
    /// Processing time: when the alert was made.
    pub timestamp: Timestamp,
    /// For people.
    pub message: String,
    /// Reference data of the sensor, null if there is none yet.
    pub sensor: Option<Sensor>,
    /// The reading.
    pub evidence: Vec<Evidence>,
}

/// A record of `sensor-averages`, keyed by `sensorId`: job `humidity-average`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SensorAverage {
    /// Which sensor.
    #[serde(rename = "sensorId")]
    pub sensor_id: CompactString,
    /// Location of the window's latest reading by event time.
    pub location: CompactString,
    /// Inclusive, epoch ms.
    pub window_start: i64,
    /// Exclusive, epoch ms.
    pub window_end: i64,
    /// Arithmetic mean, percent.
    pub average: f64,
    /// Smallest reading.
    pub min: f64,
    /// Largest reading.
    pub max: f64,
    /// Number of readings.
    pub count: u64,
}

/// Details of a `CONSECUTIVE_HIGH` in `mold-alerts`, keyed by `sensorId`: job `consecutive-high`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConsecutiveHigh {
    /// Which sensor.
    pub sensor_id: CompactString,
    /// Location of the last reading.
    pub location: CompactString,
    /// All readings are above it, percent; none if another pattern is in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    /// The readings in the order of event time, percent.
    pub values: Vec<f64>,
    /// Event time of the first.
    pub first_timestamp: Timestamp,
    /// Event time of the last.
    pub last_timestamp: Timestamp,
}

/// Details of a `HUMIDITY_RISE` in `mold-alerts`, keyed by `sensorId`: job `humidity-rise`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HumidityRise {
    /// Which sensor.
    pub sensor_id: CompactString,
    /// Location of the second reading.
    pub location: CompactString,
    /// The reading above the lower limit, percent.
    pub first: f64,
    /// The reading above the upper limit, percent.
    pub second: f64,
    /// Event time of `first`.
    pub first_timestamp: Timestamp,
    /// Event time of `second`.
    pub second_timestamp: Timestamp,
}

/// A record of `anomalies`, keyed by `key`: a value that is not what the ones before it let expect.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Anomaly {
    /// Topic of the value.
    pub source: CompactString,
    /// What was measured: a sensor, a host.
    pub key: CompactString,
    /// Which of its values: a device type, `cpu`, `memory`, `errors`.
    pub metric: CompactString,
    /// The value.
    pub value: f64,
    /// What was expected.
    pub expected: f64,
    /// How far off, with its sign, in units of the method's spread.
    pub score: f64,
    /// The detector: `ewma` or `mad`.
    pub method: CompactString,
    /// Event time of the value.
    pub timestamp: Timestamp,
}

/// A record of `account-balances`, keyed by account: job `account-balances`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AccountBalance {
    /// As it came.
    pub account: Account,
    /// Sum of the amounts.
    pub balance: f64,
    /// Inclusive, epoch ms.
    pub window_start: i64,
    /// Exclusive, epoch ms.
    pub window_end: i64,
}

/// Details of a `HIGH_ACTIVITY` in `fraud-alerts`, keyed by account: job `high-activity`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HighActivity {
    /// As it came.
    pub account: Account,
    /// Sum of the absolute amounts when it passed the threshold.
    pub total_activity: f64,
    /// What it passed.
    pub threshold: f64,
    /// `HIGH_ACTIVITY`.
    pub alert_type: CompactString,
    /// Inclusive, epoch ms.
    pub window_start: i64,
    /// Exclusive, epoch ms.
    pub window_end: i64,
}

/// A record of `customer-totals`, keyed by `customerId`: job `customer-totals`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CustomerTotal {
    /// Who.
    pub customer_id: CompactString,
    /// Spent so far, dollars.
    pub total: f64,
    /// Orders so far.
    pub orders: u64,
}

/// How much a customer has spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Tier {
    /// From the first order on.
    Regular,
    /// From 500 on.
    Vip,
    /// From 1000 on.
    Premium,
}

/// A record of `customer-tiers`, keyed by `customerId`: job `customer-tiers`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TierChange {
    /// Who.
    pub customer_id: CompactString,
    /// From now on.
    pub tier: Tier,
    /// Before; null at the first order.
    pub previous: Option<Tier>,
    /// Spent so far, dollars.
    pub total: f64,
    /// Orders so far.
    pub orders: u64,
    /// Whether there was one before.
    pub changed: bool,
    /// Event time of the order that changed it.
    pub timestamp: Timestamp,
}

/// How often a customer has ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Frequency {
    /// The first order.
    NewCustomer,
    /// From the second on.
    Occasional,
    /// From the sixth on.
    Regular,
    /// From the tenth on.
    Frequent,
}

/// A record of `order-frequency`, keyed by `customerId`: job `order-frequency`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FrequencyChange {
    /// Who.
    pub customer_id: CompactString,
    /// Orders so far.
    pub orders: u64,
    /// From now on.
    pub frequency: Frequency,
    /// Before; null at the first order.
    pub previous: Option<Frequency>,
    /// Whether there was one before.
    pub changed: bool,
    /// Event time of the order that changed it.
    pub timestamp: Timestamp,
}

/// Details of a `HIGH_VALUE_ORDER` or `RAPID_ORDERING` in `alerts`, keyed by `customerId`: job `order-alerts`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrderAlert {
    /// Who.
    pub customer_id: CompactString,
    /// The order that raised it.
    pub order_id: CompactString,
    /// Its amount, dollars.
    pub amount: f64,
}

/// A `customer_stats` in `analytics`, keyed by `customer_id`: job `customer-stats`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CustomerStats {
    /// `customer_stats`.
    pub r#type: CompactString,
    /// `2024-06-01T00:00:00`, UTC.
    pub window_start: String,
    /// Who.
    pub customer_id: CompactString,
    /// Orders in the window.
    pub orders: u64,
    /// Sum of their amounts, dollars.
    pub total_spent: f64,
}

/// A `hourly_sales` in `analytics`, keyed by `all`: job `hourly-sales`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HourlySales {
    /// `hourly_sales`.
    pub r#type: CompactString,
    /// `2024-06-01T00:00:00`, UTC.
    pub window_start: String,
    /// Sum of the amounts of all orders in the window, dollars.
    pub total_sales: f64,
    /// The same for each order.
    pub average_order_value: f64,
    /// Orders in the window.
    pub orders: u64,
}

/// A record of `category-stats`, keyed by `category`: job `category-stats`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CategoryStats {
    /// Of what.
    pub category: CompactString,
    /// Revenue so far, dollars.
    pub total: f64,
    /// Orders so far.
    pub count: u64,
    /// Amount of an order on average, dollars.
    pub average: f64,
    /// The largest amount, dollars.
    pub max: f64,
    /// Event time of the latest order to come.
    pub timestamp: Timestamp,
}

/// A record of `milestones`, keyed by `category`: job `category-stats`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Milestone {
    /// Of what.
    pub category: CompactString,
    /// The revenue that was first reached, dollars.
    pub milestone: f64,
    /// Revenue so far, dollars.
    pub total: f64,
    /// Orders so far.
    pub count: u64,
    /// Event time of the order that reached it.
    pub timestamp: Timestamp,
}

/// Details of a `fraud_alert` in `analytics`, keyed by `customer_id`: job `order-fraud`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OrderFraud {
    /// Who.
    pub customer_id: CompactString,
    /// What is suspicious.
    pub reason: String,
    /// The order that raised it.
    pub order_id: CompactString,
    /// Its amount, dollars.
    pub amount: f64,
}

/// What kind of customer it is; one may be of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Segment {
    /// Few orders so far: too few to call it anything that rests on a habit.
    NewCustomer,
    /// Orders are small.
    PriceSensitive,
    /// Has spent much.
    HighValue,
    /// Has ordered often.
    FrequentBuyer,
    /// Most orders are of one category.
    CategoryFocused,
}

/// A record of `customer-segments`, keyed by `customerId`: job `segments`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SegmentChange {
    /// Who.
    pub customer_id: CompactString,
    /// From now on.
    pub segments: Vec<Segment>,
    /// Before.
    pub previous: Vec<Segment>,
    /// Orders so far.
    pub orders: u64,
    /// Spent so far, dollars.
    pub total: f64,
    /// Amount of an order on average, dollars.
    pub average: f64,
    /// The category with most orders.
    pub category: CompactString,
    /// Event time of the order that changed it.
    pub timestamp: Timestamp,
}

/// Names of the headers of a record in `dead-letters` and `late-events`; the value is the original's bytes.
pub mod header {
    /// Topic of the original.
    pub const TOPIC: &str = "source-topic";
    /// Partition of the original.
    pub const PARTITION: &str = "source-partition";
    /// Offset of the original.
    pub const OFFSET: &str = "source-offset";
    /// `app/job`; only the app when the record could not be parsed.
    pub const JOB: &str = "job";
    /// `malformed`, `late`, `rejected`.
    pub const ERROR_KIND: &str = "error-kind";
    /// What is wrong with it.
    pub const ERROR_TEXT: &str = "error-text";
}
