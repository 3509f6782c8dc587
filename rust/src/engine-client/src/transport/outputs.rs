// SPDX-License-Identifier: Apache-2.0

//! What a message of the output plane means, and whose it is.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use vllm_zmtp::Message;

use super::Connection;
use crate::client::start_call;
use crate::error::{EngineFailure, StreamError};
use crate::inbox::Routed;
use crate::protocol::{DecodeError, Frames, OutputsHeader, UtilityOutput, decode_outputs};
use crate::request_id::RequestKey;
use crate::state::Shared;
use crate::utility::beat_of;

/// After a death message that several engines could have sent, each must answer a call in time.
const DEATH_PROBE: Duration = Duration::from_secs(5);

impl Connection {
    /// Shards are added at any time, never removed.
    pub(super) fn take_shards(&mut self) {
        let (inboxes, batches) = (&mut self.inboxes, &mut self.batches);
        self.shared.each_shard(|at, inbox| {
            if at >= inboxes.len() {
                inboxes.push(inbox.clone());
                batches.push(Vec::new());
            }
        });
    }

    pub(super) fn on_message(&mut self, message: Message) {
        let frames = Frames::new(message);
        if frames.is_death_sentinel() {
            return self.on_death();
        }
        let marks: smallvec::SmallVec<[usize; 8]> =
            self.batches.iter().map(|batch| batch.len()).collect();
        let (shared, batches) = (&self.shared, &mut self.batches);
        let decoded = decode_outputs(&frames, |id, output| {
            let item = output.map_err(undecodable);
            match shared.nonce.key(id) {
                Some(key) => route(batches, key, item),
                None => tracing::debug!("an output for a request of another frontend"),
            }
        });
        match decoded {
            Ok(header) => self.on_header(header, &marks),
            Err(error) => self.on_broken(&frames, error, &marks),
        }
    }

    fn on_header(&mut self, header: OutputsHeader, marks: &[usize]) {
        let mut tokens = 0;
        for (batch, mark) in self.batches.iter_mut().zip(marks) {
            for output in batch[*mark..]
                .iter_mut()
                .filter_map(|routed| routed.item.as_mut().ok())
            {
                output.timestamp = header.timestamp;
                tokens += output.step_tokens();
            }
        }
        if let Some(at) = self.shared.position(header.engine_index) {
            let stats = header.scheduler_stats.as_deref();
            self.shared.engines[at].record(tokens, stats, header.weight_version);
            self.on_sign(at, false);
        }
        if let Some(reply) = header.utility_output {
            self.on_reply(*reply);
        }
        if header.wave_complete.is_some() || header.start_wave.is_some() {
            tracing::debug!("ignoring a wave message: the coordinator is not supported yet");
        }
    }

    fn on_reply(&mut self, reply: UtilityOutput) {
        match beat_of(reply.call_id) {
            Some(at) if at < self.shared.engines.len() => self.on_sign(at, true),
            _ => self.shared.calls.answer(reply),
        }
    }

    /// A message whose structure is broken fails the requests it names and that it did not serve.
    fn on_broken(&mut self, frames: &Frames, error: DecodeError, marks: &[usize]) {
        tracing::error!(%error, bytes = frames.payload().len(), "an engine message is broken");
        let served: HashSet<(u8, u32)> = self
            .batches
            .iter()
            .zip(marks)
            .enumerate()
            .flat_map(|(at, (batch, mark))| {
                batch[*mark..]
                    .iter()
                    .map(move |routed| (at as u8, routed.slot))
            })
            .collect();
        let named: HashSet<RequestKey> = self.shared.nonce.find_keys(frames.payload()).collect();
        for key in named
            .into_iter()
            .filter(|key| !served.contains(&(key.shard, key.slot)))
        {
            route(&mut self.batches, key, Err(undecodable(error.clone())));
        }
    }

    /// The farewell carries no name. With several engines each is asked for a sign of life.
    fn on_death(&mut self) {
        if self.shared.engines.len() > 1 {
            tokio::spawn(probe(self.shared.clone()));
            return;
        }
        let failure = EngineFailure::Died {
            index: self.shared.engines[0].index,
        };
        tracing::error!("{failure}");
        self.shared.fail_engine(0, failure);
    }
}

fn undecodable(error: DecodeError) -> StreamError {
    tracing::warn!(%error, "an engine output can't be decoded");
    StreamError::Undecodable(error)
}

fn route(
    batches: &mut [Vec<Routed>],
    key: RequestKey,
    item: Result<crate::EngineOutput, StreamError>,
) {
    if let Some(batch) = batches.get_mut(usize::from(key.shard)) {
        batch.push(Routed {
            slot: key.slot,
            generation: key.generation,
            item,
        });
    }
}

async fn probe(shared: Arc<Shared>) {
    let alive = (0..shared.engines.len()).filter(|at| shared.engines[*at].is_alive());
    let calls = alive.map(|at| {
        let shared = shared.clone();
        async move {
            let mut call = start_call(&shared, at, "is_sleeping", &[]);
            let answered = tokio::time::timeout(DEATH_PROBE, &mut call.reply).await;
            if !matches!(answered, Ok(Ok(_))) {
                let failure = EngineFailure::Died {
                    index: shared.engines[at].index,
                };
                tracing::error!("{failure}");
                shared.fail_engine(at, failure);
            }
        }
    });
    futures_util::future::join_all(calls).await;
}
