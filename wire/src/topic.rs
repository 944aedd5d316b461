//! Every topic: its name, kind and settings. `millrace topics setup` creates what is missing from this table.

/// Raw sensor readings.
pub const IOT_SENSORS: &str = "iot-sensors";
/// Reference data of sensors.
pub const SENSORS: &str = "sensors";
/// Card and bank transactions.
pub const TRANSACTIONS: &str = "transactions";
/// What users do.
pub const USER_EVENTS: &str = "user-events";
/// How machines are.
pub const SYSTEM_METRICS: &str = "system-metrics";
/// Reference data of merchants.
pub const MERCHANTS: &str = "merchants";
/// Reference data of users.
pub const USERS: &str = "users";
/// Orders of customers.
pub const ORDERS: &str = "orders";
/// Alerts of `mold-filter` above 80 %.
pub const SENSOR_ALERTS_CRITICAL: &str = "sensor-alerts.critical";
/// Alerts of `mold-filter` above 70 %.
pub const SENSOR_ALERTS_HIGH: &str = "sensor-alerts.high";
/// Alerts of `mold-filter` above the threshold.
pub const SENSOR_ALERTS_WARNING: &str = "sensor-alerts.warning";
/// Windowed averages of `humidity-average`.
pub const SENSOR_AVERAGES: &str = "sensor-averages";
/// Alerts of `consecutive-high` and `humidity-rise`.
pub const MOLD_ALERTS: &str = "mold-alerts";
/// Values that detectors did not expect.
pub const ANOMALIES: &str = "anomalies";
/// Windowed sums of `account-balances`.
pub const ACCOUNT_BALANCES: &str = "account-balances";
/// Alerts of `high-activity`.
pub const FRAUD_ALERTS: &str = "fraud-alerts";
/// Running totals of `customer-totals`.
pub const CUSTOMER_TOTALS: &str = "customer-totals";
/// Changes of `customer-tiers`.
pub const CUSTOMER_TIERS: &str = "customer-tiers";
/// Changes of `order-frequency`.
pub const ORDER_FREQUENCY: &str = "order-frequency";
/// Alerts of `order-alerts`, and of the app `activity`.
pub const ALERTS: &str = "alerts";
/// Revenue of `category-stats`.
pub const CATEGORY_STATS: &str = "category-stats";
/// Amounts of revenue that a category first reached: `category-stats`.
pub const MILESTONES: &str = "milestones";
/// Windows of `hourly-sales` and `customer-stats`, alerts of `order-fraud`.
pub const ANALYTICS: &str = "analytics";
/// Changes of `segments`.
pub const CUSTOMER_SEGMENTS: &str = "customer-segments";
/// Windows of `traffic`.
pub const PAGE_STATS: &str = "page-stats";
/// Windows of `spend-trend`.
pub const MERCHANT_TRENDS: &str = "merchant-trends";
/// Visits: `sessions`.
pub const USER_SESSIONS: &str = "user-sessions";
/// Card transactions with what is known of user and merchant: `enrich`.
pub const PROCESSED_EVENTS: &str = "processed-events";
/// Windows of `host-health`.
pub const HOST_STATS: &str = "host-stats";
/// Events by page and type, within `traffic`.
pub const TRAFFIC_REPARTITION: &str = "millrace.activity.traffic.repartition";
/// Sums of payments by merchant, within `spend-trend`.
pub const SPEND_TREND_REPARTITION: &str = "millrace.activity.spend-trend.repartition";
/// Transactions by merchant, within `enrich`.
pub const ENRICH_REPARTITION: &str = "millrace.activity.enrich.repartition";
/// Orders by category, within `category-stats`.
pub const CATEGORY_STATS_REPARTITION: &str = "millrace.commerce.category-stats.repartition";
/// Sums of orders, within `hourly-sales`.
pub const HOURLY_SALES_REPARTITION: &str = "millrace.commerce.hourly-sales.repartition";
/// Records that came after their window had closed.
pub const LATE_EVENTS: &str = "late-events";
/// Records that could not be processed, as they came.
pub const DEAD_LETTERS: &str = "dead-letters";
/// Commands: see [`crate::control`].
pub const CONTROL: &str = "millrace.control";
/// What has become of every record: see [`crate::ledger`].
pub const LEDGER: &str = "millrace.ledger";
/// Frames: see [`crate::telemetry`].
pub const TELEMETRY: &str = "millrace.telemetry";

/// The changelog of an app: `millrace.<app>.changelog`.
pub fn changelog(app: &str) -> String {
    format!("millrace.{app}.changelog")
}

/// The consumer group of an app: `millrace.<app>`.
pub fn group(app: &str) -> String {
    format!("millrace.{app}")
}

/// The consumer group of the indexer.
pub const INDEXER_GROUP: &str = "millrace.indexer";

/// What a topic is for; decides its settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Written by producers.
    Raw,
    /// Compacted reference data.
    Reference,
    /// Written by jobs, read by the indexer.
    Result,
    /// Late and dead records.
    Side,
    /// The platform's own.
    Internal,
}

/// How old records are dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retention {
    /// After so many milliseconds.
    Millis(i64),
    /// The newest record of each key stays.
    Compacted,
}

/// A topic and its settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub kind: Kind,
    /// Number of partitions.
    pub partitions: i32,
    /// How old records are dropped.
    pub retention: Retention,
}

impl Topic {
    /// Its settings, with Kafka's names.
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        let mut settings = vec![("min.insync.replicas", MIN_IN_SYNC.to_string())];
        match self.retention {
            Retention::Millis(ms) => {
                settings.push(("cleanup.policy", "delete".to_owned()));
                settings.push(("retention.ms", ms.to_string()));
            }
            // Only closed segments are compacted: small ones keep restores short.
            Retention::Compacted => {
                settings.push(("cleanup.policy", "compact".to_owned()));
                settings.push(("segment.bytes", (32 << 20).to_string()));
                settings.push(("min.cleanable.dirty.ratio", "0.3".to_owned()));
            }
        }
        settings
    }
}

/// Partitions of every data topic: partition p of all topics of an app meets in task p.
pub const PARTITIONS: i32 = 6;
/// Copies of every partition.
pub const REPLICATION: i32 = 3;
/// Copies that must have a record before it is acknowledged.
pub const MIN_IN_SYNC: i32 = 2;

const DAY_MS: i64 = 24 * 3600 * 1000;

/// Every topic of the platform.
pub fn catalogue() -> Vec<Topic> {
    use Kind::{Internal, Raw, Reference, Result, Side};
    let week = Retention::Millis(7 * DAY_MS);
    let topic = |name: &str, kind, partitions, retention| Topic {
        name: name.to_owned(),
        kind,
        partitions,
        retention,
    };
    vec![
        topic(IOT_SENSORS, Raw, PARTITIONS, week),
        topic(SENSORS, Reference, PARTITIONS, Retention::Compacted),
        topic(TRANSACTIONS, Raw, PARTITIONS, week),
        topic(ORDERS, Raw, PARTITIONS, week),
        topic(USER_EVENTS, Raw, PARTITIONS, week),
        topic(SYSTEM_METRICS, Raw, PARTITIONS, week),
        topic(MERCHANTS, Reference, PARTITIONS, Retention::Compacted),
        topic(USERS, Reference, PARTITIONS, Retention::Compacted),
        topic(SENSOR_ALERTS_CRITICAL, Result, PARTITIONS, week),
        topic(SENSOR_ALERTS_HIGH, Result, PARTITIONS, week),
        topic(SENSOR_ALERTS_WARNING, Result, PARTITIONS, week),
        topic(SENSOR_AVERAGES, Result, PARTITIONS, week),
        topic(MOLD_ALERTS, Result, PARTITIONS, week),
        topic(ANOMALIES, Result, PARTITIONS, week),
        topic(ACCOUNT_BALANCES, Result, PARTITIONS, week),
        topic(FRAUD_ALERTS, Result, PARTITIONS, week),
        topic(CUSTOMER_TOTALS, Result, PARTITIONS, week),
        topic(CUSTOMER_TIERS, Result, PARTITIONS, week),
        topic(ORDER_FREQUENCY, Result, PARTITIONS, week),
        topic(CATEGORY_STATS, Result, PARTITIONS, week),
        topic(MILESTONES, Result, PARTITIONS, week),
        topic(ALERTS, Result, PARTITIONS, week),
        topic(ANALYTICS, Result, PARTITIONS, week),
        topic(CUSTOMER_SEGMENTS, Result, PARTITIONS, week),
        topic(PAGE_STATS, Result, PARTITIONS, week),
        topic(MERCHANT_TRENDS, Result, PARTITIONS, week),
        topic(USER_SESSIONS, Result, PARTITIONS, week),
        topic(PROCESSED_EVENTS, Result, PARTITIONS, week),
        topic(HOST_STATS, Result, PARTITIONS, week),
        topic(LATE_EVENTS, Side, PARTITIONS, week),
        topic(DEAD_LETTERS, Side, PARTITIONS, week),
        topic(&changelog("sensors"), Internal, PARTITIONS, Retention::Compacted),
        topic(&changelog("bank"), Internal, PARTITIONS, Retention::Compacted),
        topic(&changelog("commerce"), Internal, PARTITIONS, Retention::Compacted),
        topic(&changelog("activity"), Internal, PARTITIONS, Retention::Compacted),
        topic(TRAFFIC_REPARTITION, Internal, PARTITIONS, week),
        topic(SPEND_TREND_REPARTITION, Internal, PARTITIONS, week),
        topic(ENRICH_REPARTITION, Internal, PARTITIONS, week),
        topic(CATEGORY_STATS_REPARTITION, Internal, PARTITIONS, week),
        topic(HOURLY_SALES_REPARTITION, Internal, PARTITIONS, week),
        topic(CONTROL, Internal, 1, Retention::Compacted),
        topic(LEDGER, Internal, 1, Retention::Compacted),
        topic(TELEMETRY, Internal, 1, Retention::Millis(3600 * 1000)),
    ]
}

/// Names of the result topics, which the indexer reads.
pub fn results() -> Vec<String> {
    catalogue().into_iter().filter(|t| t.kind == Kind::Result).map(|t| t.name).collect()
}

/// The field of a result topic's records that says when: what searches are limited and sorted by. Records without it
/// (`customer-totals`, alerts in `analytics`) come last.
pub fn time_field(topic: &str) -> &'static str {
    match topic {
        SENSOR_AVERAGES | ACCOUNT_BALANCES | PAGE_STATS | MERCHANT_TRENDS | USER_SESSIONS | HOST_STATS => {
            "window_end"
        }
        ANALYTICS => "window_start",
        _ => "timestamp",
    }
}

/// The field of a result topic's records that says whom they concern.
pub fn key_field(topic: &str) -> &'static str {
    match topic {
        SENSOR_ALERTS_CRITICAL | SENSOR_ALERTS_HIGH | SENSOR_ALERTS_WARNING | SENSOR_AVERAGES => "sensorId",
        ACCOUNT_BALANCES => "account",
        CUSTOMER_TOTALS | CUSTOMER_TIERS | ORDER_FREQUENCY | CUSTOMER_SEGMENTS => "customerId",
        CATEGORY_STATS | MILESTONES => "category",
        PAGE_STATS => "page",
        MERCHANT_TRENDS => "merchantId",
        USER_SESSIONS | PROCESSED_EVENTS => "userId",
        HOST_STATS => "host",
        ANALYTICS => "customer_id",
        _ => "key",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_topic_of_the_catalogue_survives_a_broker() {
        for topic in catalogue() {
            assert!(topic.settings().contains(&("min.insync.replicas", "2".to_owned())), "{}", topic.name);
        }
    }

    #[test]
    fn changelogs_are_compacted_and_data_is_kept_for_a_week() {
        let of = |name: &str| catalogue().into_iter().find(|topic| topic.name == name).unwrap().settings();
        assert!(of(&changelog("sensors")).contains(&("cleanup.policy", "compact".to_owned())));
        assert!(of(IOT_SENSORS).contains(&("retention.ms", "604800000".to_owned())));
    }
}
