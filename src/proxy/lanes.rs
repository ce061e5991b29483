//! The upstreams, as one worker knows them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::{ArcSwap, Cache};
use bytes::Bytes;
use foldhash::fast::RandomState;
use http_body::Body;

use super::pool::{Counters, Engaged, Lane};
use super::upstream::{Picker, RetryBudget, Set, Upstream, Upstreams, candidates};
use super::{BoxError, Failure};
use crate::clock::Clock;

/// A worker's lanes, by the name of the upstream. They follow the upstreams
/// when those are swapped; those of an unchanged one keep their connections.
pub(super) struct Lanes<B> {
    clock: Clock,
    current: RefCell<Current<B>>,
}

struct Current<B> {
    source: Cache<Arc<ArcSwap<Upstreams>>, Arc<Upstreams>>,
    /// What the groups are of.
    upstreams: Arc<Upstreams>,
    groups: Groups<B>,
}

type Groups<B> = HashMap<Box<str>, Rc<Group<B>>, RandomState>;

/// The lanes to all targets of one upstream.
pub(super) struct Group<B> {
    pub(super) upstream: Arc<Upstream>,
    lanes: Box<[Rc<Lane<B>>]>,
    picker: Picker,
    budget: RetryBudget,
    clock: Clock,
}

impl<B> Lanes<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    pub(super) fn new(source: Arc<ArcSwap<Upstreams>>, clock: Clock) -> Self {
        let upstreams = source.load_full();
        let groups = opened(&upstreams, &HashMap::default(), &clock);
        let current = Current {
            source: Cache::new(source),
            upstreams,
            groups,
        };
        Self {
            clock,
            current: RefCell::new(current),
        }
    }

    /// The lane that the next request to an upstream takes, and whether it is
    /// to wait there for a connection.
    pub(super) fn engage(&self, upstream: &str) -> Result<(Engaged<B>, bool), Failure> {
        let current = &mut *self.current.borrow_mut();
        let upstreams = current.source.load();
        if !Arc::ptr_eq(upstreams, &current.upstreams) {
            current.groups = opened(upstreams, &current.groups, &self.clock);
            current.upstreams = Arc::clone(upstreams);
        }
        let group = current.groups.get(upstream).ok_or(Failure::NoUpstream)?;
        let mut permits = group.upstream.admit()?;
        let lane = group.first();
        let waits = !permits.take_connection(lane.target());
        Ok((Engaged::new(lane, permits), waits))
    }
}

impl<B> Group<B> {
    fn first(&self) -> Rc<Lane<B>> {
        self.budget.deposit();
        if let [only] = &*self.lanes {
            return Rc::clone(only);
        }
        let among = self.candidates(Set::EMPTY).unwrap_or_else(|| self.all());
        let place = self.pick(among);
        self.picker.pass_on(place);
        Rc::clone(&self.lanes[place])
    }

    /// A target for a request that none of `tried` took a byte of, when there
    /// is one more and the budget allows it.
    pub(super) fn another(&self, tried: Set) -> Option<Rc<Lane<B>>> {
        let among = self.candidates(tried)?;
        self.grants_retry()
            .then(|| Rc::clone(&self.lanes[self.pick(among)]))
    }

    /// Whether one request more may be sent a second time.
    pub(super) fn grants_retry(&self) -> bool {
        self.budget.withdraw(self.clock.tick())
    }

    fn all(&self) -> Set {
        Set::of(0..self.lanes.len())
    }

    fn candidates(&self, tried: Set) -> Option<Set> {
        let open = self.upstream.open_targets(self.clock.tick());
        candidates(self.all(), open, tried)
    }

    fn pick(&self, among: Set) -> usize {
        let pending = |place: usize| self.lanes[place].pending();
        self.picker.pick(among, pending)
    }
}

impl<B> Lane<B> {
    /// Its target did not answer a request, or not to its end.
    pub(super) fn target_failed(&self) {
        if let Some(group) = self.group.upgrade() {
            let now = group.clock.tick();
            self.upstream.target_failed(self.place, now);
        }
    }
}

fn opened<B>(upstreams: &Upstreams, before: &Groups<B>, clock: &Clock) -> Groups<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    upstreams
        .iter()
        .map(|(name, upstream)| {
            let unchanged = before
                .get(name)
                .filter(|group| Arc::ptr_eq(&group.upstream, upstream));
            let group = unchanged.map_or_else(|| group(upstream, clock), Rc::clone);
            (name.into(), group)
        })
        .collect()
}

fn group<B>(upstream: &Arc<Upstream>, clock: &Clock) -> Rc<Group<B>>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    let counters = Rc::new(Counters::of(&upstream.name));
    // why: workers that begin elsewhere do not all ask the same target first;
    // without chance they do, which is no harm.
    let seed = getrandom::u64().unwrap_or_default();
    Rc::new_cyclic(|group| {
        let lane = |place| {
            let lane = Lane::new(
                Arc::clone(upstream),
                place,
                Rc::clone(&counters),
                group.clone(),
            );
            Rc::new(lane)
        };
        Group {
            upstream: Arc::clone(upstream),
            lanes: (0..upstream.targets.len()).map(lane).collect(),
            picker: Picker::new(upstream.config.balance, seed),
            budget: RetryBudget::new(upstream.config.retry_percent, clock.tick()),
            clock: clock.clone(),
        }
    })
}
