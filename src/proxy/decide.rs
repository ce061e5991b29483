//! Saying of an admitted request what its upstream would have been told, to
//! somebody else who forwards it.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::rc::Rc;

use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use tower_service::Service;

use super::fields::is_disguised;
use super::head::tell_key;
use super::telling::{InMap, KEY_ID, KEY_NAME, PERMISSIONS, ROUTE, Telling};
use crate::context::{Admitted, RequestContext};
use crate::problem::{self, Kind, Problem};

/// What of the key and the route is said. Where one is not, nobody may say it.
pub fn said_by_us() -> [HeaderName; 4] {
    [KEY_ID, KEY_NAME, PERMISSIONS, ROUTE].map(|field| field.name)
}

/// Where the edge forwards, it takes such a field off. Who asks cannot be told to.
const DISGUISED: Kind = Kind {
    status: StatusCode::BAD_REQUEST,
    slug: "field-disguised",
    title: "A field's name would be read as another one that the edge must be sure of",
};

/// An answer, with a body where it is no admission.
pub type Decided = Response<String>;

/// The innermost service of a worker that decides and does not forward: 200
/// with the fields that an upstream is told, or 400 where one of the request's
/// would be taken for such a field. Of `credentials`, the fields that
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
    tower::service_fn(move |request: Request<B>| {
        if request.headers().keys().any(is_disguised) {
            let context = request.extensions().get::<RequestContext>();
            return ready(Ok(disguised(context)));
        }
        let mut response = Response::new(String::new());
        let headers = response.headers_mut();
        for name in &*credentials {
            for value in request.headers().get_all(name) {
                headers.append(name, value.clone());
            }
        }
        if let Some(context) = request.extensions().get::<RequestContext>() {
            let mut told = InMap::new(headers);
            tell_key(&mut told, context.identity.key());
            told.tell(&ROUTE, context.route.name.header());
            response.extensions_mut().insert(Admitted);
        }
        ready(Ok(response))
    })
}

fn disguised(context: Option<&RequestContext>) -> Decided {
    let problem = Problem {
        kind: DISGUISED,
        request_id: context.map(|context| context.request_id.as_str()),
    };
    // why: JSON is text.
    let mut response = Response::new(String::from_utf8(problem.to_json()).unwrap_or_default());
    *response.status_mut() = DISGUISED.status;
    let media_type = HeaderValue::from_static(problem::MEDIA_TYPE);
    response.headers_mut().insert(CONTENT_TYPE, media_type);
    response
}
