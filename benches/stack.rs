//! A request through the layers over a service that does nothing, beside the
//! service alone.

#![expect(clippy::unwrap_used, reason = "a benchmark")]

#[path = "../tests/layers/support/alone.rs"]
mod alone;
#[expect(dead_code, reason = "only the store and its keys are of use here")]
#[path = "../tests/layers/support/mod.rs"]
mod support;

use std::convert::Infallible;
use std::future::ready;
use std::num::NonZeroU32;
use std::sync::Arc;

use alone::{now, request, response};
use bytes::Bytes;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use cypheron_edge::middleware::{RefusalUsageLayer, UsageLayer};
use cypheron_edge::refusal::Refusal;
use cypheron_edge::route::Route;
use cypheron_edge::secret::Secret;
use cypheron_edge::token::{GenerationKeys, TokenKeys};
use cypheron_edge::usage::recorder::{Completion, Decision, Full, Recorder, Reservation};
use cypheron_edge::usage::refusals::Refusals;
use http::{Request, Response};
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

type Body = FullBody<Bytes>;

fn answer<B>(_: Request<B>) -> std::future::Ready<Result<Response<Body>, Infallible>> {
    ready(Ok(response()))
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
            .block_on(auth.call(request::<Body>(&edge.clock, token, &route)))
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
        request::<Body>(&edge.clock, &tokens[at], &route)
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
            request::<Body>(&edge.clock, &forged[at], &route)
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
