//! `keys verify`

use std::io;

use serde::Serialize;
use uuid::Uuid;

use crate::admin::{Fault, Finding, Operations};
use crate::cli::Streams;
use crate::cli::arguments::Verify;
use crate::cli::failure::Failure;
use crate::key::KeyName;
use crate::usage::report::{AuditedWrite, UsageReports};

/// Prints each finding, with what to do about it; any is a failure.
pub(super) async fn run(
    operations: &Operations,
    log: &dyn UsageReports,
    how: Verify,
    streams: &mut Streams<'_>,
) -> Result<(), Failure> {
    let mut verification = operations.verify(log);
    let mut findings = 0_u64;
    while let Some(finding) = verification.next().await? {
        findings += 1;
        if how.json {
            serde_json::to_writer(&mut *streams.out, &View::of(&finding))
                .map_err(io::Error::from)?;
            writeln!(streams.out)?;
        } else {
            writeln!(streams.out, "{}", line(&finding))?;
        }
    }
    let (seen, known) = (verification.seen, verification.known);
    let opened = if how.revisions_only {
        ", none of which was opened"
    } else {
        ""
    };
    writeln!(
        streams.err,
        "compared {seen} records{opened} with the {known} keys of the audit log"
    )?;
    match findings {
        0 => Ok(()),
        1 => Err(Failure::failed("1 finding")),
        many => Err(Failure::failed(format_args!("{many} findings"))),
    }
}

#[derive(Serialize)]
struct View<'a> {
    fault: &'static str,
    key_id: Option<Uuid>,
    name: Option<&'a KeyName>,
    found: Option<u64>,
    expected: Option<u64>,
    write: Option<&'a AuditedWrite>,
    detail: Option<&'a str>,
    fix: String,
}

impl<'a> View<'a> {
    fn of(finding: &'a Finding) -> Self {
        Self {
            fault: finding.fault.as_str(),
            key_id: finding.key_id,
            name: finding.name.as_ref(),
            found: finding.found,
            expected: finding.expected,
            write: finding.write.as_ref(),
            detail: finding.detail.as_deref(),
            fix: fix(finding),
        }
    }
}

fn line(finding: &Finding) -> String {
    let subject = subject(finding);
    let fault = finding.fault.as_str();
    let revision = |revision: Option<u64>| revision.map_or("none".to_owned(), |r| r.to_string());
    let (found, expected) = (revision(finding.found), revision(finding.expected));
    let fix = fix(finding);
    format!(
        "{subject}: {fault}: found revision {found}, expected {expected}{written}: {fix}",
        written = written(finding)
    )
}

fn subject(finding: &Finding) -> String {
    match (finding.key_id, &finding.name, &finding.detail) {
        (Some(id), Some(name), _) => format!("{id} ({name})"),
        (Some(id), None, _) => id.to_string(),
        (None, _, Some(detail)) => detail.clone(),
        (None, _, None) => "a record".to_owned(),
    }
}

/// What the expected revision is the result of.
fn written(finding: &Finding) -> String {
    finding.write.as_ref().map_or_else(String::new, |write| {
        let of = if write.detail.is_empty() {
            String::new()
        } else {
            format!(" of {}", write.detail)
        };
        format!(
            " ({action}{of} at {at} by {actor})",
            action = write.action,
            at = write.at,
            actor = write.actor
        )
    })
}

/// What to do; what is done that way is not found again.
fn fix(finding: &Finding) -> String {
    let id = finding
        .key_id
        .map_or_else(|| "ID".to_owned(), |id| id.to_string());
    let limit = finding.rate_limit.unwrap_or(1);
    match finding.fault {
        Fault::Behind => format!(
            "`keys show {id}`, then what it lacks with `keys update {id}`, or `keys revoke {id}`; \
             to accept it as it is, `keys update {id} --rate-limit {limit}`"
        ),
        Fault::Unrevoked => format!("it may admit again: `keys revoke {id}`"),
        Fault::Undeleted => format!("it may admit again: `keys delete {id}`"),
        Fault::Missing => format!(
            "put it back from a backup, or issue its owner a new key; to accept that it is gone, \
             `keys delete {id}`"
        ),
        Fault::Unaudited => format!(
            "find out who wrote it; `keys revoke {id}` if nobody knows, and to accept it as it is, \
             `keys update {id} --rate-limit {limit}`"
        ),
        Fault::Tampered => format!(
            "somebody else wrote it, and it is refused: find out who, `keys revoke {id}`, and \
             issue its owner a new key"
        ),
        Fault::Unreadable => format!(
            "put the keyring that it was sealed with back, or use the build that has its suite; \
             else `keys revoke {id}`, and issue its owner a new key"
        ),
        Fault::Damaged => {
            "mend the field in the store, or delete the record there, and issue its owner a new key"
                .to_owned()
        }
    }
}
