// SPDX-License-Identifier: Apache-2.0

//! What is written about the interface: OpenAPI, an offline page, and a page of the documentation.
//!
//! Owns: the form of those texts. All facts come from the tables of routes, fields and limits. Must not know: a
//! running server.

mod openapi;
mod pages;

pub use openapi::openapi;
pub use pages::{html, markdown};
