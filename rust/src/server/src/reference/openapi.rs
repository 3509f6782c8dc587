// SPDX-License-Identifier: Apache-2.0

//! The interface as OpenAPI 3.1.

use serde_json::{Map, Value, json};
use vllm_openai::fields::Routes;
use vllm_openai::schema;

use crate::table::{Access, Action, Gives, ROUTES, Route, Takes};

/// The whole document.
pub fn openapi() -> Value {
    let mut paths = Map::new();
    for route in ROUTES {
        let path = paths
            .entry(route.path)
            .or_insert_with(|| Value::Object(Map::new()));
        path[route.method.to_lowercase()] = operation(route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "vLLM",
            "description": "OpenAI-compatible inference. Fields that no schema names are ignored, or refused with --strict-fields; null is the same as leaving a field out.",
            "version": env!("CARGO_PKG_VERSION"),
        },
        "paths": paths,
        "components": {
            "schemas": schemas(),
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    })
}

fn operation(route: &Route) -> Value {
    let mut operation = json!({
        "operationId": operation_id(route),
        "summary": summary(route),
        "responses": responses(route),
    });
    if route.access != Access::Open {
        // An empty requirement: without keys, everybody may call it.
        operation["security"] = json!([{"key": []}, {}]);
    }
    let parameters = parameters(route);
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    if let Takes::Body(name) = route.takes {
        let schema = json!({"$ref": format!("#/components/schemas/{name}")});
        operation["requestBody"] =
            json!({"required": true, "content": {"application/json": {"schema": schema}}});
    }
    operation
}

fn operation_id(route: &Route) -> String {
    let words = route
        .path
        .split(['/', '{', '}'])
        .filter(|word| !word.is_empty());
    let mut id = route.method.to_lowercase();
    for word in words {
        id.push('_');
        id.push_str(&word.replace('.', "_"));
    }
    id
}

fn summary(route: &Route) -> String {
    match &route.action {
        Action::Serve(_) if route.access == Access::Dev => {
            format!("{} Only with VLLM_SERVER_DEV_MODE=1.", route.doc)
        }
        Action::Serve(_) => route.doc.to_owned(),
        Action::Unserved(why) => format!("{} {why}.", route.doc),
    }
}

fn parameters(route: &Route) -> Vec<Value> {
    let id = route.path.ends_with("{id}").then(|| {
        json!({"name": "id", "in": "path", "required": true, "schema": {"type": "string", "minLength": 1}})
    });
    let names = match route.takes {
        Takes::Query(names) => names,
        _ => &[],
    };
    let query = names
        .iter()
        .map(|name| json!({"name": name, "in": "query", "schema": {"type": "string"}}));
    id.into_iter().chain(query).collect()
}

fn responses(route: &Route) -> Value {
    let error = |words: &str| json!({"description": words, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}});
    if let Action::Unserved(_) = route.action {
        return json!({"401": error("The key is missing or wrong."), "501": error("Known, not served.")});
    }
    let object = json!({"schema": {"type": ["object", "array"]}});
    let content = match route.gives {
        Gives::Nothing => json!({}),
        Gives::Json => json!({"application/json": object}),
        Gives::JsonOrEvents => {
            json!({"application/json": object, "text/event-stream": {"schema": {"type": "string"}}})
        }
        Gives::Text(kind) => {
            let mut content = Map::new();
            content.insert(kind.to_owned(), json!({"schema": {"type": "string"}}));
            content.into()
        }
    };
    let mut ok = json!({"description": "Done."});
    if route.gives != Gives::Nothing {
        ok["content"] = content;
    }
    json!({"200": ok, "4XX": error("The request cannot be served as it is."), "5XX": error("The server cannot serve it.")})
}

fn schemas() -> Value {
    let tokens = json!({"type": "array", "items": {"type": "integer", "minimum": 0}});
    let text = json!({"type": ["string", "null"]});
    let flag = json!({"type": ["boolean", "null"]});
    json!({
        "ChatRequest": schema::object(Routes::CHAT, &["messages"]),
        "CompletionRequest": schema::object(Routes::COMPLETIONS, &["prompt"]),
        "GenerateRequest": schema::object(Routes::GENERATE, &["token_ids"]),
        "SamplingParams": schema::object(Routes::SAMPLING, &[]),
        "Message": schema::message(),
        "TokenizeRequest": {
            "anyOf": [
                {
                    "type": "object",
                    "properties": {"prompt": {"type": "string"}, "model": text, "add_special_tokens": flag, "return_token_strs": flag},
                    "required": ["prompt"],
                },
                {"$ref": "#/components/schemas/ChatRequest"},
            ],
        },
        "DetokenizeRequest": {
            "type": "object",
            "properties": {"tokens": tokens, "model": text},
            "required": ["tokens"],
        },
        "RpcRequest": {
            "type": "object",
            "properties": {
                "method": {"type": "string", "minLength": 1},
                "args": {"type": ["array", "null"]},
                "kwargs": {"type": ["object", "null"]},
                "timeout": {"type": ["number", "null"]},
            },
            "required": ["method"],
            "additionalProperties": false,
        },
        "Error": {
            "type": "object",
            "properties": {"error": {
                "type": "object",
                "properties": {"message": {"type": "string"}, "type": {"type": "string"}, "param": text, "code": text},
                "required": ["message", "type", "param", "code"],
            }},
            "required": ["error"],
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_there_and_every_reference_leads_somewhere() {
        let document = openapi();
        for route in ROUTES {
            let operation = &document["paths"][route.path][route.method.to_lowercase()];
            assert!(
                operation["responses"].is_object(),
                "{} {}",
                route.method,
                route.path
            );
        }
        let text = document.to_string();
        for reference in text.split("\"#/components/schemas/").skip(1) {
            let name = reference.split('"').next().unwrap_or_default();
            assert!(
                document["components"]["schemas"][name].is_object(),
                "{name}"
            );
        }
    }
}
