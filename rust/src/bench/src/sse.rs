// SPDX-License-Identifier: Apache-2.0

//! Reads a stream of events without parsing each: it needs to know when tokens came, not which.

use memchr::memmem;
use serde_json::Value;

/// What an answer consisted of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Tokens of the answer, as the server counts them.
    pub(crate) completion_tokens: u64,
    /// Tokens of the prompt, as the server counts them.
    pub(crate) prompt_tokens: u64,
    /// The server's error text.
    pub(crate) error: Option<String>,
    /// The stream ended as it should.
    pub(crate) done: bool,
}

impl Answer {
    fn take_usage(&mut self, body: &Value) {
        let usage = &body["usage"];
        let count = |key: &str| usage[key].as_u64();
        self.completion_tokens = count("completion_tokens").unwrap_or(self.completion_tokens);
        self.prompt_tokens = count("prompt_tokens").unwrap_or(self.prompt_tokens);
        if let Some(error) = body.get("error").filter(|error| !error.is_null()) {
            self.error = Some(error["message"].as_str().unwrap_or("no message").to_owned());
        }
    }

    /// Reads a whole JSON answer.
    pub(crate) fn from_json(body: &[u8]) -> Self {
        let mut answer = Self::default();
        match serde_json::from_slice(body) {
            Ok(body) => {
                answer.take_usage(&body);
                answer.done = true;
            }
            Err(error) => answer.error = Some(format!("the body is no JSON: {error}")),
        }
        answer
    }
}

/// Splits a byte stream into events.
#[derive(Debug, Default)]
pub(crate) struct EventReader {
    /// Bytes after the last whole event.
    pub(crate) rest: Vec<u8>,
    pub(crate) answer: Answer,
}

impl EventReader {
    /// Takes bytes as they come; returns how many events with content they completed.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> usize {
        self.rest.extend_from_slice(bytes);
        let mut buffer = std::mem::take(&mut self.rest);
        let (mut start, mut content) = (0, 0);
        while let Some(end) = memmem::find(&buffer[start..], b"\n\n") {
            content += usize::from(self.event(&buffer[start..start + end]));
            start += end + 2;
        }
        buffer.drain(..start);
        self.rest = buffer;
        content
    }

    /// True for an event that brings text.
    fn event(&mut self, event: &[u8]) -> bool {
        let Some(data) = event.strip_prefix(b"data: ") else {
            return false;
        };
        if data == b"[DONE]" {
            self.answer.done = true;
            return false;
        }
        // The few events with counts or errors are worth a parser.
        let parse = memmem::find(data, b"\"usage\":{").is_some()
            || memmem::find(data, b"\"usage\": {").is_some()
            || memmem::find(data, b"\"error\"").is_some();
        if parse && let Ok(body) = serde_json::from_slice(data) {
            self.answer.take_usage(&body);
        }
        has_text(data, b"\"content\":") || has_text(data, b"\"text\":")
    }
}

/// True when the key is followed by a string that is not empty.
fn has_text(data: &[u8], key: &[u8]) -> bool {
    let Some(at) = memmem::find(data, key) else {
        return false;
    };
    let value = data[at + key.len()..].trim_ascii_start();
    value.first() == Some(&b'"') && value.get(1) != Some(&b'"')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STREAM: &str = concat!(
        "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}],\"usage\":null}\n\n",
        ": keep-alive\n\n",
        "data: {\"choices\":[{\"delta\":{\"content\":\"a \\\"usage\\\" error\"}}]}\n\n",
        "data: {\"choices\":[{\"text\": \"b\"}]}\n\n",
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}\n\n",
        "data: [DONE]\n\n",
    );

    proptest! {
        #[test]
        fn any_cut_gives_the_same_events(cuts in proptest::collection::vec(0..STREAM.len(), 0..8)) {
            let mut cuts = cuts;
            cuts.extend([0, STREAM.len()]);
            cuts.sort_unstable();
            let mut reader = EventReader::default();
            let content: usize = cuts
                .windows(2)
                .map(|pair| reader.push(&STREAM.as_bytes()[pair[0]..pair[1]]))
                .sum();
            prop_assert_eq!(content, 2);
            let expected = Answer {
                completion_tokens: 2,
                prompt_tokens: 3,
                error: None,
                done: true,
            };
            prop_assert_eq!(reader.answer, expected);
        }
    }

    #[test]
    fn an_error_event_is_an_error() {
        let mut reader = EventReader::default();
        reader.push(b"data: {\"error\":{\"message\":\"engine died\"}}\n\n");
        assert_eq!(reader.answer.error.as_deref(), Some("engine died"));
        assert!(Answer::from_json(b"oops").error.is_some());
    }
}
