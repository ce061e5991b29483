//! What each `sslmode` asks of a server, through both pools.

use std::fs;

use cypheron_edge::database::{Config, DatabaseManager, Server, SslMode};

use crate::authority::{Authority, Issued};
use crate::server::{TestServer, shared};

/// A server with a certificate for this name.
fn server(authority: &Authority, name: &str) -> Option<TestServer> {
    let Issued { chain, key } = authority.issue("server", &[name]);
    let read = |file| fs::read_to_string(file).unwrap();
    TestServer::start_encrypted(&read(chain), &read(key))
}

/// Whether both pools' connections are encrypted; why there is none.
async fn is_encrypted(
    server: &TestServer,
    ssl_mode: SslMode,
    root: Option<&Authority>,
) -> Result<bool, String> {
    const QUESTION: &str = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let server = Server {
        ssl_mode,
        ssl_root_cert: root.map(|root| root.file("ca.pem")),
        ..Server::from_url(&server.url("postgres")).unwrap()
    };
    let manager = DatabaseManager::postgres(&server, &Config::default()).unwrap();
    let queries = manager.queries().await;
    let ingest = manager.ingest().await;
    assert_eq!(queries.is_ok(), ingest.is_ok(), "{queries:?} {ingest:?}");
    let (mut queries, ingest) = match (queries, ingest) {
        (Ok(queries), Ok(ingest)) => (queries, ingest),
        (Err(error), _) | (_, Err(error)) => return Err(error.to_string()),
    };
    let of_queries: bool = sqlx::query_scalar(QUESTION)
        .fetch_one(&mut *queries)
        .await
        .unwrap();
    let of_ingest: bool = ingest.query_one(QUESTION, &[]).await.unwrap().get(0);
    assert_eq!(of_queries, of_ingest);
    Ok(of_ingest)
}

#[tokio::test]
async fn a_server_is_trusted_as_far_as_the_mode_says() {
    let (ours, another) = (Authority::new(), Authority::new());
    let Some(right) = server(&ours, "127.0.0.1") else {
        return;
    };
    let misnamed = server(&ours, "db.example").unwrap();
    for (server, mode, root, expected) in [
        (&right, SslMode::Disable, None, Ok(false)),
        (&right, SslMode::Prefer, None, Ok(true)),
        (&right, SslMode::Require, None, Ok(true)),
        (&right, SslMode::Require, Some(&ours), Ok(true)),
        (
            &right,
            SslMode::Require,
            Some(&another),
            Err("invalid peer certificate"),
        ),
        (&right, SslMode::VerifyCa, Some(&ours), Ok(true)),
        (
            &right,
            SslMode::VerifyCa,
            Some(&another),
            Err("invalid peer certificate"),
        ),
        (&right, SslMode::VerifyFull, Some(&ours), Ok(true)),
        (
            &right,
            SslMode::VerifyFull,
            Some(&another),
            Err("invalid peer certificate"),
        ),
        (&misnamed, SslMode::VerifyCa, Some(&ours), Ok(true)),
        (
            &misnamed,
            SslMode::VerifyFull,
            Some(&ours),
            Err("not valid for name"),
        ),
    ] {
        let found = is_encrypted(server, mode, root).await;
        match (&found, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(*found, expected, "{mode:?}"),
            (Err(error), Err(expected)) => assert!(error.contains(expected), "{error}"),
            _ => panic!("{mode:?}: {found:?}"),
        }
    }
}

#[tokio::test]
async fn a_server_that_does_not_encrypt_will_do_only_where_it_may() {
    let Some(server) = shared() else { return };
    let ours = Authority::new();
    assert_eq!(is_encrypted(server, SslMode::Prefer, None).await, Ok(false));
    for (mode, root) in [(SslMode::Require, None), (SslMode::VerifyCa, Some(&ours))] {
        let error = is_encrypted(server, mode, root).await.unwrap_err();
        assert!(error.contains("TLS"), "{error}");
    }
}
