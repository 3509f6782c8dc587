// SPDX-License-Identifier: Apache-2.0

//! Engines that stop answering, in every way an engine can, and come back or not.

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::{collect, eventually, loopback, request, run, tokens};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use vllm_engine_client::protocol::{
    EngineCoreOutputs, InputMessage, OutputsHeader, ReadyResponse, UtilityOutput, engine_identity,
};
use vllm_engine_client::{
    EngineClient, EngineCoreRequest, EngineFailure, Patience, ShardClient, StreamError,
    SubmitError, TransportConfig, UtilityError,
};
use vllm_mock_engine::{Counters, MockEngine, MockOptions};
use vllm_zmtp::command::{SocketType, opening};
use vllm_zmtp::frame::encode_message;
use vllm_zmtp::{Dealer, Push};

/// Long enough for a busy machine: doubles that are well must not be called silent.
const SILENCE: Duration = Duration::from_millis(500);
const HOUR: Duration = Duration::from_secs(3600);

fn patience(prompt: Duration) -> Patience {
    Patience {
        silence: SILENCE,
        prompt,
    }
}

fn unresponsive(limit: Duration) -> EngineFailure {
    EngineFailure::Unresponsive {
        index: 0,
        millis: limit.as_millis() as u64,
    }
}

/// A transport for `count` engines, and the addresses of its planes.
fn transport(count: u32, patience: Patience) -> (TransportConfig, String, String) {
    let (input, output) = (loopback(), loopback());
    let addresses = [&input, &output].map(|listener| listener.address().expect("bound"));
    let [to_input, to_output] = addresses;
    let mut config = TransportConfig::new(input, output);
    (config.engine_count, config.patience) = (count, patience);
    (config, to_input, to_output)
}

async fn doubles(
    patience: Patience,
    change: impl FnOnce(&mut MockOptions),
) -> (EngineClient, ShardClient, MockEngine) {
    let (mut config, input, output) = transport(1, patience);
    let mut options = MockOptions::direct(input, output);
    change(&mut options);
    config.engine_count = options.engines;
    let engine = MockEngine::spawn(options);
    let client = EngineClient::connect(config).await.expect("they register");
    let shard = client.shard();
    (client, shard, engine)
}

#[test]
fn a_silent_engine_fails_its_requests_and_the_others_go_on() {
    run(async {
        let (client, shard, _engine) = doubles(patience(HOUR), |options| {
            options.engines = 2;
            options.fault.push("silent@3".parse().expect("a fault"));
        })
        .await;
        let first = EngineCoreRequest {
            data_parallel_rank: Some(0),
            ..request(1_000_000)
        };
        let mut stream = shard.submit(first).expect("engines are there");
        let error = collect(&mut stream).await.expect_err("it falls silent");
        assert_eq!(error, StreamError::Engine(unresponsive(SILENCE)));
        assert!(client.health().is_ready(), "the other one is left");
        for _ in 0..2 {
            let mut next = shard.submit(request(1)).expect("an engine is left");
            assert_eq!(next.engine_index(), 1);
            collect(&mut next).await.expect("it is well");
        }
        let ranked = EngineCoreRequest {
            data_parallel_rank: Some(0),
            ..request(1)
        };
        let refused = shard.submit(ranked).err();
        assert_eq!(refused, Some(SubmitError::NoEngine(unresponsive(SILENCE))));
    });
}

#[test]
fn an_idle_engine_is_asked_and_stays() {
    run(async {
        let (client, shard, engine) = doubles(patience(HOUR), |_| {}).await;
        let calls = || Counters::get(&engine.counters().calls);
        eventually("some answers", || calls() >= 3).await;
        assert!(client.health().is_ready());
        let mut stream = shard.submit(request(3)).expect("the engine is there");
        assert_eq!(tokens(&collect(&mut stream).await.expect("well")).len(), 3);
    });
}

#[test]
fn an_engine_that_answers_again_is_taken_back_without_the_old_requests() {
    run(async {
        let (client, shard, engine) = doubles(patience(HOUR), |options| {
            options.fault.push("stall@3".parse().expect("a fault"));
        })
        .await;
        let mut stream = shard.submit(request(1_000_000)).expect("it is there");
        let error = collect(&mut stream).await.expect_err("it stalls");
        assert_eq!(error, StreamError::Engine(unresponsive(SILENCE)));
        // The abort that its failure brought about is what wakes it up.
        let counters = engine.counters();
        eventually("the abort", || Counters::get(&counters.aborted) == 1).await;
        eventually("ready again", || client.health().is_ready()).await;
        let mut next = shard.submit(request(5)).expect("the engine is back");
        assert_eq!(tokens(&collect(&mut next).await.expect("well")).len(), 5);
    });
}

#[test]
fn a_prompt_may_take_longer() {
    run(async {
        let long = 3 * SILENCE;
        let (_client, shard, _engine) = doubles(patience(long), |options| {
            options.fault.push("silent@1".parse().expect("a fault"));
        })
        .await;
        let mut stream = shard.submit(request(5)).expect("the engine is there");
        let error = collect(&mut stream).await.expect_err("it falls silent");
        assert_eq!(error, StreamError::Engine(unresponsive(long)));
    });
}

#[test]
fn a_call_that_takes_long_suspends_the_question() {
    run(async {
        let (client, shard, _engine) = doubles(patience(HOUR), |options| {
            options.fault.push("silent@2".parse().expect("a fault"));
        })
        .await;
        let mut stream = shard.submit(request(1_000_000)).expect("it is there");
        stream.next_batch().await.expect("the first step");
        let limit = 3 * SILENCE;
        let called = client.utility("wake_up", vec![], limit).await;
        // The second step is the silent one: the call may have been answered before it.
        if called.is_err() {
            assert!(
                matches!(called, Err(UtilityError::Timeout { .. })),
                "{called:?}"
            );
            assert!(client.health().is_ready(), "it was not given up meanwhile");
        }
        let error = collect(&mut stream).await.expect_err("it is silent");
        assert_eq!(error, StreamError::Engine(unresponsive(SILENCE)));
    });
}

fn registration(max_model_len: u64) -> Bytes {
    let frame = ReadyResponse {
        max_model_len,
        dtype: "bfloat16".to_owned(),
        ..ReadyResponse::default()
    };
    frame.encode().into()
}

/// Registers engine 0 by hand.
async fn register(input: &str, max_model_len: u64) -> Dealer {
    let dealer = Dealer::connect(input, &engine_identity(0)).await;
    let dealer = dealer.expect("it listens");
    let registered = dealer.send(vec![registration(max_model_len)]).await;
    registered.expect("connected");
    dealer
}

#[test]
fn a_stopped_process_is_noticed_by_its_socket_however_long_its_prompt_may_take() {
    run(async {
        let (config, input, _) = transport(1, patience(HOUR));
        // A program that is stopped after it registered: its kernel still takes bytes.
        let address = input.strip_prefix("tcp://").expect("TCP");
        let mut stopped = TcpStream::connect(address).await.expect("it listens");
        let mut bytes = opening(SocketType::Dealer, &engine_identity(0));
        encode_message(&mut bytes, &[registration(1000)]);
        stopped.write_all(&bytes).await.expect("connected");
        let client = EngineClient::connect(config).await.expect("registered");
        let shard = client.shard();
        let mut stream = shard.submit(request(5)).expect("it is there");
        let error = collect(&mut stream).await.expect_err("it is stopped");
        assert_eq!(error, StreamError::Engine(unresponsive(SILENCE)));
        let mut some = [0; 64];
        stopped.read_exact(&mut some).await.expect("it was greeted");
    });
}

/// Reads heartbeats and answers the first one.
async fn answer_one(dealer: &mut Dealer, push: &Push) {
    while let Some(message) = dealer.recv().await {
        if let Ok(InputMessage::Utility(call)) = InputMessage::decode(message) {
            assert_eq!(call.method, "is_sleeping");
            let reply = UtilityOutput {
                call_id: call.call_id,
                result: Ok(false.into()),
            };
            let header = OutputsHeader {
                utility_output: Some(Box::new(reply)),
                ..OutputsHeader::default()
            };
            let outputs = vec![];
            let message = EngineCoreOutputs { header, outputs }.encode();
            push.send(message).await.expect("connected");
            return;
        }
    }
    panic!("no heartbeat came");
}

#[test]
fn an_engine_whose_connection_broke_is_back_once_it_answers_on_a_new_one() {
    run(async {
        let (config, input, output) = transport(1, patience(HOUR));
        let (client, dealer) = tokio::join!(EngineClient::connect(config), register(&input, 1000));
        let client = client.expect("registered");
        let push = Push::connect(&output).await.expect("it listens");
        drop(dealer);
        eventually("lost", || !client.health().is_ready()).await;
        let lost = EngineFailure::Disconnected { index: 0 };
        assert_eq!(client.health().failure(), Some(&lost));
        // As ZeroMQ reconnects: the program did not start anew and does not register.
        let mut again = Dealer::connect(&input, &engine_identity(0))
            .await
            .expect("it listens");
        answer_one(&mut again, &push).await;
        eventually("back", || client.health().is_ready()).await;
    });
}

#[test]
fn an_engine_that_comes_back_smaller_is_refused_by_name() {
    run(async {
        let (config, input, output) = transport(1, patience(HOUR));
        let (client, dealer) = tokio::join!(EngineClient::connect(config), register(&input, 1000));
        let client = client.expect("registered");
        let push = Push::connect(&output).await.expect("it listens");
        drop(dealer);
        eventually("lost", || !client.health().is_ready()).await;
        let mut smaller = register(&input, 999).await;
        let refused = || {
            let health = client.health();
            matches!(
                health.failure(),
                Some(EngineFailure::Shrunk {
                    before: 1000,
                    now: 999,
                    ..
                })
            )
        };
        eventually("refused", refused).await;
        answer_one(&mut smaller, &push).await;
        drop(smaller);
        let same = register(&input, 1000).await;
        eventually("back", || client.health().is_ready()).await;
        drop(same);
    });
}

#[test]
fn the_limit_can_be_turned_off() {
    run(async {
        let (config, input, _) = transport(
            1,
            Patience {
                silence: Duration::ZERO,
                ..patience(HOUR)
            },
        );
        let (client, mut dealer) =
            tokio::join!(EngineClient::connect(config), register(&input, 1000));
        let client = client.expect("registered");
        let called = client.utility("is_sleeping", vec![], SILENCE).await;
        assert!(called.is_err(), "nobody answers");
        assert!(client.health().is_ready());
        // The call is the only message: no heartbeat came beside it.
        dealer.try_recv().expect("the call");
        assert_eq!(dealer.try_recv(), None);
    });
}
