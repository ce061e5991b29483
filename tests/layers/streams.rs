//! What still flows when its key loses the right to it.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use cypheron_edge::clock::Timestamp;
use cypheron_edge::context::Severed;
use cypheron_edge::key::ApiKey;
use cypheron_edge::middleware::auth::ApiKeyAuthLayer;
use cypheron_edge::middleware::streams::StreamBody;
use cypheron_edge::middleware::{ClientAddress, UsageLayer};
use cypheron_edge::permission::Required;
use cypheron_edge::refusal::Refusal;
use cypheron_edge::repository::Change;
use cypheron_edge::usage::event::Ended;
use futures_util::stream;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody as Frames};
use tokio::sync::mpsc;
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::support::bench::{revoked, settle};
use crate::support::edge::Edge;
use crate::support::recorder::Records;
use crate::support::{hash_of, key};

type TestBody = UnsyncBoxBody<Bytes, Infallible>;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A body of what is sent, until the sender is dropped.
fn stream() -> (mpsc::UnboundedSender<&'static str>, TestBody) {
    let (sender, frames) = mpsc::unbounded_channel();
    let frames = stream::unfold(frames, |mut frames| async {
        let data: &str = frames.recv().await?;
        Some((Ok(Frame::data(Bytes::from(data))), frames))
    });
    (sender, Frames::new(frames).boxed_unsync())
}

fn empty() -> TestBody {
    Full::default().boxed_unsync()
}

/// Layers around an upstream whose answer is a stream.
struct Bench {
    edge: Edge,
    records: Records,
    token: String,
}

/// An open stream: its upstream's end, and its client's.
struct Open<B> {
    upstream: mpsc::UnboundedSender<&'static str>,
    body: B,
}

impl<B: Body<Data = Bytes, Error = BoxError> + Unpin> Open<B> {
    async fn passes(&mut self, data: &'static str) {
        self.upstream.send(data).unwrap();
        let frame = self.body.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), data);
    }

    /// Nothing comes, and nothing went wrong. From here on it is watched.
    async fn waits(&mut self) {
        let waited = tokio::time::timeout(Duration::from_millis(1), self.body.frame()).await;
        assert!(waited.is_err(), "it goes on");
    }

    async fn severed(mut self) -> Refusal {
        let error = self.body.frame().await.unwrap().unwrap_err();
        error.downcast_ref::<Severed>().unwrap().0
    }
}

impl Bench {
    async fn with(change: impl FnOnce(&mut ApiKey)) -> Self {
        let edge = Edge::new();
        edge.connect().await;
        Self {
            token: edge.issue(change),
            records: Records::default(),
            edge,
        }
    }

    async fn open(&self) -> Open<impl Body<Data = Bytes, Error = BoxError> + Unpin + use<>> {
        self.open_by(self.edge.auth()).await
    }

    async fn open_by(
        &self,
        auth: ApiKeyAuthLayer,
    ) -> Open<impl Body<Data = Bytes, Error = BoxError> + Unpin + use<>> {
        let (upstream, body) = stream();
        let answer = Arc::new(Mutex::new(Some(Response::new(body))));
        let service = service_fn(move |_: Request<_>| {
            let answer = answer.lock().unwrap().take().unwrap();
            std::future::ready(Ok::<_, Infallible>(answer))
        });
        let usage = UsageLayer::new(self.records.clone(), self.edge.clock.clone());
        let mut service = (auth.clone(), usage, auth.streams()).layer(service);
        let response = service.ready().await.unwrap().call(self.get()).await;
        let response = response.unwrap();
        assert_eq!(response.status(), 200);
        let body = Box::pin(response.into_body());
        Open { upstream, body }
    }

    fn get(&self) -> Request<TestBody> {
        let request = Request::get("/").header("x-api-key", &self.token);
        let mut request = request.body(empty()).unwrap();
        let client = ClientAddress("192.0.2.1".parse().unwrap());
        request.extensions_mut().insert(client);
        request
    }

    /// The record is another one from here on, of which the feed tells nothing.
    fn write_in_silence(&self, change: impl FnOnce(&mut ApiKey)) {
        let mut record = ApiKey {
            revision: 2,
            ..key(hash_of(&self.token))
        };
        change(&mut record);
        self.edge.store.put(record, &self.token);
    }

    fn write(&self, change: impl FnOnce(&mut ApiKey)) {
        self.write_in_silence(change);
        self.edge.store.tell(Change::Record {
            hash: hash_of(&self.token),
            revision: 2,
            live: true,
        });
    }

    fn ended(&self) -> Ended {
        self.records.only().completion.ended
    }

    /// Time passes, for the clock that is asked and for timers.
    async fn pass(&self, time: Duration) {
        self.edge.clock.advance(time);
        tokio::time::sleep(time).await;
        settle().await;
    }
}

#[tokio::test]
async fn a_stream_of_a_revoked_key_is_cut_and_recorded_as_such() {
    let bench = Bench::with(|_| {}).await;
    let mut open = bench.open().await;
    open.passes("one").await;
    open.waits().await;
    open.passes("two").await;
    bench.edge.store.tell(revoked(hash_of(&bench.token), 2));
    assert_eq!(open.severed().await, Refusal::KeyInactive);
    assert_eq!(bench.ended(), Ended::Revoked);
    assert_eq!(bench.records.only().completion.response_bytes, 6);
}

#[tokio::test]
async fn a_stream_that_never_made_anybody_wait_is_cut_too() {
    let bench = Bench::with(|_| {}).await;
    let mut open = bench.open().await;
    open.passes("one").await;
    bench.edge.store.tell(revoked(hash_of(&bench.token), 2));
    settle().await;
    // What was half way goes on, for a moment.
    open.passes("two").await;
    assert_eq!(open.severed().await, Refusal::KeyInactive);
    assert_eq!(bench.ended(), Ended::Revoked);
}

#[tokio::test]
async fn an_answer_half_way_when_its_key_is_revoked_arrives_whole() {
    let bench = Bench::with(|_| {}).await;
    let mut open = bench.open().await;
    open.passes("one").await;
    open.waits().await;
    bench.edge.store.tell(revoked(hash_of(&bench.token), 2));
    settle().await;
    open.passes("two").await;
    drop(open.upstream);
    assert!(open.body.frame().await.is_none());
    assert_eq!(bench.ended(), Ended::Complete);
}

#[tokio::test]
async fn all_streams_of_a_key_are_cut_and_those_of_others_are_not() {
    let mut bench = Bench::with(|_| {}).await;
    let hash = hash_of(&bench.token);
    let (mut first, mut second) = (bench.open().await, bench.open().await);
    bench.token = bench.edge.issue(|_| {});
    let mut bystander = bench.open().await;
    for open in [&mut first, &mut second, &mut bystander] {
        open.waits().await;
    }
    bench.edge.store.tell(revoked(hash, 2));
    assert_eq!(first.severed().await, Refusal::KeyInactive);
    assert_eq!(second.severed().await, Refusal::KeyInactive);
    bystander.passes("on").await;
}

#[tokio::test]
async fn a_changed_record_cuts_what_it_does_not_admit() {
    type Change = fn(&mut ApiKey);
    let changes: [(Change, Refusal); 4] = [
        (|key| key.permissions.clear(), Refusal::PermissionDenied),
        (
            |key| key.allowed_ips = vec!["198.51.100.0/24".parse().unwrap()],
            Refusal::AddressDenied,
        ),
        (
            |key| key.expires_at = Some(Timestamp::EPOCH),
            Refusal::KeyExpired,
        ),
        (|key| key.is_active = false, Refusal::KeyInactive),
    ];
    for (change, refusal) in changes {
        let bench = Bench::with(|_| {}).await;
        let required: Required = "orders:read".parse().unwrap();
        let mut open = bench.open_by(bench.edge.auth().require(required)).await;
        open.waits().await;
        bench.write(change);
        assert_eq!(open.severed().await, refusal);
        assert_eq!(bench.ended(), Ended::Revoked);
    }
}

#[tokio::test]
async fn a_change_that_still_admits_cuts_nothing_and_the_next_one_is_heard() {
    let bench = Bench::with(|_| {}).await;
    let mut open = bench.open().await;
    open.waits().await;
    bench.write(|key| key.rate_limit = std::num::NonZeroU32::MIN);
    settle().await;
    open.waits().await;
    open.passes("on").await;
    bench.edge.store.tell(revoked(hash_of(&bench.token), 3));
    assert_eq!(open.severed().await, Refusal::KeyInactive);
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_a_key_that_expires_is_cut_when_it_does() {
    let bench = Bench::with(|key| {
        // The clock of the tests stands at two seconds.
        key.expires_at = Some(Timestamp::from_micros(12_000_000));
    })
    .await;
    let mut open = bench.open().await;
    open.waits().await;
    bench.pass(Duration::from_secs(9)).await;
    open.waits().await;
    bench.pass(Duration::from_secs(1)).await;
    assert_eq!(open.severed().await, Refusal::KeyExpired);
    assert_eq!(bench.ended(), Ended::Revoked);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_makes_nobody_wait_is_cut_when_its_key_expires() {
    let bench = Bench::with(|key| {
        // The clock of the tests stands at two seconds.
        key.expires_at = Some(Timestamp::from_micros(12_000_000));
    })
    .await;
    let mut open = bench.open().await;
    open.passes("before").await;
    bench.pass(Duration::from_secs(10)).await;
    open.passes("a moment later").await;
    bench.pass(Duration::from_secs(1)).await;
    open.upstream.send("after").unwrap();
    assert_eq!(open.severed().await, Refusal::KeyExpired);
    assert_eq!(bench.ended(), Ended::Revoked);
}

#[tokio::test(start_paused = true)]
async fn a_change_that_nobody_told_of_is_seen_within_the_maximal_age() {
    let bench = Bench::with(|_| {}).await;
    let mut open = bench.open().await;
    open.waits().await;
    bench.write_in_silence(|key| key.is_active = false);
    let reads = bench.edge.store.reads();
    bench.pass(Duration::from_secs(280)).await;
    open.waits().await;
    assert_eq!(bench.edge.store.reads(), reads, "it is fresh");
    for _ in 0..20 {
        bench.pass(Duration::from_secs(1)).await;
        // Only a body that is polled has its timers run.
        if let Ok(frame) = tokio::time::timeout(Duration::from_millis(1), open.body.frame()).await {
            let error = frame.unwrap().unwrap_err();
            assert_eq!(error.to_string(), Severed(Refusal::KeyInactive).to_string());
            assert_eq!(bench.ended(), Ended::Revoked);
            return;
        }
    }
    panic!("never cut");
}

#[tokio::test(start_paused = true)]
async fn while_the_store_fails_a_stream_lives_as_long_as_its_key_is_believed() {
    let bench = Bench::with(|_| {}).await;
    let mut open = bench.open().await;
    open.waits().await;
    bench.edge.store.tell(Change::Cut);
    bench.edge.store.fails(true);
    settle().await;
    // What was confirmed until the cut is believed for ten minutes more.
    for _ in 0..58 {
        bench.pass(Duration::from_secs(10)).await;
        open.waits().await;
    }
    for _ in 0..4 {
        bench.pass(Duration::from_secs(10)).await;
    }
    assert_eq!(open.severed().await, Refusal::StoreUnavailable);
}

#[tokio::test]
async fn an_upload_of_a_revoked_key_is_cut() {
    let bench = Bench::with(|_| {}).await;
    let (client, body) = stream();
    let (begun, has_begun) = tokio::sync::oneshot::channel();
    let begun = Arc::new(Mutex::new(Some(begun)));
    let service = service_fn(move |request: Request<StreamBody<_>>| {
        let begun = Arc::clone(&begun);
        async move {
            let mut body = Box::pin(request.into_body());
            assert!(body.frame().await.unwrap().is_ok());
            begun.lock().unwrap().take().unwrap().send(()).unwrap();
            body.frame().await.unwrap()?;
            Ok::<_, BoxError>(Response::new(empty()))
        }
    });
    let auth = bench.edge.auth();
    let mut service = (auth.clone(), auth.streams()).layer(service);
    let request = bench.get().map(|_| body);
    client.send("the first part").unwrap();
    let answer = tokio::spawn(async move { service.ready().await.unwrap().call(request).await });
    has_begun.await.unwrap();
    bench.edge.store.tell(revoked(hash_of(&bench.token), 2));
    let error = answer.await.unwrap().unwrap_err();
    assert_eq!(
        error.downcast_ref(),
        Some(&Severed(Refusal::KeyInactive)),
        "{error}"
    );
}
