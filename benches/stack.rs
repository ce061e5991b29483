//! A request through the layers over a service that does nothing, beside the
//! service alone.

#![expect(clippy::unwrap_used, reason = "a benchmark")]

#[expect(dead_code, reason = "only the store and its keys are of use here")]
#[path = "../tests/layers/support/mod.rs"]
mod support;

use std::convert::Infallible;
use std::future::ready;
use std::num::NonZeroU32;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use cypheron_edge::context::{Identity, RequestContext, RequestId};
use cypheron_edge::middleware::{RefusalUsageLayer, UsageLayer};
use cypheron_edge::refusal::Refusal;
use cypheron_edge::route::Route;
use cypheron_edge::secret::Secret;
use cypheron_edge::token::{GenerationKeys, TokenKeys};
use cypheron_edge::usage::recorder::{Completion, Decision, Full, Recorder, Reservation};
use cypheron_edge::usage::refusals::Refusals;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::Full as FullBody;
use support::edge::Edge;
use support::token_format;
use tokio::runtime::Runtime;
use tower::{Layer, Service, service_fn};

const KEYS: usize = 1_000;

/// So that the layers are measured, and not what is behind them.
#[derive(Clone)]
struct Nowhere;

impl Recorder for Nowhere {
    type Reservation = Self;

    fn admit(&self, _: &Decision<'_>) -> Result<Self, Full> {
        Ok(Self)
    }

    fn refuse(&self, _: &Decision<'_>, _: Refusal, _: &Completion) {}
}

impl Reservation for Nowhere {
    fn complete(self, _: &Completion) {}
}

fn request(edge: &Edge, token: &str, route: &Arc<Route>) -> Request<FullBody<Bytes>> {
    let now = edge.clock.now();
    let mut request = Request::new(FullBody::default());
    let bearer = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
    request.headers_mut().insert("authorization", bearer);
    request.extensions_mut().insert(RequestContext {
        received: now,
        client: None,
        peer: None,
        certificate: None,
        request_id: RequestId::generate(now.wall),
        route: Arc::clone(route),
        identity: Identity::ANONYMOUS,
    });
    request
}

fn answer<B>(_: Request<B>) -> std::future::Ready<Result<Response<FullBody<Bytes>>, Infallible>> {
    let mut response = Response::new(FullBody::default());
    *response.headers_mut() = HeaderMap::with_capacity(16);
    ready(Ok(response))
}

fn now<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("the request had to wait"),
    }
}

fn requests(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let _entered = runtime.enter();
    let edge = Edge::new();
    let route = Arc::new(Route::default());
    let tokens: Vec<_> = (0..KEYS)
        .map(|_| edge.issue(|key| key.rate_limit = NonZeroU32::MAX))
        .collect();
    let mut auth = edge.auth().layer(service_fn(answer));
    for token in &tokens {
        runtime
            .block_on(auth.call(request(&edge, token, &route)))
            .unwrap();
    }
    let refusals = Refusals::new(1);
    let mut stack = (
        RefusalUsageLayer::new(Nowhere, refusals.tally(0), edge.clock.clone()),
        edge.limit_refusals(),
        edge.auth(),
        edge.limit(),
        UsageLayer::new(Nowhere, edge.clock.clone()),
        edge.auth().streams(),
    )
        .layer(service_fn(answer));
    let mut alone = service_fn(answer);
    let mut at = 0;
    let mut next = || {
        at = (at + 1) % KEYS;
        request(&edge, &tokens[at], &route)
    };
    let forged: Vec<_> = (0..KEYS).map(|_| forge()).collect();

    criterion.bench_function("service alone", |bencher| {
        bencher.iter_batched(
            &mut next,
            |request| now(alone.call(request)),
            BatchSize::SmallInput,
        );
    });
    criterion.bench_function("auth", |bencher| {
        bencher.iter_batched(
            &mut next,
            |request| now(auth.call(request)),
            BatchSize::SmallInput,
        );
    });
    criterion.bench_function("all layers", |bencher| {
        bencher.iter_batched(
            &mut next,
            |request| now(stack.call(request)),
            BatchSize::SmallInput,
        );
    });
    criterion.bench_function("all layers, forged token", |bencher| {
        let mut at = 0;
        let next = || {
            at = (at + 1) % KEYS;
            request(&edge, &forged[at], &route)
        };
        bencher.iter_batched(
            next,
            |request| now(stack.call(request)),
            BatchSize::SmallInput,
        );
    });
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

criterion_group!(benches, requests);
criterion_main!(benches);
