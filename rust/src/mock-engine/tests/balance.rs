// SPDX-License-Identifier: Apache-2.0

//! Several engines behind one client: who gets what, and what the end of one does to the others.

mod common;

use std::collections::BTreeMap;
use std::sync::{Arc, Barrier};

use common::{collect, eventually, loopback, request, run, session, tokens};
use vllm_engine_client::{
    EngineClient, EngineCoreRequest, EngineFailure, EngineState, OutputStream, ShardClient,
    StreamError, TransportConfig,
};
use vllm_mock_engine::{Counters, MockEngine, MockOptions};

const ENGINES: u32 = 8;

fn submit(shard: &ShardClient, count: usize) -> Vec<OutputStream> {
    let submit = |_| shard.submit(request(1_000_000)).expect("engines are there");
    (0..count).map(submit).collect()
}

/// Requests per engine, of those that have any.
fn spread(streams: &[OutputStream]) -> BTreeMap<u32, usize> {
    let mut spread = BTreeMap::new();
    for stream in streams {
        *spread.entry(stream.engine_index()).or_default() += 1;
    }
    spread
}

fn assert_even(spread: &BTreeMap<u32, usize>, engines: u32) {
    let counts: Vec<usize> = (0..engines)
        .map(|engine| spread.get(&engine).copied().unwrap_or(0))
        .collect();
    let (most, least) = (counts.iter().max(), counts.iter().min());
    assert!(
        most.zip(least).is_some_and(|(m, l)| m - l <= 1),
        "{counts:?}"
    );
}

#[test]
fn bursts_are_spread_evenly_whatever_came_before() {
    run(async {
        let (client, shard, _engines) = session(|options| {
            (options.engines, options.step_ms, options.max_batch) = (ENGINES, 1.0, 4);
        })
        .await;
        for burst in [1, 7, 8, 9, 100, 3, 64, 65] {
            let mut streams = submit(&shard, burst);
            assert_even(&spread(&streams), ENGINES);
            // Some steps, so that statistics come in the middle; then all at once are stopped.
            for stream in &mut streams {
                if stream.engine_index() == 0 {
                    stream.next_batch().await.expect("the engines are well");
                    break;
                }
            }
            streams.extend(submit(&shard, burst));
            assert_even(&spread(&streams), ENGINES);
        }
        let in_flight = || {
            client
                .stats()
                .iter()
                .map(|stats| stats.in_flight)
                .sum::<u64>()
        };
        eventually("nothing in flight", || in_flight() == 0).await;
    });
}

#[test]
fn requests_that_were_just_stopped_weigh_nothing() {
    run(async {
        let (client, shard, engine) = session(|options| {
            (options.engines, options.step_ms) = (4, 1.0);
        })
        .await;
        let on_first = EngineCoreRequest {
            data_parallel_rank: Some(0),
            ..request(1_000_000)
        };
        let streams: Vec<_> = (0..20)
            .map(|_| shard.submit(on_first.clone()).expect("engines are there"))
            .collect();
        eventually("statistics", || client.stats()[0].running == 20).await;
        drop(streams);
        assert_even(&spread(&submit(&shard, 16)), 4);
        let counters = engine.counters();
        eventually("the end of all", || Counters::get(&counters.aborted) == 36).await;
        assert_even(&spread(&submit(&shard, 16)), 4);
    });
}

#[test]
fn equal_engines_take_turns() {
    run(async {
        let (_client, shard, _engines) = session(|options| options.engines = 3).await;
        let mut seen = Vec::new();
        for _ in 0..6 {
            let mut stream = shard.submit(request(1)).expect("engines are there");
            seen.push(stream.engine_index());
            collect(&mut stream).await.expect("the engines are well");
        }
        assert_eq!(seen[..3], seen[3..]);
        seen[..3].sort_unstable();
        assert_eq!(seen[..3], [0, 1, 2]);
    });
}

#[test]
fn shards_that_route_at_the_same_moment_spread_evenly_together() {
    run(async {
        let (client, _shard, engines) = session(|options| {
            (options.engines, options.step_ms, options.max_batch) = (ENGINES, 1.0, 4);
        })
        .await;
        // Streams are held until every shard has submitted and looked.
        let together = Arc::new(Barrier::new(4));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let (client, together) = (client.clone(), together.clone());
                std::thread::spawn(move || {
                    run(async {
                        let streams = submit(&client.shard(), 50);
                        together.wait();
                        let counts = client.stats();
                        let counts: Vec<_> = counts.iter().map(|s| s.in_flight).collect();
                        together.wait();
                        drop(streams);
                        counts
                    })
                })
            })
            .collect();
        let added = || Counters::get(&engines.counters().added);
        eventually("200 requests", || added() == 200).await;
        eventually("threads end", || threads.iter().all(|t| t.is_finished())).await;
        for thread in threads {
            let counts = thread.join().expect("nothing failed there");
            assert_eq!(counts, [25; ENGINES as usize]);
        }
    });
}

#[test]
fn the_end_of_one_engine_leaves_the_others_serving() {
    run(async {
        let (input, output) = (loopback(), loopback());
        let addresses = [&input, &output].map(|listener| listener.address().expect("bound"));
        let start = |index| {
            let mut options = MockOptions::direct(&addresses[0], &addresses[1]);
            (options.start_index, options.step_ms) = (index, 1.0);
            MockEngine::spawn(options)
        };
        let mut engines: Vec<_> = (0..3).map(start).collect();
        let mut config = TransportConfig::new(input, output);
        config.engine_count = 3;
        let client = EngineClient::connect(config).await.expect("they register");
        let shard = client.shard();
        let mut streams: Vec<_> = (0..30)
            .map(|_| shard.submit(request(200)).expect("engines are there"))
            .collect();
        for stream in &mut streams {
            stream.next_batch().await.expect("the engines are well");
        }
        drop(engines.remove(1));
        let lost = StreamError::Engine(EngineFailure::Disconnected { index: 1 });
        let mut ended = BTreeMap::new();
        for stream in &mut streams {
            let engine = stream.engine_index();
            let whole = match collect(stream).await {
                Ok(outputs) => Ok(outputs.last().and_then(|output| output.finish)),
                Err(error) => Err(error),
            };
            assert_eq!(whole.is_err(), engine == 1, "{engine}: {whole:?}");
            assert!(whole.is_ok() || whole == Err(lost.clone()));
            *ended.entry(engine).or_insert(0) += 1;
        }
        assert_eq!(ended, BTreeMap::from([(0, 10), (1, 10), (2, 10)]));
        assert!(client.health().is_ready());
        let next = submit(&shard, 10);
        assert_eq!(spread(&next), BTreeMap::from([(0, 5), (2, 5)]));
        drop(next);
        engines.push(start(1));
        let back = EngineCoreRequest {
            data_parallel_rank: Some(1),
            ..request(3)
        };
        eventually("engine 1 is back", || {
            let engines = client.health().engines;
            engines
                .iter()
                .all(|engine| engine.state == EngineState::Ready)
        })
        .await;
        let mut stream = shard.submit(back).expect("it is back");
        assert_eq!(tokens(&collect(&mut stream).await.expect("well")).len(), 3);
    });
}
