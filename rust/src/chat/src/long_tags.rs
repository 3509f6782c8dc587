// SPDX-License-Identifier: Apache-2.0

//! A bound on the words of one tag: the engine compiles a chain of operators (`1+1+1...`) level by level on the stack,
//! and a stack that overflows ends the process.

/// Most words, signs and texts of one tag. Published templates have at most some hundred.
pub(crate) const MAX_WORDS: usize = 1000;

/// The line of the first tag with more.
pub(crate) fn first(source: &str) -> Option<usize> {
    let (mut words, mut line, mut in_tag, mut in_word) = (0, 1, false, false);
    let mut quote = None;
    let mut before = ' ';
    for char in source.chars() {
        line += usize::from(char == '\n');
        if let Some(end) = quote {
            quote = (char != end || before == '\\').then_some(end);
        } else if !in_tag {
            in_tag = before == '{' && matches!(char, '{' | '%');
            words = 0;
        } else if matches!(before, '}' | '%') && char == '}' {
            in_tag = false;
        } else {
            let is_word = char.is_alphanumeric() || char == '_';
            words += usize::from(!(char.is_whitespace() || is_word && in_word));
            in_word = is_word;
            quote = matches!(char, '"' | '\'').then_some(char);
        }
        if words > MAX_WORDS {
            return Some(line);
        }
        before = if before == '\\' && char == '\\' {
            ' '
        } else {
            char
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{MAX_WORDS, first};
    use crate::{ChatTemplate, TemplateTokens};

    #[test]
    fn chains_of_operators_are_refused_before_they_are_compiled() {
        for unit in ["+1", ".a", "|e", "~1", "**2", " if x else y"] {
            let source = format!("x\n{{{{ 1{} }}}}", unit.repeat(20_000));
            assert_eq!(first(&source), Some(2), "{unit}");
            let error = ChatTemplate::compile(&source, TemplateTokens::default());
            let message = error.map(drop).expect_err("refused").to_string();
            assert!(message.contains("1000"), "{message}");
        }
    }

    #[test]
    fn the_longest_chains_compile() {
        for chain in ["not ".repeat(MAX_WORDS - 2), "1+".repeat(MAX_WORDS / 2 - 2)] {
            let source = format!("{{{{ {chain}1 }}}}");
            assert_eq!(first(&source), None);
            assert!(ChatTemplate::compile(&source, TemplateTokens::default()).is_ok());
        }
    }

    #[test]
    fn texts_and_what_is_no_tag_count_little() {
        let text = "a b ".repeat(5_000);
        assert_eq!(
            first(&format!("{text}{{{{ '{text}' ~ \"{text}\" }}}}{text}")),
            None
        );
    }
}
