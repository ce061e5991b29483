//! Handshakes, with what was loaded last.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use metrics::{counter, gauge};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::ProducesTickets;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::material::{HTTP2, Material};
use super::{Config, Encrypted, Secured, client, failure};
use crate::clock::Timestamp;
use crate::setting::Invalid;
use crate::telemetry::metric::{
    TLS_CERTIFICATE_EXPIRY_SECONDS, TLS_HANDSHAKES, TLS_HANDSHAKES_FAILED,
};

/// What is spoken over.
pub type Stream = TlsStream<TcpStream>;

/// TLS as it is configured now. Clones share it.
#[derive(Clone)]
pub struct Tls(Arc<Shared>);

struct Shared {
    /// That it is set in.
    section: String,
    /// Whether clients are offered it.
    http2: bool,
    now: ArcSwap<Loaded>,
    /// One for all workers, and for what is loaded later: a client goes on with
    /// its session wherever it comes back to. It changes its key by itself.
    tickets: Arc<dyn ProducesTickets>,
}

struct Loaded {
    config: Config,
    made: Arc<ServerConfig>,
}

impl Tls {
    /// Of what is set in `section`; `None` where no TLS is.
    pub fn load(section: &str, config: &Config, http2: bool) -> Result<Option<Self>, Vec<Invalid>> {
        if !config.is_on() {
            return Ok(None);
        }
        let failed = |error: rustls::Error| vec![Invalid::new(section, error.to_string())];
        let tickets = Ticketer::new().map_err(failed)?;
        let loaded = loaded(section, config, http2, &tickets)?;
        Ok(Some(Self(Arc::new(Shared {
            section: section.to_owned(),
            http2,
            now: ArcSwap::from_pointee(loaded),
            tickets,
        }))))
    }

    /// Takes another configuration into use, its files read anew; when any is
    /// unsound, what is in use stays. Where TLS is spoken is not changed.
    pub fn reload(&self, config: &Config) -> Result<(), Vec<Invalid>> {
        let loaded = loaded(&self.0.section, config, self.0.http2, &self.0.tickets)?;
        self.0.now.store(Arc::new(loaded));
        Ok(())
    }

    pub(super) fn section(&self) -> &str {
        &self.0.section
    }

    /// What was loaded last.
    pub(super) fn config(&self) -> Config {
        self.0.now.load().config.clone()
    }

    /// `None` when there was no handshake, which is counted.
    pub async fn accept(&self, stream: TcpStream) -> Option<Encrypted> {
        let (made, limit) = self.in_use();
        let handshake = timeout(limit, TlsAcceptor::from(made).accept(stream)).await;
        let reason = match handshake {
            Ok(Ok(stream)) => match secured(&stream) {
                Some(secured) => {
                    let (_, connection) = stream.get_ref();
                    return Some(Encrypted {
                        is_http2: connection.alpn_protocol() == Some(HTTP2),
                        stream,
                        secured,
                    });
                }
                None => failure::UNREADABLE,
            },
            Ok(Err(error)) => failure::reason(&error),
            Err(_) => failure::TIMED_OUT,
        };
        counter!(TLS_HANDSHAKES_FAILED, "reason" => reason).increment(1);
        None
    }

    fn in_use(&self) -> (Arc<ServerConfig>, Duration) {
        let now = self.0.now.load();
        (Arc::clone(&now.made), now.config.handshake_timeout)
    }
}

fn loaded(
    section: &str,
    config: &Config,
    http2: bool,
    tickets: &Arc<dyn ProducesTickets>,
) -> Result<Loaded, Vec<Invalid>> {
    let material = Material::load(section, config)?;
    let expiries: Vec<_> = material.expiries().collect();
    let made = material
        .server_config(config, http2, Arc::clone(tickets))
        .map_err(|error| vec![Invalid::new(section, error.to_string())])?;
    tell_expiries(config, &expiries);
    Ok(Loaded {
        config: config.clone(),
        made: Arc::new(made),
    })
}

fn tell_expiries(config: &Config, expiries: &[Timestamp]) {
    for (files, expiry) in config.certificates.iter().zip(expiries) {
        let file = files.chain.display().to_string();
        #[expect(clippy::cast_precision_loss, reason = "seconds are exact")]
        let seconds = (expiry.as_micros() / 1_000_000) as f64;
        gauge!(TLS_CERTIFICATE_EXPIRY_SECONDS, "certificate" => file).set(seconds);
    }
}

/// `None` when it cannot be said who the client is, though it showed that.
fn secured(stream: &Stream) -> Option<Secured> {
    let (_, connection) = stream.get_ref();
    let version = connection
        .protocol_version()
        .and_then(|version| version.as_str());
    let group = connection.negotiated_key_exchange_group();
    let group = group.and_then(|group| group.name().as_str());
    counter!(
        TLS_HANDSHAKES,
        "version" => version.unwrap_or("other"),
        // A TLS 1.2 session that goes on agrees on no new key.
        "key_exchange" => group.unwrap_or("none"),
    )
    .increment(1);
    let client = match connection.peer_certificates().and_then(<[_]>::first) {
        None => None,
        Some(certificate) => Some(Arc::new(client::identity(certificate)?)),
    };
    Some(Secured { client })
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tls").field(&self.config()).finish()
    }
}
