// SPDX-License-Identifier: Apache-2.0

//! The table of fields as JSON Schema (2020-12, as OpenAPI 3.1 uses it).
//!
//! Must not know: routes, how a value is read.

use serde_json::{Map, Value, json};

use crate::fields::{self, Bounds, Field, Neutral, Routes, Rule};
use crate::limits::*;

/// Control characters are those of Unicode's category Cc.
const NO_CONTROLS: &str = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$";
const MOST_CANDIDATES: &str = "At most --max-logprobs, 20 unless set";

/// The object that a set of routes takes.
pub fn object(routes: Routes, required: &[&str]) -> Value {
    let own = fields::all().filter(|field| field.routes.overlaps(routes));
    let properties: Map<_, _> = own
        .map(|field| (field.name.to_owned(), field_schema(field)))
        .collect();
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": true})
}

fn field_schema(field: &Field) -> Value {
    let mut schema = rule(field);
    let words = match &field.rule {
        Rule::Refused(neutral, why) => {
            format!("{} Not served: {why}. {}", field.doc, neutral.describe())
        }
        Rule::NoEffect => format!("{} Accepted, without effect.", field.doc),
        Rule::Text(max, _) | Rule::Id(max, _) => format!("{} At most {max} bytes.", field.doc),
        Rule::Candidates(_) => format!("{} {MOST_CANDIDATES}.", field.doc),
        _ => field.doc.to_owned(),
    };
    schema["description"] = words.into();
    schema
}

/// `null` is the same as leaving a field out.
fn or_null(schema: Value) -> Value {
    json!({"anyOf": [schema, {"type": "null"}]})
}

fn rule(field: &Field) -> Value {
    match &field.rule {
        Rule::Bool(_) => json!({"type": ["boolean", "null"]}),
        Rule::Int(bounds, _) => integer(*bounds),
        Rule::Float(bounds, _) => number(*bounds),
        Rule::Candidates(_) => json!({"type": ["integer", "null"], "minimum": 0}),
        Rule::Text(max, _) => json!({"type": ["string", "null"], "maxLength": max}),
        Rule::Id(max, _) => {
            json!({"type": ["string", "null"], "minLength": 1, "maxLength": max, "pattern": NO_CONTROLS})
        }
        Rule::TextOrList((items, bytes), _) => {
            json!({"anyOf": [text(*bytes), list(*items, text(*bytes)), {"type": "null"}]})
        }
        Rule::TextList((items, bytes), _) => or_null(list(*items, text(*bytes))),
        Rule::Ids(items, _) => or_null(list(*items, token_id())),
        Rule::Json(..) => structure(field.name),
        Rule::NoEffect => json!({}),
        Rule::Refused(neutral, _) => refused(*neutral),
    }
}

fn integer((min, max): (i64, i64)) -> Value {
    json!({"type": ["integer", "null"], "minimum": min, "maximum": max})
}

fn number(bounds: Bounds) -> Value {
    let mut schema = json!({"type": ["number", "null"]});
    let least = if bounds.open {
        "exclusiveMinimum"
    } else {
        "minimum"
    };
    schema[least] = bounds.min.into();
    schema["maximum"] = bounds.max.into();
    schema
}

fn text(bytes: usize) -> Value {
    json!({"type": "string", "minLength": 1, "maxLength": bytes})
}

fn list(most: usize, items: Value) -> Value {
    json!({"type": "array", "maxItems": most, "items": items})
}

fn token_id() -> Value {
    json!({"type": "integer", "minimum": 0, "maximum": MAX_TOKEN_ID})
}

fn refused(neutral: Neutral) -> Value {
    match neutral {
        Neutral::Null => json!({"type": "null"}),
        Neutral::Literals(texts) => {
            let values = texts
                .iter()
                .filter_map(|text| serde_json::from_str::<Value>(text).ok());
            let mut values: Vec<_> = values.chain([Value::Null]).collect();
            // 1 and 1.0 are one value.
            values.dedup_by(|a, b| a.as_f64().is_some() && a.as_f64() == b.as_f64());
            json!({"enum": values})
        }
        Neutral::TypeText => or_null(
            json!({"type": "object", "properties": {"type": {"const": "text"}}, "required": ["type"]}),
        ),
    }
}

/// Fields with a reader of their own.
fn structure(name: &str) -> Value {
    let ids = |least: usize| json!({"type": "array", "minItems": least, "items": token_id()});
    let object = json!({"type": ["object", "null"]});
    match name {
        "messages" => {
            json!({"type": "array", "minItems": 1, "maxItems": MAX_MESSAGES, "items": {"$ref": "#/components/schemas/Message"}})
        }
        "prompt" => {
            let many = |items: Value| json!({"type": "array", "minItems": 1, "maxItems": MAX_PROMPTS, "items": items});
            json!({"anyOf": [{"type": "string"}, ids(1), many(json!({"type": "string"})), many(ids(1))]})
        }
        "token_ids" => ids(1),
        "sampling_params" => or_null(json!({"$ref": "#/components/schemas/SamplingParams"})),
        "logit_bias" => or_null(json!({
            "type": "object",
            "maxProperties": MAX_LOGIT_BIAS,
            "propertyNames": {"pattern": "^[0-9]+$"},
            "additionalProperties": {"type": "number"},
        })),
        "repetition_detection" => {
            let size =
                json!({"type": ["integer", "null"], "minimum": 0, "maximum": MAX_PATTERN_SIZE});
            or_null(json!({
                "type": "object",
                "properties": {"max_pattern_size": size, "min_pattern_size": size, "min_count": size},
            }))
        }
        "stream_options" => or_null(json!({
            "type": "object",
            "properties": {
                "include_usage": {"type": ["boolean", "null"]},
                "continuous_usage_stats": {"type": ["boolean", "null"]},
            },
        })),
        "documents" => or_null(list(MAX_DOCUMENTS, json!({"type": "object"}))),
        _ => object,
    }
}

/// One message of a conversation.
pub fn message() -> Value {
    let part = json!({"anyOf": [
        {"type": "string"},
        {"type": "object", "properties": {"type": {"enum": ["text", "input_text", "output_text", "refusal"]}}, "required": ["type"]},
    ]});
    let text = json!({"type": ["string", "null"]});
    json!({
        "type": "object",
        "properties": {
            "role": {"enum": ["system", "developer", "user", "assistant", "tool"]},
            "content": {"anyOf": [{"type": "string"}, {"type": "array", "items": part}, {"type": "null"}]},
            "name": text,
            "tool_call_id": text,
            "tool_calls": {"type": ["array", "null"], "items": {"type": "object"}},
            "reasoning": text,
            "reasoning_content": text,
        },
        "required": ["role"],
        "additionalProperties": true,
    })
}

/// The limits of a field in words, for pages.
pub fn accepts(field: &Field) -> String {
    let texts = |(items, bytes): &(usize, usize)| format!("at most {items} texts of {bytes} bytes");
    match &field.rule {
        Rule::Bool(_) => "true or false".to_owned(),
        Rule::Int((min, max), _) => format!("a whole number from {min} to {max}"),
        Rule::Float(bounds, _) => bounds.describe(),
        Rule::Candidates(_) => {
            format!("a whole number from 0; {}", MOST_CANDIDATES.to_lowercase())
        }
        Rule::Text(max, _) => format!("text of at most {max} bytes"),
        Rule::Id(max, _) => format!("text of 1 to {max} bytes without control characters"),
        Rule::TextOrList(max, _) => format!("a text, or {}", texts(max)),
        Rule::TextList(max, _) => texts(max),
        Rule::Ids(most, _) => format!("at most {most} token ids"),
        Rule::Json(what, _) => (*what).to_owned(),
        Rule::NoEffect => "anything; without effect".to_owned(),
        Rule::Refused(Neutral::Null, why) => format!("not served: {why}"),
        Rule::Refused(Neutral::Literals(values), why) => {
            format!("{} only; not served: {why}", values.join(" or "))
        }
        Rule::Refused(Neutral::TypeText, why) => {
            format!("{{\"type\": \"text\"}} only; not served: {why}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_routes_schema_has_its_rows_and_no_others() {
        let chat = object(Routes::CHAT, &["messages"]);
        let completions = object(Routes::COMPLETIONS, &["prompt"]);
        assert!(
            chat["properties"]["messages"].is_object() && chat["properties"]["prompt"].is_null()
        );
        assert_eq!(chat["properties"]["logprobs"]["type"][0], "boolean");
        assert_eq!(completions["properties"]["logprobs"]["type"][0], "integer");
        assert_eq!(chat["properties"]["temperature"]["maximum"], 2.0);
        assert_eq!(chat["properties"]["n"]["maximum"], MAX_N);
    }

    #[test]
    fn every_row_says_what_it_is_for() {
        for field in fields::all() {
            assert!(field.doc.ends_with('.'), "{}", field.name);
            assert!(!accepts(field).is_empty());
        }
    }
}
