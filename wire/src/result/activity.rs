//! What the app `activity` writes.

use compact_str::CompactString;
use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::event::{CardTransaction, Location, Merchant, User};

/// A record of `page-stats`, keyed by `page`: job `traffic`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PageStats {
    /// Which page.
    pub page: CompactString,
    /// Which type of event.
    #[serde(rename = "eventType")]
    pub event_type: CompactString,
    /// Inclusive, epoch ms.
    pub window_start: i64,
    /// Exclusive, epoch ms.
    pub window_end: i64,
    /// Events so far.
    pub count: u64,
    /// Whether the window is over.
    pub r#final: bool,
}

/// A record of `merchant-trends`, keyed by `merchantId`: job `spend-trend`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MerchantTrend {
    /// Who is paid.
    #[serde(rename = "merchantId")]
    pub merchant_id: CompactString,
    /// Inclusive, epoch ms.
    pub window_start: i64,
    /// Exclusive, epoch ms.
    pub window_end: i64,
    /// Sum of the amounts, in the merchant's currency.
    pub sum: f64,
    /// Payments.
    pub count: u64,
    /// Amount of a payment on average.
    pub average: f64,
}

/// How far a visit came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum FunnelStage {
    /// Looked at pages.
    Browse,
    /// Put something into the cart.
    Cart,
    /// Went to the checkout.
    Checkout,
    /// Bought.
    Purchase,
}

/// A record of `user-sessions`, keyed by `userId`: job `sessions`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UserSession {
    /// Who.
    #[serde(rename = "userId")]
    pub user_id: CompactString,
    /// The first event, epoch ms.
    pub window_start: i64,
    /// The last event and the gap, epoch ms.
    pub window_end: i64,
    /// From the first event to the last, ms.
    pub duration: i64,
    /// All events.
    pub events: u64,
    /// Different pages.
    pub pages: u64,
    /// The furthest stage.
    #[serde(rename = "funnelStage")]
    pub funnel_stage: FunnelStage,
    /// Whether it was a single event.
    pub bounce: bool,
    /// Page of the first event.
    #[serde(rename = "entryPage")]
    pub entry_page: CompactString,
    /// Page of the last event.
    #[serde(rename = "exitPage")]
    pub exit_page: CompactString,
}

/// A record of `processed-events`, keyed by `userId`: job `enrich`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EnrichedTransaction {
    /// As it came.
    #[serde(flatten)]
    pub transaction: CardTransaction,
    /// Reference data of the user, null if there is none.
    pub user: Option<User>,
    /// Reference data of the merchant, null if there is none.
    pub merchant: Option<Merchant>,
}

/// Three quantiles, each to a relative accuracy of 1 %.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// The median.
    pub p50: f64,
    /// Above it is a twentieth.
    pub p95: f64,
    /// Above it is a hundredth.
    pub p99: f64,
}

/// A record of `host-stats`, keyed by `host`: job `host-health`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostStats {
    /// Which machine.
    pub host: CompactString,
    /// Inclusive, epoch ms.
    pub window_start: i64,
    /// Exclusive, epoch ms.
    pub window_end: i64,
    /// Readings.
    pub count: u64,
    /// Percent of all processors.
    pub cpu: Percentiles,
    /// Percent.
    pub memory: Percentiles,
    /// Errors from one reading to the next.
    pub errors: Percentiles,
}

/// Details of a `CARD_TESTING` or `VELOCITY` in `alerts`, keyed by `userId`: job `card-fraud`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CardFraud {
    /// Whose card.
    pub user_id: CompactString,
    /// The payments in the order of event time.
    pub transaction_ids: Vec<CompactString>,
    /// Their amounts.
    pub amounts: Vec<f64>,
    /// Event time of the first.
    pub first_timestamp: Timestamp,
    /// Event time of the last.
    pub last_timestamp: Timestamp,
}

/// Details of an `IMPOSSIBLE_TRAVEL` in `alerts`, keyed by `userId`: job `impossible-travel`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImpossibleTravel {
    /// Who.
    pub user_id: CompactString,
    /// Where the user was first.
    pub from: Location,
    /// And then.
    pub to: Location,
    /// Along the great circle.
    pub distance_km: f64,
    /// What it takes; null if both are of the same instant.
    pub speed_kmh: Option<f64>,
    /// When the user was at `from`.
    pub first_timestamp: Timestamp,
    /// When the user was at `to`.
    pub second_timestamp: Timestamp,
}

/// Details of a `LOGIN_THEN_SPEND` in `alerts`, keyed by `userId`: job `login-then-spend`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LoginThenSpend {
    /// Who.
    pub user_id: CompactString,
    /// Where the login was: ISO 3166-1 alpha-2.
    pub country: CompactString,
    /// The payment.
    pub transaction_id: CompactString,
    /// Its amount.
    pub amount: f64,
    /// Event time of the login.
    pub first_timestamp: Timestamp,
    /// Event time of the payment.
    pub second_timestamp: Timestamp,
}

/// Details of a `CART_ABANDONMENT` in `alerts`, keyed by `userId`: job `cart-abandonment`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CartAbandonment {
    /// Who.
    pub user_id: CompactString,
    /// Of which visit.
    pub session_id: CompactString,
    /// Where the article is.
    pub page: CompactString,
    /// Event time at which it was put into the cart.
    pub first_timestamp: Timestamp,
}
