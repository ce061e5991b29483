//! The head of a request, as the upstream gets it.

use http::header::{CONNECTION, FORWARDED, HOST, TE};
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri, Version};

use super::Failure;
use super::addresses::Addresses;
use super::client_address::X_FORWARDED_FOR;
use super::fields::Scrubber;
use super::forwarded::{Element, ForwardedFields};
use super::key_fields::KeyFields;
use super::upstream::{Assertion, HostRule, IdToken, Target, Upstream};
use crate::assertion::{Claims, Signer, Validity};
use crate::context::{RequestContext, RequestId};
use crate::id_token::IdTokens;

pub(super) const X_EDGE_ROUTE: HeaderName = HeaderName::from_static("x-edge-route");
pub(super) const X_EDGE_ASSERTION: HeaderName = HeaderName::from_static("x-edge-assertion");
const X_EDGE_CLIENT_SUBJECT: HeaderName = HeaderName::from_static("x-edge-client-subject");
const X_EDGE_CLIENT_FINGERPRINT: HeaderName = HeaderName::from_static("x-edge-client-fingerprint");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// What is set at most, so that a map grows once.
const SET: usize = 14;

/// Rewrites the heads of requests. One for each worker.
#[derive(Debug)]
pub(super) struct Heads {
    scrubber: Scrubber,
    keys: KeyFields,
    addresses: Addresses,
    vouching: Vouching,
}

/// What the edge is believed by.
#[derive(Clone, Debug)]
pub struct Vouching {
    /// Signs the assertions.
    pub signer: Signer,
    /// Google's word for it.
    pub id_tokens: IdTokens,
}

impl Heads {
    pub(super) fn new(vouching: Vouching) -> Self {
        Self {
            scrubber: Scrubber::default(),
            keys: KeyFields::new(),
            addresses: Addresses::new(),
            vouching,
        }
    }

    /// Removes what goes no further, and says what only we may say. Gives the
    /// protocols that the client would go on with; fails where we cannot say
    /// what has to be said.
    pub(super) fn rewrite(
        &self,
        headers: &mut HeaderMap,
        context: &RequestContext,
        upstream: &Upstream,
        target: &Target,
    ) -> Result<Option<HeaderValue>, Failure> {
        headers.reserve(SET);
        let trusted = context.peer.is_some_and(|peer| peer.trusted);
        let wishes = self.scrubber.scrub_request(headers, trusted);
        if wishes.trailers {
            // The next hop is asked for trailers on its own account.
            headers.insert(TE, HeaderValue::from_static("trailers"));
            headers.insert(CONNECTION, HeaderValue::from_static("te"));
        }
        let host = headers.get(HOST).cloned();
        let is_named = host.is_some();
        self.set_forwarded(headers, context, trusted, host);
        if upstream.config.forwarded != ForwardedFields::XForwarded {
            set_rfc7239(headers, context, upstream);
        }
        match &upstream.host {
            HostRule::Preserve if is_named => {}
            HostRule::Preserve | HostRule::Target => {
                headers.insert(HOST, target.authority.clone());
            }
            HostRule::Name(name) => {
                headers.insert(HOST, name.clone());
            }
        }
        if let Some(entry) = context.identity.entry() {
            self.keys.set(entry, headers);
        }
        if let Some(certificate) = &context.certificate {
            headers.insert(X_EDGE_CLIENT_SUBJECT, certificate.subject.clone());
            headers.insert(X_EDGE_CLIENT_FINGERPRINT, certificate.fingerprint.clone());
        }
        headers.insert(X_EDGE_ROUTE, context.route.name.header().clone());
        headers.insert(RequestId::FIELD, context.request_id.header().clone());
        if let Some(assertion) = &upstream.assertion {
            headers.insert(X_EDGE_ASSERTION, self.assert(assertion, context));
        }
        if let Some(IdToken { audience, field }) = &upstream.id_token {
            let tokens = &self.vouching.id_tokens;
            let bearer = tokens.bearer(audience, context.received.wall);
            headers.insert(field.clone(), bearer.ok_or(Failure::NoIdToken)?);
        }
        Ok(wishes.upgrade)
    }

    fn assert(&self, assertion: &Assertion, context: &RequestContext) -> HeaderValue {
        let key = context.identity.key();
        self.vouching.signer.sign(&Claims {
            issuer: &assertion.issuer,
            audience: &assertion.audience,
            key_id: key.map(|key| key.id),
            permissions: key.map_or(&[][..], |key| &key.permissions),
            route: &context.route.name,
            request_id: context.request_id.as_str(),
            validity: Validity::from(context.received.wall),
        })
    }

    /// What a trusted proxy said of the client's side stays; the peer is added.
    fn set_forwarded(
        &self,
        headers: &mut HeaderMap,
        context: &RequestContext,
        trusted: bool,
        host: Option<HeaderValue>,
    ) {
        // What anybody else said is gone already.
        let said = |headers: &HeaderMap, name| trusted && headers.contains_key(name);
        if let Some(peer) = context.peer {
            let mut chain = trusted.then(|| headers.get_all(X_FORWARDED_FOR).iter());
            let first = chain.as_mut().and_then(Iterator::next);
            let value = match (first, chain) {
                (Some(first), Some(others)) => joined(first, others, peer.address),
                _ => self.addresses.value(peer.address),
            };
            headers.insert(X_FORWARDED_FOR, value);
        }
        if !said(headers, X_FORWARDED_PROTO) {
            let secure = context.peer.is_some_and(|peer| peer.secure);
            let scheme = if secure { "https" } else { "http" };
            headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(scheme));
        }
        if !said(headers, X_FORWARDED_HOST)
            && let Some(host) = host
        {
            headers.insert(X_FORWARDED_HOST, host);
        }
    }

    pub(super) fn scrub_response(&self, headers: &mut HeaderMap) {
        self.scrubber.scrub_response(headers);
    }
}

/// Says the same in the one field that has a standard. Where a trusted proxy said
/// nothing in it, what it said in others is the client's side all the same.
fn set_rfc7239(headers: &mut HeaderMap, context: &RequestContext, upstream: &Upstream) {
    let said = headers.contains_key(FORWARDED);
    let peer = context.peer.map(|peer| peer.address);
    let bytes = |name| headers.get(name).map(HeaderValue::as_bytes);
    let element = Element {
        client: if said { peer } else { context.client },
        named: upstream.config.forwarded_for,
        host: bytes(X_FORWARDED_HOST).filter(|_| !said),
        proto: bytes(X_FORWARDED_PROTO).filter(|_| !said),
    };
    let field = element.after(headers.get_all(FORWARDED).iter());
    headers.insert(FORWARDED, field);
    if upstream.config.forwarded == ForwardedFields::Forwarded {
        for name in [X_FORWARDED_FOR, X_FORWARDED_PROTO, X_FORWARDED_HOST] {
            headers.remove(name);
        }
    }
}

/// Where the `Host` means the target, it is another one now.
pub(super) fn follow_target<B>(request: &mut Request<B>, upstream: &Upstream, target: &Target) {
    if upstream.host == HostRule::Target {
        let authority = target.authority.clone();
        request.headers_mut().insert(HOST, authority);
        if upstream.config.http2 {
            to_http2(request, upstream);
        }
    }
}

/// As HTTP/2 has it: who is asked stands in the target, and nothing is said of
/// the connection.
pub(super) fn to_http2<B>(request: &mut Request<B>, upstream: &Upstream) {
    request.headers_mut().remove(CONNECTION);
    let host = request.headers_mut().remove(HOST);
    let authority = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = Some(upstream.scheme());
    // why: a host that was let in is an authority.
    parts.authority = Some(authority.unwrap_or(Authority::from_static("invalid")));
    // why: with a scheme, an authority and the path that was there, it is one.
    *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
    *request.version_mut() = Version::HTTP_2;
}

fn joined<'a>(
    first: &HeaderValue,
    others: impl Iterator<Item = &'a HeaderValue>,
    peer: std::net::IpAddr,
) -> HeaderValue {
    let mut chain = first.as_bytes().to_vec();
    for other in others {
        chain.extend_from_slice(b", ");
        chain.extend_from_slice(other.as_bytes());
    }
    chain.extend_from_slice(format!(", {peer}").as_bytes());
    // why: header values joined by visible ASCII are one.
    HeaderValue::from_maybe_shared(bytes::Bytes::from(chain))
        .unwrap_or(HeaderValue::from_static(""))
}
