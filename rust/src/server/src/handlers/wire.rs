// SPDX-License-Identifier: Apache-2.0

//! Values of utility calls: JSON of a request to the wire's form, and back.

use rmpv::Value;
use serde_json::Value as Json;
use vllm_openai::{ApiError, body};

/// A call on every worker.
#[derive(Debug)]
pub struct Rpc {
    /// Its name.
    pub method: String,
    /// Seconds.
    pub timeout: Option<f64>,
    /// By position.
    pub args: Value,
    /// By name.
    pub kwargs: Value,
}

impl Rpc {
    /// Reads and checks a body.
    pub fn from_json(text: &[u8]) -> Result<Self, ApiError> {
        let mut rpc = Self {
            method: String::new(),
            timeout: None,
            args: Value::Array(Vec::new()),
            kwargs: Value::Map(Vec::new()),
        };
        for (name, raw) in body::members(text)? {
            let value: Json = serde_json::from_str(raw.get()).map_err(|_| wrong(&name))?;
            rpc.take(&name, value)?;
        }
        if rpc.method.is_empty() {
            return Err(ApiError::field(
                "method",
                "`method` is missing: send its name.",
            ));
        }
        Ok(rpc)
    }

    fn take(&mut self, name: &str, value: Json) -> Result<(), ApiError> {
        match (name, value) {
            (_, Json::Null) => {}
            ("method", Json::String(text)) => self.method = text,
            ("timeout", Json::Number(seconds)) => self.timeout = seconds.as_f64(),
            ("args", list @ Json::Array(_)) => self.args = from_json(list),
            ("kwargs", map @ Json::Object(_)) => self.kwargs = from_json(map),
            _ => return Err(wrong(name)),
        }
        Ok(())
    }
}

fn wrong(name: &str) -> ApiError {
    let name = vllm_openai::error::shorten(name);
    ApiError::field(
        &name,
        format!(
            "`{name}`: a call has `method` (text), `args` (list), `kwargs` (object) and `timeout` (seconds)."
        ),
    )
}

fn from_json(value: Json) -> Value {
    match value {
        Json::Null => Value::Nil,
        Json::Bool(value) => value.into(),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(value), _) => value.into(),
            (None, Some(value)) => value.into(),
            (None, None) => number.as_f64().unwrap_or(f64::NAN).into(),
        },
        Json::String(text) => text.into(),
        Json::Array(items) => Value::Array(items.into_iter().map(from_json).collect()),
        Json::Object(items) => {
            let pair = |(name, value): (String, Json)| (name.into(), from_json(value));
            Value::Map(items.into_iter().map(pair).collect())
        }
    }
}

/// What has no form in JSON shows as `null`, a key that is no text as what it prints.
pub fn to_json(value: &Value) -> Json {
    match value {
        Value::Nil | Value::Binary(_) | Value::Ext(..) => Json::Null,
        Value::Boolean(value) => (*value).into(),
        Value::Integer(number) => match (number.as_i64(), number.as_u64()) {
            (Some(value), _) => value.into(),
            (None, value) => value.into(),
        },
        Value::F32(value) => f64::from(*value).into(),
        Value::F64(value) => (*value).into(),
        Value::String(text) => text.as_str().into(),
        Value::Array(items) => items.iter().map(to_json).collect(),
        Value::Map(pairs) => {
            let name = |key: &Value| key.as_str().map_or_else(|| key.to_string(), str::to_owned);
            let pair = |(key, value): &(Value, Value)| (name(key), to_json(value));
            Json::Object(pairs.iter().map(pair).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_go_to_the_wire_and_back() {
        let json = serde_json::json!({"a": [1, -2, 1.5, null, true, "x"], "b": {}});
        assert_eq!(to_json(&from_json(json.clone())), json);
    }

    #[test]
    fn a_call_needs_a_name_and_nothing_unknown() {
        let rpc = Rpc::from_json(br#"{"method": "m", "args": [1], "timeout": 2}"#).expect("valid");
        assert_eq!((rpc.method.as_str(), rpc.timeout), ("m", Some(2.0)));
        for body in [
            "{}",
            r#"{"method": 5}"#,
            r#"{"method": "m", "args": {}}"#,
            r#"{"method": "m", "x": 1}"#,
        ] {
            assert_eq!(
                Rpc::from_json(body.as_bytes()).map_err(|e| e.status).err(),
                Some(400),
                "{body}"
            );
        }
    }
}
