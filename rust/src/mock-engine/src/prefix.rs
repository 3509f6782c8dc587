// SPDX-License-Identifier: Apache-2.0

//! What an engine's prefix cache would find: whole blocks, known by all tokens up to their end.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use vllm_engine_client::protocol::EngineCoreRequest;

/// Tokens of a block, as registered.
pub(crate) const BLOCK: usize = 16;

/// Every block that was ever computed. It forgets nothing: tests are short.
#[derive(Debug, Default)]
pub(crate) struct PrefixCache {
    known: HashSet<u64>,
    /// Tokens looked up and found since they were taken last.
    pub(crate) queries: u64,
    pub(crate) hits: u64,
}

impl PrefixCache {
    /// Looks a prompt up and remembers it; tokens that were known, short of the last one.
    pub(crate) fn look_up(&mut self, request: &EngineCoreRequest) -> u64 {
        let ids = request.prompt_token_ids.as_deref().unwrap_or_default();
        let mut chain = DefaultHasher::new();
        request.cache_salt.hash(&mut chain);
        let (mut found, mut so_far) = (0, true);
        for (at, block) in ids.chunks_exact(BLOCK).enumerate() {
            block.hash(&mut chain);
            so_far &= !self.known.insert(chain.finish());
            if so_far && (at + 1) * BLOCK < ids.len() {
                found += BLOCK as u64;
            }
        }
        self.queries += ids.len() as u64;
        self.hits += found;
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(ids: std::ops::Range<u32>, salt: Option<&str>) -> EngineCoreRequest {
        EngineCoreRequest {
            prompt_token_ids: Some(ids.collect()),
            cache_salt: salt.map(str::to_owned),
            ..EngineCoreRequest::default()
        }
    }

    #[test]
    fn whole_blocks_from_the_start_are_found_but_never_the_last_token() {
        let mut cache = PrefixCache::default();
        let mut found = |ids, salt| cache.look_up(&request(ids, salt));
        assert_eq!(found(0..48, None), 0);
        assert_eq!(found(0..48, None), 32);
        assert_eq!(found(0..50, None), 48);
        assert_eq!(found(0..48, Some("other")), 0);
        assert_eq!(found(1..49, None), 0);
        assert_eq!((cache.queries, cache.hits), (48 * 4 + 50, 80));
    }
}
