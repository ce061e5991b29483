//! The layers in an axum application, route by route, over keys in memory.
//!
//! ```text
//! cargo run --example axum
//! ```
//!
//! prints a token and what to ask. An application with a store of its own
//! implements `ApiKeyReader` as [`Keys`] does here, and seals its records:
//! `examples/embedded.rs` has the store that comes along, and real records.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "an example talks to whoever runs it"
)]

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use axum::extract::{ConnectInfo, Request};
use axum::middleware::Next;
use axum::response::Response;
use axum::routing::{MethodRouter, get, post};
use axum::{Extension, Router};
use cypheron_edge::clock::{Clock, Timestamp};
use cypheron_edge::context;
use cypheron_edge::directory::{Directory, OpenFailure, RecordOpener, Reload};
use cypheron_edge::key::ApiKey;
use cypheron_edge::limiter::Limiter;
use cypheron_edge::middleware::{
    ApiKeyAuthLayer, ClientAddress, RateLimitLayer, RateLimitRefusalsLayer, RefusalUsageLayer,
    RequestContext, UsageLayer,
};
use cypheron_edge::refusal::Refusal;
use cypheron_edge::repository::{ApiKeyReader, Change, Found, Result as StoreResult, StoredKey};
use cypheron_edge::secret::Secret;
use cypheron_edge::token::{
    Environment, GenerationKeys, KeyHash, TokenDigest, TokenFormat, TokenKeys, Value,
};
use cypheron_edge::usage::recorder::{Completion, Decision, Full, Recorder, Reservation};
use cypheron_edge::usage::refusals::RefusalCounter;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tower_http::request_id::{
    MakeRequestId, PropagateRequestIdLayer, RequestId, SetRequestIdLayer,
};
use uuid::Uuid;

#[tokio::main]
async fn main() {
    let (lines, mut usage) = mpsc::channel(1024);
    let edge = Edge::new(lines);
    tokio::spawn(async move {
        while let Some(line) = usage.recv().await {
            println!("{line}");
        }
    });
    let token = edge.issue(|_| {});
    let listener = TcpListener::bind("127.0.0.1:8081").await.unwrap();
    println!("curl -i -H 'Authorization: Bearer {token}' http://127.0.0.1:8081/orders");
    println!("curl -i http://127.0.0.1:8081/orders");
    serve(listener, &edge).await;
}

/// Serves [`app`], telling its layers what requests are called and where
/// clients call from. Every answer carries the request's name.
pub(crate) async fn serve(listener: TcpListener, edge: &Edge) {
    let app = app(edge).layer((
        SetRequestIdLayer::x_request_id(Names(edge.clock.clone())),
        PropagateRequestIdLayer::x_request_id(),
        axum::middleware::from_fn(client_address),
    ));
    let service = app.into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, service).await.unwrap();
}

/// What may be asked, each route with the permission it takes.
pub(crate) fn app(edge: &Edge) -> Router {
    let orders = edge
        .guarded("orders:read", get(list_orders))
        .merge(edge.guarded("orders:write", post(create_order)));
    Router::new()
        .route("/orders", orders)
        .route("/about", get(async || "Anybody may read this."))
}

async fn list_orders(Extension(context): Extension<RequestContext>) -> String {
    let name = context.identity.key().map(|key| key.name.to_string());
    format!("The orders of {}.\n", name.unwrap_or_default())
}

async fn create_order() -> &'static str {
    "Created.\n"
}

async fn client_address(
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    mut request: Request,
    next: Next,
) -> Response {
    request.extensions_mut().insert(ClientAddress(peer.ip()));
    next.run(request).await
}

/// Names requests that come without a name.
#[derive(Clone)]
struct Names(Clock);

impl MakeRequestId for Names {
    fn make_request_id<B>(&mut self, _: &http::Request<B>) -> Option<RequestId> {
        let name = context::RequestId::generate(self.0.wall());
        Some(RequestId::new(name.to_header()))
    }
}

/// What the layers of the application share.
pub(crate) struct Edge {
    pub(crate) auth: ApiKeyAuthLayer,
    pub(crate) limiter: Arc<Limiter>,
    pub(crate) clock: Clock,
    keys: Keys,
    token_keys: TokenKeys,
    usage: Lines,
}

impl Edge {
    /// To be called in a runtime, on which keys are then read. `usage` gets a
    /// line for each request.
    pub(crate) fn new(usage: mpsc::Sender<String>) -> Self {
        let (clock, keys) = (Clock::system(), Keys::default());
        let token_keys = TokenKeys::new(&[GenerationKeys {
            generation: b'0',
            index: Secret::random().unwrap(),
            tag: Secret::random().unwrap(),
        }])
        .unwrap();
        let directory = Directory::new(
            cypheron_edge::directory::Config::default(),
            clock.clone(),
            Arc::new(keys.clone()),
            Arc::new(BareDigests),
            tokio::runtime::Handle::current(),
        );
        let auth = ApiKeyAuthLayer::new(
            &cypheron_edge::middleware::auth::Config::default(),
            Arc::new(ArcSwap::from_pointee(token_keys.clone())),
            directory.clone(),
            clock.clone(),
        );
        tokio::spawn(async move { directory.follow().await });
        Self {
            auth: auth.unwrap(),
            limiter: Arc::new(Limiter::new(cypheron_edge::limiter::Config::default())),
            clock,
            keys,
            token_keys,
            usage: Lines(usage),
        }
    }

    /// The same handlers, for keys that hold `permission`. Outermost first.
    fn guarded(&self, permission: &str, handlers: MethodRouter) -> MethodRouter {
        let limiter = || Arc::clone(&self.limiter);
        let usage = || self.usage.clone();
        let layers = (
            RefusalUsageLayer::new(usage(), usage(), self.clock.clone()),
            RateLimitRefusalsLayer::new(limiter(), self.clock.clone()),
            self.auth.require(permission.parse().unwrap()),
            RateLimitLayer::new(limiter()),
            UsageLayer::new(usage(), self.clock.clone()),
        );
        handlers.layer(layers)
    }

    /// The token of a new key that may read orders, changed by `change`.
    pub(crate) fn issue(&self, change: impl FnOnce(&mut ApiKey)) -> String {
        let format = TokenFormat::new("cyk", Environment::Live).unwrap();
        let token = format.mint(&self.token_keys).unwrap();
        let Value::Token(presented) = format.parse(token.expose()) else {
            unreachable!("a minted token is one");
        };
        let digest = TokenDigest::of(token.expose());
        let mut key = ApiKey {
            id: Uuid::from_bytes(*digest.expose().first_chunk().unwrap()),
            name: "example".parse().unwrap(),
            key_hash: self.token_keys.hash(presented).unwrap(),
            permissions: vec!["orders:read".parse().unwrap()],
            rate_limit: NonZeroU32::new(5).unwrap(),
            created_at: self.clock.wall(),
            expires_at: None,
            is_active: true,
            allowed_ips: Vec::new(),
            revision: 1,
            last_used: None,
            usage_count: 0,
        };
        change(&mut key);
        self.keys.put(key, &digest);
        token.expose().to_owned()
    }
}

/// Keys in memory, which nobody but us can write.
#[derive(Clone, Default)]
pub(crate) struct Keys(Arc<Mutex<HashMap<KeyHash, StoredKey>>>);

impl Keys {
    fn put(&self, key: ApiKey, digest: &TokenDigest) {
        let record = StoredKey {
            sealed: digest.expose().to_vec(),
            updated_at: Timestamp::EPOCH,
            key,
        };
        let mut records = self.0.lock().unwrap();
        records.insert(record.key.key_hash, record);
    }
}

impl ApiKeyReader for Keys {
    fn find<'a>(&'a self, hash: &'a KeyHash) -> BoxFuture<'a, StoreResult<Found>> {
        let found = self.0.lock().unwrap().get(hash).cloned();
        let found = found.map_or(Found::Absent, |record| Found::Key(Box::new(record)));
        Box::pin(async { Ok(found) })
    }

    fn changes(&self) -> BoxStream<'static, Change> {
        stream::once(async { Change::Connected })
            .chain(stream::pending())
            .boxed()
    }

    /// There is none: nothing is sealed.
    fn keyring(&self) -> BoxFuture<'_, StoreResult<Option<Vec<u8>>>> {
        Box::pin(async { Ok(None) })
    }
}

/// NOT SEALED, and only good for keys in memory: the bare digest of the token
/// stands where a record's envelope belongs. In a real store whoever can write
/// would make themselves keys, or widen the policy of theirs. That takes
/// `SealedRecords`, as in `examples/embedded.rs`.
struct BareDigests;

impl RecordOpener for BareDigests {
    fn open(&self, record: &StoredKey) -> Result<TokenDigest, OpenFailure> {
        let digest = record.sealed.as_slice().try_into();
        digest
            .map(TokenDigest::from_bytes)
            .map_err(|_| OpenFailure::Tampered)
    }

    fn reload(&self, _: Reload) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

/// Usage, for people: one line for each request. Layers must not wait, so what
/// finds no room is lost; the crate's own journal loses nothing.
#[derive(Clone)]
struct Lines(mpsc::Sender<String>);

/// The line of a request that was admitted.
struct Begun {
    key: Uuid,
    lines: Lines,
}

impl Lines {
    fn write(&self, line: String) {
        let _ = self.0.try_send(line);
    }
}

impl Recorder for Lines {
    type Reservation = Begun;

    fn admit(&self, decision: &Decision<'_>) -> Result<Begun, Full> {
        Ok(Begun {
            key: decision.key_id,
            lines: self.clone(),
        })
    }

    fn refuse(&self, decision: &Decision<'_>, refusal: Refusal, _: &Completion) {
        self.write(format!("{}: {}", decision.key_id, refusal.reason()));
    }
}

impl Reservation for Begun {
    fn complete(self, completion: &Completion) {
        let (key, status) = (self.key, completion.status);
        let micros = completion.duration_us;
        self.lines.write(format!("{key}: {status} in {micros} us"));
    }
}

/// What was refused and is nobody's.
impl RefusalCounter for Lines {
    fn count(&self, _: Timestamp, _: Option<&Arc<str>>, refusal: Refusal, _: Option<IpAddr>) {
        self.write(format!("nobody: {}", refusal.reason()));
    }
}
