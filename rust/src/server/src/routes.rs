// SPDX-License-Identifier: Apache-2.0

//! The way from a request's head to its handler.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Instant;

use futures_util::FutureExt;
use http::header::{
    ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, ORIGIN, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use vllm_metrics::Handler as Named;
use vllm_openai::{ApiError, Options};

use crate::admission;
use crate::app::App;
use crate::body::{self, Body};
use crate::table::{Access, Action, ROUTES, Route, Takes};
use crate::{head, identity, injection};

/// One request on its way to a handler.
pub struct Call {
    /// What the head says.
    pub head: Head,
    /// Unread body.
    pub body: Incoming,
    /// What followed the route's path, for routes that end in `{id}`.
    pub rest: String,
}

/// A request without its body.
pub struct Head {
    /// The shard's state.
    pub app: Rc<App>,
    /// Method, path, headers.
    pub parts: http::request::Parts,
    /// The request's id, for logs and answers.
    pub id: String,
    /// When the head arrived.
    pub arrival: Instant,
}

impl Call {
    /// Reads the body within the server's limits.
    pub async fn read_body(self) -> Result<(Head, bytes::Bytes), ApiError> {
        let config = &self.head.app.shared.config;
        let bytes = body::read(self.body, config.max_body_bytes, config.read_timeout).await?;
        Ok((self.head, bytes))
    }
}

impl Head {
    /// The id as the answer shows it: the client's own stands in for the request's.
    pub fn answer_id(&self, prefix: &str, options: &Options) -> String {
        let id = options.request_id.as_deref().unwrap_or(&self.id);
        format!("{prefix}{id}")
    }

    /// The client's own id for the answer's head, where the head shows ids.
    pub fn own_id(&self, options: &Options) -> Option<HeaderValue> {
        let id = options.request_id.as_deref()?;
        let shown = self.app.shared.config.request_id_headers;
        HeaderValue::try_from(id).ok().filter(|_| shown)
    }
}

/// Whether the same request may be answered otherwise soon; OpenAI's clients read it.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// What a handler gives.
pub type Answer = Result<Response<Body>, ApiError>;
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

/// Whether a request asks how the server is; these are answered while too many connections are open.
pub fn is_about_health(request: &Request<Incoming>) -> bool {
    match find(request.method(), request.uri().path()) {
        Found::Route(position, _) => {
            matches!(ROUTES[position].access, Access::Open | Access::Metrics)
        }
        _ => false,
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
    let cors = &app.shared.config.cors;
    let origin = parts.headers.get(ORIGIN).cloned();
    if let Some(mut response) = cors.preflight(&parts.method, &parts.headers) {
        cors.mark(origin.as_ref(), response.headers_mut());
        return response;
    }
    let version = parts.version;
    let id = identity::request_id(&parts.headers);
    let shown_id = app.shared.config.request_id_headers.then(|| id.clone());
    let head = Head {
        app: app.clone(),
        parts,
        id,
        arrival,
    };
    let (position, answer) = route(head, body).await;
    let mut response = answer.unwrap_or_else(|error| error_response(&error));
    if let Some(id) = shown_id.and_then(|id| HeaderValue::try_from(id).ok()) {
        // A request that brings an id in its body has it in its head already.
        let headers = response.headers_mut();
        headers.entry(identity::REQUEST_ID).or_insert(id);
    }
    cors.mark(origin.as_ref(), response.headers_mut());
    if version == Version::HTTP_10 && matches!(response.body(), Body::Stream(_)) {
        // Before chunks were known, a stream ended with its connection; its head must not promise to keep that.
        *response.version_mut() = version;
    }
    let seconds = arrival.elapsed().as_secs_f64();
    app.cells
        .handler(position)
        .record(response.status().as_u16(), seconds);
    response
}

/// The answer, and the position of the route that gave it.
async fn route(head: Head, body: Incoming) -> (usize, Answer) {
    if let Err(error) = head::check_host(&head.parts) {
        return (ROUTES.len(), Err(error));
    }
    let (method, path) = (head.parts.method.clone(), head.parts.uri.path().to_owned());
    match find(&method, &path) {
        Found::Route(position, rest) => {
            let rest = rest.to_owned();
            let call = Call { head, body, rest };
            (position, run(&ROUTES[position], call).await)
        }
        Found::OtherMethods(allowed) => (ROUTES.len(), Ok(not_allowed(&method, &path, &allowed))),
        Found::Unknown => (ROUTES.len(), Err(unknown(&method, &path))),
    }
}

async fn run(route: &Route, call: Call) -> Answer {
    permit(route, &call.head)?;
    match &route.action {
        Action::Unserved(why) => Err(ApiError::not_served(format!(
            "{} {} is known but not served: {why}.",
            route.method, route.path
        ))),
        Action::Serve(handle) => {
            if let Takes::Body(_) = route.takes {
                head::check_body(&call.head.parts.headers)?;
            }
            let id = call.head.id.clone();
            guard(&id, route.path, handle(call)).await
        }
    }
}

fn permit(route: &Route, head: &Head) -> Result<(), ApiError> {
    let config = &head.app.shared.config;
    let open =
        route.access == Access::Open || (route.access == Access::Metrics && config.public_metrics);
    if !open {
        config.api_keys.check(&head.parts.headers)?;
    }
    // A key says more about the sender than a browser does.
    if !open && config.api_keys.is_empty() {
        head::check_sender(&head.parts, &config.cors)?;
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
async fn guard(request: &str, path: &str, answer: Pin<Box<dyn Future<Output = Answer>>>) -> Answer {
    let answer = async {
        injection::in_handler(request);
        answer.await
    };
    match AssertUnwindSafe(answer).catch_unwind().await {
        Ok(answer) => answer,
        Err(_) => {
            tracing::error!(request, path, "a handler panicked");
            Err(ApiError::internal())
        }
    }
}

fn unknown(method: &Method, path: &str) -> ApiError {
    if method == Method::CONNECT {
        return ApiError::bad_request("CONNECT asks for a tunnel, and this server is no proxy.");
    }
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
    if status == StatusCode::NOT_IMPLEMENTED {
        // OpenAI's clients send what was answered with 5xx again, unless they are told not to.
        response
            .headers_mut()
            .insert(SHOULD_RETRY, HeaderValue::from_static("false"));
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
        let answer = guard("id", "/test", panics)
            .now_or_never()
            .expect("nothing to wait for");
        let error = answer.map(drop).expect_err("an error");
        assert_eq!(
            (error.status, error.message.contains("by design")),
            (500, false)
        );
    }
}
