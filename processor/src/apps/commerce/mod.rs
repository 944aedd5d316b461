//! App `commerce`: customers and their orders. Reads `orders`; two jobs read them again, keyed otherwise.
//!
//! Its jobs follow each customer in the order in which the orders come. A customer without an order for 30 days of event
//! time (parameter `ttl_days`) is forgotten, and starts anew.

mod category_stats;
mod customer_stats;
mod customer_tiers;
mod customer_totals;
mod hourly_sales;
mod order_alerts;
mod order_fraud;
mod order_frequency;
mod segments;

use garde::Validate;
use millrace_core::task::{Malformed, Parsed, SourceKind};
use millrace_core::window::WindowSpec;
use millrace_core::{App, EventTime, Record, Source};
use millrace_wire::event::Order;
use millrace_wire::topic;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::parameters::{Gap, Lateness, Slide, WindowSize, WindowType};

/// What a record of this app is.
pub type Event = Order;

/// The app.
pub const APP: App<Event> = App {
    name: "commerce",
    sources: &[
        Source { topic: topic::ORDERS, kind: super::STREAM },
        Source { topic: topic::CATEGORY_STATS_REPARTITION, kind: SourceKind::Repartition },
        Source { topic: topic::HOURLY_SALES_REPARTITION, kind: SourceKind::Repartition },
    ],
    partitions: topic::PARTITIONS,
    parse,
    jobs: || {
        vec![
            customer_totals::job(),
            customer_tiers::job(),
            order_frequency::job(),
            category_stats::job(),
            order_alerts::job(),
            hourly_sales::job(),
            customer_stats::job(),
            order_fraud::job(),
            segments::job(),
        ]
    },
};

fn parse(record: &Record<'_>) -> Result<Parsed<Event>, Malformed> {
    let value = record.value.ok_or("the record has no value")?;
    let order: Order = super::json(value).map_err(|e| format!("not an order: {e}"))?;
    let at = EventTime(order.timestamp.millis());
    Ok(Parsed::new(order, at))
}

/// Restricts a job to orders of these categories; none means all.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(transparent)]
#[schemars(inline)]
#[garde(transparent)]
struct Categories(#[garde(length(max = 100), inner(length(max = 100)))] Vec<String>);

impl Categories {
    fn admit(&self, order: &Order) -> bool {
        self.0.is_empty() || self.0.iter().any(|category| *category == order.category)
    }
}

/// Live parameters of windows over an hour, if nobody says otherwise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default, deny_unknown_fields)]
struct WindowParams {
    #[garde(skip)]
    window: WindowType,
    #[garde(dive)]
    window_size_s: WindowSize,
    #[garde(dive)]
    slide_s: Slide,
    #[garde(dive)]
    gap_s: Gap,
    #[garde(dive)]
    allowed_lateness_s: Lateness,
    /// Only orders of these categories count; none means all.
    #[garde(dive)]
    #[schemars(title = "Categories")]
    categories: Categories,
}

impl Default for WindowParams {
    fn default() -> Self {
        Self {
            window: WindowType::Tumbling,
            window_size_s: WindowSize(3_600),
            slide_s: Slide(600),
            gap_s: Gap(600),
            allowed_lateness_s: Lateness(0),
            categories: Categories::default(),
        }
    }
}

impl WindowParams {
    fn windows(&self) -> WindowSpec {
        self.window.spec(self.window_size_s, self.slide_s, self.gap_s)
    }
}

/// What a customer has ordered so far. Part of the state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Spent {
    total: f64,
    orders: u64,
}

impl Spent {
    fn add(&mut self, order: &Order) {
        self.total += order.amount;
        self.orders += 1;
    }
}

#[cfg(test)]
mod tests;
