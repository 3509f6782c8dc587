// SPDX-License-Identifier: Apache-2.0

//! Bodies in both directions: requests within their limits, answers whole or streamed.

use std::convert::Infallible;
use std::error::Error as _;
use std::io::ErrorKind;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use vllm_openai::ApiError;

use crate::emit::pooled::Chunk;
use crate::emit::sse::SseBody;

/// Parts of a whole answer: the connection copies them one by one, and its buffer stays small.
const PART: usize = 16 << 10;

/// The body of an answer.
pub enum Body {
    /// All of it; `None` once it was handed out.
    Whole(Option<Bytes>),
    /// Server-sent events.
    Stream(Box<SseBody>),
    /// The first of the events whose others are written by `streaming`; `None` once it was handed out.
    Begun(Option<Chunk>),
}

impl Body {
    /// A body from bytes.
    pub fn whole(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self::Whole((!bytes.is_empty()).then_some(bytes))
    }
}

impl HttpBody for Body {
    type Data = Chunk;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Chunk>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(bytes) => {
                Poll::Ready(part(bytes).map(|part| Ok(Frame::data(Chunk::Whole(part)))))
            }
            Self::Stream(body) => body
                .poll_chunk(cx)
                .map(|chunk| chunk.map(|chunk| chunk.map(Frame::data))),
            // Nothing wakes hyper: the connection leaves it before it asks again.
            Self::Begun(first) => first.take().map_or(Poll::Pending, |first| {
                Poll::Ready(Some(Ok(Frame::data(first))))
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Stream(body) => body.is_over(),
            Self::Begun(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Self::Stream(_) | Self::Begun(_) => SizeHint::default(),
        }
    }
}

/// The next part of an answer, none behind the last.
fn part(rest: &mut Option<Bytes>) -> Option<Bytes> {
    let bytes = rest.as_mut()?;
    if bytes.len() > PART {
        return Some(bytes.split_to(PART));
    }
    rest.take()
}

/// Reads a request's body, at most `limit` bytes; each part must come within `patience`.
pub async fn read(mut body: Incoming, limit: usize, patience: Duration) -> Result<Bytes, ApiError> {
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large(limit));
    }
    let first = match next(&mut body, patience).await? {
        None => return Ok(Bytes::new()),
        Some(first) => first,
    };
    if first.len() <= limit && body.is_end_stream() {
        return Ok(first);
    }
    let mut whole = BytesMut::from(first);
    while whole.len() <= limit {
        match next(&mut body, patience).await? {
            None => return Ok(whole.freeze()),
            Some(part) => whole.extend_from_slice(&part),
        }
    }
    Err(too_large(limit))
}

/// The next part; trailers are skipped.
async fn next(body: &mut Incoming, patience: Duration) -> Result<Option<Bytes>, ApiError> {
    loop {
        let frame = tokio::time::timeout(patience, body.frame()).await;
        match frame {
            Err(_) => {
                return Err(ApiError::new(
                    408,
                    "invalid_request_error",
                    "The request body did not arrive in time.",
                ));
            }
            Ok(None) => return Ok(None),
            Ok(Some(Err(error))) => return Err(unreadable(&error)),
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// A body that ended too early, or chunks that are none.
fn unreadable(error: &hyper::Error) -> ApiError {
    let cause = error.source().and_then(|cause| cause.downcast_ref());
    let kind = cause.map(std::io::Error::kind);
    if matches!(kind, Some(ErrorKind::InvalidInput | ErrorKind::InvalidData)) {
        return ApiError::bad_request(
            "The request body is not in the chunks that `Transfer-Encoding: chunked` announces: each is its size in \
             hexadecimal, a line break, so many bytes, and a line break.",
        );
    }
    ApiError::bad_request("The request body broke off.")
}

fn too_large(limit: usize) -> ApiError {
    ApiError::new(
        413,
        "invalid_request_error",
        format!(
            "The request body is larger than {limit} bytes, the most that this server accepts."
        ),
    )
    .with_code("body_too_large")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_answer_goes_out_in_parts() {
        for (length, parts) in [(1, 1), (PART, 1), (PART + 1, 2), (3 * PART, 3)] {
            let whole = Bytes::from((0..length).map(|at| at as u8).collect::<Vec<u8>>());
            let mut rest = Some(whole.clone());
            let taken: Vec<Bytes> = std::iter::from_fn(|| part(&mut rest)).collect();
            assert_eq!((taken.len(), taken.concat()), (parts, whole.to_vec()));
        }
        assert!(part(&mut None).is_none());
    }
}
