//! `orders`: what customers of a shop order.
//!
//! Few customers order often, most seldom (Zipf). Each has a budget and a favourite category, which follow from the seed
//! and the customer's number; an order is one to four articles of one category, the favourite one or what it is the hour for,
//! at prices around its usual one. The amount is the sum of its items.

use std::io;

use compact_str::format_compact;
use millrace_wire::event::Order;
use millrace_wire::scenario::Scenario;
use millrace_wire::{Timestamp, topic};
use serde_json::json;

use crate::generator::{HOT, by_hour, rounded};
use crate::{Generator, Random, Record, Reference, Zipf};

/// Categories with the median price of an article, dollars, and the hour (UTC) at which most is ordered of them.
const CATEGORIES: [(&str, f64, f64); 8] = [
    ("groceries", 9.0, 17.0),
    ("books", 16.0, 22.0),
    ("beauty", 19.0, 10.0),
    ("toys", 24.0, 15.0),
    ("clothing", 38.0, 20.0),
    ("sports", 52.0, 7.0),
    ("home", 64.0, 12.0),
    ("electronics", 140.0, 21.0),
];
/// How much less of a category is ordered twelve hours from then, beside what its friends order at any hour.
const QUIET: f64 = 0.7;
/// How often one thinks again of what it is the hour for.
const THINKS: u32 = 8;
/// Share of a customer's orders that are of the favourite category, beside those that chance puts there.
const LOYALTY: f64 = 0.55;
/// Share of orders that are of a spree, its customer, and how many times the usual is bought.
const SPREE: (f64, usize, i64) = (0.3, 7, 10);
/// How unequal customers are.
const EXPONENT: f64 = 0.6;
/// Deviation of the logarithm of prices, and of budgets.
const PRICES: f64 = 0.45;
const BUDGETS: f64 = 0.5;

/// The stream.
pub struct Orders {
    seed: u64,
    random: Random,
    customers: Zipf,
    number: u64,
    provoked: Option<Scenario>,
}

impl Orders {
    /// Orders of `customers` customers.
    pub fn new(seed: u64, customers: u32) -> Self {
        Self {
            seed,
            random: Random::new(seed, 11),
            customers: Zipf::new(customers, EXPONENT),
            number: 0,
            provoked: None,
        }
    }

    /// Who orders next, and how many times the usual.
    fn customer(&mut self) -> (usize, i64) {
        match self.provoked {
            Some(Scenario::HotKey) if self.random.unit() < HOT => (0, 1),
            Some(Scenario::VipSpree) if self.random.unit() < SPREE.0 => (SPREE.1, SPREE.2),
            _ => (self.customers.pick(&mut self.random), 1),
        }
    }
}

impl Generator for Orders {
    fn stream(&self) -> &'static str {
        topic::ORDERS
    }

    fn reference(&self) -> Vec<Reference> {
        Vec::new()
    }

    fn provoke(&mut self, scenario: Option<Scenario>) {
        self.provoked = scenario;
    }

    fn next(&mut self, event_time: Timestamp, record: &mut Record) -> io::Result<()> {
        let (customer, times) = self.customer();
        let mut habits = Random::new(self.seed, 1_000_000 + customer as u64);
        let (favourite, budget) = (habits.unit(), habits.log_normal(1.0, BUDGETS));
        let random = &mut self.random;
        let pick = |choice: f64| {
            CATEGORIES
                .get((choice * CATEGORIES.len() as f64) as usize)
                .copied()
                .unwrap_or(("other", 20.0, 12.0))
        };
        let (category, price, _) = if random.unit() < LOYALTY {
            pick(favourite)
        } else {
            let mut chosen = pick(random.unit());
            for _ in 0..THINKS {
                if random.unit() < by_hour(event_time, 0.0, chosen.2, QUIET) {
                    break;
                }
                chosen = pick(random.unit());
            }
            chosen
        };
        let mut cents = 0;
        let articles = 1 + (random.unit() * random.unit() * 4.0) as usize;
        let items = (0..articles).map(|_| {
            let quantity = times * (1 + (random.unit() * random.unit() * 3.0) as i64);
            let each = (random.log_normal(price * budget, PRICES) * 100.0).round() as i64;
            cents += quantity * each;
            let sku = format_compact!("{category}-{:03}", (random.unit() * 500.0) as u32);
            json!({"sku": sku, "quantity": quantity, "price": each as f64 / 100.0})
        });
        let items = items.collect();
        self.number += 1;
        let order = Order {
            // Unique also when a process that has started anew counts from 1 again.
            order_id: format_compact!("o-{:x}-{:x}", event_time.millis(), self.number),
            customer_id: format_compact!("c-{customer:05}"),
            amount: rounded(cents as f64 / 100.0),
            category: category.into(),
            timestamp: event_time,
            items,
        };
        record.put(&order.customer_id, &order)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    fn records(seed: u64, n: i64) -> Vec<Record> {
        let mut generator = Orders::new(seed, 50_000);
        let mut make = |i| {
            let mut record = Record::default();
            generator.next(Timestamp(1_717_200_000_000 + i * 50), &mut record).unwrap();
            record
        };
        (0..n).map(&mut make).collect()
    }

    fn orders(n: i64) -> Vec<Order> {
        records(42, n).iter().map(|record| serde_json::from_slice(&record.value).unwrap()).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_orders_and_another_gives_others() {
        assert_eq!(records(42, 1_000), records(42, 1_000));
        assert_ne!(records(42, 1_000), records(43, 1_000));
    }

    #[test]
    fn an_order_is_keyed_by_its_customer_and_costs_what_its_items_cost() {
        for record in records(42, 1_000) {
            let order: Order = serde_json::from_slice(&record.value).unwrap();
            assert_eq!(record.key, order.customer_id.as_bytes());
            let sum: f64 = order
                .items
                .iter()
                .map(|i| i["price"].as_f64().unwrap() * i["quantity"].as_f64().unwrap())
                .sum();
            assert!((sum - order.amount).abs() < 0.005, "{order:?}");
            assert!(order.amount > 0.0 && CATEGORIES.iter().any(|(name, ..)| *name == order.category));
        }
        let all = orders(5_000);
        assert_eq!(all.iter().map(|o| &o.order_id).collect::<BTreeSet<_>>().len(), all.len());
    }

    #[test]
    fn a_spree_is_of_one_customer_and_ends() {
        let mut generator = Orders::new(42, 50_000);
        let mut run = |scenario| -> (usize, f64) {
            generator.provoke(scenario);
            let next = |i| {
                let mut record = Record::default();
                generator.next(Timestamp(1_717_200_000_000 + i), &mut record).unwrap();
                serde_json::from_slice::<Order>(&record.value).unwrap()
            };
            let all: Vec<Order> =
                (0..1_000_i64).map(next).filter(|order| order.customer_id == "c-00007").collect();
            (all.len(), all.iter().map(|order| order.amount).sum())
        };
        let (orders, spent) = run(Some(Scenario::VipSpree));
        assert!(orders > 200 && spent > 1_000.0, "{orders} {spent}");
        assert!(run(None).0 < 20);
    }

    #[test]
    fn large_orders_are_a_small_part_and_very_large_ones_rare() {
        let all = orders(100_000);
        let above = |limit: f64| all.iter().filter(|o| o.amount > limit).count() as f64 / all.len() as f64;
        let shares = [above(50.0), above(400.0), above(1_000.0)];
        assert!((0.2..0.7).contains(&shares[0]), "{shares:?}");
        assert!((0.005..0.08).contains(&shares[1]), "{shares:?}");
        assert!((0.0001..0.01).contains(&shares[2]), "{shares:?}");
    }

    #[test]
    fn customers_are_unequal_and_have_a_favourite_category() {
        let mut customers: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for order in orders(100_000) {
            customers.entry(order.customer_id).or_default().push(order.category);
        }
        let most = customers.values().map(Vec::len).max().unwrap();
        assert!((300..1_000).contains(&most), "{most}");
        assert!(customers.len() > 20_000, "{}", customers.len());
        let favourite = |orders: &Vec<_>| {
            let count =
                |(name, ..): &(&str, f64, f64)| orders.iter().filter(|category| *category == name).count();
            CATEGORIES.iter().map(count).max().unwrap() as f64 / orders.len() as f64
        };
        for orders in customers.values().filter(|orders| orders.len() > 100) {
            assert!((0.4..0.8).contains(&favourite(orders)), "{}", favourite(orders));
        }
    }

    #[test]
    fn what_is_ordered_follows_the_hour() {
        let mut generator = Orders::new(42, 50_000);
        let mut share = |hour: i64, category: &str| {
            let next = |i| {
                let mut record = Record::default();
                generator.next(Timestamp(1_717_200_000_000 + hour * 3_600_000 + i), &mut record).unwrap();
                serde_json::from_slice::<Order>(&record.value).unwrap()
            };
            (0..20_000).map(next).filter(|order| order.category == category).count() as f64 / 20_000.0
        };
        for (category, _, peak) in CATEGORIES {
            let (most, least) = (share(peak as i64, category), share(peak as i64 + 12, category));
            assert!(most > 1.15 * least, "{category}: {most}, {least}");
        }
    }
}
