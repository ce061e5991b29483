//! Tasks that are told to end.

use std::future::Future;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A task that goes on until it is told to end.
pub(super) struct Ending<T> {
    task: JoinHandle<T>,
    end: oneshot::Sender<()>,
}

impl<T: Send + 'static> Ending<T> {
    pub(super) fn spawn<F>(make: impl FnOnce(oneshot::Receiver<()>) -> F) -> Self
    where
        F: Future<Output = T> + Send + 'static,
    {
        let (end, ended) = oneshot::channel();
        Self {
            task: tokio::spawn(make(ended)),
            end,
        }
    }

    pub(super) async fn end(self) -> Option<T> {
        // A task that has ended by itself needs no telling.
        let _ = self.end.send(());
        self.task.await.ok()
    }
}

/// Waits until that is said.
pub(super) async fn ended(end: oneshot::Receiver<()>) {
    // A sender that is gone says the same.
    let _ = end.await;
}
