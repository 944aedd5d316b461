//! Queries of the result indices. Filters are terms and ranges of declared fields; what a client sends is only ever a
//! value in them.

use std::time::Duration;

use anyhow::Context;
use elasticsearch::auth::Credentials;
use elasticsearch::cluster::ClusterHealthParts;
use elasticsearch::http::Url;
use elasticsearch::http::transport::{SingleNodeConnectionPool, TransportBuilder};
use elasticsearch::{CountParts, Elasticsearch, SearchParts};
use millrace_service::ElasticsearchArgs;
use millrace_service::clock::now_ms;
use millrace_wire::api::ResultsPage;
use millrace_wire::topic;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Mutex;

use crate::clock::locked;
use crate::problem::Refusal;

const TIMEOUT: Duration = Duration::from_secs(3);
const LARGEST_PAGE: u32 = 200;
const PAGE: u32 = 20;

/// What to look for.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// Not before, epoch ms.
    pub from: Option<i64>,
    /// Before, epoch ms.
    pub to: Option<i64>,
    /// Of this sensor.
    pub key: Option<String>,
    /// Documents on a page.
    pub size: Option<u32>,
    /// `next` of the page before.
    pub after: Option<String>,
}

/// Elasticsearch.
pub struct Search {
    client: Elasticsearch,
    args: ElasticsearchArgs,
    health: Mutex<Health>,
}

/// Whether it answers, and since when.
#[derive(Debug, Clone)]
pub struct Health {
    /// `None` before the first answer or failure.
    pub ok: Option<bool>,
    /// What it said last.
    pub detail: String,
    /// Since when, epoch ms.
    pub since_ms: i64,
}

impl Search {
    /// # Errors
    /// The address can't be read.
    pub fn new(args: &ElasticsearchArgs) -> anyhow::Result<Self> {
        let url = Url::parse(&args.url).context("ELASTICSEARCH_URL can't be read")?;
        let mut builder =
            TransportBuilder::new(SingleNodeConnectionPool::new(url)).timeout(TIMEOUT).disable_proxy();
        if !args.username.is_empty() {
            builder = builder.auth(Credentials::Basic(args.username.clone(), args.password.clone()));
        }
        let client = Elasticsearch::new(builder.build().context("the Elasticsearch client can't be made")?);
        let health = Health { ok: None, detail: "not asked yet".to_owned(), since_ms: now_ms() };
        Ok(Self { client, args: args.clone(), health: Mutex::new(health) })
    }

    /// How it was at the last ping.
    pub fn health(&self) -> Health {
        locked(&self.health).clone()
    }

    /// Asks whether it is there.
    pub async fn ping(&self) {
        let answer =
            self.client.cluster().health(ClusterHealthParts::None).request_timeout(TIMEOUT).send().await;
        let (ok, detail) = match answer {
            Ok(response) if response.status_code().as_u16() == 401 => (
                false,
                "it refuses the user: check ELASTICSEARCH_USERNAME and ELASTICSEARCH_PASSWORD".to_owned(),
            ),
            Ok(response) if response.status_code().is_server_error() => {
                (false, format!("it answers with status {}", response.status_code().as_u16()))
            }
            Ok(_) => (true, "it answers".to_owned()),
            Err(error) => (false, describe(&error)),
        };
        let mut health = locked(&self.health);
        if health.ok != Some(ok) {
            health.since_ms = now_ms();
            health.ok = Some(ok);
            if ok {
                tracing::info!("Elasticsearch answers");
            } else {
                tracing::warn!(detail, "Elasticsearch is away");
            }
        }
        health.detail = detail;
    }

    /// A page of a result topic's documents, newest first.
    ///
    /// # Errors
    /// The topic is none, the filter can't be read, or Elasticsearch does not answer.
    pub async fn page(&self, topic: &str, filter: &Filter) -> Result<ResultsPage, Refusal> {
        let known = topic::results();
        if !known.iter().any(|t| t == topic) {
            return Err(Refusal::not_found(format!("There are results of {}.", known.join(", "))));
        }
        let (body, size) = query(topic, filter)?;
        let index = self.args.index(topic);
        let away = |detail: String| {
            Refusal::away(
                "elasticsearch-away",
                "Elasticsearch does not answer",
                format!(
                    "{detail}. Past results can't be searched now; live data go on, and documents wait in Kafka."
                ),
            )
        };
        let response = self
            .client
            .search(SearchParts::Index(&[&index]))
            .ignore_unavailable(true)
            .allow_no_indices(true)
            .request_timeout(TIMEOUT)
            .body(body)
            .send()
            .await
            .map_err(|error| away(describe(&error)))?;
        let status = response.status_code();
        let answer: Value = response.json().await.map_err(|error| away(describe(&error)))?;
        if !status.is_success() {
            tracing::warn!(%status, %answer, "a search failed");
            return Err(away(format!("It answered with status {}", status.as_u16())));
        }
        Ok(page(&answer, size))
    }
}

impl Search {
    /// Documents of all result topics; `None`: Elasticsearch does not answer.
    pub async fn count(&self) -> Option<u64> {
        let indices: Vec<String> = topic::results().iter().map(|topic| self.args.index(topic)).collect();
        let indices: Vec<&str> = indices.iter().map(String::as_str).collect();
        let response = self
            .client
            .count(CountParts::Index(&indices))
            .ignore_unavailable(true)
            .allow_no_indices(true)
            .request_timeout(TIMEOUT)
            .send()
            .await;
        let answer: Value = response.ok()?.error_for_status_code().ok()?.json().await.ok()?;
        answer.get("count")?.as_u64()
    }
}

fn describe(error: &elasticsearch::Error) -> String {
    if error.is_timeout() { "no answer within 3 s".to_owned() } else { "it can't be reached".to_owned() }
}

fn query(topic: &str, filter: &Filter) -> Result<(Value, u32), Refusal> {
    let size = filter.size.unwrap_or(PAGE);
    if !(1..=LARGEST_PAGE).contains(&size) {
        return Err(Refusal::invalid(format!("`size` must be 1 to {LARGEST_PAGE}, not {size}.")));
    }
    let time = topic::time_field(topic);
    let mut filters = Vec::new();
    if filter.from.is_some() || filter.to.is_some() {
        let mut range = serde_json::Map::new();
        range.extend(filter.from.map(|from| ("gte".to_owned(), json!(from))));
        range.extend(filter.to.map(|to| ("lt".to_owned(), json!(to))));
        filters.push(json!({"range": {time: range}}));
    }
    if let Some(key) = &filter.key {
        if key.len() > 256 {
            return Err(Refusal::invalid("`key` may have up to 256 bytes."));
        }
        let field = topic::key_field(topic);
        filters.push(json!({"term": {field: {"value": key}}}));
    }
    let by = |field: &str, order: &str| json!({field: {"order": order, "unmapped_type": "long"}});
    let mut body = json!({
        "size": size,
        "track_total_hits": true,
        "query": {"bool": {"filter": filters}},
        // The place in Kafka makes the order total.
        "sort": [by(time, "desc"), by("kafka.partition", "asc"), by("kafka.offset", "desc")],
    });
    if let (Some(after), Some(body)) = (&filter.after, body.as_object_mut()) {
        let place: Option<Vec<i64>> = after.split('.').map(|part| part.parse().ok()).collect();
        let Some(place) = place.filter(|p| p.len() == 3) else {
            return Err(Refusal::invalid("`after` must be the `next` of the page before."));
        };
        body.insert("search_after".to_owned(), json!(place));
    }
    Ok((body, size))
}

fn page(answer: &Value, size: u32) -> ResultsPage {
    let hits = answer.pointer("/hits/hits").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let total = answer.pointer("/hits/total/value").and_then(Value::as_u64).unwrap_or(0);
    let next = hits.last().filter(|_| hits.len() as u64 >= u64::from(size)).and_then(|hit| {
        let place: Option<Vec<String>> =
            hit.get("sort")?.as_array()?.iter().map(|v| v.as_i64().map(|v| v.to_string())).collect();
        place.map(|place| place.join("."))
    });
    ResultsPage { total, items: hits.iter().filter_map(|hit| hit.get("_source").cloned()).collect(), next }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_becomes_terms_and_ranges_and_nothing_else() {
        let key = Some("x\"}},{\"script\":{\"source\":\"1".to_owned());
        let after = Some("1717200000000.3.120".to_owned());
        let filter = Filter { from: Some(1), to: Some(2), key: key.clone(), size: Some(5), after };
        let (body, size) = query(topic::SENSOR_AVERAGES, &filter).unwrap();
        assert_eq!(size, 5);
        assert_eq!(body["query"]["bool"]["filter"][0], json!({"range": {"window_end": {"gte": 1, "lt": 2}}}));
        assert_eq!(body["query"]["bool"]["filter"][1], json!({"term": {"sensorId": {"value": key}}}));
        assert_eq!(body["search_after"], json!([1_717_200_000_000_i64, 3, 120]));
        assert!(body["sort"][0].get("window_end").is_some());
        let (body, _) = query(topic::SENSOR_ALERTS_HIGH, &Filter::default()).unwrap();
        assert!(body["sort"][0].get("timestamp").is_some() && body.get("search_after").is_none());
    }

    #[test]
    fn limits_hold() {
        for filter in [
            Filter { size: Some(0), ..Filter::default() },
            Filter { size: Some(201), ..Filter::default() },
            Filter { after: Some("1.2".into()), ..Filter::default() },
            Filter { after: Some("a.b.c".into()), ..Filter::default() },
            Filter { key: Some("k".repeat(257)), ..Filter::default() },
        ] {
            assert!(query(topic::SENSOR_AVERAGES, &filter).is_err(), "{filter:?}");
        }
    }

    #[test]
    fn a_full_page_has_a_next() {
        let hit = json!({"_source": {"a": 1}, "sort": [5, 0, 9]});
        let answer = json!({"hits": {"total": {"value": 7}, "hits": [hit, hit]}});
        assert_eq!(page(&answer, 2).next.as_deref(), Some("5.0.9"));
        assert_eq!((page(&answer, 3).next, page(&answer, 3).total), (None, 7));
        let missing = json!({"hits": {"total": {"value": 0}, "hits": []}});
        assert_eq!(page(&missing, 20), ResultsPage { total: 0, items: vec![], next: None });
    }
}
