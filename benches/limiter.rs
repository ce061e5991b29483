//! One decision of the limiter, over the keys in use.

use std::hint::black_box;
use std::num::NonZeroU32;

use criterion::{Criterion, criterion_group, criterion_main};
use cypheron_edge::clock::Tick;
use cypheron_edge::limiter::{Config, Limiter};
use uuid::Uuid;

fn decisions(criterion: &mut Criterion) {
    const RATE: NonZeroU32 = NonZeroU32::new(60_000).unwrap();
    for keys in [1, 1_000, 100_000] {
        let limiter = Limiter::new(Config::default());
        let ids: Vec<_> = (0..keys).map(scattered).collect();
        let (mut at, mut now) = (0_u64, 0);
        criterion.bench_function(&format!("limiter, {keys} keys"), |bencher| {
            bencher.iter(|| {
                at = at.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                now += 1_000_000;
                let id = ids[usize::try_from((at >> 33) % keys).unwrap_or(0)];
                black_box(limiter.check(black_box(id), RATE, Tick::from_nanos(now)))
            });
        });
    }
}

fn scattered(number: u64) -> Uuid {
    let mixed = (number ^ number >> 31).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    Uuid::from_u64_pair(number, mixed ^ mixed >> 32)
}

criterion_group!(benches, decisions);
criterion_main!(benches);
