//! Upstreams over TLS: who they have to be, and who we are.

use std::fs;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use cypheron_edge::proxy::{UpstreamConfig, Upstreams};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::authority::{Authority, Issued};
use super::edge::Edge;
use super::failures::assert_problem;
use super::wire::{Upstream, Wire, eventually};

const GET: &str = "GET / HTTP/1.1\r\nhost: h\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok";

/// What an upstream saw of its last connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Seen {
    name: Option<String>,
    group: String,
    protocol: Option<Vec<u8>>,
}

struct Private {
    address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
}

impl Private {
    /// An upstream that proves to be `name`; with `clients`, to those only that
    /// `clients` vouches for.
    async fn called(name: &str, authority: &Authority, clients: Option<&Authority>) -> Self {
        let Issued { chain, key } = authority.issue(name, &[name]);
        let chain = vec![CertificateDer::from_pem_file(chain).unwrap()];
        let key = PrivateKeyDer::from_pem_file(key).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(clients) => {
                let mut roots = RootCertStore::empty();
                let authority = CertificateDer::from_pem_file(clients.file("ca.pem"));
                roots.add(authority.unwrap()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let mut config = builder.with_single_cert(chain, key).unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let noted = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, noted) = (acceptor.clone(), Arc::clone(&noted));
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let connection = stream.get_ref().1;
                    let group = connection.negotiated_key_exchange_group().unwrap();
                    *noted.lock().unwrap() = Seen {
                        name: connection.server_name().map(str::to_owned),
                        group: format!("{:?}", group.name()),
                        protocol: connection.alpn_protocol().map(<[u8]>::to_vec),
                    };
                    let mut head = Vec::new();
                    // What follows HTTP/2's preface may come with it.
                    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                        if stream.read_buf(&mut head).await.unwrap_or(0) == 0 {
                            return;
                        }
                    }
                    stream.write_all(OK).await.unwrap();
                    stream.shutdown().await.ok();
                });
            }
        });
        Self { address, seen }
    }

    /// An edge that reaches it as `host`, with these TLS settings.
    fn behind(&self, host: &str, tls: &str) -> Edge {
        before(&format!("https://{host}:{}", self.address.port()), tls)
    }
}

fn before(target: &str, tls: &str) -> Edge {
    Edge::with(&format!(
        "[upstreams.u]\ntarget = '{target}'\nconnect_timeout = '5s'\n\
         [upstreams.u.tls]\n{tls}\n[[routes]]\nname = 'all'\nupstream = 'u'\n"
    ))
}

fn ca(authority: &Authority) -> String {
    format!("ca = '{}'", authority.file("ca.pem").display())
}

async fn assert_answered(edge: &Edge) {
    let answer = edge.ask(GET).await;
    assert!(answer.ends_with("ok"), "{answer}");
}

/// The client learns that there is no answer, and nothing of why.
async fn assert_unreached(edge: &Edge) {
    let answer = edge.ask(GET).await;
    assert_problem(&answer, 502, "upstream-failed");
    for told in ["ertificate", "TLS", "issuer", "localhost"] {
        assert!(!answer.contains(told), "{answer}");
    }
}

#[tokio::test]
async fn a_private_connection_is_kept_until_its_upstream_ends_it_and_both_say_so() {
    let authority = Authority::new();
    let Issued { chain, key } = authority.issue("localhost", &["localhost"]);
    let chain = vec![CertificateDer::from_pem_file(chain).unwrap()];
    let key = PrivateKeyDer::from_pem_file(key).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let ended = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&ended);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, ended) = (acceptor.clone(), Arc::clone(&count));
            tokio::spawn(async move {
                let mut stream = acceptor.accept(stream).await.unwrap();
                for _ in 0..3 {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        assert_ne!(stream.read_buf(&mut head).await.unwrap(), 0);
                    }
                    let ok = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                    stream.write_all(ok).await.unwrap();
                }
                stream.shutdown().await.unwrap();
                // An end that is not said is an error.
                assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
                ended.fetch_add(1, Ordering::SeqCst);
            });
        }
    });
    let target = format!("https://localhost:{}", address.port());
    let edge = before(&target, &ca(&authority));
    for round in 1..3 {
        for _ in 0..3 {
            assert_answered(&edge).await;
        }
        // Nobody asked it anything meanwhile.
        eventually("both have ended it", || {
            ended.load(Ordering::SeqCst) == round
        })
        .await;
    }
}

#[tokio::test]
async fn an_upstream_proves_who_it_is_and_no_one_later_reads_what_was_said() {
    let authority = Authority::new();
    let upstream = Private::called("localhost", &authority, None).await;
    assert_answered(&upstream.behind("localhost", &ca(&authority))).await;
    let seen = upstream.seen.lock().unwrap().clone();
    assert_eq!(
        seen,
        Seen {
            name: Some("localhost".into()),
            group: "X25519MLKEM768".into(),
            protocol: Some(b"http/1.1".into()),
        }
    );
}

#[tokio::test]
async fn who_proves_to_be_somebody_else_is_told_nothing() {
    let (authority, other) = (Authority::new(), Authority::new());
    let upstream = Private::called("app.internal", &authority, None).await;
    // The name is another one; the authority is; nobody knows it.
    assert_unreached(&upstream.behind("localhost", &ca(&authority))).await;
    let named = "server_name = 'app.internal'\n";
    assert_unreached(&upstream.behind("localhost", &format!("{named}{}", ca(&other)))).await;
    assert_eq!(*upstream.seen.lock().unwrap(), Seen::default());
    let edge = upstream.behind("localhost", &format!("{named}{}", ca(&authority)));
    assert_answered(&edge).await;
    let name = upstream.seen.lock().unwrap().name.clone();
    assert_eq!(name.as_deref(), Some("app.internal"));
}

#[tokio::test]
async fn an_upstream_that_asks_who_we_are_is_shown_a_certificate() {
    let authority = Authority::new();
    let upstream = Private::called("localhost", &authority, Some(&authority)).await;
    assert_unreached(&upstream.behind("localhost", &ca(&authority))).await;
    let Issued {
        chain: certificate,
        key,
    } = authority.issue("edge", &["edge"]);
    let ours = format!(
        "{}\ncertificate = '{}'\nkey = '{}'",
        ca(&authority),
        certificate.display(),
        key.display()
    );
    assert_answered(&upstream.behind("localhost", &ours)).await;
}

#[tokio::test]
async fn certificates_that_change_are_read_again_and_bad_ones_change_nothing() {
    let (authority, next) = (Authority::new(), Authority::new());
    let upstream = Private::called("localhost", &next, None).await;
    let edge = upstream.behind("localhost", &ca(&authority));
    assert_unreached(&edge).await;
    fs::copy(next.file("ca.pem"), authority.file("ca.pem")).unwrap();
    let mut answer = String::new();
    for _ in 0..1500 {
        answer = edge.ask(GET).await;
        if answer.ends_with("ok") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(answer.ends_with("ok"), "{answer}");
    fs::write(authority.file("ca.pem"), "nonsense").unwrap();
    // Longer than it takes to be seen.
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    assert_answered(&edge).await;
}

#[tokio::test]
async fn http2_is_agreed_on_before_it_is_spoken() {
    let authority = Authority::new();
    let upstream = Private::called("localhost", &authority, None).await;
    let edge = Edge::with(&format!(
        "[upstreams.u]\ntarget = 'https://localhost:{}'\nhttp2 = true\n\
         [upstreams.u.tls]\n{}\n[[routes]]\nname = 'all'\nupstream = 'u'\n",
        upstream.address.port(),
        ca(&authority)
    ));
    // It agrees, and then speaks something else.
    assert_unreached(&edge).await;
    let agreed = upstream.seen.lock().unwrap().protocol.clone();
    assert_eq!(agreed.as_deref(), Some(&b"h2"[..]));
}

#[tokio::test]
async fn who_does_not_speak_tls_is_not_spoken_to() {
    let plain = Upstream::playing(|mut wire: Wire| async move {
        wire.try_send(OK).await.ok();
    })
    .await;
    let edge = before(&format!("https://{}", plain.address), "");
    assert_unreached(&edge).await;
    let silent = Upstream::playing(|mut wire: Wire| async move {
        wire.rest().await;
    })
    .await;
    let edge = before(&format!("https://{}", silent.address), "");
    assert_problem(&edge.ask(GET).await, 504, "upstream-timeout");
}

#[test]
fn what_cannot_be_used_is_named_with_its_file() {
    let authority = Authority::new();
    let Issued {
        chain: certificate,
        key,
    } = authority.issue("edge", &["edge"]);
    let other_key = authority.issue("other", &["other"]).key;
    let nonsense = authority.file("nonsense.pem");
    fs::write(&nonsense, "nonsense").unwrap();
    let [certificate, key, other_key, nonsense] =
        [certificate, key, other_key, nonsense].map(|path| path.display().to_string());
    for (target, tls, wrong, named) in [
        (
            "https://a",
            "ca = '/nowhere'".to_owned(),
            "tls.ca",
            "/nowhere",
        ),
        (
            "https://a",
            format!("ca = '{nonsense}'"),
            "tls.ca",
            &*nonsense,
        ),
        (
            "https://a",
            format!("certificate = '{certificate}'"),
            "tls.key",
            "missing",
        ),
        (
            "https://a",
            format!("key = '{key}'"),
            "tls.certificate",
            "missing",
        ),
        (
            "https://a",
            format!("certificate = '{certificate}'\nkey = '{other_key}'"),
            "tls.key",
            &*other_key,
        ),
        (
            "https://a",
            format!("certificate = '{certificate}'\nkey = '{nonsense}'"),
            "tls.key",
            &*nonsense,
        ),
        (
            "https://a",
            "server_name = 'a b'".to_owned(),
            "tls.server_name",
            "a b",
        ),
        (
            "http://a",
            "server_name = 'a'".to_owned(),
            "tls",
            "https://",
        ),
    ] {
        let config: UpstreamConfig =
            toml::from_str(&format!("target = '{target}'\n[tls]\n{tls}")).unwrap();
        let configs = [("u".to_owned(), config)].into();
        let found = Upstreams::from_config(&configs).unwrap_err();
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), 1, "{found:?}");
        let expected = format!("upstreams.u.{wrong}: ");
        assert!(
            found[0].starts_with(&expected) && found[0].contains(named),
            "{found:?}"
        );
    }
}
