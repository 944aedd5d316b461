//! The verdict: what the known input comes to by plain arithmetic, against what is in the result topics and in
//! Elasticsearch.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use millrace_wire::result::header;
use millrace_wire::topic;
use serde_json::Value;

use super::input::Known;
use super::kafka::Kafka;
use crate::credentials::{Credentials, ELASTICSEARCH_USER};
use crate::http;
use crate::layout::Layout;
use crate::records::Found;
use crate::state::State;

/// Windows of `account-balances`, ms: its default, which the comparison needs.
const WINDOW_MS: i64 = 10_000;
/// Elasticsearch answers with no more documents of a search.
pub const DOCUMENTS: u32 = 10_000;
/// Findings that are shown of each kind.
const SHOWN: usize = 5;

/// What is compared: results of one key in order, as (number, sum).
type Steps = BTreeMap<String, Vec<(i64, i64)>>;

/// What was found.
#[derive(Debug, Default)]
pub struct Verdict {
    /// What is lost, doubled or wrong.
    pub findings: Vec<String>,
    /// Results looked at, in both places.
    pub results: usize,
    /// Records that came too late for their window, as `late-events` says.
    pub late: usize,
}

/// Where everything stood before.
pub struct Check {
    /// Every key of the input begins with it.
    pub prefix: String,
    before: BTreeMap<&'static str, Vec<i64>>,
}

/// A whole number in a result.
#[allow(clippy::cast_possible_truncation)]
fn whole(value: &Value, field: &str) -> i64 {
    value.get(field).and_then(Value::as_f64).map_or(-1, |number| number.round() as i64)
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// A record of an input topic.
fn known(topic: &str, value: &Value) -> Known {
    let (amount, text) = (whole(value, "amount"), |field| text(value, field).to_owned());
    if topic == topic::ORDERS {
        Known::Order { customer: text("customerId"), category: text("category"), amount }
    } else {
        Known::Transaction { account: text("account"), amount, at_ms: whole(value, "timestamp") }
    }
}

/// Adds up the records of each key.
fn running(records: impl Iterator<Item = (String, i64)>) -> Steps {
    let mut steps = Steps::new();
    for (key, amount) in records {
        let steps = steps.entry(key).or_default();
        let (number, sum) = steps.last().copied().unwrap_or_default();
        steps.push((number + 1, sum + amount));
    }
    steps
}

impl Check {
    /// Notes where everything stands.
    pub fn new(kafka: &Kafka, seed: u64) -> Result<Self> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
        let topics = [
            topic::ORDERS,
            topic::TRANSACTIONS,
            topic::CUSTOMER_TOTALS,
            topic::CATEGORY_STATS,
            topic::ACCOUNT_BALANCES,
            topic::LATE_EVENTS,
        ];
        let before =
            topics.into_iter().map(|topic| Ok((topic, kafka.ends(topic)?))).collect::<Result<_>>()?;
        Ok(Self { prefix: format!("chaos{seed}x{now}x"), before })
    }

    fn since(&self, kafka: &Kafka, topic: &'static str) -> Result<Vec<(Found, Value)>> {
        let from = self.before.get(topic).map(Vec::as_slice).unwrap_or_default();
        let records = kafka.read(topic, from)?.into_iter();
        Ok(records
            .filter_map(|found| serde_json::from_slice(&found.value).ok().map(|value| (found, value)))
            .collect())
    }

    /// Compares.
    pub async fn compare(&self, kafka: &Kafka, written: &[Known], layout: &Layout) -> Result<Verdict> {
        let orders = written.iter().filter_map(|known| match known {
            Known::Order { customer, category, amount } => Some((customer, category, *amount)),
            Known::Transaction { .. } => None,
        });
        let customers = running(orders.clone().map(|(customer, _, amount)| (customer.clone(), amount)));
        let categories = running(orders.map(|(_, category, amount)| (category.clone(), amount)));
        let mut verdict = Verdict::default();
        self.input(kafka, written, &mut verdict)?;

        let ours = |value: &Value, field: &str| text(value, field).starts_with(&self.prefix);
        let mut totals = Steps::new();
        for (_, value) in
            self.since(kafka, topic::CUSTOMER_TOTALS)?.iter().filter(|(_, v)| ours(v, "customerId"))
        {
            let step = (whole(value, "orders"), whole(value, "total"));
            totals.entry(text(value, "customerId").to_owned()).or_default().push(step);
        }
        verdict.compare("customer-totals", &customers, &totals, true);

        let mut stats = Steps::new();
        for (_, value) in
            self.since(kafka, topic::CATEGORY_STATS)?.iter().filter(|(_, v)| ours(v, "category"))
        {
            let step = (whole(value, "count"), whole(value, "total"));
            stats.entry(text(value, "category").to_owned()).or_default().push(step);
        }
        // In which order customers' orders meet is not repeatable: only how many and the last sum are.
        verdict.compare("category-stats", &categories, &stats, false);

        self.windows(kafka, written, &mut verdict)?;
        let search = Search::new(layout)?;
        let documents =
            search.steps(topic::CUSTOMER_TOTALS, "customerId", "orders", customers.keys()).await?;
        verdict.compare("customer-totals in Elasticsearch", &customers, &documents, true);
        let documents = search.steps(topic::CATEGORY_STATS, "category", "count", categories.keys()).await?;
        verdict.compare("category-stats in Elasticsearch", &categories, &documents, false);
        Ok(verdict)
    }

    /// What is in the input topics is what was written, once: what is lost or doubled on its way there is no fault of the
    /// processing, and is told apart from it.
    fn input(&self, kafka: &Kafka, written: &[Known], verdict: &mut Verdict) -> Result<()> {
        let mut findings = Vec::new();
        for topic in [topic::ORDERS, topic::TRANSACTIONS] {
            let mut times = BTreeMap::new();
            for known in written.iter().filter(|known| known.topic() == topic) {
                *times.entry(known.clone()).or_default() -= 1;
            }
            for (found, value) in self.since(kafka, topic)? {
                let known = known(topic, &value);
                if !known.key().starts_with(&self.prefix) {
                    continue;
                }
                let times: &mut i32 = times.entry(known).or_default();
                *times += 1;
                if *times > 0 {
                    let (partition, offset) = (found.partition, found.offset);
                    findings.push(format!(
                        "the input: {topic}/{partition} has {value} once more, at offset {offset}"
                    ));
                }
            }
            let lost = times.into_iter().filter(|(_, times)| *times < 0);
            findings.extend(lost.map(|(known, _)| format!("the input: {topic} lacks {known:?}")));
        }
        verdict.find(findings);
        Ok(())
    }

    /// The sums of each account and window, without what was too late.
    fn windows(&self, kafka: &Kafka, written: &[Known], verdict: &mut Verdict) -> Result<()> {
        let mut expected = BTreeMap::<(String, i64), i64>::new();
        for known in written {
            if let Known::Transaction { account, amount, at_ms } = known {
                *expected.entry((account.clone(), at_ms - at_ms.rem_euclid(WINDOW_MS))).or_default() +=
                    amount;
            }
        }
        for (found, value) in self.since(kafka, topic::LATE_EVENTS)? {
            let at = whole(&value, "timestamp");
            let key = (text(&value, "account").to_owned(), at - at.rem_euclid(WINDOW_MS));
            if found.header(header::JOB) == Some("bank/account-balances")
                && let Some(sum) = expected.get_mut(&key)
            {
                *sum -= whole(&value, "amount");
                verdict.late += 1;
            }
        }
        expected.retain(|_, sum| *sum != 0);
        let mut last = BTreeMap::new();
        for (_, value) in self.since(kafka, topic::ACCOUNT_BALANCES)? {
            if text(&value, "account").starts_with(&self.prefix) {
                if whole(&value, "window_end") - whole(&value, "window_start") != WINDOW_MS {
                    bail!("chaos needs account-balances with its default window_size_s of 10");
                }
                last.insert(
                    (text(&value, "account").to_owned(), whole(&value, "window_start")),
                    whole(&value, "balance"),
                );
            }
        }
        verdict.results += last.len();
        let wrong = expected.iter().filter(|(key, sum)| last.get(*key) != Some(sum));
        let wrong: Vec<_> = wrong
            .map(|((account, start), sum)| {
                let found = last.get(&(account.clone(), *start));
                format!("account-balances: {account} from {start}: {sum} is expected, {found:?} was found")
            })
            .collect();
        verdict.find(wrong);
        Ok(())
    }
}

impl Verdict {
    fn find(&mut self, findings: Vec<String>) {
        let more = findings.len().saturating_sub(SHOWN);
        self.findings.extend(findings.into_iter().take(SHOWN));
        if more > 0 {
            self.findings.push(format!("and {more} more of this kind"));
        }
    }

    /// Every step of each key must be there, once. `exactly`: with its sum; else only the last sum counts.
    fn compare(&mut self, what: &str, expected: &Steps, found: &Steps, exactly: bool) {
        let mut findings = Vec::new();
        let none = Vec::new();
        for (key, expected) in expected {
            let found = found.get(key).unwrap_or(&none);
            self.results += found.len();
            let mut numbers: Vec<i64> = found.iter().map(|(number, _)| *number).collect();
            numbers.sort_unstable();
            let before = numbers.len();
            numbers.dedup();
            let (doubled, lost) = (before - numbers.len(), expected.len().saturating_sub(numbers.len()));
            if doubled > 0 || lost > 0 || numbers.len() > expected.len() {
                findings.push(format!(
                    "{what}: {key}: {} results of {}, {lost} lost, {doubled} doubled",
                    before,
                    expected.len()
                ));
            } else if exactly && found != expected {
                let at = found.iter().zip(expected).find(|(found, expected)| found != expected);
                findings.push(format!("{what}: {key}: (number, sum) found and expected: {at:?}"));
            } else if found.iter().max().map(|(_, sum)| sum) != expected.last().map(|(_, sum)| sum) {
                findings.push(format!("{what}: {key}: the last sum is not {:?}", expected.last()));
            }
        }
        self.find(findings);
    }
}

/// Elasticsearch.
struct Search {
    port: u16,
    authorization: String,
}

impl Search {
    fn new(layout: &Layout) -> Result<Self> {
        let state = State::load(layout)?.context("the data folder has no state")?;
        let credentials = Credentials::load(layout)?;
        let authorization = http::basic(ELASTICSEARCH_USER, &credentials.elasticsearch_password);
        Ok(Self { port: state.ports().elasticsearch(), authorization })
    }

    async fn get(&self, path: &str) -> Result<Value> {
        let answer = http::get(self.port, path, Some(&self.authorization)).await?;
        if answer.status != 200 {
            bail!("Elasticsearch answered {} to {path}: {}", answer.status, answer.body);
        }
        Ok(serde_json::from_str(&answer.body)?)
    }

    /// The documents of each key by number.
    async fn steps<'a>(
        &self,
        topic: &str,
        field: &str,
        number: &str,
        keys: impl Iterator<Item = &'a String>,
    ) -> Result<Steps> {
        self.get(&format!("/millrace-{topic}/_refresh")).await?;
        let mut steps = Steps::new();
        for key in keys {
            // Numbers are compared with those of the topic, so more than fit would be found missing.
            let path = format!(
                "/millrace-{topic}/_search?q={field}:{key}&size={DOCUMENTS}&sort={number}&_source={number},total"
            );
            let answer = self.get(&path).await?;
            let hits =
                answer.pointer("/hits/hits").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            let found =
                hits.iter().map(|hit| (whole(&hit["_source"], number), whole(&hit["_source"], "total")));
            steps.insert(key.clone(), found.collect());
        }
        Ok(steps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(found: &[(i64, i64)], exactly: bool) -> usize {
        let expected = running([2, 3, 5].into_iter().map(|amount| ("k".to_owned(), amount)));
        let mut verdict = Verdict::default();
        verdict.compare("x", &expected, &Steps::from([("k".to_owned(), found.to_vec())]), exactly);
        assert_eq!(verdict.results, found.len());
        verdict.findings.len()
    }

    #[test]
    fn what_is_lost_doubled_or_wrong_is_found() {
        assert_eq!(findings(&[(1, 2), (2, 5), (3, 10)], true), 0);
        assert_eq!(findings(&[(1, 2), (3, 10)], true), 1, "lost");
        assert_eq!(findings(&[(1, 2), (2, 5), (2, 5), (3, 10)], true), 1, "doubled");
        assert_eq!(findings(&[(1, 2), (2, 6), (3, 10)], true), 1, "wrong on the way");
        assert_eq!(findings(&[(1, 2), (2, 6), (3, 10)], false), 0, "another order");
        assert_eq!(findings(&[(1, 2), (2, 5), (3, 11)], false), 1, "wrong at the end");
        assert_eq!(findings(&[], false), 1, "nothing");
        assert_eq!(findings(&[(1, 2), (2, 5), (3, 10), (4, 10)], false), 1, "too much");
    }
}
