//! The record of a key, its policy, and what it is sealed with.

mod evaluate;
mod record;
mod sealed;

pub use evaluate::{Verdict, evaluate};
pub use record::{ApiKey, InvalidName, KeyName, Scope};
pub use sealed::{Sealed, token_keys};
