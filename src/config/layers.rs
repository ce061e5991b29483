//! What was written: the file, then the environment's overrides over it.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::environment::{self, Environment};
use super::schema;
use crate::setting::Invalid;

/// `CYPHERON_EDGE__SERVER__LISTEN` overrides `server.listen`. With two
/// underscores, because Kubernetes puts `CYPHERON_EDGE_PORT` and the like into
/// every pod beside a service of this name.
const PREFIX: &str = "CYPHERON_EDGE__";

/// The settings that were written, whether or not they can be used.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) table: Table,
    /// Which variable set a key, for those that one did.
    pub(super) variables: BTreeMap<String, String>,
}

impl Written {
    pub(super) const fn new(table: Table) -> Self {
        Self {
            table,
            variables: BTreeMap::new(),
        }
    }

    /// Lays every override of the environment over what is there.
    pub(super) fn override_from(
        &mut self,
        environment: &dyn Environment,
        found: &mut Vec<Invalid>,
    ) {
        let mut names: Vec<String> = environment
            .names()
            .iter()
            .map(|name| name.to_string_lossy().into_owned())
            .filter(|name| name.starts_with(PREFIX))
            .collect();
        // A whole table comes before the keys in it.
        names.sort_unstable();
        for name in names {
            let Some(text) = environment::text(environment, &name, found) else {
                continue;
            };
            if let Err(problem) = self.override_one(&name, &text) {
                found.push(Invalid::new(name, problem));
            }
        }
    }

    /// Sets one key, as if it had been written; `variable` says by what.
    pub(super) fn set(&mut self, path: &[String], value: Value, variable: &str) {
        self.variables.insert(path.join("."), variable.to_owned());
        place(&mut self.table, path, value);
    }

    /// The value of a key, when it was written.
    pub(super) fn get(&self, path: &[&str]) -> Option<&Value> {
        let (first, rest) = path.split_first()?;
        rest.iter()
            .try_fold(self.table.get(*first)?, |value, key| value.get(key))
    }

    fn override_one(&mut self, name: &str, text: &str) -> Result<(), String> {
        let path = spelled(&name[PREFIX.len()..]);
        let keys = path
            .first()
            .and_then(|section| schema::keys(section))
            .ok_or_else(|| unknown(&path))?;
        match path[0].as_str() {
            "routes" if path.len() == 1 => {
                let routes = text
                    .parse()
                    .map_err(|_| "not a TOML array of tables".to_owned())?;
                self.set(&path, routes, name);
                Ok(())
            }
            "routes" => self.override_route(&path, &keys.all, name, text),
            "upstreams" | "decisions" if path.len() > 1 => {
                let path = [&path[..1], &[self.named(&path[0], &path[1])], &path[2..]].concat();
                let value = value_at(&keys.all, &path[2..], text).ok_or_else(|| unknown(&path))?;
                self.set(&path, value, name);
                Ok(())
            }
            _ => {
                let value = value_at(&keys.all, &path[1..], text).ok_or_else(|| unknown(&path))?;
                self.set(&path, value, name);
                Ok(())
            }
        }
    }

    fn override_route(
        &mut self,
        path: &[String],
        keys: &Table,
        variable: &str,
        text: &str,
    ) -> Result<(), String> {
        let value = value_at(keys, &path[2..], text).ok_or_else(|| unknown(path))?;
        let route = self
            .table
            .get_mut("routes")
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
            .filter_map(Value::as_table_mut)
            .find(|route| {
                let named = route.get("name").and_then(Value::as_str);
                named.is_some_and(|named| folded(named) == path[1])
            })
            .ok_or_else(|| format!("no route is named `{}`", path[1]))?;
        let name = route.get("name").and_then(Value::as_str);
        let shown = [
            &["routes".to_owned(), name.unwrap_or_default().to_owned()],
            &path[2..],
        ];
        self.variables
            .insert(shown.concat().join("."), variable.to_owned());
        place(route, &path[2..], value);
        Ok(())
    }

    /// The upstream, say, that a variable means: one that is written, or a new one.
    fn named(&self, section: &str, name: &str) -> String {
        self.table
            .get(section)
            .and_then(Value::as_table)
            .and_then(|written| written.keys().find(|known| folded(known) == name))
            .map_or_else(|| name.to_owned(), Clone::clone)
    }
}

/// The path of a key: a variable is all capitals, a key is none, and what an
/// operator names in an open table is a method.
fn spelled(variable: &str) -> Vec<String> {
    let mut path: Vec<String> = variable.split("__").map(str::to_lowercase).collect();
    if let [.., table, method] = &mut path[..]
        && schema::is_open(table)
    {
        method.make_ascii_uppercase();
    }
    path
}

/// How a variable spells a name: it has no `-` and no capitals to tell.
fn folded(name: &str) -> String {
    name.to_lowercase().replace('-', "_")
}

/// Puts a value where a path leads, making the tables on the way.
pub(super) fn place(table: &mut Table, path: &[String], value: Value) {
    match path {
        [] => {}
        [key] => {
            table.insert(key.clone(), value);
        }
        [key, rest @ ..] => {
            let inner = table
                .entry(key.clone())
                .or_insert_with(|| Value::Table(Table::new()));
            if !inner.is_table() {
                *inner = Value::Table(Table::new());
            }
            if let Value::Table(inner) = inner {
                place(inner, rest, value);
            }
        }
    }
}

/// Reads `text` as what the reference has at `path`; `None` when there is no
/// such key.
fn value_at(keys: &Table, path: &[String], text: &str) -> Option<Value> {
    match path {
        [] => Some(typed(text, &Value::Table(Table::new()))),
        [key] => Some(typed(text, keys.get(key)?)),
        [key, rest @ ..] if schema::is_open(key) => {
            let table = keys.get(key)?.as_table()?;
            (rest.len() == 1 && !table.is_empty()).then(|| Value::String(text.to_owned()))
        }
        [key, rest @ ..] => value_at(keys.get(key)?.as_table()?, rest, text),
    }
}

/// A text that is not of the type the reference shows stays a text: the
/// section that it is for says what it would take.
fn typed(text: &str, like: &Value) -> Value {
    let as_text = || Value::String(text.to_owned());
    match like {
        Value::String(_) => as_text(),
        Value::Array(_) if !text.trim_start().starts_with('[') => Value::Array(
            text.split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty())
                .map(|item| Value::String(item.to_owned()))
                .collect(),
        ),
        _ => text.trim().parse().unwrap_or_else(|_| as_text()),
    }
}

fn unknown(path: &[String]) -> String {
    let spelled = |path: &str| format!("{PREFIX}{}", path.replace('.', "__").to_uppercase());
    let known = schema::paths();
    let meant = schema::nearest(&path.join("."), known.iter().map(String::as_str));
    match meant {
        Some(meant) => format!("no setting has this name; did you mean {}?", spelled(meant)),
        None => format!(
            "no setting has this name: {} is how one is spelled",
            spelled("server.listen")
        ),
    }
}
