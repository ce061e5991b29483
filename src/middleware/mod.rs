//! The Tower layers: who is it, may it, how often, and what was used.
//!
//! | layer | does |
//! | --- | --- |
//! | [`RefusalUsageLayer`] | records what was refused inside of it |
//! | [`RateLimitRefusalsLayer`] | tells refused but identified keys where they stand |
//! | [`ApiKeyAuthLayer`] | finds the key, judges it, takes the token off the request |
//! | [`RateLimitLayer`] | counts the request against the key's limit |
//! | [`UsageLayer`] | records the admitted request, before its end is seen |
//! | [`StreamsLayer`] | cuts what still flows when its key loses the right to it |
//!
//! That is their order, outermost first; each also works without the others,
//! though what is inside of [`ApiKeyAuthLayer`] lets everybody pass without it.
//! They share one request extension, the [`RequestContext`], which the proxy
//! puts in and which otherwise the outermost of them makes: of [`ClientAddress`]
//! and [`Required`](crate::permission::Required), where the request has these
//! extensions, and of its `X-Request-Id`. A handler finds in it whom the
//! request is by. A refused request is answered with a response whose
//! extensions hold a [`Refused`]; the inner service's errors pass untouched.
//!
//! The first two are for refusals: without [`RefusalUsageLayer`] what is refused
//! leaves no usage, without [`RateLimitRefusalsLayer`] a 403 has no `RateLimit`.

pub mod auth;
pub mod rate_limit;
pub mod streams;
pub mod usage;

mod arrival;
mod refusing;

pub use crate::context::{Identity, Refused, RequestContext};
pub use arrival::ClientAddress;
pub use auth::ApiKeyAuthLayer;
pub use rate_limit::{RateLimitLayer, RateLimitRefusalsLayer};
pub use streams::StreamsLayer;
pub use usage::{RefusalUsageLayer, UsageLayer};
