// SPDX-License-Identifier: Apache-2.0

//! What the cutting rules ask about a character, by table.

use super::class_ranges::RANGES;

/// Classes of characters; a character has one of the first six, `NEWLINE` comes on top of `SPACE`.
pub(super) const LETTER: u8 = 1;
pub(super) const NUMBER: u8 = 2;
pub(super) const SPACE: u8 = 4;
pub(super) const OTHER: u8 = 8;
/// A character that is cut out of the text before anything else looks at it.
pub(super) const ALONE: u8 = 16;
/// Carriage return and line feed.
pub(super) const NEWLINE: u8 = 32;

/// General categories as the table of ranges names them; what is in no range is a symbol or unassigned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Category {
    /// `\p{L}`
    Letter,
    /// `\p{M}`
    Mark,
    /// `\p{N}`
    Number,
    /// `\s`
    Space,
}

/// Characters from here on are looked up in the ranges: nearly all of them are rare ideographs.
const TABLE_END: usize = 0x2_0000;

/// How one rule sees the categories.
#[derive(Clone, Copy)]
pub(super) struct View {
    /// Marks belong to words; otherwise they are symbols.
    pub(super) marks_are_letters: bool,
    /// Numeric characters stand alone.
    pub(super) digits_stand_alone: bool,
}

impl View {
    fn flags(self, category: Option<Category>, char: char) -> u8 {
        // Nothing that has another category is numeric.
        let may_be_numeric = matches!(category, None | Some(Category::Number));
        if self.digits_stand_alone && may_be_numeric && char.is_numeric() {
            return ALONE;
        }
        match category {
            Some(Category::Letter) => LETTER,
            Some(Category::Mark) if self.marks_are_letters => LETTER,
            Some(Category::Number) => NUMBER,
            Some(Category::Space) if matches!(char, '\r' | '\n') => SPACE | NEWLINE,
            Some(Category::Space) => SPACE,
            Some(Category::Mark) | None => OTHER,
        }
    }
}

/// The classes of all characters under one view.
pub(super) struct Classes {
    view: View,
    /// Of the ASCII characters by their byte; no class for bytes of others.
    ascii: [u8; 256],
    table: Box<[u8]>,
}

impl Classes {
    pub(super) fn new(view: View) -> Self {
        let mut table = vec![OTHER; TABLE_END].into_boxed_slice();
        for &(first, last, category) in RANGES {
            for code in first..=last.min(TABLE_END as u32 - 1) {
                if let Some(char) = char::from_u32(code) {
                    table[code as usize] = view.flags(Some(category), char);
                }
            }
        }
        if view.digits_stand_alone {
            // What is in no range may still be numeric: the ranges are of an older Unicode.
            let others = (0..TABLE_END).filter(|at| table[*at] == OTHER);
            let chars = others.filter_map(|at| char::from_u32(at as u32));
            let alone: Vec<char> = chars.filter(|char| char.is_numeric()).collect();
            alone
                .into_iter()
                .for_each(|char| table[char as usize] = ALONE);
        }
        let mut ascii = [0; 256];
        ascii[..0x80].copy_from_slice(&table[..0x80]);
        Self { view, ascii, table }
    }

    /// Class of the character at `at`, and where the next one begins.
    #[inline]
    pub(super) fn at(&self, text: &str, at: usize) -> (u8, usize) {
        let byte = text.as_bytes()[at];
        if byte < 0x80 {
            return (self.ascii[byte as usize], at + 1);
        }
        self.wide(text, at)
    }

    fn wide(&self, text: &str, at: usize) -> (u8, usize) {
        // Callers stay on the boundaries of characters.
        let char = text[at..].chars().next().unwrap_or_default();
        let flags = match self.table.get(char as usize) {
            Some(flags) => *flags,
            None => self.view.flags(category(char), char),
        };
        (flags, at + char.len_utf8())
    }

    /// Where the run of characters with a class in `mask` ends that begins at `at`.
    #[inline]
    pub(super) fn run(&self, text: &str, mut at: usize, mask: u8) -> usize {
        let bytes = text.as_bytes();
        loop {
            while at < bytes.len() && self.ascii[bytes[at] as usize] & mask != 0 {
                at += 1;
            }
            if bytes.get(at).is_none_or(u8::is_ascii) {
                return at;
            }
            let (flags, next) = self.wide(text, at);
            if flags & mask == 0 {
                return at;
            }
            at = next;
        }
    }
}

fn category(char: char) -> Option<Category> {
    let code = char as u32;
    let after = RANGES.partition_point(|&(first, ..)| first <= code);
    let &(_, last, category) = RANGES[..after].last()?;
    (code <= last).then_some(category)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;
    use std::path::Path;

    use super::*;

    /// Ranges of each category, as the regular expressions of `tokenizers` see them.
    fn oracle() -> Vec<(u32, u32, Category)> {
        let all: String = ('\0'..=char::MAX).collect();
        let mut ranges = Vec::new();
        for (expression, category) in [
            (r"\p{L}", Category::Letter),
            (r"\p{M}", Category::Mark),
            (r"\p{N}", Category::Number),
            (r"\s", Category::Space),
        ] {
            let expression = onig::Regex::new(expression).expect("valid");
            for (from, to) in expression.find_iter(&all) {
                let char = all[from..to].chars().next().expect("a character") as u32;
                match ranges.last_mut() {
                    Some((_, last, same)) if *last + 1 == char && *same == category => *last = char,
                    _ => ranges.push((char, char, category)),
                }
            }
        }
        ranges.sort_unstable_by_key(|range| range.0);
        ranges
    }

    /// The file of ranges holds what the regular expressions say; `VLLM_WRITE_TABLES=1` writes it.
    #[test]
    fn categories_are_those_of_the_regular_expressions() {
        let ranges = oracle();
        if std::env::var_os("VLLM_WRITE_TABLES").is_some() {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/byte_level/class_ranges.rs");
            std::fs::write(path, file(&ranges)).expect("writes");
        }
        assert!(ranges == RANGES, "run once with VLLM_WRITE_TABLES=1");
    }

    #[test]
    fn numeric_characters_have_no_other_category() {
        let mut numeric = ('\0'..=char::MAX).filter(|char| char.is_numeric());
        assert!(numeric.all(|char| matches!(category(char), None | Some(Category::Number))));
    }

    #[test]
    fn rare_characters_have_the_class_of_the_ranges() {
        for digits_stand_alone in [false, true] {
            let classes = Classes::new(View {
                marks_are_letters: true,
                digits_stand_alone,
            });
            for char in [
                '\u{1fffd}',
                '\u{20000}',
                '\u{2a6df}',
                '\u{e0100}',
                '\u{10ffff}',
                '\u{1d7ce}',
                'a',
                '7',
                '\n',
            ] {
                let expected = classes.view.flags(category(char), char);
                let text = format!("{char} ");
                assert_eq!(
                    classes.at(&text, 0),
                    (expected, char.len_utf8()),
                    "{char:?}"
                );
            }
        }
    }

    fn file(ranges: &[(u32, u32, Category)]) -> String {
        let mut out = String::from(
            "// SPDX-License-Identifier: Apache-2.0\n\n\
             //! General categories of characters as Oniguruma knows them: written by the test in `classes.rs`.\n\n\
             use super::classes::Category::{self, Letter, Mark, Number, Space};\n\n\
             /// First and last character of each range, in order.\n#[rustfmt::skip]\n\
             pub(super) const RANGES: &[(u32, u32, Category)] = &[\n",
        );
        for line in ranges.chunks(4) {
            out.push_str("   ");
            for (first, last, category) in line {
                write!(out, " (0x{first:x}, 0x{last:x}, {category:?}),").expect("memory");
            }
            out.push('\n');
        }
        out + "];\n"
    }
}
