//! What a request is for: its target and its host, which every server behind us
//! is to read as we do.

use http::header::{HOST, TRANSFER_ENCODING};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version};
use hyper::ext::Protocol;

use crate::refusal::Refusal;
use crate::route::Host;

/// The field goes no further, so a coding beneath `chunked` would be in the
/// body that an upstream gets and nowhere in its head (RFC 9112, section 6.1).
pub(super) fn check_transfer_coding(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut fields = headers.get_all(TRANSFER_ENCODING).iter();
    match (fields.next(), fields.next()) {
        (None, _) => Ok(()),
        (Some(field), None) if field.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => Err(Refusal::UnsupportedTransferCoding),
    }
}

/// No tunnels, whatever the target of a `CONNECT`: after its answer, one end
/// would read what the other takes for the next request. HTTP/2 has them in
/// streams of their own, for what their `:protocol` says (RFC 8441). And no bytes
/// that a target may not have (RFC 3986), which the next server may read otherwise.
pub(super) fn check<B>(request: &Request<B>) -> Result<(), Refusal> {
    let target = request.uri().path_and_query();
    let says_for_what = || request.extensions().get::<Protocol>().is_some();
    if *request.method() == Method::CONNECT && !says_for_what()
        || !target.is_none_or(|target| target.as_str().is_ascii())
    {
        return Err(Refusal::UnsupportedTarget);
    }
    Ok(())
}

/// The host that a request is for; none for an HTTP/1.0 request that names
/// none. The authority of a target in absolute form is it, and a `Host` that says
/// otherwise is refused.
pub(super) fn host_of<B>(request: &Request<B>) -> Result<Option<Host<'_>>, Refusal> {
    let in_target = match request.uri().authority() {
        Some(authority) => {
            let scheme = request.uri().scheme();
            if scheme != Some(&Scheme::HTTP) && scheme != Some(&Scheme::HTTPS) {
                return Err(Refusal::UnsupportedTarget);
            }
            Some(authority)
        }
        None if !request.uri().path().starts_with('/') => {
            return Err(Refusal::UnsupportedTarget);
        }
        None => None,
    };
    let in_field = host_field(request.headers())?;
    let Some(authority) = in_target else {
        if in_field.is_none() && request.version() >= Version::HTTP_11 {
            return Err(Refusal::BadHost);
        }
        return Ok(in_field);
    };
    let host = Host::parse(authority.as_str().as_bytes()).ok_or(Refusal::BadHost)?;
    if in_field.is_some_and(|in_field| in_field != host) {
        return Err(Refusal::BadHost);
    }
    Ok(Some(host))
}

fn host_field(headers: &HeaderMap) -> Result<Option<Host<'_>>, Refusal> {
    let mut fields = headers.get_all(HOST).iter();
    match (fields.next(), fields.next()) {
        (None, _) => Ok(None),
        (Some(field), None) => match Host::parse(field.as_bytes()) {
            Some(host) => Ok(Some(host)),
            None => Err(Refusal::BadHost),
        },
        (Some(_), Some(_)) => Err(Refusal::BadHost),
    }
}

/// Cuts a target in absolute form to its path; its authority becomes the `Host`.
pub(super) fn to_origin_form<B>(request: &mut Request<B>) -> Result<(), Refusal> {
    let Some(authority) = request.uri().authority() else {
        return Ok(());
    };
    let field = HeaderValue::from_str(authority.as_str()).map_err(|_| Refusal::BadHost)?;
    request.headers_mut().insert(HOST, field);
    let root = || PathAndQuery::from_static("/");
    let target = request.uri().path_and_query().cloned();
    *request.uri_mut() = Uri::from(target.unwrap_or_else(root));
    Ok(())
}
