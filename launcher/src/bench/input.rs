//! Card transactions, and the topic that is filled with them.

use std::time::Duration;

use anyhow::{Context, Result};
use compact_str::format_compact;
use millrace_wire::Timestamp;
use millrace_wire::event::CardTransaction;
use millrace_wire::topic;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::Options;
use super::paced::Sender;
use super::stage::{Stage, data};
use crate::clock::now_ms;

/// Event time of the first preloaded record.
const BEGIN_MS: i64 = 1_717_200_000_000;
/// A record's event time is at most so much before that of one written earlier: well within the 2 s of the watermark.
const OUT_OF_ORDER_MS: i64 = 500;
const CURRENCIES: [&str; 4] = ["USD", "EUR", "GBP", "JPY"];
const MERCHANTS: u32 = 500;
/// Share of transactions that are completed.
const COMPLETED: f64 = 0.9;
/// Median of the amounts and deviation of their logarithm: about one in ten is below 5, one in twenty above 500.
const AMOUNTS: (f64, f64) = (40.0, 1.6);

/// Makes card transactions of about 185 bytes; the same ones for the same seed.
pub struct Cards {
    random: StdRng,
    /// Sums of the users' weights.
    cumulative: Vec<f64>,
    number: u64,
}

impl Cards {
    /// Of so many users, each with a weight by rank.
    fn new(users: u32, weight: fn(f64) -> f64) -> Self {
        let weights = (1..=users.max(1)).map(|rank| weight(f64::from(rank)));
        let cumulative = weights.scan(0.0, |sum, weight| {
            *sum += weight;
            Some(*sum)
        });
        Self { random: StdRng::seed_from_u64(42), cumulative: cumulative.collect(), number: 0 }
    }

    /// Few users pay often, most seldom: the weight is 1/rank (Zipf).
    pub fn zipf(users: u32) -> Self {
        Self::new(users, |rank| 1.0 / rank)
    }

    /// Each user as often as any other.
    pub fn uniform(users: u32) -> Self {
        Self::new(users, |_| 1.0)
    }

    /// The next one, of this time.
    pub fn next(&mut self, at_ms: i64) -> CardTransaction {
        let point = self.random.random::<f64>() * self.cumulative.last().copied().unwrap_or(0.0);
        let user = self.cumulative.partition_point(|sum| *sum <= point);
        self.of(user, at_ms)
    }

    /// One of this user.
    pub fn of(&mut self, user: usize, at_ms: i64) -> CardTransaction {
        let random = &mut self.random;
        // Nearly normal, the sum of four uniforms (Irwin-Hall), with mean 0 and deviation 1.
        let normal = ((0..4).map(|_| random.random::<f64>()).sum::<f64>() - 2.0) * 3.0_f64.sqrt();
        let (median, deviation) = AMOUNTS;
        let cents = |value: f64| (value * 100.0).round() / 100.0;
        self.number += 1;
        CardTransaction {
            timestamp: Timestamp(at_ms),
            transaction_id: format_compact!("tx-{:020}", self.number),
            user_id: format_compact!("u-{user:06}"),
            amount: cents(median * (deviation * normal).exp()),
            currency: CURRENCIES
                .get(random.random_range(0..CURRENCIES.len()))
                .copied()
                .unwrap_or("USD")
                .into(),
            merchant_id: format_compact!("merchant-{:05}", random.random_range(0..MERCHANTS)),
            status: if random.random::<f64>() < COMPLETED { "completed" } else { "declined" }.into(),
            risk_score: Some(cents(random.random())),
        }
    }

    /// An event time out of order, up to the limit.
    fn jitter(&mut self) -> i64 {
        self.random.random_range(0..OUT_OF_ORDER_MS)
    }
}

/// A topic with transactions.
#[derive(Debug, Clone)]
pub struct Input {
    /// Its name.
    pub topic: String,
    /// Where each of its partitions ends.
    pub ends: Vec<i64>,
    /// Records in it.
    pub records: u64,
}

impl Input {
    /// Number of partitions.
    pub fn partitions(&self) -> i32 {
        i32::try_from(self.ends.len()).unwrap_or(i32::MAX)
    }
}

/// The topic of `--topic`, or one of our own that holds enough records.
///
/// # Errors
/// The topic of `--topic` is not there, or ours can't be filled.
pub async fn preloaded(stage: &mut Stage, options: &Options) -> Result<Input> {
    if let Some(topic) = &options.topic {
        let partitions = stage.target.partitions(topic)?;
        return ends(stage, topic, partitions.with_context(|| format!("there is no topic {topic}"))?);
    }
    let Options { users, event_rate, records, .. } = *options;
    let topic = format!("millrace.bench.cards-{users}-{event_rate}");
    stage.topic(&data(&topic, topic::PARTITIONS)).await?;
    let held = ends(stage, &topic, topic::PARTITIONS)?;
    if held.records >= records {
        stage.progress.say(&format!("{topic} holds {} records", held.records));
        return Ok(held);
    }
    let (mut cards, mut sender) = (Cards::zipf(users), Sender::new(&stage.target, 50)?);
    for number in 0..records {
        let elapsed = number * 1_000 / u64::from(event_rate);
        let at = BEGIN_MS + i64::try_from(elapsed)? - cards.jitter();
        // A topic that holds some already is continued.
        let card = cards.next(at);
        if number >= held.records {
            sender.send(&topic, &card)?;
        }
        if number % 1_000 == 0 {
            stage.progress.going(|| format!("preloading {topic}: {number} of {records} records"));
            tokio::task::yield_now().await;
        }
    }
    sender.flush(Duration::from_secs(60))?;
    let filled = ends(stage, &topic, topic::PARTITIONS)?;
    stage.progress.say(&format!("preloaded {topic} with {} records", filled.records));
    Ok(filled)
}

/// A topic in which each of so many users has a record, and then as many more are of any of them.
///
/// # Errors
/// It can't be filled.
pub async fn twice(stage: &mut Stage, users: u32) -> Result<Input> {
    let topic = stage.own_topic(&format!("keys-{users}")).await?;
    let (mut cards, mut sender) = (Cards::uniform(users), Sender::new(&stage.target, 50)?);
    let users = usize::try_from(users)?;
    for number in 0..2 * users {
        let at = now_ms();
        let card = if number < users { cards.of(number, at) } else { cards.next(at) };
        sender.send(&topic, &card)?;
        if number % 1_000 == 0 {
            stage.progress.going(|| format!("filling {topic}: {number} of {} records", 2 * users));
            tokio::task::yield_now().await;
        }
    }
    sender.flush(Duration::from_secs(120))?;
    ends(stage, &topic, topic::PARTITIONS)
}

fn ends(stage: &Stage, topic: &str, partitions: i32) -> Result<Input> {
    let consumer = stage.target.consumer("millrace-bench", "read_committed")?;
    let mut input = Input { topic: topic.to_owned(), ends: Vec::new(), records: 0 };
    for partition in 0..partitions {
        let (start, end) = stage.target.ends(&consumer, topic, partition)?;
        input.ends.push(end);
        input.records += u64::try_from(end - start)?;
    }
    Ok(input)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(n: u64) -> Vec<CardTransaction> {
        let mut cards = Cards::zipf(10_000);
        (0..n).map(|_| cards.next(BEGIN_MS)).collect()
    }

    #[test]
    fn a_record_is_of_about_185_bytes_and_the_same_for_the_same_seed() {
        let bytes: usize = some(1_000).iter().map(|card| serde_json::to_vec(card).unwrap().len()).sum();
        assert!((180_000..190_000).contains(&bytes), "{bytes}");
        assert_eq!(some(100), some(100));
    }

    #[test]
    fn every_query_has_something_to_find() {
        let all = some(100_000);
        let share = |what: &dyn Fn(&CardTransaction) -> bool| {
            all.iter().filter(|card| what(card)).count() as f64 / all.len() as f64
        };
        let kept = share(&|card| card.status == "completed" && card.risk_score.unwrap() > 0.5);
        assert!((0.42..0.47).contains(&kept), "{kept}");
        let (small, large) = (share(&|card| card.amount < 5.0), share(&|card| card.amount > 500.0));
        assert!((0.05..0.15).contains(&small) && (0.03..0.1).contains(&large), "{small} {large}");
        // 1 + 1/2 + .. + 1/10000 = 9.788
        let first = share(&|card| card.user_id == "u-000000");
        assert!((0.09..0.115).contains(&first), "{first}");
    }
}
