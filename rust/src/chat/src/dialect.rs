// SPDX-License-Identifier: Apache-2.0

//! What Jinja2, set up by Transformers, reads differently from our engine: the source is changed before it is compiled.
//!
//! - `{% generation %}` marks the assistant's text for training and shows it as it is. Jinja engines know no such tag.
//!   It becomes a condition that always holds, so that the whitespace rules of a block tag go on applying.
//! - `{% raw %}` keeps the line break behind it, as no other block tag does.
//! - Line breaks of every kind are read as `\n`.

/// The source in the engine's dialect.
pub(crate) fn translate(source: &str) -> String {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let mut out = String::with_capacity(source.len());
    let mut rest = &source[..];
    while let Some(at) = rest.find("{%") {
        out.push_str(&rest[..at]);
        let (text, after) = tag(&rest[at..]);
        out.push_str(&text);
        rest = after;
    }
    out.push_str(rest);
    out
}

/// What stands in for the tag at the start of `source`, and what follows it. A raw block is passed as a whole.
fn tag(source: &str) -> (String, &str) {
    let open = ("{%".to_owned(), &source[2..]);
    let Some(end) = source[2..].find("%}").map(|at| at + 4) else {
        return open;
    };
    let inner = &source[2..end - 2];
    let renamed = |from, to| {
        (
            format!("{{%{}%}}", inner.replacen(from, to, 1)),
            &source[end..],
        )
    };
    match name(inner) {
        "generation" => renamed("generation", "if true"),
        "endgeneration" => renamed("endgeneration", "endif"),
        "raw" => {
            let (mut text, _) = renamed("raw", "raw");
            if !inner.ends_with(['-', '+']) {
                text.insert(text.len() - 2, '+');
            }
            let block = end + raw_length(&source[end..]);
            (text + &source[end..block], &source[block..])
        }
        _ => open,
    }
}

/// A tag's text without blanks and whitespace signs; more than a name where it has arguments.
fn name(inner: &str) -> &str {
    inner.trim_matches(|char: char| char.is_whitespace() || char == '-' || char == '+')
}

/// Bytes up to the tag that ends a raw block; everything where none does.
fn raw_length(source: &str) -> usize {
    let mut from = 0;
    while let Some(at) = source[from..].find("{%") {
        let inner = &source[from + at + 2..];
        if inner.split("%}").next().map(name) == Some("endraw") {
            return from + at;
        }
        from += at + 2;
    }
    source.len()
}

#[cfg(test)]
mod tests {
    use super::translate;

    #[test]
    fn only_the_generation_tag_is_replaced() {
        let source = "{%- generation -%}{{ generation }}{% if generation %}x{% endif %}{%+endgeneration%}{% broken";
        let expected =
            "{%- if true -%}{{ generation }}{% if generation %}x{% endif %}{%+endif%}{% broken";
        assert_eq!(translate(source), expected);
    }

    #[test]
    fn a_raw_block_is_passed_as_it_is_and_keeps_its_first_line_break() {
        let source =
            "{% raw %}\n{% generation %}{%- endraw %}{% generation %}{%- raw -%}\n{% endraw";
        let expected =
            "{% raw +%}\n{% generation %}{%- endraw %}{% if true %}{%- raw -%}\n{% endraw";
        assert_eq!(translate(source), expected);
    }

    #[test]
    fn what_is_no_tag_stays() {
        for source in ["{%", "{%}", "{%}{% raw %}", "{%%}", "{% raw", "{%}%}"] {
            assert_eq!(translate(source), source.replace("raw %}", "raw +%}"));
        }
    }

    #[test]
    fn every_line_break_is_one_character() {
        assert_eq!(translate("a\r\nb\rc\n"), "a\nb\nc\n");
    }
}
