// SPDX-License-Identifier: Apache-2.0

//! What a certificate says about itself, before anybody is served with it.
//!
//! Owns: the refusal of certificates that no client accepts for their form, and the warning about dates. Must not
//! know: keys, connections.

use std::path::Path;

use rustls::pki_types::CertificateDer;
use x509_parser::certificate::{Validity, X509Certificate};
use x509_parser::prelude::{FromDer, X509Version};
use x509_parser::time::ASN1Time;

use crate::config::ConfigError;

/// Refuses what cannot be served with; in words what an operator should know about the rest.
pub fn check(path: &Path, certificate: &CertificateDer<'_>) -> Result<Option<String>, ConfigError> {
    let shown = path.display();
    let (_, read) = X509Certificate::from_der(certificate).map_err(|_| {
        ConfigError(format!(
            "{shown}: the first certificate in this file is damaged"
        ))
    })?;
    if read.version() != X509Version::V3 {
        return Err(ConfigError(format!(
            "{shown}: the certificate is of X.509 version {}; version 3 is needed, which has the names of the \
             server (openssl: -addext subjectAltName=DNS:NAME)",
            read.version().0 + 1
        )));
    }
    Ok(dates(read.validity(), ASN1Time::now()).map(|words| format!("{shown}: {words}")))
}

/// What is wrong with the dates now.
fn dates(validity: &Validity, now: ASN1Time) -> Option<String> {
    let (first, last) = (validity.not_before, validity.not_after);
    if now > last {
        Some(format!(
            "the certificate has expired on {last}; clients will refuse it"
        ))
    } else {
        (now < first).then(|| {
            format!(
                "the certificate is not valid before {first}; clients will refuse it until then"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> ASN1Time {
        ASN1Time::from_timestamp(seconds).expect("a time")
    }

    #[test]
    fn dates_are_named() {
        let validity = Validity {
            not_before: at(1_000_000_000),
            not_after: at(1_100_000_000),
        };
        assert_eq!(dates(&validity, at(1_050_000_000)), None);
        let early = dates(&validity, at(1)).expect("a warning");
        assert!(
            early.contains("not valid before") && early.contains("2001"),
            "{early}"
        );
        let late = dates(&validity, at(1_200_000_000)).expect("a warning");
        assert!(late.contains("expired") && late.contains("2004"), "{late}");
    }
}
