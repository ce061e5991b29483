//! The journal's own threads: what would make a worker wait is done here.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::shared::Shared;
use super::storage::Storage;
use crate::telemetry::metric;

/// How long until a segment that could not be made is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Two threads, because making a segment must not wait for a slow sync.
#[derive(Debug)]
pub(super) struct Keeper {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Keeper {
    pub(super) fn start<S: Storage>(
        writers: &Arc<[Arc<Shared<S>>]>,
        sync_interval: Duration,
    ) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut keeper = Self {
            stop: Arc::clone(&stop),
            threads: Vec::new(),
        };
        let of = Arc::clone(writers);
        let ended = Arc::clone(&stop);
        let preparing = keeper.spawn("journal-prepare", move || prepare(&of, &ended))?;
        for writer in &**writers {
            writer.set_keeper(preparing.clone());
        }
        let of = Arc::clone(writers);
        keeper.spawn("journal-sync", move || sync(&of, sync_interval, &stop))?;
        Ok(keeper)
    }

    fn spawn(
        &mut self,
        name: &str,
        run: impl FnOnce() + Send + 'static,
    ) -> io::Result<thread::Thread> {
        let handle = thread::Builder::new().name(name.to_owned()).spawn(run)?;
        let thread = handle.thread().clone();
        self.threads.push(handle);
        Ok(thread)
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        for handle in self.threads.drain(..) {
            handle.thread().unpark();
            let _ = handle.join();
        }
    }
}

fn prepare<S: Storage>(writers: &[Arc<Shared<S>>], stop: &AtomicBool) {
    let mut failing = false;
    while !stop.load(Ordering::Acquire) {
        match prepare_all(writers) {
            Ok(true) => continue,
            Ok(false) => failing = false,
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::error!(%error, "no segment can be made for the usage journal");
                }
            }
        }
        thread::park_timeout(RETRY);
    }
}

/// One more segment for each writer that needs one. Whether any did.
fn prepare_all<S: Storage>(writers: &[Arc<Shared<S>>]) -> io::Result<bool> {
    let mut prepared = false;
    for writer in writers {
        prepared |= writer.prepare()?;
    }
    Ok(prepared)
}

fn sync<S: Storage>(writers: &[Arc<Shared<S>>], interval: Duration, stop: &AtomicBool) {
    let failures = metrics::counter!(metric::JOURNAL_SYNC_FAILURES);
    let mut failing = false;
    loop {
        let ending = stop.load(Ordering::Acquire);
        match sync_all(writers) {
            Ok(()) => failing = false,
            Err(error) => {
                failures.increment(1);
                if !std::mem::replace(&mut failing, true) {
                    tracing::error!(%error, "the usage journal cannot be synced");
                }
            }
        }
        if ending {
            return;
        }
        thread::park_timeout(interval);
    }
}

/// Syncs every writer, and then deletes what is not needed any more.
pub(super) fn sync_all<S: Storage>(writers: &[Arc<Shared<S>>]) -> io::Result<()> {
    let mut result = Ok(());
    for writer in writers {
        result = result.and(writer.sync().and_then(|()| writer.trim()));
    }
    result
}
