//! All routes, ready to be matched.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::path::Reading;
use super::{Host, Route, path};
use crate::refusal::Refusal;

/// All routes of a deployment. Matching takes one look-up per segment of the
/// path, as far as any route goes, and allocates nothing on an ordinary path.
#[derive(Clone, Debug, Default)]
pub struct RouteTable {
    by_host: HashMap<Box<[u8]>, Prefixes, RandomState>,
    any_host: Prefixes,
}

/// Two routes match the same requests, or have the same name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the routes `{first}` and `{second}` have the same {what}")]
pub struct Conflict {
    /// `name`, or `host and path`.
    pub what: &'static str,
    pub first: String,
    pub second: String,
}

impl RouteTable {
    /// Fails on the first two routes that cannot be told apart.
    pub fn new(routes: impl IntoIterator<Item = Route>) -> Result<Self, Conflict> {
        let mut table = Self::default();
        for route in routes {
            table.insert(&Arc::new(route))?;
        }
        Ok(table)
    }

    fn insert(&mut self, route: &Arc<Route>) -> Result<(), Conflict> {
        let conflict = |what, first: &Route| Conflict {
            what,
            first: first.name.to_string(),
            second: route.name.to_string(),
        };
        if let Some(first) = self.routes().find(|first| first.name == route.name) {
            return Err(conflict("name", first));
        }
        let prefixes = match &route.host {
            Some(host) => self.by_host.entry(host.as_bytes().into()).or_default(),
            None => &mut self.any_host,
        };
        match prefixes.insert(route) {
            Some(first) => Err(conflict("host and path", &first)),
            None => Ok(()),
        }
    }

    /// The route of a request, or why it has none: [`Refusal::AmbiguousPath`]
    /// or [`Refusal::NoRoute`].
    pub fn find(&self, host: Option<&Host<'_>>, path: &str) -> Result<&Arc<Route>, Refusal> {
        let reading = Reading::of(path);
        if reading == Reading::Ambiguous {
            return Err(Refusal::AmbiguousPath);
        }
        let of_host = host.and_then(|host| self.by_host.get(host.as_bytes()));
        let literal = self.longest(of_host, |prefixes| prefixes.literal(path.as_bytes()));
        if reading == Reading::TwoWays {
            let plain_path = path::plain(path);
            if *plain_path != *path.as_bytes() {
                let plain = self.longest(of_host, |prefixes| prefixes.plain(&plain_path));
                if !same(literal, plain) {
                    return Err(Refusal::AmbiguousPath);
                }
            }
        }
        literal.ok_or(Refusal::NoRoute)
    }

    fn longest<'a>(
        &'a self,
        of_host: Option<&'a Prefixes>,
        find: impl Fn(&'a Prefixes) -> Option<&'a Arc<Route>>,
    ) -> Option<&'a Arc<Route>> {
        of_host.and_then(&find).or_else(|| find(&self.any_host))
    }

    /// In no particular order.
    pub fn routes(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.by_host
            .values()
            .chain([&self.any_host])
            .flat_map(|prefixes| prefixes.literal.values())
    }
}

fn same(one: Option<&Arc<Route>>, other: Option<&Arc<Route>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (one, other) => one.is_none() && other.is_none(),
    }
}

/// The routes of one host, by path. The root's path is empty here, so that
/// every path begins with it.
#[derive(Clone, Debug, Default)]
struct Prefixes {
    literal: ByPrefix,
    /// By [`path::plain`] of the same.
    plain: ByPrefix,
    /// Segments of the longest path.
    deepest: usize,
}

type ByPrefix = HashMap<Box<[u8]>, Arc<Route>, RandomState>;

impl Prefixes {
    /// The route that was there before, when there was one.
    fn insert(&mut self, route: &Arc<Route>) -> Option<Arc<Route>> {
        let prefix = route.path_prefix.trim_end_matches('/');
        let segments = prefix.matches('/').count();
        self.deepest = self.deepest.max(segments);
        let plain = path::plain(prefix).into();
        let before = self.plain.insert(plain, Arc::clone(route));
        self.literal
            .insert(prefix.as_bytes().into(), Arc::clone(route))
            .or(before)
    }

    fn literal(&self, path: &[u8]) -> Option<&Arc<Route>> {
        longest_prefix(&self.literal, self.deepest, path)
    }

    fn plain(&self, path: &[u8]) -> Option<&Arc<Route>> {
        longest_prefix(&self.plain, self.deepest, path)
    }
}

fn longest_prefix<'a>(routes: &'a ByPrefix, deepest: usize, path: &[u8]) -> Option<&'a Arc<Route>> {
    let boundaries = path
        .iter()
        .enumerate()
        .filter_map(|(at, &byte)| (byte == b'/').then_some(at))
        .chain([path.len()]);
    // why: the first boundary is the root's, before any segment.
    boundaries
        .take(deepest + 1)
        .filter_map(|at| routes.get(&path[..at]))
        .last()
}
