//! App `activity`: what users do, where their cards are used, how the machines are. Reads `user-events`, the card transactions
//! of `transactions`, `system-metrics`, and `users` and `merchants` as reference data; three jobs read some of it again, keyed
//! otherwise.
//!
//! Events and transactions are keyed by user, so what one user does and pays meets in one task.

mod card_fraud;
mod cart_abandonment;
mod enrich;
mod geography;
mod host_health;
mod impossible_travel;
mod login_then_spend;
mod payment;
mod sessions;
mod spend_trend;
mod traffic;

use compact_str::CompactString;
use millrace_core::task::{Malformed, Parsed, SourceKind};
use millrace_core::{App, EventTime, Record, Source};
use millrace_wire::event::{CardTransaction, Merchant, SystemMetrics, Transaction, User, UserEvent};
use millrace_wire::{Timestamp, topic};

use super::json;

/// What a record of this app is.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// From `user-events`.
    User(UserEvent),
    /// From `transactions`.
    Card(CardTransaction),
    /// From `transactions`, where bank transactions are not its own.
    Bank,
    /// From `system-metrics`.
    Metrics(SystemMetrics),
    /// From `users`; without data a tombstone.
    UserData(CompactString, Option<User>),
    /// From `merchants`; without data a tombstone.
    MerchantData(CompactString, Option<Merchant>),
}

impl Event {
    fn user_event(&self) -> Option<&UserEvent> {
        if let Self::User(event) = self { Some(event) } else { None }
    }

    fn card(&self) -> Option<&CardTransaction> {
        if let Self::Card(transaction) = self { Some(transaction) } else { None }
    }

    fn metrics(&self) -> Option<&SystemMetrics> {
        if let Self::Metrics(metrics) = self { Some(metrics) } else { None }
    }

    fn user(&self) -> Option<(&str, Option<&User>)> {
        if let Self::UserData(id, user) = self { Some((id, user.as_ref())) } else { None }
    }

    fn merchant(&self) -> Option<(&str, Option<&Merchant>)> {
        if let Self::MerchantData(id, merchant) = self { Some((id, merchant.as_ref())) } else { None }
    }
}

/// The app.
pub const APP: App<Event> = App {
    name: "activity",
    sources: &[
        Source { topic: topic::USER_EVENTS, kind: super::STREAM },
        Source { topic: topic::TRANSACTIONS, kind: super::STREAM },
        Source { topic: topic::SYSTEM_METRICS, kind: super::STREAM },
        Source { topic: topic::USERS, kind: SourceKind::Reference },
        Source { topic: topic::MERCHANTS, kind: SourceKind::Reference },
        Source { topic: topic::TRAFFIC_REPARTITION, kind: SourceKind::Repartition },
        Source { topic: topic::SPEND_TREND_REPARTITION, kind: SourceKind::Repartition },
        Source { topic: topic::ENRICH_REPARTITION, kind: SourceKind::Repartition },
    ],
    partitions: topic::PARTITIONS,
    parse,
    jobs: || {
        vec![
            traffic::job(),
            spend_trend::job(),
            sessions::job(),
            enrich::job(),
            card_fraud::job(),
            impossible_travel::job(),
            login_then_spend::job(),
            cart_abandonment::job(),
            host_health::job(),
        ]
    },
};

fn parse(record: &Record<'_>) -> Result<Parsed<Event>, Malformed> {
    let from = APP.sources.get(record.source).map_or("", |source| source.topic);
    if let topic::USERS | topic::MERCHANTS = from {
        return Ok(Parsed::new(reference(from, record)?, EventTime(0)));
    }
    let value = record.value.ok_or("the record has no value")?;
    let (event, at) = match from {
        topic::USER_EVENTS => {
            let event: UserEvent = json(value).map_err(|e| format!("not a user event: {e}"))?;
            let at = event.timestamp;
            (Event::User(event), at)
        }
        topic::TRANSACTIONS => {
            match Transaction::from_json(value).map_err(|e| format!("not a transaction: {e}"))? {
                Transaction::Card(card) => {
                    let at = card.timestamp;
                    (Event::Card(card), at)
                }
                Transaction::Bank(bank) => (Event::Bank, bank.timestamp),
            }
        }
        _ => {
            let metrics: SystemMetrics = json(value).map_err(|e| format!("not system metrics: {e}"))?;
            let at = metrics.timestamp;
            (Event::Metrics(metrics), at)
        }
    };
    Ok(Parsed::new(event, EventTime(at.millis())))
}

/// A record of a reference topic. Its key is that of the data.
fn reference(from: &str, record: &Record<'_>) -> Result<Event, Malformed> {
    let key = record.key.and_then(|key| std::str::from_utf8(key).ok());
    match (from, record.value) {
        (topic::USERS, Some(value)) => {
            let user: User = json(value).map_err(|e| format!("not a user: {e}"))?;
            Ok(Event::UserData(user.user_id.clone(), Some(user)))
        }
        (_, Some(value)) => {
            let merchant: Merchant = json(value).map_err(|e| format!("not a merchant: {e}"))?;
            Ok(Event::MerchantData(merchant.merchant_id.clone(), Some(merchant)))
        }
        (topic::USERS, None) => Ok(Event::UserData(key.ok_or("a tombstone without a key")?.into(), None)),
        (_, None) => Ok(Event::MerchantData(key.ok_or("a tombstone without a key")?.into(), None)),
    }
}

/// Seconds between two instants.
fn seconds_between(from: Timestamp, to: Timestamp) -> i64 {
    (to.millis() - from.millis()) / 1_000
}

#[cfg(test)]
mod tests;
