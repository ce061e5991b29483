//! One kept connection of HTTP/2: several requests at once, each followed by the next.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::rt::Executor;
use hyper_util::rt::TokioIo;
use tokio::sync::Mutex;
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};

use super::connection::PAUSE;
use super::tally::{Failure, Tally};
use super::target::Target;
use super::work::{Job, Work};

type Sender = SendRequest<Full<Bytes>>;

pub(super) struct Http2 {
    target: Rc<Target>,
    patience: Duration,
    sender: RefCell<Option<Sender>>,
    /// Whoever connects; the others wait for it.
    connecting: Mutex<()>,
}

impl Http2 {
    pub(super) fn new(target: Rc<Target>, patience: Duration) -> Rc<Self> {
        Rc::new(Self {
            target,
            patience,
            sender: RefCell::default(),
            connecting: Mutex::default(),
        })
    }

    /// One of the connection's streams: works until there is no more to do.
    pub(super) async fn serve(self: Rc<Self>, work: Rc<Work>, tally: Rc<Tally>) {
        while let Some(job) = work.next().await {
            let sent = work.clock.tick();
            let outcome = match timeout(self.patience, self.exchange(&work, job)).await {
                Ok(outcome) => outcome,
                Err(_) => Err(Failure::TimedOut),
            };
            let ended = work.clock.tick();
            let measured = work.window.measures(job.due);
            tally.record(measured, job.due, sent, ended, &outcome);
            if outcome == Err(Failure::Connect) {
                sleep(PAUSE).await;
            }
        }
    }

    async fn exchange(&self, work: &Work, job: Job) -> Result<(u16, usize), Failure> {
        let mut sender = self.sender().await.map_err(|_| Failure::Connect)?;
        let request = self.target.request(work.token(job));
        let answer = async {
            let mut response = sender.send_request(request).await?;
            let mut bytes = 0;
            while let Some(frame) = response.frame().await {
                bytes += frame?.data_ref().map_or(0, Bytes::len);
            }
            Ok((response.status().as_u16(), bytes))
        };
        answer.await.map_err(|_: hyper::Error| Failure::BrokeOff)
    }

    async fn sender(&self) -> io::Result<Sender> {
        let _turn = self.connecting.lock().await;
        let kept = self.sender.borrow().clone();
        if let Some(kept) = kept.filter(|kept| !kept.is_closed()) {
            return Ok(kept);
        }
        let stream = TokioIo::new(self.target.connect().await?);
        let (sender, connection) = handshake(Local, stream).await.map_err(io::Error::other)?;
        spawn_local(async {
            // How it ended is what its requests are told.
            let _ = connection.await;
        });
        *self.sender.borrow_mut() = Some(sender.clone());
        Ok(sender)
    }
}

/// Runs the connection's tasks on the generator's own thread.
#[derive(Clone, Copy)]
struct Local;

impl<F: Future<Output = ()> + 'static> Executor<F> for Local {
    fn execute(&self, future: F) {
        spawn_local(future);
    }
}
