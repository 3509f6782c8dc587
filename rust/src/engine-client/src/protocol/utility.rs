// SPDX-License-Identifier: Apache-2.0

//! Remote procedure calls on an engine.

use rmpv::Value;

use super::error::DecodeError;
use super::read::Reader;
use super::write::Writer;

type Result<T> = std::result::Result<T, DecodeError>;

/// A call: method by name, positional arguments.
#[derive(Debug, Clone, PartialEq)]
pub struct UtilityRequest {
    /// Index of the frontend among the engine's frontends.
    pub client_index: u32,
    /// Chosen by the caller; the reply carries it. Any 64 bits.
    pub call_id: i128,
    /// Method of the engine.
    pub method: String,
    /// Positional arguments.
    pub args: Vec<Value>,
}

/// A reply.
#[derive(Debug, Clone, PartialEq)]
pub struct UtilityOutput {
    /// Id of the call; negative ids arrive unsolicited.
    pub call_id: i128,
    /// The result, or the engine's failure message.
    pub result: std::result::Result<Value, String>,
}

/// Frontend and call id of a call whose other fields may be broken, so that an engine can answer it.
pub fn utility_call_of(payload: &[u8]) -> Option<(u32, i128)> {
    let mut r = Reader::new(payload);
    r.array_len("utility call")
        .ok()
        .filter(|count| *count > 1)?;
    Some((r.uint32("client_index").ok()?, r.i128("call_id").ok()?))
}

/// An integer within int64 or uint64.
pub(crate) fn encode_integer(w: &mut Writer, value: i128) {
    match u64::try_from(value) {
        Ok(value) => w.u64(value),
        Err(_) => w.i64(value as i64),
    }
}

impl UtilityRequest {
    /// Encodes the payload.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::with_capacity(64);
        w.array(4);
        w.u64(u64::from(self.client_index));
        encode_integer(&mut w, self.call_id);
        w.str(&self.method);
        w.seq(&self.args, Writer::value);
        w.into_parts().0
    }

    /// Decodes the payload.
    pub fn decode(payload: &[u8]) -> Result<Self> {
        const FIELD: &str = "utility call";
        let mut r = Reader::new(payload);
        let mut slots = r.slots(FIELD)?;
        slots.require("client_index")?;
        let client_index = r.uint32("client_index")?;
        slots.require("call_id")?;
        let call_id = r.i128("call_id")?;
        slots.require("method")?;
        let method = r.string("method")?;
        slots.require("args")?;
        let args = r.vec("args", |r| r.value("args"))?;
        slots.finish(&mut r, FIELD)?;
        r.end(FIELD)?;
        Ok(Self {
            client_index,
            call_id,
            method,
            args,
        })
    }
}

impl UtilityOutput {
    pub(crate) fn encode(&self, w: &mut Writer) {
        w.array(3);
        encode_integer(w, self.call_id);
        match &self.result {
            Ok(value) => {
                w.nil();
                w.array(2);
                w.nil();
                w.value(value);
            }
            Err(message) => {
                w.str(message);
                w.nil();
            }
        }
    }

    pub(crate) fn decode(r: &mut Reader<'_>) -> Result<Self> {
        const FIELD: &str = "utility_output";
        let mut slots = r.slots(FIELD)?;
        slots.require("call_id")?;
        let call_id = r.i128("call_id")?;
        let mut failure = None;
        if slots.take() {
            failure = r.nullable(|r| r.string(FIELD))?;
        }
        let mut value = Value::Nil;
        if slots.take() {
            value = r.nullable(typed_value)?.unwrap_or(Value::Nil);
        }
        slots.finish(r, FIELD)?;
        Ok(Self {
            call_id,
            result: failure.map_or(Ok(value), Err),
        })
    }
}

/// `[type_info, value]`; a type means a pickled or class-bound value, which is refused.
fn typed_value(r: &mut Reader<'_>) -> Result<Value> {
    const FIELD: &str = "utility result";
    let mut slots = r.slots(FIELD)?;
    slots.require(FIELD)?;
    if !r.nil() {
        return Err(DecodeError::Message(
            "utility result: a typed value is refused",
        ));
    }
    let mut value = Value::Nil;
    if slots.take() {
        value = r.value(FIELD)?;
    }
    slots.finish(r, FIELD)?;
    Ok(value)
}
