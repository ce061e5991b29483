//! One question and its answer.

use std::convert::Infallible;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{HeaderName, Request, Response, Uri};
use http_body::Body;
use tower::ServiceExt;
use tower_service::Service;

use super::answer::{self, STRANGER};
use super::caller::Caller;
use super::dialect::{Dialect, Question};
use super::meters::Meters;
use crate::problem;

/// Where the questions of one listener are answered, on one thread.
pub(super) struct Desk<C> {
    pub(super) dialect: Dialect,
    pub(super) caller: Caller,
    pub(super) meters: Meters,
    /// The fields that only an answer may say.
    pub(super) told: Arc<[HeaderName]>,
    /// The layers, for the requests of one address.
    pub(super) for_client: Rc<C>,
}

impl<C> Desk<C> {
    pub(super) async fn answer<S, Q, B>(
        &self,
        request: Request<Q>,
    ) -> Result<Response<problem::Body<B>>, Infallible>
    where
        C: Fn(IpAddr) -> S,
        S: Service<Request<Q>, Response = Response<B>, Error = Infallible>,
        B: Body<Data = Bytes>,
    {
        let (mut head, body) = request.into_parts();
        if !self.caller.is_proven(&mut head.headers) {
            self.meters.strangers.increment(1);
            return Ok(answer::unheard(self.dialect, STRANGER));
        }
        let question = match self.dialect.question(&head) {
            Ok(question) => question,
            Err(unclear) => {
                self.meters.unclear.increment(1);
                return Ok(answer::unheard(self.dialect, answer::unclear(unclear)));
            }
        };
        let Question {
            method,
            target,
            host,
            client,
        } = question;
        head.method = method;
        head.uri = Uri::from(target);
        head.headers.insert(HOST, host);
        // Of the question, not of what it is about.
        head.headers.remove(CONTENT_LENGTH);
        head.headers.remove(TRANSFER_ENCODING);
        let stack = (self.for_client)(client);
        let mut response = stack.oneshot(Request::from_parts(head, body)).await?;
        answer::put(self.dialect, &self.told, &mut response);
        Ok(response.map(problem::Body::inner))
    }
}
