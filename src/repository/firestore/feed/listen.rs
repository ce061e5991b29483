//! The `Listen` stream itself.
//!
//! Not the client library's listener: it hides cuts, waits a fixed time after
//! each, and warns at every RESET.

use firestore::FirestoreDb;
use firestore::gcloud_sdk::google::firestore::v1::structured_query::field_filter::Operator;
use firestore::gcloud_sdk::google::firestore::v1::structured_query::filter::FilterType;
use firestore::gcloud_sdk::google::firestore::v1::structured_query::{
    CollectionSelector, FieldFilter, FieldReference, Filter,
};
use firestore::gcloud_sdk::google::firestore::v1::target::query_target::QueryType;
use firestore::gcloud_sdk::google::firestore::v1::target::{
    DocumentsTarget, QueryTarget, ResumeType, TargetType,
};
use firestore::gcloud_sdk::google::firestore::v1::{
    ListenRequest, ListenResponse, StructuredQuery, Target, listen_request,
};
use firestore::gcloud_sdk::tonic::{Code, Status, Streaming};
use futures_util::stream::poll_fn;
use tokio::sync::mpsc::{self, UnboundedSender};

use super::super::connection::Connection;
use super::super::document::{self, UPDATED_AT};
use super::super::keyring;
use super::target::{Ask, What};
use crate::clock::Timestamp;

/// A document that never is.
const PROBE: &str = "probe";

/// Where the records and the keyring are.
#[derive(Clone, Debug)]
pub(super) struct Paths {
    /// `projects/{project}/databases/{database}`
    database: String,
    /// A collection right below the database's root.
    keys: String,
    /// The collection of the keyring's document.
    keyring: String,
}

impl Paths {
    pub(super) fn of(connection: &Connection) -> Self {
        let config = connection.config();
        Self {
            database: format!("projects/{}/databases/{}", config.project, config.database),
            keys: connection.collection().to_owned(),
            keyring: connection.keyring_collection().to_owned(),
        }
    }
}

pub(super) struct Stream {
    paths: Paths,
    requests: UnboundedSender<ListenRequest>,
    responses: Streaming<ListenResponse>,
}

impl Stream {
    pub(super) async fn open(
        client: &FirestoreDb,
        paths: Paths,
        asks: Vec<Ask>,
    ) -> Result<Self, Status> {
        let (requests, mut queue) = mpsc::unbounded_channel();
        for ask in asks {
            // The receiver is right here.
            let _ = requests.send(request(&paths, ask));
        }
        // It ends with its sender, so that the transport lets go of it.
        let outgoing = poll_fn(move |context| queue.poll_recv(context));
        let responses = client.client().get().listen(outgoing).await?;
        Ok(Self {
            paths,
            requests,
            responses: responses.into_inner(),
        })
    }

    /// Once the stream is broken, its reading half says so.
    pub(super) fn ask(&self, ask: Ask) {
        let _ = self.requests.send(request(&self.paths, ask));
    }

    pub(super) fn release(&self, id: i32) {
        let _ = self.requests.send(ListenRequest {
            database: self.paths.database.clone(),
            target_change: Some(listen_request::TargetChange::RemoveTarget(id)),
            ..ListenRequest::default()
        });
    }

    /// May be dropped and called again without losing a message.
    pub(super) async fn next(&mut self) -> Result<ListenResponse, Status> {
        self.responses
            .message()
            .await?
            .ok_or_else(|| Status::unavailable("the server ended the stream"))
    }
}

/// Whether a token may be what the server refused.
pub(super) fn may_be_the_token(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::InvalidArgument | Code::OutOfRange | Code::FailedPrecondition | Code::NotFound
    )
}

fn request(paths: &Paths, ask: Ask) -> ListenRequest {
    let documents = format!("{}/documents", paths.database);
    let document = |id: &str| {
        TargetType::Documents(DocumentsTarget {
            documents: vec![format!("{documents}/{}/{id}", paths.keyring)],
        })
    };
    let target_type = match ask.what {
        What::Keyring => document(keyring::CURRENT),
        What::Probe => document(PROBE),
        What::Keys { since } => TargetType::Query(QueryTarget {
            query_type: Some(QueryType::StructuredQuery(written_since(
                &paths.keys,
                since,
            ))),
            parent: documents,
        }),
    };
    let target = Target {
        target_id: ask.id,
        target_type: Some(target_type),
        resume_type: (!ask.resume.is_empty()).then_some(ResumeType::ResumeToken(ask.resume)),
        ..Target::default()
    };
    ListenRequest {
        database: paths.database.clone(),
        target_change: Some(listen_request::TargetChange::AddTarget(target)),
        ..ListenRequest::default()
    }
}

fn written_since(collection: &str, since: Timestamp) -> StructuredQuery {
    let filter = FieldFilter {
        field: Some(FieldReference {
            field_path: UPDATED_AT.to_owned(),
        }),
        op: Operator::GreaterThanOrEqual.into(),
        value: Some(document::time(since)),
    };
    StructuredQuery {
        from: vec![CollectionSelector {
            collection_id: collection.to_owned(),
            all_descendants: false,
        }],
        r#where: Some(Filter {
            filter_type: Some(FilterType::FieldFilter(filter)),
        }),
        ..StructuredQuery::default()
    }
}
