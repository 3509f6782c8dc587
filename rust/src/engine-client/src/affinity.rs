// SPDX-License-Identifier: Apache-2.0

//! Which engine has likely computed the beginning of a prompt: the one that others that began alike
//! were sent to.
//!
//! Nothing is remembered. A beginning and an engine's index are hashed together, and the engine with
//! the highest value is the beginning's home (rendezvous hashing): all frontends agree, and an engine
//! that comes or goes moves its own share of the beginnings and no other.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::balance::Load;
use crate::protocol::EngineCoreRequest;

/// Lengths of beginnings in tokens, longest first. Prompts that differ only beyond the last one they
/// reach have one home.
///
/// Each is four times the one before: a conversation that grows changes its home at most twice, and
/// computes again at most a third of what it has when it stops growing. Below the least one there is
/// little to gain, and many templates begin every prompt with the same few dozen tokens.
const LENGTHS: [usize; 3] = [2048, 512, 128];

/// Names what a prompt begins with; `None` for one that is too short to be worth a home, or that
/// chooses its engine itself.
pub(crate) fn beginning(request: &EngineCoreRequest) -> Option<u64> {
    let ids = request.prompt_token_ids.as_deref()?;
    let length = LENGTHS.into_iter().find(|length| *length <= ids.len())?;
    let mut hasher = DefaultHasher::new();
    request.cache_salt.hash(&mut hasher);
    ids[..length].hash(&mut hasher);
    Some(hasher.finish())
}

/// Position of a beginning's home among the engines that take requests.
pub(crate) fn home(beginning: u64, engines: impl Iterator<Item = (usize, u32)>) -> Option<usize> {
    engines
        .max_by_key(|(_, index)| mix(beginning ^ mix(u64::from(*index) + 1)))
        .map(|(at, _)| at)
}

/// Spreads every bit of a number over all bits (the finalizer of SplitMix64, Steele et al. 2014).
fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// Whether an engine has so much to do that a prompt had better be computed elsewhere: at least half
/// as much again as the least loaded one would have with one request more.
pub(crate) fn is_overloaded(load: Load, least: Load) -> bool {
    let least = least.total().saturating_add(1);
    load.total().saturating_mul(2) >= least.saturating_mul(3)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;

    fn request(ids: impl IntoIterator<Item = u32>) -> EngineCoreRequest {
        EngineCoreRequest {
            prompt_token_ids: Some(ids.into_iter().collect::<Arc<[u32]>>()),
            ..EngineCoreRequest::default()
        }
    }

    #[test]
    fn a_prompt_keeps_its_name_while_it_grows_within_a_length() {
        let name = |count: u32| beginning(&request(0..count));
        assert_eq!(name(127), None);
        assert_eq!(name(128), name(511));
        assert_eq!(name(512), name(2047));
        assert_eq!(name(2048), name(100_000));
        let names: std::collections::BTreeSet<_> = [128, 512, 2048].map(name).into();
        assert_eq!(names.len(), 3);
        assert_ne!(name(200), beginning(&request(1..201)));
        let salted = EngineCoreRequest {
            cache_salt: Some("tenant".to_owned()),
            ..request(0..200)
        };
        assert_ne!(name(200), beginning(&salted));
    }

    /// Share of each engine in 10,000 beginnings.
    fn homes(engines: &[u32]) -> Vec<u32> {
        let all = || engines.iter().copied().enumerate();
        let home = |name: u64| engines[home(mix(name + 1), all()).expect("engines are there")];
        (0..10_000).map(home).collect()
    }

    #[test]
    fn homes_are_shared_out_and_only_those_of_an_engine_that_goes_move() {
        let before = homes(&[0, 1, 2, 3]);
        let mut shares = BTreeMap::new();
        for home in &before {
            *shares.entry(*home).or_insert(0) += 1;
        }
        // 2,500 each with a standard deviation of 43.
        assert!(
            shares.len() == 4 && shares.values().all(|share| (2250..2750).contains(share)),
            "{shares:?}"
        );
        let after = homes(&[0, 1, 3]);
        for (old, new) in before.into_iter().zip(after) {
            assert!(old == new || old == 2, "{old} moved to {new}");
        }
        assert_eq!(home(7, std::iter::empty()), None);
    }

    #[test]
    fn a_home_may_have_half_as_much_again_as_the_least_loaded() {
        let load = |own| Load {
            own,
            others: 0,
            pressure: 0,
        };
        let most = |least| (0..).find(|own| is_overloaded(load(*own), load(least)));
        assert_eq!([0, 1, 2, 10, 99].map(most), [2, 3, 5, 17, 150].map(Some));
        let full = Load {
            own: 0,
            others: usize::MAX,
            pressure: usize::MAX,
        };
        assert!(is_overloaded(full, load(0)));
    }
}
