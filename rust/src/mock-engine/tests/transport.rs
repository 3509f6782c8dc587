// SPDX-License-Identifier: Apache-2.0

//! The client's transport against the double, over real sockets: streams, aborts, faults, routing.

mod common;

use std::time::Duration;

use common::{DEADLINE, collect, eventually, loopback, request, run, session, tokens, with_fault};
use rmpv::Value;
use vllm_engine_client::handshake::{HandshakeConfig, HandshakeOwner};
use vllm_engine_client::{
    ConnectError, EngineClient, EngineCoreRequest, EngineFailure, FinishReason, Listener,
    OutputStream, StreamError, SubmitError, TransportConfig, UtilityError,
};
use vllm_mock_engine::{Counters, MockEngine, MockOptions};

#[test]
fn a_stream_brings_every_token_in_order_and_then_ends() {
    run(async {
        let (client, shard, engine) =
            session(|options| options.tokens = vec![7, 300, 70_000]).await;
        let mut stream = shard.submit(request(5)).expect("an engine is there");
        let outputs = collect(&mut stream).await.expect("the engine is well");
        assert_eq!(tokens(&outputs), [7, 300, 70_000, 7, 300]);
        let first = &outputs[0];
        assert_eq!(
            first
                .prefill_stats
                .as_ref()
                .map(|stats| stats.num_prompt_tokens),
            Some(3)
        );
        assert!(first.timestamp > 0.0);
        assert_eq!(outputs[4].finish, Some(FinishReason::Length));
        assert_eq!(
            stream.next_batch().await,
            Ok(vec![]),
            "nothing comes after the end"
        );
        drop(stream);
        assert_eq!((shard.open_streams(), client.stats()[0].in_flight), (0, 0));
        assert_eq!(client.registration().max_model_len, 131_072);
        assert_eq!(Counters::get(&engine.counters().aborted), 0);
    });
}

/// A reader that shows nothing before the end is woken seldom, and misses nothing.
#[test]
fn a_reader_that_gathers_is_woken_for_the_first_the_last_and_many() {
    run(async {
        let (_client, shard, _engine) = session(|options| options.step_ms = 1.0).await;
        let mut stream = shard.submit(request(23)).expect("an engine is there");
        stream.gather(5);
        // A task of its own: nothing else polls it.
        let reading = tokio::task::spawn_local(async move {
            let mut batches = Vec::new();
            loop {
                let batch = stream.next_batch().await.expect("the engine is well");
                batches.push(batch.len());
                let last = batch.last().expect("not woken for nothing");
                if last.finish.is_some() {
                    return batches;
                }
            }
        });
        let batches = reading.await.expect("no panic");
        assert_eq!(batches.iter().sum::<usize>(), 23);
        let middle = &batches[1..batches.len() - 1];
        assert!(middle.iter().all(|length| *length >= 5), "{batches:?}");
    });
}

#[test]
fn a_thousand_streams_at_once_get_their_own_tokens() {
    run(async {
        let (_client, shard, _engine) = session(|options| options.tokens = vec![1, 2, 3]).await;
        let streams: Vec<_> = (0..1000)
            .map(|n| {
                (
                    n % 7 + 1,
                    shard
                        .submit(request(n % 7 + 1))
                        .expect("an engine is there"),
                )
            })
            .collect();
        for (count, mut stream) in streams {
            let outputs = collect(&mut stream).await.expect("the engine is well");
            assert_eq!(tokens(&outputs), [1, 2, 3].repeat(3)[..count as usize]);
        }
    });
}

#[test]
fn logprobs_arrive_inline_and_out_of_band() {
    run(async {
        let (_client, shard, _engine) = session(|_| {}).await;
        let mut asked = request(2);
        asked.prompt_token_ids = Some((0..200).collect());
        let params = asked.sampling_params.as_mut().expect("set");
        (params.logprobs, params.prompt_logprobs) = (Some(5), Some(1));
        let mut stream = shard.submit(asked).expect("an engine is there");
        let outputs = collect(&mut stream).await.expect("the engine is well");
        let prompt = outputs
            .iter()
            .find_map(|output| output.prompt_logprobs.as_ref());
        let prompt = prompt.expect("asked for");
        assert_eq!((prompt.rows(), prompt.width), (199, 2));
        let logprobs: Vec<_> = outputs.iter().filter_map(|o| o.logprobs.as_ref()).collect();
        assert_eq!(logprobs.len(), 2);
        assert_eq!((logprobs[0].rows(), logprobs[0].width), (1, 6));
        assert_eq!(logprobs[0].row(0)[0].token_id, tokens(&outputs)[0]);
    });
}

#[test]
fn dropping_a_stream_aborts_it_and_a_finished_one_does_not() {
    run(async {
        let (client, shard, engine) = session(|options| options.step_ms = 1.0).await;
        let mut finished = shard.submit(request(1)).expect("an engine is there");
        collect(&mut finished).await.expect("the engine is well");
        drop(finished);
        let mut open: Vec<_> = (0..3)
            .map(|_| {
                shard
                    .submit(request(1_000_000))
                    .expect("an engine is there")
            })
            .collect();
        for stream in &mut open {
            stream.next_batch().await.expect("the engine is well");
        }
        drop(open);
        let counters = engine.counters();
        eventually("three aborts", || Counters::get(&counters.aborted) == 3).await;
        eventually("nothing open", || Counters::get(&counters.open) == 0).await;
        assert_eq!((shard.open_streams(), client.stats()[0].in_flight), (0, 0));
    });
}

#[test]
fn messages_that_mean_nothing_disturb_nobody() {
    for fault in ["garbage@2", "empty@2", "tenth@2", "missing-stats@2"] {
        run(async {
            let (client, shard, _engine) = with_fault(fault).await;
            let mut stream = shard.submit(request(4)).expect("an engine is there");
            let outputs = collect(&mut stream).await.expect(fault);
            assert_eq!(tokens(&outputs).len(), 4, "{fault}");
            assert!(client.health().is_ready(), "{fault}");
        });
    }
}

#[test]
fn an_output_that_cannot_be_decoded_fails_its_request_alone() {
    for fault in ["bad-finish@3", "wrong-type@3"] {
        run(async {
            let (client, shard, engine) = session(|options| {
                options.step_ms = 1.0;
                options.fault.push(fault.parse().expect("a fault"));
            })
            .await;
            let mut streams: Vec<_> = (0..3)
                .map(|_| shard.submit(request(20)).expect("an engine is there"))
                .collect();
            let mut failures = 0;
            for stream in &mut streams {
                match collect(stream).await {
                    Ok(outputs) => assert_eq!(tokens(&outputs).len(), 20, "{fault}"),
                    Err(StreamError::Undecodable(_)) => failures += 1,
                    Err(other) => panic!("{fault}: {other}"),
                }
            }
            assert_eq!(failures, 1, "{fault}");
            assert!(client.health().is_ready(), "{fault}");
            // The engine is told to stop working on what nobody reads.
            let counters = engine.counters();
            eventually("an abort", || Counters::get(&counters.aborted) == 1).await;
        });
    }
}

#[test]
fn a_message_cut_in_half_fails_the_requests_it_names_and_no_later_one() {
    run(async {
        let (client, shard, _engine) = with_fault("truncated@2").await;
        let mut stream = shard.submit(request(5)).expect("an engine is there");
        assert!(matches!(
            collect(&mut stream).await,
            Err(StreamError::Undecodable(_))
        ));
        let mut next = shard.submit(request(5)).expect("the engine is still there");
        assert_eq!(
            tokens(&collect(&mut next).await.expect("a new request")).len(),
            5
        );
        assert!(client.health().is_ready());
    });
}

#[test]
fn an_engine_that_dies_fails_its_requests_at_once_and_takes_no_more() {
    for (fault, announced) in [("sentinel@3", true), ("die@3", false)] {
        run(async {
            let (client, shard, _engine) = with_fault(fault).await;
            let mut stream = shard
                .submit(request(1_000_000))
                .expect("an engine is there");
            let error = collect(&mut stream).await.expect_err(fault);
            let failure = match announced {
                true => EngineFailure::Died { index: 0 },
                false => EngineFailure::Disconnected { index: 0 },
            };
            assert_eq!(error, StreamError::Engine(failure));
            let health = client.health();
            assert!(!health.is_ready() && health.failure().is_some());
            assert!(matches!(
                shard.submit(request(1)),
                Err(SubmitError::NoEngine(_))
            ));
            let call = client.utility("is_sleeping", vec![], DEADLINE).await;
            assert_eq!(
                call,
                Err(UtilityError::NoEngine {
                    method: "is_sleeping".into()
                })
            );
        });
    }
}

#[test]
fn an_engine_that_comes_back_is_taken_in_again() {
    run(async {
        let (client, shard, _engine) = with_fault("disconnect@3").await;
        let mut stream = shard
            .submit(request(1_000_000))
            .expect("an engine is there");
        let error = collect(&mut stream).await.expect_err("its engine left");
        assert_eq!(
            error,
            StreamError::Engine(EngineFailure::Disconnected { index: 0 })
        );
        eventually("ready again", || client.health().is_ready()).await;
        let mut next = shard.submit(request(5)).expect("the engine is back");
        assert_eq!(
            tokens(&collect(&mut next).await.expect("a new request")).len(),
            5
        );
    });
}

#[test]
fn utility_calls_reach_every_engine_and_report_failures() {
    run(async {
        let (client, _shard, _engine) = session(|options| options.engines = 3).await;
        let asleep = client.utility("is_sleeping", vec![], DEADLINE).await;
        assert_eq!(asleep, Ok(vec![Value::Boolean(false); 3]));
        let unknown = client.utility("fly", vec![1.into()], DEADLINE).await;
        let Err(UtilityError::Failed { message, .. }) = unknown else {
            panic!("{unknown:?}")
        };
        assert!(message.contains("fly"));
    });
}

#[test]
fn a_utility_call_to_a_silent_engine_times_out() {
    run(async {
        let (client, shard, _engine) = with_fault("silent@1").await;
        let stream = shard.submit(request(5)).expect("an engine is there");
        let limit = Duration::from_millis(50);
        // It answers until its first step.
        let error = loop {
            if let Err(error) = client.utility("is_sleeping", vec![], limit).await {
                break error;
            }
        };
        assert!(
            matches!(error, UtilityError::Timeout { index: 0, .. }),
            "{error}"
        );
        drop(stream);
    });
}

#[test]
fn requests_are_dealt_out_and_ranks_are_obeyed() {
    run(async {
        let (client, shard, _engine) = session(|options| {
            (options.engines, options.start_index, options.step_ms) = (3, 4, 1.0);
        })
        .await;
        let streams: Vec<_> = (0..6)
            .map(|_| shard.submit(request(1_000_000)).expect("engines are there"))
            .collect();
        let mut engines: Vec<u32> = streams.iter().map(OutputStream::engine_index).collect();
        engines.sort_unstable();
        assert_eq!(engines, [4, 4, 5, 5, 6, 6]);
        let ranked = |rank| EngineCoreRequest {
            data_parallel_rank: Some(rank),
            ..request(1)
        };
        let mut chosen = shard.submit(ranked(5)).expect("rank 5 exists");
        assert_eq!(chosen.engine_index(), 5);
        collect(&mut chosen).await.expect("the engine is well");
        let unknown = shard.submit(ranked(3)).err();
        assert_eq!(
            unknown,
            Some(SubmitError::NoSuchRank {
                rank: 3,
                start: 4,
                end: 6
            })
        );
        drop(streams);
        assert_eq!(client.registration().engines.len(), 3);
    });
}

#[test]
fn shards_on_other_threads_get_their_own_outputs() {
    run(async {
        let (client, shard, engine) = session(|_| {}).await;
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let client = client.clone();
                std::thread::spawn(move || {
                    run(async {
                        let shard = client.shard();
                        for _ in 0..20 {
                            let mut stream = shard.submit(request(9)).expect("an engine is there");
                            let outputs = collect(&mut stream).await.expect("well");
                            assert_eq!(tokens(&outputs).len(), 9);
                        }
                    });
                })
            })
            .collect();
        let counters = engine.counters();
        eventually("60 answers", || Counters::get(&counters.finished) == 60).await;
        // Joining a thread that still waits for this one would block its transport.
        eventually("threads end", || {
            threads.iter().all(|thread| thread.is_finished())
        })
        .await;
        threads
            .into_iter()
            .for_each(|thread| thread.join().expect("no assertion failed"));
        assert_eq!(shard.open_streams(), 0);
    });
}

#[test]
fn the_handshake_tells_engines_where_to_connect() {
    run(async {
        let (input, output) = (loopback(), loopback());
        let mut handshake = HandshakeOwner::start(HandshakeConfig {
            listener: loopback(),
            engine_start_index: 0,
            engine_count: 2,
            input: input.address().expect("bound"),
            output: output.address().expect("bound"),
        })
        .await
        .expect("the listener is good");
        let mut options = MockOptions::handshake(handshake.address());
        options.engines = 2;
        let _engine = MockEngine::spawn(options);
        let mut config = TransportConfig::new(input, output);
        config.engine_count = 2;
        let client = EngineClient::connect(config).await.expect("both register");
        handshake
            .wait_ready(DEADLINE)
            .await
            .expect("both get ready");
        let mut stream = client
            .shard()
            .submit(request(2))
            .expect("engines are there");
        collect(&mut stream).await.expect("the engine is well");
    });
}

#[test]
fn unix_sockets_serve_as_well() {
    let folder = std::env::temp_dir().join(format!("vllm-wire-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("the temporary folder is writable");
    let bind = |name: &str| {
        let address = format!("ipc://{}", folder.join(name).display());
        Listener::bind(&address).expect("the path is free")
    };
    run(async {
        let (input, output) = (bind("i"), bind("o"));
        let address = |listener: &Listener| listener.address().expect("bound");
        let options = MockOptions::direct(address(&input), address(&output));
        let _engine = MockEngine::spawn(options);
        let connected = EngineClient::connect(TransportConfig::new(input, output)).await;
        let client = connected.expect("the double registers");
        let mut stream = client
            .shard()
            .submit(request(3))
            .expect("an engine is there");
        let outputs = collect(&mut stream).await.expect("the engine is well");
        assert_eq!(tokens(&outputs).len(), 3);
    });
    std::fs::remove_dir_all(&folder).expect("the folder is ours");
}

#[test]
fn missing_engines_are_named() {
    run(async {
        let mut config = TransportConfig::new(loopback(), loopback());
        (config.engine_start_index, config.engine_count) = (2, 2);
        config.ready_timeout = Duration::from_millis(20);
        let error = EngineClient::connect(config)
            .await
            .err()
            .expect("nobody registers");
        assert!(matches!(&error, ConnectError::Timeout { missing, .. } if missing == &[2, 3]));
    });
}

#[test]
fn what_an_engine_would_refuse_never_reaches_it() {
    run(async {
        let (_client, shard, engine) = session(|_| {}).await;
        let mut bad = request(1);
        bad.sampling_params.as_mut().expect("set").temperature = 3.0;
        let error = shard.submit(bad).err().expect("refused");
        assert_eq!(error.to_string(), "temperature must be from 0 to 2, got 3");
        let mut good = shard.submit(request(1)).expect("an engine is there");
        collect(&mut good).await.expect("the engine is well");
        assert_eq!(Counters::get(&engine.counters().added), 1);
    });
}
