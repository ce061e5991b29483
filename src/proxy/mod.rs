//! The two ends of the stack: what comes in is named, routed and placed
//! ([`IngressLayer`]), what is admitted is forwarded ([`forward`]), or only said
//! to be ([`decide`]).
//!
//! An upstream may believe what it is told: everything that only this proxy
//! may say is removed from what a client sent, before it is said.

mod client_address;
mod client_side;
mod decide;
mod exchange;
mod failure;
mod fields;
mod forward;
mod forwarded;
mod grpc;
mod grpc_timeout;
mod head;
mod http1;
mod http2;
mod http2_request;
mod ingress;
mod lanes;
mod meters;
mod pool;
mod request_body;
mod response_body;
mod target;
mod telling;
mod tunnel;
mod upstream;
mod way;
mod websocket;

pub use client_address::ClientAddressRule;
pub use decide::{Decided, decide, said_by_us};
pub use failure::Failure;
pub use forward::{Forwarded, forward};
pub use forwarded::{ForwardedFields, ForwardedFor};
pub use head::Vouching;
#[doc(hidden)]
pub use http1::fuzzing;
pub use ingress::{Ingress, IngressFuture, IngressLayer};
pub use response_body::ResponseBody;
pub use upstream::{Balance, CheckConfig, EjectionConfig, TlsConfig, UpstreamConfig, Upstreams};

type BoxError = Box<dyn std::error::Error + Send + Sync>;
