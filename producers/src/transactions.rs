//! `transactions`: payments by card, and movements on bank accounts.
//!
//! Who pays whom follows the [population](crate::population): amounts are log-normal around what the merchant usually takes,
//! higher or lower as the user's segment spends, in the merchant's currency. Who pays follows the hour of the day. Few accounts see much, most little (Zipf):
//! withdrawals (negative), and now and then a larger deposit.

use std::io;

use compact_str::{CompactString, format_compact};
use millrace_wire::event::{Account, BankTransaction, CardTransaction};
use millrace_wire::scenario::Scenario;
use millrace_wire::{Timestamp, topic};

use crate::generator::{HOT, rounded};
use crate::population::Population;
use crate::{Generator, Random, Record, Reference, Zipf};

/// By how much less users pay at night than in the evening: not so much that those who are awake pay too often.
const NIGHT: f64 = 0.3;
/// Share of bank transactions.
const BANK: f64 = 0.4;
/// Share of deposits among those.
const DEPOSITS: f64 = 0.2;
/// How unequal accounts are.
const EXPONENT: f64 = 0.6;
/// Accounts are numbers from here on.
const FIRST_ACCOUNT: i64 = 100_000;
/// Share of events that a provoked fraud takes.
const FRAUD: f64 = 0.3;
/// What a stolen card pays, one after the other.
const STOLEN: [f64; 2] = [1.0, 900.0];
/// What is taken from an account that is emptied, each time.
const DRAINED: f64 = -600.0;
/// Share of card payments that the issuer declines.
const DECLINED: f64 = 0.03;

/// The stream.
pub struct Transactions {
    random: Random,
    population: Population,
    accounts: Zipf,
    number: u64,
    provoked: Option<Scenario>,
}

impl Transactions {
    /// Of so many users' cards, and of so many accounts.
    pub fn new(seed: u64, users: u32, accounts: u32) -> Self {
        Self {
            random: Random::new(seed, 21),
            population: Population::new(seed, users),
            accounts: Zipf::new(accounts, EXPONENT),
            number: 0,
            provoked: None,
        }
    }

    /// Whether the next event is of the hot key.
    fn hot(&mut self) -> bool {
        self.provoked == Some(Scenario::HotKey) && self.random.unit() < HOT
    }

    /// Whether the next event is part of this fraud.
    fn fraud(&mut self, scenario: Scenario) -> bool {
        self.provoked == Some(scenario) && self.random.unit() < FRAUD
    }

    fn bank(&mut self, timestamp: Timestamp) -> BankTransaction {
        let account = if self.hot() { 0 } else { self.accounts.pick(&mut self.random) };
        let random = &mut self.random;
        let (r#type, amount) = if random.unit() < DEPOSITS {
            ("deposit", random.log_normal(180.0, 0.8))
        } else {
            ("withdraw", -random.log_normal(40.0, 0.7))
        };
        BankTransaction {
            account: Account::from(FIRST_ACCOUNT + account as i64),
            amount: rounded(amount),
            timestamp,
            r#type: CompactString::const_new(r#type),
        }
    }

    fn card(&mut self, timestamp: Timestamp) -> CardTransaction {
        let user = if self.hot() {
            self.population.first()
        } else {
            self.population.somebody(timestamp, NIGHT, &mut self.random)
        };
        let merchant = self.population.somewhere(&mut self.random);
        let usual = merchant.category.1 * user.segment.1;
        let random = &mut self.random;
        let declined = random.unit() < DECLINED;
        // The issuer's guess is no more than that: what it declines it suspects, but not only that.
        let risk = random.unit() * random.unit() * if declined { 1.0 } else { merchant.risk.1 };
        self.number += 1;
        CardTransaction {
            timestamp,
            // Unique also when a process that has started anew counts from 1 again.
            transaction_id: format_compact!("t-{:x}-{:x}", timestamp.millis(), self.number),
            user_id: user.id,
            amount: rounded(random.log_normal(usual, 0.6).max(0.5)),
            currency: CompactString::const_new(merchant.currency),
            merchant_id: merchant.id,
            status: CompactString::const_new(if declined { "declined" } else { "approved" }),
            risk_score: Some(rounded(risk)),
        }
    }
}

impl Generator for Transactions {
    fn stream(&self) -> &'static str {
        topic::TRANSACTIONS
    }

    fn reference(&self) -> Vec<Reference> {
        self.population.merchants()
    }

    fn provoke(&mut self, scenario: Option<Scenario>) {
        self.provoked = scenario;
    }

    fn next(&mut self, event_time: Timestamp, record: &mut Record) -> io::Result<()> {
        if self.fraud(Scenario::AccountDrain) {
            let bank = BankTransaction {
                account: Account::from(FIRST_ACCOUNT),
                amount: DRAINED,
                ..self.bank(event_time)
            };
            return record.put(bank.account.as_str(), &bank);
        }
        if self.fraud(Scenario::CardFraud) {
            let amount = STOLEN.get(self.number as usize % STOLEN.len()).copied().unwrap_or_default();
            let card =
                CardTransaction { user_id: self.population.first().id, amount, ..self.card(event_time) };
            return record.put(&card.user_id, &card);
        }
        if self.random.unit() < BANK {
            let bank = self.bank(event_time);
            record.put(bank.account.as_str(), &bank)
        } else {
            let card = self.card(event_time);
            record.put(&card.user_id, &card)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use millrace_wire::event::Transaction;

    use super::*;

    fn records(seed: u64, n: i64) -> Vec<Record> {
        let mut generator = Transactions::new(seed, 10_000, 50_000);
        let mut make = |i| {
            let mut record = Record::default();
            generator.next(Timestamp(1_717_200_000_000 + i * 20), &mut record).unwrap();
            record
        };
        (0..n).map(&mut make).collect()
    }

    fn transactions(n: i64) -> (Vec<CardTransaction>, Vec<BankTransaction>) {
        let (mut cards, mut banks) = (Vec::new(), Vec::new());
        for record in records(42, n) {
            match Transaction::from_json(&record.value).unwrap() {
                Transaction::Card(card) => {
                    assert_eq!(record.key, card.user_id.as_bytes());
                    cards.push(card);
                }
                Transaction::Bank(bank) => {
                    assert_eq!(record.key, bank.account.as_str().as_bytes());
                    banks.push(bank);
                }
            }
        }
        (cards, banks)
    }

    #[test]
    fn the_same_seed_gives_the_same_transactions_and_another_gives_others() {
        assert_eq!(records(42, 1_000), records(42, 1_000));
        assert_ne!(records(42, 1_000), records(43, 1_000));
    }

    #[test]
    fn both_kinds_share_the_topic() {
        let (cards, banks) = transactions(20_000);
        let share = banks.len() as f64 / 20_000.0;
        assert!((BANK - 0.02..BANK + 0.02).contains(&share), "{share}");
        assert_eq!(cards.iter().map(|card| &card.transaction_id).collect::<BTreeSet<_>>().len(), cards.len());
        let declined =
            cards.iter().filter(|card| card.status == "declined").count() as f64 / cards.len() as f64;
        assert!((0.02..0.04).contains(&declined), "{declined}");
        for bank in banks {
            assert_eq!(bank.amount > 0.0, bank.r#type == "deposit", "{bank:?}");
        }
    }

    #[test]
    fn cents_and_hundreds_are_both_seen_but_most_payments_are_small() {
        let (cards, _) = transactions(100_000);
        let above =
            |limit: f64| cards.iter().filter(|c| c.amount > limit).count() as f64 / cards.len() as f64;
        let shares = [above(5.0), above(100.0), above(500.0)];
        assert!((0.7..0.98).contains(&shares[0]), "{shares:?}");
        assert!((0.02..0.25).contains(&shares[1]), "{shares:?}");
        assert!((0.0005..0.02).contains(&shares[2]), "{shares:?}");
    }

    #[test]
    fn provoked_frauds_are_of_one_card_or_account() {
        let mut generator = Transactions::new(42, 10_000, 50_000);
        let mut run = |scenario| -> Vec<Transaction> {
            generator.provoke(scenario);
            let next = |i| {
                let mut record = Record::default();
                generator.next(Timestamp(1_717_200_000_000 + i), &mut record).unwrap();
                Transaction::from_json(&record.value).unwrap()
            };
            (0..1_000_i64).map(next).collect()
        };
        let stolen: Vec<f64> = run(Some(Scenario::CardFraud))
            .iter()
            .filter_map(|t| match t {
                Transaction::Card(card) if card.user_id == "u-00000" => Some(card.amount),
                _ => None,
            })
            .collect();
        assert!(stolen.len() > 200 && stolen.contains(&1.0) && stolen.contains(&900.0), "{stolen:?}");
        let drained = run(Some(Scenario::AccountDrain));
        let taken = |t: &&Transaction| matches!(t, Transaction::Bank(b) if b.account == Account::from(FIRST_ACCOUNT) && b.amount == DRAINED);
        assert!(drained.iter().filter(taken).count() > 200);
        assert_eq!(run(None).iter().filter(taken).count(), 0);
    }

    #[test]
    fn spending_fits_the_user() {
        let mut people: BTreeMap<_, Vec<f64>> = BTreeMap::new();
        let (cards, _) = transactions(300_000);
        for card in cards {
            people.entry(card.user_id).or_default().push(card.amount);
        }
        let mut means: Vec<f64> = people
            .values()
            .filter(|amounts| amounts.len() > 100)
            .map(|amounts| amounts.iter().sum::<f64>() / amounts.len() as f64)
            .collect();
        means.sort_by(f64::total_cmp);
        assert!(means.len() > 20 && means[means.len() - 1] > 2.0 * means[0], "{means:?}");
    }

    /// At 50/s the demo has alerts for high activity of an account, above 5000 in a minute, seldom.
    #[test]
    fn high_activity_is_the_exception() {
        let (_, banks) = transactions(50 * 3_600);
        let mut minutes: BTreeMap<_, f64> = BTreeMap::new();
        for bank in banks {
            *minutes
                .entry((bank.account.as_str().to_owned(), bank.timestamp.millis() / 60_000))
                .or_default() += bank.amount.abs();
        }
        let alerts = minutes.values().filter(|sum| **sum > 5_000.0).count();
        assert!(alerts < 60, "{alerts} in an hour");
    }

    /// Whoever is awake: nobody's card is used much more often than at other hours, or `VELOCITY` would be the rule.
    #[test]
    fn who_pays_follows_the_hour_but_nobody_pays_too_often() {
        let mut generator = Transactions::new(42, 10_000, 50_000);
        let mut record = Record::default();
        for hour in [1, 4, 7, 10, 13, 16, 19, 22] {
            let mut payments = BTreeMap::<CompactString, u32>::new();
            for i in 0..36_000 {
                let at = Timestamp(1_717_200_000_000 + hour * 3_600_000 + i * 100);
                generator.next(at, &mut record).unwrap();
                if let Transaction::Card(card) = Transaction::from_json(&record.value).unwrap() {
                    *payments.entry(card.user_id).or_default() += 1;
                }
            }
            let (most, all) = (payments.values().max().unwrap(), payments.values().sum::<u32>());
            // 0.5 % if the hour did not matter.
            assert!(f64::from(*most) < 0.0075 * f64::from(all), "{most} of {all} at {hour} h");
        }
    }
}
