// SPDX-License-Identifier: Apache-2.0

//! A stream of server-sent events: polls the choices directly, no task and no channel in between.

use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Poll};

use vllm_openai::ApiError;

use super::envelope::ChunkWriter;
use super::keep_alive::{self, KeepAlive};
use super::pooled::{self, Chunk};
use crate::generation::Generation;
use crate::injection;

/// The body of a streamed answer.
pub struct SseBody {
    /// Gone once the stream ended.
    generation: Option<Generation>,
    writer: ChunkWriter,
    include_usage: bool,
    keep_alive: Option<KeepAlive>,
}

impl SseBody {
    /// A stream whose first event arrived, or the error that came instead of it.
    pub async fn start(
        generation: Generation,
        writer: ChunkWriter,
        include_usage: bool,
    ) -> Result<Self, ApiError> {
        let period = generation.facts.app.shared.config.sse_keep_alive;
        let mut body = Self {
            keep_alive: period.map(KeepAlive::every),
            generation: Some(generation),
            writer,
            include_usage,
        };
        std::future::poll_fn(|cx| body.poll_start(cx)).await?;
        Ok(body)
    }

    fn poll_start(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ApiError>> {
        match self.advance(cx) {
            Some(Err(error)) if self.writer.buffer.is_empty() => return Poll::Ready(Err(error)),
            Some(end) => self.finish(end),
            None => {}
        }
        if self.writer.buffer.is_empty() {
            Poll::Pending
        } else {
            Poll::Ready(Ok(()))
        }
    }

    /// The next chunk: everything that is ready, in one piece.
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk, Infallible>>> {
        let events = self.gather(cx);
        if !events.is_empty() {
            return Poll::Ready(Some(Ok(Chunk::Pooled(events, 0))));
        }
        pooled::give(events);
        if self.is_over() {
            Poll::Ready(None)
        } else {
            Poll::Pending
        }
    }

    /// Everything that is ready, in a pooled buffer; empty when there is nothing. Whoever waits is woken by what comes
    /// next.
    pub fn gather(&mut self, cx: &mut Context<'_>) -> Vec<u8> {
        if self.writer.buffer.capacity() == 0 {
            self.writer.buffer = pooled::take();
        }
        if let Some(end) = self.advance(cx) {
            self.finish(end);
        }
        let mut events = std::mem::take(&mut self.writer.buffer);
        if let Some(keep_alive) = self
            .keep_alive
            .as_mut()
            .filter(|_| self.generation.is_some())
        {
            if !events.is_empty() {
                keep_alive.spoke();
            }
            if keep_alive.poll(cx).is_ready() {
                events.extend_from_slice(keep_alive::COMMENT);
                // Starts to wait for the next one.
                let _ = keep_alive.poll(cx);
            }
        }
        events
    }

    /// What was ready at the start.
    pub fn first(&mut self) -> Chunk {
        Chunk::Pooled(std::mem::take(&mut self.writer.buffer), 0)
    }

    /// Whether more comes behind what is ready.
    pub fn goes_on(&self) -> bool {
        self.generation.is_some()
    }

    /// Whether everything was handed out.
    pub fn is_over(&self) -> bool {
        self.generation.is_none() && self.writer.buffer.is_empty()
    }

    /// Takes what is ready. `Some` when the stream is at its end. A panic ends this stream and no other.
    fn advance(&mut self, cx: &mut Context<'_>) -> Option<Result<(), ApiError>> {
        let generation = self.generation.as_mut()?;
        let writer = &mut self.writer;
        let poll = || {
            let end = generation.poll(cx, writer);
            if !writer.buffer.is_empty() {
                injection::in_stream(&generation.facts.id);
            }
            end
        };
        match catch_unwind(AssertUnwindSafe(poll)) {
            Ok(Poll::Pending) => None,
            Ok(Poll::Ready(end)) => Some(end),
            Err(_) => {
                tracing::error!(request = %generation.facts.id, "a panic ended a stream");
                Some(Err(ApiError::internal()))
            }
        }
    }

    fn finish(&mut self, end: Result<(), ApiError>) {
        let Some(generation) = self.generation.take() else {
            return;
        };
        match end {
            Ok(()) => {
                if self.include_usage {
                    self.writer.usage(generation.usage());
                }
                self.writer.done();
            }
            Err(error) => {
                self.writer.flush(&generation.facts);
                self.writer.error(&error);
            }
        }
    }
}
