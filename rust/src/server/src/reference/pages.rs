// SPDX-License-Identifier: Apache-2.0

//! The interface for people: one text in two forms.

use std::fmt::Write as _;

use vllm_openai::fields::{self as table, Field, Routes};
use vllm_openai::{limits, schema};

use crate::table::{Access, Action, ROUTES, Route};

const INTRODUCTION: &str = "OpenAI-compatible inference. A known field is honoured or answered 400 with its name, \
    its value and its limit; a known route that is not served is a 501 with the reason. Fields that nobody knows are \
    ignored, or refused with --strict-fields; null is the same as leaving a field out. Errors have OpenAI's shape.";

/// A table of a page.
struct Table {
    title: &'static str,
    head: &'static [&'static str],
    /// The first column is code.
    rows: Vec<Vec<String>>,
}

fn tables() -> Vec<Table> {
    vec![
        routes("Routes", |route| matches!(route.action, Action::Serve(_))),
        routes("Known routes that are not served", |route| {
            matches!(route.action, Action::Unserved(_))
        }),
        fields("Fields of chat", Routes::CHAT),
        fields("Fields of completions", Routes::COMPLETIONS),
        fields("Fields of /inference/v1/generate", Routes::GENERATE),
        fields("Fields of its sampling_params", Routes::SAMPLING),
        limits_table(),
        connections(),
    ]
}

/// What holds for a connection and a head, whatever the route.
fn connections() -> Table {
    let rows = [
        (
            "Content-Type",
            "of a body: application/json or application/*+json, or none at all; 415 otherwise",
        ),
        (
            "Content-Encoding",
            "of a body: none, or identity; 415 otherwise",
        ),
        ("Host", "once, and at least once in HTTP/1.1; 400 otherwise"),
        (
            "Origin, Sec-Fetch-Site",
            "where no key is set, what changes something is refused (403) to pages of other origins than the server's own and \
             those of --allowed-origins",
        ),
        (
            "X-Request-Id",
            "1 to 512 visible characters become the request's id, anything else is replaced by a random one; logs and \
             answers carry it",
        ),
        (
            "heads that are no HTTP",
            "400, 414 or 431 without a body, and the connection ends: they fail before there is a request to answer",
        ),
        (
            "half-closed connections",
            "count as closed: who ends its sending half before the answer is there gets none, and its request is \
             aborted. The two cannot be told apart, and a client that left must cost nothing",
        ),
    ];
    Table {
        title: "Heads and connections",
        head: &["what", "rule"],
        rows: rows
            .map(|(what, rule)| vec![what.to_owned(), rule.to_owned()])
            .to_vec(),
    }
}

fn routes(title: &'static str, pick: impl Fn(&Route) -> bool) -> Table {
    let rows = ROUTES.iter().filter(|route| pick(route)).map(|route| {
        let name = format!("{} {}", route.method, route.path);
        match &route.action {
            Action::Serve(_) => vec![name, access(route.access).to_owned(), route.doc.to_owned()],
            Action::Unserved(why) => vec![name, access(route.access).to_owned(), format!("{why}.")],
        }
    });
    Table {
        title,
        head: &["route", "who may call it", "what it does"],
        rows: rows.collect(),
    }
}

fn access(access: Access) -> &'static str {
    match access {
        Access::Open => "everybody",
        Access::Key => "with a key",
        Access::Metrics => "with a key, or everybody with --public-metrics",
        Access::Dev => "with a key, and only with VLLM_SERVER_DEV_MODE=1",
    }
}

fn fields(title: &'static str, routes: Routes) -> Table {
    let row = |field: &Field| {
        vec![
            field.name.to_owned(),
            schema::accepts(field),
            field.doc.to_owned(),
        ]
    };
    let mut own: Vec<_> = table::all()
        .filter(|field| field.routes.overlaps(routes))
        .collect();
    own.sort_by_key(|field| field.name);
    Table {
        title,
        head: &["field", "accepts", "what it does"],
        rows: own.into_iter().map(row).collect(),
    }
}

fn limits_table() -> Table {
    let rows = [
        (
            "request body",
            limits::MAX_BODY_BYTES,
            "bytes, unless --max-request-body-size says otherwise; 413 beyond",
        ),
        (
            "members",
            limits::MAX_MEMBERS,
            "of the request's JSON object",
        ),
        ("messages", limits::MAX_MESSAGES, "per request"),
        ("prompts", limits::MAX_PROMPTS, "per request"),
        (
            "choices",
            limits::MAX_CHOICES,
            "per request, over all prompts",
        ),
    ];
    let row = |(name, most, words): (&str, usize, &str)| {
        vec![name.to_owned(), most.to_string(), words.to_owned()]
    };
    Table {
        title: "Limits of a request as a whole",
        head: &["of", "at most", ""],
        rows: rows.into_iter().map(row).collect(),
    }
}

/// The page of the documentation.
pub fn markdown() -> String {
    let mut out = String::from(
        "<!-- SPDX-License-Identifier: Apache-2.0. Generated from the tables in rust/src; `vllm-rs reference http-api` prints it. -->\n\n# HTTP interface\n\n",
    );
    let _ = writeln!(out, "{INTRODUCTION}");
    for table in tables() {
        let _ = writeln!(out, "\n## {}\n", table.title);
        let _ = writeln!(out, "| {} |", table.head.join(" | "));
        let _ = writeln!(out, "|{}", "---|".repeat(table.head.len()));
        for row in &table.rows {
            let cells: Vec<_> = row.iter().map(|cell| cell.replace('|', "\\|")).collect();
            let _ = writeln!(out, "| `{}` | {} |", cells[0], cells[1..].join(" | "));
        }
    }
    out
}

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:70em;margin:2em auto;padding:0 1em;color:#222;background:#fff}\
    table{border-collapse:collapse;width:100%}td,th{border-bottom:1px solid #ccc;padding:.3em .6em;text-align:left;vertical-align:top}\
    code{white-space:nowrap}@media(prefers-color-scheme:dark){body{color:#ddd;background:#111}td,th{border-color:#444}}";

/// The page that the server shows: no script, nothing loaded.
pub fn html() -> String {
    let mut out = format!(
        "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>vLLM HTTP interface</title><style>{STYLE}</style></head><body><h1>vLLM {} HTTP interface</h1><p>{}</p>",
        env!("CARGO_PKG_VERSION"),
        escape(INTRODUCTION),
    );
    for table in tables() {
        let _ = write!(out, "<h2>{}</h2><table><tr>", escape(table.title));
        for head in table.head {
            let _ = write!(out, "<th>{}</th>", escape(head));
        }
        for row in &table.rows {
            let _ = write!(out, "</tr><tr><td><code>{}</code></td>", escape(&row[0]));
            for cell in &row[1..] {
                let _ = write!(out, "<td>{}</td>", escape(cell));
            }
        }
        out.push_str("</tr></table>");
    }
    out.push_str("</body></html>");
    out
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_have_every_route_and_field() {
        let (page, text) = (html(), markdown());
        for route in ROUTES {
            assert!(
                page.contains(&escape(route.path)) && text.contains(route.path),
                "{}",
                route.path
            );
        }
        for field in table::all() {
            let (code, cell) = (
                format!("<code>{}</code>", field.name),
                format!("| `{}` |", field.name),
            );
            assert!(
                page.contains(&code) && text.contains(&cell),
                "{}",
                field.name
            );
        }
    }

    #[test]
    fn the_page_loads_nothing() {
        for word in ["http:", "https:", "src=", "href=", "<script", "url("] {
            assert!(!html().contains(word), "{word}");
        }
    }
}
