//! A thread that runs statements, so that no worker waits for a disk.

use std::io;
use std::sync::mpsc::{self, Sender};

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::file::File;
use crate::repository::{RepositoryError, Result};

type Job = Box<dyn FnOnce(&mut File) + Send>;

/// Runs jobs one after the other; ends when it is dropped.
#[derive(Debug)]
pub(super) struct Thread {
    jobs: Sender<Job>,
}

impl Thread {
    pub(super) fn spawn(name: &str, mut file: File) -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                for job in queue {
                    job(&mut file);
                }
            })?;
        Ok(Self { jobs })
    }

    /// Runs `job` even when the caller has gone: a write that was asked for is
    /// made or fails, but is never half asked.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |file| {
            let result = file.connect().and_then(job);
            // The caller may have gone.
            let _ = reply.send(result);
        });
        let ended = || RepositoryError::Unavailable("its thread has ended".to_owned());
        self.jobs.send(job).map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }
}
