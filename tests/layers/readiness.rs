//! What Tower asks of a middleware: the service that was polled ready is the
//! one that is called, and futures go where the inner service's go.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};

use bytes::Bytes;
use cypheron_edge::middleware::{RefusalUsageLayer, UsageLayer};
use http::{Request, Response};
use http_body_util::Full;
use tower::{Service, ServiceExt};

use crate::support::edge::Edge;
use crate::support::recorder::Records;

/// Panics when it is called without having been polled ready itself.
struct Probe {
    ready: bool,
}

impl Clone for Probe {
    fn clone(&self) -> Self {
        Self { ready: false }
    }
}

impl<B> Service<Request<B>> for Probe {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<B>) -> Self::Future {
        assert!(self.ready, "a service was called that was not ready");
        self.ready = false;
        ready(Ok(Response::new(Full::default())))
    }
}

fn is_send<T: Send>(value: T) -> T {
    value
}

fn is_shared<T: Clone + Send + Sync + 'static>(_: &T) {}

#[tokio::test]
async fn the_service_that_was_polled_ready_is_called_on_a_miss_and_on_a_hit() {
    let edge = Edge::new();
    let records = Records::default();
    let layers = tower::ServiceBuilder::new()
        .layer(RefusalUsageLayer::new(
            records.clone(),
            records.clone(),
            edge.clock.clone(),
        ))
        .layer(edge.limit_refusals())
        .layer(edge.auth())
        .layer(edge.limit())
        .layer(UsageLayer::new(records.clone(), edge.clock.clone()));
    is_shared(&layers);
    let mut service = layers.service(Probe { ready: false });
    let token = edge.issue(|_| {});
    for _ in 0..3 {
        let request = Request::get("/").header("x-api-key", &token);
        let request = request.body(Full::<Bytes>::default()).unwrap();
        let ready = ServiceExt::<Request<Full<Bytes>>>::ready(&mut service)
            .await
            .unwrap();
        let response = is_send(ready.call(request)).await.unwrap();
        assert_eq!(response.status(), 200);
    }
    assert_eq!(edge.store.reads(), 1);
    assert_eq!(records.completed().len(), 3);
}
