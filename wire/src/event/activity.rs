//! What users of a shop do, where their cards are used, and how the machines are.

use compact_str::CompactString;
use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// A place on earth, degrees.
///
/// ```
/// use millrace_wire::event::Location;
///
/// assert!(serde_json::from_str::<Location>(r#"{"lat":48.85,"lon":2.35}"#).is_ok());
/// assert!(serde_json::from_str::<Location>(r#"{"lat":91,"lon":0}"#).is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Degrees")]
pub struct Location {
    /// Latitude, -90 to 90.
    pub lat: f64,
    /// Longitude, -180 to 180.
    pub lon: f64,
}

/// Not checked yet.
#[derive(Deserialize)]
struct Degrees {
    lat: f64,
    lon: f64,
}

impl TryFrom<Degrees> for Location {
    type Error = &'static str;

    fn try_from(Degrees { lat, lon }: Degrees) -> Result<Self, Self::Error> {
        if (-90.0..=90.0).contains(&lat) && (-180.0..=180.0).contains(&lon) {
            Ok(Self { lat, lon })
        } else {
            Err("no place on earth: lat is -90 to 90, lon -180 to 180")
        }
    }
}

/// What a user does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventType {
    /// Looks at a page.
    PageView,
    /// Clicks at something.
    Click,
    /// Searches.
    Search,
    /// Signs in.
    Login,
    /// Puts an article into the cart.
    AddToCart,
    /// Goes to the checkout.
    Checkout,
    /// Buys what is in the cart.
    Purchase,
    /// Signs out.
    Logout,
}

impl EventType {
    /// As in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PageView => "page_view",
            Self::Click => "click",
            Self::Search => "search",
            Self::Login => "login",
            Self::AddToCart => "add_to_cart",
            Self::Checkout => "checkout",
            Self::Purchase => "purchase",
            Self::Logout => "logout",
        }
    }
}

/// A record of `user-events`, keyed by `userId`.
///
/// ```
/// let event: millrace_wire::event::UserEvent = serde_json::from_str(
///     r#"{"timestamp":1717200000000,"userId":"u-1","eventType":"add_to_cart","page":"/product/7"}"#).unwrap();
/// assert_eq!((event.event_type.name(), event.location), ("add_to_cart", None));
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UserEvent {
    /// Event time.
    pub timestamp: Timestamp,
    /// Who.
    pub user_id: CompactString,
    /// What.
    pub event_type: EventType,
    /// Of which visit, as the shop counts them.
    #[serde(default)]
    pub session_id: CompactString,
    /// On which page.
    #[serde(default)]
    pub page: CompactString,
    /// How long the user stayed at it, ms.
    #[serde(default)]
    pub duration: Option<f64>,
    /// The browser.
    #[serde(default)]
    pub user_agent: CompactString,
    /// Where the user is.
    #[serde(default)]
    pub location: Option<Location>,
}

/// A record of `system-metrics`, keyed by `host`. Rates are since the reading before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SystemMetrics {
    /// Event time: when it was measured.
    pub timestamp: Timestamp,
    /// Which machine.
    pub host: CompactString,
    /// Processors at work, percent of all.
    pub cpu: f64,
    /// Memory in use, percent.
    pub memory: f64,
    /// Read from and written to disks, bytes/s.
    #[serde(default)]
    pub disk_io: f64,
    /// Received from networks, bytes/s.
    #[serde(default)]
    pub net_in: f64,
    /// Sent to networks, bytes/s.
    #[serde(default)]
    pub net_out: f64,
    /// Errors since the reading before.
    #[serde(default)]
    pub errors: f64,
}

/// A record of the compacted reference topic `merchants`, keyed by `merchantId`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Merchant {
    /// Which merchant.
    pub merchant_id: CompactString,
    /// Its name.
    #[serde(default)]
    pub name: CompactString,
    /// What it sells.
    #[serde(default)]
    pub category: CompactString,
    /// Where it is: ISO 3166-1 alpha-2.
    #[serde(default)]
    pub country: CompactString,
    /// What the issuer thinks of it: `low`, `medium`, `high`.
    #[serde(default)]
    pub risk_class: CompactString,
}

/// A record of the compacted reference topic `users`, keyed by `userId`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// Who.
    pub user_id: CompactString,
    /// Where the user lives: ISO 3166-1 alpha-2.
    #[serde(default)]
    pub home_country: CompactString,
    /// Where exactly.
    #[serde(default)]
    pub home_location: Option<Location>,
    /// What kind of spender.
    #[serde(default)]
    pub segment: CompactString,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_event_needs_who_what_and_when_only() {
        for form in [r#""2024-06-01T00:00:00Z""#, "1717200000000", r#""1717200000""#] {
            let text = format!(
                r#"{{"timestamp":{form},"userId":"u","eventType":"login","sessionId":"s","page":"/","duration":5,
                     "userAgent":"x","location":{{"lat":1.5,"lon":-2}},"referrer":"y"}}"#
            );
            let event: UserEvent = serde_json::from_str(&text).unwrap();
            let location = Some(Location { lat: 1.5, lon: -2.0 });
            assert_eq!((event.timestamp, event.location), (Timestamp(1_717_200_000_000), location));
            assert_eq!((event.event_type, event.duration), (EventType::Login, Some(5.0)));
        }
        for (json, reason) in [
            (r#"{"timestamp":1,"userId":"u"}"#, "eventType"),
            (r#"{"timestamp":1,"userId":"u","eventType":"sleep"}"#, "sleep"),
            (r#"{"timestamp":"soon","userId":"u","eventType":"click"}"#, "a timestamp"),
            (r#"{"timestamp":1,"userId":"u","eventType":"click","location":{"lat":0,"lon":181}}"#, "earth"),
        ] {
            let error = serde_json::from_str::<UserEvent>(json).unwrap_err().to_string();
            assert!(error.contains(reason), "{json}: {error}");
        }
    }

    #[test]
    fn names_of_event_types_are_those_in_json() {
        use EventType::{AddToCart, Checkout, Click, Login, Logout, PageView, Purchase, Search};
        for kind in [PageView, Click, Search, Login, AddToCart, Checkout, Purchase, Logout] {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
    }

    #[test]
    fn reference_data_and_metrics_may_be_sparse() {
        let user: User = serde_json::from_str(r#"{"userId":"u","homeCountry":"FR"}"#).unwrap();
        assert_eq!((user.home_country.as_str(), user.home_location), ("FR", None));
        assert!(serde_json::from_str::<Merchant>(r#"{"merchantId":"m"}"#).is_ok());
        let metrics = r#"{"timestamp":1,"host":"h","cpu":5,"memory":50}"#;
        assert_eq!(serde_json::from_str::<SystemMetrics>(metrics).unwrap().errors, 0.0);
        assert!(serde_json::from_str::<SystemMetrics>(r#"{"timestamp":1,"host":"h","cpu":5}"#).is_err());
    }

    #[test]
    fn events_are_kept_in_state_as_they_are() {
        let json = r#"{"timestamp":1,"userId":"u","eventType":"click","location":{"lat":1,"lon":2}}"#;
        let event: UserEvent = serde_json::from_str(json).unwrap();
        let bytes = postcard::to_stdvec(&event).unwrap();
        assert_eq!(postcard::from_bytes::<UserEvent>(&bytes).unwrap(), event);
    }
}
