//! A look at every journal in a data directory, those that are written to as
//! well, that changes nothing.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::Path;

use uuid::Uuid;

use super::frame::{Frames, Salt};
use super::record::{self, Record};
use super::remains::writers_in;
use super::storage::{self, DROPPED};
use super::{MAGIC, handle};

/// What the journal of one start of a process holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inspected {
    pub instance: Uuid,
    /// Decisions, those that were dropped too.
    pub decided: u64,
    pub dropped: u64,
    /// Every event of which there is a record, stored already or not.
    pub events: HashSet<Uuid>,
}

/// Looks at every journal in the data directory.
pub fn inspect(data_dir: &Path) -> io::Result<Vec<Inspected>> {
    let directories = match handle::directories(&data_dir.join("journal")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut found = Vec::new();
    for directory in directories {
        let name = directory.file_name().and_then(|name| name.to_str());
        let Some(instance) = name.and_then(|name| name.parse().ok()) else {
            continue;
        };
        let mut inspected = Inspected {
            instance,
            ..Inspected::default()
        };
        // One that was stored meanwhile is gone.
        for (writer, path) in gone_is_default(writers_in(&directory))? {
            inspected.look_at(writer, &path)?;
        }
        found.push(inspected);
    }
    Ok(found)
}

impl Inspected {
    fn look_at(&mut self, writer: u32, directory: &Path) -> io::Result<()> {
        let mut recorded = 0;
        for sequence in gone_is_default(storage::list(directory))? {
            let bytes = gone_is_default(fs::read(storage::segment(directory, sequence)))?;
            let salt = Salt::of(self.instance, writer, sequence);
            let frames = Frames::new(&bytes, salt, MAGIC.len());
            for record in frames.filter_map(|frame| record::decode(frame.payload)) {
                match record {
                    Record::Began { decisions } => recorded = recorded.max(decisions),
                    Record::Opened { number, event } | Record::Closed { number, event } => {
                        recorded = recorded.max(number);
                        self.events.insert(event.event_id);
                    }
                }
            }
        }
        let dropped = gone_is_default(fs::read(directory.join(DROPPED)))?;
        let dropped = dropped.try_into().map_or(0, u64::from_ne_bytes);
        self.decided += recorded + dropped;
        self.dropped += dropped;
        Ok(())
    }
}

fn gone_is_default<T: Default>(result: io::Result<T>) -> io::Result<T> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(T::default()),
        other => other,
    }
}
