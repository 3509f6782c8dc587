// SPDX-License-Identifier: Apache-2.0

//! What must hold for any bytes that strangers send: one function per format, and good examples to start from.
//!
//! Owns: the fuzz targets' bodies and seeds. `rust/fuzz` gives them to libFuzzer, the tests here to mutations of the
//! seeds in every run. Each function panics when the property does not hold. Must not know: libFuzzer.

mod bodies;
mod engine;
mod streams;
mod templates;
mod wire;

use std::time::Duration;

#[path = "../../server/tests/common/client.rs"]
#[allow(
    dead_code,
    missing_docs,
    reason = "the client of the server's tests, of which this uses a part"
)]
mod client;
#[path = "../../server/tests/common/model.rs"]
#[allow(
    dead_code,
    missing_docs,
    reason = "the model of the server's tests, of which this uses a part"
)]
mod model;

/// How long a stream may be silent before that is a failure.
const PATIENCE: Duration = Duration::from_secs(30);

/// A target: its name, its property, and good examples.
pub struct Target {
    /// As in `cargo fuzz run NAME`.
    pub name: &'static str,
    /// Panics when something does not hold.
    pub check: fn(&[u8]),
    /// Inputs to start from.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// Every target.
pub const TARGETS: [Target; 4] = [
    Target {
        name: "bodies",
        check: bodies::check,
        seeds: bodies::seeds,
    },
    Target {
        name: "wire",
        check: wire::check,
        seeds: wire::seeds,
    },
    Target {
        name: "templates",
        check: templates::check,
        seeds: templates::seeds,
    },
    Target {
        name: "streams",
        check: streams::check,
        seeds: streams::seeds,
    },
];

/// Checks one input of the target called `name`.
///
/// # Panics
///
/// When the property does not hold, or there is no such target.
pub fn check(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    (target.expect("a target of that name").check)(data);
}
