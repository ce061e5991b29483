//! The layers over the store that the commands of this crate write: its
//! keyring, its sealed records, and what changes in it while this runs.
//!
//! ```text
//! ./scripts/quickstart     # makes a store and a key, and prints the token
//! cargo run --example embedded -- ~/.local/share/cypheron-edge
//! curl -i -H 'Authorization: Bearer cyk_test_...' http://127.0.0.1:8082/
//! ```

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "an example talks to whoever runs it"
)]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::extract::{ConnectInfo, Request};
use axum::routing::get;
use axum::{Extension, Router};
use cypheron_edge::clock::Clock;
use cypheron_edge::crypto::{Keyring, Password, PostQuantumEncryption};
use cypheron_edge::directory::{self, Directory, Loaded, SealedRecords};
use cypheron_edge::key::{Scope, token_keys};
use cypheron_edge::limiter::{self, Limiter};
use cypheron_edge::middleware::{
    ApiKeyAuthLayer, ClientAddress, RateLimitLayer, RateLimitRefusalsLayer, RequestContext, auth,
};
use cypheron_edge::repository::ApiKeyReader;
use cypheron_edge::repository::embedded::EmbeddedApiKeyRepository;
use cypheron_edge::secret::Secret;
use cypheron_edge::token::{Environment, TokenKeys};
use tokio::net::TcpListener;

type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// What `cypheron-edge` seals into each record: one from elsewhere does not open.
const COLLECTION: &str = "api_keys";

fn scope() -> Scope {
    Scope {
        project: String::new(),
        database: "embedded".to_owned(),
        collection: COLLECTION.to_owned(),
    }
}

#[tokio::main]
async fn main() -> Result<(), AnyError> {
    let data = PathBuf::from(std::env::args_os().nth(1).ok_or("name a data directory")?);
    let password = std::fs::read_to_string(data.join("password"))?;
    let password = Password::new(Secret::new(password.trim_end().to_owned()))?;
    let app = app(&data, password).await?;
    let listener = TcpListener::bind("127.0.0.1:8082").await?;
    println!(
        "http://{}/ takes the keys of {}",
        listener.local_addr()?,
        data.display()
    );
    serve(listener, app).await;
    Ok(())
}

/// Serves `app`, telling its layers where clients call from: without that a key
/// that is bound to addresses is refused.
pub(crate) async fn serve(listener: TcpListener, app: Router) {
    let address = |ConnectInfo(peer): ConnectInfo<SocketAddr>, mut request: Request| async move {
        request.extensions_mut().insert(ClientAddress(peer.ip()));
        request
    };
    let app = app.layer(axum::middleware::map_request(address));
    let service = app.into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, service).await.unwrap();
}

/// Behind the layers, outermost first. What records usage is in `examples/axum.rs`.
pub(crate) async fn app(data: &Path, password: Password) -> Result<Router, AnyError> {
    let clock = Clock::system();
    let limiter = Arc::new(Limiter::new(limiter::Config::default()));
    let layers = (
        RateLimitRefusalsLayer::new(Arc::clone(&limiter), clock.clone()),
        authentication(data, password, clock).await?,
        RateLimitLayer::new(limiter),
    );
    Ok(Router::new().route("/", get(hello)).layer(layers))
}

async fn hello(Extension(context): Extension<RequestContext>) -> String {
    let name = context.identity.key().map(|key| key.name.to_string());
    format!("Hello, {}.\n", name.unwrap_or_default())
}

async fn authentication(
    data: &Path,
    password: Password,
    clock: Clock,
) -> Result<ApiKeyAuthLayer, AnyError> {
    let keys = Keys::open(data, password, &clock).await?;
    let for_reload = keys.clone();
    let opener = SealedRecords::new(keys.encryption.clone(), scope(), clock.clone(), move || {
        Box::pin(for_reload.clone().reload())
    });
    let directory = Directory::new(
        directory::Config::default(),
        clock.clone(),
        keys.store,
        Arc::new(opener),
        tokio::runtime::Handle::current(),
    );
    let config = auth::Config {
        environment: Environment::Test,
        ..auth::Config::default()
    };
    let layer = ApiKeyAuthLayer::new(&config, keys.tokens, directory.clone(), clock)?;
    // Revocations, new policies and new keyrings are heard of at once.
    tokio::spawn(async move { directory.follow().await });
    Ok(layer)
}

/// The store, and what its keyring gives.
#[derive(Clone)]
struct Keys {
    store: Arc<dyn ApiKeyReader>,
    password: Password,
    /// Opens records.
    encryption: PostQuantumEncryption,
    /// Hashes tokens.
    tokens: Arc<ArcSwap<TokenKeys>>,
}

impl Keys {
    async fn open(data: &Path, password: Password, clock: &Clock) -> Result<Self, AnyError> {
        let store = EmbeddedApiKeyRepository::open(&data.join("keys.db"), clock.clone())?;
        let keyring = keyring(&store, password.clone()).await?;
        let encryption = PostQuantumEncryption::new(&keyring);
        let tokens = token_keys(&encryption).ok_or("the keyring has no keys for tokens")?;
        Ok(Self {
            store: Arc::new(store),
            password,
            encryption,
            tokens: Arc::new(ArcSwap::from_pointee(tokens)),
        })
    }

    /// Takes the store's keyring of now into use; goes on with the old one when
    /// that fails.
    async fn reload(self) -> Loaded {
        let reloaded = async {
            let keyring = keyring(&*self.store, self.password).await?;
            self.encryption.replace(&keyring)?;
            let tokens = token_keys(&self.encryption).ok_or("it has no keys for tokens")?;
            self.tokens.store(Arc::new(tokens));
            Ok::<_, AnyError>(())
        };
        match reloaded.await {
            Ok(()) => Loaded::Opened,
            Err(error) => {
                eprintln!("going on with the keyring that is held: {error}");
                Loaded::Unread
            }
        }
    }
}

/// Deriving a key from the password takes a while and much memory: not on a
/// thread that serves.
async fn keyring(store: &dyn ApiKeyReader, password: Password) -> Result<Keyring, AnyError> {
    let document = store.keyring().await?;
    let document = document.ok_or("make a keyring first: cypheron-edge keyring init")?;
    let open = move || Keyring::open(&document, COLLECTION, &password);
    Ok(tokio::task::spawn_blocking(open).await??)
}
