//! The contract that every store keeps.

use std::ops::RangeInclusive;
use std::time::Duration;

use cypheron_edge::clock::{Clock, Timestamp};
use cypheron_edge::repository::FirestoreConfig;
use cypheron_edge::repository::firestore::FirestoreApiKeyRepository;

use crate::emulator;
use crate::repository_contract::{self, contract};

/// How far the server's clock and a write's way may be apart from ours.
const NEAR: Duration = Duration::from_secs(10);

struct Firestore(FirestoreConfig);

impl repository_contract::Store for Firestore {
    type Repository = FirestoreApiKeyRepository;

    fn new() -> Option<Self> {
        emulator::project().map(Self)
    }

    fn open(&self) -> FirestoreApiKeyRepository {
        emulator::open(&self.0)
    }

    fn now(&self) -> RangeInclusive<Timestamp> {
        let now = Clock::system().wall();
        now.saturating_sub(NEAR)..=now.saturating_add(NEAR)
    }

    fn pass_a_second(&self) {
        // The server's clock moves by itself.
    }
}

contract!(Firestore);
