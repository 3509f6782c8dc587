// SPDX-License-Identifier: Apache-2.0

//! The HTTP server: listeners, shards, routes, streams.
//!
//! Owns: connections and their limits, the route table, the way of a request through
//! validate > render > encode > submit > detokenize > emit, and the end of everything that was started.
//! Must not know: MessagePack, model weights, how a template or tokenizer works.
//!
//! Each shard is one thread with one current-thread runtime. A connection, its requests and its writes stay
//! on one shard for life, so nothing on the way of a token is shared, locked or sent to another thread.

mod accept;
mod admission;
mod app;
mod auth;
mod body;
mod certificate;
mod choice;
mod config;
mod connection;
mod conversation;
mod cors;
mod drain;
mod emit;
mod errors;
mod generation;
pub mod guest;
mod handlers;
mod head;
mod identity;
mod injection;
mod listener;
mod load;
mod model;
mod prompt;
mod protocol;
mod read_ahead;
pub mod reference;
pub mod render;
mod routes;
mod sampling;
mod sends;
mod server;
mod streaming;
mod submit;
mod table;
mod tls;
mod web;

pub use admission::QueueLimits;
pub use auth::ApiKeys;
pub use config::{ConfigError, MAX_CONNECTIONS, ServerConfig};
pub use cors::Cors;
pub use listener::Listener;
pub use model::Model;
pub use server::{Server, Stopped};
pub use tls::{ClientCertificates, Tls, TlsSettings};
pub use vllm_metrics::ProcessCounters;
