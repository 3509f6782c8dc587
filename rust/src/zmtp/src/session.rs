// SPDX-License-Identifier: Apache-2.0

//! One connection from its greeting on. Sans-IO: bytes in, events out.

use bytes::{Buf, Bytes, BytesMut};

use crate::Message;
use crate::command::{Command, GREETING_LEN, SocketType, check_greeting};
use crate::error::ZmtpError;
use crate::frame::{Decoder, Item};
use crate::limits::Limits;

/// Who is at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerInfo {
    /// Empty: it has none.
    pub identity: Bytes,
    /// It answers PINGs (ZMTP 3.1 and later).
    pub answers_pings: bool,
}

/// What the bytes of a peer mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The handshake is complete.
    Ready(PeerInfo),
    /// A message.
    Message(Message),
    /// To be answered with a PONG of this context.
    Ping(Bytes),
    /// A sign of life without content.
    Alive,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Greeting,
    Handshake { minor: u8 },
    Traffic,
}

/// The receiving side of a connection.
#[derive(Debug)]
pub struct Session {
    ours: SocketType,
    state: State,
    decoder: Decoder,
}

impl Session {
    /// A session before the first byte.
    pub fn new(ours: SocketType, limits: Limits) -> Self {
        Self {
            ours,
            state: State::Greeting,
            decoder: Decoder::new(limits),
        }
    }

    /// Takes the next event out of `buf`; `None` when more bytes are needed.
    pub fn next(&mut self, buf: &mut BytesMut) -> Result<Option<Event>, ZmtpError> {
        if let State::Greeting = self.state {
            let Some(minor) = check_greeting(buf)? else {
                return Ok(None);
            };
            buf.advance(GREETING_LEN);
            self.state = State::Handshake { minor };
        }
        match self.decoder.next(buf)? {
            None => Ok(None),
            Some(Item::Message(message)) => self.on_message(message).map(Some),
            Some(Item::Command(body)) => {
                let command = Command::decode(body, self.ours)?;
                self.on_command(command).map(Some)
            }
        }
    }

    /// Bytes that are surely still to come; 0 when unknown.
    pub fn missing(&self, buf: &[u8]) -> usize {
        match self.state {
            State::Greeting => 0,
            _ => self.decoder.missing(buf),
        }
    }

    fn on_message(&self, message: Message) -> Result<Event, ZmtpError> {
        match self.state {
            State::Traffic => Ok(Event::Message(message)),
            _ => Err(ZmtpError::NotReady("a message")),
        }
    }

    fn on_command(&mut self, command: Command) -> Result<Event, ZmtpError> {
        match (self.state, command) {
            (_, Command::Error(reason)) => Err(ZmtpError::Refused(reason)),
            (State::Handshake { minor }, Command::Ready(identity)) => {
                self.state = State::Traffic;
                Ok(Event::Ready(PeerInfo {
                    identity,
                    answers_pings: minor >= 1,
                }))
            }
            (State::Traffic, Command::Ping(context)) => Ok(Event::Ping(context)),
            (State::Traffic, _) => Ok(Event::Alive),
            (_, other) => Err(ZmtpError::NotReady(other.name())),
        }
    }
}
