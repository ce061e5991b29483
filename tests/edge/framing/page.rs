//! `docs/framing.md`: what became of every case.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::case::Case;
use super::servers::Kind;

/// What became of a case on one chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub statuses: Vec<u16>,
    /// Whether the client's connection is still of use.
    pub goes_on: bool,
    /// What the server behind the edge refused, of what the edge forwarded.
    pub refused_behind: Vec<u16>,
}

impl Verdict {
    /// The connection ended without an answer.
    pub const fn closed() -> Self {
        Self {
            statuses: Vec::new(),
            goes_on: false,
            refused_behind: Vec::new(),
        }
    }
}

/// The table of requests: one column for the edge, one for each server.
pub fn requests(cases: &[Case], columns: &[Vec<Verdict>]) -> String {
    let mut page = String::new();
    let mut section = "";
    for (at, case) in cases.iter().enumerate() {
        if case.section != section {
            section = case.section;
            writeln!(page, "\n### {section}\n").unwrap();
            page.push_str("| case | edge |");
            for kind in Kind::ALL {
                write!(page, " {} |", kind.name()).unwrap();
            }
            page.push_str(" connection |\n| --- | --- |");
            page.push_str(&" --- |".repeat(Kind::ALL.len()));
            page.push_str(" --- |\n");
        }
        let (edge, behind) = columns.split_first().unwrap();
        write!(page, "| {} | {} |", case.name, of_edge(case, &edge[at])).unwrap();
        for column in behind {
            write!(page, " {} |", of_server(case, &column[at])).unwrap();
        }
        writeln!(page, " {} |", of_connection(&edge[at])).unwrap();
    }
    page
}

/// The table of answers.
pub fn answers(cases: &[Case], verdicts: &[Verdict]) -> String {
    let mut page =
        "\n| the upstream's answer | what the client sees | connection |\n| --- | --- | --- |\n"
            .to_owned();
    for (case, verdict) in cases.iter().zip(verdicts) {
        let sees = match &*case.expected[0] {
            b"cut" => "an answer that visibly breaks off".to_owned(),
            _ if verdict.statuses == [502] => "502".to_owned(),
            _ => format!("that answer: {}", verdict.statuses[0]),
        };
        writeln!(
            page,
            "| {} | {sees} | {} |",
            case.name,
            of_connection(verdict)
        )
        .unwrap();
    }
    page
}

fn is_refusal(expected: &[u8]) -> bool {
    !expected.starts_with(b"200 ")
}

fn of_edge(case: &Case, verdict: &Verdict) -> String {
    if verdict.statuses.is_empty() {
        let how = if verdict.goes_on {
            "stream reset"
        } else {
            "closed"
        };
        return format!("refused ({how})");
    }
    let each = case.expected.iter().zip(&verdict.statuses);
    let each = each.map(|(expected, status)| {
        if is_refusal(expected) {
            format!("refused ({status})")
        } else {
            "forwarded".to_owned()
        }
    });
    each.collect::<Vec<_>>().join(", ")
}

fn of_server(case: &Case, verdict: &Verdict) -> String {
    if let Some(status) = verdict.refused_behind.first() {
        format!("refused ({status})")
    } else if case.expected.iter().all(|expected| is_refusal(expected)) {
        "not asked".to_owned()
    } else {
        "the same".to_owned()
    }
}

const fn of_connection(verdict: &Verdict) -> &'static str {
    if verdict.goes_on { "goes on" } else { "closed" }
}

/// Holds the part `name` of the page against what was seen, or writes it.
pub fn check(name: &str, seen: &str) {
    static WRITING: Mutex<()> = Mutex::new(());
    let _turn = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/framing.md");
    let page = fs::read_to_string(&path).unwrap();
    let (begin, end) = (
        format!("<!-- {name} -->\n"),
        format!("\n<!-- end of {name} -->"),
    );
    let (before, rest) = page.split_once(&begin).unwrap();
    let (held, after) = rest.split_once(&end).unwrap();
    if std::env::var_os("CYPHERON_WRITE_DOCS").is_some() {
        fs::write(&path, [before, &begin, seen, &end, after].concat()).unwrap();
        return;
    }
    let differs = held
        .lines()
        .zip(seen.lines())
        .find(|(held, seen)| held != seen);
    assert!(
        held == seen,
        "docs/framing.md is not current, first in {differs:?}: run \
         CYPHERON_WRITE_DOCS=1 cargo test --all-features --test edge framing"
    );
}
