// SPDX-License-Identifier: Apache-2.0

//! Stop strings found in a stream of text, over any boundary, holding back no more than could begin one.
//!
//! One Knuth-Morris-Pratt automaton per stop string runs over the bytes. What is held back is always a proper prefix of
//! a stop string, so nothing is buffered: the text to release later is copied from the stop string itself.
//!
//! The winner is the stop string whose last byte comes first; of several that end together, the one listed first.
//! That choice does not depend on how the text was cut into pushes.

use std::sync::Arc;

/// A request's stop strings, prepared once and shared by its choices. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct StopStrings {
    patterns: Arc<[Pattern]>,
}

/// The stop string that ended a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopMatch {
    /// Its index in the list given to [`StopStrings::new`].
    pub index: usize,
}

/// Watches one stream of text for stop strings.
#[derive(Clone, Debug)]
pub struct StopMatcher {
    stops: StopStrings,
    /// Bytes of each pattern matched by the end of the text so far.
    matched: smallvec::SmallVec<[u32; 4]>,
    /// The pattern whose matched prefix is held back (the longest).
    holder: usize,
    include_stop: bool,
    stopped: bool,
}

#[derive(Debug)]
struct Pattern {
    text: String,
    /// `borders[n]`: length of the longest proper prefix of the first `n` bytes that is also their suffix.
    borders: Vec<u32>,
    index: usize,
}

impl StopStrings {
    /// Prepares stop strings. Empty ones never match.
    pub fn new<S: Into<String>>(strings: impl IntoIterator<Item = S>) -> Self {
        let numbered = strings.into_iter().map(Into::into).enumerate();
        let patterns = numbered.filter(|(_, text)| !text.is_empty());
        Self {
            patterns: patterns
                .map(|(index, text)| Pattern::new(index, text))
                .collect(),
        }
    }

    /// Whether there is nothing to look for.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }
}

impl Pattern {
    fn new(index: usize, text: String) -> Self {
        let bytes = text.as_bytes();
        let mut borders = vec![0u32; bytes.len() + 1];
        let mut border = 0usize;
        for end in 1..bytes.len() {
            while border > 0 && bytes[border] != bytes[end] {
                border = borders[border] as usize;
            }
            border += usize::from(bytes[border] == bytes[end]);
            borders[end + 1] = border as u32;
        }
        Self {
            text,
            borders,
            index,
        }
    }

    /// Length of the matched prefix after one more byte; `matched` is that of a proper prefix.
    fn advance(&self, matched: u32, byte: u8) -> u32 {
        let bytes = self.text.as_bytes();
        let mut matched = matched as usize;
        while matched > 0 && bytes[matched] != byte {
            matched = self.borders[matched] as usize;
        }
        (matched + usize::from(bytes[matched] == byte)) as u32
    }

    fn is_complete(&self, matched: u32) -> bool {
        matched as usize == self.text.len()
    }

    /// What a stream ending in `matched` bytes of this pattern may not release yet.
    fn proper(&self, matched: u32) -> u32 {
        if self.is_complete(matched) {
            self.borders[matched as usize]
        } else {
            matched
        }
    }
}

impl StopMatcher {
    /// A matcher at the start of a text. With `include_stop` the stop string itself belongs to the output.
    pub fn new(stops: StopStrings, include_stop: bool) -> Self {
        Self {
            matched: smallvec::smallvec![0; stops.patterns.len()],
            stops,
            holder: 0,
            include_stop,
            stopped: false,
        }
    }

    /// Takes more text and appends to `out` what can no longer be part of a stop string. After a match everything
    /// further is dropped.
    pub fn push(&mut self, text: &str, out: &mut String) -> Option<StopMatch> {
        self.run(text, out, true)
    }

    /// Takes text in which no stop string may end (before `min_tokens` are reached). A later match may begin in it.
    pub fn push_unmatched(&mut self, text: &str, out: &mut String) {
        self.run(text, out, false);
    }

    /// The text is over: appends what was held back.
    pub fn finish(&mut self, out: &mut String) {
        if !self.stopped && !self.stops.is_empty() {
            out.push_str(self.held());
        }
        self.matched.fill(0);
    }

    /// Text held back so far.
    pub fn held(&self) -> &str {
        match self.stops.patterns.get(self.holder) {
            Some(pattern) => &pattern.text[..self.matched[self.holder] as usize],
            None => "",
        }
    }

    fn run(&mut self, text: &str, out: &mut String, matching: bool) -> Option<StopMatch> {
        if self.stopped {
            return None;
        }
        if self.stops.is_empty() {
            out.push_str(text);
            return None;
        }
        let patterns = self.stops.patterns.clone();
        let held = self.held().len();
        let holder = &patterns[self.holder].text[..held];
        for (at, &byte) in text.as_bytes().iter().enumerate() {
            if let Some(found) = self.step(&patterns, byte, matching) {
                let end = held + at + 1;
                let keep = if self.include_stop {
                    end
                } else {
                    end - found.text.len()
                };
                release(holder, text, keep, out);
                self.stopped = true;
                self.matched.fill(0);
                return Some(StopMatch { index: found.index });
            }
        }
        self.choose_holder();
        release(holder, text, held + text.len() - self.held().len(), out);
        None
    }

    /// Moves every automaton by one byte; the first listed pattern that is complete wins.
    fn step<'a>(
        &mut self,
        patterns: &'a [Pattern],
        byte: u8,
        matching: bool,
    ) -> Option<&'a Pattern> {
        let mut found = None;
        for (pattern, matched) in patterns.iter().zip(&mut self.matched) {
            let now = pattern.advance(*matched, byte);
            if pattern.is_complete(now) && matching && found.is_none() {
                found = Some(pattern);
            }
            *matched = pattern.proper(now);
        }
        found
    }

    fn choose_holder(&mut self) {
        let longest = self
            .matched
            .iter()
            .enumerate()
            .max_by_key(|(_, matched)| **matched);
        self.holder = longest.map_or(0, |(index, _)| index);
    }
}

/// Appends the first `count` bytes of `held` followed by `text`.
fn release(held: &str, text: &str, count: usize, out: &mut String) {
    if count <= held.len() {
        out.push_str(&held[..count]);
    } else {
        out.push_str(held);
        out.push_str(&text[..count - held.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What the matcher must do, said plainly: the first end of any stop string in the whole text.
    fn naive(stops: &[String], include: bool, text: &str) -> (String, Option<usize>) {
        for end in (1..=text.len()).filter(|end| text.is_char_boundary(*end)) {
            let ends_here =
                |stop: &String| !stop.is_empty() && text[..end].ends_with(stop.as_str());
            if let Some(index) = stops.iter().position(ends_here) {
                let keep = if include {
                    end
                } else {
                    end - stops[index].len()
                };
                return (text[..keep].to_owned(), Some(index));
            }
        }
        (text.to_owned(), None)
    }

    /// Length of the longest suffix of the text that a stop string begins with.
    fn longest_suspicion(stops: &[String], text: &str) -> usize {
        let begins = |suffix: &str| {
            stops
                .iter()
                .any(|stop| stop.len() > suffix.len() && stop.starts_with(suffix))
        };
        let mut starts = (0..text.len()).filter(|at| text.is_char_boundary(*at));
        starts
            .find(|at| begins(&text[*at..]))
            .map_or(0, |at| text.len() - at)
    }

    fn chunks<'a>(text: &'a str, cuts: &[usize]) -> Vec<&'a str> {
        let mut rest = text;
        let mut chunks = Vec::new();
        for cut in cuts {
            let at = rest
                .char_indices()
                .map(|(at, _)| at)
                .nth(*cut)
                .unwrap_or(rest.len());
            let (chunk, after) = rest.split_at(at);
            chunks.push(chunk);
            rest = after;
        }
        chunks.push(rest);
        chunks
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn equals_the_naive_search_at_any_chunking(
            stops in prop::collection::vec("[abé]{0,4}", 0..4),
            text in "[abé]{0,24}",
            cuts in prop::collection::vec(0usize..5, 0..8),
            include: bool,
        ) {
            let (expected, expected_match) = naive(&stops, include, &text);
            let mut matcher = StopMatcher::new(StopStrings::new(stops.clone()), include);
            let (mut out, mut found, mut seen) = (String::new(), None, String::new());
            for chunk in chunks(&text, &cuts) {
                found = found.or(matcher.push(chunk, &mut out));
                seen.push_str(chunk);
                if found.is_none() {
                    let held = longest_suspicion(&stops, &seen);
                    prop_assert_eq!(matcher.held().len(), held);
                    prop_assert_eq!(&out, &seen[..seen.len() - held]);
                }
            }
            matcher.finish(&mut out);
            prop_assert_eq!(out, expected);
            prop_assert_eq!(found.map(|found| found.index), expected_match);
        }

        #[test]
        fn unmatched_text_stops_nothing_but_may_begin_a_stop(
            before in "[ab]{0,8}", after in "[ab]{0,8}", stop in "[ab]{1,4}",
        ) {
            let mut matcher = StopMatcher::new(StopStrings::new([stop.clone()]), false);
            let mut out = String::new();
            matcher.push_unmatched(&before, &mut out);
            let released = out.len();
            let found = matcher.push(&after, &mut out);
            matcher.finish(&mut out);
            let text = format!("{before}{after}");
            let end = (before.len() + 1..=text.len()).find(|end| text[..*end].ends_with(&stop));
            prop_assert_eq!(found.is_some(), end.is_some());
            let whole = end.map_or(text.len(), |end| end - stop.len());
            // What went out before matching began stays out.
            prop_assert_eq!(&out, &text[..whole.max(released)]);
        }
    }

    #[test]
    fn nothing_comes_after_a_match() {
        let mut matcher = StopMatcher::new(StopStrings::new(["stop"]), false);
        let mut out = String::new();
        assert_eq!(matcher.push("go st", &mut out), None);
        assert_eq!((out.as_str(), matcher.held()), ("go ", "st"));
        assert_eq!(
            matcher.push("op more", &mut out),
            Some(StopMatch { index: 0 })
        );
        assert_eq!(matcher.push("stop", &mut out), None);
        matcher.finish(&mut out);
        assert_eq!(out, "go ");
    }
}
