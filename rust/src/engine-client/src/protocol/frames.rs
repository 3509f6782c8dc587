// SPDX-License-Identifier: Apache-2.0

//! Multipart messages: type bytes, identities, out-of-band buffers and the death sentinel.

use bytes::Bytes;

use super::coordinator::StartDpWave;
use super::error::DecodeError;
use super::request::EngineCoreRequest;
use super::utility::UtilityRequest;

/// The single frame an engine sends to every frontend when its loop died.
pub const DEATH_SENTINEL: &[u8] = b"ENGINE_CORE_DEAD";

/// First frame of a message on the input plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum RequestType {
    /// A new request.
    Add = 0,
    /// Requests to stop, by id.
    Abort = 1,
    /// Wave control of data-parallel mixture-of-experts engines.
    StartDpWave = 2,
    /// A remote procedure call.
    Utility = 3,
}

impl RequestType {
    /// The type byte as a frame.
    pub fn frame(self) -> Bytes {
        const BYTES: [[u8; 1]; 4] = [[0], [1], [2], [3]];
        Bytes::from_static(&BYTES[self as usize])
    }
}

/// The frames of one message, MessagePack frame first, identity and type frames removed.
#[derive(Debug, Clone, Default)]
pub struct Frames(Vec<Bytes>);

impl Frames {
    /// Takes the frames of a message.
    pub fn new(frames: Vec<Bytes>) -> Self {
        Self(frames)
    }

    /// The MessagePack frame; empty when there is none.
    pub fn payload(&self) -> &[u8] {
        self.0.first().map_or(&[], |frame| frame)
    }

    /// True for the engine's farewell.
    pub fn is_death_sentinel(&self) -> bool {
        self.0.len() == 1 && self.payload() == DEATH_SENTINEL
    }

    /// An out-of-band buffer; numbers start at 1.
    pub(crate) fn aux(&self, index: u64, field: &'static str) -> Result<&Bytes, DecodeError> {
        let count = self.0.len();
        match usize::try_from(index) {
            Ok(at) if at > 0 && at < count => Ok(&self.0[at]),
            _ => Err(DecodeError::Frame {
                field,
                index,
                count,
            }),
        }
    }
}

impl From<Vec<u8>> for Frames {
    fn from(payload: Vec<u8>) -> Self {
        Self(vec![payload.into()])
    }
}

/// The ZMTP identity of an engine: its index in two bytes, little-endian.
pub fn engine_identity(index: u16) -> [u8; 2] {
    index.to_le_bytes()
}

/// The engine index of an identity; `None` for a foreign one.
pub fn engine_index(identity: &[u8]) -> Option<u16> {
    identity.try_into().ok().map(u16::from_le_bytes)
}

/// A message on the input plane, as the engine sees it.
#[derive(Debug, Clone, PartialEq)]
pub enum InputMessage {
    /// A new request.
    Add(Box<EngineCoreRequest>),
    /// Ids of requests to stop.
    Abort(Vec<String>),
    /// Wave control.
    StartDpWave(StartDpWave),
    /// A remote procedure call.
    Utility(UtilityRequest),
}

impl InputMessage {
    /// Decodes `[type][payload][aux...]`, as the engine's DEALER receives it.
    pub fn decode(mut frames: Vec<Bytes>) -> Result<Self, DecodeError> {
        if frames.len() < 2 {
            return Err(DecodeError::Missing {
                field: "payload frame",
            });
        }
        let kind = frames.remove(0);
        let frames = Frames::new(frames);
        match kind.as_ref() {
            [0] => EngineCoreRequest::decode(&frames).map(|req| Self::Add(Box::new(req))),
            [1] => decode_abort(frames.payload()).map(Self::Abort),
            [2] => StartDpWave::decode(frames.payload()).map(Self::StartDpWave),
            [3] => UtilityRequest::decode(frames.payload()).map(Self::Utility),
            [other] => Err(DecodeError::UnknownValue {
                field: "request type",
                value: i64::from(*other),
            }),
            _ => Err(DecodeError::Message(
                "request type: expected a frame of one byte",
            )),
        }
    }
}

fn decode_abort(payload: &[u8]) -> Result<Vec<String>, DecodeError> {
    let mut r = super::read::Reader::new(payload);
    let ids = r.vec("abort", |r| r.string("abort"))?;
    r.end("abort")?;
    Ok(ids)
}

/// The payload of an ABORT.
pub(crate) fn encode_abort<'a>(ids: impl ExactSizeIterator<Item = &'a str>) -> Vec<u8> {
    let mut w = super::write::Writer::with_capacity(8 + 20 * ids.len());
    w.array(ids.len());
    ids.for_each(|id| w.str(id));
    w.into_parts().0
}
