//! Decisions for a proxy that somebody keeps: the same verdict as the edge's,
//! told instead of acted on.
//!
//! A proxy asks before it forwards: nginx by `auth_request`, Traefik by
//! `ForwardAuth`, Envoy by `ext_authz` over HTTP. Its question describes the
//! request of its client; the answer is 200 with what an upstream is told of
//! the key, or the refusal. Three rules make that safe:
//!
//! 1. A question is heard only from a proxy of ours ([`caller`]): whoever asks
//!    as he likes could try keys from addresses that are not his.
//! 2. A listener speaks one [`dialect`], and reads only its fields. What is
//!    missing, there twice or malformed is refused, so that a field which the
//!    proxy forgot to set is not the client's to set.
//! 3. What is decided on is what the proxy then forwards, byte for byte: a
//!    target that would have to be corrected first is refused.
//!
//! Beneath that a question is a request like any other: it passes the same
//! layers, and leaves the same usage.

mod answer;
mod caller;
mod config;
mod desk;
mod dialect;
mod door;
mod listener;
mod meters;
mod serve;

pub use caller::SECRET_FIELD;
pub use config::DecisionConfig;
pub use dialect::{Dialect, Question, Unclear};
pub use listener::{BindError, Listeners};
pub use serve::{Limits, Running};
