//! Where a token goes: shown once, or written to a file of its owner's.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use serde::Serialize;

use super::show::KeyView;
use crate::admin::Created;
use crate::cli::arguments::{Output, TokenOutput};
use crate::cli::failure::Failure;
use crate::cli::{Streams, write_json};

/// Made ready before there is a token, so that none is lost for want of a place.
pub(super) enum TokenPlace {
    Output,
    File(File, PathBuf),
}

impl TokenPlace {
    pub(super) fn prepare(arguments: &TokenOutput) -> Result<Self, Failure> {
        let Some(path) = &arguments.token_to else {
            return Ok(Self::Output);
        };
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(|error| {
                let path = path.display();
                let advice = match error.kind() {
                    io::ErrorKind::AlreadyExists => ": choose another name, none is overwritten",
                    _ => "",
                };
                Failure::refused(format_args!(
                    "--token-to: {path} cannot be made: {error}{advice}"
                ))
            })?;
        Ok(Self::File(file, path.clone()))
    }

    pub(super) fn put(self, token: &str, out: &mut dyn Write) -> Result<(), Failure> {
        match self {
            Self::Output => Ok(writeln!(out, "{token}")?),
            Self::File(mut file, path) => writeln!(file, "{token}")
                .and_then(|()| file.sync_all())
                .map_err(|error| {
                    let path = path.display();
                    Failure::failed(format_args!(
                        "the token cannot be written to {path}: {error}"
                    ))
                }),
        }
    }

    /// There is no token after all.
    pub(super) fn withdraw(self) {
        if let Self::File(_, path) = self {
            // why: an empty file of ours, and the failure is reported already.
            let _ = fs::remove_file(path);
        }
    }
}

/// Shows a new key and gives its token away.
pub(super) fn deliver(
    created: &Created,
    place: TokenPlace,
    output: Output,
    streams: &mut Streams<'_>,
) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Issued<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        token: Option<&'a str>,
        key: KeyView<'a>,
    }

    let token = created.token.expose();
    let shown_now = matches!(place, TokenPlace::Output);
    if !(output.json && shown_now) {
        place.put(token, streams.out)?;
    }
    if output.json {
        let issued = Issued {
            token: shown_now.then_some(token),
            key: KeyView::of(&created.key),
        };
        write_json(&issued, streams.out)?;
    }
    let (id, name) = (created.key.id, &created.key.name);
    writeln!(
        streams.err,
        "key {id} ({name}) is issued; its token is not shown again"
    )?;
    Ok(())
}
