//! What becomes of a listener that cannot accept: it waits, and goes on.

use std::io;
use std::time::Duration;

use metrics::{Counter, counter};
use tokio::time::{Instant, sleep};

use crate::telemetry::metric::ACCEPT_FAILURES;

/// How long it waits after an error that accepting again would repeat.
const PAUSE: Duration = Duration::from_millis(50);

/// As long as it goes on, it is told so often.
const TELL_AGAIN: Duration = Duration::from_secs(10);

/// The failures of one listener.
#[derive(Debug)]
pub struct AcceptFailures {
    listener: &'static str,
    count: Counter,
    told: Option<Instant>,
}

impl AcceptFailures {
    /// Of a listener that the log calls `listener`.
    pub fn of(listener: &'static str) -> Self {
        Self {
            listener,
            count: counter!(ACCEPT_FAILURES),
            told: None,
        }
    }

    /// Returns when accepting may be tried again. Those who were accepted are
    /// served meanwhile, and those who come wait in the kernel's queue.
    pub async fn survive(&mut self, error: &io::Error) {
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
        if self.told.is_none_or(|told| now >= told + TELL_AGAIN) {
            self.told = Some(now);
            let listener = self.listener;
            tracing::warn!(listener, %error, "cannot accept connections");
        }
        sleep(PAUSE).await;
    }
}
