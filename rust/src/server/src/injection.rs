// SPDX-License-Identifier: Apache-2.0

//! Panics that a request asks for by its id, in a binary built with the feature `fault-injection`: the
//! tests show with it that a panic costs one request of the release build. No binary that is shipped
//! has the feature; without it both functions are empty.

/// Panics where the request's id says so, before its handler.
pub fn in_handler(id: &str) {
    assert!(
        !asked(id, "panic-in-handler"),
        "the request asked for a panic in its handler"
    );
}

/// Panics where the id of a streamed answer says so, once deltas of it are written.
pub fn in_stream(id: &str) {
    assert!(
        !asked(id, "panic-in-stream"),
        "the request asked for a panic in its stream"
    );
}

fn asked(id: &str, word: &str) -> bool {
    cfg!(feature = "fault-injection") && id.contains(word)
}
