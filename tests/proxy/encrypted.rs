//! What an upstream is told of a connection over TLS; curl is the client.

use std::net::SocketAddr;
use std::path::Path;

use tokio::process::Command;

use super::authority::Authority;
use super::edge::{Edge, to};
use super::wire::{Upstream, field};

async fn curl(directory: &Path, edge: SocketAddr, more: &[&str]) -> String {
    let port = edge.port();
    let output = Command::new("curl")
        .current_dir(directory)
        .args(["--silent", "--show-error", "--cacert", "ca.pem"])
        .args(["--resolve", &format!("edge.test:{port}:127.0.0.1")])
        .args(["--header", "x-edge-client-subject: CN=spoof"])
        .args(more)
        .arg(format!("https://edge.test:{port}/"))
        .output()
        .await
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn the_upstream_is_told_of_tls_and_of_the_certificate_that_was_shown() {
    let authority = Authority::new();
    for name in ["edge.test", "client.test"] {
        authority.issue(name, &[name]);
    }
    let directory = &authority.directory;
    let upstream = Upstream::echoing().await;
    let at = directory.path().display();
    let edge = Edge::with(&format!(
        "[server.tls]\nclient_certificates = 'optional'\nclient_ca = '{at}/ca.pem'\n\
         certificates = [{{ chain = '{at}/edge.test.pem', key = '{at}/edge.test.key' }}]\n\
         {}\n[[routes]]\nname = 'all'\nupstream = 'u'\n",
        to(upstream.address, "")
    ));
    let shown = ["--cert", "client.test.pem", "--key", "client.test.key"];
    let sent = curl(directory.path(), edge.address, &shown).await;
    assert_eq!(field(&sent, "x-forwarded-proto"), Some("https"), "{sent}");
    let subject = field(&sent, "x-edge-client-subject");
    assert_eq!(subject, Some("CN=client.test"), "{sent}");
    let fingerprint = field(&sent, "x-edge-client-fingerprint").unwrap();
    assert_eq!(fingerprint.len(), 64, "{sent}");
    let sent = curl(directory.path(), edge.address, &[]).await;
    assert_eq!(field(&sent, "x-edge-client-subject"), None, "{sent}");
    assert_eq!(field(&sent, "x-edge-client-fingerprint"), None, "{sent}");
}
