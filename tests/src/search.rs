use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use ureq::http;

/// A foreign client of Elasticsearch.
pub struct Search {
    agent: ureq::Agent,
    url: String,
    authorization: String,
    prefix: String,
}

impl Search {
    /// With basic authentication.
    pub fn new(url: &str, username: &str, password: &str, prefix: &str) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(20)))
            .build();
        let authorization = format!("Basic {}", base64(format!("{username}:{password}").as_bytes()));
        Self { agent: config.new_agent(), url: url.to_owned(), authorization, prefix: prefix.to_owned() }
    }

    fn post(&self, path: &str, body: &str) -> Result<Value, String> {
        let request = http::Request::post(format!("{}/{}-{path}", self.url, self.prefix))
            .header("authorization", &self.authorization)
            .header("content-type", "application/json")
            .body(body)
            .map_err(|e| e.to_string())?;
        let mut answer = self.agent.run(request).map_err(|e| e.to_string())?;
        let text = answer.body_mut().read_to_string().map_err(|e| e.to_string())?;
        if !answer.status().is_success() {
            return Err(format!("{}: {text}", answer.status()));
        }
        serde_json::from_str(&text).map_err(|e| e.to_string())
    }

    /// Documents of a result topic whose sensor's name starts so, by document id; up to 10,000.
    ///
    /// # Errors
    /// Elasticsearch is away, refuses, or holds more.
    pub fn by_sensor(&self, topic: &str, sensor: &str) -> Result<BTreeMap<String, Value>, String> {
        self.post(&format!("{topic}/_refresh"), "")?;
        let query =
            json!({"size": 10_000, "track_total_hits": true, "query": {"prefix": {"sensorId": sensor}}});
        let found = self.post(&format!("{topic}/_search"), &query.to_string())?;
        let hits = found["hits"]["hits"].as_array().ok_or("no hits")?;
        if found["hits"]["total"]["value"].as_u64() != Some(hits.len() as u64) {
            return Err(format!(
                "{} documents, of which {} came",
                found["hits"]["total"]["value"],
                hits.len()
            ));
        }
        let id = |hit: &Value| hit["_id"].as_str().unwrap_or_default().to_owned();
        Ok(hits.iter().map(|hit| (id(hit), hit["_source"].clone())).collect())
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let word =
            chunk.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * i)) as usize & 63] as char;
            out.push(if i <= chunk.len() { digit } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn base64_pads() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(super::base64(bytes.as_bytes()), text);
        }
    }
}
