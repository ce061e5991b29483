//! What the layers know of a request.

use std::net::IpAddr;
use std::sync::Arc;

use crate::clock::Now;
use crate::directory::Entry;
use crate::key::ApiKey;
use crate::refusal::Refusal;
use crate::route::Route;

/// The one request extension that the layers share: what was known when the
/// request arrived, and who it turned out to be.
///
/// Whoever routes puts it in, with an anonymous identity; [`super`]'s auth
/// layer fills the identity in place, so that the admitted path allocates
/// nothing.
#[derive(Clone, Debug)]
pub struct RequestContext {
    pub received: Now,
    /// Of the client, not of a proxy in between; `None` when it is not known.
    pub client: Option<IpAddr>,
    pub route: Arc<Route>,
    pub identity: Identity,
}

/// Whom a request is by.
#[derive(Clone, Debug, Default)]
pub struct Identity(Option<Arc<Entry>>);

impl Identity {
    /// Nobody in particular: a public route.
    pub const ANONYMOUS: Self = Self(None);

    pub const fn of(entry: Arc<Entry>) -> Self {
        Self(Some(entry))
    }

    pub fn key(&self) -> Option<&ApiKey> {
        self.0.as_deref().map(|entry| &entry.key)
    }

    pub const fn entry(&self) -> Option<&Arc<Entry>> {
        self.0.as_ref()
    }
}

/// The response extension that says why a request was refused, and whose it
/// was when the key is known.
#[derive(Clone, Debug)]
pub struct Refused {
    pub refusal: Refusal,
    pub identity: Identity,
}
