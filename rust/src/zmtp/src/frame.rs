// SPDX-License-Identifier: Apache-2.0

//! Frames: one byte of flags, one or eight of length, the body. Sans-IO.

use bytes::{Buf, Bytes, BytesMut};

use crate::Message;
use crate::error::ZmtpError;
use crate::limits::{Limits, MAX_COMMAND};

const MORE: u8 = 1;
const LONG: u8 = 2;
const COMMAND: u8 = 4;

/// What a complete sequence of frames makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A command's body: name and data.
    Command(Bytes),
    /// All frames of a message.
    Message(Message),
}

#[derive(Debug, Clone, Copy)]
struct Header {
    flags: u8,
    len: usize,
    /// Bytes of the header itself.
    size: usize,
}

/// Cuts bytes into commands and messages, whatever pieces they arrive in.
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    parts: Message,
    /// Bytes of `parts`.
    held: usize,
}

impl Decoder {
    /// A decoder before the first frame.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            parts: Message::new(),
            held: 0,
        }
    }

    /// Takes the next item out of `buf`; `None` when it is not complete yet.
    pub fn next(&mut self, buf: &mut BytesMut) -> Result<Option<Item>, ZmtpError> {
        while let Some(header) = self.header(buf)? {
            if buf.len() < header.size + header.len {
                return Ok(None);
            }
            buf.advance(header.size);
            let body = buf.split_to(header.len).freeze();
            if header.flags & COMMAND != 0 {
                return Ok(Some(Item::Command(body)));
            }
            self.held += body.len();
            self.parts.push(body);
            if header.flags & MORE == 0 {
                self.held = 0;
                return Ok(Some(Item::Message(std::mem::take(&mut self.parts))));
            }
        }
        Ok(None)
    }

    /// Bytes that the frame at the start of `buf` still lacks; 0 when its length is not known yet.
    pub fn missing(&self, buf: &[u8]) -> usize {
        match self.header(buf) {
            Ok(Some(header)) => (header.size + header.len).saturating_sub(buf.len()),
            _ => 0,
        }
    }

    /// Reads and judges a header before any of its body is waited for.
    fn header(&self, buf: &[u8]) -> Result<Option<Header>, ZmtpError> {
        let Some(&flags) = buf.first() else {
            return Ok(None);
        };
        if flags > (MORE | LONG | COMMAND) || flags & (MORE | COMMAND) == MORE | COMMAND {
            return Err(ZmtpError::Flags(flags));
        }
        let (len, size) = if flags & LONG == 0 {
            match buf.get(1) {
                Some(len) => (u64::from(*len), 2),
                None => return Ok(None),
            }
        } else {
            match buf.get(1..9).and_then(|bytes| bytes.try_into().ok()) {
                Some(bytes) => (u64::from_be_bytes(bytes), 9),
                None => return Ok(None),
            }
        };
        let len = self.allow(flags, len)?;
        Ok(Some(Header { flags, len, size }))
    }

    fn allow(&self, flags: u8, len: u64) -> Result<usize, ZmtpError> {
        let within = |what, size: u64, limit: usize| {
            if size > limit as u64 {
                return Err(ZmtpError::TooLarge { what, size, limit });
            }
            Ok(())
        };
        if flags & COMMAND != 0 {
            within("command", len, MAX_COMMAND)?;
        } else {
            within("frame", len, self.limits.frame)?;
            within("message", len + self.held as u64, self.limits.message)?;
            if self.parts.len() >= self.limits.frames {
                return Err(ZmtpError::TooManyFrames(self.limits.frames));
            }
        }
        Ok(len as usize)
    }
}

fn push_header(out: &mut Vec<u8>, flags: u8, len: usize) {
    match u8::try_from(len) {
        Ok(short) => out.extend_from_slice(&[flags, short]),
        Err(_) => {
            out.push(flags | LONG);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
}

/// The header of a message's frame; the body follows it.
pub fn message_header(out: &mut Vec<u8>, len: usize, more: bool) {
    push_header(out, if more { MORE } else { 0 }, len);
}

/// A command frame.
pub fn encode_command(out: &mut Vec<u8>, body: &[u8]) {
    push_header(out, COMMAND, body.len());
    out.extend_from_slice(body);
}

/// All frames of a message, in one piece.
pub fn encode_message(out: &mut Vec<u8>, message: &[Bytes]) {
    for (at, frame) in message.iter().enumerate() {
        message_header(out, frame.len(), at + 1 < message.len());
        out.extend_from_slice(frame);
    }
}
