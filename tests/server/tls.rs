//! TLS on the traffic port, with rustls, openssl and curl as clients.

use std::convert::Infallible;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cypheron_edge::clock::{Clock, Timestamp};
use cypheron_edge::server::{Config, Connection, Running, Server, StartError};
use cypheron_edge::tls;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use rcgen::{KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind, NamedGroup, ProtocolVersion, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tower::service_fn;

use super::authority::Authority;
use super::{PATIENCE, read_to_end, send};

const ASK: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";

impl Authority {
    /// Issues a certificate; gives the line that names its files.
    pub(super) fn line(&self, file: &str, names: &[&str]) -> String {
        let issued = self.issue(file, names);
        files(&issued.chain, &issued.key)
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        let certificate = CertificateDer::from_pem_file(self.file("ca.pem")).unwrap();
        roots.add(certificate).unwrap();
        roots
    }

    pub(super) fn client(&self) -> ClientConfig {
        self.client_with(aws_lc_rs::default_provider())
    }

    fn client_with(&self, provider: CryptoProvider) -> ClientConfig {
        ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .unwrap()
            .with_root_certificates(self.roots())
            .with_no_client_auth()
    }

    /// A client that shows what `of` issued as `file`.
    fn client_as(&self, of: &Self, file: &str) -> ClientConfig {
        let chain = CertificateDer::from_pem_file(of.file(&format!("{file}.pem"))).unwrap();
        let key = PrivateKeyDer::from_pem_file(of.file(&format!("{file}.key"))).unwrap();
        ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots())
            .with_client_auth_cert(vec![chain], key)
            .unwrap()
    }
}

pub(super) fn files(chain: &Path, key: &Path) -> String {
    let (chain, key) = (chain.display(), key.display());
    format!("{{ chain = '{chain}', key = '{key}' }}")
}

pub(super) fn config(certificates: &[&str], more: &str) -> Config {
    let certificates = certificates.join(", ");
    toml::from_str(&format!(
        "listen = '127.0.0.1:0'\nworkers = 2\n[tls]\ncertificates = [{certificates}]\n{more}\n"
    ))
    .unwrap()
}

pub(super) struct Served {
    pub(super) address: SocketAddr,
    plain: SocketAddr,
    tls: tls::Tls,
    _running: Running,
}

/// Answers with whom the client's certificate names.
pub(super) fn serve(config: &Config) -> Served {
    let server = Server::bind(config).unwrap();
    let (address, plain) = (server.tls_address().unwrap(), server.address());
    let tls = server.tls().unwrap().clone();
    let running = server
        .start(|_worker| {
            |connection: Connection| {
                let client = match connection.tls.map(|secured| secured.client) {
                    None => "plain".to_owned(),
                    Some(None) => "nobody".to_owned(),
                    Some(Some(client)) => client.subject.to_str().unwrap().to_owned(),
                };
                service_fn(move |_: Request<Incoming>| {
                    let body = Full::new(Bytes::from(format!("{client}.")));
                    std::future::ready(Ok::<_, Infallible>(Response::new(body)))
                })
            }
        })
        .unwrap();
    Served {
        address,
        plain,
        tls,
        _running: running,
    }
}

impl Served {
    async fn connect(&self, client: &ClientConfig, name: &str) -> std::io::Result<Client> {
        self.connect_to(&Arc::new(client.clone()), name).await
    }

    async fn connect_to(&self, client: &Arc<ClientConfig>, name: &str) -> std::io::Result<Client> {
        let stream = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let connector = TlsConnector::from(Arc::clone(client));
        Ok(Client(connector.connect(name, stream).await?))
    }
}

struct Client(TlsStream<TcpStream>);

impl Client {
    /// The body of an answer.
    async fn ask(&mut self) -> std::io::Result<String> {
        self.0.write_all(ASK.as_bytes()).await?;
        let mut answer = Vec::new();
        while !answer.ends_with(b".") {
            let read = timeout(PATIENCE, self.0.read_buf(&mut answer))
                .await
                .unwrap()?;
            if read == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
        let answer = String::from_utf8(answer).unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        Ok(body.to_owned())
    }

    fn certificate(&self) -> CertificateDer<'static> {
        self.0.get_ref().1.peer_certificates().unwrap()[0].clone()
    }

    fn group(&self) -> NamedGroup {
        let group = self.0.get_ref().1.negotiated_key_exchange_group();
        group.unwrap().name()
    }
}

fn loaded(file: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(file).unwrap()
}

#[tokio::test]
async fn clients_get_the_certificate_of_the_name_they_ask_for() {
    let ca = Authority::new();
    let first = ca.line("first", &["first.test"]);
    let wild = ca.line("wild", &["*.example.test"]);
    let exact = ca.line("exact", &["api.example.test"]);
    let served = serve(&config(&[&first, &wild, &exact], ""));
    for (name, file) in [
        ("first.test", "first.pem"),
        ("www.example.test", "wild.pem"),
        ("api.example.test", "exact.pem"),
    ] {
        let mut client = served.connect(&ca.client(), name).await.unwrap();
        assert_eq!(client.certificate(), loaded(&ca.file(file)), "{name}");
        assert_eq!(client.ask().await.unwrap(), "nobody.");
        assert_eq!(client.ask().await.unwrap(), "nobody.", "it is kept");
    }
    // The first one is shown, which is not for that name.
    assert!(
        served
            .connect(&ca.client(), "b.a.example.test")
            .await
            .is_err()
    );
}

#[tokio::test]
async fn both_versions_are_spoken_and_the_hybrid_key_exchange_is_preferred() {
    let ca = Authority::new();
    let served = serve(&config(&[&ca.line("a", &["a.test"])], ""));
    let client = served.connect(&ca.client(), "a.test").await.unwrap();
    assert_eq!(client.group(), NamedGroup::X25519MLKEM768);
    let classic = CryptoProvider {
        kx_groups: vec![aws_lc_rs::kx_group::X25519],
        ..aws_lc_rs::default_provider()
    };
    let client = served
        .connect(&ca.client_with(classic), "a.test")
        .await
        .unwrap();
    assert_eq!(client.group(), NamedGroup::X25519);
    let old = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS12])
        .unwrap()
        .with_root_certificates(ca.roots())
        .with_no_client_auth();
    let mut client = served.connect(&old, "a.test").await.unwrap();
    let version = client.0.get_ref().1.protocol_version();
    assert_eq!(version, Some(ProtocolVersion::TLSv1_2));
    assert_eq!(client.ask().await.unwrap(), "nobody.");
}

#[tokio::test]
async fn the_hybrid_key_exchange_can_be_required() {
    let ca = Authority::new();
    let more = "require_post_quantum = true";
    let served = serve(&config(&[&ca.line("a", &["a.test"])], more));
    let client = served.connect(&ca.client(), "a.test").await.unwrap();
    assert_eq!(client.group(), NamedGroup::X25519MLKEM768);
    let classic = CryptoProvider {
        kx_groups: vec![aws_lc_rs::kx_group::X25519, aws_lc_rs::kx_group::SECP256R1],
        ..aws_lc_rs::default_provider()
    };
    assert!(
        served
            .connect(&ca.client_with(classic), "a.test")
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_client_shows_a_certificate_as_the_listener_asks() {
    let (ca, clients, foreign) = (Authority::new(), Authority::new(), Authority::new());
    let certificate = ca.line("a", &["a.test"]);
    clients.issue("alice", &["alice.test"]);
    foreign.issue("mallory", &["mallory.test"]);
    let authority = clients.file("ca.pem");
    for (wanted, without) in [("optional", Some("nobody.")), ("required", None)] {
        let more = format!(
            "client_certificates = '{wanted}'\nclient_ca = '{}'",
            authority.display()
        );
        let served = serve(&config(&[&certificate], &more));
        // With TLS 1.3 a client learns of a refusal when it reads.
        let ask = async |client: ClientConfig| {
            let mut client = served.connect(&client, "a.test").await.ok()?;
            client.ask().await.ok()
        };
        let alice = ask(ca.client_as(&clients, "alice")).await;
        assert_eq!(alice.as_deref(), Some("CN=alice."), "{wanted}");
        let mallory = ask(ca.client_as(&foreign, "mallory")).await;
        assert_eq!(mallory, None, "{wanted}");
        assert_eq!(ask(ca.client()).await.as_deref(), without, "{wanted}");
    }
}

#[tokio::test]
async fn sessions_go_on_at_any_worker_and_after_a_reload_but_never_a_certificate_s() {
    let (ca, clients) = (Authority::new(), Authority::new());
    clients.issue("alice", &["alice.test"]);
    let plain = config(&[&ca.line("a", &["a.test"])], "");
    let more = format!(
        "client_certificates = 'required'\nclient_ca = '{}'",
        clients.file("ca.pem").display()
    );
    let known = config(&[&ca.line("b", &["a.test"])], &more);
    for (config, client, goes_on) in [
        (plain, ca.client(), true),
        (known, ca.client_as(&clients, "alice"), false),
    ] {
        let served = serve(&config);
        let client = Arc::new(client);
        served
            .connect_to(&client, "a.test")
            .await
            .unwrap()
            .ask()
            .await
            .unwrap();
        served.tls.reload(&config.tls).unwrap();
        for _ in 0..8 {
            let mut again = served.connect_to(&client, "a.test").await.unwrap();
            again.ask().await.unwrap();
            let kind = again.0.get_ref().1.handshake_kind();
            assert_eq!(kind == Some(HandshakeKind::Resumed), goes_on, "{kind:?}");
        }
    }
}

#[tokio::test]
async fn files_that_change_are_taken_into_use_and_open_connections_go_on() {
    let ca = Authority::new();
    let served = serve(&config(&[&ca.line("a", &["a.test"])], ""));
    tokio::spawn(served.tls.clone().follow(Clock::system()));
    // A spawned task of this runtime begins at the first chance.
    tokio::task::yield_now().await;
    let mut open = served.connect(&ca.client(), "a.test").await.unwrap();
    let old = open.certificate();
    ca.issue("a", &["a.test", "b.test"]);
    let new = loaded(&ca.file("a.pem"));
    shown(&served, &ca, &new).await;
    assert_ne!(old, new);
    assert_eq!(open.ask().await.unwrap(), "nobody.");
}

/// Waits until new connections get this certificate.
async fn shown(served: &Served, ca: &Authority, certificate: &CertificateDer<'_>) {
    timeout(4 * PATIENCE, async {
        while served
            .connect(&ca.client(), "a.test")
            .await
            .unwrap()
            .certificate()
            != *certificate
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn files_that_are_no_good_change_nothing() {
    let ca = Authority::new();
    let config = config(&[&ca.line("a", &["a.test"])], "");
    let served = serve(&config);
    let old = loaded(&ca.file("a.pem"));
    fs::write(
        ca.file("a.key"),
        KeyPair::generate().unwrap().serialize_pem(),
    )
    .unwrap();
    let problems = served.tls.reload(&config.tls).unwrap_err();
    assert!(
        problems[0].to_string().contains("is not the key of"),
        "{problems:?}"
    );
    let client = served.connect(&ca.client(), "a.test").await.unwrap();
    assert_eq!(client.certificate(), old);
}

#[tokio::test]
async fn plain_is_served_beside_tls_where_both_are_wanted() {
    let ca = Authority::new();
    let more = "listen = '127.0.0.1:0'";
    let served = serve(&config(&[&ca.line("a", &["a.test"])], more));
    assert_ne!(served.plain, served.address);
    let mut client = served.connect(&ca.client(), "a.test").await.unwrap();
    assert_eq!(client.ask().await.unwrap(), "nobody.");
    let mut plain = TcpStream::connect(served.plain).await.unwrap();
    send(&mut plain, "GET / HTTP/1.0\r\n\r\n").await;
    assert!(read_to_end(&mut plain).await.ends_with("plain."));
}

#[tokio::test]
async fn who_does_not_shake_hands_in_time_or_at_all_is_closed() {
    let ca = Authority::new();
    let mut config = config(&[&ca.line("a", &["a.test"])], "handshake_timeout = '1s'");
    config.first_byte_timeout = Duration::from_secs(1);
    let served = serve(&config);
    let mut silent = TcpStream::connect(served.address).await.unwrap();
    assert_eq!(read_to_end(&mut silent).await, "");
    // Nothing of what is said is in plain.
    let mut plain = TcpStream::connect(served.address).await.unwrap();
    send(&mut plain, ASK).await;
    let mut alert = Vec::new();
    let _ = timeout(PATIENCE, plain.read_to_end(&mut alert))
        .await
        .unwrap();
    assert!(!alert.starts_with(b"HTTP"), "{alert:?}");
    let mut mute = served.connect(&ca.client(), "a.test").await.unwrap();
    let mut nothing = Vec::new();
    let _ = timeout(PATIENCE, mute.0.read_to_end(&mut nothing))
        .await
        .unwrap();
    assert_eq!(nothing, b"");
}

#[test]
fn what_cannot_be_used_is_said_with_the_file_and_what_to_do() {
    let ca = Authority::new();
    let now = Clock::system().wall();
    let check = |certificate: &str, now: Timestamp| {
        let config = config(&[certificate], "");
        let found = tls::check("server.tls", &config.tls, now);
        found
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("\n")
    };
    assert_eq!(check(&ca.line("good", &["a.test"]), now), "");
    let written = |file: &str, text: &str| {
        fs::write(ca.file(file), text).unwrap();
        ca.file(file)
    };
    let nothing = written("nothing.pem", "");
    let broken = written(
        "broken.pem",
        "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",
    );
    let (good, key) = (ca.file("good.pem"), ca.file("good.key"));
    ca.issue("other", &["b.test"]);
    let both =
        fs::read_to_string(&good).unwrap() + &fs::read_to_string(ca.file("other.pem")).unwrap();
    let out_of_order = written("order.pem", &both);
    let later = now.saturating_add(Duration::from_hours(24 * 365 * 5000));
    for (certificate, at, words) in [
        (
            files(&ca.file("none.pem"), &key),
            now,
            "[0].chain: |none.pem|cannot be read",
        ),
        (
            files(&nothing, &key),
            now,
            "[0].chain: |nothing.pem|has no certificate",
        ),
        (
            files(&broken, &key),
            now,
            "[0].chain: |broken.pem|is not PEM",
        ),
        (
            files(&out_of_order, &key),
            now,
            "[0].chain: |order.pem|is out of order",
        ),
        (
            files(&good, &nothing),
            now,
            "[0].key: |nothing.pem|has no private key",
        ),
        (
            files(&good, &ca.file("other.key")),
            now,
            "[0].key: |other.key|is not the key of",
        ),
        (
            ca.line("nameless", &[]),
            now,
            "[0].chain: |nameless.pem|names nobody",
        ),
        (
            files(&good, &key),
            later,
            "[0].chain: |good.pem|expired at|renew",
        ),
        (
            files(&good, &key),
            Timestamp::EPOCH,
            "[0].chain: |good.pem|is valid only from",
        ),
    ] {
        let said = check(&certificate, at);
        for word in words.split('|') {
            assert!(said.contains(word), "`{word}` is not in {said}");
        }
    }
    let bad = config(&[&files(&good, &nothing)], "");
    assert!(matches!(Server::bind(&bad), Err(StartError::Tls(found)) if found.len() == 1));
}

#[tokio::test]
#[expect(
    clippy::disallowed_methods,
    reason = "what CI says of skipping is in the environment"
)]
async fn curl_and_openssl_are_served() {
    let ca = Authority::new();
    let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    let issued = ca.issue_with("a", &["a.test"], &key);
    let certificate = files(&issued.chain, &issued.key);
    for (more, classic_is_served) in [("", true), ("require_post_quantum = true", false)] {
        let served = serve(&config(&[&certificate], more));
        let port = served.address.port();
        for version in ["--tls-max 1.2", "--tlsv1.3"] {
            let output = Command::new("curl")
                .args([
                    "--http1.1",
                    "--silent",
                    "--show-error",
                    "--curves",
                    "X25519",
                    "--cacert",
                ])
                .arg(ca.file("ca.pem"))
                .args(version.split(' '))
                .args(["--resolve", &format!("a.test:{port}:127.0.0.1")])
                .arg(format!("https://a.test:{port}/"))
                .output()
                .await
                .unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            assert_eq!(text == "nobody.", classic_is_served, "{version} {output:?}");
        }
    }
    let served = serve(&config(&[&certificate], ""));
    let output = Command::new("openssl")
        .args([
            "s_client",
            "-servername",
            "a.test",
            "-verify_return_error",
            "-CAfile",
        ])
        .arg(ca.file("ca.pem"))
        .args(["-alpn", "http/1.1", "-connect", &served.address.to_string()])
        .stdin(std::process::Stdio::null())
        .output()
        .await;
    let Ok(output) = output else {
        let all = std::env::var("CYPHERON_TEST_REQUIRE_ALL").is_ok_and(|value| value == "1");
        assert!(
            !all,
            "openssl is not installed: sudo apt-get install -y openssl"
        );
        // Past what the test harness keeps to itself.
        let skipped = b"SKIPPED: no openssl; get it with: sudo apt-get install -y openssl\n";
        std::io::Write::write_all(&mut std::io::stdout(), skipped).unwrap();
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("Verify return code: 0"), "{text}");
    assert!(text.contains("ALPN protocol: http/1.1"), "{text}");
}
