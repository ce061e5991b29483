//! What went wrong, in the words of operators.

use std::fmt::Write as _;

use firestore::errors::FirestoreError;

use super::connection::Connection;
use crate::repository::RepositoryError;

/// Long enough for any cause, short enough for one line of a log.
const MAX_CAUSE: usize = 300;

/// What stands before the name of a document.
const DOCUMENTS: &str = "/documents/";

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

/// Of an answer that is no answer about a document. An access token that is not
/// taken is not used again.
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
            connection.token_refused();
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
    let message = without_names(&message(&details));
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

/// Documents are named by hashes of tokens, which are nobody's to read in a log.
fn without_names(text: &str) -> String {
    let mut parts = text.split(DOCUMENTS);
    let mut told = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ')' | ']'));
        told.push_str(DOCUMENTS);
        told.push_str("...");
        told.push_str(&part[end.unwrap_or(part.len())..]);
    }
    told
}

/// Of a status as tonic prints one: `code: '..', message: "..", source: ..`. Of
/// a connection that failed the message is always the same, and the cause is the
/// innermost one of the source.
fn message(details: &str) -> String {
    let quoted = |(_, rest): (_, &str)| rest.split("\", ").next().unwrap_or(rest).to_owned();
    let outer = details.split_once("message: \"").map(quoted);
    let inner = details.rsplit_once("message: \"").map(quoted);
    let end = |c: char| matches!(c, '"' | '}' | ')' | ' ');
    match (outer, inner) {
        (Some(outer), Some(inner)) if outer == "transport error" && inner != outer => {
            format!("{outer}: {}", inner.trim_end_matches(end))
        }
        (Some(outer), _) => outer.trim_end_matches('"').to_owned(),
        _ => details.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use firestore::gcloud_sdk::tonic::{Code, Status};

    use super::*;
    use crate::clock::Clock;
    use crate::repository::FirestoreConfig;

    fn told(code: Code, message: &str) -> RepositoryError {
        let config = FirestoreConfig {
            emulator: Some("127.0.0.1:1".to_owned()),
            ..FirestoreConfig::new("a-project")
        };
        let connection = Connection::new(config, Clock::system()).unwrap();
        unavailable(
            &connection,
            &FirestoreError::from(Status::new(code, message)),
        )
    }

    #[test]
    fn what_does_not_pass_is_told_with_what_would_mend_it() {
        for (code, message, told_of) in [
            (
                Code::PermissionDenied,
                "Missing permissions.",
                "`roles/datastore.viewer` in project a-project",
            ),
            (
                Code::PermissionDenied,
                "Missing permissions.",
                "(Missing permissions.)",
            ),
            (
                Code::Unauthenticated,
                "Invalid token.",
                "access token (Invalid token.)",
            ),
            (
                Code::NotFound,
                "The database (default) does not exist",
                "--project=a-project --database='(default)'",
            ),
            (
                Code::FailedPrecondition,
                "The query requires an index.",
                "config/firestore.indexes.json",
            ),
            (
                Code::ResourceExhausted,
                "Quota exceeded.",
                "quota is used up (Quota exceeded.)",
            ),
        ] {
            let RepositoryError::Refused(text) = told(code, message) else {
                panic!("{code:?}");
            };
            assert!(text.contains(told_of), "{text}");
        }
    }

    #[test]
    fn what_may_pass_is_told_in_one_short_line() {
        for code in [
            Code::Unavailable,
            Code::DeadlineExceeded,
            Code::Internal,
            Code::Cancelled,
        ] {
            let expected = format!("Firestore: {code:?}: it says so");
            assert_eq!(
                told(code, "it says so"),
                RepositoryError::Unavailable(expected)
            );
        }
        let long = "x".repeat(5000) + "\n";
        let RepositoryError::Unavailable(text) = told(Code::Unavailable, &long) else {
            panic!("{long}");
        };
        assert!(text.len() < 400 && !text.contains('\n'), "{text}");
    }

    #[test]
    fn no_document_is_named() {
        let message = "No document to update: projects/p/databases/d/documents/api_keys/0101 (x)";
        let RepositoryError::Unavailable(text) = told(Code::Aborted, message) else {
            panic!("{message}");
        };
        let short = "No document to update: projects/p/databases/d/documents/... (x)";
        assert!(text.ends_with(short), "{text}");
    }

    #[test]
    fn the_innermost_cause_of_a_broken_connection_is_told() {
        let details = r#"code: 'Unknown error', message: "transport error", source: Some(tonic::transport::Error(Transport, ConnectError(ConnectError("tcp connect error", 127.0.0.1:1, Os { code: 111, kind: ConnectionRefused, message: "Connection refused" }))))"#;
        assert_eq!(message(details), "transport error: Connection refused");
        let details =
            r#"code: 'The operation was cancelled', message: "h2 protocol error", source: None"#;
        assert_eq!(message(details), "h2 protocol error");
    }
}
