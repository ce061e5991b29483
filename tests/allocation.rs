//! What a request costs the allocator: nothing when it is admitted, nothing
//! that stays when its token is forged.

#![expect(
    unsafe_code,
    clippy::unwrap_used,
    reason = "an allocator that counts is an unsafe trait; a test fails by panicking"
)]

#[path = "layers/support/alone.rs"]
mod alone;
#[expect(dead_code, reason = "only the store and its keys are of use here")]
#[path = "layers/support/mod.rs"]
mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::convert::Infallible;
use std::future::ready;
use std::io::Write;
use std::num::NonZeroU32;
use std::sync::Arc;

use alone::{now, request, response};
use cypheron_edge::middleware::streams::StreamBody;
use cypheron_edge::route::Route;
use cypheron_edge::secret::Secret;
use cypheron_edge::token::{GenerationKeys, TokenKeys};
use http::Request;
use http_body_util::Empty;
use support::edge::Edge;
use tower::{Layer, Service, service_fn};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    /// Bytes allocated and not freed.
    static LIVE: Cell<i64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes to the system's allocator unchanged; the counters
// are plain thread-local numbers, which need no allocation themselves.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size(), 0);
        // SAFETY: as for this function.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(0, 0, layout.size());
        // SAFETY: as for this function.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(1, size, layout.size());
        // SAFETY: as for this function.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

fn count(allocations: u64, gained: usize, freed: usize) {
    ALLOCATIONS.set(ALLOCATIONS.get() + allocations);
    LIVE.set(LIVE.get() + i64::try_from(gained).unwrap_or(0) - i64::try_from(freed).unwrap_or(0));
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

type Body = Empty<bytes::Bytes>;

fn report(line: &str) {
    // Past what the test harness keeps to itself.
    std::io::stdout().write_all(line.as_bytes()).unwrap();
}

#[tokio::test]
async fn the_admitted_path_allocates_nothing() {
    const REQUESTS: u64 = 2000;
    let edge = Edge::new();
    let token = edge.issue(|key| key.rate_limit = NonZeroU32::new(1_000_000).unwrap());
    let route = Arc::new(Route::default());
    let made = Cell::new(None);
    let upstream =
        service_fn(|_: Request<StreamBody<Body>>| ready(Ok::<_, Infallible>(made.take().unwrap())));
    let auth = edge.auth();
    let mut service = (auth.clone(), edge.limit(), auth.streams()).layer(upstream);

    // The first one asks the store, the second one warms what threads keep.
    for _ in 0..2 {
        made.set(Some(response::<Body>()));
        let call = service.call(request::<Body>(&edge.clock, &token, &route));
        assert_eq!(call.await.unwrap().status(), 200);
    }
    let mut allocations = 0;
    for _ in 0..REQUESTS {
        let request = request::<Body>(&edge.clock, &token, &route);
        made.set(Some(response::<Body>()));
        let before = ALLOCATIONS.get();
        let answer = now(service.call(request)).unwrap();
        allocations += ALLOCATIONS.get() - before;
        assert!(answer.headers().contains_key("ratelimit"));
    }
    report(&format!(
        "{allocations} allocations in {REQUESTS} admitted requests\n"
    ));
    assert_eq!(allocations, 0);
    assert_eq!(edge.store.reads(), 1);
}

#[tokio::test]
async fn a_flood_of_forged_tokens_reads_nothing_and_leaves_nothing() {
    const FORGED: usize = 20_000;
    let edge = Edge::new();
    let generation = GenerationKeys {
        generation: b'0',
        index: Secret::new([1; 32]),
        tag: Secret::new([9; 32]),
    };
    let forger = TokenKeys::new(&[generation]).unwrap();
    let format = support::token_format();
    let route = Arc::new(Route::default());
    let upstream = service_fn(|_: Request<Body>| ready(Ok::<_, Infallible>(response::<Body>())));
    let mut service = (edge.limit_refusals(), edge.auth(), edge.limit()).layer(upstream);
    let mut forge = |count: usize| {
        for _ in 0..count {
            let token = format.mint(&forger).unwrap();
            let answer =
                now(service.call(request::<Body>(&edge.clock, token.expose(), &route))).unwrap();
            assert_eq!(answer.status(), 401);
        }
    };
    forge(FORGED);
    let before = LIVE.get();
    forge(FORGED);
    let grown = LIVE.get() - before;
    report(&format!(
        "{} reads and {grown} bytes of growth in {FORGED} forged tokens\n",
        edge.store.reads()
    ));
    assert_eq!(edge.store.reads(), 0);
    // moka keeps a few notes of reads at any time, some more, some less.
    assert!(grown < 32 * 1024, "{grown} bytes");
}
