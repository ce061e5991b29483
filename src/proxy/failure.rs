//! What can go wrong with an admitted request, and what its client is told.

use http::{HeaderValue, Response, StatusCode, header};

use super::BoxError;
use super::http1::{Broke, Unanswered};
use super::request_body::Broken;
use crate::context::{Identity, Refused, RequestContext, Severed, UpstreamFailure};
use crate::problem::{self, Kind, Problem};
use crate::refusal::Refusal;

const UPSTREAM_FAILED: Kind = Kind {
    status: StatusCode::BAD_GATEWAY,
    slug: "upstream-failed",
    title: "The service behind this proxy could not be reached, or broke off",
};

const UPSTREAM_TIMEOUT: Kind = Kind {
    status: StatusCode::GATEWAY_TIMEOUT,
    slug: "upstream-timeout",
    title: "The service behind this proxy took too long",
};

const UPSTREAM_BUSY: Kind = Kind {
    status: StatusCode::SERVICE_UNAVAILABLE,
    slug: "upstream-busy",
    title: "The service behind this proxy has as many requests as it may have",
};

const TUNNELS_FULL: Kind = Kind {
    status: StatusCode::SERVICE_UNAVAILABLE,
    slug: "tunnels-full",
    title: "The service behind this proxy has as many tunnels as it may have",
};

/// Where the upstream is busy: for how long nobody knows.
const RETRY_AFTER_BUSY: HeaderValue = HeaderValue::from_static("1");

const BODY_BROKEN: Kind = Kind {
    status: StatusCode::BAD_REQUEST,
    slug: "body-broken",
    title: "The request body broke off or is malformed",
};

const BODY_TOO_SLOW: Kind = Kind {
    status: StatusCode::REQUEST_TIMEOUT,
    slug: "body-too-slow",
    title: "The request body did not come in time",
};

/// What went wrong with an admitted request. The text is for operators.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("the route names an upstream that is not configured")]
    NoUpstream,
    #[error("there is no identity token for the upstream")]
    NoIdToken,
    #[error("cannot connect: {0}")]
    Connect(std::io::Error),
    #[error("no private connection: {0}")]
    Handshake(std::io::Error),
    #[error("no connection within the connect timeout")]
    ConnectTimeout,
    #[error("the upstream broke off: {0}")]
    BrokeOff(BoxError),
    #[error(
        "the upstream switches to a protocol that it was not asked for, or does not show that it was"
    )]
    SwitchedProtocols,
    #[error("the upstream does not open the tunnel that it was asked for, and reports success")]
    NotSwitched,
    #[error("over HTTP/2 the upstream is asked for no tunnels")]
    NoTunnels,
    #[error(
        "the upstream's answer has a length beside a transfer coding, or a coding that is not chunked"
    )]
    AmbiguousAnswer,
    #[error("no answer within the upstream's response timeout")]
    ResponseTimeout,
    #[error("no answer within the route's timeout")]
    RouteTimeout,
    #[error("the upstream has as many requests as it may have (`max_requests`, `max_connections`)")]
    Busy,
    #[error("the upstream has as many tunnels as it may have (`max_tunnels`)")]
    TunnelsFull,
    #[error("the request body is larger than the route allows")]
    BodyTooLarge,
    #[error("the request body broke off or is malformed")]
    BodyBroken,
    #[error("the request body came too slowly")]
    BodyTooSlow,
    #[error(transparent)]
    Severed(Severed),
}

impl Failure {
    /// Of the upstream; `None` when it is the client's.
    pub const fn of_upstream(&self) -> Option<UpstreamFailure> {
        match self {
            Self::NoUpstream
            | Self::NoIdToken
            | Self::Connect(_)
            | Self::Handshake(_)
            | Self::BrokeOff(_)
            | Self::SwitchedProtocols
            | Self::NotSwitched
            | Self::AmbiguousAnswer
            | Self::Busy
            | Self::TunnelsFull => Some(UpstreamFailure::Failed),
            Self::ConnectTimeout | Self::ResponseTimeout | Self::RouteTimeout => {
                Some(UpstreamFailure::TimedOut)
            }
            Self::NoTunnels
            | Self::BodyTooLarge
            | Self::BodyBroken
            | Self::BodyTooSlow
            | Self::Severed(_) => None,
        }
    }

    /// There was no connection, so nothing was sent.
    pub(super) const fn is_unreached(&self) -> bool {
        matches!(
            self,
            Self::Connect(_) | Self::Handshake(_) | Self::ConnectTimeout
        )
    }

    /// A target that does this again and again is left alone for a while.
    pub(super) const fn is_of_target(&self) -> bool {
        self.is_unreached() || matches!(self, Self::BrokeOff(_) | Self::ResponseTimeout)
    }

    const fn kind(&self) -> Kind {
        match self {
            Self::NoTunnels => Refusal::UnsupportedProtocol.kind(),
            Self::BodyTooLarge => Refusal::BodyTooLarge.kind(),
            Self::BodyBroken => BODY_BROKEN,
            Self::BodyTooSlow => BODY_TOO_SLOW,
            Self::Busy => UPSTREAM_BUSY,
            Self::TunnelsFull => TUNNELS_FULL,
            Self::Severed(severed) => severed.0.kind(),
            upstream => match upstream.of_upstream() {
                Some(UpstreamFailure::TimedOut) => UPSTREAM_TIMEOUT,
                _ => UPSTREAM_FAILED,
            },
        }
    }

    /// What the client is told, with the [`UpstreamFailure`] as an extension
    /// when it is the upstream's.
    pub(super) fn response<B>(
        &self,
        context: Option<&RequestContext>,
    ) -> Response<problem::Body<B>> {
        if let Self::Severed(severed) = self {
            return severed_response(*severed, context);
        }
        let problem = Problem {
            kind: self.kind(),
            request_id: context.map(|context| context.request_id.as_str()),
        };
        let mut response = problem.response();
        if matches!(self, Self::Busy | Self::TunnelsFull) {
            let headers = response.headers_mut();
            headers.insert(header::RETRY_AFTER, RETRY_AFTER_BUSY);
        }
        if let Some(failure) = self.of_upstream() {
            response.extensions_mut().insert(failure);
        }
        response
    }
}

impl From<Broken> for Failure {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::TooLarge => Self::BodyTooLarge,
            Broken::Client => Self::BodyBroken,
            Broken::TooSlow => Self::BodyTooSlow,
            Broken::PassedOn => Self::BrokeOff(broken.into()),
            Broken::Severed(severed) => Self::Severed(severed),
        }
    }
}

impl From<Unanswered> for Failure {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::Unsent(broken) => broken.into(),
            Unanswered::Broke(Broke::Ambiguous) => Self::AmbiguousAnswer,
            Unanswered::Broke(broke) => Self::BrokeOff(broke.into()),
        }
    }
}

/// As any request of a key that has no right to it is answered.
fn severed_response<B>(
    severed: Severed,
    context: Option<&RequestContext>,
) -> Response<problem::Body<B>> {
    let identity = context.map_or(Identity::ANONYMOUS, |context| context.identity.clone());
    let refused = Refused {
        refusal: severed.0,
        identity,
    };
    let mut response = refused.into_response(context.map(|context| &context.request_id));
    response.extensions_mut().insert(severed);
    response
}
