//! The Tower layers: who is it, may it, how often, and what was used.
//!
//! They share one request extension, the [`RequestContext`], and answer a
//! refused request with a response whose extensions hold a [`Refused`].

pub use crate::context::{Identity, Refused, RequestContext};
