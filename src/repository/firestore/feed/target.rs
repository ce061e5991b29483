//! One target of the stream: what it was asked for, and how far it has come.

use std::collections::HashSet;

use crate::clock::Timestamp;

/// The ids in the set that a target is sending.
pub(super) type Names = HashSet<Box<str>>;

/// What the server is to watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) id: i32,
    pub(super) what: What,
    /// From where to go on; empty to begin with everything.
    pub(super) resume: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// The records written from this moment on, by the server's time.
    Keys {
        since: Timestamp,
    },
    Keyring,
    /// A document that never is: whoever answers is there.
    Probe,
}

#[derive(Debug)]
pub(super) struct Target {
    pub(super) id: i32,
    what: What,
    /// Whether everything that was committed before it was asked for has been
    /// told.
    pub(super) current: bool,
    /// While the whole set is being sent: what has come of it.
    pub(super) arriving: Option<Names>,
    /// Leads to the last state that was consistent over all targets.
    token: Vec<u8>,
    /// Becomes `token` with the next such state.
    newest_token: Vec<u8>,
}

impl Target {
    pub(super) const fn new(id: i32, what: What) -> Self {
        Self {
            id,
            what,
            current: false,
            arriving: None,
            token: Vec::new(),
            newest_token: Vec::new(),
        }
    }

    /// Since when records are watched.
    pub(super) const fn since(&self) -> Timestamp {
        match self.what {
            What::Keys { since } => since,
            What::Keyring | What::Probe => Timestamp::EPOCH,
        }
    }

    /// On a stream that is new to it.
    pub(super) fn ask(&mut self) -> Ask {
        self.current = false;
        // With a token, only what changed is sent, and nothing may be missed in it.
        self.arriving = self.token.is_empty().then(Names::new);
        self.newest_token.clear();
        Ask {
            id: self.id,
            what: self.what,
            resume: self.token.clone(),
        }
    }

    pub(super) fn reset(&mut self) {
        self.current = false;
        self.arriving = Some(Names::new());
    }

    /// Everything is told: the set that came, where one was sent.
    pub(super) fn complete(&mut self) -> Option<Names> {
        self.current = true;
        self.arriving.take()
    }

    pub(super) fn came(&mut self, name: &str) {
        if let Some(arriving) = &mut self.arriving {
            arriving.insert(name.into());
        }
    }

    pub(super) fn went(&mut self, name: &str) {
        if let Some(arriving) = &mut self.arriving {
            arriving.remove(name);
        }
    }

    pub(super) fn offer_token(&mut self, token: &[u8]) {
        if !token.is_empty() {
            token.clone_into(&mut self.newest_token);
        }
    }

    /// What was told up to here is consistent over all targets.
    pub(super) fn settle(&mut self) {
        if !self.newest_token.is_empty() {
            std::mem::swap(&mut self.token, &mut self.newest_token);
            self.newest_token.clear();
        }
    }

    pub(super) fn forget_token(&mut self) {
        self.token.clear();
    }
}
