// SPDX-License-Identifier: Apache-2.0

//! The built command: ways to start, ways to end, exit codes and the one line that goes with them.

mod descriptors;
mod frontend;
mod guests;
mod logs;
#[allow(
    dead_code,
    reason = "the command needs less of it than the server's own tests"
)]
#[path = "../../../server/tests/common/model.rs"]
mod model;
mod process;
mod refusals;
mod starting;
