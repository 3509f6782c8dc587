// SPDX-License-Identifier: Apache-2.0

//! A thread for templates that nobody vouches for: a value nested as deep as fuel allows is compared, printed and
//! dropped level by level on the stack, and a stack that overflows ends the process.

use std::io;
use std::thread::Builder;

use crate::template::GUEST_FUEL;

/// Of stack for each level of a value; comparing takes most, 640 bytes or less without optimization.
const LEVEL: usize = 1024;

/// Runs `work` on a thread whose stack is deep enough for all that [`crate::ChatTemplate::compile_guest`] lets through.
/// Memory is used as far as the stack is.
///
/// # Errors
///
/// If the system gives no such thread, or `work` panics.
pub fn on_deep_stack<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    let stack = GUEST_FUEL as usize * LEVEL;
    std::thread::scope(|scope| {
        let thread = Builder::new().stack_size(stack).spawn_scoped(scope, work)?;
        let panicked = |_| io::Error::other("it panicked");
        thread.join().map_err(panicked)
    })
}
