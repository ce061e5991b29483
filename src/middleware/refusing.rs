//! A refusal that is no response yet.

use http::{Extensions, HeaderMap, Request, Response};

use crate::context::{Identity, Refused, RequestContext, RequestId};
use crate::problem;
use crate::refusal::Refusal;

/// What a response is made of when it is asked for: smaller than one, because the
/// future that holds it is moved through every layer, whether anything is refused
/// or not.
#[derive(Debug)]
pub(super) struct Refusing {
    refused: Refused,
    request_id: Option<RequestId>,
    /// Empty, with the room that the request had: a flood of refusals asks the
    /// allocator for no more.
    headers: HeaderMap,
    extensions: Extensions,
}

impl Refusing {
    /// Takes from the `request` what it needs no more.
    pub(super) fn of<B>(request: &mut Request<B>, refusal: Refusal, identity: Identity) -> Self {
        let context = request.extensions().get::<RequestContext>();
        let request_id = context.map(|context| context.request_id.clone());
        let mut headers = std::mem::take(request.headers_mut());
        headers.clear();
        let mut extensions = std::mem::take(request.extensions_mut());
        extensions.clear();
        Self {
            refused: Refused { refusal, identity },
            request_id,
            headers,
            extensions,
        }
    }

    pub(super) fn response<R>(self) -> Response<problem::Body<R>> {
        self.refused
            .response_in(self.request_id.as_ref(), self.headers, self.extensions)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn nothing_of_a_refused_request_is_in_its_answer() {
        let mut request = Request::new(());
        for name in ["authorization", "x-api-key", "content-type", "cookie"] {
            let value = HeaderValue::from_static("of the request");
            request.headers_mut().append(name, value.clone());
            request.headers_mut().append(name, value);
        }
        request.extensions_mut().insert("of the request");
        let refused = || {
            Refusing::of(
                &mut Request::new(()),
                Refusal::KeyUnknown,
                Identity::ANONYMOUS,
            )
        };
        let plain = refused().response::<()>();
        let refusing = Refusing::of(&mut request, Refusal::KeyUnknown, Identity::ANONYMOUS);
        let answer = refusing.response::<()>();
        assert_eq!(answer.headers(), plain.headers());
        assert_eq!(answer.status(), plain.status());
        assert_eq!(answer.extensions().get::<&str>(), None);
        assert_eq!(answer.extensions().len(), plain.extensions().len());
    }
}
