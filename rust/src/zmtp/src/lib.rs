// SPDX-License-Identifier: Apache-2.0

//! ZMTP 3, as far as a frontend and its engines use it: NULL mechanism, ROUTER and PULL on
//! listening sockets, DEALER and PUSH as their counterparts in doubles and tests.
//!
//! [`frame`], [`command`] and [`session`] are sans-IO: bytes in, events out. Everything a stranger
//! can make this side hold is bounded by [`Limits`]. The crate knows frames, never what is in them.

mod accept;
mod client;
pub mod command;
mod error;
pub mod frame;
mod limits;
mod link;
mod listener;
mod pull;
mod queue;
mod router;
pub mod session;

pub use client::{Dealer, Push};
pub use error::{SendError, ZmtpError};
pub use limits::Limits;
pub use listener::Listener;
pub use pull::Pull;
pub use router::{Router, RouterEvent, RouterSender};

/// The frames of one message.
pub type Message = Vec<bytes::Bytes>;
