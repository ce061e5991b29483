//! The store compared with the audit log.

#![cfg(all(feature = "edge", feature = "embedded"))]
#![expect(
    clippy::unwrap_used,
    reason = "clippy.toml allows it in tests, but does not know a test's own helpers for such"
)]

mod desk;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use cypheron_edge::admin::{Action, AuditEntry, Changes, Fault, KeyRef, Operations, SinkAuditLog};
use cypheron_edge::database::Database;
use cypheron_edge::usage::report::SqliteReports;
use cypheron_edge::usage::sink::SqliteSink;
use desk::{Desk, new_key};
use tempfile::TempDir;
use uuid::Uuid;

/// A desk whose audit log is a usage database.
struct Audited {
    desk: Desk,
    _usage: TempDir,
    reports: SqliteReports,
    operations: Operations,
}

impl Audited {
    fn new() -> Self {
        let desk = Desk::new();
        let usage = tempfile::tempdir().unwrap();
        let database = Database::open_in(usage.path()).unwrap();
        let reports = SqliteReports::new(&database);
        let log = SinkAuditLog::new(
            Arc::new(SqliteSink::new(&database, desk.clock.clone())),
            Arc::new(reports.clone()),
        );
        Self {
            operations: Operations {
                audit: Arc::new(log),
                ..desk.operations()
            },
            reports,
            desk,
            _usage: usage,
        }
    }

    fn locked(&self) -> Operations {
        Operations {
            audit: Arc::clone(&self.operations.audit),
            ..self.desk.locked()
        }
    }

    async fn key(&self, name: &str) -> KeyRef {
        KeyRef::Id(self.id(name).await)
    }

    async fn id(&self, name: &str) -> Uuid {
        self.tick();
        self.operations.create(new_key(name)).await.unwrap().key.id
    }

    /// Entries of one moment are one entry.
    fn tick(&self) {
        self.desk.clock.advance(Duration::from_millis(1));
    }

    async fn update(&self, key: &KeyRef) {
        self.tick();
        let changes = Changes {
            rate_limit: NonZeroU32::new(7),
            ..Changes::default()
        };
        self.operations.update(key, &changes).await.unwrap();
    }

    async fn revoke(&self, key: &KeyRef) {
        self.tick();
        self.operations.revoke(key).await.unwrap();
    }

    async fn delete(&self, key: &KeyRef) {
        self.tick();
        self.operations.delete(key).await.unwrap();
    }

    fn back_up(&self) {
        self.desk
            .by_hand("CREATE TABLE backup AS SELECT * FROM api_keys");
    }

    fn restore(&self) {
        self.desk.by_hand(
            "DELETE FROM api_keys; DELETE FROM tombstones; \
             INSERT INTO api_keys SELECT * FROM backup",
        );
    }

    /// Each fault with the name of its key, its revision and the expected one.
    async fn faults(&self) -> Vec<(Fault, String, Option<u64>, Option<u64>)> {
        faults(&self.operations, &self.reports).await
    }
}

async fn faults(
    operations: &Operations,
    reports: &SqliteReports,
) -> Vec<(Fault, String, Option<u64>, Option<u64>)> {
    let mut verification = operations.verify(reports);
    let mut found = Vec::new();
    while let Some(finding) = verification.next().await.unwrap() {
        let name = finding.name.map(|name| name.to_string());
        let name = name.unwrap_or_default();
        found.push((finding.fault, name, finding.found, finding.expected));
    }
    found
}

fn fault(
    fault: Fault,
    name: &str,
    found: impl Into<Option<u64>>,
    expected: impl Into<Option<u64>>,
) -> (Fault, String, Option<u64>, Option<u64>) {
    (fault, name.to_owned(), found.into(), expected.into())
}

#[tokio::test]
async fn a_store_that_is_as_it_was_audited_has_no_fault() {
    let audited = Audited::new();
    assert_eq!(audited.faults().await, []);
    let changed = audited.key("changed").await;
    audited.update(&changed).await;
    let gone = audited.key("gone").await;
    audited.delete(&gone).await;
    // It never opens again, as it should.
    let revoked = audited.key("revoked without the keyring").await;
    audited.tick();
    audited.locked().revoke(&revoked).await.unwrap();
    let rotated = audited.key("rotated").await;
    audited.tick();
    audited
        .operations
        .rotate(&rotated, Duration::from_mins(1))
        .await
        .unwrap();
    assert_eq!(audited.faults().await, []);

    let mut verification = audited.operations.verify(&audited.reports);
    assert_eq!(verification.next().await, Ok(None));
    assert_eq!((verification.seen, verification.known), (4, 5));
}

#[tokio::test]
async fn what_a_backup_undid_is_found_and_mended_by_what_is_said() {
    let audited = Audited::new();
    let updated = audited.key("updated").await;
    let revoked = audited.key("revoked").await;
    let activated = audited.key("revoked, and activated again").await;
    let deleted = audited.key("deleted").await;
    audited.back_up();
    audited.update(&updated).await;
    audited.update(&revoked).await;
    audited.revoke(&revoked).await;
    audited.update(&revoked).await;
    audited.update(&deleted).await;
    audited.delete(&deleted).await;
    let later = audited.key("created later").await;
    audited.restore();
    audited.revoke(&activated).await;

    assert_eq!(
        audited.faults().await,
        [
            fault(Fault::Behind, "updated", 1, 2),
            fault(Fault::Unrevoked, "revoked", 1, 4),
            fault(Fault::Undeleted, "deleted", 1, 3),
            fault(Fault::Missing, "", None, 1),
        ]
    );

    audited.update(&updated).await;
    audited.revoke(&revoked).await;
    audited.delete(&deleted).await;
    audited.tick();
    let KeyRef::Id(later) = later else { panic!() };
    assert_eq!(audited.operations.note_missing(later).await, Ok(true));
    assert_eq!(audited.operations.note_missing(later).await, Ok(false));
    assert_eq!(audited.faults().await, []);
    // No revision means two things.
    let revision = audited.operations.show(&revoked).await.unwrap();
    assert_eq!(revision.stored.key.revision, 5);
}

#[tokio::test]
async fn what_somebody_else_wrote_is_found() {
    let audited = Audited::new();
    for name in ["edited", "raised", "copied", "damaged", "left alone"] {
        audited.key(name).await;
    }
    audited.desk.by_hand(
        "UPDATE api_keys SET rate_limit = 9 WHERE name = 'edited'; \
         UPDATE api_keys SET revision = 7 WHERE name = 'raised'; \
         UPDATE api_keys SET permissions = 'no list' WHERE name = 'damaged'; \
         CREATE TABLE copy AS SELECT * FROM api_keys WHERE name = 'copied'; \
         UPDATE copy SET id = '01900000-0000-7000-8000-000000000000', \
             key_hash = replace(key_hash, substr(key_hash, 1, 8), '00000000'); \
         INSERT INTO api_keys SELECT * FROM copy",
    );
    let mut found = audited.faults().await;
    found.sort_by_key(|fault| (fault.1.clone(), fault.0.as_str()));
    assert_eq!(
        found,
        [
            fault(Fault::Damaged, "", None, None),
            fault(Fault::Tampered, "copied", 1, None),
            fault(Fault::Unaudited, "copied", 1, None),
            fault(Fault::Tampered, "edited", 1, 1),
            fault(Fault::Tampered, "raised", 7, 1),
            fault(Fault::Unaudited, "raised", 7, 1),
        ]
    );
    // Without the keyring, revisions alone are compared.
    let found = faults(&audited.locked(), &audited.reports).await;
    assert!(
        found.iter().all(|fault| fault.0 != Fault::Tampered),
        "{found:?}"
    );
    assert_eq!(found.len(), 3);
}

#[tokio::test]
async fn a_store_of_many_pages_is_compared_whole() {
    let audited = Audited::new();
    let mut ids = Vec::new();
    for number in 0..410 {
        ids.push(audited.id(&format!("key {number}")).await);
    }
    audited.desk.by_hand(
        "DELETE FROM api_keys WHERE name IN ('key 0', 'key 199', 'key 200', 'key 409'); \
         UPDATE api_keys SET revision = 2 WHERE name IN ('key 198', 'key 201')",
    );
    let mut verification = audited.operations.verify(&audited.reports);
    let mut found = Vec::new();
    while let Some(finding) = verification.next().await.unwrap() {
        if finding.fault != Fault::Tampered {
            found.push((finding.fault, finding.key_id.unwrap()));
        }
    }
    let expected = [
        (Fault::Missing, ids[0]),
        (Fault::Unaudited, ids[198]),
        (Fault::Missing, ids[199]),
        (Fault::Missing, ids[200]),
        (Fault::Unaudited, ids[201]),
        (Fault::Missing, ids[409]),
    ];
    assert_eq!(found, expected);
    assert_eq!((verification.seen, verification.known), (406, 410));
}

#[tokio::test]
async fn an_entry_that_cannot_be_true_uses_up_no_revisions() {
    let audited = Audited::new();
    let id = audited.id("a").await;
    let entry = AuditEntry {
        at: desk::NOW,
        actor: "an edge".to_owned(),
        action: Action::Update,
        key_id: Some(id),
        revision: Some(i64::MAX.cast_unsigned()),
        detail: String::new(),
    };
    audited.operations.audit.record(entry).await.unwrap();
    audited.update(&KeyRef::Id(id)).await;
    let behind = fault(Fault::Behind, "a", 2, i64::MAX.cast_unsigned());
    assert_eq!(audited.faults().await, [behind]);
}

#[tokio::test]
async fn a_revocation_does_not_wait_for_the_log() {
    let desk = Desk::new();
    let key = desk.created("a").await.key;
    desk.audit
        .is_down
        .store(true, std::sync::atomic::Ordering::Relaxed);
    let revoked = desk.operations().revoke(&KeyRef::Id(key.id)).await.unwrap();
    assert_eq!(revoked[0].record.as_ref().unwrap().revision, 2);
}
