// SPDX-License-Identifier: Apache-2.0

//! Is the process there, and does it serve?

use http::Response;

use crate::body::Body;
use crate::errors;
use crate::routes::{Answer, Call};

/// The process answers.
pub async fn live(_: Call) -> Answer {
    Ok(Response::new(Body::Whole(None)))
}

/// At least one engine serves and the end was not asked for.
pub async fn ready(call: Call) -> Answer {
    let shared = &call.head.app.shared;
    if shared.phase.is_leaving() {
        return Err(errors::shutting_down());
    }
    if !shared.engine.health().is_ready() {
        return Err(errors::no_engine());
    }
    Ok(Response::new(Body::Whole(None)))
}
