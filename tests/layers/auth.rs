//! Who gets in, who does not, and what each is told.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cypheron_edge::clock::Timestamp;
use cypheron_edge::middleware::{ClientAddress, Identity, Refused, RequestContext};
use cypheron_edge::permission::Required;
use cypheron_edge::refusal::Refusal;
use cypheron_edge::route::{Access, RequiredPermissions, Route};
use cypheron_edge::secret::Secret;
use cypheron_edge::token::{GenerationKeys, TokenKeys};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::support::bench::settle;
use crate::support::edge::Edge;
use crate::support::mint;

/// Answers with the name of the key, and what it was sent.
async fn whoami(request: Request<()>) -> Result<Response<Full<Bytes>>, Infallible> {
    let context = request.extensions().get::<RequestContext>().unwrap();
    let name = context
        .identity
        .key()
        .map_or("nobody", |key| key.name.as_str());
    let mut response = Response::new(Full::from(name.to_owned()));
    *response.headers_mut() = request.headers().clone();
    Ok(response)
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    refused: Option<Refused>,
    body: String,
}

impl Answer {
    fn refusal(&self) -> Option<Refusal> {
        self.refused.as_ref().map(|refused| refused.refusal)
    }
}

async fn ask(edge: &Edge, request: Request<()>) -> Answer {
    ask_through(edge.auth().layer(service_fn(whoami)), request).await
}

async fn ask_through<S, R>(service: S, request: Request<()>) -> Answer
where
    S: Service<Request<()>, Response = Response<R>, Error = Infallible>,
    R: http_body::Body<Data = Bytes, Error = Infallible>,
{
    let (head, body) = service.oneshot(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Answer {
        status: head.status,
        refused: head.extensions.get().cloned(),
        headers: head.headers,
        body: String::from_utf8(body.to_vec()).unwrap(),
    }
}

fn request() -> http::request::Builder {
    Request::get("/").header("x-request-id", "r-1")
}

fn with_token(token: &str) -> Request<()> {
    let bearer = format!("Bearer {token}");
    request().header("authorization", bearer).body(()).unwrap()
}

fn required(text: &str) -> Required {
    text.parse().unwrap()
}

#[tokio::test]
async fn a_key_gets_in_and_its_token_goes_no_further() {
    let edge = Edge::new();
    let token = edge.issue(|_| {});
    for _ in 0..2 {
        let answer = ask(&edge, with_token(&token)).await;
        assert_eq!((answer.status, &*answer.body), (StatusCode::OK, "test"));
        assert!(!answer.headers.contains_key("authorization"));
    }
    assert_eq!(edge.store.reads(), 1);
}

#[tokio::test]
async fn every_refusal_says_what_a_client_may_know() {
    let edge = Edge::new();
    let expired = edge.issue(|key| key.expires_at = Some(Timestamp::EPOCH));
    let elsewhere = edge.issue(|key| key.allowed_ips = vec!["192.0.2.0/24".parse().unwrap()]);
    let inactive = edge.issue(|key| key.is_active = false);
    for (token, status, slug, refusal) in [
        ("", 401, "token-missing", Refusal::TokenMissing),
        (
            "cyk_live_0",
            401,
            "token-malformed",
            Refusal::TokenMalformed,
        ),
        (&mint().0, 401, "key-invalid", Refusal::KeyUnknown),
        (&expired, 401, "key-invalid", Refusal::KeyExpired),
        (&inactive, 401, "key-invalid", Refusal::KeyInactive),
        (&elsewhere, 403, "address-denied", Refusal::AddressDenied),
    ] {
        let answer = ask(&edge, with_token(token)).await;
        assert_eq!(
            (answer.status.as_u16(), answer.refusal()),
            (status, Some(refusal))
        );
        let problem: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(problem["type"], format!("urn:cypheron-edge:problem:{slug}"));
        assert_eq!(problem["request_id"], "r-1");
        assert_eq!(answer.headers["content-type"], "application/problem+json");
        let challenge = answer.headers.get("www-authenticate");
        assert_eq!(challenge.is_some(), status == 401);
    }
}

#[tokio::test]
async fn nothing_in_an_answer_tells_whether_a_key_exists() {
    let edge = Edge::new();
    let expired = edge.issue(|key| key.expires_at = Some(Timestamp::EPOCH));
    let inactive = edge.issue(|key| key.is_active = false);
    let tampered = edge.issue(|_| {});
    edge.store.put_sealed(
        crate::support::key(crate::support::hash_of(&tampered)),
        b"edited",
    );
    let unknown = ask(&edge, with_token(&mint().0)).await;
    for token in [expired, inactive, tampered] {
        let answer = ask(&edge, with_token(&token)).await;
        assert_ne!(answer.refusal(), unknown.refusal());
        assert_eq!(answer.body, unknown.body);
        assert_eq!(answer.headers, unknown.headers);
        assert_eq!(answer.status, unknown.status);
    }
}

#[tokio::test]
async fn a_forged_token_costs_no_read() {
    let edge = Edge::new();
    let generation = |tag| GenerationKeys {
        generation: b'0',
        index: Secret::new([1; 32]),
        tag: Secret::new([tag; 32]),
    };
    let forger = TokenKeys::new(&[generation(9)]).unwrap();
    for _ in 0..100 {
        let token = crate::support::token_format().mint(&forger).unwrap();
        let answer = ask(&edge, with_token(token.expose())).await;
        assert_eq!(answer.refusal(), Some(Refusal::KeyUnknown));
    }
    assert_eq!(edge.store.reads(), 0);
}

#[tokio::test]
async fn a_store_that_fails_is_not_the_clients_fault() {
    let edge = Edge::new();
    edge.store.fails(true);
    let answer = ask(&edge, with_token(&mint().0)).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.headers.contains_key("retry-after"));
}

#[tokio::test]
async fn a_public_route_asks_for_nothing_and_takes_the_token_off() {
    let edge = Edge::new();
    let public = Route {
        access: Access {
            public: true,
            ..Access::default()
        },
        ..Route::default()
    };
    for token in [edge.issue(|_| {}), "cyk_live_nonsense".to_owned()] {
        let mut request = with_token(&token);
        request
            .extensions_mut()
            .insert(context(&edge, public.clone()));
        let answer = ask(&edge, request).await;
        assert_eq!(answer.body, "nobody");
        assert!(!answer.headers.contains_key("authorization"));
    }
    assert_eq!(edge.store.reads(), 0);
}

fn context(edge: &Edge, route: Route) -> RequestContext {
    let now = edge.clock.now();
    RequestContext {
        received: now,
        client: None,
        peer: None,
        certificate: None,
        request_id: cypheron_edge::context::RequestId::generate(now.wall),
        route: Arc::new(route),
        identity: Identity::ANONYMOUS,
    }
}

#[tokio::test]
async fn a_route_asks_for_a_permission_by_method() {
    let edge = Edge::new();
    let token = edge.issue(|_| {});
    let route = Route {
        access: Access {
            required: RequiredPermissions {
                otherwise: Some(required("orders:write")),
                by_method: vec![(Method::GET, required("orders:read"))],
            },
            ..Access::default()
        },
        ..Route::default()
    };
    for (method, refusal) in [
        (Method::GET, None),
        (Method::HEAD, None),
        (Method::POST, Some(Refusal::PermissionDenied)),
        (other_case("get"), None),
        (other_case("post"), Some(Refusal::PermissionDenied)),
    ] {
        let mut request = with_token(&token);
        *request.method_mut() = method.clone();
        request
            .extensions_mut()
            .insert(context(&edge, route.clone()));
        assert_eq!(ask(&edge, request).await.refusal(), refusal, "{method}");
    }
}

/// A method of its own to us, and the same to many a server.
fn other_case(method: &str) -> Method {
    method.parse().unwrap()
}

#[tokio::test]
async fn a_method_that_was_forgotten_is_for_nobody() {
    let edge = Edge::new();
    let token = edge.issue(|key| key.permissions = vec!["*".parse().unwrap()]);
    let by_method = vec![
        (Method::GET, required("orders:read")),
        (Method::DELETE, required("orders:write")),
    ];
    for (method, by_method, refusal) in [
        (Method::GET, &by_method, None),
        (Method::HEAD, &by_method, None),
        (other_case("delete"), &by_method, None),
        (Method::PUT, &by_method, Some(Refusal::PermissionDenied)),
        (Method::PUT, &Vec::new(), None),
    ] {
        let required = RequiredPermissions {
            otherwise: None,
            by_method: by_method.clone(),
        };
        let route = Route {
            access: Access {
                required,
                ..Access::default()
            },
            ..Route::default()
        };
        let mut request = with_token(&token);
        *request.method_mut() = method.clone();
        request.extensions_mut().insert(context(&edge, route));
        assert_eq!(ask(&edge, request).await.refusal(), refusal, "{method}");
    }
}

#[tokio::test]
async fn a_case_of_letters_is_no_way_around_a_permission() {
    let edge = Edge::new();
    let token = edge.issue(|_| {});
    let route = Route {
        access: Access {
            required: RequiredPermissions {
                otherwise: Some(required("orders:read")),
                by_method: vec![(Method::DELETE, required("orders:write"))],
            },
            ..Access::default()
        },
        ..Route::default()
    };
    let mut request = with_token(&token);
    *request.method_mut() = other_case("delete");
    request.extensions_mut().insert(context(&edge, route));
    let refusal = ask(&edge, request).await.refusal();
    assert_eq!(refusal, Some(Refusal::PermissionDenied));
}

#[tokio::test]
async fn a_layer_may_require_a_permission_of_its_own() {
    let edge = Edge::new();
    let token = edge.issue(|_| {});
    for (permission, refusal) in [
        ("orders:read", None),
        ("orders:write", Some(Refusal::PermissionDenied)),
    ] {
        let alone = edge.auth().require(required(permission));
        let service = alone.layer(service_fn(whoami));
        let answer = ask_through(service, with_token(&token)).await;
        assert_eq!(answer.refusal(), refusal);
        // Inside of another one, the key is already known.
        let inside = edge.auth().layer(alone.layer(service_fn(whoami)));
        let answer = ask_through(inside, with_token(&token)).await;
        assert_eq!(answer.refusal(), refusal);
    }
}

#[tokio::test]
async fn a_request_may_say_what_it_requires_and_where_it_comes_from() {
    let edge = Edge::new();
    let token = edge.issue(|key| key.allowed_ips = vec!["2001:db8::/32".parse().unwrap()]);
    for (permission, address, refusal) in [
        ("orders:read", "2001:db8::1", None),
        ("orders:read", "2001:db9::1", Some(Refusal::AddressDenied)),
        (
            "orders:write",
            "2001:db8::1",
            Some(Refusal::PermissionDenied),
        ),
    ] {
        let mut request = with_token(&token);
        let address: IpAddr = address.parse().unwrap();
        request.extensions_mut().insert(ClientAddress(address));
        request.extensions_mut().insert(required(permission));
        assert_eq!(ask(&edge, request).await.refusal(), refusal);
    }
}

#[tokio::test]
async fn a_refusal_of_a_known_key_says_whose_it_was_inside_the_process_only() {
    let edge = Edge::new();
    let token = edge.issue(|key| key.expires_at = Some(Timestamp::EPOCH));
    let answer = ask(&edge, with_token(&token)).await;
    let refused = answer.refused.unwrap();
    assert_eq!(refused.identity.key().unwrap().name.as_str(), "test");
    assert!(!answer.body.contains("test"));
}

/// Of another generation than all that `edge` holds from here on.
fn rotate(edge: &Edge) -> Arc<TokenKeys> {
    let another = GenerationKeys {
        generation: b'1',
        index: Secret::new([3; 32]),
        tag: Secret::new([4; 32]),
    };
    let another = TokenKeys::new(&[another]).unwrap();
    edge.keys.swap(Arc::new(another))
}

#[tokio::test]
async fn tokens_of_a_generation_that_is_not_held_are_unknown_until_it_is() {
    let edge = Edge::new();
    edge.connect().await;
    let token = edge.issue(|_| {});
    let held = rotate(&edge);
    let loaded = edge.reloads();
    for _ in 0..3 {
        let answer = ask(&edge, with_token(&token)).await;
        assert_eq!(answer.refusal(), Some(Refusal::KeyUnknown));
    }
    assert_eq!(edge.store.reads(), 0);
    assert_eq!(
        edge.reloads(),
        loaded,
        "a new keyring would have been told of"
    );
    edge.keys.store(held);
    assert_eq!(ask(&edge, with_token(&token)).await.refusal(), None);
}

#[tokio::test]
async fn while_the_feed_is_cut_such_a_token_has_the_keyring_loaded_once_in_five_seconds() {
    let edge = Edge::new();
    let token = edge.issue(|_| {});
    rotate(&edge);
    let ask = async || ask(&edge, with_token(&token)).await.refusal();
    for loaded in 1..=3 {
        // It may be one that another process has just made.
        assert_eq!(ask().await, Some(Refusal::StoreUnavailable));
        settle().await;
        for _ in 0..100 {
            assert_eq!(ask().await, Some(Refusal::KeyUnknown));
            settle().await;
        }
        assert_eq!(edge.reloads(), loaded, "whatever a forger sends");
        edge.clock.advance(Duration::from_secs(6));
    }
}

#[tokio::test]
async fn an_inner_error_passes_untouched() {
    let edge = Edge::new();
    let token = edge.issue(|_| {});
    let failing = service_fn(|_: Request<()>| async { Err::<Response<Full<Bytes>>, _>("broken") });
    let mut service = edge.auth().layer(failing);
    for _ in 0..2 {
        let ready = service.ready().await.unwrap();
        assert_eq!(ready.call(with_token(&token)).await.unwrap_err(), "broken");
    }
}

#[tokio::test]
async fn tokens_that_are_no_good_are_braked_by_address_and_good_ones_never() {
    let edge = Edge::new();
    let (good, new) = (edge.issue(|_| {}), edge.issue(|_| {}));
    let expired = edge.issue(|key| key.expires_at = Some(Timestamp::EPOCH));
    let auth = edge.auth_braked_at(100);
    let ask = async |token: &str, from: &str| {
        let mut request = with_token(token);
        let from: IpAddr = from.parse().unwrap();
        request.extensions_mut().insert(ClientAddress(from));
        ask_through(auth.layer(service_fn(whoami)), request).await
    };
    assert_eq!(ask(&good, "192.0.2.1").await.status, StatusCode::OK);
    for _ in 0..100 {
        let answer = ask("cyk_live_0", "192.0.2.1").await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    }
    // Whether there is such a key is not told here either.
    let mut told = Vec::new();
    for token in ["cyk_live_0", &mint().0, &expired] {
        let answer = ask(token, "192.0.2.1").await;
        assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS, "{token}");
        assert_eq!(answer.refusal(), Some(Refusal::TooManyFailures));
        assert!(answer.refused.unwrap().identity.key().is_none());
        assert!(answer.body.contains("too-many-failures"));
        told.push((answer.headers, answer.body));
    }
    assert_eq!(told[0].0["retry-after"], "1");
    assert!(told.iter().all(|answer| *answer == told[0]));
    // A key that is cached and one that is not yet, from the same address.
    for token in [&good, &new] {
        assert_eq!(ask(token, "192.0.2.1").await.status, StatusCode::OK);
    }
    // No token is no failure, and nobody else is braked.
    let missing = ask("", "192.0.2.1").await;
    assert_eq!(missing.status, StatusCode::UNAUTHORIZED);
    let elsewhere = ask("cyk_live_0", "192.0.2.2").await;
    assert_eq!(elsewhere.status, StatusCode::UNAUTHORIZED);
    edge.clock.advance(Duration::from_secs(2));
    let later = ask("cyk_live_0", "192.0.2.1").await;
    assert_eq!(later.status, StatusCode::UNAUTHORIZED);
}
