// SPDX-License-Identifier: Apache-2.0

//! Greeting and commands of the NULL mechanism: READY, ERROR, PING, PONG. Sans-IO.

use bytes::{Buf, Bytes};

use crate::error::ZmtpError;
use crate::frame::encode_command;

/// Bytes of a greeting.
pub const GREETING_LEN: usize = 64;
/// Bytes of an identity at most.
pub const MAX_IDENTITY: usize = 255;
/// Bytes that a PING may ask to be returned.
const MAX_CONTEXT: usize = 16;

/// The sockets of this crate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketType {
    /// Talks to many DEALERs by identity.
    Router,
    /// Receives from many PUSHes.
    Pull,
    /// Talks to one ROUTER.
    Dealer,
    /// Sends to one PULL.
    Push,
}

impl SocketType {
    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Router => "ROUTER",
            Self::Pull => "PULL",
            Self::Dealer => "DEALER",
            Self::Push => "PUSH",
        }
    }

    fn counterpart(self) -> Self {
        match self {
            Self::Router => Self::Dealer,
            Self::Dealer => Self::Router,
            Self::Pull => Self::Push,
            Self::Push => Self::Pull,
        }
    }

    fn accept(self, theirs: &[u8]) -> Result<(), ZmtpError> {
        if theirs == self.counterpart().name().as_bytes() {
            return Ok(());
        }
        Err(ZmtpError::SocketType {
            ours: self.name(),
            theirs: text(theirs),
        })
    }
}

/// The first bytes on a connection: ZMTP 3.1, NULL.
pub fn greeting() -> [u8; GREETING_LEN] {
    let mut out = [0; GREETING_LEN];
    (out[0], out[9]) = (0xff, 0x7f);
    (out[10], out[11]) = (3, 1);
    out[12..16].copy_from_slice(b"NULL");
    out
}

/// The minor version of a peer's greeting, of which some bytes may still be missing.
///
/// Whatever is wrong shows as soon as it can: a peer that speaks something else is not waited for.
pub fn check_greeting(bytes: &[u8]) -> Result<Option<u8>, ZmtpError> {
    let at = |index: usize| bytes.get(index).copied();
    if at(0).is_some_and(|byte| byte != 0xff) || at(9).is_some_and(|byte| byte & 1 == 0) {
        return Err(ZmtpError::Signature);
    }
    if let Some(major) = at(10).filter(|major| *major < 3) {
        return Err(ZmtpError::Version(major));
    }
    let Some(mechanism) = bytes.get(12..32) else {
        return Ok(None);
    };
    let name = mechanism
        .split(|byte| *byte == 0)
        .next()
        .unwrap_or_default();
    if name != b"NULL" {
        return Err(ZmtpError::Mechanism(text(name)));
    }
    Ok((bytes.len() >= GREETING_LEN).then(|| if bytes[10] > 3 { u8::MAX } else { bytes[11] }))
}

/// A command after the greeting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// The peer's identity (empty: none); its socket fits to ours.
    Ready(Bytes),
    /// The peer won't talk to us.
    Error(String),
    /// To be answered with this context.
    Ping(Bytes),
    /// An answer.
    Pong,
    /// A name of a later version: ignored.
    Unknown,
}

impl Command {
    /// Its name, for messages.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Ready(_) => "READY",
            Self::Error(_) => "ERROR",
            Self::Ping(_) => "PING",
            Self::Pong => "PONG",
            Self::Unknown => "an unknown command",
        }
    }

    /// Reads a command's body; `ours` is this end's socket.
    pub fn decode(mut body: Bytes, ours: SocketType) -> Result<Self, ZmtpError> {
        let name = short(&mut body, "nameless")?;
        match name.as_ref() {
            b"READY" => ready_identity(body, ours).map(Self::Ready),
            b"ERROR" => Ok(Self::Error(text(&short(&mut body, "ERROR")?))),
            b"PING" => ping_context(body).map(Self::Ping),
            b"PONG" => Ok(Self::Pong),
            _ => Ok(Self::Unknown),
        }
    }
}

/// A string with one byte of length.
fn short(body: &mut Bytes, command: &'static str) -> Result<Bytes, ZmtpError> {
    let malformed = ZmtpError::Command(command);
    let Some(len) = body.first().map(|len| usize::from(*len)) else {
        return Err(malformed);
    };
    body.advance(1);
    (len <= body.len())
        .then(|| body.split_to(len))
        .ok_or(malformed)
}

/// A string with four bytes of length.
fn long(body: &mut Bytes) -> Result<Bytes, ZmtpError> {
    let len = body.get(..4).and_then(|bytes| bytes.try_into().ok());
    let len = len.map_or(usize::MAX, |bytes| u32::from_be_bytes(bytes) as usize);
    body.advance(body.len().min(4));
    (len <= body.len())
        .then(|| body.split_to(len))
        .ok_or(ZmtpError::Command("READY"))
}

fn ready_identity(mut body: Bytes, ours: SocketType) -> Result<Bytes, ZmtpError> {
    let (mut identity, mut fits) = (Bytes::new(), false);
    while !body.is_empty() {
        let name = short(&mut body, "READY")?;
        let value = long(&mut body)?;
        if name.eq_ignore_ascii_case(b"Socket-Type") {
            ours.accept(&value)?;
            fits = true;
        } else if name.eq_ignore_ascii_case(b"Identity") {
            // A copy: the slice would keep the whole receive buffer alive.
            identity = Bytes::copy_from_slice(&value);
        }
    }
    if !fits {
        ours.accept(b"")?;
    }
    if identity.len() > MAX_IDENTITY {
        return Err(ZmtpError::Command("READY"));
    }
    Ok(identity)
}

fn ping_context(mut body: Bytes) -> Result<Bytes, ZmtpError> {
    if !(2..=2 + MAX_CONTEXT).contains(&body.len()) {
        return Err(ZmtpError::Command("PING"));
    }
    body.advance(2);
    Ok(Bytes::copy_from_slice(&body))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_IDENTITY)]).into_owned()
}

fn property(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.push(name.len() as u8);
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(&(value.len() as u32).to_be_bytes());
    out.extend_from_slice(value);
}

/// Everything this end says before it has heard anything: greeting and READY.
pub fn opening(ours: SocketType, identity: &[u8]) -> Vec<u8> {
    let mut body = b"\x05READY".to_vec();
    property(&mut body, "Socket-Type", ours.name().as_bytes());
    if !identity.is_empty() {
        property(&mut body, "Identity", identity);
    }
    let mut out = greeting().to_vec();
    encode_command(&mut out, &body);
    out
}

/// Asks a peer for a sign of life. Time to live 0: the peer need not watch us in turn.
pub fn ping() -> Vec<u8> {
    let mut out = Vec::new();
    encode_command(&mut out, b"\x04PING\0\0");
    out
}

/// Answers a PING.
pub fn pong(context: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_command(&mut out, &[b"\x04PONG", context].concat());
    out
}
