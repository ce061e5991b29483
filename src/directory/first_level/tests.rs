use std::thread;

use super::*;
use crate::directory::entry;

const MILLION: u64 = 1_000_000;

fn at(seconds: u64) -> Tick {
    Tick::from_nanos(seconds * 1_000_000_000)
}

/// Bytes as random as those of a hash.
fn hash(number: u64) -> KeyHash {
    let mut bytes = [0; 32];
    for (place, chunk) in bytes.chunks_mut(8).enumerate() {
        let seed = (number * 4 + place as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (seed ^ seed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        chunk.copy_from_slice(&(mixed ^ mixed >> 31).to_le_bytes());
    }
    KeyHash::from_bytes(bytes)
}

fn entry(number: u64) -> Arc<Entry> {
    Arc::new(entry::tests::entry(hash(number)))
}

/// As the directory asks: what is not here is put here.
fn ask(level: &FirstLevel, entry: &Arc<Entry>, now: Tick) -> bool {
    let found = level.get(&entry.key.key_hash, now);
    if found.is_none() {
        level.put(entry, now, 0);
    }
    found.is_some_and(|found| Arc::ptr_eq(&found, entry))
}

#[test]
fn as_many_keys_as_are_in_use_are_found() {
    let level = FirstLevel::among(1, 40_000);
    let entries: Vec<_> = (0..40_000).map(entry).collect();
    for _ in 0..8 {
        for entry in &entries {
            ask(&level, entry, at(1));
        }
    }
    let found = entries.iter().filter(|entry| ask(&level, entry, at(1)));
    assert!(found.count() > 36_000);
}

#[test]
fn a_few_keys_take_few_slots() {
    let level = FirstLevel::among(1, MILLION);
    let entries: Vec<_> = (0..1000).map(entry).collect();
    for _ in 0..1000 {
        for entry in &entries {
            ask(&level, entry, at(1));
        }
    }
    let slots = TABLES.with_borrow(|tables| {
        let shelves = tables[0].shelves.iter();
        shelves.map(|shelf| shelf.slots.len()).sum::<usize>()
    });
    assert!(slots < 10_000, "{slots}");
}

#[test]
fn all_threads_together_have_four_slots_for_each_key() {
    for (threads, max_keys, shelves, most) in [
        (1, MILLION, 64, 65_536),
        (2, MILLION, 64, 32_768),
        (64, MILLION, 64, 1024),
        (1, 10 * MILLION, 1024, 65_536),
        (4, 1, SHELVES, FEWEST),
        (1, u64::MAX, MOST_SHELVES, 1 << 20),
    ] {
        let level = FirstLevel::among(threads, max_keys);
        let made = (level.shelves, level.most);
        assert_eq!(made, (shelves, most), "{threads} {max_keys}");
    }
}

#[test]
fn a_shelf_grows_no_further_than_its_most() {
    let level = FirstLevel::among(1, 1);
    let entries: Vec<_> = (0..20_000).map(entry).collect();
    for _ in 0..20 {
        for entry in &entries {
            ask(&level, entry, at(1));
        }
    }
    TABLES.with_borrow(|tables| {
        let mut shelves = tables[0].shelves.iter();
        assert!(shelves.all(|shelf| shelf.slots.len() <= FEWEST));
    });
}

#[test]
fn the_cache_hears_of_a_key_in_use_the_more_often_the_smaller_it_is() {
    let entry = entry(1);
    for (max_keys, told, untold) in [(10, 0, 2), (MILLION, 52, 54), (u64::MAX, 320, 323)] {
        let level = FirstLevel::among(1, max_keys);
        assert!(!ask(&level, &entry, at(0)));
        assert!(ask(&level, &entry, at(told)), "{max_keys}");
        assert!(!ask(&level, &entry, at(untold)), "{max_keys}");
        assert!(ask(&level, &entry, at(untold)), "{max_keys}");
    }
}

#[test]
fn what_is_detached_is_not_found() {
    let level = FirstLevel::among(1, MILLION);
    let old = entry(1);
    assert!(!ask(&level, &old, at(1)) && ask(&level, &old, at(1)));
    old.detach();
    let new = entry(1);
    assert!(!ask(&level, &new, at(1)) && ask(&level, &new, at(1)));
    assert_eq!(Arc::strong_count(&old), 1, "its slot is the new one's");
}

#[test]
fn what_is_gone_is_let_go_of_though_nobody_asks_for_it() {
    let level = FirstLevel::among(1, MILLION);
    let gone: Vec<_> = (0..500).map(entry).collect();
    for entry in &gone {
        ask(&level, entry, at(1));
        entry.detach();
    }
    for number in 500..1500 {
        level.put(&entry(number), at(1), 500);
    }
    assert!(gone.iter().all(|entry| Arc::strong_count(entry) == 1));
}

#[test]
fn a_thread_lets_go_of_a_directory_that_is_gone() {
    thread::spawn(|| {
        let (entry, another) = (entry(1), entry(2));
        let level = FirstLevel::among(1, MILLION);
        ask(&level, &entry, at(1));
        drop(level);
        ask(&FirstLevel::among(1, MILLION), &another, at(1));
        assert_eq!(Arc::strong_count(&entry), 1);
    })
    .join()
    .unwrap();
}
