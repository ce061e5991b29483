//! A thread that runs statements, so that no worker waits for a disk.

use std::io;
use std::sync::mpsc::{self, Sender};

use tokio::sync::oneshot;

type Job<S> = Box<dyn FnOnce(&mut S) + Send>;

/// Runs jobs over `S`, a connection say, one after the other. It ends when its
/// last clone is dropped.
#[derive(Debug)]
pub struct Thread<S> {
    jobs: Sender<Job<S>>,
}

/// The thread has ended, which it does only when a job panics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the database's thread has ended")]
pub struct Ended;

impl<S: Send + 'static> Thread<S> {
    pub fn spawn(name: &str, mut state: S) -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job<S>>();
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                for job in queue {
                    job(&mut state);
                }
            })?;
        Ok(Self { jobs })
    }

    /// Runs `job` to its end, even when the caller has gone: a write that was
    /// asked for is made or fails, but is never half asked.
    pub async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut S) -> T + Send + 'static,
    ) -> Result<T, Ended> {
        let (reply, answer) = oneshot::channel();
        let job: Job<S> = Box::new(move |state| {
            // The caller may have gone.
            let _ = reply.send(job(state));
        });
        self.jobs.send(job).map_err(|_| Ended)?;
        answer.await.map_err(|_| Ended)
    }
}

impl<S> Clone for Thread<S> {
    fn clone(&self) -> Self {
        Self {
            jobs: self.jobs.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn jobs_run_one_after_the_other() {
        let thread = Thread::spawn("count", 0).unwrap();
        for expected in 1..=3 {
            let count = thread.run(|count| {
                *count += 1;
                *count
            });
            assert_eq!(count.await, Ok(expected));
        }
    }

    #[tokio::test]
    async fn a_job_is_done_even_when_its_caller_has_gone() {
        let thread = Thread::spawn("count", 0).unwrap();
        let (release, blocked) = mpsc::channel::<()>();
        let hold = thread.run(move |_| blocked.recv());
        let gone = thread.run(|count| *count += 1);
        // Polled once, so that they are queued, then dropped.
        assert!(futures_util::FutureExt::now_or_never(hold).is_none());
        assert!(futures_util::FutureExt::now_or_never(gone).is_none());
        release.send(()).unwrap();
        assert_eq!(thread.run(|count| *count).await, Ok(1));
    }
}
