//! `docs/faults.md`: what clients saw, as the tests saw it.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// What clients saw of one fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub fault: &'static str,
    /// With keys that the edge had served before.
    pub known: String,
    /// With keys that it had not.
    pub unknown: String,
    /// With a key that was revoked before.
    pub revoked: String,
    /// Of any of them, for an answer.
    pub longest: Duration,
    /// From the end of the fault until a key that the edge had not served before
    /// was admitted.
    pub recovered: Duration,
}

const TITLES: [&str; 6] = [
    "fault",
    "known keys",
    "keys not served before",
    "a key revoked before",
    "longest wait",
    "served again after",
];

/// The order of the rows.
pub const FAULTS: &[&str] = &[
    "refuses connections",
    "refuses connections, for longer than `max_stale`",
    "accepts, and never answers",
    "answers UNAVAILABLE",
    "answers RESOURCE_EXHAUSTED",
    "answers PERMISSION_DENIED",
    "comes and goes every 300 ms",
];

impl Row {
    fn outcomes(&self) -> [&str; 4] {
        [self.fault, &self.known, &self.unknown, &self.revoked]
    }

    fn cells(&self) -> [String; 6] {
        let [fault, known, unknown, revoked] = self.outcomes().map(str::to_owned);
        let times = [self.longest, self.recovered].map(|time| format!("{} ms", time.as_millis()));
        let [longest, recovered] = times;
        [fault, known, unknown, revoked, longest, recovered]
    }
}

/// Fails when clients saw something else than the documents say. With
/// `CYPHERON_WRITE_DOCS=1`, writes what they saw instead.
#[expect(
    clippy::disallowed_methods,
    reason = "a test is told by the environment"
)]
pub fn compare(row: &Row) {
    if std::env::var("CYPHERON_WRITE_DOCS").is_ok_and(|value| value == "1") {
        return write(row);
    }
    let text = fs::read_to_string(path()).unwrap();
    let documented = rows(&text).into_iter().find(|cells| cells[0] == row.fault);
    let documented = documented.unwrap_or_else(|| panic!("{} is not documented", row.fault));
    assert_eq!(documented[..4], row.outcomes(), "{row:?}");
}

fn write(row: &Row) {
    static WRITING: Mutex<()> = Mutex::new(());
    let _turn = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    let text = fs::read_to_string(path()).unwrap();
    let mut kept: Vec<_> = rows(&text)
        .into_iter()
        .filter(|cells| cells[0] != row.fault && FAULTS.contains(&cells[0].as_str()))
        .collect();
    kept.push(row.cells().to_vec());
    kept.sort_by_key(|cells| FAULTS.iter().position(|fault| *fault == cells[0]));
    let mut table = format!("| {} |\n|{}\n", TITLES.join(" | "), " --- |".repeat(6));
    for cells in kept {
        writeln!(table, "| {} |", cells.join(" | ")).unwrap();
    }
    let before = text.split("| fault |").next().unwrap();
    fs::write(path(), format!("{before}{table}")).unwrap();
}

/// The cells of each row of the table, which ends the document.
fn rows(text: &str) -> Vec<Vec<String>> {
    text.lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"))
        .map(|line| line.split(" | ").map(str::to_owned).collect())
        .skip(1)
        .collect()
}

fn path() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/faults.md"))
}
