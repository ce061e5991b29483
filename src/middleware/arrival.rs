//! The context of a request that nobody gave one.

use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use http::Request;

use crate::clock::Clock;
use crate::context::{Identity, RequestContext, RequestId};
use crate::permission::Required;
use crate::route::{Access, RequiredPermissions, Route};

/// The request extension that says where a client calls from, for stacks
/// without the proxy: the address of the client, not of a proxy in between.
///
/// It has to be there before the outermost layer of ours sees the request.
/// Without it every key that is bound to addresses (`allowed_ips`) is refused,
/// usage has no addresses, and nothing bounds the reads of the store that one
/// address may cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

/// Makes a context for a request that has none.
pub(super) fn ensure_context<B>(request: &mut Request<B>, clock: &Clock) {
    if request.extensions().get::<RequestContext>().is_none() {
        let context = arrive(request, clock);
        request.extensions_mut().insert(context);
    }
}

#[cold]
fn arrive<B>(request: &Request<B>, clock: &Clock) -> RequestContext {
    let received = clock.now();
    RequestContext {
        client: request.extensions().get().map(|ClientAddress(ip)| *ip),
        request_id: RequestId::of(request.headers(), received.wall),
        route: route(request.extensions().get()),
        received,
        peer: None,
        certificate: None,
        identity: Identity::ANONYMOUS,
    }
}

fn route(required: Option<&Required>) -> Arc<Route> {
    static ANY: LazyLock<Arc<Route>> = LazyLock::new(Arc::default);
    match required {
        None => Arc::clone(&ANY),
        Some(required) => Arc::new(Route {
            access: Access {
                required: RequiredPermissions::always(required.clone()),
                ..Access::default()
            },
            ..Route::default()
        }),
    }
}
