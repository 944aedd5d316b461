//! Checks job parameters against the subset of JSON Schema that job descriptors use: an object whose properties have
//! `type`, `minimum`, `maximum`, `exclusiveMinimum`, `exclusiveMaximum`, `multipleOf`, `enum`, `maxLength`, `items`,
//! `maxItems`. Declarative data only: there is nothing here to evaluate.

use serde_json::{Map, Value};

/// Checks the values that are to change. The error names the parameter, the limit and the value.
///
/// # Errors
/// An unknown parameter, or a value that its schema does not allow.
pub fn check(schema: &Value, params: &Map<String, Value>) -> Result<(), String> {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
        return if params.is_empty() { Ok(()) } else { Err("this job has no parameters".to_owned()) };
    };
    for (name, value) in params {
        let Some(property) = properties.get(name) else {
            let known: Vec<&str> = properties.keys().map(String::as_str).collect();
            return Err(format!("`{name}` is not a parameter of this job: it has {}", known.join(", ")));
        };
        check_value(name, property, value)?;
    }
    Ok(())
}

fn check_value(name: &str, schema: &Value, value: &Value) -> Result<(), String> {
    let shown = || {
        let text = value.to_string();
        if text.chars().count() > 60 {
            format!("{}..", text.chars().take(60).collect::<String>())
        } else {
            text
        }
    };
    let fits = |kind: &str| match kind {
        "integer" => value.as_f64().is_some_and(|v| v.fract() == 0.0),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "null" => value.is_null(),
        _ => false,
    };
    let kinds: Vec<&str> = match schema.get("type") {
        Some(Value::String(kind)) => vec![kind],
        Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if !kinds.is_empty() && !kinds.iter().any(|kind| fits(kind)) {
        return Err(format!("`{name}` must be of type {}, not {}", kinds.join(" or "), shown()));
    }
    if let Some(allowed) = schema.get("enum").and_then(Value::as_array)
        && !allowed.contains(value)
    {
        let list: Vec<String> = allowed.iter().map(Value::to_string).collect();
        return Err(format!("`{name}` must be one of {}, not {}", list.join(", "), shown()));
    }
    if let Some(number) = value.as_f64() {
        let limit = |key: &str| schema.get(key).and_then(Value::as_f64);
        let refused =
            |rule: &str, limit: f64| Err(format!("`{name}` must be {rule} {limit}, not {}", shown()));
        match (limit("minimum"), limit("maximum"), limit("exclusiveMinimum"), limit("exclusiveMaximum")) {
            (Some(min), ..) if number < min => return refused("at least", min),
            (_, Some(max), ..) if number > max => return refused("at most", max),
            (_, _, Some(min), _) if number <= min => return refused("more than", min),
            (.., Some(max)) if number >= max => return refused("less than", max),
            _ => {}
        }
        if let Some(step) = limit("multipleOf").filter(|step| *step > 0.0) {
            let steps = number / step;
            if (steps - steps.round()).abs() > 1e-9 * steps.abs().max(1.0) {
                return refused("a multiple of", step);
            }
        }
    }
    let length = |key: &str| schema.get(key).and_then(Value::as_u64);
    if let (Some(text), Some(max)) = (value.as_str(), length("maxLength"))
        && text.chars().count() as u64 > max
    {
        return Err(format!("`{name}` may have up to {max} characters"));
    }
    if let Some(items) = value.as_array() {
        if length("maxItems").is_some_and(|max| items.len() as u64 > max) {
            return Err(format!("`{name}` has more items than it may have: {}", items.len()));
        }
        if let Some(of) = schema.get("items") {
            for (i, item) in items.iter().enumerate() {
                check_value(&format!("{name}[{i}]"), of, item)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn verdict(params: &Value) -> String {
        let schema = json!({"type": "object", "properties": {
            "window_s": {"type": "integer", "minimum": 1, "maximum": 3600},
            "threshold": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 100},
            "mode": {"type": "string", "enum": ["fast", "exact"]},
            "on": {"type": "boolean"},
            "steps": {"type": "array", "items": {"type": "number", "maximum": 9}, "maxItems": 3},
        }});
        check(&schema, params.as_object().unwrap()).err().unwrap_or_default()
    }

    #[test]
    fn good_values_pass() {
        assert_eq!(verdict(&json!({})), "");
        assert_eq!(
            verdict(
                &json!({"window_s": 60, "threshold": 0.5, "mode": "fast", "on": true, "steps": [1, 2.5]})
            ),
            ""
        );
        assert_eq!(verdict(&json!({"window_s": 60.0})), "");
    }

    #[test]
    fn a_refusal_names_the_parameter_the_limit_and_the_value() {
        for (params, text) in [
            (json!({"window_s": 0}), "`window_s` must be at least 1, not 0"),
            (json!({"window_s": 9999}), "`window_s` must be at most 3600, not 9999"),
            (json!({"window_s": 1.5}), "`window_s` must be of type integer, not 1.5"),
            (json!({"window_s": "60"}), "`window_s` must be of type integer, not \"60\""),
            (json!({"window_s": null}), "`window_s` must be of type integer, not null"),
            (json!({"threshold": 100}), "`threshold` must be less than 100, not 100"),
            (json!({"threshold": 0}), "`threshold` must be more than 0, not 0"),
            (json!({"mode": "slow"}), "`mode` must be one of \"fast\", \"exact\", not \"slow\""),
            (json!({"on": 1}), "`on` must be of type boolean, not 1"),
            (json!({"steps": [1, 10]}), "`steps[1]` must be at most 9, not 10"),
            (json!({"steps": [1, 1, 1, 1]}), "`steps` has more items than it may have: 4"),
        ] {
            assert_eq!(verdict(&params), text);
        }
        let unknown = verdict(&json!({"script": "1"}));
        assert!(unknown.starts_with("`script` is not a parameter of this job: it has "), "{unknown}");
    }
}
