//! Events as they are stored.

use std::collections::BTreeSet;
use std::time::Duration;

use uuid::Uuid;

use super::{EventQuery, EventRow, ReportError, UsageReports};
use crate::clock::Timestamp;

/// How much later than the newest an event may be stored and still be shown:
/// edges ship within a fraction of a second when they can.
const LATE: Duration = Duration::from_secs(5);

/// Events read at once.
const PAGE: usize = 1000;

/// Follows a sink: gives each event once, in the order of their times as far as
/// they are stored in it. What comes more than five seconds after a newer one
/// is left to the reports.
#[derive(Debug)]
pub struct Tail {
    key_id: Option<Uuid>,
    route: Option<String>,
    from: Timestamp,
    after: (Timestamp, Uuid),
    newest: Option<Timestamp>,
    shown: BTreeSet<(Timestamp, Uuid)>,
}

/// What a look brought.
#[derive(Debug)]
pub struct TailPage {
    pub events: Vec<EventRow>,
    /// Whether there are more already.
    pub more: bool,
}

impl Tail {
    /// Of one key, of one route, or of all.
    pub const fn new(from: Timestamp, key_id: Option<Uuid>, route: Option<String>) -> Self {
        Self {
            key_id,
            route,
            from,
            after: (from, Uuid::nil()),
            newest: None,
            shown: BTreeSet::new(),
        }
    }

    /// What has come since the last look.
    pub async fn next(
        &mut self,
        reports: &dyn UsageReports,
        now: Timestamp,
    ) -> Result<TailPage, ReportError> {
        let query = EventQuery {
            after: self.after,
            limit: PAGE,
            key_id: self.key_id,
            route: self.route.clone(),
        };
        let mut events = reports.events(query).await?;
        let more = events.len() == PAGE;
        if let Some(last) = events.last() {
            self.after = (last.at, last.event_id);
            self.newest = self.newest.max(Some(last.at));
        }
        events.retain(|event| self.shown.insert((event.at, event.event_id)));
        if !more {
            self.begin_again(now);
        }
        Ok(TailPage { events, more })
    }

    /// A clock that is ahead does not hide what the others record.
    fn begin_again(&mut self, now: Timestamp) {
        let since = self.newest.map_or(self.from, |newest| {
            newest.min(now).saturating_sub(LATE).max(self.from)
        });
        self.after = (since, Uuid::nil());
        self.shown = self.shown.split_off(&self.after);
    }
}
