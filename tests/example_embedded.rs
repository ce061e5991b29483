//! The example over the embedded store, with keys that the command line made.

#![cfg(all(feature = "edge", feature = "embedded"))]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "its `main` is not called")]
#[path = "../examples/embedded.rs"]
mod example;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use cypheron_edge::crypto::Password;
use cypheron_edge::secret::Secret;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const PASSWORD: &str = "correct horse battery staple, twice over";

/// Runs a command of the edge on the data in `directory`.
fn edge(directory: &Path, arguments: &[&str]) {
    let output = Command::new(env!("CARGO_BIN_EXE_cypheron-edge"))
        .args(arguments)
        .current_dir(directory)
        .env_clear()
        .env("CYPHERON_EDGE_CONFIG", directory.join("edge.toml"))
        .env("PQ_ENCRYPTION_PASSWORD", PASSWORD)
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
}

async fn ask(to: SocketAddr, token: &str) -> String {
    let mut stream = TcpStream::connect(to).await.unwrap();
    let request = format!(
        "GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn the_example_takes_the_keys_of_the_command_line_until_they_are_revoked() {
    let directory = tempfile::tempdir().unwrap();
    let (path, data) = (directory.path(), directory.path().join("data"));
    let config = format!(
        "[data]\ndir = '{}'\n[auth]\nenvironment = 'test'\n[keys]\nstore = 'embedded'\n[usage]\nsink = 'sqlite'\n",
        data.display()
    );
    fs::write(path.join("edge.toml"), config).unwrap();
    edge(path, &["keyring", "init"]);

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let password = Password::new(Secret::new(PASSWORD.to_owned())).unwrap();
    let app = example::app(&data, password).await.unwrap();
    tokio::spawn(example::serve(listener, app));

    let create = ["keys", "create", "--name", "Zoë", "--rate-limit", "60000"];
    let bound = ["--allow-ip", "127.0.0.0/8", "--token-to", "token"];
    edge(path, &[&create[..], &bound].concat());
    let token = fs::read_to_string(path.join("token")).unwrap();
    let admitted = ask(address, token.trim()).await;
    assert!(admitted.starts_with("HTTP/1.1 200 "), "{admitted}");
    assert!(admitted.ends_with("Hello, Zoë.\n"), "{admitted}");

    edge(path, &["keys", "revoke", "Zoë"]);
    let revoked = async {
        while !ask(address, token.trim())
            .await
            .starts_with("HTTP/1.1 401 ")
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let within = Duration::from_secs(30);
    tokio::time::timeout(within, revoked).await.unwrap();
}
