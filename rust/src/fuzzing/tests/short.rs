// SPDX-License-Identifier: Apache-2.0

//! The fuzz targets without a fuzzer: every seed, and mutations of the seeds that are the same in every run.
//!
//! `VLLM_FUZZ_FACTOR` makes it longer; `cargo fuzz` (`nox -s fuzz`) looks for more.

use vllm_fuzzing::{TARGETS, Target};

fn rounds(count: usize) -> usize {
    let factor = std::env::var("VLLM_FUZZ_FACTOR").unwrap_or_default();
    count * factor.parse::<usize>().unwrap_or(1)
}

/// The seed with bytes changed, cut out, doubled, or taken from another seed.
fn mutated(seeds: &[Vec<u8>], random: &mut fastrand::Rng) -> Vec<u8> {
    let mut data = seeds[random.usize(0..seeds.len())].clone();
    for _ in 0..random.usize(1..6) {
        if data.is_empty() {
            break;
        }
        let at = random.usize(0..data.len());
        let end = (at + random.usize(1..20)).min(data.len());
        match random.u32(0..6) {
            0 => data[at] = random.u8(..),
            1 => data[at] ^= 1 << random.u32(0..8),
            2 => drop(data.drain(at..end)),
            3 => {
                let piece = data[at..end].repeat(random.usize(1..9));
                data.splice(at..at, piece);
            }
            4 => {
                let other = &seeds[random.usize(0..seeds.len())];
                let from = random.usize(0..=other.len());
                data.splice(at..at, other[from..].iter().copied());
            }
            _ => data.truncate(at),
        }
    }
    data
}

fn run(name: &str, count: usize) {
    let target: &Target = TARGETS
        .iter()
        .find(|target| target.name == name)
        .expect("a target");
    let seeds = (target.seeds)();
    seeds.iter().for_each(|seed| (target.check)(seed));
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..rounds(count) {
        let data = mutated(&seeds, &mut random);
        let held = std::panic::catch_unwind(|| (target.check)(&data));
        assert!(
            held.is_ok(),
            "{name} fails for {data:?}: {:?}",
            String::from_utf8_lossy(&data)
        );
    }
}

#[test]
fn bodies() {
    run("bodies", 2_000);
}

#[test]
fn wire() {
    run("wire", 3_000);
}

#[test]
fn templates() {
    run("templates", 500);
}

#[test]
fn streams() {
    run("streams", 300);
}
