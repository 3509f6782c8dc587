// SPDX-License-Identifier: Apache-2.0

//! The busy loop: take messages, schedule, answer.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rmpv::Value;
use tokio::time::Instant;
use vllm_engine_client::protocol::{
    DEATH_SENTINEL, EngineCoreOutput, EngineCoreOutputs, EngineError, EngineOutput, FinishReason,
    InputMessage, UtilityOutput, UtilityRequest, request_id_of, utility_call_of,
};
use vllm_zmtp::Message;

use crate::Counters;
use crate::fault::FaultKind;
use crate::options::MockOptions;
use crate::orders::Order;
use crate::requests::{Request, Requests};
use crate::session::Connection;
use crate::step::StepWriter;

/// Time for the last message to leave before sockets are closed.
const LINGER: Duration = Duration::from_millis(100);

/// Why the loop ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The frontend closed its side.
    Left,
    /// A fault ended the engine.
    Died,
    /// A fault closed the sockets; the engine comes back.
    Reconnect,
}

pub(crate) struct Engine {
    options: Arc<MockOptions>,
    counters: Arc<Counters>,
    connection: Connection,
    requests: Requests,
    writer: StepWriter,
    index: u32,
    steps: u64,
    /// Requests as counted last.
    open: u64,
    started: Instant,
}

impl Engine {
    pub(crate) fn new(
        index: u32,
        options: Arc<MockOptions>,
        counters: Arc<Counters>,
        connection: Connection,
    ) -> Self {
        let writer = StepWriter::new(index, options.tokens.clone(), !options.no_stats);
        Self {
            options,
            counters,
            connection,
            requests: Requests::default(),
            writer,
            index,
            steps: 0,
            open: 0,
            started: Instant::now(),
        }
    }

    pub(crate) async fn run(&mut self) -> Ended {
        let mut due = Instant::now();
        loop {
            let ended = match self.wait(due).await {
                Some(ended) => Some(ended),
                None => self.step_if_any().await,
            };
            self.count_open();
            if let Some(ended) = ended {
                return ended;
            }
            // A step that came late doesn't make the next one early.
            due = (due + self.options.step()).max(Instant::now());
        }
    }

    /// The engines of a process share the counter.
    fn count_open(&mut self) {
        let open = self.requests.len() as u64;
        // Wraps around where it shrinks.
        Counters::add(&self.counters.open, open.wrapping_sub(self.open));
        self.open = open;
    }

    /// Handles messages until a step is due and there is something to do.
    async fn wait(&mut self, due: Instant) -> Option<Ended> {
        loop {
            while let Some(message) = self.connection.dealer.try_recv() {
                self.handle(message).await;
            }
            self.requests.schedule(self.options.max_batch);
            self.count_open();
            let pause = match self.requests.running.is_empty() {
                false => due.saturating_duration_since(Instant::now()),
                true => self.requests.idle_for().unwrap_or(Duration::MAX),
            };
            if pause.is_zero() {
                return None;
            }
            let pause = pause.min(Duration::from_secs(3600));
            tokio::select! {
                biased;
                message = self.connection.dealer.recv() => match message {
                    Some(message) => self.handle(message).await,
                    None => return Some(Ended::Left),
                },
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn step_if_any(&mut self) -> Option<Ended> {
        if self.requests.running.is_empty() {
            return None;
        }
        self.steps += 1;
        let mut planned = self.options.fault.iter();
        let planned = planned.find(|fault| fault.step == self.steps);
        let order = planned.map(|fault| Order::Fault(fault.kind));
        let fault = match order.or_else(|| self.options.orders.take(self.index)) {
            Some(Order::Fault(kind)) => Some(kind),
            Some(Order::Finish) => {
                self.requests.finish();
                None
            }
            None => None,
        };
        if let Some(ended) = self.end_by(fault).await {
            return Some(ended);
        }
        self.send_prompt_logprobs().await;
        let tokens = self.requests.running.len() as u64;
        let timestamp = self.started.elapsed().as_secs_f64();
        let (message, finished) = self.writer.step(&mut self.requests, timestamp, fault);
        Counters::add(&self.counters.steps, 1);
        Counters::add(&self.counters.tokens, tokens);
        Counters::add(&self.counters.finished, finished);
        self.send(vec![message.into()]).await;
        // Lets the writer and the reader run when the engine itself never waits.
        tokio::task::yield_now().await;
        None
    }

    /// Carries out the faults that are not about the step's own message.
    async fn end_by(&mut self, fault: Option<FaultKind>) -> Option<Ended> {
        match fault? {
            FaultKind::Die => return Some(Ended::Died),
            FaultKind::Disconnect => return Some(Ended::Reconnect),
            FaultKind::Sentinel => {
                self.send(vec![Bytes::from_static(DEATH_SENTINEL)]).await;
                tokio::time::sleep(LINGER).await;
                return Some(Ended::Died);
            }
            FaultKind::Silent => std::future::pending::<()>().await,
            FaultKind::Stall => return self.stall().await,
            FaultKind::Garbage => self.send(vec![Bytes::from_static(&[0xc1, 0xff, 7])]).await,
            // [0, [], nil, 1.0]
            FaultKind::Empty => {
                let empty = [0x94, 0, 0x90, 0xc0, 0xca, 0x3f, 0x80, 0, 0];
                self.send(vec![empty.to_vec().into()]).await;
            }
            _ => {}
        }
        None
    }

    /// Reads and answers nothing until an ABORT comes; then all of it, in order.
    async fn stall(&mut self) -> Option<Ended> {
        let mut unread = Vec::new();
        loop {
            let Some(message) = self.connection.dealer.recv().await else {
                return Some(Ended::Left);
            };
            let is_abort = message.first().is_some_and(|kind| kind.as_ref() == [1]);
            unread.push(message);
            if is_abort {
                break;
            }
        }
        for message in unread {
            self.handle(message).await;
        }
        None
    }

    async fn send_prompt_logprobs(&mut self) {
        let mut messages = Vec::new();
        for request in &mut self.requests.running {
            if let Some(count) = request.prompt_logprobs.take() {
                messages.push(self.writer.prompt_logprobs(request, count));
            }
        }
        for message in messages {
            self.send(message).await;
        }
    }

    async fn send(&mut self, frames: Vec<Bytes>) {
        if let Err(error) = self.connection.push.send(frames).await {
            tracing::debug!(%error, "an output could not be sent");
        }
    }

    async fn handle(&mut self, frames: Message) {
        let (kind, payload) = (frames.first().cloned(), frames.get(1).cloned());
        match InputMessage::decode(frames) {
            Ok(InputMessage::Add(request)) => self.add(*request).await,
            Ok(InputMessage::Abort(ids)) => self.abort(&ids),
            Ok(InputMessage::Utility(call)) => self.answer(call).await,
            Ok(InputMessage::StartDpWave(_)) => {}
            Err(error) => {
                tracing::warn!(%error, "a message from the frontend can't be decoded");
                let (kind, payload) = (kind.unwrap_or_default(), payload.unwrap_or_default());
                self.answer_broken(&kind, &payload, error.to_string()).await;
            }
        }
    }

    /// Answers what can be made out of a message that can't be decoded.
    async fn answer_broken(&mut self, kind: &[u8], payload: &[u8], error: String) {
        match kind {
            [0] => {
                if let Some(id) = request_id_of(payload) {
                    self.refuse(id, error).await;
                }
            }
            [3] => {
                if let Some((_, call_id)) = utility_call_of(payload) {
                    self.reply(call_id, Err(error)).await;
                }
            }
            _ => {}
        }
    }

    async fn add(&mut self, request: vllm_engine_client::EngineCoreRequest) {
        let checked = request
            .sampling_params
            .as_ref()
            .map_or(Ok(()), |params| params.validate());
        if let Err(error) = checked {
            return self.refuse(request.request_id, error.to_string()).await;
        }
        Counters::add(&self.counters.added, 1);
        let found = self.options.prefix_cache;
        let found = found.then(|| self.requests.prefixes.look_up(&request));
        let mut request = Request::new(request, &self.options);
        request.cached_tokens = found.unwrap_or(request.cached_tokens);
        self.requests.add(request);
    }

    fn abort(&mut self, ids: &[String]) {
        let gone = ids.iter().filter(|id| self.requests.abort(id)).count();
        Counters::add(&self.counters.aborted, gone as u64);
    }

    async fn refuse(&mut self, request_id: String, message: String) {
        Counters::add(&self.counters.refused, 1);
        let error = EngineError {
            code: "validation_error".into(),
            message,
            retryable: false,
        };
        let output = EngineOutput {
            finish: Some(FinishReason::Error),
            error: Some(Box::new(error)),
            ..EngineOutput::default()
        };
        let outputs = vec![EngineCoreOutput { request_id, output }];
        self.send(
            EngineCoreOutputs {
                header: self.writer.header(),
                outputs,
            }
            .encode(),
        )
        .await;
    }

    async fn answer(&mut self, call: UtilityRequest) {
        Counters::add(&self.counters.calls, 1);
        let result = utility_result(&call, self.index);
        self.reply(call.call_id, result).await;
    }

    async fn reply(&mut self, call_id: i128, result: Result<Value, String>) {
        let mut header = self.writer.header();
        header.utility_output = Some(Box::new(UtilityOutput { call_id, result }));
        let message = EngineCoreOutputs {
            header,
            outputs: vec![],
        };
        self.send(message.encode()).await;
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        Counters::add(&self.counters.open, self.open.wrapping_neg());
    }
}

/// Answers of an engine that is always awake and has nothing to reset.
fn utility_result(call: &UtilityRequest, index: u32) -> Result<Value, String> {
    match call.method.as_str() {
        "is_sleeping" | "is_scheduler_paused" => Ok(Value::Boolean(false)),
        "reset_prefix_cache" | "wake_up" => Ok(Value::Boolean(true)),
        "get_supported_tasks" => Ok(Value::Array(vec!["generate".into()])),
        "get_weight_version" => Ok("default".into()),
        "sleep"
        | "pause_generation"
        | "resume_scheduler"
        | "profile"
        | "reset_mm_cache"
        | "reset_encoder_cache"
        | "release_kv_cache_memory"
        | "set_weight_version" => Ok(Value::Nil),
        method => Err(format!("mock engine {index} has no method {method:?}")),
    }
}
