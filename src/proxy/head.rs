//! The head of a request, as the upstream gets it.

use http::header::{CONNECTION, HOST, TE};
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri, Version};

use super::Failure;
use super::client_side::ClientSide;
use super::fields::Scrubber;
use super::forwarded::ForwardedFields;
use super::telling::{
    Encoded, InMap, KEY_ID, KEY_NAME, Lines, PERMISSIONS, REQUEST_ID, ROUTE, Telling,
};
use super::upstream::{Assertion, HostRule, IdToken, Target, Upstream};
use crate::assertion::{Claims, Signer, Validity};
use crate::context::RequestContext;
use crate::id_token::IdTokens;
use crate::key::KnownKey;

pub(super) const X_EDGE_ASSERTION: HeaderName = HeaderName::from_static("x-edge-assertion");
const X_EDGE_CLIENT_SUBJECT: HeaderName = HeaderName::from_static("x-edge-client-subject");
const X_EDGE_CLIENT_FINGERPRINT: HeaderName = HeaderName::from_static("x-edge-client-fingerprint");

/// Room for the lines of most requests.
const USUAL_LINES: usize = 512;

/// Rewrites the heads of requests. One for each worker.
#[derive(Debug)]
pub(super) struct Heads {
    scrubber: Scrubber,
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

/// What of a rewritten head is not in its fields.
pub(super) struct Rewritten {
    /// The protocols that the client would go on with.
    pub(super) upgrade: Option<HeaderValue>,
    /// To be written behind the fields. Empty for HTTP/2.
    pub(super) lines: Lines,
}

impl Heads {
    pub(super) fn new(vouching: Vouching) -> Self {
        Self {
            scrubber: Scrubber::default(),
            vouching,
        }
    }

    /// Removes what goes no further, and says what only we may say. Fails where we
    /// cannot say what has to be said.
    pub(super) fn rewrite(
        &self,
        headers: &mut HeaderMap,
        context: &RequestContext,
        upstream: &Upstream,
        target: &Target,
    ) -> Result<Rewritten, Failure> {
        let trusted = context.peer.is_some_and(|peer| peer.trusted);
        let wishes = self.scrubber.scrub_request(headers, trusted);
        if wishes.trailers {
            // The next hop is asked for trailers on its own account.
            headers.insert(TE, HeaderValue::from_static("trailers"));
            headers.insert(CONNECTION, HeaderValue::from_static("te"));
        }
        let side = ClientSide::of(headers, context);
        match &upstream.host {
            HostRule::Preserve if side.host.is_some() => {}
            HostRule::Preserve | HostRule::Target => {
                headers.insert(HOST, target.authority.clone());
            }
            HostRule::Name(name) => {
                headers.insert(HOST, name.clone());
            }
        }
        let fields = upstream.config.forwarded;
        if fields != ForwardedFields::XForwarded {
            side.set_forwarded(headers, context, fields, upstream.config.forwarded_for);
        }
        self.vouch(headers, context, upstream)?;
        let mut lines = Lines::new();
        if upstream.config.http2 {
            tell(&mut InMap::new(headers), context, &side, fields);
        } else {
            lines.reserve(USUAL_LINES);
            tell(&mut lines, context, &side, fields);
        }
        Ok(Rewritten {
            upgrade: wishes.upgrade,
            lines,
        })
    }

    /// Says what few upstreams ask for.
    fn vouch(
        &self,
        headers: &mut HeaderMap,
        context: &RequestContext,
        upstream: &Upstream,
    ) -> Result<(), Failure> {
        if let Some(certificate) = &context.certificate {
            headers.insert(X_EDGE_CLIENT_SUBJECT, certificate.subject.clone());
            headers.insert(X_EDGE_CLIENT_FINGERPRINT, certificate.fingerprint.clone());
        }
        if let Some(assertion) = &upstream.assertion {
            headers.insert(X_EDGE_ASSERTION, self.assert(assertion, context));
        }
        if let Some(IdToken { audience, field }) = &upstream.id_token {
            let tokens = &self.vouching.id_tokens;
            let bearer = tokens.bearer(audience, context.received.wall);
            headers.insert(field.clone(), bearer.ok_or(Failure::NoIdToken)?);
        }
        Ok(())
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

    pub(super) fn scrub_response(&self, headers: &mut HeaderMap) {
        self.scrubber.scrub_response(headers);
    }
}

/// Says what every upstream is told.
fn tell(
    told: &mut impl Telling,
    context: &RequestContext,
    side: &ClientSide,
    fields: ForwardedFields,
) {
    if fields != ForwardedFields::Forwarded {
        side.tell(told);
    }
    tell_key(told, context.identity.key());
    told.tell(&ROUTE, context.route.name.header());
    told.tell(&REQUEST_ID, &context.request_id);
}

/// Says whose request it is.
pub(super) fn tell_key(told: &mut impl Telling, key: Option<&KnownKey>) {
    if let Some(key) = key {
        told.tell(&KEY_ID, &key.id);
        told.tell(&KEY_NAME, &Encoded(key.name.as_str()));
        told.tell(&PERMISSIONS, &key.permissions);
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
