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

fn encode_call_id(w: &mut Writer, call_id: i128) {
    match u64::try_from(call_id) {
        Ok(id) => w.u64(id),
        Err(_) => w.i64(call_id as i64),
    }
}

fn decode_call_id(r: &mut Reader<'_>) -> Result<i128> {
    let mut ahead = r.clone();
    match ahead.u64("call_id") {
        Ok(id) => {
            *r = ahead;
            Ok(i128::from(id))
        }
        Err(_) => r.i64("call_id").map(i128::from),
    }
}

impl UtilityRequest {
    /// Encodes the payload.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::with_capacity(64);
        w.array(4);
        w.u64(u64::from(self.client_index));
        encode_call_id(&mut w, self.call_id);
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
        let call_id = decode_call_id(&mut r)?;
        slots.require("method")?;
        let method = r.string("method")?;
        slots.require("args")?;
        let args = r.vec("args", |r| r.value("args"))?;
        slots.finish(&mut r, FIELD)?;
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
        encode_call_id(w, self.call_id);
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
        let call_id = decode_call_id(r)?;
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
