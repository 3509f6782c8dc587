// SPDX-License-Identifier: Apache-2.0

//! Buffers for chunks, reused by all streams of a shard: an idle stream holds none.

use std::cell::RefCell;

use bytes::{Buf, Bytes};

/// Buffers kept for reuse. At 256 concurrent writes of up to 16 KiB a shard keeps at most 4 MiB.
const KEPT: usize = 256;
/// A buffer that grew beyond this is freed instead of kept.
const MAX_KEPT_BYTES: usize = 16 << 10;
/// A chunk of one token has about 250 bytes.
const INITIAL_BYTES: usize = 512;

thread_local! {
    static POOL: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// An empty buffer, used before where there is one.
pub fn take() -> Vec<u8> {
    let kept = POOL.with_borrow_mut(Vec::pop);
    kept.unwrap_or_else(|| Vec::with_capacity(INITIAL_BYTES))
}

/// Gives a buffer back.
pub fn give(mut buffer: Vec<u8>) {
    if buffer.capacity() == 0 || buffer.capacity() > MAX_KEPT_BYTES {
        return;
    }
    buffer.clear();
    POOL.with_borrow_mut(|pool| {
        if pool.len() < KEPT {
            pool.push(buffer);
        }
    });
}

/// Data on its way to a socket.
pub enum Chunk {
    /// A whole answer or a constant.
    Whole(Bytes),
    /// A pooled buffer and how much of it is sent.
    Pooled(Vec<u8>, usize),
}

impl Default for Chunk {
    /// No data.
    fn default() -> Self {
        Self::Whole(Bytes::new())
    }
}

impl Buf for Chunk {
    fn remaining(&self) -> usize {
        match self {
            Self::Whole(bytes) => bytes.len(),
            Self::Pooled(buffer, sent) => buffer.len() - sent,
        }
    }

    fn chunk(&self) -> &[u8] {
        match self {
            Self::Whole(bytes) => bytes,
            Self::Pooled(buffer, sent) => &buffer[*sent..],
        }
    }

    fn advance(&mut self, count: usize) {
        match self {
            Self::Whole(bytes) => bytes.advance(count),
            Self::Pooled(buffer, sent) => {
                assert!(
                    count <= buffer.len() - *sent,
                    "advanced beyond the end of a chunk"
                );
                *sent += count;
            }
        }
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        if let Self::Pooled(buffer, _) = self {
            give(std::mem::take(buffer));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sent_buffer_is_used_again() {
        let mut buffer = take();
        buffer.extend_from_slice(b"abc");
        let address = buffer.as_ptr();
        let mut chunk = Chunk::Pooled(buffer, 0);
        chunk.advance(2);
        assert_eq!(chunk.chunk(), b"c");
        drop(chunk);
        let again = take();
        assert_eq!(again.as_ptr(), address);
    }
}
