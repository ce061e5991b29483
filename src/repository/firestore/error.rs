//! What went wrong, in the words of operators.

use std::fmt::Write as _;

use firestore::errors::FirestoreError;

use super::connection::Connection;
use crate::repository::RepositoryError;

/// Long enough for any cause, short enough for one line of a log.
const MAX_CAUSE: usize = 300;

/// The name of a gRPC status code, or what the client has in its place.
pub(super) fn code(error: &FirestoreError) -> &str {
    match error {
        FirestoreError::SystemError(error) => &error.public.code,
        FirestoreError::DatabaseError(error) => &error.public.code,
        FirestoreError::DataConflictError(error) => &error.public.code,
        FirestoreError::DataNotFoundError(error) => &error.public.code,
        FirestoreError::NetworkError(error) => &error.public.code,
        _ => "Internal",
    }
}

/// Whether a commit found a document that was not as it expected: to be read
/// and judged again.
pub(super) fn is_overtaken(error: &FirestoreError) -> bool {
    // A document that is gone meanwhile is `NotFound`. So is a database that
    // never was: reading again tells them apart.
    matches!(
        code(error),
        "FailedPrecondition" | "AlreadyExists" | "Aborted" | "NotFound"
    )
}

/// Of an answer that is no answer about a document.
pub(super) fn unavailable(connection: &Connection, error: &FirestoreError) -> RepositoryError {
    let config = connection.config();
    let cause = cause(error);
    let (project, database) = (&config.project, &config.database);
    let why = match code(error) {
        "PermissionDenied" => format!(
            "Firestore denies this account: grant it `roles/datastore.viewer` in project \
             {project} to serve, `roles/datastore.user` to issue keys ({cause})"
        ),
        "Unauthenticated" => {
            format!("Firestore does not accept this account's access token ({cause})")
        }
        // Documents that are not there are no error in what is asked here.
        "NotFound" => format!(
            "there is no database `{database}` in project {project}: make one with `gcloud \
             firestore databases create --project={project} --database='{database}' \
             --location=...` ({cause})"
        ),
        "FailedPrecondition" if cause.contains("index") => format!(
            "Firestore has no index for this: make those of config/firestore.indexes.json ({cause})"
        ),
        "ResourceExhausted" => format!("Firestore's quota is used up ({cause})"),
        code => return RepositoryError::Unavailable(format!("Firestore: {code}: {cause}")),
    };
    RepositoryError::Refused(why)
}

/// The cause alone, without what the client wraps around it.
pub(super) fn cause(error: &FirestoreError) -> String {
    let details = match error {
        FirestoreError::SystemError(error) => error.message.clone(),
        FirestoreError::DatabaseError(error) => error.details.clone(),
        FirestoreError::DataConflictError(error) => error.details.clone(),
        FirestoreError::NetworkError(error) => error.message.clone(),
        other => other.to_string(),
    };
    // `code: '..', message: "..", source: ..`, as tonic prints a status.
    let message = details
        .split_once("message: \"")
        .map_or(&*details, |(_, rest)| {
            rest.split("\", ").next().unwrap_or(rest)
        });
    let message = message.trim_end_matches('"');
    let mut short = String::with_capacity(message.len().min(MAX_CAUSE));
    for character in message.chars().take(MAX_CAUSE) {
        short.push(if character.is_control() {
            ' '
        } else {
            character
        });
    }
    if message.chars().count() > MAX_CAUSE {
        // A `String` takes whatever is written.
        let _ = write!(short, "...");
    }
    short
}
