//! File descriptors: how many there may be, and what to do when there are none.

use std::cell::Cell;
use std::io;
use std::time::Duration;

use metrics::{Counter, counter};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::time::{Instant, sleep};

use crate::telemetry::metric::ACCEPT_FAILURES;

/// How long a worker waits after an error that accepting again would repeat.
const PAUSE: Duration = Duration::from_millis(50);

/// As long as it goes on, it is told so often.
const TELL_AGAIN: Duration = Duration::from_secs(10);

/// Takes as many as the system gives without being asked, and says when they
/// are too few: a client's connection has one, and mostly one to an upstream.
pub(super) fn take(max_connections: usize) {
    let limits = getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: limits.maximum,
        maximum: limits.maximum,
    };
    // When it is refused, what there was is what there is.
    let given = setrlimit(Resource::Nofile, all).map_or(limits.current, |()| limits.maximum);
    let wanted = (max_connections as u64).saturating_mul(2);
    if let Some(given) = given.filter(|&given| given < wanted) {
        tracing::warn!(
            given,
            wanted,
            "server.max_connections may need more file descriptors than there are: raise the \
             limit (`ulimit -n`, LimitNOFILE), or lower the setting"
        );
    }
}

/// What a worker does when it cannot accept: waits, and tells now and then.
#[derive(Debug)]
pub(super) struct AcceptFailures {
    count: Counter,
    told: Cell<Option<Instant>>,
}

impl AcceptFailures {
    pub(super) fn new() -> Self {
        Self {
            count: counter!(ACCEPT_FAILURES),
            told: Cell::new(None),
        }
    }

    /// Returns when accepting may be tried again. Those who were accepted are
    /// served meanwhile, and those who come wait in the kernel's queue.
    pub(super) async fn survive(&self, error: &io::Error) {
        use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
        let of_one_connection = [
            ConnectionAborted,
            ConnectionRefused,
            ConnectionReset,
            Interrupted,
        ];
        if of_one_connection.contains(&error.kind()) {
            return;
        }
        self.count.increment(1);
        let now = Instant::now();
        if self.told.get().is_none_or(|told| now >= told + TELL_AGAIN) {
            self.told.set(Some(now));
            tracing::warn!(%error, "cannot accept connections");
        }
        sleep(PAUSE).await;
    }
}
