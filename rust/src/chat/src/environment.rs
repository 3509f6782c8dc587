// SPDX-License-Identifier: Apache-2.0

//! The Jinja environment that Transformers gives to chat templates.

use std::fmt::Write;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Tuple, ValueKind, from_args};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat;

use crate::python_json;

/// The template's own refusal, told apart from every other failure by its type.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Refusal(pub(crate) String);

/// The marks of tags are Jinja's own; whitespace around blocks is dropped.
pub(crate) fn syntax() -> Result<SyntaxConfig, Error> {
    SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build()
}

pub(crate) fn environment() -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    environment.set_syntax(syntax()?);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_unknown_method_callback(method);
    // Errors then say which name was undefined.
    environment.set_debug(true);
    environment.add_filter("tojson", |state: &State, value: &Value, options: Kwargs| {
        python_json::tojson(state, value, options)
    });
    environment.add_test("sequence", is_sequence);
    environment.add_test("iterable", is_iterable);
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
    Ok(environment)
}

/// Whatever has a length and items, as in Jinja2: also strings and mappings.
fn is_sequence(value: &Value) -> bool {
    matches!(
        value.kind(),
        ValueKind::Seq | ValueKind::Map | ValueKind::String
    )
}

/// As in Jinja2: `none` is not iterable, an undefined value is (and empty).
fn is_iterable(value: &Value) -> bool {
    is_sequence(value) || matches!(value.kind(), ValueKind::Iterable | ValueKind::Undefined)
}

fn raise_exception(message: String) -> Result<Value, Error> {
    let error = Error::new(ErrorKind::InvalidOperation, message.clone());
    Err(error.with_source(Refusal(message)))
}

/// The local date and time in C's notation.
fn strftime_now(format: &str) -> Result<String, Error> {
    let mut text = String::new();
    match write!(text, "{}", chrono::Local::now().format(format)) {
        Ok(()) => Ok(text),
        Err(_) => {
            let message = format!("strftime_now: {format:?} is not a valid date format");
            Err(Error::new(ErrorKind::InvalidOperation, message))
        }
    }
}

/// Python's methods on strings, lists and mappings.
fn method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    if let Some(text) = value.as_str() {
        state.consume_fuel(method_cost(text, name, args))?;
    }
    match value.as_str().map(|text| string_method(text, name, args)) {
        Some(Some(result)) => result,
        _ => pycompat::unknown_method_callback(state, value, name, args),
    }
}

/// Fuel of a method on a text: one for 64 bytes that it reads or writes, and one for each text that it makes.
fn method_cost(text: &str, name: &str, args: &[Value]) -> u64 {
    let argument = |at: usize| args.get(at).and_then(Value::as_str);
    let made = match (name, argument(0)) {
        ("replace", Some(old)) => text.matches(old).count() * argument(1).unwrap_or("").len() / 64,
        ("split" | "rsplit", Some(separator)) => text.matches(separator).count(),
        ("split" | "rsplit", None) => text.split_whitespace().count(),
        ("splitlines", _) => text.lines().count(),
        ("format", _) => largest_number(text) / 64,
        _ => 0,
    };
    (text.len() / 64 + made) as u64
}

/// The largest number written in a format, which may be a width.
fn largest_number(format: &str) -> usize {
    let numbers = format.split(|char: char| !char.is_ascii_digit());
    let read = |digits: &str| digits.parse().unwrap_or(usize::MAX >> 1);
    let given = numbers.filter(|digits| !digits.is_empty());
    given.map(read).max().unwrap_or(0)
}

/// Methods of strings beyond those of `pycompat`.
fn string_method(text: &str, name: &str, args: &[Value]) -> Option<Result<Value, Error>> {
    let one = || from_args::<(&str,)>(args).map(|(arg,)| arg);
    Some(match name {
        "removeprefix" => one().map(|prefix| text.strip_prefix(prefix).unwrap_or(text).into()),
        "removesuffix" => one().map(|suffix| text.strip_suffix(suffix).unwrap_or(text).into()),
        "partition" => one().map(|at| match text.split_once(at) {
            Some((before, after)) => triple(before, at, after),
            None => triple(text, "", ""),
        }),
        "rpartition" => one().map(|at| match text.rsplit_once(at) {
            Some((before, after)) => triple(before, at, after),
            None => triple("", "", text),
        }),
        "rsplit" => rsplit(text, args),
        _ => return None,
    })
}

fn triple(before: &str, at: &str, after: &str) -> Value {
    Value::from(Tuple::from([before, at, after].map(Value::from)))
}

/// `text.rsplit(separator, maxsplit)`; without a separator only the form without a limit.
fn rsplit(text: &str, args: &[Value]) -> Result<Value, Error> {
    let (separator, limit) = from_args::<(Option<&str>, Option<i64>)>(args)?;
    let limit = limit.and_then(|limit| usize::try_from(limit).ok());
    let mut parts: Vec<&str> = match (separator, limit) {
        (None, None) => text.split_whitespace().rev().collect(),
        (None, Some(_)) => {
            let message = "rsplit: a limit needs a separator";
            return Err(Error::new(ErrorKind::InvalidOperation, message));
        }
        (Some(separator), None) => text.rsplit(separator).collect(),
        (Some(separator), Some(limit)) => text.rsplitn(limit + 1, separator).collect(),
    };
    parts.reverse();
    Ok(parts.into_iter().map(Value::from).collect())
}
