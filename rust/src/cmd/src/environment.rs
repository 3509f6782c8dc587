// SPDX-License-Identifier: Apache-2.0

//! Environment variables: booleans, sizes and seconds with the accepted forms in their errors.

use std::time::Duration;

use crate::fault::Fault;

const TRUE: [&str; 4] = ["1", "true", "yes", "on"];
const FALSE: [&str; 4] = ["0", "false", "no", "off"];

/// A variable's value; unset and empty are none. Text that `parse` does not take is refused with what is accepted.
pub fn read<T>(
    name: &str,
    parse: impl Fn(&str) -> Option<T>,
    accepted: &str,
) -> Result<Option<T>, Fault> {
    let Some(text) = std::env::var_os(name).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let value = text.to_str().and_then(|text| parse(text.trim()));
    value.map(Some).ok_or_else(|| {
        Fault::usage(format!(
            "environment variable {name} is {text:?}; accepted: {accepted}"
        ))
    })
}

/// 1/true/yes/on or 0/false/no/off in any case.
pub fn flag(name: &str) -> Result<Option<bool>, Fault> {
    read(name, parse_flag, "1/true/yes/on or 0/false/no/off")
}

fn parse_flag(text: &str) -> Option<bool> {
    let word = text.to_ascii_lowercase();
    let word = word.as_str();
    if TRUE.contains(&word) {
        Some(true)
    } else {
        FALSE.contains(&word).then_some(false)
    }
}

/// A number of bytes, with a unit if you like.
pub fn size(name: &str) -> Result<Option<usize>, Fault> {
    read(name, parse_size, SIZES)
}

/// What [`parse_size`] takes, in words.
pub const SIZES: &str = "a number of bytes, with a unit if you like: k, M, G, KiB, MiB, GiB";

/// `32MiB`, `1.5G`, `4096`.
pub fn parse_size(text: &str) -> Option<usize> {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let factor = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kb" => 1e3,
        "m" | "mb" => 1e6,
        "g" | "gb" => 1e9,
        "kib" => 1024.0,
        "mib" => 1024.0 * 1024.0,
        "gib" => 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    };
    let bytes = number.parse::<f64>().ok()? * factor;
    (bytes.is_finite() && bytes >= 0.0).then_some(bytes as usize)
}

/// Seconds, not negative.
pub fn seconds(name: &str) -> Result<Option<Duration>, Fault> {
    read(name, parse_seconds, "seconds, at least 0")
}

/// Seconds, not negative.
pub fn parse_seconds(text: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(text.parse().ok()?).ok()
}

/// A text.
pub fn text(name: &str) -> Result<Option<String>, Fault> {
    read(name, |text| Some(text.to_owned()), "text in UTF-8")
}

/// A secret. Set and empty is a secret that was not filled in, not a wish for none.
pub fn key(name: &str) -> Result<Option<String>, Fault> {
    let value = text(name)?;
    let empty = value.as_deref().is_none_or(str::is_empty);
    if empty && std::env::var_os(name).is_some() {
        return Err(Fault::usage(format!(
            "environment variable {name} is empty; accepted: a key; unset it for a server without keys"
        )));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn booleans_are_words_in_any_case() {
        for (text, value) in [
            ("1", true),
            ("True", true),
            ("YES", true),
            ("on", true),
            ("0", false),
            ("Off", false),
        ] {
            assert_eq!(parse_flag(text), Some(value), "{text}");
        }
        assert_eq!(parse_flag("maybe"), None);
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(parse_size("4096"), Some(4096));
        assert_eq!(parse_size("32MiB"), Some(32 << 20));
        assert_eq!(parse_size("1.5k"), Some(1500));
        for text in ["", "x", "1x", "-1", "1.2.3"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }
}
