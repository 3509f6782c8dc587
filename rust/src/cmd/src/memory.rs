// SPDX-License-Identifier: Apache-2.0

//! The allocator, and giving back what a start needed once.

/// Streams allocate and free small blocks all the time; mimalloc does that in a few instructions.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

unsafe extern "C" {
    /// Frees what this thread's heap does not use, and that of threads that ended; with `force` at once.
    fn mi_collect(force: bool);
}

/// Gives free memory of this thread, and of those that ended, back to the system. Reading a model takes several times
/// what is kept of it, and an allocator that is not called again gives nothing back by itself.
pub fn give_back_unused() {
    // SAFETY: the function belongs to the allocator that is linked above and may be called at any time.
    unsafe { mi_collect(true) }
}

/// Gives memory back that this thread has not used for a moment, at a cost of microseconds.
pub fn give_back_idle() {
    // SAFETY: as above.
    unsafe { mi_collect(false) }
}
