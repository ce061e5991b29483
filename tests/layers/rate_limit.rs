//! How often, and what a client is told about it.

use std::convert::Infallible;
use std::num::NonZeroU32;
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use cypheron_edge::clock::Timestamp;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::Full;
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::python::python_with;
use crate::support::edge::Edge;
use crate::support::mint;

async fn upstream(_: Request<()>) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut response = Response::new(Full::default());
    let theirs = http::HeaderValue::from_static("\"theirs\";r=9;t=1");
    response.headers_mut().insert("ratelimit", theirs);
    Ok(response)
}

async fn ask(edge: &Edge, token: &str, permission: Option<&str>) -> (StatusCode, HeaderMap) {
    let mut auth = edge.auth();
    if let Some(permission) = permission {
        auth = auth.require(permission.parse().unwrap());
    }
    let layers = (edge.limit_refusals(), auth, edge.limit());
    let mut service = layers.layer(service_fn(upstream));
    let request = Request::get("/").header("x-api-key", token);
    let request = request.body(()).unwrap();
    let response = service.ready().await.unwrap().call(request).await.unwrap();
    (response.status(), response.headers().clone())
}

fn limit(headers: &HeaderMap) -> Vec<&str> {
    let values = headers.get_all("ratelimit").iter();
    values.map(|value| value.to_str().unwrap()).collect()
}

fn twice_a_minute(edge: &Edge) -> String {
    edge.issue(|key| key.rate_limit = NonZeroU32::new(2).unwrap())
}

#[tokio::test]
async fn an_admitted_request_is_told_where_its_key_stands_beside_the_upstreams_own() {
    let edge = Edge::new();
    let token = twice_a_minute(&edge);
    let (status, headers) = ask(&edge, &token, None).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(headers["ratelimit-policy"], "\"edge\";q=2;w=60");
    assert_eq!(limit(&headers), ["\"theirs\";r=9;t=1", "\"edge\";r=1;t=30"]);
}

#[tokio::test]
async fn beyond_the_limit_a_request_is_refused_until_it_may_be_retried() {
    let edge = Edge::new();
    let token = twice_a_minute(&edge);
    ask(&edge, &token, None).await;
    ask(&edge, &token, None).await;
    edge.clock.advance(Duration::from_millis(10_500));
    let (status, headers) = ask(&edge, &token, None).await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(headers["retry-after"], "20");
    assert_eq!(limit(&headers), ["\"edge\";r=0;t=20"]);
    edge.clock.advance(Duration::from_secs(20));
    let (status, _) = ask(&edge, &token, None).await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn a_refusal_for_another_reason_tells_of_the_limit_and_costs_nothing() {
    let edge = Edge::new();
    let token = twice_a_minute(&edge);
    ask(&edge, &token, None).await;
    for _ in 0..3 {
        let (status, headers) = ask(&edge, &token, Some("orders:write")).await;
        assert_eq!(status, StatusCode::FORBIDDEN);
        assert_eq!(headers["ratelimit-policy"], "\"edge\";q=2;w=60");
        assert_eq!(limit(&headers), ["\"edge\";r=1;t=30"]);
    }
}

#[tokio::test]
async fn an_answer_that_must_not_tell_of_a_key_does_not_tell_of_its_limit() {
    let edge = Edge::new();
    let expired = edge.issue(|key| key.expires_at = Some(Timestamp::EPOCH));
    for token in [expired, mint().0] {
        let (status, headers) = ask(&edge, &token, None).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED);
        assert_eq!(limit(&headers), Vec::<&str>::new());
        assert!(!headers.contains_key("ratelimit-policy"));
    }
}

/// An independent parser of structured fields agrees with what was meant.
#[tokio::test]
async fn the_fields_are_structured_fields() {
    let edge = Edge::new();
    let token = twice_a_minute(&edge);
    let mut lines = Vec::new();
    for _ in 0..3 {
        let (_, headers) = ask(&edge, &token, None).await;
        for name in ["ratelimit-policy", "ratelimit"] {
            let values = headers.get_all(name).iter();
            lines.extend(values.map(|value| format!("{name}: {}", value.to_str().unwrap())));
        }
    }
    if let Some(python) = python_with("http_sf") {
        let script = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/python/ratelimit_headers.py"
        );
        let output = Command::new(python)
            .args([script, &lines.join("\n")])
            .output();
        let output = output.unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{complaint}");
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(said.trim(), "policies: 3, limits: edge 1 0 0, others: 2");
    }
}
