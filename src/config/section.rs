//! One section: each key that was written is tried alone, so that every error
//! is reported, not only the first.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::layers::place;
use super::schema::{self, Keys};
use crate::setting::Invalid;

/// What `T` makes of a section. What it cannot make anything of is reported and
/// removed from `written`; `None` when it then lacks what has no default.
///
/// `shown` is the section's name in errors. A key of `variables` was set by the
/// environment, where everything is a text: it may stand for a number.
pub(super) fn read<T: DeserializeOwned>(
    shown: &str,
    keys: &Keys,
    written: &mut Table,
    variables: &BTreeMap<String, String>,
    found: &mut Vec<Invalid>,
) -> Option<T> {
    let before = found.len();
    let mut probe = Probe::<T> {
        shown,
        base: &keys.written,
        variables,
        found,
        read: std::marker::PhantomData,
    };
    probe.sift(&mut Vec::new(), &keys.all, written);
    match Value::Table(written.clone()).try_into() {
        Ok(section) => Some(section),
        // What lacks a key because that was wrong has been reported.
        Err(_) if found.len() > before => None,
        Err(error) => {
            found.push(Invalid::new(shown, error.message()));
            None
        }
    }
}

struct Probe<'a, T> {
    shown: &'a str,
    /// A section that is complete, for a key to be tried in.
    base: &'a Table,
    variables: &'a BTreeMap<String, String>,
    found: &'a mut Vec<Invalid>,
    read: std::marker::PhantomData<T>,
}

impl<T: DeserializeOwned> Probe<'_, T> {
    /// Removes from `written`, which lies `at` this path in the section, what
    /// is unknown or wrong.
    fn sift(&mut self, at: &mut Vec<String>, known: &Table, written: &mut Table) {
        let keys: Vec<String> = written.keys().cloned().collect();
        for key in keys {
            at.push(key.clone());
            let shown = format!("{}.{}", self.shown, at.join("."));
            let problem = match (known.get(&key), written.get_mut(&key)) {
                (None, _) => Some(unknown(&key, known)),
                (Some(Value::Table(known)), Some(Value::Table(inner)))
                    if !schema::is_open(&key) =>
                {
                    self.sift(at, known, inner);
                    None
                }
                (Some(example), Some(value)) => {
                    if self.variables.contains_key(&shown) {
                        self.take_for_a_number(at, value);
                    }
                    self.refused(at, value)
                        .map(|why| format!("{why}; for example: {key} = {example}"))
                }
                (Some(_), None) => None,
            };
            if let Some(problem) = problem {
                self.found.push(Invalid::new(shown, problem));
                written.remove(&key);
            }
            at.pop();
        }
    }

    /// Where only the number that a text spells will do.
    fn take_for_a_number(&self, at: &[String], value: &mut Value) {
        let Some(text) = value.as_str() else { return };
        let Ok(number) = text.parse::<i64>() else {
            return;
        };
        let number = Value::Integer(number);
        if self.refused(at, value).is_some() && self.refused(at, &number).is_none() {
            *value = number;
        }
    }

    /// Why `T` does not take `value` at this path.
    fn refused(&self, at: &[String], value: &Value) -> Option<String> {
        let mut section = self.base.clone();
        place(&mut section, at, value.clone());
        let read: Result<T, _> = Value::Table(section).try_into();
        read.err().map(|error| error.message().trim().to_owned())
    }
}

fn unknown(key: &str, known: &Table) -> String {
    if let Some(meant) = schema::nearest(key, known.keys().map(String::as_str)) {
        return format!("unknown; did you mean `{meant}`?");
    }
    let here: Vec<&str> = known.keys().map(String::as_str).collect();
    let here = here.join(", ");
    let paths = schema::paths();
    let elsewhere = |path: &&String| path.rsplit('.').next() == Some(key);
    match paths.iter().find(elsewhere) {
        Some(path) => format!("unknown; `{path}` is a key, the keys here are {here}"),
        None => format!("unknown; the keys here are {here}"),
    }
}
