//! What can be provoked in a generated stream for a while, to see what becomes of it.

use serde::{Deserialize, Serialize};

use crate::topic;

/// Something out of the ordinary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    /// Ten times the rate.
    Burst,
    /// Half of the events are late by minutes.
    LateStorm,
    /// A fifth of the records are cut off.
    Malformed,
    /// Nothing goes to partition 0.
    IdlePartition,
    /// Most events are of one key.
    HotKey,
    /// It gets damp in the cellar.
    Mold,
    /// A sensor measures nonsense.
    SensorFault,
    /// A stolen card is tried out, then used.
    CardFraud,
    /// An account is emptied.
    AccountDrain,
    /// A customer orders much.
    VipSpree,
    /// A user is at two places.
    ImpossibleTravel,
}

impl Scenario {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Burst,
        Self::LateStorm,
        Self::Malformed,
        Self::IdlePartition,
        Self::HotKey,
        Self::Mold,
        Self::SensorFault,
        Self::CardFraud,
        Self::AccountDrain,
        Self::VipSpree,
        Self::ImpossibleTravel,
    ];

    /// As in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Burst => "burst",
            Self::LateStorm => "late-storm",
            Self::Malformed => "malformed",
            Self::IdlePartition => "idle-partition",
            Self::HotKey => "hot-key",
            Self::Mold => "mold",
            Self::SensorFault => "sensor-fault",
            Self::CardFraud => "card-fraud",
            Self::AccountDrain => "account-drain",
            Self::VipSpree => "vip-spree",
            Self::ImpossibleTravel => "impossible-travel",
        }
    }

    /// What it should provoke.
    pub const fn provokes(self) -> &'static str {
        match self {
            Self::Burst => "throughput and lag rise, then fall",
            Self::LateStorm => "late events",
            Self::Malformed => "dead letters",
            Self::IdlePartition => "event time goes on without the partition after 10 s",
            Self::HotKey => "one task does most of the work",
            Self::Mold => "mold alerts: consecutive-high, humidity-rise",
            Self::SensorFault => "anomalies of one sensor",
            Self::CardFraud => "alerts CARD_TESTING and VELOCITY",
            Self::AccountDrain => "fraud alerts HIGH_ACTIVITY",
            Self::VipSpree => "customer tiers VIP and PREMIUM, rapid ordering, order fraud",
            Self::ImpossibleTravel => "alerts IMPOSSIBLE_TRAVEL",
        }
    }

    /// Whether it can be provoked in this stream. In what is measured nothing can.
    pub fn fits(self, stream: &str) -> bool {
        let only = match self {
            Self::Mold | Self::SensorFault => topic::IOT_SENSORS,
            Self::CardFraud | Self::AccountDrain => topic::TRANSACTIONS,
            Self::VipSpree => topic::ORDERS,
            Self::ImpossibleTravel => topic::USER_EVENTS,
            _ => return stream != topic::SYSTEM_METRICS,
        };
        stream == only
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_in_json() {
        for scenario in Scenario::ALL {
            assert_eq!(serde_json::to_value(scenario).unwrap(), scenario.name());
        }
    }

    #[test]
    fn each_can_be_provoked_somewhere_and_none_in_what_is_measured() {
        let streams = [topic::IOT_SENSORS, topic::TRANSACTIONS, topic::ORDERS, topic::USER_EVENTS];
        for scenario in Scenario::ALL {
            let fits = streams.iter().filter(|stream| scenario.fits(stream)).count();
            assert!(fits == 1 || fits == 4, "{scenario:?}");
            assert!(!scenario.fits(topic::SYSTEM_METRICS));
        }
    }
}
