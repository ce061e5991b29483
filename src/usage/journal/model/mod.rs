//! A model check: the real journal over a simulated disk, through every
//! sequence of up to [`DEPTH`] steps.
//!
//! Whatever happens, once everything left was read and stored: no event that
//! was synced, or that no power failure touched, is lost; nothing is stored
//! twice, or that never was; and interrupted is only what never ended, or
//! whose end was lost with its page.

mod disk;
mod world;

use std::collections::HashSet;
use std::sync::Mutex;
use std::thread;

use world::{Step, World};

const DEPTH: usize = 8;

#[test]
fn no_sequence_of_steps_loses_or_repeats_an_event() {
    let seen = Mutex::new(HashSet::new());
    let mut paths = vec![Vec::new()];
    for depth in 0..=DEPTH {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let share = paths.len().div_ceil(threads);
        paths = thread::scope(|scope| {
            let parts: Vec<_> = paths
                .chunks(share)
                .map(|part| scope.spawn(|| explore(part, depth, &seen)))
                .collect();
            parts
                .into_iter()
                .flat_map(|part| part.join().unwrap())
                .collect()
        });
        println!("{depth} steps: {} states", seen.lock().unwrap().len());
    }
    let states = seen.lock().unwrap().len();
    assert!(states > 100_000, "only {states}: a step is never taken");
}

/// Checks each path that leads to a new state; the paths that are a step longer.
fn explore(paths: &[Vec<Step>], depth: usize, seen: &Mutex<HashSet<u64>>) -> Vec<Vec<Step>> {
    let mut longer = Vec::new();
    for path in paths {
        let world = World::after(path);
        if !seen.lock().unwrap().insert(world.fingerprint()) {
            continue;
        }
        if depth < DEPTH {
            for step in world.steps() {
                let mut path = path.clone();
                path.push(step);
                longer.push(path);
            }
        }
        let wrong = world.drain();
        assert!(wrong.is_empty(), "after {path:?}: {wrong:?}");
    }
    longer
}

#[test]
fn the_model_notices_a_lost_event() {
    let mut world = World::after(&[Step::Admit, Step::Complete, Step::Sync]);
    world.forget_disk();
    assert!(!world.drain().is_empty());
}

#[test]
fn while_the_disk_cannot_be_synced_nothing_is_admitted() {
    let mut world = World::after(&[]);
    assert!(world.admits_after_sync(false));
    assert!(!world.admits_after_sync(true));
    assert!(world.admits_after_sync(false));
}
