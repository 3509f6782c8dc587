// SPDX-License-Identifier: Apache-2.0

//! The page at `/`: a chat and a live dashboard, in one file that loads nothing from elsewhere.
//!
//! Owns: the page's text and the policy that lets a browser run this script and this style and no other. Must not
//! know: a running server; the page asks for what it shows, with the key that its reader enters.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};

const FRAME: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The page.
pub fn page() -> String {
    FRAME
        .replacen("{{style}}", STYLE, 1)
        .replacen("{{script}}", SCRIPT, 1)
}

/// The page's Content-Security-Policy.
pub fn policy() -> String {
    let hash = |text: &str| STANDARD.encode(digest(&SHA256, text.as_bytes()));
    format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash(SCRIPT),
        hash(STYLE)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text between a tag's ends, which a browser hashes.
    fn inner<'a>(page: &'a str, tag: &str) -> &'a str {
        let (_, rest) = page.split_once(&format!("<{tag}>")).expect("it is there");
        rest.split_once(&format!("</{tag}>")).expect("it ends").0
    }

    #[test]
    fn the_policy_names_what_the_page_holds() {
        let (page, policy) = (page(), policy());
        for tag in ["script", "style"] {
            assert_eq!(page.matches(&format!("<{tag}")).count(), 1, "{tag}");
            let hash = digest(&SHA256, inner(&page, tag).as_bytes());
            let source = format!("{tag}-src 'sha256-{}'", STANDARD.encode(hash));
            assert!(policy.contains(&source), "{source} is not in {policy}");
        }
    }

    #[test]
    fn nothing_comes_from_elsewhere_and_nothing_hides_in_attributes() {
        let page = page().replace("http://www.w3.org/2000/svg", "");
        for word in [
            "http:",
            "https:",
            "src=",
            "url(",
            "@import",
            " style=",
            "onclick",
            "innerHTML",
            "eval(",
        ] {
            assert!(!page.contains(word), "{word}");
        }
    }
}
