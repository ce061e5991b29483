//! What operators do and see.
//!
//! [`Operations`] issues, changes and takes back keys, for every front end
//! alike; [`keyring`] makes and loads the secret keys they are sealed with;
//! [`Health`] says whether this process should be sent requests.

mod audit;
mod health;
pub mod keyring;
mod operations;

pub use audit::{Action, AuditEntry, AuditLog, AuditUnavailable, SinkAuditLog};
pub use health::{Health, HealthConfig, serve_health};
pub use operations::{
    Changes, Created, Envelope, Fault, Finding, KeyRef, NewKey, OperationError, Operations,
    Revoked, Rewrap, Rotation, Shown, Taken, Unlocked, Verification,
};
