// SPDX-License-Identifier: Apache-2.0

//! Bounds on a template's source: the engine compiles a chain of operators (`1+1+1...`) or of `elif` level by level on
//! the stack, and a stack that overflows ends the process.
//!
//! What is a tag is decided by the engine's own lexer: where comments, raw blocks, texts and braces end depends on
//! each other, and a second reading that differs anywhere lets a chain through or refuses a sound template.

use minijinja::machinery::{Token, Tokenizer};
use minijinja::syntax::SyntaxConfig;

use crate::CompileError;

/// Most words, signs and texts of one tag. Published templates have at most some hundred.
const MAX_WORDS: usize = 1000;

/// Most `elif` of a template. Published templates have at most some dozens.
const MAX_ELIFS: usize = 500;

/// Refuses a source, in the engine's dialect, with a longer chain. One that has a mistake passes up to there: the
/// engine reads no further either, and tells of it better.
pub(crate) fn check(source: &str, syntax: SyntaxConfig) -> Result<(), CompileError> {
    let mut tokens = Tokenizer::new(source, "", false, syntax);
    let (mut words, mut elifs, mut is_name) = (0, 0, false);
    while let Ok(Some((token, span))) = tokens.next_token() {
        words = match token {
            Token::TemplateData(_) | Token::VariableStart | Token::BlockStart => 0,
            _ => words + 1,
        };
        elifs += usize::from(is_name && matches!(token, Token::Ident("elif")));
        is_name = matches!(token, Token::BlockStart);
        if words > MAX_WORDS {
            return Err(CompileError::long_tag(span.start_line, MAX_WORDS));
        }
        if elifs > MAX_ELIFS {
            return Err(CompileError::many_elifs(span.start_line, MAX_ELIFS));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{MAX_ELIFS, MAX_WORDS};
    use crate::{ChatTemplate, TemplateTokens};

    /// The error of a source that does not compile; empty for one that does.
    fn refusal(source: &str) -> String {
        let compiled = ChatTemplate::compile(source, TemplateTokens::default());
        let error = compiled.map(drop).err();
        error.map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn chains_of_operators_are_refused_before_they_are_compiled() {
        for unit in ["+1", ".a", "|e", "~1", "**2", " if x else y"] {
            let message = refusal(&format!("x\n{{{{ 1{} }}}}", unit.repeat(20_000)));
            assert!(message.contains("line 2 has more than 1000"), "{message}");
        }
    }

    #[test]
    fn no_end_of_a_tag_that_is_none_hides_a_chain() {
        let chain = "+1".repeat(30_000);
        for start in [
            r#"{{ {"a":{"b":1}}.a.b"#,
            r#"{% set x = {"a":{"b":1}}.a.b"#,
            "{# {{ ' #}{{ 1",
            "{# {% \" #}{{ 1",
            "{% raw %}{{ ' {% endraw %}{{ 1",
            "{%- raw -%}{{ \"{%- endraw -%}{{ 1",
            "{{ '\\\\' ~ 1",
            "{{ '}}' ~ \"%}\" ~ 1",
            "{{ [1%{}}][0",
            "{% generation %}{{ 1",
        ] {
            for end in ["", " }}", " %}"] {
                let message = refusal(&format!("{start}{chain}{end}"));
                assert!(message.contains("has more than 1000"), "{start}: {message}");
            }
        }
    }

    #[test]
    fn chains_of_elif_are_refused_before_they_are_compiled() {
        let source = |count: usize| {
            let elifs = "{%- elif x %}y".repeat(count);
            format!("{{% if elif %}}\n{elifs}{{% endif %}}")
        };
        let message = refusal(&source(30_000));
        assert!(message.contains("more than 500 `elif`"), "{message}");
        assert_eq!(refusal(&source(MAX_ELIFS)), "");
    }

    #[test]
    fn the_longest_chains_compile() {
        for chain in ["not ".repeat(MAX_WORDS - 2), "1+".repeat(MAX_WORDS / 2 - 2)] {
            assert_eq!(refusal(&format!("{{{{ {chain}1 }}}}")), "");
        }
    }

    #[test]
    fn texts_and_what_is_no_tag_count_little() {
        let text = "a b ".repeat(5_000);
        for source in [
            format!("{text}{{{{ '{text}' ~ \"{text}\" }}}}{text}"),
            format!("{{# {{{{ {text} #}}"),
            format!("{{# it's {{% {text} #}}{{{{ 1 }}}}"),
            format!("{{% raw %}}{{{{ {text}{{% endraw %}}"),
        ] {
            assert_eq!(refusal(&source), "");
        }
    }

    /// Parts that open, close or hide tags for one reader or another.
    const PARTS: &[&str] = &[
        "{{ ",
        " }}",
        "{% if x %}",
        "{% endif %}",
        "{#",
        "#}",
        "{% raw %}",
        "{% endraw %}",
        "{% set x = ",
        " %}",
        "'",
        "\"",
        "\\",
        "{",
        "}",
        "{\"a\":{\"b\":1}}",
        "[",
        "]",
        "(",
        ")",
        "x",
        "1",
        "-",
        "%",
        "#",
        " ",
        "\n",
        "\r",
    ];

    proptest! {
        /// Wherever a chain stands, it is refused or taken for text: compiling overflows no stack.
        #[test]
        fn no_surroundings_of_a_chain_end_the_process(
            before in prop::collection::vec(prop::sample::select(PARTS), 0..12),
            after in prop::collection::vec(prop::sample::select(PARTS), 0..4),
        ) {
            let source = format!("{}1{}{}", before.concat(), "+1".repeat(20_000), after.concat());
            // Returns at all: an overflow would end the test.
            refusal(&source);
        }
    }
}
