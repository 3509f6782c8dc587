// SPDX-License-Identifier: Apache-2.0

//! The `{% generation %}` tag of Transformers, which marks the assistant's text for training and shows it as it is.
//!
//! Jinja engines know no such tag. It is replaced by a condition that always holds, so that the whitespace rules of a
//! block tag go on applying.

/// Replaces the tags.
pub(crate) fn strip(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find("{%") {
        let (before, tag) = rest.split_at(at);
        out.push_str(before);
        rest = match replacement(tag) {
            Some((text, after)) => {
                out.push_str(&text);
                after
            }
            None => {
                out.push_str("{%");
                &tag[2..]
            }
        };
    }
    out.push_str(rest);
    out
}

/// What stands in for the tag at the start of `tag`, and what follows it; `None` for any other tag.
fn replacement(tag: &str) -> Option<(String, &str)> {
    let end = tag.find("%}")? + 2;
    let inner = &tag[2..end - 2];
    let name = inner.trim_matches(|char: char| char.is_whitespace() || char == '-' || char == '+');
    let other = match name {
        "generation" => "if true",
        "endgeneration" => "endif",
        _ => return None,
    };
    Some((
        format!("{{%{}%}}", inner.replacen(name, other, 1)),
        &tag[end..],
    ))
}

#[cfg(test)]
mod tests {
    use super::strip;

    #[test]
    fn only_the_tag_is_replaced() {
        let source = "{%- generation -%}{{ generation }}{% if generation %}x{% endif %}{%+endgeneration%}{% broken";
        let expected =
            "{%- if true -%}{{ generation }}{% if generation %}x{% endif %}{%+endif%}{% broken";
        assert_eq!(strip(source), expected);
    }
}
