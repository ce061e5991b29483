//! The record of a key, its policy, and what it is sealed with.

mod evaluate;
mod known;
mod name;
mod record;
mod sealed;

pub use evaluate::{Verdict, evaluate};
pub use known::KnownKey;
pub use name::{InvalidName, KeyName};
pub use record::{ApiKey, Scope};
pub use sealed::{Sealed, token_keys};
