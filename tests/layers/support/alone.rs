//! Requests through the layers alone: no server, nothing that has to be waited
//! for.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use cypheron_edge::clock::Clock;
use cypheron_edge::context::{Identity, RequestContext, RequestId};
use cypheron_edge::route::Route;
use http::{HeaderMap, HeaderValue, Request, Response};

/// A request with this token, as it comes to the layers.
pub(crate) fn request<B: Default>(clock: &Clock, token: &str, route: &Arc<Route>) -> Request<B> {
    let now = clock.now();
    let mut request = Request::new(B::default());
    let bearer = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
    request.headers_mut().insert("authorization", bearer);
    request.extensions_mut().insert(RequestContext {
        received: now,
        client: None,
        peer: None,
        certificate: None,
        request_id: RequestId::generate(now.wall),
        route: Arc::clone(route),
        identity: Identity::ANONYMOUS,
    });
    request
}

/// As an upstream's response has it: room for a few fields more.
pub(crate) fn response<B: Default>() -> Response<B> {
    let mut response = Response::new(B::default());
    *response.headers_mut() = HeaderMap::with_capacity(16);
    response
}

/// The output of a future that has it at once.
pub(crate) fn now<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("the request had to wait"),
    }
}
