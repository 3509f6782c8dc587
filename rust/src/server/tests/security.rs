// SPDX-License-Identifier: Apache-2.0

//! Who gets in: keys, pages of other origins, certificates, and the time that strangers may take.

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::client::{Connection, request};
use common::{Fixture, Setup, eventually};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tempfile::TempDir;
use vllm_server::{ClientCertificates, Cors, Tls, TlsSettings};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    CertifiedIssuer::self_signed(params, key).expect("a certificate")
}

/// A certificate for `localhost` and its key, as PEM.
fn issue(authority: &Authority) -> (String, String) {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    let certificate = params.signed_by(&key, authority).expect("a certificate");
    (certificate.pem(), key.serialize_pem())
}

/// The files of a server; the key is written last.
fn write(folder: &Path, (certificate, key): (String, String)) {
    std::fs::write(folder.join("cert.pem"), certificate).expect("the folder is writable");
    std::fs::write(folder.join("key.pem"), key).expect("the folder is writable");
}

fn settings(folder: &Path) -> TlsSettings {
    TlsSettings {
        certificate: folder.join("cert.pem"),
        key: folder.join("key.pem"),
        client_authorities: None,
        client_certificates: ClientCertificates::No,
        period: Duration::from_millis(5),
    }
}

struct Secure {
    server: Fixture,
    folder: TempDir,
    authority: Authority,
}

fn secure(client_certificates: ClientCertificates) -> Secure {
    let (folder, authority) = (tempfile::tempdir().expect("a folder"), authority());
    write(folder.path(), issue(&authority));
    let authorities = folder.path().join("ca.pem");
    std::fs::write(&authorities, authority.pem()).expect("the folder is writable");
    let settings = TlsSettings {
        client_authorities: Some(authorities),
        client_certificates,
        ..settings(folder.path())
    };
    let mut setup = Setup::saying("x");
    setup.config.tls = Some(Tls::load(settings).expect("sound files"));
    Secure {
        server: setup.start(),
        folder,
        authority,
    }
}

type Session = StreamOwned<ClientConnection, TcpStream>;

/// A session whose handshake is still to come.
fn open(
    address: SocketAddr,
    authority: &Authority,
    own: Option<(String, String)>,
) -> Result<Session, String> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).expect("an authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("protocols")
        .with_root_certificates(roots);
    let config = match own {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).expect("PEM")];
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("PEM");
            builder.with_client_auth_cert(chain, key).expect("a pair")
        }
    };
    let name = ServerName::try_from("localhost").expect("a name");
    let session = ClientConnection::new(Arc::new(config), name).map_err(|e| e.to_string())?;
    let socket = TcpStream::connect(address).expect("it listens");
    socket
        .set_read_timeout(Some(common::PATIENCE))
        .expect("a socket option");
    Ok(StreamOwned::new(session, socket))
}

/// What `GET /health` answers over TLS, and the certificate that was shown.
fn ask(
    address: SocketAddr,
    authority: &Authority,
    own: Option<(String, String)>,
) -> Result<(String, Vec<u8>), String> {
    let mut stream = open(address, authority, own)?;
    let head = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(head).map_err(|e| e.to_string())?;
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .map_err(|e| e.to_string())?;
    let shown = stream
        .conn
        .peer_certificates()
        .map(|chain| chain[0].to_vec());
    Ok((answer, shown.unwrap_or_default()))
}

#[test]
fn with_certificates_connections_are_encrypted_and_nothing_else_is_served() {
    let Secure {
        server, authority, ..
    } = secure(ClientCertificates::No);
    let (answer, _) = ask(server.address, &authority, None).expect("a handshake");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let mut plain = TcpStream::connect(server.address).expect("it listens");
    plain
        .write_all(b"GET /health HTTP/1.1\r\nHost: t\r\n\r\n")
        .expect("sent");
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    // The supervisor takes this for the sign that TLS is served.
    let alert = answer.starts_with(&[21, 3]);
    assert!(alert, "an alert of TLS and no HTTP: {answer:?}");
}

#[test]
fn who_says_nothing_after_the_handshake_is_let_go() {
    let authority = authority();
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), issue(&authority));
    let mut setup = Setup::saying("x");
    setup.config.read_timeout = Duration::from_millis(100);
    setup.config.tls = Some(Tls::load(settings(folder.path())).expect("sound files"));
    let server = setup.start();
    let mut silent = open(server.address, &authority, None).expect("a session");
    silent.flush().expect("a handshake");
    let mut byte = [0];
    let end = silent.read(&mut byte);
    let timed_out = |error: &std::io::Error| error.kind() == std::io::ErrorKind::WouldBlock;
    assert!(!end.as_ref().is_err_and(timed_out), "{end:?}");
}

#[test]
fn clients_need_a_certificate_of_the_named_authority() {
    let Secure {
        server, authority, ..
    } = secure(ClientCertificates::Required);
    let good = issue(&authority);
    assert!(ask(server.address, &authority, Some(good)).is_ok());
    assert!(ask(server.address, &authority, None).is_err());
    let stranger = issue(&self::authority());
    assert!(ask(server.address, &authority, Some(stranger)).is_err());
}

#[test]
fn certificates_are_optional_where_the_server_says_so() {
    let Secure {
        server, authority, ..
    } = secure(ClientCertificates::Optional);
    assert!(ask(server.address, &authority, None).is_ok());
    let stranger = issue(&self::authority());
    assert!(ask(server.address, &authority, Some(stranger)).is_err());
}

#[test]
fn a_changed_certificate_is_taken_up_and_a_broken_one_is_not() {
    let Secure {
        server,
        folder,
        authority,
    } = secure(ClientCertificates::No);
    let shown = || {
        ask(server.address, &authority, None)
            .expect("a handshake")
            .1
    };
    let first = shown();
    // Half of a pair: the old one stays.
    std::fs::write(folder.path().join("key.pem"), "no key").expect("the folder is writable");
    assert_eq!(shown(), first);
    write(folder.path(), issue(&authority));
    eventually("the new certificate is shown", || shown() != first);
}

#[test]
fn files_that_hold_no_certificate_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let pair = issue(&authority());
    write(folder.path(), (pair.0, issue(&authority()).1));
    let settings = |certificate: &str, client_certificates| TlsSettings {
        certificate: folder.path().join(certificate),
        client_certificates,
        ..settings(folder.path())
    };
    for (certificate, clients, word) in [
        ("missing.pem", ClientCertificates::No, "missing.pem"),
        ("key.pem", ClientCertificates::No, "no certificate"),
        ("cert.pem", ClientCertificates::No, "cert.pem"),
        (
            "cert.pem",
            ClientCertificates::No,
            "key.pem is not the private key",
        ),
        (
            "cert.pem",
            ClientCertificates::Required,
            "--ssl-cert-reqs asks for clients' certificates: --ssl-ca-certs",
        ),
    ] {
        let error = Tls::load(settings(certificate, clients)).expect_err("refused");
        assert!(error.to_string().contains(word), "{error}");
    }
}

/// Made by `openssl x509 -req -signkey` from a request without extensions.
const VERSION_1: &str = "\
-----BEGIN CERTIFICATE-----\n\
MIHYMIGLAhQgAxzpwNIIGeGEtejn8OIqjOi54DAFBgMrZXAwDjEMMAoGA1UEAwwD\n\
b2xkMCAXDTI2MTEyNjA2NTIxNVoYDzIxMjYxMTAyMDY1MjE1WjAOMQwwCgYDVQQD\n\
DANvbGQwKjAFBgMrZXADIQBinIooSpVya86oVdXHEjH66fPznb6W+/xuSw7BoxcD\n\
CDAFBgMrZXADQQDjNRSbK7knhcrBrT+wUvtbYPtOGVYljVT+W4VmuCIi0BeANqPH\n\
m4H5iS9NdHaXX+61loYqV0QgNqMdSbbnBqUL\n\
-----END CERTIFICATE-----\n\
";

#[test]
fn keys_and_certificates_of_another_form_are_told_apart() {
    let folder = tempfile::tempdir().expect("a folder");
    let (certificate, key) = issue(&authority());
    let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let legacy = key.replacen('\n', "\nProc-Type: 4,ENCRYPTED\n", 1);
    for (certificate, key, words) in [
        (certificate.as_str(), encrypted.as_str(), "is encrypted"),
        (&certificate, &legacy, "is encrypted"),
        (&certificate, &certificate, "no private key in PEM form"),
        (VERSION_1, &key, "X.509 version 1"),
    ] {
        write(folder.path(), (certificate.to_owned(), key.to_owned()));
        let error = Tls::load(settings(folder.path())).expect_err("refused");
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[test]
fn an_expired_certificate_is_served_with_a_warning() {
    let authority = authority();
    let folder = tempfile::tempdir().expect("a folder");
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    params.not_before = rcgen::date_time_ymd(2001, 1, 1);
    params.not_after = rcgen::date_time_ymd(2002, 1, 1);
    let certificate = params.signed_by(&key, &authority).expect("a certificate");
    write(folder.path(), (certificate.pem(), key.serialize_pem()));
    Tls::load(settings(folder.path())).expect("clients decide");
}

#[test]
fn a_handshake_has_little_time() {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), issue(&authority()));
    let mut setup = Setup::saying("x");
    setup.config.tls = Some(Tls::load(settings(folder.path())).expect("sound files"));
    setup.config.handshake_timeout = Duration::from_millis(10);
    let server = setup.start();
    let mut slow = Connection::open(server.address);
    slow.write(&[22, 3, 1]);
    assert!(slow.is_closed());
}

#[test]
fn heads_have_little_time_and_little_room() {
    let mut setup = Setup::saying("x");
    setup.config.idle_timeout = Duration::from_millis(50);
    setup.config.read_timeout = Duration::from_millis(50);
    let server = setup.start();
    let mut silent = Connection::open(server.address);
    assert!(silent.is_closed());
    let mut slow = Connection::open(server.address);
    slow.write(b"GET /health HTTP/1.1\r\nHost:");
    assert!(slow.is_closed());
    let mut undecided = Connection::open(server.address);
    undecided.write(b"PRI * HT");
    assert!(undecided.is_closed(), "the beginning of HTTP/2 and no more");
    let mut idle = Connection::open(server.address);
    idle.send("GET", "/health", "", b"");
    assert_eq!(idle.reply().status, 200);
    assert!(idle.is_closed());
    let many: String = (0..101).map(|at| format!("X-{at}: y\r\n")).collect();
    assert_eq!(
        request(server.address, "GET", "/health", &many, b"").status,
        431
    );
    let long = format!("X: {}\r\n", "y".repeat(128 << 10));
    let mut connection = Connection::open(server.address);
    connection
        .write(format!("GET /health HTTP/1.1\r\nHost: t\r\n{}", &long[..70 << 10]).as_bytes());
    assert_eq!(connection.reply().status, 431);
}

fn with_origins(origins: &[&str], credentials: bool) -> Fixture {
    let mut setup = Setup::saying("x");
    setup.config.api_keys = common::keys(&["secret"]);
    setup.config.cors = Cors {
        origins: origins.iter().map(|origin| (*origin).to_owned()).collect(),
        methods: vec!["POST".to_owned(), "GET".to_owned()],
        credentials,
        ..Cors::default()
    };
    setup.start()
}

const ASKED: &str = "Origin: https://a.example\r\nAccess-Control-Request-Method: POST\r\n\
    Access-Control-Request-Headers: authorization\r\n";

#[test]
fn pages_of_other_origins_are_shut_out_unless_named() {
    let closed = with_origins(&[], false);
    let refused = request(closed.address, "OPTIONS", "/v1/completions", ASKED, b"");
    assert_eq!(refused.status, 405);
    let answer = request(
        closed.address,
        "GET",
        "/health",
        "Origin: https://a.example\r\n",
        b"",
    );
    assert!(!answer.headers.contains_key("access-control-allow-origin"));
    let open = with_origins(&["https://a.example"], true);
    let asked = request(open.address, "OPTIONS", "/v1/completions", ASKED, b"");
    assert_eq!(asked.status, 204, "a browser sends no key when it asks");
    for (name, value) in [
        ("access-control-allow-origin", "https://a.example"),
        ("access-control-allow-methods", "POST, GET"),
        ("access-control-allow-headers", "authorization"),
        ("access-control-allow-credentials", "true"),
        ("access-control-expose-headers", "X-Request-Id, Retry-After"),
        ("vary", "Origin"),
    ] {
        assert_eq!(asked.headers[name], value);
    }
    let answer = request(
        open.address,
        "GET",
        "/v1/models",
        "Origin: https://a.example\r\n",
        b"",
    );
    assert_eq!(answer.status, 401, "an origin is no key");
    assert_eq!(
        answer.headers["access-control-allow-origin"],
        "https://a.example"
    );
    let other = request(
        open.address,
        "GET",
        "/health",
        "Origin: https://b.example\r\n",
        b"",
    );
    assert!(!other.headers.contains_key("access-control-allow-origin"));
}

#[test]
fn a_star_lets_every_page_in_without_naming_it() {
    let open = with_origins(&["*"], false);
    let answer = request(
        open.address,
        "GET",
        "/health",
        "Origin: https://a.example\r\n",
        b"",
    );
    assert_eq!(answer.headers["access-control-allow-origin"], "*");
    assert!(!answer.headers.contains_key("vary"));
}
