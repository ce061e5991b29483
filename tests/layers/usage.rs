//! What is recorded, and when.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use cypheron_edge::context::UpstreamFailure;
use cypheron_edge::directory::Lookup;
use cypheron_edge::middleware::usage::RequestBody;
use cypheron_edge::middleware::{Identity, RefusalUsageLayer, Refused, UsageLayer};
use cypheron_edge::refusal::Refusal;
use cypheron_edge::usage::event::Ended;
use futures_util::stream;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::support::edge::Edge;
use crate::support::recorder::Records;
use crate::support::{hash_of, mint};

type TestBody = UnsyncBoxBody<Bytes, UpstreamFailure>;

type TestFrame = Result<Frame<Bytes>, UpstreamFailure>;

/// A body of exactly these frames, whose length is not known before.
fn frames(frames: Vec<TestFrame>) -> TestBody {
    StreamBody::new(stream::iter(frames)).boxed_unsync()
}

#[expect(clippy::unnecessary_wraps, reason = "frames are results")]
fn data(text: &'static str) -> TestFrame {
    Ok(Frame::data(Bytes::from_static(text.as_bytes())))
}

fn full(text: &'static str) -> TestBody {
    Full::from(text)
        .map_err(|never| match never {})
        .boxed_unsync()
}

struct Bench {
    edge: Edge,
    records: Records,
    token: String,
}

impl Bench {
    fn new() -> Self {
        let edge = Edge::new();
        Self {
            token: edge.issue(|_| {}),
            records: Records::default(),
            edge,
        }
    }

    /// The response to `request` of an upstream that reads all of it, takes
    /// five milliseconds and answers with `response`.
    async fn ask(
        &self,
        request: Request<TestBody>,
        response: Response<TestBody>,
    ) -> Response<impl Body<Data = Bytes, Error = UpstreamFailure> + use<>> {
        let clock = self.edge.clock.clone();
        let response = Arc::new(std::sync::Mutex::new(Some(response)));
        let upstream = service_fn(move |request: Request<RequestBody<TestBody>>| {
            let (clock, response) = (clock.clone(), Arc::clone(&response));
            async move {
                let _ = request.into_body().collect().await;
                clock.advance(Duration::from_millis(5));
                Ok::<_, Infallible>(response.lock().unwrap().take().unwrap())
            }
        });
        let clock = || self.edge.clock.clone();
        let records = || self.records.clone();
        let layers = (
            RefusalUsageLayer::new(records(), records(), clock()),
            self.edge.auth(),
            UsageLayer::new(records(), clock()),
        );
        let mut service = layers.layer(upstream);
        service.ready().await.unwrap().call(request).await.unwrap()
    }

    /// Of the key, which is known by now.
    fn identity(&self) -> Identity {
        let hash = hash_of(&self.token);
        match self.edge.directory.lookup(&hash, self.edge.clock.now()) {
            Lookup::Hit(entry) => Identity::of(entry),
            other => panic!("the key is known: {other:?}"),
        }
    }

    fn get(&self) -> Request<TestBody> {
        let request = Request::get("/").header("x-api-key", &self.token);
        let empty = Empty::new().map_err(|never| match never {});
        request.body(empty.boxed_unsync()).unwrap()
    }
}

/// The next frame, of a body that has one at once.
fn next<B: Body + Unpin>(body: &mut B) -> Option<Result<Frame<B::Data>, B::Error>> {
    let mut frame = pin!(body.frame());
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match frame.as_mut().poll(&mut context) {
        Poll::Ready(frame) => frame,
        Poll::Pending => panic!("the body has nothing yet"),
    }
}

#[tokio::test]
async fn an_admitted_request_is_recorded_with_what_it_moved_and_took() {
    let bench = Bench::new();
    let mut request = bench.get();
    *request.method_mut() = http::Method::POST;
    *request.body_mut() = frames(vec![data("four"), data("four")]);
    let response = bench
        .ask(request, Response::new(full("twelve bytes")))
        .await;
    bench.edge.clock.advance(Duration::from_millis(2));
    response.into_body().collect().await.unwrap();
    let record = bench.records.only();
    assert_eq!((&*record.method, &*record.route), ("POST", "default"));
    let done = record.completion;
    assert_eq!((done.status, done.ended), (200, Ended::Complete));
    assert_eq!((done.request_bytes, done.response_bytes), (8, 12));
    assert_eq!((done.upstream_us, done.duration_us), (5_000, 7_000));
}

#[tokio::test]
async fn the_record_is_complete_before_the_frame_that_completes_a_known_length() {
    let bench = Bench::new();
    let response = bench
        .ask(bench.get(), Response::new(full("all of it")))
        .await;
    let mut body = Box::pin(response.into_body());
    assert_eq!(bench.records.completed(), []);
    assert!(next(&mut body).is_some());
    // The client cannot have seen it yet: the frame is still in our hands.
    assert_eq!(bench.records.only().completion.response_bytes, 9);
}

#[tokio::test]
async fn a_body_of_unknown_length_is_complete_when_it_ends() {
    let bench = Bench::new();
    let body = frames(vec![data("one"), data("two")]);
    let response = bench.ask(bench.get(), Response::new(body)).await;
    let mut body = Box::pin(response.into_body());
    next(&mut body);
    next(&mut body);
    assert_eq!(bench.records.completed(), []);
    assert!(next(&mut body).is_none());
    assert_eq!(bench.records.only().completion.response_bytes, 6);
}

#[tokio::test]
async fn trailers_are_the_end() {
    let bench = Bench::new();
    let body = frames(vec![data("one"), Ok(Frame::trailers(HeaderMap::new()))]);
    let response = bench.ask(bench.get(), Response::new(body)).await;
    let mut body = Box::pin(response.into_body());
    next(&mut body);
    assert_eq!(bench.records.completed(), []);
    assert!(next(&mut body).unwrap().unwrap().is_trailers());
    assert_eq!(bench.records.only().completion.ended, Ended::Complete);
}

#[tokio::test]
async fn where_no_body_follows_the_record_is_complete_before_the_head() {
    for (method, status, body) in [
        ("HEAD", 200, full("not sent")),
        ("GET", 204, frames(vec![])),
        ("GET", 304, frames(vec![])),
        ("GET", 200, full("")),
    ] {
        let bench = Bench::new();
        let mut request = bench.get();
        *request.method_mut() = method.parse().unwrap();
        let mut response = Response::new(body);
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        let response = bench.ask(request, response).await;
        assert_eq!(bench.records.only().completion.status, status);
        drop(response);
        assert_eq!(bench.records.only().completion.ended, Ended::Complete);
    }
}

#[tokio::test]
async fn how_a_response_broke_off_is_told_apart() {
    for (failure, ended) in [
        (UpstreamFailure::Failed, Ended::UpstreamFailed),
        (UpstreamFailure::TimedOut, Ended::Timeout),
    ] {
        let bench = Bench::new();
        let body = frames(vec![data("half"), Err(failure)]);
        let response = bench.ask(bench.get(), Response::new(body)).await;
        assert_eq!(response.into_body().collect().await.unwrap_err(), failure);
        let done = bench.records.only().completion;
        assert_eq!((done.ended, done.response_bytes), (ended, 4));

        let bench = Bench::new();
        let mut response = Response::new(full("a problem"));
        *response.status_mut() = StatusCode::BAD_GATEWAY;
        response.extensions_mut().insert(failure);
        bench.ask(bench.get(), response).await;
        assert_eq!(bench.records.only().completion.ended, ended);
    }
}

#[tokio::test]
async fn a_client_that_leaves_is_recorded_as_gone() {
    let bench = Bench::new();
    let body = frames(vec![data("half"), data("half")]);
    let response = bench.ask(bench.get(), Response::new(body)).await;
    let mut body = Box::pin(response.into_body());
    next(&mut body);
    drop(body);
    let done = bench.records.only().completion;
    assert_eq!((done.ended, done.response_bytes), (Ended::ClientGone, 4));
    assert_eq!(done.status, 200);
}

#[tokio::test]
async fn a_client_that_leaves_before_the_answer_is_recorded_without_a_status() {
    let bench = Bench::new();
    let never = service_fn(|_: Request<RequestBody<TestBody>>| {
        std::future::pending::<Result<Response<TestBody>, Infallible>>()
    });
    let usage = UsageLayer::new(bench.records.clone(), bench.edge.clock.clone());
    let mut service = (bench.edge.auth(), usage).layer(never);
    // Known, so that the request is with the upstream at once.
    bench.ask(bench.get(), Response::new(full(""))).await;
    let call = service.ready().await.unwrap().call(bench.get());
    drop(call);
    let done = bench.records.completed()[1].completion;
    assert_eq!((done.ended, done.status), (Ended::ClientGone, 0));
}

#[tokio::test]
async fn a_full_journal_refuses_before_the_upstream_is_reached() {
    let bench = Bench::new();
    bench.records.fill();
    let response = bench.ask(bench.get(), Response::new(full("unseen"))).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(response.headers().contains_key("retry-after"));
    let refusal = bench.records.only().refusal;
    assert_eq!(refusal, Some(Refusal::JournalFull));
}

#[tokio::test]
async fn a_refused_known_key_is_recorded_and_an_unknown_one_only_counted() {
    let bench = Bench::new();
    let bound = bench
        .edge
        .issue(|key| key.allowed_ips = vec!["192.0.2.1/32".parse().unwrap()]);
    for token in [&bound, &mint().0] {
        let mut request = bench.get();
        let value = token.parse().unwrap();
        request.headers_mut().insert("x-api-key", value);
        bench.ask(request, Response::new(full("unseen"))).await;
    }
    let record = bench.records.only();
    assert_eq!(record.refusal, Some(Refusal::AddressDenied));
    assert_eq!(record.completion.status, 403);
    assert_ne!(record.completion.response_bytes, 0);
    assert_eq!(bench.records.counted(), [Refusal::KeyUnknown]);
}

#[tokio::test]
async fn a_refusal_behind_the_usage_layer_is_recorded_once() {
    let bench = Bench::new();
    // As of a proxy that met a body over the route's limit.
    let mut response = Response::new(full("too large"));
    *response.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
    bench.ask(bench.get(), Response::new(full(""))).await;
    let refused = Refused {
        refusal: Refusal::BodyTooLarge,
        identity: bench.identity(),
    };
    response.extensions_mut().insert(refused);
    let response = bench.ask(bench.get(), response).await;
    response.into_body().collect().await.unwrap();
    let records = bench.records.completed();
    assert_eq!(records.len(), 2);
    assert_eq!(records[1].completion.status, 413);
}
