//! What is counted and timed of every request, on one worker.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use metrics::{Counter, Histogram, counter, histogram};

use crate::refusal::Refusal;
use crate::telemetry::metric;

/// The label of what has no route.
const NO_ROUTE: &str = "none";

/// The counters of one worker, by route: looked up by the route's name once,
/// then only incremented.
#[derive(Debug, Default)]
pub(super) struct Meters {
    routes: RefCell<HashMap<Arc<str>, OfRoute, RandomState>>,
    unrouted: RefCell<Option<OfRoute>>,
}

#[derive(Debug)]
struct OfRoute {
    name: Arc<str>,
    admitted: Counter,
    /// Most reasons never come up.
    refused: HashMap<Refusal, Counter, RandomState>,
    seconds: Histogram,
}

impl Meters {
    /// A response's head is known, `after` the request was received.
    pub(super) fn answered(
        &self,
        route: Option<&Arc<str>>,
        refusal: Option<Refusal>,
        after: Duration,
    ) {
        let Some(route) = route else {
            let mut unrouted = self.unrouted.borrow_mut();
            let unrouted = unrouted.get_or_insert_with(|| OfRoute::new(NO_ROUTE.into()));
            return unrouted.answered(refusal, after);
        };
        let mut routes = self.routes.borrow_mut();
        if let Some(of_route) = routes.get_mut(&**route) {
            return of_route.answered(refusal, after);
        }
        routes
            .entry(Arc::clone(route))
            .or_insert_with(|| OfRoute::new(Arc::clone(route)))
            .answered(refusal, after);
    }
}

impl OfRoute {
    fn new(name: Arc<str>) -> Self {
        Self {
            admitted: requests(&name, "admitted"),
            refused: HashMap::default(),
            seconds: histogram!(metric::REQUEST_SECONDS, "route" => name.to_string()),
            name,
        }
    }

    fn answered(&mut self, refusal: Option<Refusal>, after: Duration) {
        match refusal {
            None => self.admitted.increment(1),
            Some(refusal) => self
                .refused
                .entry(refusal)
                .or_insert_with(|| requests(&self.name, refusal.reason()))
                .increment(1),
        }
        self.seconds.record(after.as_secs_f64());
    }
}

fn requests(route: &str, outcome: &'static str) -> Counter {
    counter!(metric::REQUESTS, "route" => route.to_owned(), "outcome" => outcome)
}
