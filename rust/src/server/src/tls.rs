// SPDX-License-Identifier: Apache-2.0

//! TLS: certificates from files, read again when they change.
//!
//! Owns: the current certificate and who must show one. A change that cannot be used is logged and the old
//! certificate stays. Must not know: HTTP.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use crate::certificate;
use crate::config::ConfigError;

/// HTTP versions in the order of preference.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Whether clients show certificates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ClientCertificates {
    /// Nobody asks.
    #[default]
    No,
    /// One that is shown must be good.
    Optional,
    /// Every client needs one.
    Required,
}

/// Where certificates are.
#[derive(Debug, Clone)]
pub struct TlsSettings {
    /// Certificate chain, PEM.
    pub certificate: PathBuf,
    /// Private key, PEM.
    pub key: PathBuf,
    /// Authorities of clients' certificates, PEM.
    pub client_authorities: Option<PathBuf>,
    /// Whether clients show one.
    pub client_certificates: ClientCertificates,
    /// How often the files are looked at.
    pub period: Duration,
}

impl TlsSettings {
    fn files(&self) -> impl Iterator<Item = &Path> {
        let own = [&self.certificate, &self.key].into_iter();
        own.chain(&self.client_authorities).map(PathBuf::as_path)
    }

    /// What changes when a file does.
    fn stamp(&self) -> Vec<Option<(i64, i64, u64, u64)>> {
        let stamp = |path: &Path| {
            let of = std::fs::metadata(path).ok()?;
            Some((of.mtime(), of.mtime_nsec(), of.len(), of.ino()))
        };
        self.files().map(stamp).collect()
    }
}

/// The current certificate; shared by all shards.
pub struct Tls {
    settings: TlsSettings,
    current: RwLock<Arc<ServerConfig>>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.settings.fmt(f)
    }
}

impl Tls {
    /// Reads the files.
    pub fn load(settings: TlsSettings) -> Result<Arc<Self>, ConfigError> {
        let current = RwLock::new(Arc::new(read(&settings)?.told()));
        Ok(Arc::new(Self { settings, current }))
    }

    /// Accepts with the certificate of this moment.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        TlsAcceptor::from(current.clone())
    }

    /// Reads the files again whenever they change. Never ends.
    pub(crate) async fn watch(&self) {
        let mut seen = self.settings.stamp();
        let mut told = None;
        loop {
            tokio::time::sleep(self.settings.period).await;
            let stamp = self.settings.stamp();
            if stamp == seen {
                continue;
            }
            match read(&self.settings) {
                Ok(config) => {
                    *self.current.write().unwrap_or_else(PoisonError::into_inner) =
                        Arc::new(config.told());
                    tracing::info!("certificates were read again");
                    seen = stamp;
                }
                // Perhaps the second file of a pair is still to come: try again, but say it once.
                Err(error) if told.as_ref() != Some(&stamp) => {
                    tracing::warn!(%error, "the old certificate stays");
                    told = Some(stamp);
                }
                Err(_) => {}
            }
        }
    }
}

fn fail(path: &Path, error: &dyn std::fmt::Display) -> ConfigError {
    ConfigError(format!("{}: {error}", path.display()))
}

/// Files that fit together, and what an operator should know about them.
struct Read {
    config: ServerConfig,
    warning: Option<String>,
}

impl Read {
    /// Taken into use: the warning is told.
    fn told(self) -> ServerConfig {
        if let Some(warning) = self.warning {
            tracing::warn!("{warning}");
        }
        self.config
    }
}

fn read(settings: &TlsSettings) -> Result<Read, ConfigError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = certificates(&settings.certificate)?;
    let warning = certificate::check(&settings.certificate, &chain[0])?;
    let key = private_key(&settings.key)?;
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| ConfigError(error.to_string()))?;
    let builder = match verifier(settings, provider)? {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|error| unfit(settings, &error))?;
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    Ok(Read { config, warning })
}

/// Why a certificate and a key that could be read cannot be used together.
fn unfit(settings: &TlsSettings, error: &rustls::Error) -> ConfigError {
    let (certificate, key) = (settings.certificate.display(), settings.key.display());
    match error {
        rustls::Error::InconsistentKeys(_) => ConfigError(format!(
            "{key} is not the private key of the first certificate in {certificate}; \
             `openssl pkey -in {key} -pubout` and `openssl x509 -in {certificate} -noout -pubkey` must print the same"
        )),
        _ => ConfigError(format!(
            "the certificate {certificate} with the private key {key}: {error}"
        )),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, ConfigError> {
    let text = std::fs::read(path).map_err(|error| fail(path, &error))?;
    let holds = |words: &[u8]| text.windows(words.len()).any(|window| window == words);
    if holds(b"-----BEGIN ENCRYPTED PRIVATE KEY-----") || holds(b"Proc-Type: 4,ENCRYPTED") {
        let shown = path.display();
        return Err(fail(
            path,
            &format!(
                "the private key is encrypted, and nobody is there to type its passphrase: \
                 `openssl pkey -in {shown} -out PLAIN` writes it as it is needed"
            ),
        ));
    }
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        rustls::pki_types::pem::Error::NoItemsFound => {
            fail(path, &"no private key in PEM form is in this file")
        }
        error => fail(path, &error),
    })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = read.map_err(|error| fail(path, &error))?;
    if chain.is_empty() {
        return Err(fail(path, &"no certificate in PEM form is in this file"));
    }
    Ok(chain)
}

fn verifier(
    settings: &TlsSettings,
    provider: Arc<rustls::crypto::CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, ConfigError> {
    if settings.client_certificates == ClientCertificates::No {
        return Ok(None);
    }
    let Some(path) = &settings.client_authorities else {
        return Err(ConfigError(
            "--ssl-cert-reqs asks for clients' certificates: --ssl-ca-certs must name their authorities".to_owned(),
        ));
    };
    let mut roots = RootCertStore::empty();
    for authority in certificates(path)? {
        roots.add(authority).map_err(|error| fail(path, &error))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = if settings.client_certificates == ClientCertificates::Optional {
        builder.allow_unauthenticated()
    } else {
        builder
    };
    let verifier = builder.build().map_err(|error| fail(path, &error))?;
    Ok(Some(verifier))
}
