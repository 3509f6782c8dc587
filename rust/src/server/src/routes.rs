// SPDX-License-Identifier: Apache-2.0

//! The route table, and the way from a request's head to its handler.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Instant;

use futures_util::FutureExt;
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use vllm_metrics::Handler as Named;
use vllm_openai::ApiError;

use crate::admission;
use crate::app::App;
use crate::auth;
use crate::body::{self, Body};
use crate::handlers::{chat, completions, dev, generate, health, info, render, tokenize};
use crate::identity;

/// One request on its way to a handler.
pub struct Call {
    /// The shard's state.
    pub app: Rc<App>,
    /// Method, path, headers.
    pub parts: http::request::Parts,
    /// Unread body.
    pub body: Incoming,
    /// What followed the route's path, for routes that end in `{id}`.
    pub rest: String,
    /// When the head arrived.
    pub arrival: Instant,
}

impl Call {
    /// Reads the body within the server's limits.
    pub async fn read_body(
        self,
    ) -> Result<(Rc<App>, http::request::Parts, bytes::Bytes, Instant), ApiError> {
        let Self {
            app,
            parts,
            body,
            arrival,
            ..
        } = self;
        let (limit, patience) = (
            app.shared.config.max_body_bytes,
            app.shared.config.read_timeout,
        );
        let bytes = body::read(body, limit, patience).await?;
        Ok((app, parts, bytes, arrival))
    }
}

/// What a handler gives.
pub type Answer = Result<Response<Body>, ApiError>;
type Handle = fn(Call) -> Pin<Box<dyn Future<Output = Answer>>>;

/// Who may call a route.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    /// Everybody.
    Open,
    /// Whoever has a key.
    Key,
    /// Whoever has a key, unless metrics are public.
    Metrics,
    /// Whoever has a key, in development mode only.
    Dev,
}

enum Action {
    Serve(Handle),
    /// Known, not served: the reason.
    Unserved(&'static str),
}

struct Route {
    method: &'static str,
    /// Ends in `/{id}` to match everything below.
    path: &'static str,
    access: Access,
    action: Action,
}

const fn serve(method: &'static str, path: &'static str, access: Access, handle: Handle) -> Route {
    Route {
        method,
        path,
        access,
        action: Action::Serve(handle),
    }
}

const fn unserved(method: &'static str, path: &'static str, why: &'static str) -> Route {
    Route {
        method,
        path,
        access: Access::Key,
        action: Action::Unserved(why),
    }
}

use Access::{Dev, Key, Open};

const LATER: &str = "this API is not served yet; use /v1/chat/completions";
const NO_TASK: &str = "the model generates text; it has no such task";
const NO_LORA: &str = "the engine has no adapters yet";

/// Every known route; the busiest first.
static ROUTES: &[Route] = &[
    serve("POST", "/v1/chat/completions", Key, |call| {
        Box::pin(chat::handle(call))
    }),
    serve("POST", "/v1/completions", Key, |call| {
        Box::pin(completions::handle(call))
    }),
    serve("POST", "/tokenize", Key, |call| {
        Box::pin(tokenize::tokenize(call))
    }),
    serve("POST", "/detokenize", Key, |call| {
        Box::pin(tokenize::detokenize(call))
    }),
    serve("GET", "/tokenizer_info", Key, |call| {
        Box::pin(tokenize::info(call))
    }),
    serve("POST", "/v1/chat/completions/render", Key, |call| {
        Box::pin(render::chat(call))
    }),
    serve("POST", "/v1/completions/render", Key, |call| {
        Box::pin(render::completions(call))
    }),
    serve("POST", "/inference/v1/generate", Key, |call| {
        Box::pin(generate::handle(call))
    }),
    serve("GET", "/v1/models", Key, |call| {
        Box::pin(info::models(call))
    }),
    serve("GET", "/v1/models/{id}", Key, |call| {
        Box::pin(info::model(call))
    }),
    serve("GET", "/health", Open, |call| Box::pin(health::ready(call))),
    serve("GET", "/ready", Open, |call| Box::pin(health::ready(call))),
    serve("GET", "/live", Open, |call| Box::pin(health::live(call))),
    serve("GET", "/ping", Open, |call| Box::pin(health::ready(call))),
    serve("POST", "/ping", Open, |call| Box::pin(health::ready(call))),
    serve("GET", "/version", Open, |call| {
        Box::pin(info::version(call))
    }),
    serve("GET", "/metrics", Access::Metrics, |call| {
        Box::pin(info::metrics(call))
    }),
    serve("GET", "/load", Key, |call| Box::pin(info::load(call))),
    serve("POST", "/reset_prefix_cache", Dev, |call| {
        Box::pin(dev::reset_prefix_cache(call))
    }),
    serve("POST", "/sleep", Dev, |call| Box::pin(dev::sleep(call))),
    serve("POST", "/wake_up", Dev, |call| Box::pin(dev::wake_up(call))),
    serve("GET", "/is_sleeping", Dev, |call| {
        Box::pin(dev::is_sleeping(call))
    }),
    serve("POST", "/pause", Dev, |call| Box::pin(dev::pause(call))),
    serve("POST", "/resume", Dev, |call| Box::pin(dev::resume(call))),
    serve("GET", "/is_paused", Dev, |call| {
        Box::pin(dev::is_paused(call))
    }),
    serve("POST", "/collective_rpc", Dev, |call| {
        Box::pin(dev::collective_rpc(call))
    }),
    serve("POST", "/start_profile", Dev, |call| {
        Box::pin(dev::start_profile(call))
    }),
    serve("POST", "/stop_profile", Dev, |call| {
        Box::pin(dev::stop_profile(call))
    }),
    serve("GET", "/server_info", Dev, |call| {
        Box::pin(dev::server_info(call))
    }),
    unserved("GET", "/openapi.json", "it is not generated yet"),
    unserved("GET", "/docs", "it is not generated yet"),
    unserved("GET", "/", "there is no web page yet"),
    unserved("GET", "/v1/responses/{id}", LATER),
    unserved("DELETE", "/v1/responses/{id}", LATER),
    unserved("POST", "/v1/responses/{id}", LATER),
    unserved("POST", "/v1/responses", LATER),
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

/// The routes as the HTTP metrics name them; the last one stands for every unknown path.
pub fn handlers() -> Vec<Named> {
    let known = ROUTES.iter().map(|route| Named {
        path: route.path,
        method: route.method,
    });
    known
        .chain([Named {
            path: "none",
            method: "none",
        }])
        .collect()
}

/// What the table says about a method and a path.
enum Found<'a> {
    /// A route, its position, and what followed its path.
    Route(usize, &'a str),
    /// The path is known with other methods.
    OtherMethods(Vec<&'static str>),
    /// Nothing.
    Unknown,
}

fn find<'a>(method: &Method, path: &'a str) -> Found<'a> {
    // HEAD is GET without the body, which the connection leaves out.
    let method = if method == Method::HEAD {
        "GET"
    } else {
        method.as_str()
    };
    let mut others = Vec::new();
    for (position, route) in ROUTES.iter().enumerate() {
        match rest(route.path, path) {
            Some(rest) if route.method == method => return Found::Route(position, rest),
            Some(_) => others.push(route.method),
            None => {}
        }
    }
    if others.is_empty() {
        Found::Unknown
    } else {
        Found::OtherMethods(others)
    }
}

/// What follows a route's path; `None` when the route is another.
fn rest<'a>(route: &str, path: &'a str) -> Option<&'a str> {
    match route.strip_suffix("{id}") {
        None => (route == path).then_some(""),
        Some(prefix) => path.strip_prefix(prefix).filter(|rest| !rest.is_empty()),
    }
}

/// Answers a request, whatever it is.
pub async fn dispatch(app: Rc<App>, request: Request<Incoming>) -> Response<Body> {
    let arrival = Instant::now();
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let shown_id = shown_id(&app, &parts);
    let (position, answer) = match find(&parts.method, &path) {
        Found::Route(position, rest) => {
            let call = Call {
                app: app.clone(),
                parts,
                body,
                rest: rest.to_owned(),
                arrival,
            };
            (position, run(&ROUTES[position], call).await)
        }
        Found::OtherMethods(allowed) => (
            ROUTES.len(),
            Ok(not_allowed(&parts.method, &path, &allowed)),
        ),
        Found::Unknown => (ROUTES.len(), Err(unknown(&path))),
    };
    let mut response = answer.unwrap_or_else(|error| error_response(&error));
    if let Some(id) = shown_id {
        response.headers_mut().insert(identity::REQUEST_ID, id);
    }
    let seconds = arrival.elapsed().as_secs_f64();
    app.cells
        .handler(position)
        .record(response.status().as_u16(), seconds);
    response
}

/// The id to repeat in the answer's head, when the server was told to.
fn shown_id(app: &App, parts: &http::request::Parts) -> Option<HeaderValue> {
    if !app.shared.config.request_id_headers {
        return None;
    }
    let own = parts.headers.get(identity::REQUEST_ID).cloned();
    own.or_else(|| HeaderValue::from_str(&identity::request_id("", None, &parts.headers)).ok())
}

async fn run(route: &Route, call: Call) -> Answer {
    permit(route, &call)?;
    match &route.action {
        Action::Unserved(why) => Err(ApiError::not_served(format!(
            "{} {} is known but not served: {why}.",
            route.method, route.path
        ))),
        Action::Serve(handle) => guard(route.path, handle(call)).await,
    }
}

fn permit(route: &Route, call: &Call) -> Result<(), ApiError> {
    let config = &call.app.shared.config;
    let open =
        route.access == Access::Open || (route.access == Access::Metrics && config.public_metrics);
    if !open {
        auth::check(&config.api_keys, &call.parts.headers)?;
    }
    if route.access == Access::Dev && !config.dev_mode {
        return Err(ApiError::not_served(format!(
            "{} {} is served only with VLLM_SERVER_DEV_MODE=1.",
            route.method, route.path
        )));
    }
    Ok(())
}

/// A panic fails this request and nothing else.
async fn guard(path: &str, answer: Pin<Box<dyn Future<Output = Answer>>>) -> Answer {
    match AssertUnwindSafe(answer).catch_unwind().await {
        Ok(answer) => answer,
        Err(_) => {
            tracing::error!(path, "a handler panicked");
            Err(ApiError::internal())
        }
    }
}

fn unknown(path: &str) -> ApiError {
    let shown = vllm_openai::error::shorten(path);
    ApiError::new(
        404,
        "invalid_request_error",
        format!("There is nothing at {shown}."),
    )
    .with_code("not_found")
}

fn not_allowed(method: &Method, path: &str, allowed: &[&str]) -> Response<Body> {
    let allowed = allowed.join(", ");
    let error = ApiError::new(
        405,
        "invalid_request_error",
        format!("{path} takes {allowed}, not {method}."),
    );
    let mut response = error_response(&error.with_code("method_not_allowed"));
    if let Ok(value) = HeaderValue::from_str(&allowed) {
        response.headers_mut().insert(ALLOW, value);
    }
    response
}

/// A JSON answer.
pub fn json(status: StatusCode, body: impl Into<bytes::Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::whole(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// An error as JSON.
pub fn error_response(error: &ApiError) -> Response<Body> {
    let status = StatusCode::from_u16(error.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json(status, error.to_json());
    if status == StatusCode::TOO_MANY_REQUESTS {
        response
            .headers_mut()
            .insert(RETRY_AFTER, admission::RETRY_AFTER.into());
    }
    if status == StatusCode::UNAUTHORIZED {
        response
            .headers_mut()
            .insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_find_their_route() {
        assert!(matches!(
            find(&Method::POST, "/v1/chat/completions"),
            Found::Route(0, "")
        ));
        assert!(matches!(
            find(&Method::GET, "/v1/models/org/name"),
            Found::Route(_, "org/name")
        ));
        assert!(matches!(find(&Method::HEAD, "/health"), Found::Route(..)));
        assert!(matches!(find(&Method::GET, "/v1/models/"), Found::Unknown));
        assert!(matches!(find(&Method::GET, "/nothing"), Found::Unknown));
        let Found::OtherMethods(methods) = find(&Method::PUT, "/ping") else {
            panic!("known path")
        };
        assert_eq!(methods, ["GET", "POST"]);
    }

    #[test]
    fn a_panic_is_this_requests_error() {
        let panics = Box::pin(async { panic!("by design") });
        let answer = guard("/test", panics)
            .now_or_never()
            .expect("nothing to wait for");
        let error = answer.map(drop).expect_err("an error");
        assert_eq!(
            (error.status, error.message.contains("by design")),
            (500, false)
        );
    }

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
