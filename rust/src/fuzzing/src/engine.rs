// SPDX-License-Identifier: Apache-2.0

//! A server with the tiny model, and an engine that says exactly what it was told to say.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::LocalSet;
use vllm_engine_client::protocol::{
    EngineCoreOutput, EngineCoreOutputs, EngineOutput, InputMessage, OutputsHeader, ReadyResponse,
    engine_identity,
};
use vllm_engine_client::{EngineClient, Listener as EngineListener, TransportConfig};
use vllm_server::{Listener, Model, Server, ServerConfig};
use vllm_zmtp::{Dealer, Push};

use crate::{PATIENCE, model};

/// What one engine request is answered with, output by output.
pub(crate) type Script = VecDeque<EngineOutput>;

/// The running pair. Lives as long as the process.
pub(crate) struct Pair {
    pub(crate) address: SocketAddr,
    scripts: Arc<Mutex<VecDeque<Script>>>,
}

impl Pair {
    /// Starts both on threads of their own.
    pub(crate) fn start() -> Self {
        let bind = || EngineListener::bind("tcp://127.0.0.1:0").expect("a loopback port");
        let (input, output) = (bind(), bind());
        let at = |listener: &EngineListener| listener.address().expect("bound");
        let planes = (at(&input), at(&output));
        let transport = TransportConfig {
            ready_timeout: PATIENCE,
            ..TransportConfig::new(input, output)
        };
        let scripts = Arc::new(Mutex::new(VecDeque::new()));
        let told = scripts.clone();
        std::thread::spawn(move || runtime().block_on(speak(planes, &told)));
        let (ready, started) = std::sync::mpsc::channel();
        std::thread::spawn(move || LocalSet::new().block_on(&runtime(), serve(transport, ready)));
        let address = started.recv_timeout(PATIENCE).expect("the server starts");
        Self { address, scripts }
    }

    /// Says how the next requests are answered, in the order in which the engine gets them.
    pub(crate) fn tell(&self, scripts: impl IntoIterator<Item = Script>) {
        let mut told = self.scripts.lock().unwrap_or_else(PoisonError::into_inner);
        told.clear();
        told.extend(scripts);
    }
}

fn runtime() -> tokio::runtime::Runtime {
    let built = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    built.expect("a runtime needs only an epoll descriptor")
}

async fn serve(transport: TransportConfig, ready: std::sync::mpsc::Sender<SocketAddr>) {
    let engine = EngineClient::connect(transport)
        .await
        .expect("the engine registers");
    let listener =
        Listener::bind("127.0.0.1:0".parse().expect("an address")).expect("a loopback port");
    let address = listener.address().expect("bound");
    let model = Model::load(&model::files(), "tiny".to_owned(), Vec::new()).expect("a sound model");
    let server =
        Server::start(ServerConfig::default(), model, engine, listener).expect("it listens");
    let address = address.trim_start_matches("http://").parse().expect("TCP");
    ready.send(address).expect("the target waits");
    std::future::pending::<()>().await;
    drop(server);
}

/// The engine: a step gives each running request its next output.
async fn speak((input, output): (String, String), scripts: &Mutex<VecDeque<Script>>) {
    let mut dealer = Dealer::connect(&input, &engine_identity(0))
        .await
        .expect("connects");
    let push = Push::connect(&output).await.expect("connects");
    let registration = ReadyResponse {
        max_model_len: 131_072,
        num_gpu_blocks: 65_536,
        block_size: 16,
        dtype: "bfloat16".to_owned(),
        vllm_version: "0.33.0+fuzz".to_owned(),
        max_num_seqs: 256,
        max_num_batched_tokens: 8192,
        ..ReadyResponse::default()
    };
    dealer
        .send(vec![registration.encode().into()])
        .await
        .expect("registers");
    let mut running: Vec<(String, Script)> = Vec::new();
    loop {
        let next = if running.is_empty() {
            dealer.recv().await
        } else {
            dealer.try_recv()
        };
        match next.map(InputMessage::decode) {
            Some(Ok(InputMessage::Add(request))) => {
                let script = scripts
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .pop_front();
                running.push((
                    request.request_id,
                    script.expect("a request that was announced"),
                ));
                continue;
            }
            Some(Ok(InputMessage::Abort(ids))) => running.retain(|(id, _)| !ids.contains(id)),
            Some(_) => {}
            None if running.is_empty() => return,
            None => {}
        }
        let outputs = running.iter_mut().filter_map(|(id, script)| {
            let output = script.pop_front()?;
            Some(EngineCoreOutput {
                request_id: id.clone(),
                output,
            })
        });
        let step = EngineCoreOutputs {
            header: OutputsHeader::default(),
            outputs: outputs.collect(),
        };
        running.retain(|(_, script)| !script.is_empty());
        if !step.outputs.is_empty() {
            push.send(step.encode()).await.expect("the frontend reads");
        }
        tokio::task::yield_now().await;
    }
}
