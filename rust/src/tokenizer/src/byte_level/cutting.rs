// SPDX-License-Identifier: Apache-2.0

//! Cuts text into words as the regular expressions of two families of tokenizers do, in one pass and without them.
//!
//! *Spaced* is GPT-2's rule (a space belongs to the word after it), optionally with every digit cut out before, as
//! SmolLM and StarCoder do. *Led* is the rule of cl100k, Llama 3 and Qwen (any one character but a line break, letter
//! or digit may lead a word). What the alternatives mean at a position is worked out beside each function; the tests
//! compare the cuts with those of the expressions on any text.

use serde_json::Value;

use super::classes::{ALONE, Classes, LETTER, NEWLINE, NUMBER, OTHER, SPACE, View};

/// A family, with what differs inside of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
    Spaced {
        /// Numeric characters are cut out first, each on its own.
        single_digits: bool,
    },
    /// `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
    Led {
        /// `\p{M}` stands beside `\p{L}` in words.
        marks: bool,
        /// Digits per group.
        digits: usize,
    },
}

impl Rule {
    /// The rule of a `pre_tokenizer` section; `None` for any other.
    pub(super) fn read(section: &Value) -> Option<Self> {
        if is_byte_level(section, true) {
            return Some(Self::Spaced {
                single_digits: false,
            });
        }
        match section["pretokenizers"].as_array()?.as_slice() {
            _ if section["type"] != "Sequence" => None,
            [digits, bytes] if digits["type"] == "Digits" && is_byte_level(bytes, true) => {
                let single = digits["individual_digits"] == true;
                single.then_some(Self::Spaced {
                    single_digits: true,
                })
            }
            [split, bytes] if is_byte_level(bytes, false) => Self::of_split(split),
            _ => None,
        }
    }

    fn of_split(split: &Value) -> Option<Self> {
        let isolated =
            split["type"] == "Split" && split["behavior"] == "Isolated" && split["invert"] == false;
        let expression = split["pattern"]["Regex"].as_str().filter(|_| isolated)?;
        let known = [(false, 1), (false, 3), (true, 1)];
        let found = known
            .into_iter()
            .find(|(marks, digits)| led_expression(*marks, *digits) == expression);
        found.map(|(marks, digits)| Self::Led { marks, digits })
    }

    fn view(self) -> View {
        View {
            marks_are_letters: matches!(self, Self::Led { marks: true, .. }),
            digits_stand_alone: matches!(
                self,
                Self::Spaced {
                    single_digits: true
                }
            ),
        }
    }
}

/// A `ByteLevel` step that puts no space in front.
fn is_byte_level(section: &Value, use_regex: bool) -> bool {
    // As in `tokenizers`, the expression is used where the file says nothing.
    section["type"] == "ByteLevel"
        && section["add_prefix_space"] == false
        && section["use_regex"].as_bool().unwrap_or(true) == use_regex
}

/// The expression of a Led rule as models publish it.
fn led_expression(marks: bool, digits: usize) -> String {
    let (word, letters) = match marks {
        true => (r"[\p{L}\p{M}]+", r"\p{L}\p{M}"),
        false => (r"\p{L}+", r"\p{L}"),
    };
    let group = if digits == 3 { "{1,3}" } else { "" };
    format!(
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?{word}|\p{{N}}{group}| ?[^\s{letters}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
}

/// A rule with its table of characters.
pub(super) struct Cutter {
    rule: Rule,
    classes: Classes,
}

impl Cutter {
    pub(super) fn new(rule: Rule) -> Self {
        Self {
            rule,
            classes: Classes::new(rule.view()),
        }
    }

    /// Calls `word` with start and end of every word, in order; together they are the text.
    #[inline]
    pub(super) fn cut(&self, text: &str, mut word: impl FnMut(usize, usize)) {
        let mut at = 0;
        while at < text.len() {
            let end = match self.rule {
                Rule::Spaced { .. } => self.spaced(text, at),
                Rule::Led { digits, .. } => self.led(text, at, digits),
            };
            word(at, end);
            at = end;
        }
    }

    /// End of the word at `at`: a contraction, else one run of a class with the space before it, else spaces.
    #[inline]
    fn spaced(&self, text: &str, at: usize) -> usize {
        let bytes = text.as_bytes();
        if bytes[at] == b'\'' {
            let length = contraction(&bytes[at + 1..], |byte| byte);
            if length > 0 {
                return at + 1 + length;
            }
        }
        let start = at + usize::from(bytes[at] == b' ');
        if start < bytes.len() {
            let (class, next) = self.classes.at(text, start);
            if class & (LETTER | NUMBER | OTHER) != 0 {
                return self.classes.run(text, next, class);
            }
            if class == ALONE && start == at {
                return next;
            }
        }
        self.spaces(text, at)
    }

    /// End of the word at `at`, by the first alternative of the expression that holds there.
    #[inline]
    fn led(&self, text: &str, at: usize, digits: usize) -> usize {
        let bytes = text.as_bytes();
        let (class, next) = self.classes.at(text, at);
        if bytes[at] == b'\'' {
            let length = contraction_any_case(&text[at + 1..]);
            if length > 0 {
                return at + 1 + length;
            }
        }
        if class & LETTER != 0 {
            return self.classes.run(text, next, LETTER);
        }
        if class & NUMBER != 0 {
            return self.numbers(text, next, digits - 1);
        }
        let following = match next < bytes.len() {
            true => self.classes.at(text, next),
            false => (0, next),
        };
        if class & NEWLINE == 0 && following.0 & LETTER != 0 {
            return self.classes.run(text, following.1, LETTER);
        }
        if class & OTHER != 0 || (bytes[at] == b' ' && following.0 & OTHER != 0) {
            let symbols = self.classes.run(text, next, OTHER);
            return self.classes.run(text, symbols, NEWLINE);
        }
        self.spaces(text, at)
    }

    /// Up to `more` numeric characters.
    fn numbers(&self, text: &str, mut at: usize, more: usize) -> usize {
        for _ in 0..more {
            if at == text.len() {
                break;
            }
            let (class, next) = self.classes.at(text, at);
            if class & NUMBER == 0 {
                break;
            }
            at = next;
        }
        at
    }

    /// White space from `at` on. A Led rule ends it behind its last line break, if it has one. Else it leaves its
    /// last character to the word that follows, if there is one and this is not its only character.
    fn spaces(&self, text: &str, at: usize) -> usize {
        let end = self.classes.run(text, at, SPACE);
        let run = &text.as_bytes()[at..end];
        if matches!(self.rule, Rule::Led { .. })
            && let Some(last) = memchr::memrchr2(b'\r', b'\n', run)
        {
            return at + last + 1;
        }
        let piece_ends = end == text.len() || self.classes.at(text, end).0 == ALONE;
        match text[at..end].char_indices().next_back() {
            Some((last, _)) if last > 0 && !piece_ends => at + last,
            _ => end,
        }
    }
}

/// Length of what follows an apostrophe in `'s|'t|'re|'ve|'m|'ll|'d`; 0 for something else.
fn contraction(after: &[u8], fold: impl Fn(u8) -> u8) -> usize {
    let byte = |at: usize| after.get(at).map_or(0, |byte| fold(*byte));
    match (byte(0), byte(1)) {
        (b's' | b't' | b'm' | b'd', _) => 1,
        (b'r' | b'v', b'e') | (b'l', b'l') => 2,
        _ => 0,
    }
}

/// The same in any case. The long s is an s in Unicode's case folding.
fn contraction_any_case(after: &str) -> usize {
    const LONG_S: &str = "\u{17f}";
    if after.starts_with(LONG_S) {
        return LONG_S.len();
    }
    contraction(after.as_bytes(), |byte| byte.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const SPACED: &str =
        r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

    fn rules() -> [(Rule, String); 5] {
        let led = |marks, digits| (Rule::Led { marks, digits }, led_expression(marks, digits));
        let spaced = |single_digits| (Rule::Spaced { single_digits }, SPACED.to_owned());
        [
            spaced(false),
            spaced(true),
            led(false, 1),
            led(false, 3),
            led(true, 1),
        ]
    }

    /// The words as `tokenizers` would cut them: digits first where the rule says so, then the expression.
    fn expected<'a>(rule: Rule, expression: &onig::Regex, text: &'a str) -> Vec<&'a str> {
        let mut pieces = vec![text];
        if rule.view().digits_stand_alone {
            pieces = text
                .split_inclusive(char::is_numeric)
                .flat_map(last_digit_apart)
                .collect();
        }
        let words = |piece: &'a str| {
            let found: Vec<_> = expression.find_iter(piece).collect();
            found.into_iter().map(move |(from, to)| &piece[from..to])
        };
        pieces.into_iter().flat_map(words).collect()
    }

    fn last_digit_apart(piece: &str) -> impl Iterator<Item = &str> {
        let digit = piece
            .char_indices()
            .next_back()
            .filter(|(_, char)| char.is_numeric());
        let (text, digit) = piece.split_at(digit.map_or(piece.len(), |(at, _)| at));
        [text, digit].into_iter().filter(|piece| !piece.is_empty())
    }

    fn cut(cutter: &Cutter, text: &str) -> Vec<String> {
        let mut words = Vec::new();
        cutter.cut(text, |from, to| words.push(text[from..to].to_owned()));
        words
    }

    /// Text in which every alternative of the rules has its turn.
    fn text() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            4 => r"[a-zA-Z]{1,4}",
            4 => r"[ \t\r\n\x0b\u{a0}\u{3000}\u{85}\u{200b}]{1,3}",
            3 => r"['’]([sStTmMdDſ]|[rRvV][eE]|[lL][lL]|[a-z]{0,2})",
            2 => r"[0-9٣Ⅷ½²]{1,5}",
            2 => r"[!-/:-@\[-`{-~]{1,3}",
            2 => r"[\u{300}-\u{303}\u{902}\u{903}\u{20dd}]{1,2}",
            2 => r"[éßŉſǅλЖא漢が한ﬁ𐍈𠀀]{1,3}",
            1 => r"[🙂👍🏽…€—]{1,2}",
            1 => any::<char>().prop_map(String::from),
            1 => any::<String>(),
        ];
        prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]
        #[test]
        fn cuts_are_those_of_the_expressions(text in text()) {
            thread_local! {
                static RULES: Vec<(Rule, Cutter, onig::Regex)> = rules()
                    .into_iter()
                    .map(|(rule, expression)| (rule, Cutter::new(rule), onig::Regex::new(&expression).expect("valid")))
                    .collect();
            }
            RULES.with(|rules| {
                for (rule, cutter, expression) in rules {
                    prop_assert_eq!(cut(cutter, &text), expected(*rule, expression, &text), "{:?}", rule);
                }
                Ok(())
            })?;
        }
    }

    #[test]
    fn sections_are_recognized_or_left_alone() {
        let bytes = |regex: bool, prefix: bool| json!({"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": true, "use_regex": regex});
        let split = |expression: &str, behavior: &str| json!({"type": "Split", "pattern": {"Regex": expression}, "behavior": behavior, "invert": false});
        let sequence = |steps: [Value; 2]| json!({"type": "Sequence", "pretokenizers": steps});
        let spaced = |single_digits| Some(Rule::Spaced { single_digits });
        assert_eq!(Rule::read(&bytes(true, false)), spaced(false));
        assert_eq!(Rule::read(&bytes(true, true)), None);
        assert_eq!(Rule::read(&bytes(false, false)), None);
        for (single, rule) in [(true, spaced(true)), (false, None)] {
            let digits = json!({"type": "Digits", "individual_digits": single});
            assert_eq!(Rule::read(&sequence([digits, bytes(true, false)])), rule);
        }
        for (marks, digits) in [(false, 1), (false, 3), (true, 1)] {
            let expression = led_expression(marks, digits);
            let section = sequence([split(&expression, "Isolated"), bytes(false, false)]);
            assert_eq!(Rule::read(&section), Some(Rule::Led { marks, digits }));
            let section = sequence([split(&expression, "Removed"), bytes(false, false)]);
            assert_eq!(Rule::read(&section), None);
        }
        let other = sequence([split(r"\s+", "Isolated"), bytes(false, false)]);
        assert_eq!(Rule::read(&other), None);
        assert_eq!(Rule::read(&Value::Null), None);
    }
}
