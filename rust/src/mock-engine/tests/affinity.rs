// SPDX-License-Identifier: Apache-2.0

//! Several engines with prefix caches behind one client: prompts that begin alike meet.

mod common;

use common::{collect, eventually, loopback, request, run};
use vllm_engine_client::{
    EngineClient, EngineCoreRequest, OutputStream, ShardClient, TransportConfig,
};
use vllm_mock_engine::{MockEngine, MockOptions};

const ENGINES: u32 = 4;

async fn engines(
    prefix_affinity: bool,
    change: impl FnOnce(&mut MockOptions),
) -> (EngineClient, ShardClient, MockEngine) {
    let (input, output) = (loopback(), loopback());
    let [to_input, to_output] =
        [&input, &output].map(|listener| listener.address().expect("bound"));
    let mut options = MockOptions::direct(to_input, to_output);
    (options.engines, options.prefix_cache) = (ENGINES, true);
    change(&mut options);
    let mut config = TransportConfig::new(input, output);
    (config.engine_count, config.prefix_affinity) = (ENGINES, prefix_affinity);
    let engine = MockEngine::spawn(options);
    let client = EngineClient::connect(config).await.expect("they register");
    let shard = client.shard();
    (client, shard, engine)
}

fn prompt(ids: impl IntoIterator<Item = u32>, max_tokens: u64) -> EngineCoreRequest {
    EngineCoreRequest {
        prompt_token_ids: Some(ids.into_iter().collect()),
        ..request(max_tokens)
    }
}

/// The `turn`-th prompt of a conversation: a system prompt of 64 tokens that all have in common, then
/// 100 tokens of its own per turn.
fn turn(conversation: u32, turn: u32) -> EngineCoreRequest {
    let own = (0..100 * turn).map(|at| 1000 * conversation + 1000 + at);
    prompt((0..64).chain(own), 1)
}

/// Share of prompt tokens found in the engines' caches, over 21 conversations of 9 turns.
async fn hit_rate(prefix_affinity: bool) -> f64 {
    let (client, shard, _engines) = engines(prefix_affinity, |_| {}).await;
    let mut sent = 0;
    for at in 1..=9 {
        for conversation in 0..21 {
            let request = turn(conversation, at);
            sent += request.prompt_token_ids.as_ref().map_or(0, |ids| ids.len()) as u64;
            let mut stream = shard.submit(request).expect("engines are there");
            collect(&mut stream).await.expect("the engines are well");
        }
    }
    let sum = |pick: fn(&vllm_engine_client::EngineStats) -> u64| {
        client.stats().iter().map(pick).sum::<u64>()
    };
    eventually("all look-ups are told", || {
        sum(|stats| stats.prefix_cache_queries) == sent
    })
    .await;
    sum(|stats| stats.prefix_cache_hits) as f64 / sent as f64
}

#[test]
fn conversations_find_their_earlier_turns() {
    run(async {
        let (with, without) = (hit_rate(true).await, hit_rate(false).await);
        // The most there is to find: all but the turn of 100 tokens that is new, 0.79 of all tokens.
        assert!(with > 0.7, "with affinity {with:.2}, without {without:.2}");
        assert!(
            with > 1.15 * without,
            "with affinity {with:.2}, without {without:.2}"
        );
    });
}

fn counts(streams: &[OutputStream]) -> Vec<usize> {
    let count = |engine| {
        streams
            .iter()
            .filter(|s| s.engine_index() == engine)
            .count()
    };
    (0..ENGINES).map(count).collect()
}

#[test]
fn a_burst_of_one_prompt_is_shared_out_once_its_home_has_half_as_much_again() {
    run(async {
        let (_client, shard, _engines) = engines(true, |options| options.step_ms = 1.0).await;
        let submit = |_| {
            let request = prompt(0..200, 1_000_000);
            shard.submit(request).expect("engines are there")
        };
        let streams: Vec<_> = (0..100).map(submit).collect();
        let counts = counts(&streams);
        let (most, least) = (counts.iter().max(), counts.iter().min());
        let (most, least) = most.zip(least).expect("engines are there");
        assert!(*most > least + 1, "one has more than its share: {counts:?}");
        assert!(
            2 * (most - 1) < 3 * (least + 1),
            "but not half as much again: {counts:?}"
        );
    });
}

#[test]
fn short_prompts_have_no_home() {
    run(async {
        let (_client, shard, _engines) = engines(true, |options| options.step_ms = 1.0).await;
        let submit = |at: u32| {
            let request = prompt(at..at + 127, 1_000_000);
            shard.submit(request).expect("engines are there")
        };
        let streams: Vec<_> = (0..101).map(submit).collect();
        let counts = counts(&streams);
        assert!(
            counts.iter().all(|count| [25, 26].contains(count)),
            "{counts:?}"
        );
    });
}

#[test]
fn an_explicit_rank_decides_alone_and_a_lost_home_is_replaced() {
    run(async {
        let (_client, shard, _engines) = engines(true, |options| options.step_ms = 1.0).await;
        let home = shard
            .submit(prompt(0..200, 1))
            .expect("engines are there")
            .engine_index();
        for rank in 0..ENGINES {
            let named = EngineCoreRequest {
                data_parallel_rank: Some(rank),
                ..prompt(0..200, 1)
            };
            let stream = shard.submit(named).expect("engines are there");
            assert_eq!(stream.engine_index(), rank);
        }
        let again = shard.submit(prompt(0..290, 1)).expect("engines are there");
        assert_eq!(again.engine_index(), home);
    });
}
