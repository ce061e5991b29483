//! The keyring: `{collection}_keyring/current`.
//!
//! Its fields are `document`, the bytes of the keyring as they are to be opened,
//! `version`, for people who look at it, and `updated_at`.

use firestore::gcloud_sdk::google::firestore::v1::precondition::ConditionType;
use firestore::gcloud_sdk::google::firestore::v1::{Document, Write};

use super::connection::Connection;
use super::document::{self, Fields, Reader};
use super::error::{is_overtaken, unavailable};
use super::read;
use super::write::{commit, condition, set, unchanged};
use crate::crypto::keyring::Description;
use crate::repository::{RepositoryError, Result};

pub(super) const CURRENT: &str = "current";
const DOCUMENT: &str = "document";

pub(super) async fn read(connection: &Connection) -> Result<Option<Vec<u8>>> {
    let stored = stored(connection).await?;
    stored.as_ref().map(bytes).transpose()
}

async fn stored(connection: &Connection) -> Result<Option<Document>> {
    let client = connection.current().await?;
    read::get(&client, connection.keyring_collection(), CURRENT)
        .await
        .map_err(|error| unavailable(connection, &error))
}

fn bytes(stored: &Document) -> Result<Vec<u8>> {
    let bytes = Reader::of(stored).bytes(DOCUMENT);
    bytes.map_err(|damage| RepositoryError::Damaged(format!("the keyring: {damage}")))
}

pub(super) async fn put(
    connection: &Connection,
    document: &[u8],
    replaces: Option<&[u8]>,
) -> Result<()> {
    let (unless, overtaken) = match replaces {
        None => (
            Some(condition(ConditionType::Exists(false))),
            RepositoryError::Exists,
        ),
        Some(replaces) => {
            let stored = stored(connection).await?.ok_or(RepositoryError::NotFound)?;
            if bytes(&stored)? != replaces {
                return Err(RepositoryError::KeyringChanged);
            }
            (unchanged(&stored), RepositoryError::KeyringChanged)
        }
    };
    let client = connection.current().await?;
    let write = Write {
        current_document: unless,
        ..set(
            &read::path(&client, connection.keyring_collection(), CURRENT),
            fields(document),
        )
    };
    match commit(&client, vec![write]).await {
        Ok(()) => Ok(()),
        Err(error) if is_overtaken(&error) => match stored(connection).await? {
            Some(_) => Err(overtaken),
            None => Err(unavailable(connection, &error)),
        },
        Err(error) => Err(unavailable(connection, &error)),
    }
}

fn fields(document: &[u8]) -> Fields {
    let version = Description::of(document).map(|description| description.version);
    document::fields([
        (DOCUMENT, document::bytes(document)),
        (
            "version",
            version.map_or_else(|_| document::null(), document::integer),
        ),
    ])
}
