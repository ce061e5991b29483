//! The health port: a small HTTP/1 server on the background runtime.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::Health;
use crate::accepting::AcceptFailures;
use crate::telemetry::Metrics;

/// Connections at once; more wait in the backlog. Probes and scrapers are few.
const CONNECTIONS: usize = 64;

/// How long a connection may last: it frees its place soon, and a client that
/// keeps it alive connects again.
const LIFETIME: Duration = Duration::from_mins(1);

const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// How often what the histograms gathered is folded into their buckets.
const UPKEEP: Duration = Duration::from_secs(5);

/// Where the keys are that verify assertions (RFC 8615 has the directory).
const KEYS: &str = "/.well-known/jwks.json";

/// Answers `/healthz`, `/readyz`, `/metrics` and [`KEYS`] until `shutdown` is ready.
pub async fn serve_health(
    listener: TcpListener,
    health: Arc<Health>,
    metrics: Metrics,
    shutdown: impl Future<Output = ()>,
) {
    let mut shutdown = std::pin::pin!(shutdown);
    let mut upkeep = interval(UPKEEP);
    upkeep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut failures = AcceptFailures::of("health");
    loop {
        tokio::select! {
            () = &mut shutdown => return,
            _ = upkeep.tick() => metrics.upkeep(),
            accepted = accept(&listener, &places, &mut failures) => {
                let (stream, place) = accepted;
                let (health, metrics) = (Arc::clone(&health), metrics.clone());
                tokio::spawn(async move {
                    converse(stream, &health, &metrics).await;
                    drop(place);
                });
            }
        }
    }
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
    failures: &mut AcceptFailures,
) -> (TcpStream, Option<tokio::sync::OwnedSemaphorePermit>) {
    // why: the semaphore is never closed.
    let place = Arc::clone(places).acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, place),
            Err(error) => failures.survive(&error).await,
        }
    }
}

async fn converse(stream: TcpStream, health: &Health, metrics: &Metrics) {
    let service = service_fn(|request: Request<Incoming>| {
        let response = answer(request.method(), request.uri().path(), health, metrics);
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_headers(32)
        .serve_connection(TokioIo::new(stream), service);
    // A probe that goes away, or lasts too long, is no event.
    let _ = timeout(LIFETIME, connection).await;
}

fn answer(method: &Method, path: &str, health: &Health, metrics: &Metrics) -> Response<String> {
    const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
    const JSON: HeaderValue = HeaderValue::from_static("application/json");
    // The version that Prometheus's text format calls itself.
    const PROMETHEUS: HeaderValue =
        HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    const JWK_SET: HeaderValue = HeaderValue::from_static("application/jwk-set+json");
    // A key is added long before it signs.
    const KEPT: HeaderValue = HeaderValue::from_static("public, max-age=300");
    let known = matches!(path, "/healthz" | "/readyz" | "/metrics" | KEYS);
    if known && method != Method::GET && method != Method::HEAD {
        let mut refused = response(StatusCode::METHOD_NOT_ALLOWED, TEXT, "GET and HEAD only\n");
        let allowed = HeaderValue::from_static("GET, HEAD");
        refused.headers_mut().insert(ALLOW, allowed);
        return refused;
    }
    match path {
        "/healthz" => response(StatusCode::OK, TEXT, "ok\n"),
        "/readyz" => {
            let (status, body) = health.readiness();
            response(status, JSON, body)
        }
        KEYS => match health.published_keys() {
            Some(keys) => {
                let mut published = response(StatusCode::OK, JWK_SET, &*keys);
                published.headers_mut().insert(CACHE_CONTROL, KEPT);
                published
            }
            None => response(StatusCode::SERVICE_UNAVAILABLE, TEXT, "no keyring yet\n"),
        },
        "/metrics" => response(StatusCode::OK, PROMETHEUS, metrics.render()),
        _ => response(StatusCode::NOT_FOUND, TEXT, "no such page\n"),
    }
}

fn response(
    status: StatusCode,
    content_type: HeaderValue,
    body: impl Into<String>,
) -> Response<String> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
