// SPDX-License-Identifier: Apache-2.0

//! The table of routes: who may call each, what it takes, what it is for, and why a known one is not served.
//!
//! Dispatch, the metrics' labels and the reference pages read this table and nothing else.

use std::pin::Pin;

use crate::handlers::{
    chat, completions, dev, generate, health, info, reference, render, tokenize, web,
};
use crate::routes::{Answer, Call};

/// A handler, its future boxed.
pub type Handle = fn(Call) -> Pin<Box<dyn Future<Output = Answer>>>;

/// Who may call a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everybody.
    Open,
    /// Whoever has a key.
    Key,
    /// Whoever has a key, unless metrics are public.
    Metrics,
    /// Whoever has a key, in development mode only.
    Dev,
}

/// What a route takes besides its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// Nothing.
    Nothing,
    /// A JSON object: the name of its schema.
    Body(&'static str),
    /// Parameters of the query string.
    Query(&'static [&'static str]),
}

/// What a route gives when all is well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gives {
    /// An empty body.
    Nothing,
    /// JSON.
    Json,
    /// JSON, or events for a request with `stream`.
    JsonOrEvents,
    /// Text of this type.
    Text(&'static str),
}

/// What is done with a request.
pub enum Action {
    /// Served.
    Serve(Handle),
    /// Known, not served: the reason.
    Unserved(&'static str),
}

/// One row.
pub struct Route {
    /// HTTP method.
    pub method: &'static str,
    /// Ends in `/{id}` to match everything below.
    pub path: &'static str,
    /// Who may call it.
    pub access: Access,
    /// What it takes.
    pub takes: Takes,
    /// What it gives.
    pub gives: Gives,
    /// What it is for.
    pub doc: &'static str,
    /// What is done.
    pub action: Action,
}

const fn served(
    (method, path, access): (&'static str, &'static str, Access),
    takes: Takes,
    gives: Gives,
    doc: &'static str,
    handle: Handle,
) -> Route {
    Route {
        method,
        path,
        access,
        takes,
        gives,
        doc,
        action: Action::Serve(handle),
    }
}

const fn unserved(method: &'static str, path: &'static str, why: &'static str) -> Route {
    Route {
        method,
        path,
        access: Key,
        takes: Takes::Nothing,
        gives: Gives::Json,
        doc: "Known, not served.",
        action: Action::Unserved(why),
    }
}

use Access::{Dev, Key, Open};
use Gives::{Json, JsonOrEvents, Text};
use Takes::{Body, Query};

/// The handler of a row.
macro_rules! to {
    ($handler:path) => {
        |call| Box::pin($handler(call))
    };
}

const NONE: Takes = Takes::Nothing;
const EMPTY: Gives = Gives::Nothing;
const LATER: &str = "this API is not served yet; use /v1/chat/completions";
const NO_TASK: &str = "the model generates text; it has no such task";
const NO_LORA: &str = "the engine has no adapters yet";

/// Every known route; the busiest first.
pub static ROUTES: &[Route] = &[
    served(
        ("POST", "/v1/chat/completions", Key),
        Body("ChatRequest"),
        JsonOrEvents,
        "Answers a conversation.",
        to!(chat::handle),
    ),
    served(
        ("POST", "/v1/completions", Key),
        Body("CompletionRequest"),
        JsonOrEvents,
        "Continues one or several prompts.",
        to!(completions::handle),
    ),
    served(
        ("POST", "/tokenize", Key),
        Body("TokenizeRequest"),
        Json,
        "Text or conversation to token ids.",
        to!(tokenize::tokenize),
    ),
    served(
        ("POST", "/detokenize", Key),
        Body("DetokenizeRequest"),
        Json,
        "Token ids to text.",
        to!(tokenize::detokenize),
    ),
    served(
        ("GET", "/tokenizer_info", Key),
        NONE,
        Json,
        "Special tokens, chat template and sizes of the tokenizer.",
        to!(tokenize::info),
    ),
    served(
        ("POST", "/v1/chat/completions/render", Key),
        Body("ChatRequest"),
        Json,
        "A conversation as the request that /inference/v1/generate takes.",
        to!(render::chat),
    ),
    served(
        ("POST", "/v1/completions/render", Key),
        Body("CompletionRequest"),
        Json,
        "Prompts as a list of requests that /inference/v1/generate takes.",
        to!(render::completions),
    ),
    served(
        ("POST", "/inference/v1/generate", Key),
        Body("GenerateRequest"),
        JsonOrEvents,
        "Token ids in, token ids out; with --enable-scale-out.",
        to!(generate::handle),
    ),
    served(
        ("GET", "/v1/models", Key),
        NONE,
        Json,
        "The served names.",
        to!(info::models),
    ),
    served(
        ("GET", "/v1/models/{id}", Key),
        NONE,
        Json,
        "One served name.",
        to!(info::model),
    ),
    served(
        ("GET", "/health", Open),
        NONE,
        EMPTY,
        "200 while an engine serves and the server is not stopping, else 503.",
        to!(health::ready),
    ),
    served(
        ("GET", "/ready", Open),
        NONE,
        EMPTY,
        "The same as /health.",
        to!(health::ready),
    ),
    served(
        ("GET", "/live", Open),
        NONE,
        EMPTY,
        "200 while the process answers.",
        to!(health::live),
    ),
    served(
        ("GET", "/ping", Open),
        NONE,
        EMPTY,
        "The same as /health.",
        to!(health::ready),
    ),
    served(
        ("POST", "/ping", Open),
        NONE,
        EMPTY,
        "The same as /health.",
        to!(health::ready),
    ),
    served(
        ("GET", "/version", Open),
        NONE,
        Json,
        "The server's version.",
        to!(info::version),
    ),
    served(
        ("GET", "/metrics", Access::Metrics),
        NONE,
        Text("text/plain"),
        "Counters, gauges and histograms for Prometheus.",
        to!(info::metrics),
    ),
    served(
        ("GET", "/load", Key),
        NONE,
        Json,
        "Requests in all, and the load of each engine.",
        to!(info::load),
    ),
    served(
        ("GET", "/openapi.json", Key),
        NONE,
        Json,
        "This interface as OpenAPI 3.1.",
        to!(reference::openapi),
    ),
    served(
        ("GET", "/docs", Key),
        NONE,
        Text("text/html"),
        "This interface as a page that needs nothing else.",
        to!(reference::page),
    ),
    served(
        ("GET", "/", Open),
        NONE,
        Text("text/html"),
        "A page to chat and to watch the server; off with --disable-web-ui.",
        to!(web::page),
    ),
    served(
        ("POST", "/reset_prefix_cache", Dev),
        Query(&["reset_running_requests", "reset_external"]),
        Json,
        "Forgets cached prompts.",
        to!(dev::reset_prefix_cache),
    ),
    served(
        ("POST", "/sleep", Dev),
        Query(&["level", "mode"]),
        Json,
        "Frees the engines' memory.",
        to!(dev::sleep),
    ),
    served(
        ("POST", "/wake_up", Dev),
        NONE,
        Json,
        "Ends the sleep.",
        to!(dev::wake_up),
    ),
    served(
        ("GET", "/is_sleeping", Dev),
        NONE,
        Json,
        "Whether all engines sleep.",
        to!(dev::is_sleeping),
    ),
    served(
        ("POST", "/pause", Dev),
        Query(&["mode", "clear_cache"]),
        Json,
        "Stops generating.",
        to!(dev::pause),
    ),
    served(
        ("POST", "/resume", Dev),
        NONE,
        Json,
        "Generates again.",
        to!(dev::resume),
    ),
    served(
        ("GET", "/is_paused", Dev),
        NONE,
        Json,
        "Whether all engines are paused.",
        to!(dev::is_paused),
    ),
    served(
        ("POST", "/collective_rpc", Dev),
        Body("RpcRequest"),
        Json,
        "A call on every worker.",
        to!(dev::collective_rpc),
    ),
    served(
        ("POST", "/start_profile", Dev),
        NONE,
        Json,
        "Starts a profile of the engines.",
        to!(dev::start_profile),
    ),
    served(
        ("POST", "/stop_profile", Dev),
        NONE,
        Json,
        "Ends the profile.",
        to!(dev::stop_profile),
    ),
    served(
        ("GET", "/server_info", Dev),
        NONE,
        Json,
        "Settings of server and engines, without keys.",
        to!(dev::server_info),
    ),
    unserved("POST", "/v1/responses", LATER),
    unserved("GET", "/v1/responses/{id}", LATER),
    unserved("DELETE", "/v1/responses/{id}", LATER),
    unserved("POST", "/v1/responses/{id}", LATER),
    unserved("POST", "/v1/messages", LATER),
    unserved("POST", "/v1/messages/count_tokens", LATER),
    unserved("POST", "/v1/chat/completions/batch", LATER),
    unserved("POST", "/v1/embeddings", NO_TASK),
    unserved("POST", "/pooling", NO_TASK),
    unserved("POST", "/score", NO_TASK),
    unserved("POST", "/v1/score", NO_TASK),
    unserved("POST", "/rerank", NO_TASK),
    unserved("POST", "/v1/rerank", NO_TASK),
    unserved("POST", "/v2/rerank", NO_TASK),
    unserved("POST", "/classify", NO_TASK),
    unserved("POST", "/v1/audio/transcriptions", NO_TASK),
    unserved("POST", "/v1/audio/translations", NO_TASK),
    unserved("POST", "/v1/load_lora_adapter", NO_LORA),
    unserved("POST", "/v1/unload_lora_adapter", NO_LORA),
    unserved("POST", "/v1/files", LATER),
    unserved("GET", "/v1/files", LATER),
    unserved("POST", "/v1/batches", LATER),
    unserved("GET", "/v1/batches", LATER),
];

#[cfg(test)]
mod tests {
    use super::ROUTES;

    #[test]
    fn no_route_is_listed_twice() {
        let mut names: Vec<_> = ROUTES
            .iter()
            .map(|route| (route.path, route.method))
            .collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
