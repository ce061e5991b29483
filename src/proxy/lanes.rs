//! The upstreams, as one worker knows them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use foldhash::fast::RandomState;
use http_body::Body;

use super::BoxError;
use super::pool::Lane;
use super::upstream::Upstreams;

/// A worker's lanes, by the name of the upstream. They follow the upstreams
/// when those are swapped; the lane of an unchanged one keeps its connections.
pub(super) struct Lanes<B> {
    source: Arc<ArcSwap<Upstreams>>,
    current: RefCell<Current<B>>,
}

struct Current<B> {
    upstreams: Arc<Upstreams>,
    lanes: HashMap<Box<str>, Rc<Lane<B>>, RandomState>,
}

impl<B> Lanes<B>
where
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<BoxError>,
{
    pub(super) fn new(source: Arc<ArcSwap<Upstreams>>) -> Self {
        let upstreams = source.load_full();
        let lanes = opened(&upstreams, &HashMap::default());
        Self {
            source,
            current: RefCell::new(Current { upstreams, lanes }),
        }
    }

    pub(super) fn to(&self, upstream: &str) -> Option<Rc<Lane<B>>> {
        let upstreams = self.source.load();
        let current = &mut *self.current.borrow_mut();
        if !Arc::ptr_eq(&upstreams, &current.upstreams) {
            current.lanes = opened(&upstreams, &current.lanes);
            current.upstreams = Arc::clone(&upstreams);
        }
        current.lanes.get(upstream).cloned()
    }
}

fn opened<B>(
    upstreams: &Upstreams,
    before: &HashMap<Box<str>, Rc<Lane<B>>, RandomState>,
) -> HashMap<Box<str>, Rc<Lane<B>>, RandomState>
where
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<BoxError>,
{
    upstreams
        .iter()
        .map(|(name, upstream)| {
            let unchanged = before.get(name).filter(|lane| lane.upstream == *upstream);
            let opened = || Rc::new(Lane::new(name, Arc::clone(upstream)));
            let lane = unchanged.map_or_else(opened, Rc::clone);
            (name.into(), lane)
        })
        .collect()
}
