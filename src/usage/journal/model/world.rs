//! A process that records and ships, the disk under it, the sink behind it,
//! and what is true.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::Method;
use uuid::Uuid;

use super::disk::Disk;
use crate::clock::Timestamp;
use crate::refusal::Refusal;
use crate::usage::client::ClientIp;
use crate::usage::event::{Ended, UsageEvent};
use crate::usage::journal::batch::Filling;
use crate::usage::journal::budget::Budget;
use crate::usage::journal::config::WhenFull;
use crate::usage::journal::ids::EventIds;
use crate::usage::journal::reader::Reader;
use crate::usage::journal::recovery::Recovery;
use crate::usage::journal::shared::{Settings, Shared};
use crate::usage::journal::writer::{Reservation, Writer};
use crate::usage::recorder::{Completion, Decision, Recorder, Reservation as _};

/// Room for the beginning, and three records or so.
const SEGMENT: usize = 512;
const SEGMENTS: u64 = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Appends an opening record.
    Admit,
    /// Appends the closing record of what was admitted first.
    Complete,
    /// Appends a closing record of its own.
    Refuse,
    Roll,
    Sync,
    /// Loses power, and those of the unsynced pages that the mask says.
    Crash(u32),
    Reopen,
    /// Reads a batch.
    Ship,
    /// The sink stores the batch, and it is acknowledged.
    Commit,
    /// The sink stores the batch, and nobody is told.
    LostAcknowledgement,
}

/// What is true of one request.
#[derive(Clone, Debug, Hash)]
struct Request {
    opened: Record,
    closed: Record,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Record {
    /// Never written.
    None,
    /// Written, and lost with the power, or not.
    Doubtful,
    /// Written; a power failure could take it.
    Written,
    /// Cannot be lost.
    Safe,
}

pub(super) struct World {
    live: Option<Live>,
    /// Directories of processes that died.
    dead: VecDeque<(Uuid, Disk)>,
    starts: u128,
    requests: Vec<Request>,
    /// Key and end of each event, by id.
    sink: BTreeMap<Uuid, (u128, Ended)>,
    in_flight: Option<InFlight>,
    wrong: Vec<String>,
}

struct Live {
    instance: Uuid,
    disk: Disk,
    writer: Writer<Disk>,
    reader: Reader<Disk>,
    open: VecDeque<(usize, Reservation<Disk>)>,
}

struct InFlight {
    events: Vec<UsageEvent>,
    /// Of a dead process; else of the one that lives.
    recovery: Option<Recovery<Disk>>,
}

const DONE: Completion = Completion {
    status: 200,
    ended: Ended::Complete,
    request_bytes: 0,
    response_bytes: 0,
    duration_us: 0,
    upstream_us: 0,
};

fn decision(request: usize) -> Decision<'static> {
    Decision {
        occurred_at: Timestamp::EPOCH,
        key_id: Uuid::from_u128(request as u128),
        route: "r",
        method: &Method::GET,
        client: None,
    }
}

impl World {
    pub(super) fn after(path: &[Step]) -> Self {
        let mut world = Self {
            live: None,
            dead: VecDeque::new(),
            starts: 0,
            requests: Vec::new(),
            sink: BTreeMap::new(),
            in_flight: None,
            wrong: Vec::new(),
        };
        world.reopen();
        for step in path {
            world.take(*step);
        }
        world
    }

    /// Every step that can be taken now and would change something.
    pub(super) fn steps(&self) -> Vec<Step> {
        let Some(live) = &self.live else {
            return vec![Step::Reopen];
        };
        let mut steps = vec![Step::Admit, Step::Refuse, Step::Roll, Step::Sync];
        if !live.open.is_empty() {
            steps.push(Step::Complete);
        }
        if self.in_flight.is_some() {
            steps.extend([Step::Commit, Step::LostAcknowledgement]);
        } else {
            steps.push(Step::Ship);
        }
        // A dead directory was synced when its machine lost power; only what
        // was done to it since could be lost, and that is done again.
        steps.extend((0..live.disk.ways_to_crash()).map(Step::Crash));
        steps
    }

    pub(super) fn take(&mut self, step: Step) {
        match step {
            Step::Admit => self.admit(),
            Step::Complete => self.complete(),
            Step::Refuse => self.refuse(),
            Step::Roll => {
                let shared = &self.live().writer.0;
                shared.roll(&mut shared.lock(), 0);
            }
            Step::Sync => self.sync(),
            Step::Crash(mask) => self.crash(mask),
            Step::Reopen => self.reopen(),
            Step::Ship => self.ship(2),
            Step::Commit => self.commit(true),
            Step::LostAcknowledgement => self.commit(false),
        }
        if let Some(live) = &self.live {
            live.writer.0.prepare().unwrap();
        }
    }

    fn live(&mut self) -> &mut Live {
        self.live.as_mut().unwrap()
    }

    fn admit(&mut self) {
        let request = self.requests.len();
        if let Ok(reservation) = self.live().writer.admit(&decision(request)) {
            self.live().open.push_back((request, reservation));
            self.requests.push(Request {
                opened: Record::Written,
                closed: Record::None,
            });
        }
    }

    fn complete(&mut self) {
        let (request, reservation) = self.live().open.pop_front().unwrap();
        reservation.complete(&DONE);
        self.requests[request].closed = Record::Written;
    }

    fn refuse(&mut self) {
        let request = self.requests.len();
        let writer = &self.live().writer;
        let before = writer.0.decisions();
        writer.refuse(&decision(request), Refusal::RateLimited, &DONE);
        if writer.0.decisions().0 > before.0 {
            self.requests.push(Request {
                opened: Record::None,
                closed: Record::Written,
            });
        }
    }

    fn sync(&mut self) {
        self.live().writer.0.sync().unwrap();
        self.live().writer.0.trim().unwrap();
        self.settle(Record::Safe);
    }

    /// What is only written becomes what is said.
    fn settle(&mut self, now: Record) {
        for request in &mut self.requests {
            for record in [&mut request.opened, &mut request.closed] {
                if *record == Record::Written {
                    *record = now;
                }
            }
        }
    }

    fn crash(&mut self, mask: u32) {
        let mut live = self.live.take().unwrap();
        let abandoned = live.open.drain(..);
        abandoned.for_each(|(_, reservation)| reservation.abandon());
        let lost = live.disk.crash(mask);
        self.settle(if lost { Record::Doubtful } else { Record::Safe });
        self.in_flight = None;
        self.dead.push_back((live.instance, live.disk));
    }

    fn reopen(&mut self) {
        self.starts += 1;
        let instance = Uuid::from_u128(self.starts);
        let disk = Disk::default();
        let settings = Settings {
            boot: instance,
            writer: 0,
            segment_bytes: SEGMENT,
            client_ip: ClientIp::None,
            when_full: WhenFull::Refuse,
        };
        let seed = [u8::try_from(self.starts).unwrap(); 10];
        let budget = Arc::new(Budget::new(SEGMENTS * SEGMENT as u64));
        let ids = EventIds::from_seed(seed);
        let shared = Arc::new(Shared::open(disk.clone(), settings, ids, budget).unwrap());
        self.live = Some(Live {
            instance,
            disk,
            reader: Reader::new(Arc::clone(&shared)),
            writer: Writer(shared),
            open: VecDeque::new(),
        });
    }

    fn ship(&mut self, limit: usize) {
        // What a dead process left is read whole.
        let limit = if self.dead.is_empty() {
            limit
        } else {
            usize::MAX
        };
        let mut filling = Filling::new(limit);
        let recovery = self.dead.front().map(|(instance, disk)| {
            let mut recovery = Recovery::new(disk.clone(), *instance, 0).unwrap();
            assert!(!recovery.read(&mut filling).unwrap());
            recovery
        });
        if recovery.is_none() {
            self.live().reader.read(&mut filling);
        }
        let events = filling.into_events();
        self.in_flight = Some(InFlight { events, recovery });
    }

    fn commit(&mut self, acknowledge: bool) {
        let Some(mut in_flight) = self.in_flight.take() else {
            return;
        };
        for event in &in_flight.events {
            self.store(event);
        }
        if !acknowledge {
            self.in_flight = Some(in_flight);
            return;
        }
        if let Some(recovery) = &mut in_flight.recovery {
            recovery.acknowledge().unwrap();
            recovery.remove_segments().unwrap();
            self.dead.pop_front();
        } else {
            self.live().reader.acknowledge().unwrap();
        }
    }

    fn store(&mut self, event: &UsageEvent) {
        let key = event.key_id.as_u128();
        let (_, stored) = *self
            .sink
            .entry(event.event_id)
            .or_insert((key, event.ended));
        if stored == Ended::Interrupted && event.ended == Ended::Complete {
            self.wrong
                .push(format!("{key} ended after it was interrupted"));
        }
    }

    /// Kills the process, reads everything that is left, and tells what is
    /// not as it has to be.
    pub(super) fn drain(mut self) -> Vec<String> {
        if self.live.is_some() {
            self.crash(0);
        }
        while !self.dead.is_empty() {
            self.ship(0);
            self.commit(true);
        }
        self.judge();
        std::mem::take(&mut self.wrong)
    }

    fn judge(&mut self) {
        for (key, request) in self.requests.iter().enumerate() {
            let mut found = self.sink.values().filter(|(of, _)| *of == key as u128);
            let ended = found.next().map(|(_, ended)| *ended);
            let safe = request.opened.max(request.closed) == Record::Safe;
            let right = match ended {
                None => !safe,
                Some(Ended::Complete) => request.closed > Record::None,
                Some(_) => request.closed < Record::Safe,
            };
            if !right || found.next().is_some() {
                self.wrong.push(format!("{key}: {request:?} is {ended:?}"));
            }
        }
        let known = |(key, _): &&(u128, Ended)| *key < self.requests.len() as u128;
        if !self.sink.values().all(|event| known(&event)) {
            self.wrong.push("an event of no request".to_owned());
        }
    }

    /// Whether a request is admitted after a sync that fails, or does not.
    pub(super) fn admits_after_sync(&mut self, fails: bool) -> bool {
        let live = self.live();
        live.disk.broken.store(fails, Ordering::Relaxed);
        assert_eq!(live.writer.0.sync().is_err(), fails);
        let admitted = live.writer.admit(&decision(0));
        admitted.is_ok_and(|reservation| {
            reservation.complete(&DONE);
            true
        })
    }

    pub(super) fn forget_disk(&mut self) {
        self.live().disk.forget();
    }

    /// Equal for worlds in which the same can happen.
    pub(super) fn fingerprint(&self) -> u64 {
        let mut hasher = foldhash::quality::FixedState::default().build_hasher();
        self.requests.hash(&mut hasher);
        self.starts.hash(&mut hasher);
        for (id, (key, ended)) in &self.sink {
            (id, key, ended.as_str()).hash(&mut hasher);
        }
        for (instance, disk) in &self.dead {
            instance.hash(&mut hasher);
            disk.hash_into(&mut hasher);
        }
        if let Some(live) = &self.live {
            live.disk.hash_into(&mut hasher);
            live.reader.next().hash(&mut hasher);
            for (request, _) in &live.open {
                request.hash(&mut hasher);
            }
        }
        if let Some(in_flight) = &self.in_flight {
            in_flight.recovery.is_some().hash(&mut hasher);
            for event in &in_flight.events {
                event.event_id.hash(&mut hasher);
            }
        }
        self.live.is_some().hash(&mut hasher);
        self.in_flight.is_some().hash(&mut hasher);
        hasher.finish()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(live) = &mut self.live {
            let abandoned = live.open.drain(..);
            abandoned.for_each(|(_, reservation)| reservation.abandon());
        }
    }
}
