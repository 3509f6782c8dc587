// SPDX-License-Identifier: Apache-2.0

//! Pages of other origins: closed unless opened by name.
//!
//! Owns: the answer to a browser's question before a request, and the headers that let a page read an answer.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, HeaderValue, ORIGIN,
    VARY,
};
use http::{Method, Response, StatusCode};

use crate::body::Body;
use crate::config::ConfigError;

/// A browser asks again after this many seconds.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");
const ANY: &str = "*";
/// What a page may read of an answer's head beside what browsers always show.
const EXPOSED: HeaderValue = HeaderValue::from_static("X-Request-Id, Retry-After");

/// Which origins may use the server from a browser.
#[derive(Debug, Clone)]
pub struct Cors {
    /// Origins such as `https://example.org`; `*`: all. None: no page of another origin.
    pub origins: Vec<String>,
    /// Methods that a page may use; `*`: all.
    pub methods: Vec<String>,
    /// Request headers that a page may send; `*`: all.
    pub headers: Vec<String>,
    /// A page may send the browser's own credentials.
    pub credentials: bool,
}

impl Default for Cors {
    fn default() -> Self {
        Self {
            origins: Vec::new(),
            methods: vec![ANY.to_owned()],
            headers: vec![ANY.to_owned()],
            credentials: false,
        }
    }
}

impl Cors {
    /// Refuses what cannot be sent, and credentials for everybody.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let lists = [
            ("--allowed-origins", &self.origins),
            ("--allowed-methods", &self.methods),
            ("--allowed-headers", &self.headers),
        ];
        for (name, values) in lists {
            if let Some(value) = values
                .iter()
                .find(|value| HeaderValue::from_str(value).is_err())
            {
                return Err(ConfigError(format!(
                    "{name} has {value:?}, which no header can hold"
                )));
            }
        }
        if self.credentials && any(&self.origins) {
            return Err(ConfigError(
                "allow-credentials with allowed-origins [\"*\"] would open the server to every page: name the origins".to_owned(),
            ));
        }
        Ok(())
    }

    /// The answer to a browser's question whether a page may send a request; `None` when it is no such question, or
    /// the page may not.
    pub fn preflight(&self, method: &Method, headers: &HeaderMap) -> Option<Response<Body>> {
        let wanted = headers.get(ACCESS_CONTROL_REQUEST_METHOD)?;
        let allowed = method == Method::OPTIONS && self.allows(headers.get(ORIGIN)?);
        if !allowed {
            return None;
        }
        let mut response = Response::new(Body::Whole(None));
        *response.status_mut() = StatusCode::NO_CONTENT;
        let out = response.headers_mut();
        out.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
        // With credentials a star would stand for itself: what was asked for is named instead.
        out.insert(
            ACCESS_CONTROL_ALLOW_METHODS,
            listed(&self.methods, Some(wanted)),
        );
        let wanted = headers.get(ACCESS_CONTROL_REQUEST_HEADERS);
        out.insert(ACCESS_CONTROL_ALLOW_HEADERS, listed(&self.headers, wanted));
        Some(response)
    }

    /// Lets a page of an allowed origin read an answer.
    pub fn mark(&self, origin: Option<&HeaderValue>, response: &mut HeaderMap) {
        if self.origins.is_empty() {
            return;
        }
        if !any(&self.origins) {
            response.append(VARY, HeaderValue::from_static("Origin"));
        }
        let Some(origin) = origin.filter(|origin| self.allows(origin)) else {
            return;
        };
        let shown = if any(&self.origins) {
            HeaderValue::from_static(ANY)
        } else {
            origin.clone()
        };
        response.insert(ACCESS_CONTROL_ALLOW_ORIGIN, shown);
        response.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        if self.credentials {
            response.insert(
                ACCESS_CONTROL_ALLOW_CREDENTIALS,
                HeaderValue::from_static("true"),
            );
        }
    }

    /// Whether a page of this origin may use the server.
    pub(crate) fn allows(&self, origin: &HeaderValue) -> bool {
        any(&self.origins)
            || self
                .origins
                .iter()
                .any(|known| known.as_bytes() == origin.as_bytes())
    }
}

fn any(values: &[String]) -> bool {
    values.iter().any(|value| value == ANY)
}

fn listed(values: &[String], wanted: Option<&HeaderValue>) -> HeaderValue {
    if any(values) {
        return wanted.cloned().unwrap_or(HeaderValue::from_static(ANY));
    }
    HeaderValue::from_str(&values.join(", ")).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_need_named_origins() {
        let open = Cors {
            origins: vec![ANY.to_owned()],
            credentials: true,
            ..Cors::default()
        };
        assert!(open.validate().is_err());
        let named = Cors {
            origins: vec!["https://a.example".to_owned()],
            ..open
        };
        assert!(named.validate().is_ok());
        let broken = Cors {
            headers: vec!["a\nb".to_owned()],
            ..Cors::default()
        };
        assert!(broken.validate().is_err());
    }
}
