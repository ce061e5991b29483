//! How much an upstream is asked to do at once, over all workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::target::Target;
use super::{Upstream, UpstreamConfig};
use crate::proxy::Failure;

/// There are some: most upstreams have none.
#[derive(Debug)]
pub(super) struct Limits {
    /// One permit for each request: the circuit breaker.
    requests: Option<Arc<Semaphore>>,
    /// One for each tunnel.
    tunnels: Option<Arc<Semaphore>>,
    /// How many requests wait for a connection.
    waiting: AtomicUsize,
    max_waiting: usize,
    max_wait: Duration,
}

impl Limits {
    pub(super) fn of(config: &UpstreamConfig) -> Option<Self> {
        let limited = [
            config.max_requests,
            config.max_tunnels,
            config.max_connections,
        ];
        limited.iter().any(Option::is_some).then(|| Self {
            tunnels: config.max_tunnels.map(|most| semaphore(most.get())),
            requests: config.max_requests.map(|most| semaphore(most.get())),
            waiting: AtomicUsize::new(0),
            max_waiting: config.max_waiting,
            max_wait: config.max_wait,
        })
    }
}

pub(super) fn semaphore(permits: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS)))
}

/// Held by a request until the end of its answer. Empty where nothing is limited.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Permits(Option<Box<Held>>);

#[derive(Debug)]
struct Held {
    _request: Option<OwnedSemaphorePermit>,
    connection: Option<OwnedSemaphorePermit>,
}

impl Permits {
    /// Takes one of `target`'s connections into use, if one is free.
    pub(in crate::proxy) fn take_connection(&mut self, target: &Target) -> bool {
        let (Some(held), Some(connections)) = (&mut self.0, &target.connections) else {
            return true;
        };
        held.connection = Arc::clone(connections).try_acquire_owned().ok();
        held.connection.is_some()
    }

    pub(in crate::proxy) fn put_connection(&mut self, permit: Option<OwnedSemaphorePermit>) {
        if let Some(held) = &mut self.0 {
            held.connection = permit;
        }
    }
}

impl Upstream {
    /// Whether one request more may be begun.
    pub(in crate::proxy) fn admit(&self) -> Result<Permits, Failure> {
        let Some(limits) = &self.limits else {
            return Ok(Permits(None));
        };
        let request = match &limits.requests {
            Some(requests) => match Arc::clone(requests).try_acquire_owned() {
                Ok(permit) => Some(permit),
                Err(_) => return Err(self.busy()),
            },
            None => None,
        };
        Ok(Permits(Some(Box::new(Held {
            _request: request,
            connection: None,
        }))))
    }

    /// Whether one tunnel more may be opened, and what it holds until its end.
    pub(in crate::proxy) fn admit_tunnel(&self) -> Result<Option<OwnedSemaphorePermit>, Failure> {
        let tunnels = self.limits.as_ref().and_then(|of| of.tunnels.as_ref());
        let permit = tunnels.map(|tunnels| Arc::clone(tunnels).try_acquire_owned());
        permit.transpose().map_err(|_| {
            self.meters.busy.increment(1);
            Failure::TunnelsFull
        })
    }

    /// Waits for one of `target`'s connections; for none where they are not
    /// limited.
    pub(in crate::proxy) async fn wait_for(
        &self,
        target: &Target,
    ) -> Result<Option<OwnedSemaphorePermit>, Failure> {
        let (Some(limits), Some(connections)) = (&self.limits, &target.connections) else {
            return Ok(None);
        };
        let connections = Arc::clone(connections);
        if let Ok(permit) = Arc::clone(&connections).try_acquire_owned() {
            return Ok(Some(permit));
        }
        let _waiting = Waiting::begin(limits).ok_or_else(|| self.busy())?;
        self.meters.waited.increment(1);
        match timeout(limits.max_wait, connections.acquire_owned()).await {
            Ok(Ok(permit)) => Ok(Some(permit)),
            _ => Err(self.busy()),
        }
    }

    /// Counts a refusal.
    pub(in crate::proxy) fn busy(&self) -> Failure {
        self.meters.busy.increment(1);
        Failure::Busy
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn begin(limits: &'a Limits) -> Option<Self> {
        let waiting = limits.waiting.fetch_add(1, Ordering::Relaxed);
        let waiting = (Self(&limits.waiting), waiting);
        (waiting.1 < limits.max_waiting).then_some(waiting.0)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
