//! What operators see of a running process: logs and metrics.
//!
//! [`metric`] names every metric in one place. The set-up of the subscriber
//! and the recorder belongs to the binary; the library only writes to the
//! facades, so that an application with a subscriber of its own sees the same.

pub mod metric;

#[cfg(feature = "edge")]
mod logging;
#[cfg(feature = "edge")]
mod recorder;

#[cfg(feature = "edge")]
pub use logging::{AlreadyInstalled, Config, Format, install_logging};
#[cfg(feature = "edge")]
pub use recorder::{Metrics, install_metrics};
