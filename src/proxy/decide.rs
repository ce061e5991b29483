//! Saying of an admitted request what its upstream would have been told, to
//! somebody else who forwards it.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::rc::Rc;

use http::{HeaderName, Request, Response};
use tower_service::Service;

use super::head::X_EDGE_ROUTE;
use super::key_fields::{KeyFields, X_EDGE_KEY_ID, X_EDGE_KEY_NAME, X_EDGE_PERMISSIONS};
use crate::context::{Admitted, RequestContext};

/// What of the key and the route is said. Where one is not, nobody may say it.
pub const SAID_BY_US: [HeaderName; 4] = [
    X_EDGE_KEY_ID,
    X_EDGE_KEY_NAME,
    X_EDGE_PERMISSIONS,
    X_EDGE_ROUTE,
];

/// An answer without a body.
pub type Decided = Response<String>;

/// The innermost service of a worker that decides and does not forward: 200
/// with the fields that an upstream is told. Of `credentials`, the fields that
/// may hold a token, the answer has what is left of them: what was no token of
/// ours is its upstream's.
pub fn decide<B>(
    credentials: Rc<[HeaderName]>,
) -> impl Service<
    Request<B>,
    Response = Decided,
    Error = Infallible,
    Future = Ready<Result<Decided, Infallible>>,
> + Clone {
    let keys = Rc::new(KeyFields::new());
    tower::service_fn(move |request: Request<B>| {
        let mut response = Response::new(String::new());
        let headers = response.headers_mut();
        for name in &*credentials {
            for value in request.headers().get_all(name) {
                headers.append(name, value.clone());
            }
        }
        if let Some(context) = request.extensions().get::<RequestContext>() {
            if let Some(entry) = context.identity.entry() {
                keys.set(entry, headers);
            }
            headers.insert(X_EDGE_ROUTE, context.route.name.header().clone());
            response.extensions_mut().insert(Admitted);
        }
        ready(Ok(response))
    })
}
