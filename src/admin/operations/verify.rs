//! Comparing the store with the audit log.
//!
//! The audit log has every policy write with its revision, so a record that was
//! put back from a backup, or written by somebody else, is seen there. Both are
//! read side by side, in the order of the ids, a page at a time. A command that
//! runs meanwhile has audited what it has not written yet: what looks wrong is
//! looked at again before it is told.

use std::collections::VecDeque;

use uuid::Uuid;

use super::{Action, Envelope, Operations, PAGE, Result};
use crate::admin::AuditUnavailable;
use crate::key::KeyName;
use crate::repository::{Filter, Found, RepositoryError, StoredKey};
use crate::usage::report::{AuditQuery, AuditedKey, AuditedWrite, UsageReports};

/// What is wrong with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// It has a lower revision than was audited: put back from a backup.
    Behind,
    /// The same, and what it lacks revoked it: it may admit again.
    Unrevoked,
    /// It was deleted, and is there.
    Undeleted,
    /// It was not deleted, and is not there.
    Missing,
    /// Its revision was never audited.
    Unaudited,
    /// It does not open: edited, moved or copied by somebody else.
    Tampered,
    /// It is sealed with a key or suite that this keyring or build does not have.
    Unreadable,
    /// What is stored is not a record.
    Damaged,
}

impl Fault {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Behind => "behind",
            Self::Unrevoked => "unrevoked",
            Self::Undeleted => "undeleted",
            Self::Missing => "missing",
            Self::Unaudited => "unaudited",
            Self::Tampered => "tampered",
            Self::Unreadable => "unreadable",
            Self::Damaged => "damaged",
        }
    }
}

/// A record with a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub fault: Fault,
    /// `None` for a damaged record, whose text names it.
    pub key_id: Option<Uuid>,
    pub name: Option<KeyName>,
    /// Requests per minute, as it is stored.
    pub rate_limit: Option<u32>,
    /// The record's revision.
    pub found: Option<u64>,
    /// The revision that it should have.
    pub expected: Option<u64>,
    /// What it should be the result of.
    pub write: Option<AuditedWrite>,
    /// The field of a damaged record, and why.
    pub detail: Option<String>,
}

/// A comparison on its way.
pub struct Verification<'a> {
    operations: &'a Operations,
    log: &'a dyn UsageReports,
    records: VecDeque<StoredKey>,
    /// `None`: that was the last page.
    next_records: Option<After>,
    audited: VecDeque<AuditedKey>,
    next_audited: Option<Uuid>,
    found: VecDeque<Finding>,
    /// Records looked at.
    pub seen: u64,
    /// Keys of the audit log looked at.
    pub known: u64,
}

/// Where a page of records begins.
#[derive(Clone, Copy, Debug)]
struct After(Option<Uuid>);

impl Operations {
    /// Compares every record with `log`. Without the keyring, records are not
    /// opened.
    pub fn verify<'a>(&'a self, log: &'a dyn UsageReports) -> Verification<'a> {
        Verification {
            operations: self,
            log,
            records: VecDeque::new(),
            next_records: Some(After(None)),
            audited: VecDeque::new(),
            next_audited: Some(Uuid::nil()),
            found: VecDeque::new(),
            seen: 0,
            known: 0,
        }
    }
}

impl Verification<'_> {
    /// The next fault, until there are no more.
    pub async fn next(&mut self) -> Result<Option<Finding>> {
        loop {
            if let Some(finding) = self.found.pop_front() {
                return Ok(Some(finding));
            }
            self.read_records().await?;
            self.read_audited().await?;
            let record = self.records.front().map(|stored| stored.key.id);
            let audited = self.audited.front().map(|audited| audited.key_id);
            let Some(id) = record.into_iter().chain(audited).min() else {
                if self.found.is_empty() {
                    return Ok(None);
                }
                continue;
            };
            let record = self.records.pop_front_if(|stored| stored.key.id == id);
            let audited = self.audited.pop_front_if(|audited| audited.key_id == id);
            self.compare(id, record, audited).await?;
        }
    }

    async fn read_records(&mut self) -> Result<()> {
        while self.records.is_empty()
            && let Some(After(after)) = self.next_records
        {
            let page = self
                .operations
                .list(&Filter::default(), after, PAGE)
                .await?;
            self.next_records = page.next.map(|next| After(Some(next)));
            self.seen += (page.keys.len() + page.damaged.len()) as u64;
            self.records.extend(page.keys);
            self.found
                .extend(page.damaged.into_iter().map(Finding::of_damage));
        }
        Ok(())
    }

    async fn read_audited(&mut self) -> Result<()> {
        if self.audited.is_empty()
            && let Some(after) = self.next_audited
        {
            let page = self.log.audited(AuditQuery::page(after, PAGE)).await;
            let page = page.map_err(AuditUnavailable::from)?;
            self.next_audited = page.last().map(|last| last.key_id);
            self.known += page.len() as u64;
            self.audited.extend(page);
        }
        Ok(())
    }

    async fn compare(
        &mut self,
        id: Uuid,
        record: Option<StoredKey>,
        audited: Option<AuditedKey>,
    ) -> Result<()> {
        let audited = audited.as_ref();
        if self.judge(id, record.as_ref(), audited, audited).is_empty() {
            return Ok(());
        }
        let before = self.audited_now(id).await?;
        let Some(record) = self.stored_now(id, record.as_ref()).await? else {
            return Ok(());
        };
        let after = self.audited_now(id).await?;
        let found = self.judge(id, record.as_ref(), before.as_ref(), after.as_ref());
        self.found.extend(found);
        Ok(())
    }

    async fn audited_now(&self, id: Uuid) -> Result<Option<AuditedKey>> {
        let read = self.log.audited(AuditQuery::of(id)).await;
        Ok(read.map_err(AuditUnavailable::from)?.pop())
    }

    /// By its hash where there was one: somebody's copy may have the same id.
    /// The outer `None` for a damaged one, which the listing tells.
    async fn stored_now(
        &self,
        id: Uuid,
        record: Option<&StoredKey>,
    ) -> Result<Option<Option<StoredKey>>> {
        let repository = &self.operations.repository;
        let read = match record {
            Some(stored) => match repository.find(&stored.key.key_hash).await {
                Ok(Found::Key(stored)) => Ok(Some(*stored)),
                Ok(Found::Tombstone { .. } | Found::Absent) => Ok(None),
                Err(error) => Err(error),
            },
            None => repository.find_by_id(id).await,
        };
        match read {
            Ok(stored) => Ok(Some(stored)),
            Err(RepositoryError::Damaged(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// `before` is what was audited before the record was read, and `after` what
    /// was after: a record is behind the one, or ahead of the other.
    fn judge(
        &self,
        id: Uuid,
        record: Option<&StoredKey>,
        before: Option<&AuditedKey>,
        after: Option<&AuditedKey>,
    ) -> Vec<Finding> {
        let expected = before.and_then(|known| known.standing.as_ref());
        let faults = match record {
            None if before.is_some_and(is_expected) && after.is_some_and(is_expected) => {
                vec![Fault::Missing]
            }
            None => Vec::new(),
            Some(record) => [
                against_the_log(record, before, after),
                self.against_its_seal(record, expected),
            ]
            .into_iter()
            .flatten()
            .collect(),
        };
        let finding = |fault| Finding {
            fault,
            key_id: Some(id),
            name: record.map(|record| record.key.name.clone()),
            rate_limit: record.map(|record| record.key.rate_limit.get()),
            found: record.map(|record| record.key.revision),
            expected: expected.map(|write| write.revision),
            write: expected.cloned(),
            detail: None,
        };
        faults.into_iter().map(finding).collect()
    }

    fn against_its_seal(
        &self,
        record: &StoredKey,
        expected: Option<&AuditedWrite>,
    ) -> Option<Fault> {
        let fault = match self.operations.envelope(record) {
            Envelope::Opens { .. } | Envelope::Unchecked => return None,
            Envelope::Tampered => Fault::Tampered,
            Envelope::Unreadable => Fault::Unreadable,
        };
        // One that was revoked without the keyring never opens again.
        let is_revocation = !record.key.is_active
            && expected.is_some_and(|write| {
                write.action == Action::Revoke.as_str() && write.revision == record.key.revision
            });
        (!is_revocation).then_some(fault)
    }
}

fn against_the_log(
    record: &StoredKey,
    before: Option<&AuditedKey>,
    after: Option<&AuditedKey>,
) -> Option<Fault> {
    let revision = record.key.revision;
    if let Some(known) = before
        && let Some(expected) = &known.standing
        && revision < expected.revision
    {
        let revoked = known.revoked.is_some_and(|revoked| revoked > revision);
        return Some(if expected.action == Action::Delete.as_str() {
            Fault::Undeleted
        } else if revoked && record.key.is_active {
            Fault::Unrevoked
        } else {
            Fault::Behind
        });
    }
    let audited = after.is_some_and(|known| revision <= known.highest);
    (!audited).then_some(Fault::Unaudited)
}

/// Whether the store should have the key's record. A deletion that seemed to
/// come to nothing may have been one.
pub(super) fn is_expected(known: &AuditedKey) -> bool {
    let standing = known.standing.as_ref().map(|write| write.revision);
    standing.is_some() && known.deleted < standing
}

impl Finding {
    fn of_damage(detail: String) -> Self {
        Self {
            fault: Fault::Damaged,
            key_id: None,
            name: None,
            rate_limit: None,
            found: None,
            expected: None,
            write: None,
            detail: Some(detail),
        }
    }
}

impl std::fmt::Debug for Verification<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verification")
            .field("seen", &self.seen)
            .field("known", &self.known)
            .finish_non_exhaustive()
    }
}
