//! Access tokens, from a token service that the tests run.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use cypheron_edge::clock::Clock;
use cypheron_edge::repository::firestore::{Credentials, CredentialsError};
use firestore::gcloud_sdk::GoogleAuthHeaders;
use firestore::gcloud_sdk::google_cloud_auth::credentials;
use tempfile::TempDir;

/// A service account's key; making one takes a moment.
static KEY: LazyLock<String> = LazyLock::new(|| {
    let size = rcgen::RsaKeySize::_2048;
    rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, size)
        .unwrap()
        .serialize_pem()
});

/// Answers `token-1`, `token-2` and so on. Ends with the process.
struct TokenService {
    address: SocketAddr,
    given: Arc<AtomicU32>,
    lifetime: Arc<AtomicU64>,
    refuses: Arc<AtomicBool>,
}

impl TokenService {
    fn start(lifetime: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let service = Self {
            address: listener.local_addr().unwrap(),
            given: Arc::default(),
            lifetime: Arc::new(AtomicU64::new(lifetime)),
            refuses: Arc::default(),
        };
        let (given, lifetime) = (Arc::clone(&service.given), Arc::clone(&service.lifetime));
        let refuses = Arc::clone(&service.refuses);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = BufReader::new(stream.unwrap());
                let mut length = 0;
                let mut line = String::new();
                while stream.read_line(&mut line).unwrap_or(0) > 2 {
                    let lower = line.to_lowercase();
                    if let Some(value) = lower.strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap();
                    }
                    line.clear();
                }
                let mut body = vec![0; length];
                stream.read_exact(&mut body).unwrap();
                assert!(body.starts_with(b"grant_type=urn%3Aietf%3Aparams%3Aoauth"));
                let (status, answer) = if refuses.load(Ordering::SeqCst) {
                    ("400 Bad Request", r#"{"error":"invalid_grant"}"#.to_owned())
                } else {
                    let number = given.fetch_add(1, Ordering::SeqCst) + 1;
                    let lifetime = lifetime.load(Ordering::SeqCst);
                    let answer =
                        format!(r#"{{"access_token":"token-{number}","expires_in":{lifetime}}}"#);
                    ("200 OK", answer)
                };
                let length = answer.len();
                let head = format!(
                    "HTTP/1.1 {status}\r\nContent-Type: application/json\r\n\
                     Content-Length: {length}\r\nConnection: close\r\n\r\n"
                );
                let stream = stream.get_mut();
                stream.write_all((head + &answer).as_bytes()).unwrap();
            }
        });
        service
    }

    fn given(&self) -> u32 {
        self.given.load(Ordering::SeqCst)
    }

    fn key_file(&self, directory: &TempDir) -> PathBuf {
        let path = directory.path().join("key.json");
        write_key(&path, &format!("http://{}/token", self.address));
        path
    }
}

fn write_key(path: &Path, token_uri: &str) {
    let key = serde_json::json!({
        "type": "service_account",
        "project_id": "project",
        "private_key": *KEY,
        "client_email": "edge@project.iam.gserviceaccount.com",
        "token_uri": token_uri,
    });
    std::fs::write(path, key.to_string()).unwrap();
}

/// A clock that tests move: the lifetimes of tokens begin at the system's time.
fn clock() -> Clock {
    Clock::manual(Clock::system().wall())
}

async fn sent(credentials: &Credentials) -> String {
    let bearer = credentials.bearer().await.unwrap();
    bearer.header().to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_token_is_asked_for_once_by_however_many() {
    let service = TokenService::start(3600);
    let directory = tempfile::tempdir().unwrap();
    let credentials = Credentials::new(Some(service.key_file(&directory)), clock()).unwrap();
    assert_eq!(service.given(), 0, "not before it is needed");
    let asking: Vec<_> = (0..20)
        .map(|_| {
            let credentials = credentials.clone();
            tokio::spawn(async move { sent(&credentials).await })
        })
        .collect();
    for asked in asking {
        assert_eq!(asked.await.unwrap(), "Bearer token-1");
    }
    assert_eq!(service.given(), 1);
}

#[tokio::test]
async fn a_token_is_renewed_before_its_end_and_nobody_waits_for_that() {
    let service = TokenService::start(3600);
    let directory = tempfile::tempdir().unwrap();
    let clock = clock();
    let credentials = Credentials::new(Some(service.key_file(&directory)), clock.clone()).unwrap();
    let headers = GoogleAuthHeaders::from(credentials::Credentials::from(credentials.clone()));
    let header = async || headers.headers().await.unwrap()["authorization"].clone();
    assert_eq!(header().await, "Bearer token-1");
    clock.advance(Duration::from_mins(56));
    assert_eq!(header().await, "Bearer token-1");
    assert_eq!(service.given(), 1);

    service.lifetime.store(9999, Ordering::SeqCst);
    clock.advance(Duration::from_secs(30));
    assert_eq!(header().await, "Bearer token-1", "still good");
    let renewed = async {
        while header().await != "Bearer token-2" {
            tokio::task::yield_now().await;
        }
    };
    let renewed = tokio::time::timeout(Duration::from_secs(30), renewed).await;
    renewed.expect("it is not renewed");
    assert_eq!(service.given(), 2);
}

#[tokio::test]
async fn a_token_that_expired_is_not_sent() {
    let service = TokenService::start(100);
    let directory = tempfile::tempdir().unwrap();
    let clock = clock();
    let credentials = Credentials::new(Some(service.key_file(&directory)), clock.clone()).unwrap();
    assert_eq!(sent(&credentials).await, "Bearer token-1");
    clock.advance(Duration::from_secs(101));
    service.lifetime.store(3600, Ordering::SeqCst);
    assert_eq!(sent(&credentials).await, "Bearer token-2");
}

#[tokio::test]
async fn a_renewal_that_fails_leaves_the_old_token_in_use_until_its_end() {
    let service = TokenService::start(100);
    let directory = tempfile::tempdir().unwrap();
    let clock = clock();
    let credentials = Credentials::new(Some(service.key_file(&directory)), clock.clone()).unwrap();
    sent(&credentials).await;
    service.refuses.store(true, Ordering::SeqCst);
    clock.advance(Duration::from_secs(90));
    assert_eq!(sent(&credentials).await, "Bearer token-1");

    clock.advance(Duration::from_secs(11));
    let error = credentials.bearer().await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, CredentialsError::NoToken { .. }), "{text}");
    assert!(text.contains("key.json"), "{text}");
    // Nobody asks a service again that has just refused.
    service.refuses.store(false, Ordering::SeqCst);
    assert_eq!(credentials.bearer().await.unwrap_err(), error);
    service.lifetime.store(3600, Ordering::SeqCst);
    clock.advance(Duration::from_secs(3));
    assert_eq!(sent(&credentials).await, "Bearer token-2");
}

#[tokio::test]
async fn a_key_file_that_was_replaced_is_taken_into_use() {
    let old = TokenService::start(100);
    let new = TokenService::start(3600);
    let directory = tempfile::tempdir().unwrap();
    let clock = clock();
    let credentials = Credentials::new(Some(old.key_file(&directory)), clock.clone()).unwrap();
    sent(&credentials).await;
    new.key_file(&directory);
    clock.advance(Duration::from_secs(101));
    sent(&credentials).await;
    assert_eq!((old.given(), new.given()), (1, 1));
}

#[tokio::test]
async fn a_clock_that_was_wrong_when_a_token_came_does_not_keep_it_for_ever() {
    let service = TokenService::start(3600);
    let directory = tempfile::tempdir().unwrap();
    // The token ends fifty years from now, as this clock has it.
    let wall = Clock::system().wall();
    let clock = Clock::manual(wall.saturating_sub(Duration::from_hours(50 * 365 * 24)));
    let credentials = Credentials::new(Some(service.key_file(&directory)), clock.clone()).unwrap();
    assert_eq!(sent(&credentials).await, "Bearer token-1");
    clock.advance(Duration::from_mins(55));
    assert_eq!(sent(&credentials).await, "Bearer token-1");
    clock.advance(Duration::from_mins(6));
    assert_eq!(sent(&credentials).await, "Bearer token-2");
}

#[tokio::test]
async fn a_token_that_firestore_refuses_is_replaced_but_not_one_that_has_just_come() {
    let service = TokenService::start(3600);
    let directory = tempfile::tempdir().unwrap();
    let clock = clock();
    let credentials = Credentials::new(Some(service.key_file(&directory)), clock.clone()).unwrap();
    credentials.refused();
    assert_eq!(sent(&credentials).await, "Bearer token-1");
    clock.advance(Duration::from_secs(1));
    credentials.refused();
    assert_eq!(sent(&credentials).await, "Bearer token-1");
    clock.advance(Duration::from_secs(1));
    credentials.refused();
    assert_eq!(sent(&credentials).await, "Bearer token-2");
    // Those who were on their way with the old one.
    credentials.refused();
    assert_eq!(sent(&credentials).await, "Bearer token-2");
    assert_eq!(service.given(), 2);
}

#[test]
fn a_file_that_cannot_be_used_is_refused_with_its_path_and_what_would_do() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key.json");
    for (content, why) in [
        (None, "No such file"),
        (Some("not JSON".to_owned()), "it is no key file"),
        (Some("{}".to_owned()), "see line 1, column 2"),
        (Some(r#""sesame""#.to_owned()), "it is no key file: see line 1"),
        (
            Some(r#"{"type":"service_account","private_key":7,"client_email":["sesame"]}"#.to_owned()),
            "see line 1, column",
        ),
        (
            Some(r#"{"type":["sesame"]}"#.to_owned()),
            "it is no key file: see line 1",
        ),
        (
            Some(r#"{"type":"authorized_user","refresh_token":"sesame"}"#.to_owned()),
            "it is of type `authorized_user`",
        ),
        (
            Some(
                r#"{"type":"service_account","client_email":"a","token_uri":"http://b","private_key":"sesame"}"#
                    .to_owned(),
            ),
            "failed to parse",
        ),
    ] {
        if let Some(content) = content {
            std::fs::write(&path, content).unwrap();
        }
        let error = Credentials::new(Some(path.clone()), Clock::system()).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(&path.display().to_string()), "{text}");
        assert!(text.contains(why), "{text}");
        assert!(text.contains("set GOOGLE_APPLICATION_CREDENTIALS to"), "{text}");
        assert!(!text.contains("sesame"), "{text}");
    }
}
