//! Whether this process is alive, whether it should be sent requests, and what
//! it measured. Nothing secret is in any of it.

mod config;
mod server;

pub use config::HealthConfig;
pub use server::serve_health;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use http::StatusCode;
use serde_json::json;

use crate::assertion::Signer;

type Check = Box<dyn Fn() -> bool + Send + Sync>;

/// What readiness depends on. A fault of a store or a sink is not among it: an
/// outage must not take the whole fleet out.
#[derive(Default)]
pub struct Health {
    keyring_open: AtomicBool,
    draining: AtomicBool,
    parts: RwLock<Vec<(&'static str, Check)>>,
    signer: OnceLock<Signer>,
}

impl Health {
    pub fn new() -> Self {
        Self::default()
    }

    /// A part that is named as degraded for as long as `works` says no. It is
    /// asked at each probe, and must not block.
    pub fn with_part(
        self,
        name: &'static str,
        works: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Self {
        self.add_part(name, works);
        self
    }

    /// As [`with_part`](Self::with_part), of what starts while probes are
    /// answered already.
    pub fn add_part(&self, name: &'static str, works: impl Fn() -> bool + Send + Sync + 'static) {
        let mut parts = self.parts.write().unwrap_or_else(PoisonError::into_inner);
        parts.push((name, Box::new(works)));
    }

    /// Publishes what verifies assertions, from now on.
    pub fn publish_keys(&self, signer: Signer) {
        // The first one stays: it follows the keyring by itself.
        let _ = self.signer.set(signer);
    }

    /// The answer to `/.well-known/jwks.json`; `None` before the keyring is open.
    pub fn published_keys(&self) -> Option<Arc<str>> {
        self.signer.get().map(Signer::published)
    }

    pub fn keyring_opened(&self) {
        self.keyring_open.store(true, Ordering::Relaxed);
    }

    pub fn draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// The answer to `/readyz`.
    pub fn readiness(&self) -> (StatusCode, String) {
        let parts = self.parts.read().unwrap_or_else(PoisonError::into_inner);
        let degraded: Vec<_> = parts
            .iter()
            .filter_map(|(name, works)| (!works()).then_some(*name))
            .collect();
        let (status, state) = if self.draining.load(Ordering::Relaxed) {
            (StatusCode::SERVICE_UNAVAILABLE, "draining")
        } else if !self.keyring_open.load(Ordering::Relaxed) {
            (StatusCode::SERVICE_UNAVAILABLE, "starting")
        } else if degraded.is_empty() {
            (StatusCode::OK, "ready")
        } else {
            (StatusCode::OK, "degraded")
        };
        let body = json!({ "status": state, "degraded": degraded });
        (status, body.to_string())
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Health").field(&self.readiness().1).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_ready_between_opening_the_keyring_and_draining() {
        let health = Health::new();
        assert_eq!(health.readiness().0, StatusCode::SERVICE_UNAVAILABLE);
        health.keyring_opened();
        assert_eq!(health.readiness().0, StatusCode::OK);
        health.draining();
        let (status, body) = health.readiness();
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(body.contains("draining"), "{body}");
    }

    #[test]
    fn a_faulty_part_is_named_and_takes_nobody_out() {
        let works = Arc::new(AtomicBool::new(true));
        let asked = Arc::clone(&works);
        let health = Health::new()
            .with_part("store_feed", move || asked.load(Ordering::Relaxed))
            .with_part("sink", || true);
        health.keyring_opened();
        assert!(health.readiness().1.contains(r#""status":"ready""#));
        works.store(false, Ordering::Relaxed);
        let (status, body) = health.readiness();
        assert_eq!(status, StatusCode::OK);
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&body).unwrap(),
            json!({ "status": "degraded", "degraded": ["store_feed"] })
        );
    }
}
