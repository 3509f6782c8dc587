// SPDX-License-Identifier: Apache-2.0

//! Lists and objects of which no more is kept than may be: what is beyond a limit is counted, not stored.

use std::fmt;
use std::marker::PhantomData;

use indexmap::IndexMap;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::body;
use crate::error::ApiError;

/// A list of at most `max` entries, or the error that says how many there are.
pub(crate) fn list<'a, T: Deserialize<'a>>(
    path: &str,
    raw: &'a RawValue,
    max: usize,
    expected: &str,
) -> Result<Vec<T>, ApiError> {
    let mut reader = serde_json::Deserializer::from_str(raw.get());
    let read = List(max, PhantomData).deserialize(&mut reader);
    let (items, count) = read.map_err(|error| body::unreadable(path, raw, expected, &error))?;
    body::check_count(path, count, max)?;
    Ok(items)
}

/// An object of at most `max` members, values unread; the last of a name counts.
pub(crate) fn object<'a>(
    path: &str,
    raw: &'a RawValue,
    max: usize,
    expected: &str,
) -> Result<IndexMap<String, &'a RawValue>, ApiError> {
    let mut reader = serde_json::Deserializer::from_str(raw.get());
    let read = Object(max).deserialize(&mut reader);
    let (members, count) = read.map_err(|error| body::unreadable(path, raw, expected, &error))?;
    body::check_count(path, count, max)?;
    Ok(members)
}

struct List<T>(usize, PhantomData<T>);

impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for List<T> {
    type Value = (Vec<T>, usize);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for List<T> {
    type Value = (Vec<T>, usize);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while items.len() < self.0 {
            match seq.next_element()? {
                Some(item) => items.push(item),
                None => {
                    let count = items.len();
                    return Ok((items, count));
                }
            }
        }
        let mut count = items.len();
        while seq.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok((items, count))
    }
}

struct Object(usize);

impl<'de> DeserializeSeed<'de> for Object {
    type Value = (IndexMap<String, &'de RawValue>, usize);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object {
    type Value = (IndexMap<String, &'de RawValue>, usize);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = IndexMap::new();
        while members.len() <= self.0 {
            match map.next_entry()? {
                Some((name, value)) => members.insert(name, value),
                None => {
                    let count = members.len();
                    return Ok((members, count));
                }
            };
        }
        let mut count = members.len();
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok((members, count))
    }
}
