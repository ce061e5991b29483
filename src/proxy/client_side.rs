//! Where a request comes from, by which name and how, as `X-Forwarded-*` and
//! `Forwarded` tell it.

use http::header::{FORWARDED, HOST};
use http::{HeaderMap, HeaderValue};

use super::forwarded::{Element, ForwardedFields, ForwardedFor};
use super::telling::{FORWARDED_FOR, FORWARDED_HOST, FORWARDED_PROTO, Telling, Value};
use crate::context::{Peer, RequestContext};

/// What a trusted proxy said of the client's side stays, and the peer is added; what
/// nobody said is what is seen here.
#[derive(Debug)]
pub(super) struct ClientSide {
    peer: Option<Peer>,
    /// As the client sent it.
    pub(super) host: Option<HeaderValue>,
    /// Of a trusted proxy, and the peer behind it.
    chain: Option<HeaderValue>,
    said_proto: Option<HeaderValue>,
    said_host: Option<HeaderValue>,
}

impl ClientSide {
    /// Takes the chain out, to be told again with the peer behind it. What somebody
    /// said who is not trusted is gone already.
    pub(super) fn of(headers: &mut HeaderMap, context: &RequestContext) -> Self {
        let mut side = Self {
            peer: context.peer,
            host: headers.get(HOST).cloned(),
            chain: None,
            said_proto: None,
            said_host: None,
        };
        if let Some(peer) = side.peer.filter(|peer| peer.trusted) {
            side.chain = chain(headers, peer);
            headers.remove(FORWARDED_FOR.name);
            side.said_proto = headers.get(FORWARDED_PROTO.name).cloned();
            side.said_host = headers.get(FORWARDED_HOST.name).cloned();
        }
        side
    }

    const fn scheme(&self) -> HeaderValue {
        let secure = match self.peer {
            Some(peer) => peer.secure,
            None => false,
        };
        HeaderValue::from_static(if secure { "https" } else { "http" })
    }

    /// Says it in the fields that everybody knows.
    pub(super) fn tell(&self, told: &mut impl Telling) {
        match (&self.chain, self.peer) {
            (Some(chain), _) => told.tell(&FORWARDED_FOR, chain),
            (None, Some(peer)) => told.tell(&FORWARDED_FOR, &peer.address),
            (None, None) => {}
        }
        if self.said_proto.is_none() {
            told.tell(&FORWARDED_PROTO, &self.scheme());
        }
        if self.said_host.is_none()
            && let Some(host) = &self.host
        {
            told.tell(&FORWARDED_HOST, host);
        }
    }

    /// Says the same in the one field that has a standard. Where a trusted proxy said
    /// nothing in it, what it said in others is the client's side all the same.
    pub(super) fn set_forwarded(
        &self,
        headers: &mut HeaderMap,
        context: &RequestContext,
        fields: ForwardedFields,
        named: ForwardedFor,
    ) {
        let said = headers.contains_key(FORWARDED);
        let host = self.said_host.as_ref().or(self.host.as_ref());
        let scheme = self.scheme();
        let proto = self.said_proto.as_ref().unwrap_or(&scheme);
        let peer = self.peer.map(|peer| peer.address);
        let element = Element {
            client: if said { peer } else { context.client },
            named,
            host: host.map(HeaderValue::as_bytes).filter(|_| !said),
            proto: Some(proto.as_bytes()).filter(|_| !said),
        };
        let field = element.after(headers.get_all(FORWARDED).iter());
        headers.insert(FORWARDED, field);
        if fields == ForwardedFields::Forwarded {
            headers.remove(FORWARDED_PROTO.name);
            headers.remove(FORWARDED_HOST.name);
        }
    }
}

/// What was said, in one field, and `peer` behind it; `None` where nothing was.
fn chain(headers: &HeaderMap, peer: Peer) -> Option<HeaderValue> {
    let mut said = headers.get_all(FORWARDED_FOR.name).iter();
    let mut chain = said.next()?.as_bytes().to_vec();
    for other in said {
        chain.extend_from_slice(b", ");
        chain.extend_from_slice(other.as_bytes());
    }
    chain.extend_from_slice(b", ");
    peer.address.put(&mut chain);
    // why: header values joined by visible ASCII are one.
    HeaderValue::from_maybe_shared(bytes::Bytes::from(chain)).ok()
}
