//! Files that change, taken into use without being asked.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use metrics::counter;
use tokio::time::sleep;

use super::material::check;
use super::{Config, Tls};
use crate::clock::Clock;
use crate::telemetry::metric::TLS_RELOAD_FAILURES;

/// Between two looks at the files. Renewing takes weeks, and looking next to
/// nothing.
const INTERVAL: Duration = Duration::from_secs(2);

/// What tells that a file is another one; a link is followed, so that one that
/// points elsewhere tells as well. `None` while there is none.
#[derive(Debug, PartialEq, Eq)]
struct Mark(Option<[i128; 5]>);

impl Mark {
    fn of(file: &Path) -> Self {
        Self(fs::metadata(file).ok().map(|found| {
            [
                found.dev().into(),
                found.ino().into(),
                found.len().into(),
                found.mtime().into(),
                found.mtime_nsec().into(),
            ]
        }))
    }
}

fn marks(config: &Config) -> Vec<Mark> {
    let of_certificates = config.certificates.iter();
    let files = of_certificates.flat_map(|files| [&files.chain, &files.key]);
    files
        .chain(&config.client_ca)
        .map(|file| Mark::of(file))
        .collect()
}

impl Tls {
    /// Looks again and again whether a file has changed, and loads them all when
    /// one has. Files that cannot be used are said once and change nothing.
    pub async fn follow(self, clock: Clock) {
        let mut seen = marks(&self.config());
        loop {
            sleep(INTERVAL).await;
            let config = self.config();
            // Before they are read: what changes meanwhile is seen next time.
            let found = marks(&config);
            if found != seen {
                seen = found;
                self.take(&config, &clock);
            }
        }
    }

    fn take(&self, config: &Config, clock: &Clock) {
        let mut problems = check(self.section(), config, clock.wall());
        if problems.is_empty() {
            problems = self.reload(config).err().unwrap_or_default();
        }
        if problems.is_empty() {
            tracing::info!("certificates changed and were loaded");
            return;
        }
        counter!(TLS_RELOAD_FAILURES).increment(1);
        for problem in problems {
            tracing::error!(%problem, "certificates changed and are not used: the old ones stay");
        }
    }
}
