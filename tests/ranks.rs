//! The law of the house: a module uses only modules of a lower rank.
//!
//! Every `crate::`, `super::` and `self::` path of every source file counts, in
//! declarations, expressions, types and macros alike, test code included.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// Lowest first. Modules of one row do not know each other. The parts of
/// `usage` have ranks of their own; `usage` alone is the file that lists them.
const RANKS: &[&[&str]] = &[
    &[
        "cause",
        "clock",
        "inherited",
        "pace",
        "problem",
        "secret",
        "setting",
        "socket_file",
        "sqlite",
        "subscriber",
        "threads",
    ],
    &["telemetry"],
    &["accepting", "crypto", "permission", "refusal", "token"],
    &["key", "route"],
    &[
        "assertion",
        "id_token",
        "limiter",
        "repository",
        "usage::client",
        "usage::event",
    ],
    &["usage::recorder", "usage::refusals"],
    &["database", "directory", "usage::journal"],
    &["usage::config", "usage::sink"],
    &["usage::report", "usage::shipper", "usage::totals"],
    &["context"],
    &["tls"],
    &["decision", "middleware", "proxy", "sample", "server"],
    &["usage"],
    &["admin"],
    &["config"],
    &["app"],
    &["cli"],
    &["main"],
];

#[test]
fn a_module_uses_only_modules_of_a_lower_rank() {
    let violations: Vec<Violation> = sources().iter().flat_map(Source::violations).collect();
    let report: Vec<String> = violations.iter().map(Violation::to_string).collect();
    assert!(report.is_empty(), "\n{}\n", report.join("\n"));
}

#[test]
fn the_ranks_list_exactly_the_modules_that_exist() {
    let ranked: BTreeSet<String> = RANKS.concat().iter().map(ToString::to_string).collect();
    let existing: BTreeSet<String> = sources()
        .iter()
        .filter(|source| source.module != ["lib"])
        .map(|source| ranked_name(&source.module))
        .collect();
    assert_eq!(ranked, existing);
}

#[test]
fn a_violation_is_found_wherever_it_hides() {
    for (module, code, used) in [
        ("token", "use crate::key::ApiKey;", "key"),
        ("token", "use crate::{clock::Now, key};", "key"),
        ("token::format", "use super::super::key;", "key"),
        ("token", "fn f() -> crate::key::ApiKey { todo!() }", "key"),
        ("token", "fn f() { println!(\"{}\", crate::key::X) }", "key"),
        ("token", "mod tests { use super::super::key; }", "key"),
        ("key", "use crate::route::Route;", "route"),
        ("key", "use crate::elsewhere::Thing;", "elsewhere"),
        (
            "usage::event",
            "use super::recorder::Full;",
            "usage::recorder",
        ),
        (
            "usage::event",
            "use crate::usage::{recorder::Full};",
            "usage::recorder",
        ),
        ("main", "use cypheron_edge::elsewhere;", "elsewhere"),
    ] {
        let found = snippet(module, code).violations();
        assert_eq!(found.len(), 1, "{module}: {code}");
        assert_eq!(found[0].used, used, "{module}: {code}");
    }
}

#[test]
fn what_is_allowed_is_not_reported() {
    for (module, code) in [
        ("key", "use crate::{clock, token::KeyHash};"),
        (
            "key::record",
            "use super::evaluate; mod tests { use super::*; }",
        ),
        ("key", "/// See [`crate::admin`].\nfn f() {}"),
        ("usage::recorder", "use super::event::UsageEvent;"),
        ("config", "use crate::usage::Config;"),
        ("main", "use cypheron_edge::cli;"),
    ] {
        assert!(
            snippet(module, code).violations().is_empty(),
            "{module}: {code}"
        );
    }
}

struct Source {
    path: PathBuf,
    /// `["usage", "journal", "frame"]`; `["lib"]` and `["main"]` for the roots.
    module: Vec<String>,
    tokens: TokenStream,
}

struct Violation {
    path: PathBuf,
    line: usize,
    by: String,
    used: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            path,
            line,
            by,
            used,
        } = self;
        let path = path.display();
        match rank(used) {
            Some(_) => write!(
                f,
                "{path}:{line}: `{by}` uses `{used}`, which is not of a lower rank"
            ),
            None => write!(f, "{path}:{line}: `{by}` uses `{used}`, which has no rank"),
        }
    }
}

impl Source {
    fn violations(&self) -> Vec<Violation> {
        if self.module == ["lib"] {
            return Vec::new();
        }
        let by = ranked_name(&self.module);
        let mut uses = Uses::default();
        uses.collect(&self.module, self.tokens.clone());
        uses.found
            .into_iter()
            .filter(|(used, _)| *used != by)
            .filter(|(used, _)| rank(used).is_none() || rank(used) >= rank(&by))
            .map(|(used, line)| Violation {
                path: self.path.clone(),
                line,
                by: by.clone(),
                used,
            })
            .collect()
    }
}

/// Every path from the crate's root that the tokens name, cut to what has a rank.
#[derive(Default)]
struct Uses {
    found: Vec<(String, usize)>,
}

impl Uses {
    /// `module` is where the tokens are: an inline `mod` is one deeper.
    fn collect(&mut self, module: &[String], tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            let rest = &tokens[at..];
            if let Some((name, body)) = inline_module(rest) {
                let inner = [module, &[name]].concat();
                self.collect(&inner, body);
                at += 3;
            } else if let Some((base, length)) = path_start(module, rest) {
                self.follow(&base, &rest[length..]);
                at += length;
            } else {
                if let TokenTree::Group(group) = &tokens[at] {
                    self.collect(module, group.stream());
                }
                at += 1;
            }
        }
    }

    /// Goes on along a path, into each branch of a group.
    fn follow(&mut self, path: &[String], rest: &[TokenTree]) {
        match rest.first() {
            Some(TokenTree::Ident(name)) if !is_named(path) => {
                let path = [path, &[name.to_string()]].concat();
                if is_colons(&rest[1..]) && !is_named(&path) {
                    self.follow(&path, &rest[3..]);
                } else {
                    self.name(&path, name.span().start().line);
                }
            }
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                let branches: Vec<TokenTree> = group.stream().into_iter().collect();
                for branch in branches.split(|token| is_punct(token, ',')) {
                    self.follow(path, branch);
                }
            }
            Some(token) => self.name(path, token.span().start().line),
            None => {}
        }
    }

    fn name(&mut self, path: &[String], line: usize) {
        if !path.is_empty() {
            self.found.push((ranked_name(path), line));
        }
    }
}

/// Whether the path is long enough to tell what has a rank.
fn is_named(path: &[String]) -> bool {
    path.len()
        >= if path.first().is_some_and(|root| root == "usage") {
            2
        } else {
            1
        }
}

fn inline_module(tokens: &[TokenTree]) -> Option<(String, TokenStream)> {
    match tokens {
        [
            TokenTree::Ident(word),
            TokenTree::Ident(name),
            TokenTree::Group(body),
            ..,
        ] if word == "mod" && body.delimiter() == Delimiter::Brace => {
            Some((name.to_string(), body.stream()))
        }
        _ => None,
    }
}

/// Where a path that begins here starts from, and the tokens up to there.
fn path_start(module: &[String], tokens: &[TokenTree]) -> Option<(Vec<String>, usize)> {
    let TokenTree::Ident(word) = tokens.first()? else {
        return None;
    };
    if !is_colons(&tokens[1..]) {
        return None;
    }
    let mut length = 3;
    let mut base = module.to_vec();
    match word.to_string().as_str() {
        "crate" | "cypheron_edge" => base.clear(),
        "self" => {}
        "super" => {
            base.pop();
            while matches!(tokens.get(length), Some(TokenTree::Ident(word)) if word == "super")
                && is_colons(&tokens[length + 1..])
            {
                base.pop();
                length += 3;
            }
        }
        _ => return None,
    }
    Some((base, length))
}

fn is_colons(tokens: &[TokenTree]) -> bool {
    matches!(tokens, [first, second, ..] if is_punct(first, ':') && is_punct(second, ':'))
}

fn is_punct(token: &TokenTree, wanted: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == wanted)
}

/// The part of a module's path that has a rank. What `usage` itself names,
/// `usage::Config` say, is of `usage`.
fn ranked_name(path: &[String]) -> String {
    let is_module = |name: &String| name.starts_with(|first: char| first.is_lowercase());
    match path {
        [root, part, ..] if root == "usage" && is_module(part) => format!("usage::{part}"),
        _ => path[0].clone(),
    }
}

fn rank(module: &str) -> Option<usize> {
    RANKS.iter().position(|row| row.contains(&module))
}

fn snippet(module: &str, code: &str) -> Source {
    Source {
        path: PathBuf::from("snippet.rs"),
        module: module.split("::").map(str::to_owned).collect(),
        tokens: code.parse().unwrap(),
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    read_into(&mut found, root, &root.join("src"));
    assert!(found.len() > 20, "the sources are somewhere else");
    found
}

fn read_into(found: &mut Vec<Source>, root: &Path, directory: &Path) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_into(found, root, &path);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(read(root, &path));
        }
    }
}

fn read(root: &Path, path: &Path) -> Source {
    let relative = path.strip_prefix(root).unwrap();
    let mut module: Vec<String> = relative
        .with_extension("")
        .iter()
        .skip(1)
        .map(|part| part.to_string_lossy().into_owned())
        .collect();
    if module.last().is_some_and(|last| last == "mod") {
        module.pop();
    }
    let text = fs::read_to_string(path).unwrap();
    Source {
        path: relative.to_owned(),
        module,
        tokens: text
            .parse()
            .unwrap_or_else(|error| panic!("{}: {error}", relative.display())),
    }
}
