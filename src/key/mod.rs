//! The record of a key, its policy, and what it is sealed with.

mod evaluate;
mod record;

pub use evaluate::{Verdict, evaluate};
pub use record::{ApiKey, InvalidName, KeyName, Scope};
