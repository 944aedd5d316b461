//! `category-stats`: what each category has sold so far, and a milestone at each further amount of revenue. Orders are keyed
//! by customer, so this job reads them again by category.

use compact_str::CompactString;
use garde::Validate;
use millrace_core::Job;
use millrace_core::process::Current;
use millrace_core::stream::job as new_job;
use millrace_wire::Timestamp;
use millrace_wire::event::Order;
use millrace_wire::result::{CategoryStats, Milestone};
use millrace_wire::topic;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Categories, Event};
use crate::apps::parameters::TtlDays;

/// The most milestones that one order gives.
const MILESTONES: usize = 100;

/// Live parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default, deny_unknown_fields)]
struct Params {
    /// A milestone is each multiple of this revenue, when a category first reaches it. An order that passes more than 100 at
    /// once gives the last 100.
    #[garde(range(min = 0.01, max = 1e12))]
    #[schemars(title = "Milestone every", extend("x-unit" = "$"))]
    milestone: f64,
    /// Only orders of these categories count; none means all.
    #[garde(dive)]
    #[schemars(title = "Categories")]
    categories: Categories,
    #[garde(dive)]
    ttl_days: TtlDays,
}

impl Default for Params {
    fn default() -> Self {
        Self { milestone: 1_000.0, categories: Categories::default(), ttl_days: TtlDays::default() }
    }
}

/// What of an order goes to its category.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Sale {
    category: CompactString,
    amount: f64,
    timestamp: Timestamp,
}

/// What is known of a category.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Category {
    total: f64,
    count: u64,
    max: f64,
    /// The highest revenue that there was.
    peak: f64,
}

#[derive(Clone, Serialize)]
#[serde(untagged)]
enum Out {
    Stats(CategoryStats),
    Milestone(Milestone),
}

/// Adds a sale; what it gives.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn add(sale: &Sale, state: &mut Category, params: &Params) -> Vec<Out> {
    state.total += sale.amount;
    state.count += 1;
    state.max = if state.count == 1 { sale.amount } else { state.max.max(sale.amount) };
    let before = (state.peak / params.milestone).floor().max(0.0) as u64;
    state.peak = state.peak.max(state.total);
    let reached = (state.peak / params.milestone).floor().max(0.0) as u64;
    let first = (before + 1).max((reached + 1).saturating_sub(MILESTONES as u64));
    let stats = Out::Stats(CategoryStats {
        category: sale.category.clone(),
        total: state.total,
        count: state.count,
        average: state.total / state.count as f64,
        max: state.max,
        timestamp: sale.timestamp,
    });
    let milestones = (first..=reached).map(|number| {
        Out::Milestone(Milestone {
            category: sale.category.clone(),
            milestone: number as f64 * params.milestone,
            total: state.total,
            count: state.count,
            timestamp: sale.timestamp,
        })
    });
    std::iter::once(stats).chain(milestones).collect()
}

pub(super) fn job() -> Box<dyn Job<Event>> {
    new_job::<Event, Params>("category-stats", "Revenue of each category so far, with milestones.")
        .topics(&[topic::ORDERS], &[topic::CATEGORY_STATS, topic::MILESTONES])
        .source(|order: &Order| Some(order))
        .filter(|order, params| params.categories.admit(order))
        .map(|order, _, _| Sale {
            category: order.category.clone(),
            amount: order.amount,
            timestamp: order.timestamp,
        })
        .repartition(
            topic::CATEGORY_STATS_REPARTITION,
            |sale| &sale.category,
            |sales| {
                sales
                    .key_by(|sale| &sale.category)
                    .map_with_state_ttl(
                        |params: &Params| params.ttl_days.ttl(),
                        |sale, state: &mut Current<Category>, _, params: &Params| {
                            Some(add(sale, state, params))
                        },
                    )
                    .flat_map(|out, _, _| out.clone())
                    .to(|out| match out {
                        Out::Stats(stats) => (topic::CATEGORY_STATS, &stats.category),
                        Out::Milestone(milestone) => (topic::MILESTONES, &milestone.category),
                    })
            },
        )
}

#[cfg(test)]
mod tests {
    use millrace_core::testing::Harness;
    use serde_json::{Value, json};

    use super::super::tests::order_of;
    use super::*;

    fn milestones(test: &mut Harness<Event>) -> Vec<Value> {
        test.commit();
        test.emitted("milestones").into_iter().map(|m| m["milestone"].clone()).collect()
    }

    #[test]
    fn a_category_adds_up_over_all_customers() {
        let mut test = Harness::new(job);
        order_of(&mut test, "a", "books", 1, 10.0);
        order_of(&mut test, "b", "books", 2, 30.0);
        order_of(&mut test, "a", "toys", 3, 5.0);
        test.restore();
        order_of(&mut test, "c", "books", 4, 20.0);
        test.commit();
        let stats = test.keyed("category-stats");
        let last = json!({"category": "books", "total": 60.0, "count": 3, "average": 20.0, "max": 30.0, "timestamp": 4});
        assert_eq!((stats.len(), &stats[3]), (4, &("books".to_owned(), last)));
        assert_eq!(stats[2].1["total"], 5.0);
    }

    #[test]
    fn a_milestone_comes_when_it_is_first_reached() {
        let mut test = Harness::new(job);
        order_of(&mut test, "a", "books", 1, 999.99);
        assert!(milestones(&mut test).is_empty());
        order_of(&mut test, "b", "books", 2, 0.01);
        assert_eq!(milestones(&mut test), [1_000.0]);
        order_of(&mut test, "b", "books", 3, -500.0);
        order_of(&mut test, "b", "books", 4, 600.0);
        assert!(milestones(&mut test).is_empty(), "it was there before");
        order_of(&mut test, "b", "books", 5, 2_000.0);
        assert_eq!(milestones(&mut test), [2_000.0, 3_000.0]);
        test.params(1, &json!({"milestone": 0.5})).unwrap();
        order_of(&mut test, "b", "books", 6, 1.0);
        assert_eq!(milestones(&mut test), [3_100.5, 3_101.0]);
        order_of(&mut test, "b", "books", 7, 1_000.0);
        let many = milestones(&mut test);
        assert_eq!((many.len(), &many[99]), (100, &json!(4_101.0)));
        assert!(test.params(2, &json!({"milestone": 0})).unwrap_err().0.contains("milestone"));
    }
}
