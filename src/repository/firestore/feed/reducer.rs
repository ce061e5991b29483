//! What the messages of the `Listen` stream mean: pure, so that every sequence
//! has a row in a table.
//!
//! The rules:
//! - A document that says `is_active = false`, or that is a tombstone, is a
//!   revocation the moment it comes, and so is a deletion. What is only missing
//!   (from a set sent anew, or because it left the query) is to be read again.
//! - A set sent anew (after RESET, or without a token) takes the place of the
//!   known one at CURRENT. Whatever in it is as it was is no change: production
//!   seldom does this, the emulator at each write.
//! - Nothing is told before the stream was first consistent. Then those that were
//!   revoked lately are: one of them may have been read before. From then on,
//!   changes are told as they come, across cuts.
//! - The time of a record is its server's. Records are watched from ten minutes
//!   before the server's own now, so that a write whose time is earlier than
//!   that of one which was seen before it is not missed.

use std::collections::HashMap;
use std::time::Duration;

use firestore::gcloud_sdk::google::firestore::v1::listen_response::ResponseType;
use firestore::gcloud_sdk::google::firestore::v1::target_change::TargetChangeType;
use firestore::gcloud_sdk::google::firestore::v1::{
    Document, DocumentChange, ExistenceFilter, ListenResponse, TargetChange,
};

use super::super::document::timestamp;
use super::seen::{Fingerprints, Seen, gone};
use super::target::{Ask, Names, Target, What};
use super::watchdog::Course;
use crate::clock::Timestamp;
use crate::repository::Change;

/// A transaction's time is that of its commit request, and a commit takes at
/// most 270 s; twice that, and some.
pub(super) const WINDOW: Duration = Duration::from_mins(10);

/// How often, by the server's time, it is asked whether moving the window pays.
const RECONSIDER: Duration = Duration::from_mins(1);

const KEYRING: i32 = 1;

/// What is to be done about a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Tell(Change),
    /// Watch this too, on the same stream.
    Ask(Ask),
    /// Watch this no longer.
    Release(i32),
    /// The stream is of no more use.
    Break(Broken),
}

/// Why a stream is given up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Broken {
    #[error("the server watches no longer: {0}")]
    Removed(String),
    #[error("the server holds {held} documents where {known} were told of")]
    Mismatch { held: i32, known: usize },
}

#[derive(Debug)]
pub(super) struct Reducer {
    fingerprints: Fingerprints,
    /// The records in the window, as they were last told, by document id.
    known: HashMap<Box<str>, Seen>,
    keyring: Option<u64>,
    /// Absent until the server's time is known.
    keys: Option<Target>,
    /// The window that is to take its place.
    next: Option<Target>,
    keyring_target: Target,
    last_id: i32,
    probe: Option<i32>,
    /// The server's time at the last consistent state.
    consistent: Timestamp,
    reconsider_at: Timestamp,
    /// Whether the feed was ever connected.
    began: bool,
    connected: bool,
}

impl Reducer {
    pub(super) fn new() -> Self {
        Self {
            fingerprints: Fingerprints::default(),
            known: HashMap::new(),
            keyring: None,
            keys: None,
            next: None,
            keyring_target: Target::new(KEYRING, What::Keyring),
            last_id: KEYRING,
            probe: None,
            consistent: Timestamp::EPOCH,
            reconsider_at: Timestamp::EPOCH,
            began: false,
            connected: false,
        }
    }

    /// A new stream begins: what it is to watch.
    pub(super) fn begin(&mut self) -> Vec<Ask> {
        self.next = None;
        self.probe = None;
        let keys = self.keys.as_mut().map(Target::ask);
        std::iter::once(self.keyring_target.ask())
            .chain(keys)
            .collect()
    }

    /// The stream has ended.
    pub(super) fn end(&mut self) -> Option<Change> {
        std::mem::take(&mut self.connected).then_some(Change::Cut)
    }

    /// The next stream begins with everything.
    pub(super) fn forget_tokens(&mut self) {
        self.targets().for_each(Target::forget_token);
    }

    /// Asks for a sign of life on the stream itself.
    pub(super) fn probe(&mut self) -> Ask {
        let id = self.new_id();
        self.probe = Some(id);
        Target::new(id, What::Probe).ask()
    }

    /// Whether everything that was asked for has come.
    fn is_settled(&self) -> bool {
        self.keyring_target.current && self.keys.as_ref().is_some_and(|keys| keys.current)
    }

    pub(super) fn course(&self) -> Course {
        match (self.is_settled(), self.connected) {
            (true, _) => Course::Settled,
            (false, true) => Course::Anew,
            (false, false) => Course::Beginning,
        }
    }

    /// Whether a document may be of what is still to come, and is not only one
    /// that was written meanwhile.
    pub(super) fn is_arriving(&self) -> bool {
        let keys = self.keys.iter().chain(&self.next);
        let mut targets = std::iter::once(&self.keyring_target).chain(keys);
        !self.connected || targets.any(|target| target.arriving.is_some())
    }

    pub(super) fn observe(&mut self, message: ListenResponse) -> Vec<Effect> {
        let mut effects = Vec::new();
        match message.response_type {
            Some(ResponseType::TargetChange(change)) => self.target(&change, &mut effects),
            Some(ResponseType::DocumentChange(change)) => self.document(&change, &mut effects),
            Some(ResponseType::DocumentDelete(deletion)) => {
                let name = id_of(&deletion.document);
                self.gone(name, &deletion.removed_target_ids, gone(name), &mut effects);
            }
            Some(ResponseType::DocumentRemove(removal)) => {
                let name = id_of(&removal.document);
                let outdated = self.known.get(name).and_then(|seen| seen.outdated(name));
                self.gone(name, &removal.removed_target_ids, outdated, &mut effects);
            }
            Some(ResponseType::Filter(filter)) => self.compare(&filter, &mut effects),
            None => {}
        }
        effects
    }

    fn document(&mut self, change: &DocumentChange, effects: &mut Vec<Effect>) {
        let Some(document) = &change.document else {
            return;
        };
        let name = id_of(&document.name);
        if change.target_ids.contains(&KEYRING) {
            self.keyring_target.came(name);
            let fingerprint = self.fingerprints.of(document);
            self.keyring_is(Some(fingerprint), effects);
        }
        if self
            .windows()
            .any(|keys| change.target_ids.contains(&keys.id))
        {
            self.record(name, document, &change.target_ids, effects);
        } else {
            let state = self.fingerprints.see(document).change(name);
            self.gone(name, &change.removed_target_ids, state, effects);
        }
    }

    fn record(&mut self, name: &str, document: &Document, ids: &[i32], effects: &mut Vec<Effect>) {
        for keys in self.windows().filter(|keys| ids.contains(&keys.id)) {
            keys.came(name);
        }
        let seen = self.fingerprints.see(document);
        let before = self.known.insert(name.into(), seen);
        if before.is_none_or(|before| before.differs_from(&seen)) {
            self.tell(seen.change(name), effects);
        }
    }

    /// A document is no more in what these targets watch.
    fn gone(&mut self, name: &str, ids: &[i32], what: Option<Change>, effects: &mut Vec<Effect>) {
        if ids.contains(&KEYRING) {
            self.keyring_target.went(name);
            self.keyring_is(None, effects);
        }
        let mut ours = false;
        for keys in self.windows().filter(|keys| ids.contains(&keys.id)) {
            keys.went(name);
            ours = true;
        }
        if ours {
            self.known.remove(name);
            self.tell(what, effects);
        }
    }

    fn target(&mut self, change: &TargetChange, effects: &mut Vec<Effect>) {
        let concerns = |id: i32| change.target_ids.is_empty() || change.target_ids.contains(&id);
        match change.target_change_type() {
            TargetChangeType::Add | TargetChangeType::NoChange => {}
            TargetChangeType::Reset => self
                .targets()
                .filter(|target| concerns(target.id))
                .for_each(Target::reset),
            TargetChangeType::Current => self.current(concerns, effects),
            TargetChangeType::Remove => {
                // One that was released, or a probe, has done its work.
                if self.targets().any(|target| concerns(target.id)) {
                    self.forget_tokens();
                    effects.push(Effect::Break(Broken::Removed(cause(change))));
                    return;
                }
            }
        }
        for target in self.targets().filter(|target| concerns(target.id)) {
            target.offer_token(&change.resume_token);
        }
        if let (true, Some(time)) = (change.target_ids.is_empty(), &change.read_time) {
            self.snapshot(timestamp(time), effects);
        }
    }

    fn current(&mut self, concerns: impl Fn(i32) -> bool, effects: &mut Vec<Effect>) {
        if let Some(probe) = self.probe.take_if(|probe| concerns(*probe)) {
            effects.push(Effect::Release(probe));
        }
        if concerns(KEYRING) {
            let came = self.keyring_target.complete();
            if came.is_some_and(|came| came.is_empty()) {
                self.keyring_is(None, effects);
            }
        }
        if let Some(keys) = self.keys.as_mut().filter(|keys| concerns(keys.id)) {
            let (since, came) = (keys.since(), keys.complete());
            self.swap(since, came, effects);
        }
        if let Some(mut next) = self.next.take_if(|next| concerns(next.id)) {
            let (since, came) = (next.since(), next.complete());
            if let Some(before) = self.keys.replace(next) {
                effects.push(Effect::Release(before.id));
            }
            self.swap(since, came, effects);
        }
    }

    /// A set that was sent whole takes the place of the known one.
    fn swap(&mut self, since: Timestamp, came: Option<Names>, effects: &mut Vec<Effect>) {
        let Some(came) = came else { return };
        let missing: Vec<_> = self
            .known
            .extract_if(|name, _| !came.contains(name))
            .collect();
        for (name, seen) in missing {
            // Older ones are missing because they are no more watched.
            if seen.updated_at >= since {
                self.tell(seen.outdated(&name), effects);
            }
        }
    }

    /// All that was told up to here is one state of the store.
    fn snapshot(&mut self, read_time: Timestamp, effects: &mut Vec<Effect>) {
        if self.keys.is_none() && self.keyring_target.current {
            let keys = self.window_before(read_time);
            effects.push(Effect::Ask(self.keys.insert(keys).ask()));
        }
        if !self.is_settled() {
            return;
        }
        self.consistent = self.consistent.max(read_time);
        self.targets().for_each(Target::settle);
        if !std::mem::replace(&mut self.connected, true) {
            effects.push(Effect::Tell(Change::Connected));
        }
        if !std::mem::replace(&mut self.began, true) {
            let revoked = self.known.iter().filter(|(_, seen)| !seen.live);
            let told = revoked.filter_map(|(name, seen)| seen.change(name));
            effects.extend(told.map(Effect::Tell));
        }
        self.move_window(effects);
    }

    /// Moves the window on where at least as many documents fall out of it as
    /// are sent again for it: so moving costs no more than what changed, and what
    /// is held, and sent after a long cut, stays small.
    fn move_window(&mut self, effects: &mut Vec<Effect>) {
        if self.next.is_some() || self.consistent < self.reconsider_at {
            return;
        }
        self.reconsider_at = self.consistent.saturating_add(RECONSIDER);
        let since = self.consistent.saturating_sub(WINDOW);
        let old = self
            .known
            .values()
            .filter(|seen| seen.updated_at < since)
            .count();
        if old > 0 && old * 2 >= self.known.len() {
            let next = self.window_before(self.consistent);
            effects.push(Effect::Ask(self.next.insert(next).ask()));
        }
    }

    fn window_before(&mut self, now: Timestamp) -> Target {
        let since = now.saturating_sub(WINDOW);
        Target::new(self.new_id(), What::Keys { since })
    }

    /// The server says how many documents a target holds.
    fn compare(&mut self, filter: &ExistenceFilter, effects: &mut Vec<Effect>) {
        let held = filter.count;
        let known = if filter.target_id == KEYRING {
            usize::from(self.keyring.is_some())
        } else {
            let known = self.known.len();
            let Some(keys) = self.windows().find(|keys| keys.id == filter.target_id) else {
                return;
            };
            keys.arriving.as_ref().map_or(known, Names::len)
        };
        if usize::try_from(held) != Ok(known) {
            // Something went unheard of, so the whole set is asked for again.
            self.forget_tokens();
            effects.push(Effect::Break(Broken::Mismatch { held, known }));
        }
    }

    fn keyring_is(&mut self, fingerprint: Option<u64>, effects: &mut Vec<Effect>) {
        if self.keyring != fingerprint {
            self.keyring = fingerprint;
            self.tell(Some(Change::Keyring), effects);
        }
    }

    fn tell(&self, change: Option<Change>, effects: &mut Vec<Effect>) {
        // What was before the beginning is no news.
        if self.began {
            effects.extend(change.map(Effect::Tell));
        }
    }

    /// Those that watch records.
    fn windows(&mut self) -> impl Iterator<Item = &mut Target> {
        self.keys.iter_mut().chain(&mut self.next)
    }

    fn targets(&mut self) -> impl Iterator<Item = &mut Target> {
        let windows = self.keys.iter_mut().chain(&mut self.next);
        std::iter::once(&mut self.keyring_target).chain(windows)
    }

    const fn new_id(&mut self) -> i32 {
        self.last_id = self.last_id.wrapping_add(1);
        self.last_id
    }
}

/// The last part of a document's name.
fn id_of(name: &str) -> &str {
    name.rsplit_once('/').map_or(name, |(_, id)| id)
}

fn cause(change: &TargetChange) -> String {
    change.cause.as_ref().map_or_else(
        || "no cause given".to_owned(),
        |status| status.message.clone(),
    )
}

#[cfg(test)]
mod tests;
