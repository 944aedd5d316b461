//! Which input a parameter has, by its JSON Schema, and how JSON is shown and read there. Pure.

use serde_json::Value;

/// The input of a parameter.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// One of these.
    Choice(Vec<String>),
    /// Yes or no.
    Check,
    /// A number, perhaps a whole one.
    Number {
        /// Without fractions.
        whole: bool,
    },
    /// Names with commas between them.
    List,
    /// An object, as JSON; empty is `null`.
    Json,
    /// Text.
    Text,
}

impl Kind {
    /// By the schema of the parameter.
    pub fn of(property: &Value) -> Self {
        if let Some(options) = property.get("enum").and_then(Value::as_array) {
            let text = |option: &Value| option.as_str().map_or_else(|| option.to_string(), str::to_owned);
            return Self::Choice(options.iter().map(text).collect());
        }
        let is = |kind: &str| match property.get("type") {
            Some(Value::String(only)) => only == kind,
            Some(Value::Array(kinds)) => kinds.iter().any(|one| one == kind),
            _ => false,
        };
        match () {
            () if is("boolean") => Self::Check,
            () if is("integer") => Self::Number { whole: true },
            () if is("number") => Self::Number { whole: false },
            () if is("array") => Self::List,
            () if is("object") => Self::Json,
            () => Self::Text,
        }
    }
}

/// JSON over several lines; nothing for `null`.
pub fn json(value: &Value) -> String {
    if value.is_null() { String::new() } else { format!("{value:#}") }
}

/// What somebody typed, who means an object or nothing.
///
/// # Errors
/// It is neither; says where.
pub fn typed_json(text: &str) -> Result<Value, String> {
    if text.trim().is_empty() {
        return Ok(Value::Null);
    }
    match serde_json::from_str(text) {
        Ok(value @ (Value::Object(_) | Value::Null)) => Ok(value),
        Ok(_) => Err("This is not an object: it begins with { and ends with }.".to_owned()),
        Err(error) => Err(format!("This is not JSON: {error}.")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_schema_says_which_input_it_is() {
        for (property, kind) in [
            (json!({"type": "string", "enum": ["a", "b"]}), Kind::Choice(vec!["a".into(), "b".into()])),
            (json!({"type": "boolean"}), Kind::Check),
            (json!({"type": "integer"}), Kind::Number { whole: true }),
            (json!({"type": "number"}), Kind::Number { whole: false }),
            (json!({"type": "array"}), Kind::List),
            (json!({"type": ["object", "null"]}), Kind::Json),
            (json!({"type": "string"}), Kind::Text),
            (json!({}), Kind::Text),
        ] {
            assert_eq!(Kind::of(&property), kind, "{property}");
        }
    }

    #[test]
    fn objects_are_read_as_they_are_shown_and_nothing_else_is() {
        let pattern = json!({"pattern": [{"stage": "a"}], "within": 1});
        assert_eq!(typed_json(&json(&pattern)), Ok(pattern));
        assert_eq!(
            (json(&Value::Null), typed_json(" \n"), typed_json("null")),
            (String::new(), Ok(Value::Null), Ok(Value::Null))
        );
        assert!(typed_json("[1]").unwrap_err().contains("not an object"));
        assert!(typed_json("{\"a\":\n}").unwrap_err().contains("line 2"));
    }
}
