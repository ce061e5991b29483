//! The proxy as a function over what a client sends: server, ingress and
//! forwarding over real sockets, with an origin behind them that reads strictly.
//!
//! Whatever comes, the origin finds whole requests. Each is one that the edge
//! decided on, as it was decided on, once, and names nobody; and each is answered
//! to the client that sent it, in order.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use cypheron_edge::assertion::{Signer, SigningKey};
use cypheron_edge::clock::Clock;
use cypheron_edge::context::{RequestContext, RequestId};
use cypheron_edge::crypto::KeyId;
use cypheron_edge::id_token::{IdTokens, MetadataServer};
use cypheron_edge::proxy::{ClientAddressRule, IngressLayer, Upstreams, Vouching, forward};
use cypheron_edge::route::{RouteConfig, RouteTable};
use cypheron_edge::secret::Secret;
use cypheron_edge::server::{self, Connection, Server, Workers};
use cypheron_edge::usage::refusals::Refusals;
use http::{HeaderValue, Request};
use hyper::body::Incoming;
use tower::ServiceBuilder;

use super::origin::{Origin, echo};

/// What no client begins a request with. While it lies there unread, a client
/// that sends nothing more is still answered.
const END: &[u8] = b"\r\n\r\n\0\r\n\r\n";

/// Where a client goes on in frames, whose answers are not read here.
const HTTP2: &[u8] = b"PRI * HTTP/2.0";

/// How many requests came to the origin.
static ARRIVED: AtomicUsize = AtomicUsize::new(0);

static PROXY: LazyLock<Mutex<Proxy>> = LazyLock::new(|| Mutex::new(Proxy::start()));

/// How many of what was sent came through.
pub(crate) fn arrived() -> usize {
    ARRIVED.load(Ordering::Relaxed)
}

/// Sends `data` on a connection of its own, and judges what came of it.
pub(super) fn run(data: &[u8]) {
    // One that failed has said why.
    let mut proxy = PROXY.lock().unwrap_or_else(PoisonError::into_inner);
    proxy.judge(data);
}

struct Proxy {
    edge: SocketAddr,
    origin: Origin,
    decided: Arc<Mutex<Vec<Decided>>>,
    /// Those that were sent before the client that sends now came.
    before: usize,
    _running: (server::Running, tokio::runtime::Runtime),
}

/// A request as the edge passed it on to be forwarded.
struct Decided {
    method: String,
    target: String,
    has_arrived: bool,
}

impl Proxy {
    fn start() -> Self {
        let origin = Origin::start(HashMap::new());
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let within = runtime.enter();
        let decided = Arc::default();
        let (edge, running) = edge(origin.address, &decided);
        drop(within);
        Self {
            edge,
            origin,
            decided,
            before: 0,
            _running: (running, runtime),
        }
    }

    fn judge(&mut self, data: &[u8]) {
        let sent = [data, END].concat();
        let heard = send(self.edge, &sent);
        let mut heard = &heard[..];
        let mut decided = self.decided.lock().expect("the edge goes on");
        for seen in self.origin.seen() {
            let request = seen.expect("whole requests arrive");
            ARRIVED.fetch_add(1, Ordering::Relaxed);
            let number = match request.all("x-request-id")[..] {
                [number] => number.parse::<usize>().expect("a number of ours"),
                ref numbers => panic!("{numbers:?} in {request:?}"),
            };
            let known = &mut decided[number];
            assert!(!known.has_arrived, "twice: {request:?}");
            known.has_arrived = true;
            assert_eq!(known.method, request.method);
            assert_eq!(known.target, request.target);
            assert_eq!(request.all("x-edge-route"), ["all"]);
            for (name, _) in request.fields.iter().chain(&request.trailers) {
                let folded = name.to_ascii_lowercase().replace('_', "-");
                assert!(
                    folded == "x-edge-route" || !folded.starts_with("x-edge-"),
                    "{name} of the client arrived"
                );
            }
            // A request may arrive when its client has long gone, and behind one whose
            // body was the last that was sent, nothing keeps it answered.
            let is_last = !request.body.is_empty() && sent.ends_with(&request.body);
            let is_heard = number >= self.before && !is_last;
            if is_heard && !data.starts_with(HTTP2) && request.method != "HEAD" {
                heard = after(heard, echo(&request).as_bytes())
                    .unwrap_or_else(|| panic!("unanswered: {request:?}"));
            }
        }
        self.before = decided.len();
    }
}

/// What follows the first `part` of `whole`.
fn after<'w>(whole: &'w [u8], part: &[u8]) -> Option<&'w [u8]> {
    let at = whole.windows(part.len()).position(|here| here == part)?;
    Some(&whole[at + part.len()..])
}

/// What is answered until the edge has closed.
fn send(edge: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut heard = Vec::new();
    let mut stream = TcpStream::connect(edge).expect("the edge listens");
    let patience = Some(Duration::from_mins(1));
    stream.set_read_timeout(patience).expect("a timeout");
    // It may have closed before it has read all, and a reset is one way to.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    if let Err(error) = stream.read_to_end(&mut heard) {
        assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "it hangs");
    }
    heard
}

/// One worker, which forwards everything and numbers it.
fn edge(origin: SocketAddr, decided: &Arc<Mutex<Vec<Decided>>>) -> (SocketAddr, server::Running) {
    let routes: RouteConfig = toml::from_str("name = 'all'\nupstream = 'u'").expect("a route");
    let routes = RouteTable::from_config(&[routes]).expect("one route");
    let upstream = toml::from_str(&format!("u = {{ target = 'http://{origin}' }}"));
    let upstreams = Upstreams::from_config(&upstream.expect("an upstream")).expect("one upstream");
    upstreams.look_after(&Clock::system());
    let routes = Arc::new(ArcSwap::from_pointee(routes));
    let upstreams = Arc::new(ArcSwap::from_pointee(upstreams));

    let config = server::Config {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        workers: Workers::Count(NonZeroUsize::MIN),
        ..server::Config::default()
    };
    let server = Server::bind(&config).expect("a free port");
    let address = server.address();
    let decided = Arc::clone(decided);
    let start = move |_worker| {
        let decided = Arc::clone(&decided);
        let stack = ServiceBuilder::new()
            .layer(IngressLayer::new(
                Arc::clone(&routes),
                ClientAddressRule::new(Vec::new(), NonZeroUsize::MIN),
                Refusals::new(1).tally(0),
                Clock::system(),
            ))
            .map_request(move |request| numbered(request, &decided))
            .service(forward(Arc::clone(&upstreams), vouching(), Clock::system()));
        move |connection: Connection| stack.for_peer(connection.peer.ip())
    };
    (address, server.start(start).expect("a worker"))
}

/// Gives a request its place among all as its id, which no client can take off.
fn numbered(mut request: Request<Incoming>, decided: &Mutex<Vec<Decided>>) -> Request<Incoming> {
    let mut decided = decided.lock().expect("the judge goes on");
    let number = HeaderValue::from(decided.len());
    let uri = request.uri();
    let query = uri.query().map(|query| format!("?{query}"));
    decided.push(Decided {
        method: request.method().to_string(),
        // In absolute form, the path may not be written.
        target: uri.path().to_owned() + &query.unwrap_or_default(),
        has_arrived: false,
    });
    let context = request.extensions_mut().get_mut::<RequestContext>();
    context.expect("the ingress was there").request_id = RequestId::new(number).expect("an id");
    request
}

fn vouching() -> Vouching {
    let key = SigningKey {
        name: KeyId::from_bytes([1; 16]),
        seed: Secret::new([2; 32]),
    };
    Vouching {
        signer: Signer::new(&key, &[]).expect("a key"),
        id_tokens: IdTokens::new(MetadataServer::default(), Clock::system()),
    }
}
