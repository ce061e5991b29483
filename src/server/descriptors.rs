//! File descriptors: how many there may be.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

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
