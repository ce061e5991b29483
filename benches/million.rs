//! What a key in use costs: the memory that is held for each of a million, and
//! a request among so many beside one among a thousand.
//!
//! `cargo bench --profile quick --bench million [KEYS]...`

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark fails by panicking, and prints what it measured"
)]

#[path = "../tests/layers/support/alone.rs"]
mod alone;
#[expect(dead_code, reason = "only its keys are of use here")]
#[path = "../tests/layers/support/mod.rs"]
mod support;

use std::convert::Infallible;
use std::fs;
use std::future::ready;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use alone::{now, request, response};
use arc_swap::ArcSwap;
use bytes::Bytes;
use cypheron_edge::clock::{Clock, Timestamp};
use cypheron_edge::directory::{self, Directory, OpenFailure, RecordOpener, Reload};
use cypheron_edge::key::ApiKey;
use cypheron_edge::limiter::{self, Limiter};
use cypheron_edge::middleware::auth::Config;
use cypheron_edge::middleware::{ApiKeyAuthLayer, RateLimitLayer};
use cypheron_edge::repository::{ApiKeyReader, Change, Found, Result, StoredKey};
use cypheron_edge::route::Route;
use cypheron_edge::token::{KeyHash, TokenDigest};
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{self, BoxStream, StreamExt};
use http::{Request, Response};
use http_body_util::Full;
use support::{mint, token_keys};
use tokio::runtime::Builder;
use tower::{Layer, Service, service_fn};

/// The binary's: memory is told as the edge would hold it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const REQUESTS: u64 = 1_000_000;
/// As long as an envelope of the default suite is.
const ENVELOPE: usize = 1_221;

/// Has every key that is asked for, and keeps nothing of it.
struct Anything;

fn record(hash: &KeyHash) -> ApiKey {
    let [id @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = *hash.as_bytes();
    ApiKey {
        id: uuid::Uuid::from_bytes(id),
        name: format!(
            "customer {:08x}",
            u32::from_le_bytes([id[0], id[1], id[2], id[3]])
        )
        .parse()
        .unwrap(),
        permissions: ["orders:read", "orders:write"]
            .map(|permission| permission.parse().unwrap())
            .into(),
        rate_limit: NonZeroU32::MAX,
        ..support::key(*hash)
    }
}

impl ApiKeyReader for Anything {
    fn find<'a>(&'a self, hash: &'a KeyHash) -> BoxFuture<'a, Result<Found>> {
        ready(Ok(Found::Key(Box::new(StoredKey {
            key: record(hash),
            sealed: vec![0; ENVELOPE],
            updated_at: Timestamp::EPOCH,
        }))))
        .boxed()
    }

    fn changes(&self) -> BoxStream<'static, Change> {
        stream::pending().boxed()
    }

    fn keyring(&self) -> BoxFuture<'_, Result<Option<Vec<u8>>>> {
        ready(Ok(None)).boxed()
    }
}

/// To whom every record is sealed with the digest that is asked for.
struct Opening;

impl RecordOpener for Opening {
    fn open(&self, record: &StoredKey) -> std::result::Result<TokenDigest, OpenFailure> {
        Ok(digest(&record.key.key_hash))
    }

    fn reload(&self, _: Reload) -> BoxFuture<'_, ()> {
        ready(()).boxed()
    }
}

/// Any that belongs to the hash alone.
fn digest(hash: &KeyHash) -> TokenDigest {
    TokenDigest::from_bytes(*hash.as_bytes())
}

fn held() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib: u64 = line
        .unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    kib * 1024
}

/// Of this thread, in nanoseconds.
fn cpu() -> u64 {
    let spent = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    spent.split_whitespace().next().unwrap().parse().unwrap()
}

/// The tokens of all keys, in one piece, so that they are not taken for memory
/// that keys cost.
struct Tokens {
    text: String,
    each: usize,
}

impl Tokens {
    fn mint(count: usize) -> (Self, Vec<KeyHash>) {
        let each = mint().0.len();
        let mut text = String::with_capacity(count * each);
        let hashes = (0..count)
            .map(|_| {
                let (token, hash) = mint();
                text.push_str(&token);
                hash
            })
            .collect();
        (Self { text, each }, hashes)
    }

    fn at(&self, place: usize) -> &str {
        &self.text[place * self.each..][..self.each]
    }
}

type Body = Full<Bytes>;

fn answer<B>(_: Request<B>) -> std::future::Ready<std::result::Result<Response<Body>, Infallible>> {
    ready(Ok(response()))
}

/// Keys at random, the same for every run.
struct Order(u64);

impl Order {
    fn next(&mut self, keys: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        usize::try_from(self.0 >> 33).unwrap() % keys
    }
}

fn measure(keys: usize) {
    let background = Builder::new_current_thread().enable_all().build().unwrap();
    let clock = Clock::manual(Timestamp::from_micros(1_000_000));
    clock.advance(Duration::from_secs(1));
    let (tokens, hashes) = Tokens::mint(keys);
    let empty = held();

    let directory = Directory::new(
        directory::Config::default(),
        clock.clone(),
        Arc::new(Anything),
        Arc::new(Opening),
        background.handle().clone(),
    );
    for hash in &hashes {
        let fetched = directory.fetch(*hash, digest(hash), None);
        background.block_on(fetched).unwrap();
    }
    let cached = held();

    let limiter = Arc::new(Limiter::new(limiter::Config::default()));
    let route = Arc::new(Route::default());
    let auth = ApiKeyAuthLayer::new(
        &Config::default(),
        Arc::new(ArcSwap::from_pointee(token_keys())),
        directory.clone(),
        clock.clone(),
    )
    .unwrap();
    let mut stack = (auth, RateLimitLayer::new(Arc::clone(&limiter))).layer(service_fn(answer));
    for place in 0..keys {
        now(stack.call(request::<Body>(&clock, tokens.at(place), &route))).unwrap();
    }
    let in_use = held();

    let mut order = Order(1);
    let mut spend = |layered: bool| {
        let before = cpu();
        for _ in 0..REQUESTS {
            let request = request::<Body>(&clock, tokens.at(order.next(keys)), &route);
            let status = if layered {
                now(stack.call(request)).unwrap().status()
            } else {
                now(answer(request)).unwrap().status()
            };
            assert_eq!(status, 200);
        }
        (cpu() - before) / REQUESTS
    };
    spend(true);
    let (with, without) = (spend(true), spend(false));
    let each = |bytes: u64| bytes / keys as u64;
    println!(
        "{keys} keys: {} bytes each in the directory, {} once used; {} ns a request in the layers",
        each(cached - empty),
        each(in_use - empty),
        with - without,
    );
}

fn main() {
    let asked = std::env::args()
        .skip(1)
        .filter_map(|keys| keys.parse().ok());
    let mut asked: Vec<usize> = asked.collect();
    if asked.is_empty() {
        asked = vec![1_000, 1_000_000];
    }
    for keys in asked {
        measure(keys);
    }
}
