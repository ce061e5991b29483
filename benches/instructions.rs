//! The steps of a request, for `scripts/count-instructions`: what each takes is
//! counted by callgrind, which sees the same on a busy machine as on an idle one.
//!
//! Prints the name of each step as it has been counted. Everything that is
//! made ready, a thousand keys for one, stays outside [`counted_steps`].

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark fails by panicking, and prints what it counted"
)]

#[expect(dead_code, reason = "only the store and its keys are of use here")]
#[path = "../tests/layers/support/mod.rs"]
mod support;

use std::cell::Cell;
use std::convert::Infallible;
use std::future::ready;
use std::hint::black_box;
use std::num::{NonZeroU32, NonZeroUsize};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use arc_swap::ArcSwap;
use bytes::Bytes;
use cypheron_edge::context::RequestId;
use cypheron_edge::directory::Lookup;
use cypheron_edge::key::{KnownKey, evaluate};
use cypheron_edge::middleware::{RefusalUsageLayer, UsageLayer};
use cypheron_edge::permission::Required;
use cypheron_edge::problem::Within;
use cypheron_edge::proxy::{ClientAddressRule, IngressLayer};
use cypheron_edge::route::{RouteConfig, RouteTable, path};
use cypheron_edge::secret::Secret;
use cypheron_edge::token::{GenerationKeys, Presented, TokenFormat, TokenKeys, Value};
use cypheron_edge::usage::client::ClientIp;
use cypheron_edge::usage::event::Ended;
use cypheron_edge::usage::journal::{self, Journal};
use cypheron_edge::usage::recorder::{Completion, Decision, Recorder, Reservation};
use cypheron_edge::usage::refusals::Refusals;
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use http_body_util::Full;
use support::edge::Edge;
use support::{hash_of, token_format, token_keys};
use tokio::runtime::Runtime;
use tower::{Layer, Service, service_fn};

const KEYS: usize = 1_000;
/// What the script divides by.
const ROUNDS: usize = 500;

const DONE: Completion = Completion {
    status: 200,
    ended: Ended::Complete,
    request_bytes: 0,
    response_bytes: 200,
    duration_us: 900,
    upstream_us: 700,
};

/// The only function whose instructions are counted, with all that it calls.
#[inline(never)]
fn counted_steps(step: &mut dyn FnMut(usize)) {
    for round in 0..ROUNDS {
        step(round);
    }
}

/// Once to warm what is kept from round to round, then for the count.
fn step(name: &str, mut step: impl FnMut(usize)) {
    for round in 0..ROUNDS {
        step(round);
    }
    counted_steps(&mut step);
    println!("{name}");
}

/// A step whose rounds each use up something that is made before.
fn step_with<T>(name: &str, mut make: impl FnMut(usize) -> T, mut with: impl FnMut(T)) {
    let mut ready: Vec<Option<T>> = (0..2 * ROUNDS).map(|round| Some(make(round))).collect();
    let at = Cell::new(0);
    step(name, |_| {
        let input = ready[at.replace(at.get() + 1)].take();
        with(input.unwrap());
    });
}

fn now<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("the request had to wait"),
    }
}

fn parsed<'a>(format: &TokenFormat, token: &'a str) -> Presented<'a> {
    match format.parse(token) {
        Value::Token(token) => token,
        other => panic!("{other:?}"),
    }
}

/// As a browser's script would send it.
fn request(token: &str) -> Request<Full<Bytes>> {
    let mut request = Request::builder()
        .uri("/orders/42?page=2")
        .header("host", "api.example.com")
        .header("user-agent", "Mozilla/5.0 (X11; Linux x86_64)")
        .header("accept", "application/json")
        .header("accept-encoding", "gzip, br")
        .body(Full::default())
        .unwrap();
    let bearer = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
    request.headers_mut().insert("authorization", bearer);
    request
}

type Answer = Response<Full<Bytes>>;

fn upstream<B>(_: Request<B>) -> std::future::Ready<Result<Answer, Infallible>> {
    let mut response = Response::new(Full::default());
    *response.headers_mut() = HeaderMap::with_capacity(16);
    ready(Ok(response))
}

fn routes() -> RouteTable {
    let routes: Vec<_> = (0..16)
        .map(|at| RouteConfig {
            name: format!("route-{at}"),
            path: Some(format!("/service-{at}")),
            upstream: "api".to_owned(),
            permission: Some("orders:read".to_owned()),
            ..RouteConfig::default()
        })
        .chain([RouteConfig {
            name: "orders".to_owned(),
            path: Some("/orders".to_owned()),
            upstream: "api".to_owned(),
            permission: Some("orders:read".to_owned()),
            ..RouteConfig::default()
        }])
        .collect();
    RouteTable::from_config(&routes).unwrap()
}

/// A token whose checksum is right and whose tag is not.
fn forge() -> String {
    let forger = GenerationKeys {
        generation: b'0',
        index: Secret::new([1; 32]),
        tag: Secret::new([9; 32]),
    };
    let forger = TokenKeys::new(&[forger]).unwrap();
    token_format().mint(&forger).unwrap().expose().to_owned()
}

fn of_routes() {
    let table = routes();
    step("path checked", |_| {
        assert!(path::is_unambiguous(black_box("/orders/42/items")));
    });
    step("route found", |_| {
        table.find(None, black_box("/orders/42/items")).unwrap();
    });
    let headers = HeaderMap::new();
    let at = cypheron_edge::clock::Timestamp::from_micros(1_800_000_000_000_000);
    step("request named", |_| {
        black_box(RequestId::of(black_box(&headers), at));
    });
}

fn of_keys(edge: &Edge, tokens: &[String]) {
    let (format, keys) = (token_format(), token_keys());
    step("token parsed", |round| {
        black_box(format.parse(black_box(&tokens[round])));
    });
    step("token hashed", |round| {
        black_box(keys.hash(parsed(&format, &tokens[round])));
    });
    step("tag compared", |round| {
        assert!(keys.tag_matches(parsed(&format, &tokens[round])));
    });
    let hashes: Vec<_> = tokens.iter().map(|token| hash_of(token)).collect();
    let at = edge.clock.now();
    step("directory hit", |round| {
        let lookup = edge.directory.lookup(black_box(&hashes[round]), at);
        assert!(matches!(lookup, Lookup::Hit(_)));
    });
    let key = KnownKey::from(support::key(hashes[0]));
    let required: Required = "orders:read".parse().unwrap();
    step("policy judged", |_| {
        black_box(evaluate(black_box(&key), Some(&required), None, at.wall));
    });
    step("request limited", |round| {
        let id = uuid::Uuid::from_u128(round as u128);
        black_box(edge.limiter.check(id, NonZeroU32::MAX, at.tick));
    });
}

fn of_requests(edge: &Edge, tokens: &[String], limited: &str) {
    let directory = tempfile::tempdir().unwrap();
    let config = journal::Config::default();
    let (_journal, writers) =
        Journal::open(&config, ClientIp::Full, directory.path(), &edge.clock, 1).unwrap();
    let writer = writers[0].clone();
    let decision = Decision {
        occurred_at: edge.clock.now().wall,
        key_id: uuid::Uuid::from_u128(7),
        route: "orders",
        method: &Method::GET,
        client: Some([192, 0, 2, 1].into()),
    };
    step("event admitted and completed", |_| {
        writer.admit(&decision).unwrap().complete(&DONE);
    });

    let refusals = Refusals::new(1);
    let tally = || refusals.tally(0);
    let ingress = IngressLayer::new(
        Arc::new(ArcSwap::from_pointee(routes())),
        ClientAddressRule::new(Vec::new(), NonZeroUsize::MIN),
        tally(),
        edge.clock.clone(),
    );
    let inner = (
        RefusalUsageLayer::new(writer.clone(), tally(), edge.clock.clone()),
        edge.limit_refusals(),
        Within(edge.auth()),
        Within(edge.limit()),
        UsageLayer::new(writer.clone(), edge.clock.clone()),
    )
        .layer(service_fn(upstream));
    let mut stack = Within(ingress).layer(inner).for_peer([192, 0, 2, 1].into());
    for (name, status, token) in [
        ("request admitted", 200, None),
        ("request with a forged key", 401, Some(forge())),
        ("request beyond its limit", 429, Some(limited.to_owned())),
    ] {
        let make = |round: usize| request(token.as_ref().unwrap_or(&tokens[round % KEYS]));
        step_with(name, make, |request| {
            let answer = now(stack.call(request)).unwrap();
            assert_eq!(answer.status(), status, "{name}");
        });
    }
}

fn main() {
    let runtime = Runtime::new().unwrap();
    let _entered = runtime.enter();
    let edge = Edge::new();
    let mut tokens: Vec<_> = (0..KEYS)
        .map(|_| edge.issue(|key| key.rate_limit = NonZeroU32::MAX))
        .collect();
    // Its bucket is its own: the others' ids repeat.
    tokens.push(edge.issue(|key| {
        key.id = uuid::Uuid::from_u128(u128::MAX);
        key.rate_limit = NonZeroU32::MIN;
    }));
    for token in &tokens {
        let digest = cypheron_edge::token::TokenDigest::of(token);
        let fetched = edge.directory.fetch(hash_of(token), digest, None);
        runtime.block_on(fetched).unwrap();
        // As of most requests, the key was asked for lately on this thread.
        edge.directory.lookup(&hash_of(token), edge.clock.now());
    }
    let limited = tokens.pop().unwrap();
    edge.limiter.check(
        uuid::Uuid::from_u128(u128::MAX),
        NonZeroU32::MIN,
        edge.clock.now().tick,
    );
    of_routes();
    of_keys(&edge, &tokens);
    of_requests(&edge, &tokens, &limited);
}
