//! Who is it, and may it.
//!
//! 1. A token is looked for in the configured places; ours is taken off the
//!    request, whatever becomes of it.
//! 2. A public route asks for nothing more.
//! 3. None, a malformed one or two: refused.
//! 4. The key was asked for lately on this thread.
//! 5. If it was not, the token's tag is checked: a forged one is refused here,
//!    before anything that is shared is asked for it. Then the directory knows the
//!    key, or knows that there is none, or the store is read.
//! 6. The policy is judged: [`evaluate`].
//! 7. What was refused because its token is no good counts against its address;
//!    beyond `failures_per_minute` it is told so instead.
//!
//! `ApiKeyAuthLayer::check` is all of that but the read; `call` only dispatches.

mod brake;
mod config;
mod find;
mod future;
#[doc(hidden)]
pub mod fuzzing;

pub use config::{Config, InvalidPlace, Place};
pub use future::ResponseFuture;

use std::fmt;
use std::marker::PhantomData;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{Method, Request, Response};
use tower_layer::Layer;
use tower_service::Service;

use super::arrival;
use super::refusing::Refusing;
use super::streams::StreamsLayer;
use crate::clock::{Clock, Timestamp};
use crate::context::{Identity, Refused, RequestContext};
use crate::directory::{Directory, Entry, Lookup};
use crate::key::{KnownKey, Verdict, evaluate};
use crate::permission::Required;
use crate::problem::{self, Answers, Around, Inside, Within};
use crate::refusal::Refusal;
use crate::route::Needed;
use crate::token::{InvalidPrefix, KeyHash, Presented, TokenDigest, TokenFormat, TokenKeys};
use brake::Brake;
use find::find;
use future::Answer;

/// What authenticates: everything that the layers of one process share.
struct Authority {
    format: TokenFormat,
    places: Vec<Place>,
    keys: Arc<ArcSwap<TokenKeys>>,
    directory: Directory,
    brake: Option<Brake>,
    clock: Clock,
}

/// Lets a request through when its key may make it.
#[derive(Clone)]
pub struct ApiKeyAuthLayer {
    authority: Arc<Authority>,
    required: Option<Arc<Required>>,
}

impl ApiKeyAuthLayer {
    /// `keys` may be swapped at any time, as after a change of the keyring.
    pub fn new(
        config: &Config,
        keys: Arc<ArcSwap<TokenKeys>>,
        directory: Directory,
        clock: Clock,
    ) -> Result<Self, InvalidPrefix> {
        let authority = Authority {
            format: config.format()?,
            places: config
                .places
                .iter()
                .take(config::MAX_PLACES)
                .cloned()
                .collect(),
            keys,
            directory,
            brake: Brake::new(config.failures_per_minute),
            clock,
        };
        Ok(Self {
            authority: Arc::new(authority),
            required: None,
        })
    }

    /// The same, for keys that hold `required` beside what the request's route
    /// asks for. It may stand inside another such layer, and then only judges
    /// the key that one found.
    pub fn require(&self, required: Required) -> Self {
        Self {
            authority: Arc::clone(&self.authority),
            required: Some(Arc::new(required)),
        }
    }
}

impl<S> Layer<S> for ApiKeyAuthLayer {
    type Service = ApiKeyAuth<S>;

    fn layer(&self, inner: S) -> ApiKeyAuth<S> {
        ApiKeyAuth::new(inner, self)
    }
}

impl<S> Layer<S> for Within<ApiKeyAuthLayer> {
    type Service = ApiKeyAuth<S, Inside>;

    fn layer(&self, inner: S) -> ApiKeyAuth<S, Inside> {
        ApiKeyAuth::new(inner, &self.0)
    }
}

/// What [`ApiKeyAuthLayer`] makes of a service.
#[derive(Clone, Debug)]
pub struct ApiKeyAuth<S, A = Around> {
    inner: S,
    rules: ApiKeyAuthLayer,
    answers: PhantomData<A>,
}

impl<S, A> ApiKeyAuth<S, A> {
    fn new(inner: S, rules: &ApiKeyAuthLayer) -> Self {
        Self {
            inner,
            rules: rules.clone(),
            answers: PhantomData,
        }
    }
}

/// What is to be done with a request.
enum Check {
    Admit(Identity),
    Refuse(Refused),
    /// Only the store can tell.
    Lookup(KeyHash, TokenDigest),
}

impl ApiKeyAuthLayer {
    /// Decides, as far as that needs no waiting, and takes the token off.
    fn check<B>(&self, request: &mut Request<B>) -> Check {
        let Authority { format, places, .. } = &*self.authority;
        arrival::ensure_context(request, &self.authority.clock);
        let Some(context) = request.extensions().get::<RequestContext>() else {
            // why: it has just been made.
            return Check::Refuse(nobody(Refusal::TokenMissing));
        };
        let parameter = context.route.access.query_parameter.as_deref();
        let found = find(request, format, places, parameter);
        let check = self.decide(found.token, context, request.method());
        let taken = found.taken;
        let target = parameter.and_then(|parameter| taken.target(request.uri(), format, parameter));
        if let Some(target) = target {
            *request.uri_mut() = target;
        }
        taken.take_off(request.headers_mut(), format, places);
        check
    }

    fn decide(
        &self,
        token: Result<Presented<'_>, Refusal>,
        context: &RequestContext,
        method: &Method,
    ) -> Check {
        if let Some(entry) = context.identity.entry() {
            // A layer further out has found it.
            return self.judge(Arc::clone(entry), context, method).into();
        }
        if context.route.access.public {
            return Check::Admit(Identity::ANONYMOUS);
        }
        let token = match token {
            Ok(token) => token,
            Err(refusal) => return Check::Refuse(nobody(refusal)),
        };
        let keys = self.authority.keys.load();
        let directory = &self.authority.directory;
        let Some(hash) = keys.hash(token) else {
            let refusal = directory.generation_not_held(context.received);
            return Check::Refuse(nobody(refusal));
        };
        let found = match directory.at_hand(&hash, context.received) {
            Some(found) => found,
            None if keys.tag_matches(token) => directory.shared(&hash, context.received),
            None => return Check::Refuse(nobody(Refusal::KeyUnknown)),
        };
        match found {
            Lookup::Hit(entry) => self.judge(entry, context, method).into(),
            Lookup::Refused(refusal) => Check::Refuse(nobody(refusal)),
            Lookup::Miss => Check::Lookup(hash, TokenDigest::of(token.as_str())),
        }
    }

    /// As [`judge`](Self::judge), of what a look-up in the store told.
    fn judge_found<B>(
        &self,
        found: Result<Arc<Entry>, Refusal>,
        request: &Request<B>,
    ) -> Result<Identity, Refused> {
        let context = request.extensions().get::<RequestContext>();
        match (found, context) {
            (Ok(entry), Some(context)) => self.judge(entry, context, request.method()),
            // why: the context was there when the look-up began.
            (Ok(_), None) => Err(nobody(Refusal::StoreUnavailable)),
            (Err(refusal), _) => Err(nobody(refusal)),
        }
    }

    fn judge(
        &self,
        entry: Arc<Entry>,
        context: &RequestContext,
        method: &Method,
    ) -> Result<Identity, Refused> {
        let (needed, now) = (
            context.route.access.required.of(method),
            context.received.wall,
        );
        let verdict = self.verdict(&entry.key, needed, context.client, now);
        let identity = Identity::of(entry);
        match verdict {
            Verdict::Admit => Ok(identity),
            Verdict::Refuse(refusal) => Err(Refused { refusal, identity }),
        }
    }
}

impl ApiKeyAuthLayer {
    /// What is said of a request that needs `needed` on its route.
    pub(super) fn verdict(
        &self,
        key: &KnownKey,
        needed: Needed<'_>,
        client: Option<IpAddr>,
        now: Timestamp,
    ) -> Verdict {
        let verdict = |required| evaluate(key, required, client, now);
        let of_route = match needed {
            Needed::Nothing => verdict(None),
            Needed::Permission(required) => verdict(Some(required)),
            Needed::Impossible => match verdict(None) {
                Verdict::Admit => Verdict::Refuse(Refusal::PermissionDenied),
                refused @ Verdict::Refuse(_) => refused,
            },
        };
        match (of_route, self.required.as_deref()) {
            (Verdict::Admit, Some(required)) => verdict(Some(required)),
            (verdict, _) => verdict,
        }
    }

    /// Cuts the streams of keys that this layer would not admit any more. It
    /// belongs inside of everything that records.
    pub fn streams(&self) -> StreamsLayer {
        StreamsLayer::new(self.clone())
    }

    pub(super) fn directory(&self) -> &Directory {
        &self.authority.directory
    }

    pub(super) fn now(&self) -> Timestamp {
        self.authority.clock.wall()
    }
}

impl From<Result<Identity, Refused>> for Check {
    fn from(judged: Result<Identity, Refused>) -> Self {
        match judged {
            Ok(identity) => Self::Admit(identity),
            Err(refused) => Self::Refuse(refused),
        }
    }
}

const fn nobody(refusal: Refusal) -> Refused {
    Refused {
        refusal,
        identity: Identity::ANONYMOUS,
    }
}

/// Tells the inner services whom the request is by.
fn identify<B>(request: &mut Request<B>, identity: Identity) {
    if let Some(context) = request.extensions_mut().get_mut::<RequestContext>() {
        context.identity = identity;
    }
}

impl ApiKeyAuthLayer {
    fn answer<B>(&self, request: &mut Request<B>, refused: Refused) -> Answer {
        let context = request.extensions().get::<RequestContext>();
        let wait = context.and_then(|context| self.braked(refused.refusal, context));
        let Refused { refusal, identity } = match wait {
            None => refused,
            // Nor does this tell whether there is such a key.
            Some(_) => nobody(Refusal::TooManyFailures),
        };
        Answer {
            refusing: Refusing::of(request, refusal, identity),
            retry_after: wait.map(|wait| wait.as_secs().saturating_add(1)),
        }
    }

    /// How long to wait, when the token is no good and too many from there were not.
    fn braked(&self, refusal: Refusal, context: &RequestContext) -> Option<Duration> {
        let brake = self.authority.brake.as_ref()?;
        let client = context.client.filter(|_| refusal.is_of_a_bad_token())?;
        brake.fails(client, context.received.tick).err()
    }
}

impl<S, A, B, R> Service<Request<B>> for ApiKeyAuth<S, A>
where
    S: Service<Request<B>, Response = Response<R>> + Clone,
    A: Answers<R>,
{
    type Response = Response<problem::Body<A::Inner>>;
    type Error = S::Error;
    type Future = ResponseFuture<S, B, A>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        match self.rules.check(&mut request) {
            Check::Admit(identity) => {
                identify(&mut request, identity);
                ResponseFuture::inner(self.inner.call(request))
            }
            Check::Refuse(refused) => {
                ResponseFuture::answer(self.rules.answer(&mut request, refused))
            }
            Check::Lookup(hash, digest) => {
                // The service that was polled ready goes; its clone was not.
                let clone = self.inner.clone();
                let ready = std::mem::replace(&mut self.inner, clone);
                let client = request
                    .extensions()
                    .get::<RequestContext>()
                    .and_then(|context| context.client);
                let fetch = self.rules.authority.directory.fetch(hash, digest, client);
                ResponseFuture::lookup(fetch, self.rules.clone(), ready, request)
            }
        }
    }
}

impl fmt::Debug for ApiKeyAuthLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKeyAuthLayer")
            .field("places", &self.authority.places)
            .field("required", &self.required)
            .finish_non_exhaustive()
    }
}
