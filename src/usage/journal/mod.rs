//! The local files that every usage event goes through.
//!
//! ```text
//! journal/<instance>/            one directory for each start of a process
//!     lock                       flock'ed by the process for its life
//!     <writer>/                  one for each worker
//!         0000000000000001.segment ...
//!         acknowledged           up to where the sink has everything
//!         dropped                how many decisions found no room
//! ```
//!
//! # Bytes
//! A segment is a file of fixed size, all its blocks allocated: `cyk-journal`,
//! zero, the version (4 bytes, little endian), then frames (`frame`) that hold
//! records (`record`), then zeros.
//!
//! # Rules
//! 1. One writer appends, in memory that is mapped from the file. A record is
//!    there once its length is, which is stored last; from then on it outlives
//!    the process. What is [synced](Journal::sync) outlives the machine, too.
//! 2. An admitted request is recorded as opened, and as closed when it has
//!    ended; a refused one as closed. The closed record says everything.
//! 3. Room for the closing record is set aside when a request is admitted: a
//!    request that was admitted can always be closed.
//! 4. When a segment is full, the writer goes on in the next, and first writes
//!    the requests that are still open into it again. A segment is deleted,
//!    oldest first, when the sink has everything before the next one and the
//!    disk has what the next one began with. So a segment never is the only
//!    place of something that is needed after its deletion.
//! 5. Decisions that are recorded are numbered by their writer. With the
//!    number of those that were dropped, that is every decision it made, also
//!    after it was killed.
//! 6. What a dead process left is read whole: whatever is damaged is counted
//!    and stepped over, and what was opened and never closed is an event that
//!    was interrupted. A sink that knows the event already keeps what it has.

mod batch;
mod budget;
mod config;
mod durability;
mod frame;
#[doc(hidden)]
pub mod fuzzing;
mod handle;
mod ids;
mod inspect;
mod keeper;
mod lock;
mod mapping;
#[cfg(test)]
mod model;
mod owner_only;
mod position;
mod reader;
mod record;
mod recovery;
mod remains;
mod shared;
mod slots;
mod storage;
mod writer;

pub use batch::{Batch, Decided};
pub use config::{Config, WhenFull};
pub use durability::Durability;
pub use handle::{Journal, OpenError};
pub use inspect::{Inspected, inspect};
pub use lock::{ClaimError, DataDir};
pub use position::Position;
pub use remains::Remains;
pub use writer::{Reservation, Writer};

/// The version of the format.
const VERSION: u32 = 1;

/// What a segment begins with.
const MAGIC: [u8; 16] = *b"cyk-journal\0\x01\0\0\0";

/// The file in a process's directory that it holds locked.
const LOCK: &str = "lock";
