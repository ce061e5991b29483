//! Google's identity tokens for an upstream, from a metadata server that the
//! tests run.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL;

use crate::client::get;
use crate::process::{Deployment, eventually};
use crate::upstream::Upstream;

const AUDIENCE: &str = "https://app-abc.a.run.app/?a=b&c";

/// Gives token after token, each good for `lifetime` seconds. Ends with the process.
struct Metadata {
    address: SocketAddr,
    given: Arc<AtomicU32>,
    refuses: Arc<AtomicBool>,
}

impl Metadata {
    fn start(lifetime: u64, refuses: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            given: Arc::default(),
            refuses: Arc::new(AtomicBool::new(refuses)),
        };
        let (given, refuses) = (Arc::clone(&server.given), Arc::clone(&server.refuses));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut stream = BufReader::new(stream);
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") && stream.read_line(&mut head).unwrap_or(0) > 0 {}
                assert!(head.to_lowercase().contains("metadata-flavor: google\r\n"));
                let path = "GET /computeMetadata/v1/instance/service-accounts/default/identity?";
                let query =
                    "audience=https%3A%2F%2Fapp%2Dabc%2Ea%2Erun%2Eapp%2F%3Fa%3Db%26c&format=full ";
                assert!(head.starts_with(&format!("{path}{query}")), "{head}");
                let answer = if refuses.load(Ordering::SeqCst) {
                    "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n".to_owned()
                } else {
                    let number = given.fetch_add(1, Ordering::SeqCst) + 1;
                    let token = token(number, lifetime);
                    let length = token.len();
                    format!(
                        "HTTP/1.1 200 OK\r\nMetadata-Flavor: Google\r\n\
                         Content-Length: {length}\r\n\r\n{token}"
                    )
                };
                stream.get_mut().write_all(answer.as_bytes()).ok();
            }
        });
        server
    }
}

fn token(number: u32, lifetime: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let until = now.as_secs() + lifetime;
    let claims = BASE64URL.encode(format!(r#"{{"exp":{until}}}"#));
    format!("token-{number}.{claims}.s")
}

fn vouched(metadata: &Metadata, upstream: &Upstream, field: &str) -> Deployment {
    let set = |name, value: &str| (name, value.to_owned());
    Deployment::in_environment(
        upstream.address,
        "",
        [
            set("GCE_METADATA_HOST", &metadata.address.to_string()),
            set("CYPHERON_EDGE__UPSTREAMS__APP__GOOGLE_ID_TOKEN", AUDIENCE),
            set(
                "CYPHERON_EDGE__UPSTREAMS__APP__GOOGLE_ID_TOKEN_FIELD",
                field,
            ),
        ],
    )
}

#[test]
fn an_upstream_is_sent_googles_token_and_a_clients_own_authorization() {
    let (metadata, upstream) = (Metadata::start(3600, false), Upstream::start());
    let edge = vouched(&metadata, &upstream, "X-Serverless-Authorization");
    let token = edge.key("reader", &[]);
    let _running = edge.serve();
    let headers = [
        ("X-API-Key", &*token),
        ("Authorization", "Bearer its.own.token"),
        ("X-Serverless-Authorization", "Bearer forged.by.client"),
    ];
    eventually("there is a token", || {
        get(edge.traffic, "/", &headers).status == 200
    });
    let seen = get(edge.traffic, "/", &headers).text().to_lowercase();
    assert!(
        seen.contains("x-serverless-authorization: bearer token-1."),
        "{seen}"
    );
    assert!(
        seen.contains("\r\nauthorization: bearer its.own.token\r\n"),
        "{seen}"
    );
    assert!(!seen.contains("forged"), "{seen}");
    assert_eq!(
        metadata.given.load(Ordering::SeqCst),
        1,
        "one for all requests"
    );
    assert!(!edge.log_text().contains("token-1"), "a token in the log");
}

#[test]
fn a_token_is_renewed_before_it_ends_and_in_the_field_that_is_wanted() {
    // Within what is left for a renewal from the beginning.
    let (metadata, upstream) = (Metadata::start(120, false), Upstream::start());
    let edge = vouched(&metadata, &upstream, "Authorization");
    let token = edge.key("reader", &[]);
    let _running = edge.serve();
    let headers = [
        ("X-API-Key", &*token),
        ("Authorization", "Bearer its.own.token"),
    ];
    eventually("a later token is sent", || {
        let answer = get(edge.traffic, "/", &headers);
        answer.status == 200
            && answer
                .text()
                .to_lowercase()
                .contains("\r\nauthorization: bearer token-2.")
    });
    let seen = get(edge.traffic, "/", &headers).text();
    assert!(!seen.contains("its.own.token"), "{seen}");
}

#[test]
fn without_a_token_a_client_is_told_at_once_and_nothing_is_forwarded() {
    let (metadata, upstream) = (Metadata::start(3600, true), Upstream::start());
    let edge = vouched(&metadata, &upstream, "X-Serverless-Authorization");
    let token = edge.key("reader", &[]);
    let _running = edge.serve();
    let headers = [("X-API-Key", &*token)];
    let answer = get(edge.traffic, "/", &headers);
    assert_eq!(answer.status, 502);
    let kind = "urn:cypheron-edge:problem:upstream-failed";
    assert_eq!(answer.json()["type"], kind);
    assert_eq!(upstream.requests(), 0);
    let ready = get(edge.health, "/readyz", &[]);
    assert_eq!(
        (ready.status, ready.text().contains("id_tokens")),
        (200, true)
    );
    metadata.refuses.store(false, Ordering::SeqCst);
    eventually("there is one", || {
        get(edge.traffic, "/", &headers).status == 200
    });
}
