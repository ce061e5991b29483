//! The threads that decide for other proxies.

use std::io;
use std::sync::Arc;

use crate::app::stack::Parts;
use crate::config::Config;
use crate::decision::{self, Listeners};
use crate::proxy;

/// Starts the threads that decide: they are counted behind the workers.
pub(super) fn decide(
    config: &Config,
    listeners: Listeners,
    threads: usize,
    workers: usize,
    parts: &Arc<Parts>,
) -> io::Result<decision::Running> {
    let limits = decision::Limits {
        idle_timeout: config.server.idle_timeout,
        drain_delay: config.server.drain_delay,
        drain_idle: config.server.drain_idle,
        drain_timeout: config.server.drain_timeout,
    };
    let told = [&proxy::said_by_us()[..], &parts.credentials].concat();
    let parts = Arc::clone(parts);
    listeners.start(threads, limits, &told, move |thread| {
        let stack = parts.verdicts(workers + thread);
        move |client| stack.for_peer(client)
    })
}
