//! A directory hit, in random order over the keys in use.

#![expect(clippy::unwrap_used, reason = "a benchmark")]

#[expect(dead_code, reason = "only the store and its keys are of use here")]
#[path = "../tests/layers/support/mod.rs"]
mod support;

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use cypheron_edge::directory::Lookup;
use cypheron_edge::token::{KeyHash, TokenDigest};
use support::edge::Edge;
use support::key;
use tokio::runtime::Runtime;

/// So many keys, all of them known.
fn known(edge: &Edge, runtime: &Runtime, keys: u64) -> Vec<KeyHash> {
    let hashes: Vec<_> = (0..keys).map(scattered).collect();
    for hash in &hashes {
        edge.store.put(key(*hash), "token");
        let fetched = edge.directory.fetch(*hash, TokenDigest::of("token"), None);
        runtime.block_on(fetched).unwrap();
    }
    hashes
}

/// Bytes as random as those of a hash.
fn scattered(number: u64) -> KeyHash {
    let mut bytes = [0; 32];
    for (at, chunk) in bytes.chunks_mut(8).enumerate() {
        let seed = number.wrapping_mul(4).wrapping_add(at as u64);
        let mixed = (seed ^ seed >> 31).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        chunk.copy_from_slice(&(mixed ^ mixed >> 32).to_le_bytes());
    }
    KeyHash::from_bytes(bytes)
}

fn hits(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let _entered = runtime.enter();
    for keys in [1, 1_000, 100_000] {
        let edge = Edge::new();
        let hashes = known(&edge, &runtime, keys);
        let now = edge.clock.now();
        let mut at = 0_u64;
        criterion.bench_function(&format!("directory hit, {keys} keys"), |bencher| {
            bencher.iter(|| {
                at = at.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let hash = &hashes[usize::try_from((at >> 33) % keys).unwrap()];
                let lookup = edge.directory.lookup(black_box(hash), now);
                assert!(matches!(lookup, Lookup::Hit(_)));
            });
        });
    }
}

criterion_group!(benches, hits);
criterion_main!(benches);
