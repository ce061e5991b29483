//! A recorder and a counter that keep what they are told.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use cypheron_edge::clock::Timestamp;
use cypheron_edge::refusal::Refusal;
use cypheron_edge::usage::recorder::{Completion, Decision, Full, Recorder, Reservation};
use cypheron_edge::usage::refusals::RefusalCounter;
use uuid::Uuid;

/// One completed record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) key_id: Uuid,
    pub(crate) route: String,
    pub(crate) method: String,
    pub(crate) client: Option<IpAddr>,
    /// `None` when it was admitted.
    pub(crate) refusal: Option<Refusal>,
    pub(crate) completion: Completion,
}

#[derive(Clone, Default)]
pub(crate) struct Records {
    completed: Arc<Mutex<Vec<Record>>>,
    counted: Arc<Mutex<Vec<Refusal>>>,
    full: Arc<AtomicBool>,
}

impl Records {
    pub(crate) fn completed(&self) -> Vec<Record> {
        self.completed.lock().unwrap().clone()
    }

    /// The only record there is.
    pub(crate) fn only(&self) -> Record {
        let [record] = &self.completed()[..] else {
            panic!("one record: {:?}", self.completed());
        };
        record.clone()
    }

    pub(crate) fn counted(&self) -> Vec<Refusal> {
        self.counted.lock().unwrap().clone()
    }

    pub(crate) fn fill(&self) {
        self.full.store(true, Ordering::SeqCst);
    }

    fn reserve(&self, decision: &Decision<'_>, refusal: Option<Refusal>) -> Reserved {
        let Decision {
            key_id,
            route,
            method,
            client,
            ..
        } = *decision;
        Reserved {
            records: self.clone(),
            key_id,
            route: route.to_owned(),
            method: method.to_string(),
            client,
            refusal,
        }
    }
}

impl Recorder for Records {
    type Reservation = Reserved;

    fn admit(&self, decision: &Decision<'_>) -> Result<Reserved, Full> {
        if self.full.load(Ordering::SeqCst) {
            return Err(Full);
        }
        Ok(self.reserve(decision, None))
    }

    fn refuse(&self, decision: &Decision<'_>, refusal: Refusal, completion: &Completion) {
        self.reserve(decision, Some(refusal)).complete(completion);
    }
}

impl RefusalCounter for Records {
    fn count(&self, _: Timestamp, _: Option<&Arc<str>>, refusal: Refusal, _: Option<IpAddr>) {
        self.counted.lock().unwrap().push(refusal);
    }
}

pub(crate) struct Reserved {
    records: Records,
    key_id: Uuid,
    route: String,
    method: String,
    client: Option<IpAddr>,
    refusal: Option<Refusal>,
}

impl Reservation for Reserved {
    fn complete(self, completion: &Completion) {
        let record = Record {
            key_id: self.key_id,
            route: self.route,
            method: self.method,
            client: self.client,
            refusal: self.refusal,
            completion: *completion,
        };
        self.records.completed.lock().unwrap().push(record);
    }
}
