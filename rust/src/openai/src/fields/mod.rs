// SPDX-License-Identifier: Apache-2.0

//! The table of request fields: name, routes, what it accepts, whether it is served.
//!
//! Validation, the handling of unknown fields and the reference pages read this table and nothing else. It has a part
//! per subject; the rows of a part are sorted by name (a test asserts it). A field whose meaning differs by route has
//! one row per route.

mod about;
mod answer;
mod prompt;
mod rule;
mod sampling;
mod unserved;

pub use rule::{Bounds, Field, Neutral, Routes, Rule};

static PARTS: [&[Field]; 5] = [
    prompt::FIELDS,
    sampling::FIELDS,
    answer::FIELDS,
    about::FIELDS,
    unserved::FIELDS,
];

/// Every known field of chat, completions and generate.
pub fn all() -> impl Iterator<Item = &'static Field> {
    PARTS.into_iter().flatten()
}

/// The row of a field on a route.
pub fn find(name: &str, route: Routes) -> Option<&'static Field> {
    PARTS
        .into_iter()
        .find_map(|part| find_in(part, name, route))
}

/// The row of a field that this route does not know and another does.
pub(crate) fn find_elsewhere(name: &str, route: Routes) -> Option<&'static Field> {
    if route.overlaps(Routes::BOTH) {
        return find(name, Routes::BOTH);
    }
    find(name, Routes::SAMPLING).or_else(|| find(name, Routes::ALL))
}

fn find_in(part: &'static [Field], name: &str, route: Routes) -> Option<&'static Field> {
    let start = part.partition_point(|field| field.name < name);
    part[start..]
        .iter()
        .take_while(|field| field.name == name)
        .find(|field| field.routes.overlaps(route))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_sorted() {
        for part in PARTS {
            assert!(part.is_sorted_by(|a, b| a.name <= b.name));
        }
    }

    #[test]
    fn no_route_has_two_rows_of_a_name() {
        for (at, a) in all().enumerate() {
            for b in all().skip(at + 1) {
                assert!(
                    a.name != b.name || !a.routes.overlaps(b.routes),
                    "{}",
                    a.name
                );
            }
        }
    }

    #[test]
    fn a_name_finds_the_row_of_its_route() {
        assert!(matches!(
            find("logprobs", Routes::CHAT).map(|f| &f.rule),
            Some(Rule::Bool(_))
        ));
        assert!(matches!(
            find("logprobs", Routes::COMPLETIONS).map(|f| &f.rule),
            Some(Rule::Candidates(_))
        ));
        assert!(find("messages", Routes::COMPLETIONS).is_none());
        assert!(find("no_such_field", Routes::BOTH).is_none());
    }
}
