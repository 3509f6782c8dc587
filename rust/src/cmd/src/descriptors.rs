// SPDX-License-Identifier: Apache-2.0

//! How many descriptors this process may have open, and how many of them are left for connections.

use vllm_server::MAX_CONNECTIONS;

/// More than any server here opens; children inherit the limit, and above it some programs become slow.
const ENOUGH: libc::rlim_t = 1 << 20;
/// For the log, listeners, engines, files that are read while serving.
const OWN: usize = 128;
/// For the event loop of a shard.
const PER_SHARD: usize = 8;
/// Without so many connections nothing can be served at all.
const LEAST: usize = 16;

/// Raises the soft limit as far as this process may. Shells begin with 1,024 for programs that use select(2).
pub fn raise_limit() {
    let mut limit = limit();
    let wanted = limit.rlim_max.min(ENOUGH);
    if limit.rlim_cur < wanted {
        limit.rlim_cur = wanted;
        // SAFETY: `limit` is a valid value; a failure leaves the old limit.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) };
    }
}

/// Connections that may be open at once, so that descriptors are left for everything else.
pub fn connections(shards: usize) -> usize {
    let limit = usize::try_from(limit().rlim_cur).unwrap_or(usize::MAX);
    connections_within(limit, shards)
}

fn connections_within(limit: usize, shards: usize) -> usize {
    let own = OWN + PER_SHARD * shards;
    limit.saturating_sub(own).clamp(LEAST, MAX_CONNECTIONS)
}

fn limit() -> libc::rlimit {
    let mut limit = libc::rlimit {
        rlim_cur: 1024,
        rlim_max: 1024,
    };
    // SAFETY: `limit` is a valid place for the result; a failure leaves what is there.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
    limit
}

#[cfg(test)]
mod tests {
    use super::connections_within;

    #[test]
    fn descriptors_are_left_for_everything_else() {
        assert_eq!(connections_within(1024, 1), 888);
        assert_eq!(connections_within(64, 1), 16);
        assert_eq!(connections_within(1 << 20, 16), 65_536);
    }
}
