//! `keyring rotate` and `keyring password`: what was done, and what comes next.

use std::fmt;

use crate::admin::keyring::{Changed, KeyringOperationError, KeyringOperations};
use crate::app;
use crate::cli::Streams;
use crate::cli::failure::Failure;
use crate::clock::Clock;
use crate::config::Config;
use crate::crypto::{KeyId, Suite};
use crate::telemetry::metric;

/// Makes one change, and says on the standard output what it was about.
pub(super) struct Handler<'a, 'b> {
    config: &'a Config,
    clock: &'a Clock,
    streams: &'a mut Streams<'b>,
}

impl<'a, 'b> Handler<'a, 'b> {
    pub(super) const fn new(
        config: &'a Config,
        clock: &'a Clock,
        streams: &'a mut Streams<'b>,
    ) -> Self {
        Self {
            config,
            clock,
            streams,
        }
    }

    pub(super) async fn add_key(mut self, suite: Option<Suite>) -> Result<(), Failure> {
        let changed = self.keyring().await?.add_key(suite).await?;
        self.done(&changed, "is added")?;
        self.wait_for(&changed)?;
        self.say("then promote it: keyring rotate --promote")
    }

    pub(super) async fn promote(mut self, key: Option<KeyId>) -> Result<(), Failure> {
        let changed = self.keyring().await?.promote(key).await?;
        self.done(&changed, "is primary")?;
        self.say("now seal every record with it: keyring rewrap")
    }

    pub(super) async fn rotate_all(mut self) -> Result<(), Failure> {
        let new = app::new_password(self.config)?;
        let changed = self.keyring().await?.rotate_all(new).await?;
        self.done(&changed, "is primary, and the new password alone opens it")?;
        self.wait_for(&changed)?;
        self.say(
            "an edge that stays behind was not started with PQ_ENCRYPTION_NEW_PASSWORD beside \
             PQ_ENCRYPTION_PASSWORD: start it with both",
        )?;
        self.say(
            "then start every edge with the new password alone, as PQ_ENCRYPTION_PASSWORD: until \
             then the old one still leads an edge that starts back",
        )?;
        self.say("look for records that nobody of yours made, and delete them: keys verify")?;
        self.say("then seal every record with it: keyring rewrap")?;
        self.say("and issue successors of the keys, whose tokens are of an older generation: keys rotate")?;
        self.say("and, once nobody uses those, remove what was stolen:")?;
        for key in changed.keyring.keys.iter().filter(|key| !key.primary) {
            self.say(format_args!("  keyring drop --key {}", key.id))?;
        }
        let generations = changed.keyring.generations.split_last();
        for generation in generations.map_or(&[][..], |(_, older)| older) {
            self.say(format_args!("  keyring drop --generation {generation}"))?;
        }
        Ok(())
    }

    /// One of them.
    pub(super) async fn drop(
        mut self,
        key: Option<KeyId>,
        generation: Option<char>,
    ) -> Result<(), Failure> {
        let keyring = self.keyring().await?;
        if let Some(key) = key {
            let changed = keyring.drop_key(key).await?;
            self.done(&changed, "is removed")?;
            self.wait_for(&changed)?;
        }
        if let Some(generation) = generation {
            let changed = keyring.drop_generation(generation).await?;
            let version = changed.keyring.version;
            self.say(format_args!(
                "version {version}: tokens of generation `{generation}` are refused"
            ))?;
            self.wait_for(&changed)?;
        }
        Ok(())
    }

    pub(super) async fn add_password(mut self) -> Result<(), Failure> {
        let new = app::new_password(self.config)?;
        let changed = self.keyring().await?.add_password(new).await?;
        self.done(&changed, "is opened by the new password")?;
        self.say("start every edge with the new password, as PQ_ENCRYPTION_PASSWORD")?;
        self.say("then, with that, remove the old one: keyring password --retire")
    }

    pub(super) async fn retire_password(mut self, slot: Option<KeyId>) -> Result<(), Failure> {
        let changed = self.keyring().await?.retire_password(slot).await?;
        self.done(&changed, "is removed")?;
        self.say("a backup of the keyring from before still opens with it: see SECURITY.md")
    }

    async fn keyring(&self) -> Result<KeyringOperations, Failure> {
        Ok(app::keyring_operations(self.config, self.clock).await?)
    }

    fn done(&mut self, changed: &Changed, what: &str) -> Result<(), Failure> {
        writeln!(self.streams.out, "{}", changed.subject)?;
        let version = changed.keyring.version;
        if changed.already {
            let already = "already: nothing was changed";
            return self.say(format_args!("version {version}: it {what} {already}"));
        }
        self.say(format_args!(
            "version {version}: {} {what}",
            changed.subject
        ))
    }

    /// How an operator knows that the fleet has it.
    fn wait_for(&mut self, changed: &Changed) -> Result<(), Failure> {
        self.say(format_args!(
            "wait until every edge has reloaded: {} is {} in the metrics of each",
            metric::KEYRING_VERSION,
            changed.keyring.version
        ))
    }

    fn say(&mut self, what: impl fmt::Display) -> Result<(), Failure> {
        Ok(writeln!(self.streams.err, "{what}")?)
    }
}

impl From<KeyringOperationError> for Failure {
    fn from(error: KeyringOperationError) -> Self {
        match error {
            KeyringOperationError::Unavailable(cause) if cause.is_configuration() => {
                Self::refused(cause)
            }
            KeyringOperationError::SamePassword
            | KeyringOperationError::OpensTheOld
            | KeyringOperationError::NoneOlder(_)
            | KeyringOperationError::ManyOlder(_)
            | KeyringOperationError::StillSealing { .. }
            | KeyringOperationError::Unreadable { .. } => Self::refused(error),
            error => Self::failed(error),
        }
    }
}
