//! How HTTP/2 is spoken, and `[server.http2]`.

use std::future::Future;
use std::time::Duration;

use hyper::rt::Executor;
use hyper::server::conn::http2::Builder;
use hyper_util::rt::TokioTimer;
use serde::Deserialize;

use crate::setting::{self, Invalid};

/// What a client may send of one request's body before it is read on.
const STREAM_WINDOW: u32 = 64 << 10;

/// The same for all requests of a connection together.
const CONNECTION_WINDOW: u32 = 1 << 20;

/// What is kept of an answer that its client does not read.
const SEND_BUFFER: usize = 64 << 10;

/// Requests that may wait to be given up by us while their clients have done so.
const RESET_BEFORE_ACCEPTED: usize = 20;

/// Errors of a client that are answered one by one; then the connection ends.
const RESET_BY_US: usize = 100;

/// What a connection begins with (RFC 9113, section 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// `[server.http2]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub enabled: bool,
    /// Whether clients are told that they may open a WebSocket in a stream.
    pub websockets: bool,
    /// Requests at a time, of one connection.
    pub max_streams: u32,
    /// After how long without a byte a client is asked whether it is still there.
    #[serde(deserialize_with = "setting::duration")]
    pub ping_interval: Duration,
    /// How long it has to say so.
    #[serde(deserialize_with = "setting::duration")]
    pub ping_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: true,
            websockets: true,
            max_streams: 128,
            ping_interval: Duration::from_secs(30),
            ping_timeout: Duration::from_secs(10),
        }
    }
}

impl Config {
    pub fn problems(&self, section: &str, found: &mut Vec<Invalid>) {
        let mut invalid = |key: &str, problem: &str| {
            found.push(Invalid::new(format!("{section}.{key}"), problem));
        };
        if !(1..=10_000).contains(&self.max_streams) {
            invalid("max_streams", "use 1 to 10000");
        }
        for (key, duration) in [
            ("ping_interval", self.ping_interval),
            ("ping_timeout", self.ping_timeout),
        ] {
            if duration.is_zero() {
                invalid(key, "is zero: every connection would be closed");
            }
        }
    }

    /// `None` where it is not spoken. Heads are bounded by `header_bytes`.
    pub(super) fn builder(&self, header_bytes: usize) -> Option<Builder<OnThisThread>> {
        let mut builder = Builder::new(OnThisThread);
        builder
            .timer(TokioTimer::new())
            .keep_alive_interval(self.ping_interval)
            .keep_alive_timeout(self.ping_timeout)
            .max_concurrent_streams(self.max_streams)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .max_header_list_size(u32::try_from(header_bytes).unwrap_or(u32::MAX))
            .max_pending_accept_reset_streams(RESET_BEFORE_ACCEPTED)
            .max_local_error_reset_streams(RESET_BY_US);
        if self.websockets {
            builder.enable_connect_protocol();
        }
        self.enabled.then_some(builder)
    }
}

/// The streams of a connection stay on its worker.
#[derive(Clone, Copy, Debug)]
pub(super) struct OnThisThread;

impl<F: Future<Output = ()> + 'static> Executor<F> for OnThisThread {
    fn execute(&self, stream: F) {
        tokio::task::spawn_local(stream);
    }
}
