//! A request body on its way to an upstream.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use super::BoxError;
use super::fields::scrub_request_trailers;
use crate::context::Severed;
use crate::pace::{Pace, Waited};

/// A body, and how its upload goes, for whoever waits for the answer.
#[derive(Debug)]
pub(super) struct Upload<B> {
    body: RefCell<B>,
    /// Something of it was read, or its end.
    begun: Cell<bool>,
    /// Which sending of the request reads it.
    sending: Cell<u8>,
    moved: Cell<Instant>,
    /// Its client is waited for.
    waits: Cell<bool>,
    /// The answer has begun: the rest comes when it comes.
    answered: Cell<bool>,
    broken: Cell<Option<Broken>>,
}

/// Why the rest of a request body is not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Broken {
    #[error("the request body is larger than the route allows")]
    TooLarge,
    #[error("the request body broke off or is malformed")]
    Client,
    #[error("the request body came too slowly")]
    TooSlow,
    #[error("the request is sent again, over another connection")]
    PassedOn,
    #[error(transparent)]
    Severed(Severed),
}

impl Broken {
    fn by(error: &(dyn std::error::Error + 'static)) -> Self {
        let severed = error.downcast_ref::<Severed>();
        severed.map_or(Self::Client, |severed| Self::Severed(*severed))
    }
}

impl<B> Upload<B> {
    /// When its last frame was read, or it began.
    pub(super) fn moved(&self) -> Instant {
        self.moved.get()
    }

    /// Whether it is the client that is waited for.
    pub(super) fn waits(&self) -> bool {
        self.waits.get()
    }

    pub(super) fn is_answered(&self) {
        self.answered.set(true);
    }

    pub(super) fn broken(&self) -> Option<Broken> {
        self.broken.get()
    }

    /// Whether all of it is still to be read.
    pub(super) fn is_whole(&self) -> bool {
        !self.begun.get()
    }

    /// Leaves it to the next sending of the request.
    pub(super) fn pass_on(&self) {
        self.sending.set(self.sending.get() + 1);
    }
}

/// Counts against the route's limit, holds its client to a pace, and scrubs
/// trailers.
#[derive(Debug)]
pub(super) struct RequestBody<B> {
    /// `None` for a request without a body.
    upload: Option<Rc<Upload<B>>>,
    sending: u8,
    left: u64,
    /// `None` where it may come as slowly as it likes.
    pace: Option<Pace>,
    waited: Waited,
    /// Made when its client is first waited for.
    patience: Option<Pin<Box<Sleep>>>,
}

impl<B: Body<Data = Bytes>> RequestBody<B> {
    pub(super) fn new(inner: B, limit: Option<u64>, pace: Option<Pace>) -> Self {
        let upload = (!inner.is_end_stream()).then(|| {
            Rc::new(Upload {
                body: RefCell::new(inner),
                begun: Cell::new(false),
                sending: Cell::new(0),
                moved: Cell::new(Instant::now()),
                waits: Cell::new(false),
                answered: Cell::new(false),
                broken: Cell::new(None),
            })
        });
        Self {
            upload,
            sending: 0,
            left: limit.unwrap_or(u64::MAX),
            pace,
            waited: Waited::default(),
            patience: None,
        }
    }

    pub(super) fn upload(&self) -> Option<Rc<Upload<B>>> {
        self.upload.clone()
    }

    /// The same body for the next sending of the request, if it comes to that.
    pub(super) fn for_next_sending(&self) -> Self {
        Self {
            upload: self.upload.clone(),
            sending: self.sending + 1,
            left: self.left,
            pace: self.pace,
            waited: Waited::default(),
            patience: None,
        }
    }
}

impl<B> Body for RequestBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = self.get_mut();
        let Some(upload) = &this.upload else {
            return Poll::Ready(None);
        };
        if upload.sending.get() != this.sending {
            return Poll::Ready(Some(Err(Broken::PassedOn)));
        }
        let frame = match Pin::new(&mut *upload.body.borrow_mut()).poll_frame(cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                upload.waits.set(true);
                let pace = this.pace.filter(|_| !upload.answered.get());
                ready!(run_out(&mut this.waited, pace, &mut this.patience, cx));
                upload.broken.set(Some(Broken::TooSlow));
                return Poll::Ready(Some(Err(Broken::TooSlow)));
            }
        };
        upload.begun.set(true);
        let bytes = match &frame {
            Some(Ok(frame)) => frame.data_ref().map_or(0, Bytes::len),
            _ => 0,
        };
        this.waited.moved(bytes, Instant::now);
        let checked = match frame {
            None => None,
            Some(Err(error)) => Some(Err(Broken::by(&*error.into()))),
            Some(Ok(frame)) => Some(checked(frame, &mut this.left)),
        };
        upload.moved.set(Instant::now());
        upload.waits.set(false);
        if let Some(Err(broken)) = &checked {
            upload.broken.set(Some(*broken));
        }
        Poll::Ready(checked)
    }

    fn is_end_stream(&self) -> bool {
        let body = self.upload.as_ref().map(|upload| upload.body.borrow());
        body.is_none_or(|body| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let body = self.upload.as_ref().map(|upload| upload.body.borrow());
        body.map_or(SizeHint::with_exact(0), |body| body.size_hint())
    }
}

/// Ready when the client was waited for as long as its pace allows.
fn run_out(
    waited: &mut Waited,
    pace: Option<Pace>,
    patience: &mut Option<Pin<Box<Sleep>>>,
    cx: &mut Context<'_>,
) -> Poll<()> {
    let Some(pace) = pace else {
        return Poll::Pending;
    };
    waited.begins(Instant::now());
    let Some(until) = waited.until(pace) else {
        return Poll::Pending;
    };
    let patience = patience.get_or_insert_with(|| Box::pin(sleep_until(until)));
    if patience.deadline() != until {
        patience.as_mut().reset(until);
    }
    patience.as_mut().poll(cx)
}

fn checked(mut frame: Frame<Bytes>, left: &mut u64) -> Result<Frame<Bytes>, Broken> {
    if let Some(data) = frame.data_ref() {
        *left = left
            .checked_sub(data.len() as u64)
            .ok_or(Broken::TooLarge)?;
    } else if let Some(trailers) = frame.trailers_mut() {
        scrub_request_trailers(trailers);
    }
    Ok(frame)
}
