//! Where requests go, and what a reload replaces of it.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::clock::Clock;
use crate::config::{Config, Problems};
use crate::id_token::IdTokens;
use crate::limiter::Limiter;
use crate::proxy::Upstreams;
use crate::route::{RouteConfig, RouteTable};

/// What requests are routed by now.
pub(super) struct Routing {
    pub(super) routes: Arc<ArcSwap<RouteTable>>,
    pub(super) decision_routes: Arc<ArcSwap<RouteTable>>,
    pub(super) upstreams: Arc<ArcSwap<Upstreams>>,
    pub(super) id_tokens: IdTokens,
    pub(super) limiter: Arc<Limiter>,
    clock: Clock,
}

/// What can replace it: all of it is sound.
pub(super) struct Next<'a> {
    routes: RouteTable,
    decision_routes: RouteTable,
    upstreams: Upstreams,
    config: &'a Config,
}

impl Routing {
    pub(super) fn begin(config: &Config, clock: &Clock) -> Result<Self, Problems> {
        let routes = RouteTable::from_config(&config.routes).map_err(Problems)?;
        let decision_routes = decision_routes(config)?;
        let upstreams = Upstreams::from_config(&config.upstreams).map_err(Problems)?;
        upstreams.look_after(clock);
        let id_tokens = IdTokens::new(config.metadata_server.clone(), clock.clone());
        id_tokens.keep(upstreams.audiences());
        Ok(Self {
            routes: Arc::new(ArcSwap::from_pointee(routes)),
            decision_routes: Arc::new(ArcSwap::from_pointee(decision_routes)),
            upstreams: Arc::new(ArcSwap::from_pointee(upstreams)),
            id_tokens,
            limiter: Arc::new(Limiter::new(config.limiter.clone())),
            clock: clock.clone(),
        })
    }

    /// What another configuration would make of it.
    pub(super) fn next<'a>(&self, config: &'a Config) -> Result<Next<'a>, Problems> {
        Ok(Next {
            routes: RouteTable::from_config(&config.routes).map_err(Problems)?,
            decision_routes: decision_routes(config)?,
            upstreams: self
                .upstreams
                .load()
                .followed_by(&config.upstreams)
                .map_err(Problems)?,
            config,
        })
    }

    pub(super) fn take(&self, next: Next<'_>) {
        next.upstreams.look_after(&self.clock);
        self.id_tokens.keep(next.upstreams.audiences());
        // Upstreams first: no route leads to one that is not there yet.
        self.upstreams.store(Arc::new(next.upstreams));
        self.routes.store(Arc::new(next.routes));
        self.decision_routes.store(Arc::new(next.decision_routes));
        self.limiter.reconfigure(next.config.limiter.clone());
    }
}

/// Who is asked cannot answer a page's preflight, nor take a token out of
/// another proxy's target: there is no `cors` and no `query_parameter`.
fn decision_routes(config: &Config) -> Result<RouteTable, Problems> {
    let routes: Vec<_> = config
        .routes
        .iter()
        .map(|route| RouteConfig {
            cors: None,
            query_parameter: None,
            ..route.clone()
        })
        .collect();
    RouteTable::from_config(&routes).map_err(Problems)
}
