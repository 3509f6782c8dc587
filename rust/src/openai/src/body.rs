// SPDX-License-Identifier: Apache-2.0

//! Reads a request body by the field table: one pass over the top level, one typed read per known field.

use std::borrow::Cow;
use std::fmt;

use indexmap::IndexMap;
use serde::Deserialize;
use serde::de::{Deserializer as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::capped;
use crate::error::{ApiError, shorten};
use crate::fields::{self, Bounds, Field, Neutral, Routes, Rule};
use crate::limits::MAX_MEMBERS;
use crate::request::Draft;

/// What the wire holds; how many the server gives is its own setting.
const CANDIDATES: (i64, i64) = (0, u32::MAX as i64);
/// Most unknown names kept for the log line.
const MAX_UNKNOWN: usize = 16;

/// Reads a JSON object into a draft. Known fields are checked, unknown ones are listed in `options.unknown`.
pub fn read(body: &[u8], route: Routes) -> Result<Draft, ApiError> {
    let mut draft = Draft::default();
    read_into(&mut draft, body, route)?;
    Ok(draft)
}

/// Reads an object's members into a draft.
pub(crate) fn read_into(draft: &mut Draft, body: &[u8], route: Routes) -> Result<(), ApiError> {
    // The last member of a name counts.
    let members: IndexMap<_, _> = members(body)?.into_iter().collect();
    for (name, raw) in members {
        match fields::find(&name, route) {
            Some(field) => apply(field, draft, raw)?,
            None => match fields::find_elsewhere(&name, route) {
                Some(field) => refuse_misplaced(field, raw, route)?,
                // null is the same as leaving a field out.
                None if raw.get() == "null" => {}
                None => note_unknown(draft, &name),
            },
        }
    }
    Ok(())
}

/// A field of another route has no effect here; a value that asks for something is refused.
fn refuse_misplaced(field: &Field, raw: &RawValue, route: Routes) -> Result<(), ApiError> {
    let asks = match &field.rule {
        Rule::NoEffect => false,
        Rule::Refused(neutral, _) => !neutral.accepts(raw.get()),
        _ => true,
    };
    if !asks || raw.get() == "null" {
        return Ok(());
    }
    let name = field.name;
    let remedy = if route == Routes::GENERATE && field.routes.overlaps(Routes::SAMPLING) {
        "belongs in `sampling_params`".to_owned()
    } else if route == Routes::SAMPLING && field.routes.overlaps(Routes::GENERATE) {
        "belongs beside `sampling_params`, not in it".to_owned()
    } else {
        format!(
            "is a field of {} and has no meaning here: leave it out",
            field.routes.describe()
        )
    };
    Err(ApiError::field(name, format!("`{name}` {remedy}.")).with_code("unsupported_field"))
}

/// Keeps the name, or the path, of a field that nobody knows.
pub(crate) fn note_unknown(draft: &mut Draft, path: &str) {
    if draft.options.unknown.len() < MAX_UNKNOWN {
        draft.options.unknown.push(shorten(path));
    }
}

/// Keeps the paths of what an object at `path` has beside its known members.
pub(crate) fn note_unknown_members(
    draft: &mut Draft,
    path: &str,
    members: &IndexMap<String, &RawValue>,
    known: &[&str],
) {
    for (name, raw) in members {
        if !known.contains(&name.as_str()) && raw.get() != "null" {
            note_unknown(draft, &format!("{path}.{name}"));
        }
    }
}

/// The members of a JSON object, in order, their values unread.
pub fn members(body: &[u8]) -> Result<Vec<(Cow<'_, str>, &RawValue)>, ApiError> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let members = reader.deserialize_map(MembersVisitor).map_err(body_error)?;
    reader.end().map_err(body_error)?;
    if members.len() > MAX_MEMBERS {
        return Err(ApiError::bad_request(format!(
            "The request body must have at most {MAX_MEMBERS} members."
        )));
    }
    Ok(members)
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::with_capacity(16);
        while let Some((Key(name), raw)) = map.next_entry()? {
            members.push((name, raw));
            if members.len() > MAX_MEMBERS {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                break;
            }
        }
        Ok(members)
    }
}

#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

fn body_error(error: serde_json::Error) -> ApiError {
    if error.is_data() {
        return ApiError::bad_request("The request body must be a JSON object.");
    }
    let (line, column) = (error.line(), error.column());
    let what = if error.is_eof() {
        "ends too early"
    } else {
        "is not valid JSON"
    };
    ApiError::bad_request(format!(
        "The request body {what} (line {line}, column {column})."
    ))
}

/// Checks one value against its row and stores it. `null` is the same as leaving the field out.
fn apply(field: &Field, draft: &mut Draft, raw: &RawValue) -> Result<(), ApiError> {
    if raw.get() == "null" {
        return Ok(());
    }
    let name = field.name;
    match &field.rule {
        Rule::Bool(set) => set(draft, parse(name, raw, "true or false")?),
        Rule::Int(bounds, set) => set(draft, integer(name, raw, *bounds)?),
        Rule::Float(bounds, set) => set(draft, float(name, raw, *bounds)?),
        Rule::Candidates(set) => set(draft, integer(name, raw, CANDIDATES)? as u32),
        Rule::Text(max, set) => set(draft, text(name, raw, *max)?),
        Rule::Id(max, set) => set(draft, id(name, raw, *max)?),
        Rule::TextOrList(max, set) => set(draft, texts(name, raw, *max, true)?),
        Rule::TextList(max, set) => set(draft, texts(name, raw, *max, false)?),
        Rule::Ids(max, set) => set(draft, ids(name, raw, *max)?),
        Rule::Json(_, set) => set(draft, name, raw)?,
        Rule::NoEffect => {}
        Rule::Refused(neutral, why) => refuse(name, raw, *neutral, why)?,
    }
    Ok(())
}

fn refuse(name: &str, raw: &RawValue, neutral: Neutral, why: &str) -> Result<(), ApiError> {
    if neutral.accepts(raw.get()) {
        return Ok(());
    }
    let value = shorten(raw.get());
    let accepted = neutral.describe();
    Err(ApiError::field(
        name,
        format!("`{name}` is not supported with the value {value}: {why}. {accepted}"),
    )
    .with_code("unsupported_field"))
}

/// A typed read whose error says what was expected at which path.
pub(crate) fn parse<'a, T: Deserialize<'a>>(
    path: &str,
    raw: &'a RawValue,
    expected: &str,
) -> Result<T, ApiError> {
    serde_json::from_str(raw.get()).map_err(|error| unreadable(path, raw, expected, &error))
}

/// Why a value was not what was expected.
pub(crate) fn unreadable(
    path: &str,
    raw: &RawValue,
    expected: &str,
    error: &serde_json::Error,
) -> ApiError {
    match error.classify() {
        // The text was JSON when the body was read, so it is a value that cannot be held.
        serde_json::error::Category::Syntax => unholdable(path, error),
        _ => mismatch(path, raw.get(), expected),
    }
}

fn unholdable(path: &str, error: &serde_json::Error) -> ApiError {
    let reason = error.to_string();
    let what = if reason.starts_with("recursion limit") {
        "is nested too deeply: at most 127 levels are read"
    } else if reason.starts_with("number out of range") {
        "holds a number that is too large"
    } else {
        "holds half of a surrogate pair, as \"\\ud83d\", which is no text"
    };
    ApiError::field(path, format!("`{path}` {what}."))
}

/// "`path` must be X, not the string "abc"."
pub(crate) fn mismatch(path: &str, raw: &str, expected: &str) -> ApiError {
    let found = describe(raw);
    ApiError::field(path, format!("`{path}` must be {expected}, not {found}."))
}

/// A value in words: its type, and the value itself when it is short.
fn describe(raw: &str) -> String {
    let shown = shorten(raw);
    match raw.as_bytes().first() {
        Some(b'"') => format!("the string {shown}"),
        Some(b'{') => "an object".to_owned(),
        Some(b'[') if raw.len() > 64 => "a list".to_owned(),
        Some(b'[') => format!("the list {shown}"),
        _ => shown,
    }
}

/// An integer within bounds; `5.0` counts as 5.
pub(crate) fn integer(path: &str, raw: &RawValue, (min, max): (i64, i64)) -> Result<i64, ApiError> {
    let value = whole_number(raw.get());
    value.filter(|v| (min..=max).contains(v)).ok_or_else(|| {
        let expected = format!("a whole number from {min} to {max}");
        mismatch(path, raw.get(), &expected)
    })
}

fn whole_number(raw: &str) -> Option<i64> {
    if let Ok(value) = serde_json::from_str::<i64>(raw) {
        return Some(value);
    }
    // 2^53: above it a float no longer names one integer.
    let value = serde_json::from_str::<f64>(raw).ok()?;
    (value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0).then_some(value as i64)
}

fn float(path: &str, raw: &RawValue, bounds: Bounds) -> Result<f64, ApiError> {
    let value = serde_json::from_str::<f64>(raw.get()).ok();
    value
        .filter(|v| bounds.contains(*v))
        .ok_or_else(|| mismatch(path, raw.get(), &bounds.describe()))
}

pub(crate) fn text(path: &str, raw: &RawValue, max: usize) -> Result<String, ApiError> {
    let value: String = parse(path, raw, "a string")?;
    check_text(path, &value, max)?;
    Ok(value)
}

fn id(path: &str, raw: &RawValue, max: usize) -> Result<String, ApiError> {
    let value = text(path, raw, max)?;
    if value.is_empty() {
        return Err(ApiError::field(
            path,
            format!("`{path}` must not be empty: leave it out."),
        ));
    }
    if value.contains(char::is_control) {
        return Err(ApiError::field(
            path,
            format!("`{path}` must not hold control characters, as a line feed."),
        ));
    }
    Ok(value)
}

fn check_text(path: &str, value: &str, max: usize) -> Result<(), ApiError> {
    let length = value.len();
    if length > max {
        let message = format!("`{path}` must be at most {max} bytes long, not {length}.");
        return Err(ApiError::field(path, message));
    }
    Ok(())
}

fn texts(
    path: &str,
    raw: &RawValue,
    max: (usize, usize),
    single: bool,
) -> Result<Vec<String>, ApiError> {
    let (max_items, max_bytes) = max;
    let expected = if single {
        "a string or a list of strings"
    } else {
        "a list of strings"
    };
    let values: Vec<String> = if single && raw.get().starts_with('"') {
        vec![parse(path, raw, expected)?]
    } else {
        capped::list(path, raw, max_items, expected)?
    };
    for (i, value) in values.iter().enumerate() {
        let path = format!("{path}[{i}]");
        if value.is_empty() {
            return Err(ApiError::field(
                &path,
                format!("`{path}` must not be empty."),
            ));
        }
        check_text(&path, value, max_bytes)?;
    }
    Ok(values)
}

pub(crate) fn check_count(path: &str, count: usize, max: usize) -> Result<(), ApiError> {
    if count > max {
        let message = format!("`{path}` must have at most {max} entries, not {count}.");
        return Err(ApiError::field(path, message));
    }
    Ok(())
}

fn ids(path: &str, raw: &RawValue, max_items: usize) -> Result<Vec<u32>, ApiError> {
    let ids: Vec<u32> = capped::list(path, raw, max_items, "a list of token ids")?;
    check_ids(path, &ids)?;
    Ok(ids)
}

pub(crate) fn check_ids(path: &str, ids: &[u32]) -> Result<(), ApiError> {
    let max = crate::limits::MAX_TOKEN_ID;
    match ids.iter().position(|&id| i64::from(id) > max) {
        None => Ok(()),
        Some(i) => Err(ApiError::field(
            format!("{path}[{i}]"),
            format!(
                "`{path}[{i}]` must be a token id from 0 to {max}, not {}.",
                ids[i]
            ),
        )),
    }
}
