//! `keys`

mod show;
mod sync;
mod token;
mod verify;

use super::Streams;
use super::arguments::{Changes, Key, Keys, Listing, NewKey, Output, TokenOutput};
use super::failure::Failure;
use crate::admin::{self, KeyRef, OperationError, Operations, Revoked, Taken};
use crate::app::{self, Need};
use crate::clock::Clock;
use crate::config::Config;
use crate::repository::{Filter, RepositoryError};

use token::TokenPlace;

/// Runs one of the commands.
pub(super) async fn run(
    command: &Keys,
    config: &Config,
    clock: &Clock,
    streams: &mut Streams<'_>,
) -> Result<(), Failure> {
    let need = match command {
        Keys::Create(_) | Keys::Update(_) | Keys::Rotate { .. } | Keys::Reveal { .. } => Need::Open,
        Keys::Show(_) | Keys::Revoke(_) => Need::OpenIfPossible,
        Keys::Verify(how) if !how.revisions_only => Need::Open,
        Keys::List(_) | Keys::Delete(_) | Keys::SyncUsage { .. } | Keys::Verify(_) => Need::Nothing,
    };
    let operations = app::operations(config, clock, need).await?;
    let mut handler = Handler {
        operations,
        streams,
    };
    match command {
        Keys::Create(new) => handler.create(new).await,
        Keys::List(listing) => handler.list(listing).await,
        Keys::Show(key) => handler.show(&key.key, key.output).await,
        Keys::Update(changes) => handler.update(changes).await,
        Keys::Rotate {
            key,
            overlap,
            token,
            output,
        } => handler.rotate(key, *overlap, token, *output).await,
        Keys::Revoke(key) => handler.revoke(&key.key, key.output).await,
        Keys::Delete(key) => handler.delete(&key.key, key.output).await,
        Keys::Reveal { key, token } => handler.reveal(key, token).await,
        Keys::SyncUsage { all } => {
            let repository = handler.operations.repository;
            let sync = app::usage_sync(config, clock, repository).await?;
            sync::run(&sync, *all, handler.streams).await
        }
        Keys::Verify(how) => {
            let log = app::reports(config).await?;
            verify::run(&handler.operations, &*log, *how, handler.streams).await
        }
    }
}

struct Handler<'a, 'b> {
    operations: Operations,
    streams: &'a mut Streams<'b>,
}

impl Handler<'_, '_> {
    async fn create(&mut self, new: &NewKey) -> Result<(), Failure> {
        let now = self.operations.clock.wall();
        let expires_at = new.expiry.moment(now);
        if let Some(past) = expires_at.filter(|moment| *moment <= now) {
            return Err(Failure::refused(format_args!(
                "the key would end at {past}: that is over"
            )));
        }
        let place = TokenPlace::prepare(&new.token)?;
        let request = admin::NewKey {
            name: new.name.clone(),
            permissions: new.permissions.clone(),
            rate_limit: new.rate_limit,
            expires_at,
            allowed_ips: new.allowed_ips.clone(),
            recoverable: new.recoverable,
        };
        match self.operations.create(request).await {
            Ok(created) => token::deliver(&created, place, new.output, self.streams),
            Err(error) => {
                place.withdraw();
                Err(error.into())
            }
        }
    }

    async fn list(&mut self, listing: &Listing) -> Result<(), Failure> {
        let filter = Filter {
            name: listing.name.clone(),
            active: match (listing.active, listing.inactive) {
                (true, _) => Some(true),
                (_, true) => Some(false),
                _ => None,
            },
        };
        let page = self.operations.all(&filter).await?;
        for damaged in &page.damaged {
            writeln!(self.streams.err, "warning: {damaged}")?;
        }
        show::listing(&page.keys, listing.output, self.streams.out)
    }

    async fn show(&mut self, key: &Key, output: Output) -> Result<(), Failure> {
        let shown = self.operations.show(&key.reference()).await?;
        show::one(&shown, output, self.streams.out)
    }

    async fn update(&mut self, arguments: &Changes) -> Result<(), Failure> {
        let now = self.operations.clock.wall();
        let reference = arguments.key.reference();
        let changes = arguments.changes(now);
        let key = self.operations.update(&reference, &changes).await?;
        self.say(format_args!(
            "key {} now has revision {}",
            key.id, key.revision
        ))?;
        self.json(&show::KeyView::of(&key), arguments.output)
    }

    async fn rotate(
        &mut self,
        key: &Key,
        overlap: std::time::Duration,
        token: &TokenOutput,
        output: Output,
    ) -> Result<(), Failure> {
        let place = TokenPlace::prepare(token)?;
        match self.operations.rotate(&key.reference(), overlap).await {
            Ok(rotation) => {
                let old = &rotation.predecessor;
                if let Some(end) = old.expires_at {
                    self.say(format_args!("key {} ends at {end}", old.id))?;
                }
                token::deliver(&rotation.successor, place, output, self.streams)
            }
            Err(error) => {
                place.withdraw();
                Err(error.into())
            }
        }
    }

    async fn revoke(&mut self, key: &Key, output: Output) -> Result<(), Failure> {
        let revoked = self.operations.revoke(&key.reference()).await?;
        self.warn_of_copies(revoked.len())?;
        for Revoked {
            record,
            already,
            sealed,
        } in &revoked
        {
            let key = self.named(record)?;
            match (already, sealed) {
                (true, _) => self.say(format_args!("{key} was revoked already"))?,
                (false, true) => self.say(format_args!("{key} is revoked"))?,
                (false, false) => self.say(format_args!(
                    "{key} is revoked, and cannot be activated again: without the keyring it \
                     could not be sealed so"
                ))?,
            }
            self.record(record, output)?;
        }
        Ok(())
    }

    async fn delete(&mut self, key: &Key, output: Output) -> Result<(), Failure> {
        let reference = key.reference();
        let deleted = match self.operations.delete(&reference).await {
            Err(OperationError::Unknown(_)) if self.is_missing(&reference).await? => {
                return self.say(format_args!(
                    "key {reference} was missing: it is deleted by the audit log now, too"
                ));
            }
            deleted => deleted?,
        };
        self.warn_of_copies(deleted.len())?;
        for record in &deleted {
            let key = self.named(record)?;
            self.say(format_args!("{key} is deleted"))?;
            self.record(record, output)?;
        }
        Ok(())
    }

    fn warn_of_copies(&mut self, records: usize) -> Result<(), Failure> {
        if records > 1 {
            self.say(format_args!(
                "warning: {records} records have this id, and all of them were taken: at most one \
                 is genuine, and whoever wrote the others can write to the key store"
            ))?;
        }
        Ok(())
    }

    /// What a record is called; says why when it cannot be read.
    fn named(&mut self, record: &Taken) -> Result<String, Failure> {
        match record {
            Ok(key) => Ok(format!("key {}", key.id)),
            Err(damage) => {
                self.say(format_args!("warning: {damage}"))?;
                Ok("a record that cannot be read".to_owned())
            }
        }
    }

    fn record(&mut self, record: &Taken, output: Output) -> Result<(), Failure> {
        match record {
            Ok(key) => self.json(&show::KeyView::of(key), output),
            Err(_) => Ok(()),
        }
    }

    /// Whether it was, and from now on is not any more: its absence is audited.
    async fn is_missing(&self, key: &KeyRef) -> Result<bool, Failure> {
        match key {
            KeyRef::Id(id) => Ok(self.operations.note_missing(*id).await?),
            KeyRef::Hash(_) | KeyRef::Name(_) => Ok(false),
        }
    }

    async fn reveal(&mut self, key: &Key, token: &TokenOutput) -> Result<(), Failure> {
        let place = TokenPlace::prepare(token)?;
        match self.operations.reveal(&key.reference()).await {
            Ok(token) => place.put(token.expose(), self.streams.out),
            Err(error) => {
                place.withdraw();
                Err(error.into())
            }
        }
    }

    /// Tells people what was done.
    fn say(&mut self, what: std::fmt::Arguments<'_>) -> Result<(), Failure> {
        Ok(writeln!(self.streams.err, "{what}")?)
    }

    fn json(&mut self, view: &impl serde::Serialize, output: Output) -> Result<(), Failure> {
        if output.json {
            super::write_json(view, self.streams.out)?;
        }
        Ok(())
    }
}

impl Key {
    fn reference(&self) -> KeyRef {
        KeyRef::from(self.selector.as_str())
    }
}

impl From<OperationError> for Failure {
    fn from(error: OperationError) -> Self {
        match error {
            OperationError::NoChange => Self::refused(error),
            OperationError::Repository(RepositoryError::Conflict { .. }) => {
                Self::failed(format_args!("{error}: try again"))
            }
            error => Self::failed(error),
        }
    }
}
