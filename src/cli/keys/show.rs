//! How keys look.

use std::io::Write;

use ipnet::IpNet;
use serde::Serialize;
use uuid::Uuid;

use crate::admin::{Envelope, Shown};
use crate::cli::arguments::Output;
use crate::cli::failure::Failure;
use crate::cli::{table, write_json};
use crate::clock::Timestamp;
use crate::key::{ApiKey, KeyName};
use crate::permission::Permission;
use crate::repository::StoredKey;

/// A key, for programs. Its bookkeeping is what `keys sync-usage` told it last.
#[derive(Serialize)]
pub(super) struct KeyView<'a> {
    id: Uuid,
    name: &'a KeyName,
    key_hash: String,
    permissions: &'a [Permission],
    rate_limit: u32,
    created_at: Timestamp,
    expires_at: Option<Timestamp>,
    is_active: bool,
    allowed_ips: &'a [IpNet],
    revision: u64,
    last_used: Option<Timestamp>,
    usage_count: u64,
}

impl<'a> KeyView<'a> {
    pub(super) fn of(key: &'a ApiKey) -> Self {
        Self {
            id: key.id,
            name: &key.name,
            key_hash: key.key_hash.to_string(),
            permissions: &key.permissions,
            rate_limit: key.rate_limit.get(),
            created_at: key.created_at,
            expires_at: key.expires_at,
            is_active: key.is_active,
            allowed_ips: &key.allowed_ips,
            revision: key.revision,
            last_used: key.last_used,
            usage_count: key.usage_count,
        }
    }
}

pub(super) fn listing(
    keys: &[StoredKey],
    output: Output,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    if output.json {
        let views: Vec<_> = keys.iter().map(|stored| KeyView::of(&stored.key)).collect();
        return write_json(&views, out);
    }
    let heading = [
        "ID",
        "NAME",
        "ACTIVE",
        "PER MINUTE",
        "EXPIRES",
        "PERMISSIONS",
    ];
    let rows: Vec<_> = keys.iter().map(|stored| row(&stored.key)).collect();
    Ok(table::write(out, heading, &rows)?)
}

fn row(key: &ApiKey) -> [String; 6] {
    [
        key.id.to_string(),
        key.name.to_string(),
        yes_or_no(key.is_active).to_owned(),
        key.rate_limit.to_string(),
        or(key.expires_at.as_ref(), "never"),
        joined(&key.permissions, "-"),
    ]
}

pub(super) fn one(shown: &Shown, output: Output, out: &mut dyn Write) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct View<'a> {
        #[serde(flatten)]
        key: KeyView<'a>,
        updated_at: Timestamp,
        envelope: &'static str,
        recoverable: Option<bool>,
    }

    let (envelope, recoverable) = match shown.envelope {
        Envelope::Opens { recoverable } => ("opens", Some(recoverable)),
        Envelope::Tampered => ("tampered", None),
        Envelope::Unreadable => ("unreadable", None),
        Envelope::Unchecked => ("unchecked", None),
    };
    let key = &shown.stored.key;
    if output.json {
        let view = View {
            key: KeyView::of(key),
            updated_at: shown.stored.updated_at,
            envelope,
            recoverable,
        };
        return write_json(&view, out);
    }
    let recoverable = recoverable.map(yes_or_no);
    let lines = [
        ("id", key.id.to_string()),
        ("name", key.name.to_string()),
        ("key hash", key.key_hash.to_string()),
        ("active", yes_or_no(key.is_active).to_owned()),
        ("permissions", joined(&key.permissions, "none")),
        ("allowed from", joined(&key.allowed_ips, "anywhere")),
        ("requests per minute", key.rate_limit.to_string()),
        ("created", key.created_at.to_string()),
        ("expires", or(key.expires_at.as_ref(), "never")),
        ("updated", shown.stored.updated_at.to_string()),
        ("revision", key.revision.to_string()),
        ("requests", told(key)),
        ("envelope", envelope.to_owned()),
        ("recoverable", or(recoverable.as_ref(), "unknown")),
    ];
    for (what, value) in lines {
        writeln!(out, "{what:<20} {value}")?;
    }
    Ok(())
}

/// A key in use must not look as if it never was.
fn told(key: &ApiKey) -> String {
    match key.last_used {
        Some(last) => format!("{}, the last at {last}, as last synced", key.usage_count),
        None => "not synced: keys sync-usage".to_owned(),
    }
}

const fn yes_or_no(holds: bool) -> &'static str {
    if holds { "yes" } else { "no" }
}

fn or(value: Option<&impl ToString>, otherwise: &str) -> String {
    value.map_or_else(|| otherwise.to_owned(), ToString::to_string)
}

fn joined(values: &[impl ToString], none: &str) -> String {
    if values.is_empty() {
        return none.to_owned();
    }
    let texts: Vec<_> = values.iter().map(ToString::to_string).collect();
    texts.join(" ")
}
