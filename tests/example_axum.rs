//! The example, served, beside the proxy's own stack: what a client is told
//! when it is refused is the same, byte for byte.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "its `main` is not called")]
#[path = "../examples/axum.rs"]
mod example;

use std::convert::Infallible;
use std::num::NonZeroUsize;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use cypheron_edge::clock::Timestamp;
use cypheron_edge::middleware::{RateLimitLayer, RateLimitRefusalsLayer};
use cypheron_edge::proxy::{ClientAddressRule, IngressLayer};
use cypheron_edge::route::{Access, RequiredPermissions, Route, RouteTable};
use cypheron_edge::usage::refusals::Refusals;
use example::Edge;
use http::{Method, Request, Response};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{LocalSet, spawn_local};
use tower::{Layer, service_fn};

/// What the example's usage says of a request, without whose it was.
fn what(line: &str) -> String {
    let (_, what) = line.split_once(": ").unwrap();
    what.split(' ').next().unwrap().to_owned()
}

/// The answer, without the moment it was given at.
async fn ask(to: std::net::SocketAddr, method: &str, fields: &str) -> String {
    let mut stream = TcpStream::connect(to).await.unwrap();
    let head = format!(
        "{method} /orders HTTP/1.1\r\nhost: edge\r\nx-request-id: r-1\r\nconnection: close\r\n{fields}\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let lines = answer.split_inclusive("\r\n");
    lines.filter(|line| !line.starts_with("date:")).collect()
}

fn routes() -> Arc<ArcSwap<RouteTable>> {
    let orders = Route {
        path_prefix: "/orders".into(),
        access: Access {
            required: RequiredPermissions {
                otherwise: None,
                by_method: vec![
                    (Method::GET, "orders:read".parse().unwrap()),
                    (Method::POST, "orders:write".parse().unwrap()),
                ],
            },
            ..Access::default()
        },
        ..Route::default()
    };
    Arc::new(ArcSwap::from_pointee(RouteTable::new([orders]).unwrap()))
}

async fn upstream<B>(_: Request<B>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::from("The orders of example.\n")))
}

/// The proxy's layers over the same keys.
async fn serve_proxy(listener: TcpListener, edge: Arc<Edge>) {
    let clock = || edge.clock.clone();
    let limiter = || Arc::clone(&edge.limiter);
    let trusting_nobody = ClientAddressRule::new(Vec::new(), NonZeroUsize::MIN);
    let tally = Refusals::new(1).tally(0);
    let ingress = IngressLayer::new(routes(), trusting_nobody, tally, clock()).layer(
        (
            RateLimitRefusalsLayer::new(limiter(), clock()),
            edge.auth.clone(),
            RateLimitLayer::new(limiter()),
        )
            .layer(service_fn(upstream)),
    );
    loop {
        let (stream, peer) = listener.accept().await.unwrap();
        let service = TowerToHyperService::new(ingress.for_peer(peer.ip()));
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service);
        spawn_local(connection);
    }
}

#[tokio::test]
async fn the_example_refuses_as_the_proxy_does() {
    let (lines, mut usage) = mpsc::channel(64);
    let edge = Arc::new(Edge::new(lines));
    let bind = async || TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (axum, proxy) = (bind().await, bind().await);
    let (to_axum, to_proxy) = (axum.local_addr().unwrap(), proxy.local_addr().unwrap());
    let bearer = |token: &str| format!("authorization: Bearer {token}\r\n");
    let valid = edge.issue(|_| {});
    let expired = edge.issue(|key| key.expires_at = Some(Timestamp::EPOCH));
    let elsewhere = edge.issue(|key| key.allowed_ips = vec!["192.0.2.1/32".parse().unwrap()]);
    let limited = edge.issue(|key| key.rate_limit = std::num::NonZeroU32::MIN);
    LocalSet::new()
        .run_until(async {
            let serving = Arc::clone(&edge);
            tokio::spawn(async move { example::serve(axum, &serving).await });
            spawn_local(serve_proxy(proxy, Arc::clone(&edge)));

            let admitted = ask(to_axum, "GET", &bearer(&valid)).await;
            assert!(admitted.starts_with("HTTP/1.1 200 OK\r\n"), "{admitted}");
            assert!(admitted.ends_with("The orders of example.\n"), "{admitted}");
            assert!(admitted.contains("\r\nx-request-id: r-1\r\n"), "{admitted}");
            assert!(
                ask(to_axum, "GET", &bearer(&limited))
                    .await
                    .contains(" 200 ")
            );

            let mut recorded = || {
                let lines = std::iter::from_fn(|| usage.try_recv().ok());
                lines.map(|line| what(&line)).collect::<Vec<_>>()
            };
            assert_eq!(recorded(), ["200", "200"]);

            for (status, method, fields) in [
                (401, "GET", String::new()),
                (401, "GET", bearer("cyk_live_0")),
                (401, "GET", bearer(&expired)),
                (
                    401,
                    "GET",
                    bearer(&valid) + "x-api-key: " + &expired + "\r\n",
                ),
                (403, "GET", bearer(&elsewhere)),
                (403, "POST", bearer(&valid)),
                (403, "POST", bearer(&valid) + "content-length: 0\r\n"),
                (429, "GET", bearer(&limited)),
                (401, "HEAD", String::new()),
            ] {
                let of_axum = ask(to_axum, method, &fields).await;
                let of_proxy = ask(to_proxy, method, &fields).await;
                assert!(of_axum.contains(&format!(" {status} ")), "{of_axum}");
                assert_eq!(of_axum, of_proxy);
            }
            assert_eq!(
                recorded(),
                [
                    "token-missing",
                    "token-malformed",
                    "key-expired",
                    "token-repeated",
                    "address-denied",
                    "permission-denied",
                    "permission-denied",
                    "rate-limited",
                    "token-missing",
                ]
            );
        })
        .await;
}
