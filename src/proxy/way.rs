//! Which way a request goes, and where it turns to when it comes to an end.

use std::rc::Rc;

use bytes::Bytes;
use http_body::Body;
use tokio::time::Instant;

use super::http2::Place;
use super::lanes::Group;
use super::pool::Engaged;
use super::request_body::Upload;
use super::telling::Lines;
use super::tunnel::Switch;
use super::upstream::Set;
use super::{BoxError, Failure};

/// Which way a request goes, and until when.
pub(super) struct Way<B> {
    pub(super) lane: Engaged<B>,
    /// Its target has as many requests as it may have: this one waits.
    pub(super) waits: bool,
    /// Targets that could not be reached.
    pub(super) tried: Set,
    /// It may be sent once more when it was turned away: of HTTP/2, a peer says so.
    pub(super) may_repeat: bool,
    /// `None` for a request without a body.
    pub(super) upload: Option<Rc<Upload<B>>>,
    /// What its connection may become. Rare, so it may allocate.
    pub(super) switch: Option<Box<Switch>>,
    /// What is told over HTTP/1.1, behind the request's own fields.
    pub(super) lines: Lines,
    /// When the route's time is over.
    pub(super) deadline: Option<Instant>,
}

impl<B> Way<B> {
    /// Until when an answer is waited for: the upstream's response timeout,
    /// counted from when a byte last moved.
    pub(super) fn patience_from(&self, moved: Instant) -> Instant {
        let until = moved + self.lane.upstream.config.response_timeout;
        self.deadline.map_or(until, |deadline| until.min(deadline))
    }

    /// Until when it is waited for longer than `until`, which has come: an upload
    /// that moved meanwhile is no silence.
    pub(super) fn more_patience(&self, until: Instant) -> Option<Instant> {
        let moved = self.upload.as_ref().map(|upload| upload.moved())?;
        Some(self.patience_from(moved)).filter(|later| *later > until)
    }

    pub(super) fn must_switch(&self) -> bool {
        self.switch
            .as_ref()
            .is_some_and(|switch| switch.is_a_must())
    }

    /// Whose patience ran out.
    pub(super) fn timed_out(&self) -> Failure {
        match self.deadline {
            Some(deadline) if deadline <= Instant::now() => Failure::RouteTimeout,
            // It is not the upstream that keeps silent.
            _ if self.upload.as_ref().is_some_and(|upload| upload.waits()) => Failure::BodyTooSlow,
            _ => Failure::ResponseTimeout,
        }
    }

    /// Goes on to another target that may be asked in the place of one that
    /// could not be reached.
    pub(super) fn turn_to_another(&mut self) -> bool {
        let tried = self.tried.with(self.lane.place);
        let another = |group: Rc<Group<B>>| group.another(tried);
        let Some(lane) = self.lane.group.upgrade().and_then(another) else {
            return false;
        };
        self.lane.counters.retries.increment(1);
        self.tried = tried;
        self.lane.move_to(lane);
        true
    }

    /// Whether a request that was turned away from `place` goes over another connection:
    /// once, as long as its body is whole and the budget allows it.
    pub(super) fn repeats(&mut self, place: &Place<B>) -> bool
    where
        B: Body<Data = Bytes> + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        let grants = |group: Rc<Group<B>>| group.grants_retry();
        let repeats = std::mem::take(&mut self.may_repeat)
            && self.upload.as_ref().is_none_or(|upload| upload.is_whole())
            && self.lane.group.upgrade().is_some_and(grants);
        if repeats {
            self.lane.counters.retries.increment(1);
            self.lane.retire(place);
            if let Some(upload) = &self.upload {
                upload.pass_on();
            }
        }
        repeats
    }
}
