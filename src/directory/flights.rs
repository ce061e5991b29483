//! The reads that are under way: one for each hash, within a budget.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use futures_util::future::Shared;
use tokio::sync::oneshot;

use super::Entry;
use crate::refusal::Refusal;
use crate::subscriber::Subscriber;
use crate::token::KeyHash;

/// What a read told: the record, or why there is no usable one.
pub(super) type Answer = Result<Arc<Entry>, Refusal>;

/// Ends when the read does; with an error when the background runtime ended first.
pub(super) type Waiting = Shared<oneshot::Receiver<Answer>>;

pub(super) struct Flights {
    flying: Mutex<Flying>,
    max: usize,
    max_per_address: usize,
}

#[derive(Default)]
struct Flying {
    by_hash: HashMap<KeyHash, Flight>,
    by_address: HashMap<Subscriber, usize>,
    /// What was written since a page of records began to be read, while one is.
    written: Option<HashSet<KeyHash>>,
}

/// A page of records is being read; see [`Flights::note_writes`].
pub(super) struct Noting<'a>(&'a Flights);

impl Drop for Noting<'_> {
    fn drop(&mut self) {
        self.0.lock().written = None;
    }
}

struct Flight {
    waiting: Waiting,
    address: Option<Subscriber>,
    overtaken: bool,
}

/// What became of a wish to read.
pub(super) enum Boarding {
    /// The caller has to run the read and send its answer.
    Begin(oneshot::Sender<Answer>, Waiting),
    /// Somebody else reads the same.
    Join(Waiting),
    OverBudget,
}

impl Flights {
    pub(super) fn new(max: usize, max_per_address: usize) -> Self {
        Self {
            flying: Mutex::default(),
            max,
            max_per_address,
        }
    }

    pub(super) fn board(&self, hash: KeyHash, client: Option<IpAddr>) -> Boarding {
        let mut flying = self.lock();
        if let Some(flight) = flying.by_hash.get(&hash) {
            return Boarding::Join(flight.waiting.clone());
        }
        let address = client.map(Subscriber::of);
        let of_address = address.and_then(|address| flying.by_address.get(&address));
        if flying.by_hash.len() >= self.max
            || of_address.is_some_and(|count| *count >= self.max_per_address)
        {
            return Boarding::OverBudget;
        }
        if let Some(address) = address {
            *flying.by_address.entry(address).or_default() += 1;
        }
        let (answer, waiting) = oneshot::channel();
        let waiting = waiting.shared();
        let flight = Flight {
            waiting: waiting.clone(),
            address,
            overtaken: false,
        };
        flying.by_hash.insert(hash, flight);
        Boarding::Begin(answer, waiting)
    }

    /// The record was written: what a read under way brings may be older.
    pub(super) fn overtake(&self, hash: &KeyHash) {
        let mut flying = self.lock();
        if let Some(flight) = flying.by_hash.get_mut(hash) {
            flight.overtaken = true;
        }
        if let Some(written) = &mut flying.written {
            written.insert(*hash);
        }
    }

    /// From here on, until it is dropped, what is overtaken is kept in mind: one
    /// page of records is read at a time.
    pub(super) fn note_writes(&self) -> Noting<'_> {
        self.lock().written = Some(HashSet::new());
        Noting(self)
    }

    /// Whether the record was written since writes are noted.
    pub(super) fn was_written(&self, hash: &KeyHash) -> bool {
        let flying = self.lock();
        let written = flying.written.as_ref();
        written.is_some_and(|written| written.contains(hash))
    }

    /// Whether the read was overtaken since it began, or since last asked.
    pub(super) fn take_overtaken(&self, hash: &KeyHash) -> bool {
        let mut flying = self.lock();
        let flight = flying.by_hash.get_mut(hash);
        flight.is_some_and(|flight| std::mem::take(&mut flight.overtaken))
    }

    pub(super) fn land(&self, hash: &KeyHash) {
        let mut flying = self.lock();
        let Some(flight) = flying.by_hash.remove(hash) else {
            return;
        };
        let Some(address) = flight.address else {
            return;
        };
        if let Some(count) = flying.by_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                flying.by_address.remove(&address);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Flying> {
        self.flying.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
