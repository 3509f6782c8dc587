// SPDX-License-Identifier: Apache-2.0

//! A client and doubles on loopback, and waiting for states. Each test binary uses its own part.

#![allow(dead_code)]

use std::future::Future;
use std::time::Duration;

use vllm_engine_client::{
    EngineClient, EngineCoreRequest, EngineOutput, Listener, OutputStream, SamplingParams,
    ShardClient, StreamError, TransportConfig,
};
use vllm_mock_engine::{MockEngine, MockOptions};

/// Far beyond what anything here takes; only a hang reaches it.
pub const DEADLINE: Duration = Duration::from_secs(30);

pub fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime needs only an epoll descriptor");
    let local = tokio::task::LocalSet::new();
    let timed = async {
        tokio::time::timeout(DEADLINE, test)
            .await
            .expect("the test hangs")
    };
    local.block_on(&runtime, timed)
}

/// Waits for a state that another thread reaches.
pub async fn eventually(what: &str, mut state: impl FnMut() -> bool) {
    let waiting = async {
        while !state() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(DEADLINE / 2, waiting)
        .await
        .unwrap_or_else(|_| panic!("never: {what}"));
}

pub fn loopback() -> Listener {
    Listener::bind("tcp://127.0.0.1:0").expect("a loopback port is free")
}

pub async fn session(
    change: impl FnOnce(&mut MockOptions),
) -> (EngineClient, ShardClient, MockEngine) {
    let (input, output) = (loopback(), loopback());
    let address = |listener: &Listener| listener.address().expect("bound");
    let mut options = MockOptions::direct(address(&input), address(&output));
    change(&mut options);
    let mut config = TransportConfig::new(input, output);
    config.engine_count = options.engines;
    config.engine_start_index = options.start_index;
    let engine = MockEngine::spawn(options);
    let client = EngineClient::connect(config)
        .await
        .expect("the double registers");
    let shard = client.shard();
    (client, shard, engine)
}

pub async fn with_fault(fault: &str) -> (EngineClient, ShardClient, MockEngine) {
    session(|options| options.fault.push(fault.parse().expect("a fault"))).await
}

pub fn request(max_tokens: u64) -> EngineCoreRequest {
    EngineCoreRequest {
        prompt_token_ids: Some([1, 2, 3].into()),
        sampling_params: Some(SamplingParams {
            max_tokens: Some(max_tokens),
            ..SamplingParams::default()
        }),
        ..EngineCoreRequest::default()
    }
}

pub async fn collect(stream: &mut OutputStream) -> Result<Vec<EngineOutput>, StreamError> {
    let mut outputs: Vec<EngineOutput> = Vec::new();
    while outputs.last().is_none_or(|output| output.finish.is_none()) {
        outputs.extend(stream.next_batch().await?);
    }
    Ok(outputs)
}

pub fn tokens(outputs: &[EngineOutput]) -> Vec<u32> {
    outputs
        .iter()
        .flat_map(|output| output.new_token_ids.iter().copied())
        .collect()
}
