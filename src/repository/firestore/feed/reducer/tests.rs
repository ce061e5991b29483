//! Hand-written sequences, as production sends them and as the emulator does.

use std::collections::HashMap;

use firestore::gcloud_sdk::google::firestore::v1::value::ValueType;
use firestore::gcloud_sdk::google::firestore::v1::{DocumentDelete, DocumentRemove, Value};
use firestore::gcloud_sdk::google::rpc::Status;
use firestore::gcloud_sdk::prost_types;

use super::*;
use crate::token::KeyHash;
use Change::{Connected, Cut, Keyring};

/// What the reducer calls its first window and the one after that.
const KEYS: i32 = 2;
const NEXT: i32 = 3;

/// The server's time when a feed of these tests begins, in seconds.
const START: i64 = 1_000_000;

fn hash(number: u8) -> KeyHash {
    KeyHash::from_bytes([number; 32])
}

fn path(number: u8) -> String {
    let hash = hash(number);
    format!("projects/p/databases/d/documents/api_keys/{hash}")
}

fn keyring_path() -> String {
    "projects/p/databases/d/documents/api_keys_keyring/current".to_owned()
}

fn record(number: u8, revision: u64, live: bool) -> Change {
    Change::Record {
        hash: hash(number),
        revision,
        live,
    }
}

fn hash_of(change: &Change) -> Option<String> {
    match change {
        Change::Record { hash, .. } => Some(hash.to_string()),
        _ => None,
    }
}

fn time(seconds: i64) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds, nanos: 0 }
}

fn message(response_type: ResponseType) -> ListenResponse {
    ListenResponse {
        response_type: Some(response_type),
    }
}

fn target(kind: TargetChangeType, ids: &[i32]) -> TargetChange {
    TargetChange {
        target_change_type: kind.into(),
        target_ids: ids.to_vec(),
        ..TargetChange::default()
    }
}

fn add(id: i32) -> ListenResponse {
    message(ResponseType::TargetChange(target(
        TargetChangeType::Add,
        &[id],
    )))
}

fn reset(id: i32) -> ListenResponse {
    message(ResponseType::TargetChange(target(
        TargetChangeType::Reset,
        &[id],
    )))
}

fn current(id: i32) -> ListenResponse {
    message(ResponseType::TargetChange(target(
        TargetChangeType::Current,
        &[id],
    )))
}

fn removed(id: i32) -> ListenResponse {
    message(ResponseType::TargetChange(TargetChange {
        cause: Some(Status {
            message: "no permission".to_owned(),
            ..Status::default()
        }),
        ..target(TargetChangeType::Remove, &[id])
    }))
}

/// `NO_CHANGE` over all targets: everything before it is one state.
fn snapshot(seconds: i64, token: &str) -> ListenResponse {
    message(ResponseType::TargetChange(TargetChange {
        read_time: Some(time(seconds)),
        resume_token: token.as_bytes().to_vec(),
        ..target(TargetChangeType::NoChange, &[])
    }))
}

/// `NO_CHANGE` with a token, in the middle of something.
fn token(id: i32, token: &str) -> ListenResponse {
    message(ResponseType::TargetChange(TargetChange {
        resume_token: token.as_bytes().to_vec(),
        ..target(TargetChangeType::NoChange, &[id])
    }))
}

fn filter(id: i32, count: i32) -> ListenResponse {
    message(ResponseType::Filter(ExistenceFilter {
        target_id: id,
        count,
        ..ExistenceFilter::default()
    }))
}

fn delete(number: u8) -> ListenResponse {
    message(ResponseType::DocumentDelete(DocumentDelete {
        document: path(number),
        removed_target_ids: vec![KEYS],
        ..DocumentDelete::default()
    }))
}

fn remove(number: u8) -> ListenResponse {
    message(ResponseType::DocumentRemove(DocumentRemove {
        document: path(number),
        removed_target_ids: vec![KEYS],
        ..DocumentRemove::default()
    }))
}

fn no_keyring() -> ListenResponse {
    message(ResponseType::DocumentDelete(DocumentDelete {
        document: keyring_path(),
        removed_target_ids: vec![KEYRING],
        ..DocumentDelete::default()
    }))
}

/// A record, of revision 1 and live, as it is stored.
#[derive(Clone)]
struct Doc {
    name: String,
    fields: HashMap<String, Value>,
}

fn doc(number: u8) -> Doc {
    let doc = Doc {
        name: path(number),
        fields: HashMap::new(),
    };
    doc.with("revision", ValueType::IntegerValue(1))
        .with("is_active", ValueType::BooleanValue(true))
        .with("name", ValueType::StringValue("n".to_owned()))
        .written(START)
}

fn keyring(version: i64) -> ListenResponse {
    let doc = Doc {
        name: keyring_path(),
        fields: HashMap::new(),
    };
    doc.with("version", ValueType::IntegerValue(version))
        .to(&[KEYRING], &[])
}

impl Doc {
    fn with(mut self, field: &str, value: ValueType) -> Self {
        let value = Value {
            value_type: Some(value),
        };
        self.fields.insert(field.to_owned(), value);
        self
    }

    fn without(mut self, field: &str) -> Self {
        self.fields.remove(field);
        self
    }

    fn revision(self, revision: i64) -> Self {
        self.with("revision", ValueType::IntegerValue(revision))
    }

    fn revoked(self) -> Self {
        self.with("is_active", ValueType::BooleanValue(false))
    }

    fn tombstone(self) -> Self {
        self.without("is_active")
            .without("name")
            .with("deleted_at", ValueType::TimestampValue(time(START)))
    }

    fn written(self, seconds: i64) -> Self {
        self.with("updated_at", ValueType::TimestampValue(time(seconds)))
    }

    fn to(self, ids: &[i32], removed: &[i32]) -> ListenResponse {
        message(ResponseType::DocumentChange(DocumentChange {
            document: Some(Document {
                name: self.name,
                fields: self.fields,
                ..Document::default()
            }),
            target_ids: ids.to_vec(),
            removed_target_ids: removed.to_vec(),
        }))
    }

    fn sent(self) -> ListenResponse {
        self.to(&[KEYS], &[])
    }
}

/// A reducer, and what it said.
struct Feed {
    reducer: Reducer,
    effects: Vec<Effect>,
}

impl Feed {
    fn new() -> Self {
        Self {
            reducer: Reducer::new(),
            effects: Vec::new(),
        }
    }

    /// One that is connected and knows these records and keyring version 1.
    fn knowing(records: impl IntoIterator<Item = Doc>) -> Self {
        let mut feed = Self::new();
        feed.reducer.begin();
        let sets = records.into_iter().map(Doc::sent);
        feed.see([add(KEYRING), keyring(1), current(KEYRING)]);
        feed.see([snapshot(START, "first"), add(KEYS)]);
        feed.see(sets);
        feed.see([current(KEYS), snapshot(START, "token")]);
        assert_eq!(feed.told(), [Connected]);
        feed.effects.clear();
        feed
    }

    fn see(&mut self, messages: impl IntoIterator<Item = ListenResponse>) {
        for message in messages {
            self.effects.extend(self.reducer.observe(message));
        }
    }

    fn told(&self) -> Vec<Change> {
        let tell = |effect: &Effect| match effect {
            Effect::Tell(change) => Some(change.clone()),
            _ => None,
        };
        self.effects.iter().filter_map(tell).collect()
    }

    fn asked(&self) -> Vec<&Ask> {
        let ask = |effect: &'_ Effect| matches!(effect, Effect::Ask(_));
        let asked = self.effects.iter().filter(|effect| ask(effect));
        asked
            .map(|effect| match effect {
                Effect::Ask(ask) => ask,
                other => panic!("{other:?}"),
            })
            .collect()
    }

    fn broken(&self) -> Option<&Broken> {
        match self.effects.last() {
            Some(Effect::Break(broken)) => Some(broken),
            _ => None,
        }
    }
}

fn seconds(seconds: i64) -> Timestamp {
    Timestamp::from_micros(seconds * 1_000_000)
}

#[test]
fn the_first_stream_asks_the_keyring_for_the_server_s_time_and_watches_from_before_it() {
    let mut feed = Feed::new();
    let asks = feed.reducer.begin();
    assert_eq!(asks.len(), 1);
    assert_eq!(asks[0].what, What::Keyring);
    feed.see([add(KEYRING), keyring(1), current(KEYRING)]);
    assert_eq!(feed.effects, [], "not before the state is consistent");
    feed.see([snapshot(START, "t")]);
    let since = seconds(START - 600);
    let expected = Ask {
        id: KEYS,
        what: What::Keys { since },
        resume: Vec::new(),
    };
    assert_eq!(feed.asked(), [&expected]);
    feed.see([
        add(KEYS),
        doc(1).revoked().sent(),
        doc(2).sent(),
        current(KEYS),
    ]);
    assert_eq!(feed.told(), []);
    assert!(feed.reducer.is_settled());
    feed.see([snapshot(START, "t")]);
    let revoked_lately = record(1, 1, false);
    assert_eq!(
        feed.told(),
        [Connected, revoked_lately],
        "others are no news"
    );
}

#[test]
fn a_record_from_the_far_future_does_not_move_the_window() {
    let mut feed = Feed::knowing([doc(1).written(START * 1000)]);
    feed.see([snapshot(START + 5000, "t")]);
    assert_eq!(feed.asked(), Vec::<&Ask>::new());
}

#[test]
fn what_each_sequence_tells_of_a_feed_that_knows_records_one_and_two() {
    type Row = (&'static str, Vec<ListenResponse>, Vec<Change>);
    let changed = || doc(1).revision(2).written(START + 1);
    let revoked = || changed().revoked();
    let used = |count| doc(1).with("usage_count", ValueType::IntegerValue(count));
    let snap = || snapshot(START + 2, "next");
    #[rustfmt::skip]
    let rows: Vec<Row> = vec![
        // Production: increments.
        ("nothing", vec![snap(), token(KEYS, "t"), snap()], vec![]),
        ("a new record", vec![doc(3).sent(), snap()], vec![record(3, 1, true)]),
        ("a change", vec![changed().sent(), snap()], vec![record(1, 2, true)]),
        ("a revocation, before any snapshot", vec![revoked().sent()], vec![record(1, 2, false)]),
        ("a tombstone", vec![changed().tombstone().sent()], vec![record(1, 2, false)]),
        ("a change, then its revocation", vec![changed().sent(), doc(1).revision(3).revoked().sent()], vec![record(1, 2, true), record(1, 3, false)]),
        ("the same document twice", vec![changed().sent(), changed().sent()], vec![record(1, 2, true)]),
        ("a hand edit of a field, at the same revision", vec![doc(1).with("rate_limit", ValueType::IntegerValue(9)).sent()], vec![record(1, 1, true)]),
        ("a hand edit that revokes", vec![doc(1).revoked().sent()], vec![record(1, 1, false)]),
        ("sealed again", vec![doc(1).with("sealed", ValueType::BytesValue(vec![1])).sent()], vec![record(1, 1, true)]),
        ("bookkeeping", vec![used(1).sent(), snap(), used(2).with("last_used", ValueType::TimestampValue(time(START + 1))).sent(), snap()], vec![]),
        ("a damaged state is for its reader to judge", vec![doc(1).with("is_active", ValueType::StringValue("no".to_owned())).sent()], vec![record(1, 1, true)]),
        ("a damaged revision", vec![doc(1).revision(-1).sent()], vec![record(1, 0, true)]),
        ("a name that is no hash", vec![Doc { name: "a/b/readme".to_owned(), ..doc(1) }.sent()], vec![]),
        ("a deletion", vec![delete(1), snap()], vec![record(1, 0, false)]),
        ("deleted, and made again", vec![delete(1), doc(1).sent()], vec![record(1, 0, false), record(1, 1, true)]),
        ("out of the window: to be read again", vec![remove(1), snap()], vec![record(1, 1, true)]),
        ("out of the window, unknown", vec![remove(3), snap()], vec![]),
        ("out of the window, with what it is now", vec![doc(1).revoked().written(0).to(&[], &[KEYS])], vec![record(1, 1, false)]),
        ("another target's document", vec![doc(1).revoked().to(&[99], &[])], vec![]),
        // Production: resets and filters.
        ("a reset to the same", vec![reset(KEYS), doc(1).sent(), doc(2).sent(), current(KEYS), snap()], vec![]),
        ("a revocation in a reset, at once", vec![reset(KEYS), revoked().sent()], vec![record(1, 2, false)]),
        ("missing after a reset: to be read again", vec![reset(KEYS), doc(1).sent(), current(KEYS)], vec![record(2, 1, true)]),
        ("missing, but not before CURRENT", vec![reset(KEYS), doc(1).sent(), snap()], vec![]),
        ("a reset within a reset", vec![reset(KEYS), doc(1).sent(), reset(KEYS), doc(1).sent(), doc(2).sent(), current(KEYS)], vec![]),
        ("deleted within a reset", vec![reset(KEYS), doc(1).sent(), doc(2).sent(), delete(2), current(KEYS)], vec![record(2, 0, false)]),
        ("a filter that agrees", vec![filter(KEYS, 2), snap()], vec![]),
        ("a filter that agrees in a reset", vec![reset(KEYS), doc(1).sent(), filter(KEYS, 1), doc(2).sent(), current(KEYS)], vec![]),
        // The emulator: the whole set at each write.
        ("emulator: a new record", vec![reset(KEYS), doc(1).sent(), doc(2).sent(), doc(3).sent(), current(KEYS), snap()], vec![record(3, 1, true)]),
        ("emulator: two at once, in their order", vec![reset(KEYS), doc(2).sent(), changed().sent(), doc(3).revoked().sent(), current(KEYS), snap()], vec![record(1, 2, true), record(3, 1, false)]),
        ("emulator: bookkeeping", vec![reset(KEYS), doc(2).sent(), used(1).sent(), current(KEYS), snap()], vec![]),
        ("emulator: a write that raced with a set", vec![reset(KEYS), doc(1).sent(), doc(2).sent(), current(KEYS), doc(3).sent(), current(KEYS), snap()], vec![record(3, 1, true)]),
        ("emulator: emptied", vec![reset(KEYS), current(KEYS), snap()], vec![record(1, 1, true), record(2, 1, true)]),
        // The keyring.
        ("the same keyring", vec![keyring(1), snap()], vec![]),
        ("another keyring", vec![keyring(2), snap()], vec![Keyring]),
        ("a keyring that is gone, told once", vec![no_keyring(), no_keyring(), snap()], vec![Keyring]),
        ("a keyring that is missing after a reset", vec![reset(KEYRING), current(KEYRING)], vec![Keyring]),
        ("a keyring that is there after a reset", vec![reset(KEYRING), keyring(1), current(KEYRING)], vec![]),
    ];
    for (what, messages, mut expected) in rows {
        let mut feed = Feed::knowing([doc(1), doc(2)]);
        feed.see(messages);
        let mut told = feed.told();
        if what.contains("emptied") {
            // A set has no order.
            told.sort_by_key(hash_of);
            expected.sort_by_key(hash_of);
        }
        assert_eq!(told, expected, "{what}");
        assert_eq!(feed.broken(), None, "{what}");
    }
}

#[test]
fn a_cut_is_told_once_and_the_next_stream_resumes_from_the_last_consistent_state() {
    let mut feed = Feed::knowing([doc(1)]);
    feed.see([doc(2).sent(), token(KEYS, "in the middle")]);
    assert_eq!(feed.reducer.end(), Some(Cut));
    assert_eq!(feed.reducer.end(), None);
    let asks = feed.reducer.begin();
    let resume: Vec<_> = asks.iter().map(|ask| (ask.id, &ask.resume[..])).collect();
    assert_eq!(resume, [(KEYRING, &b"token"[..]), (KEYS, &b"token"[..])]);
    assert!(!feed.reducer.is_settled());

    feed.effects.clear();
    feed.see([add(KEYRING), add(KEYS), current(KEYRING)]);
    feed.see([snapshot(START + 1, "a"), doc(2).sent()]);
    assert_eq!(feed.told(), [], "told before the cut");
    feed.see([doc(3).revoked().sent()]);
    assert_eq!(
        feed.told(),
        [record(3, 1, false)],
        "before all is consistent"
    );
    feed.see([current(KEYS), snapshot(START + 2, "b")]);
    assert_eq!(feed.told(), [record(3, 1, false), Connected]);
}

#[test]
fn a_token_that_the_server_answers_with_a_reset_loses_nothing() {
    let mut feed = Feed::knowing([doc(1), doc(2)]);
    feed.reducer.end();
    feed.reducer.begin();
    feed.see([add(KEYRING), current(KEYRING), add(KEYS), reset(KEYS)]);
    feed.see([doc(1).revision(2).sent(), current(KEYS)]);
    feed.see([snapshot(START + 1, "b")]);
    let expected = [record(1, 2, true), record(2, 1, true), Connected];
    assert_eq!(feed.told(), expected);
}

#[test]
fn a_set_that_was_cut_off_half_way_takes_nobody_s_place() {
    let mut feed = Feed::knowing([doc(1), doc(2)]);
    feed.see([reset(KEYS), doc(1).sent(), snapshot(START + 1, "half")]);
    feed.reducer.end();
    let asks = feed.reducer.begin();
    assert_eq!(asks[1].resume, b"token", "not of the half set");
    feed.see([current(KEYRING), current(KEYS), snapshot(START + 2, "b")]);
    assert_eq!(feed.told(), [Connected]);
}

#[test]
fn a_filter_that_disagrees_begins_again_without_a_token() {
    for (what, messages) in [
        ("one too few", vec![filter(KEYS, 1)]),
        ("too many", vec![filter(KEYS, 3)]),
        (
            "in a set",
            vec![reset(KEYS), doc(1).sent(), filter(KEYS, 2)],
        ),
        ("no keyring", vec![filter(KEYRING, 0)]),
    ] {
        let mut feed = Feed::knowing([doc(1), doc(2)]);
        feed.see(messages);
        assert!(
            matches!(feed.broken(), Some(Broken::Mismatch { .. })),
            "{what}"
        );
        assert_eq!(feed.reducer.end(), Some(Cut), "{what}");
        let asks = feed.reducer.begin();
        assert!(asks.iter().all(|ask| ask.resume.is_empty()), "{what}");
        let since = seconds(START - 600);
        assert_eq!(asks[1].what, What::Keys { since }, "all that was watched");

        feed.effects.clear();
        feed.see([keyring(1), current(KEYRING), doc(2).sent(), current(KEYS)]);
        feed.see([snapshot(START + 1, "b")]);
        assert_eq!(feed.told(), [record(1, 1, true), Connected], "{what}");
    }
}

#[test]
fn a_target_that_the_server_drops_breaks_the_stream() {
    for id in [KEYRING, KEYS] {
        let mut feed = Feed::knowing([doc(1)]);
        feed.see([removed(id)]);
        let expected = Broken::Removed("no permission".to_owned());
        assert_eq!(feed.broken(), Some(&expected));
        feed.reducer.end();
        assert!(feed.reducer.begin().iter().all(|ask| ask.resume.is_empty()));
    }
}

#[test]
fn a_probe_is_released_once_it_is_answered_and_changes_nothing() {
    let mut feed = Feed::knowing([doc(1)]);
    let probe = feed.reducer.probe();
    assert_eq!(probe.what, What::Probe);
    let nothing_there = DocumentDelete {
        document: "projects/p/databases/d/documents/api_keys_keyring/probe".to_owned(),
        removed_target_ids: vec![probe.id],
        ..DocumentDelete::default()
    };
    feed.see([
        add(probe.id),
        message(ResponseType::DocumentDelete(nothing_there)),
    ]);
    feed.see([
        current(probe.id),
        snapshot(START + 1, "t"),
        removed(probe.id),
    ]);
    assert_eq!(feed.effects, [Effect::Release(probe.id)]);
}

#[test]
fn the_window_moves_when_no_more_is_sent_again_than_is_forgotten() {
    let late = START + 5000;
    let recent = |number| doc(number).written(late);
    for (what, records, moves) in [
        ("nothing to forget", vec![], false),
        ("all recent", vec![recent(1)], false),
        ("one old", vec![doc(1)], true),
        ("as many old as recent", vec![doc(1), recent(2)], true),
        ("too many recent", vec![doc(1), recent(2), recent(3)], false),
    ] {
        let mut feed = Feed::knowing([]);
        feed.see(records.into_iter().map(Doc::sent));
        feed.effects.clear();
        feed.see([snapshot(late, "late")]);
        let since = seconds(late - 600);
        let windows: Vec<_> = feed.asked().iter().map(|ask| ask.what).collect();
        let expected = if moves {
            vec![What::Keys { since }]
        } else {
            vec![]
        };
        assert_eq!(windows, expected, "{what}");
    }
}

#[test]
fn a_moved_window_forgets_what_is_old_and_misses_nothing() {
    let late = START + 5000;
    let mut feed = Feed::knowing([doc(1), doc(2), doc(3)]);
    feed.see([doc(4).written(late).sent()]);
    feed.see([snapshot(late, "late")]);
    feed.effects.clear();
    // The old window goes on until the new one is complete.
    feed.see([add(NEXT), doc(1).revision(2).written(late).sent()]);
    feed.see([doc(4).written(late).to(&[NEXT], &[]), current(NEXT)]);
    let expected = [
        Effect::Tell(record(1, 2, true)),
        Effect::Release(KEYS),
        // It had not come over the new one yet.
        Effect::Tell(record(1, 2, true)),
    ];
    assert_eq!(feed.effects, expected);
    assert_eq!(feed.reducer.known.len(), 1);

    feed.see([snapshot(late + 1, "moved"), removed(KEYS)]);
    assert_eq!(feed.broken(), None, "the old window was released");
    feed.reducer.end();
    let asks = feed.reducer.begin();
    assert_eq!((asks[1].id, &asks[1].resume[..]), (NEXT, &b"moved"[..]));
}

#[test]
fn a_move_that_was_cut_off_is_begun_again() {
    let late = START + 5000;
    let mut feed = Feed::knowing([doc(1)]);
    feed.see([snapshot(late, "late"), add(NEXT)]);
    feed.reducer.end();
    let asks = feed.reducer.begin();
    assert_eq!((asks[1].id, &asks[1].resume[..]), (KEYS, &b"late"[..]));
    feed.effects.clear();
    feed.see([current(KEYRING), current(KEYS)]);
    feed.see([snapshot(late + 10, "b")]);
    assert_eq!(feed.asked().len(), 0, "not at once");
    feed.see([snapshot(late + 60, "c")]);
    assert_eq!(feed.asked().len(), 1);
}
