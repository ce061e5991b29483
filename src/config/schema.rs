//! What may be written: `config/reference.toml` is the schema.
//!
//! A line `#key = value` there is a key without a default, with an example; as
//! a key it counts all the same. `#[section]` is one that is not there by default.

use std::sync::LazyLock;

use toml::{Table, Value};

/// Every key at its default, with a line on each.
pub const REFERENCE: &str = include_str!("../../config/reference.toml");

/// Their keys are names the operator chooses.
const OPEN_TABLES: &[&str] = &["permissions"];

/// The keys of one section.
#[derive(Clone, Debug, Default)]
pub(super) struct Keys {
    /// Each with its default or an example.
    pub(super) all: Table,
    /// Those that have a default, and those that an entry cannot do without.
    pub(super) written: Table,
}

static SCHEMA: LazyLock<(Table, Table)> =
    LazyLock::new(|| (parsed(&uncommented(REFERENCE)), parsed(REFERENCE)));

/// The keys of a section, or of any of those that operators name: `upstreams`,
/// `routes`, `decisions`.
pub(super) fn keys(section: &str) -> Option<Keys> {
    let (all, written) = &*SCHEMA;
    Some(Keys {
        all: entry(section, all)?.clone(),
        written: entry(section, written).cloned().unwrap_or_default(),
    })
}

/// The path of every key, dotted; `*` stands for a name.
pub(super) fn paths() -> Vec<String> {
    let mut paths = Vec::new();
    for section in SCHEMA.0.keys() {
        let Some(keys) = keys(section) else { continue };
        let root = match section.as_str() {
            "upstreams" | "routes" | "decisions" => format!("{section}.*"),
            _ => section.clone(),
        };
        collect(&root, &keys.all, &mut paths);
    }
    paths
}

/// The name of every section.
pub(super) fn sections() -> impl Iterator<Item = &'static str> {
    SCHEMA.0.keys().map(String::as_str)
}

pub(super) fn is_open(key: &str) -> bool {
    OPEN_TABLES.contains(&key)
}

/// The closest of `known`, when one is close enough to be meant.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(word, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

fn entry<'a>(section: &str, table: &'a Table) -> Option<&'a Table> {
    match table.get(section)? {
        Value::Array(routes) => routes.first()?.as_table(),
        Value::Table(named) if matches!(section, "upstreams" | "decisions") => {
            named.values().next()?.as_table()
        }
        Value::Table(section) => Some(section),
        _ => None,
    }
}

fn collect(at: &str, table: &Table, paths: &mut Vec<String>) {
    for (key, value) in table {
        let path = format!("{at}.{key}");
        match value {
            Value::Table(inner) if !is_open(key) => collect(&path, inner, paths),
            _ => paths.push(path),
        }
    }
}

fn uncommented(reference: &str) -> String {
    let is_key =
        |line: &str| line.starts_with(|first: char| first.is_ascii_lowercase() || first == '[');
    reference
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(key) if is_key(key) => key,
            _ => line,
        })
        .collect::<Vec<_>>()
        .join("\n")
}

/// The reference is part of the program, and a test reads it: nothing that a
/// user does can make it fail.
fn parsed(text: &str) -> Table {
    text.parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_is_toml_with_and_without_the_keys_that_are_unset() {
        assert_eq!(REFERENCE.parse::<Table>().err(), None);
        assert_eq!(uncommented(REFERENCE).parse::<Table>().err(), None);
    }

    #[test]
    fn every_line_of_the_reference_is_explained() {
        let mut explained = false;
        for line in REFERENCE.lines() {
            let is_key = line.trim_start_matches('#').contains(" = ") && !line.starts_with("# ");
            assert!(!is_key || explained, "no comment before: {line}");
            explained = line.starts_with("# ");
        }
    }

    #[test]
    fn the_nearest_name_is_near() {
        let known = ["listen", "workers", "idle_timeout"];
        assert_eq!(nearest("lisen", known), Some("listen"));
        assert_eq!(nearest("idle-timeout", known), Some("idle_timeout"));
        assert_eq!(nearest("sink", known), None);
    }
}
