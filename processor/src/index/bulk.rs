use std::time::Duration;

use anyhow::{Context, bail};
use elasticsearch::auth::Credentials;
use elasticsearch::http::transport::{SingleNodeConnectionPool, TransportBuilder};
use elasticsearch::indices::IndicesPutIndexTemplateParts;
use elasticsearch::{BulkOperation, BulkOperations, BulkParts, Elasticsearch};
use millrace_service::ElasticsearchArgs;
use serde::Deserialize;

use super::document::Document;
use super::template::templates;

/// How long Elasticsearch may take to answer.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Elasticsearch, as the indexer uses it.
pub struct Bulk {
    client: Elasticsearch,
    args: ElasticsearchArgs,
    templates_there: bool,
}

/// What Elasticsearch said to each document of a bulk request, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Stored.
    Stored,
    /// Busy: send it again.
    Again(String),
    /// Never: its mapping does not allow it.
    Rejected(String),
}

#[derive(Deserialize)]
struct Answer {
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    index: ItemResult,
}

#[derive(Deserialize)]
struct ItemResult {
    status: u16,
    error: Option<ItemError>,
}

#[derive(Deserialize)]
struct ItemError {
    #[serde(default)]
    r#type: String,
    #[serde(default)]
    reason: String,
}

impl ItemResult {
    fn verdict(self) -> Verdict {
        let text = self.error.map(|e| format!("{}: {}", e.r#type, e.reason)).unwrap_or_default();
        match self.status {
            200..300 => Verdict::Stored,
            429 | 500.. => Verdict::Again(text),
            status => Verdict::Rejected(format!("Elasticsearch answered {status}: {text}")),
        }
    }
}

impl Bulk {
    /// # Errors
    /// The address is no URL.
    pub fn new(args: &ElasticsearchArgs) -> anyhow::Result<Self> {
        let url = args.url.parse().with_context(|| format!("ELASTICSEARCH_URL {:?} is no URL", args.url))?;
        let mut transport = TransportBuilder::new(SingleNodeConnectionPool::new(url)).timeout(TIMEOUT);
        if !args.username.is_empty() {
            transport = transport.auth(Credentials::Basic(args.username.clone(), args.password.clone()));
        }
        let client = Elasticsearch::new(transport.build()?);
        Ok(Self { client, args: args.clone(), templates_there: false })
    }

    /// Sends documents. Puts the index templates first, when that has not been done since the last failure.
    ///
    /// # Errors
    /// Elasticsearch does not answer or refuses the whole request: nothing is known of the documents.
    pub async fn send(&mut self, documents: &[Document]) -> anyhow::Result<Vec<Verdict>> {
        if !std::mem::take(&mut self.templates_there) {
            for (name, body) in templates(&self.args) {
                let parts = IndicesPutIndexTemplateParts::Name(&name);
                let put = self.client.indices().put_index_template(parts).body(body).send().await?;
                if !put.status_code().is_success() {
                    bail!(
                        "the index template {name} was refused: {} {}",
                        put.status_code(),
                        put.text().await?
                    );
                }
            }
        }
        let mut operations = BulkOperations::new();
        for document in documents {
            operations
                .push(BulkOperation::index(&document.source).index(&document.index).id(&document.id))?;
        }
        let answer = self.client.bulk(BulkParts::None).body(vec![operations]).send().await?;
        if !answer.status_code().is_success() {
            bail!("the bulk request was refused: {} {}", answer.status_code(), answer.text().await?);
        }
        let answer: Answer = answer.json().await.context("the answer to a bulk request can't be read")?;
        if answer.items.len() != documents.len() {
            bail!("{} documents were sent, {} answered", documents.len(), answer.items.len());
        }
        self.templates_there = true;
        Ok(answer.items.into_iter().map(|item| item.index.verdict()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_has_its_verdict() {
        let text = r#"{"took":1,"errors":true,"items":[
            {"index":{"_index":"i","_id":"a","status":201,"result":"created"}},
            {"index":{"_id":"b","status":429,"error":{"type":"es_rejected_execution_exception","reason":"full"}}},
            {"index":{"_id":"c","status":400,"error":{"type":"document_parsing_exception","reason":"no date"}}}]}"#;
        let answer: Answer = serde_json::from_str(text).unwrap();
        let verdicts: Vec<_> = answer.items.into_iter().map(|item| item.index.verdict()).collect();
        assert_eq!(
            verdicts,
            [
                Verdict::Stored,
                Verdict::Again("es_rejected_execution_exception: full".into()),
                Verdict::Rejected("Elasticsearch answered 400: document_parsing_exception: no date".into()),
            ]
        );
    }
}
