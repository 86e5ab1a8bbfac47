//! JSON that keeps its order: what the daemon wrote is shown in the daemon's order, as Docker's client does.

use std::fmt::{self, Write as _};

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Number;

/// A JSON document whose objects keep the order of their members.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    Number(Number),
    String(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    /// Indented by four spaces, beginning at `depth` levels.
    pub fn pretty(&self, depth: usize) -> String {
        let mut text = String::new();
        write_pretty(self, depth, &mut text);
        text
    }
}

fn write_pretty(json: &Json, depth: usize, text: &mut String) {
    let line = |text: &mut String, depth: usize| {
        let _ = write!(text, "\n{:1$}", "", depth * 4);
    };
    match json {
        Json::Array(items) if !items.is_empty() => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                text.push_str(if index > 0 { "," } else { "" });
                line(text, depth + 1);
                write_pretty(item, depth + 1, text);
            }
            line(text, depth);
            text.push(']');
        }
        Json::Object(members) if !members.is_empty() => {
            text.push('{');
            for (index, (name, value)) in members.iter().enumerate() {
                text.push_str(if index > 0 { "," } else { "" });
                line(text, depth + 1);
                let _ = write!(text, "{}: ", string(name));
                write_pretty(value, depth + 1, text);
            }
            line(text, depth);
            text.push('}');
        }
        Json::Array(_) => text.push_str("[]"),
        Json::Object(_) => text.push_str("{}"),
        Json::Null => text.push_str("null"),
        Json::Bool(on) => text.push_str(if *on { "true" } else { "false" }),
        Json::Number(number) => text.push_str(&number.to_string()),
        Json::String(value) => text.push_str(&string(value)),
    }
}

/// A JSON string literal.
pub(crate) fn string(text: &str) -> String {
    serde_json::to_string(text).expect("a string always serialises")
}

/// Go's encoder writes these signs as escapes unless told otherwise.
pub(crate) fn escape_html(json: &str) -> String {
    json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(Number::from_f64(value).map_or(Json::Null, Json::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Json, E> {
        Ok(Json::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut all = Vec::new();
        while let Some(item) = items.next_element()? {
            all.push(item);
        }
        Ok(Json::Array(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Json, A::Error> {
        let mut all = Vec::new();
        while let Some(member) = members.next_entry()? {
            all.push(member);
        }
        Ok(Json::Object(all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_indentation() {
        let json: Json = serde_json::from_str(r#"{"z":1,"a":[true,null],"e":{},"s":"<\"x\">","n":[]}"#).expect("valid");
        let expect = "{\n    \"z\": 1,\n    \"a\": [\n        true,\n        null\n    ],\n    \"e\": {},\n    \"s\": \"<\\\"x\\\">\",\n    \"n\": []\n}";
        assert_eq!(json.pretty(0), expect);
    }
}
