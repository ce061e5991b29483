//! A proxy without keys: whoever sends `Test-Key` is taken for its owner, and
//! `Test-Sleep` keeps the worker from everything else for a while.

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use cypheron_edge::assertion::{Signer, SigningKey};
use cypheron_edge::clock::{Clock, Tick, Timestamp};
use cypheron_edge::context::{Identity, RequestContext};
use cypheron_edge::crypto::KeyId;
use cypheron_edge::directory::Entry;
use cypheron_edge::id_token::{IdTokens, MetadataServer};
use cypheron_edge::key::ApiKey;
use cypheron_edge::proxy::{
    ClientAddressRule, IngressLayer, UpstreamConfig, Upstreams, Vouching, forward,
};
use cypheron_edge::route::{RouteConfig, RouteTable};
use cypheron_edge::secret::Secret;
use cypheron_edge::server::{self, Connection, Running, Server};
use cypheron_edge::token::{KeyHash, TokenDigest};
use cypheron_edge::usage::refusals::Refusals;
use http::Request;
use hyper::body::Incoming;
use serde::Deserialize;
use tower::ServiceBuilder;
use uuid::Uuid;

use super::wire::Wire;

pub(crate) struct Edge {
    pub(crate) address: SocketAddr,
    pub(crate) routes: Arc<ArcSwap<RouteTable>>,
    pub(crate) upstreams: Arc<ArcSwap<Upstreams>>,
    pub(crate) running: Running,
}

#[derive(Deserialize)]
struct Settings {
    #[serde(default)]
    server: server::Config,
    #[serde(default)]
    upstreams: std::collections::BTreeMap<String, UpstreamConfig>,
    #[serde(default)]
    routes: Vec<RouteConfig>,
}

/// The routes and upstreams of a configuration.
pub(crate) fn compiled(toml: &str) -> (RouteTable, Upstreams) {
    let settings: Settings = toml::from_str(toml).unwrap();
    (
        RouteTable::from_config(&settings.routes).unwrap(),
        Upstreams::from_config(&settings.upstreams).unwrap(),
    )
}

fn vouching() -> Vouching {
    let key = SigningKey {
        name: KeyId::from_bytes([1; 16]),
        seed: Secret::new([2; 32]),
    };
    Vouching {
        signer: Signer::new(&key, &[]).unwrap(),
        id_tokens: IdTokens::new(MetadataServer::default(), Clock::system()),
    }
}

impl Edge {
    /// Everything goes to `upstream`.
    pub(crate) fn before(upstream: SocketAddr) -> Self {
        Self::with(&format!(
            "{}\n[[routes]]\nname = 'all'\nupstream = 'u'\n",
            to(upstream, "")
        ))
    }

    pub(crate) fn with(toml: &str) -> Self {
        let settings: Settings = toml::from_str(toml).unwrap();
        let (routes, upstreams) = compiled(toml);
        upstreams.look_after(&Clock::system());
        let routes = Arc::new(ArcSwap::from_pointee(routes));
        let upstreams = Arc::new(ArcSwap::from_pointee(upstreams));
        let config = server::Config {
            listen: "127.0.0.1:0".parse().unwrap(),
            workers: server::Workers::Count(NonZeroUsize::MIN),
            ..settings.server
        };
        let rule = ClientAddressRule::new(config.trusted_proxies.clone(), config.trusted_hops);
        let server = Server::bind(&config).unwrap();
        let address = server.address();
        let (for_routes, for_upstreams) = (Arc::clone(&routes), Arc::clone(&upstreams));
        let running = server
            .start(move |_worker| {
                let clock = Clock::system();
                let entry = Arc::new(entry());
                let stack = ServiceBuilder::new()
                    .layer(IngressLayer::new(
                        Arc::clone(&for_routes),
                        rule.clone(),
                        Refusals::new(1).tally(0),
                        clock.clone(),
                    ))
                    .map_request(move |mut request: Request<Incoming>| {
                        if request.headers_mut().remove("test-key").is_some() {
                            let context = request.extensions_mut().get_mut::<RequestContext>();
                            context.unwrap().identity = Identity::of(Arc::clone(&entry));
                        }
                        if request.headers_mut().remove("test-sleep").is_some() {
                            std::thread::sleep(Duration::from_millis(150));
                        }
                        request
                    })
                    .service(forward(Arc::clone(&for_upstreams), vouching(), clock));
                move |connection: Connection| {
                    let service = stack.for_peer(connection.peer.ip());
                    match connection.tls {
                        None => service,
                        Some(secured) => service.over_tls(secured.client),
                    }
                }
            })
            .unwrap();
        Self {
            address,
            routes,
            upstreams,
            running,
        }
    }

    pub(crate) async fn connect(&self) -> Wire {
        Wire::connect(self.address).await
    }

    /// The answer to one request on a connection of its own.
    pub(crate) async fn ask(&self, request: &str) -> String {
        let mut wire = self.connect().await;
        wire.send(request).await;
        wire.message().await
    }
}

/// An upstream `u`, with further settings.
pub(crate) fn to(target: SocketAddr, settings: &str) -> String {
    format!("[upstreams.u]\ntarget = 'http://{target}'\n{settings}\n")
}

fn entry() -> Entry {
    let key = ApiKey {
        id: Uuid::from_u128(7),
        name: "Zoë's key, 1".parse().unwrap(),
        key_hash: KeyHash::from_bytes([0; 32]),
        permissions: vec!["orders:*".parse().unwrap(), "users:read".parse().unwrap()],
        rate_limit: NonZeroU32::MIN,
        created_at: Timestamp::EPOCH,
        expires_at: None,
        is_active: true,
        allowed_ips: Vec::new(),
        revision: 1,
        last_used: None,
        usage_count: 0,
    };
    Entry::new(key, TokenDigest::from_bytes([0; 32]), Tick::default())
}
