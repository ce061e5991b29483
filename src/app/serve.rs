//! `serve`: an edge, until a signal ends it.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::edge::{Edge, Sockets};
use super::error::ServeError;
use crate::clock::Clock;
use crate::config::{Config, Problems};
use crate::inherited::Inherited;
use crate::telemetry;
use crate::usage::journal::DataDir;

/// Serves until SIGTERM or SIGINT, on the sockets that were `inherited` where
/// they were. At SIGHUP, `reload` gives the configuration
/// anew; one that is refused is logged, and the old one stays.
pub fn serve(
    config: &Config,
    take_over: bool,
    inherited: Inherited,
    reload: impl Fn() -> Result<Config, Problems>,
) -> Result<(), ServeError> {
    telemetry::install_logging(&config.log)?;
    let metrics = telemetry::install_metrics()?;
    super::background()?.block_on(async {
        let mut signals = Signals::listen()?;
        let data = DataDir::claim(&config.data.dir, take_over)?;
        let sockets = Sockets::of(config, inherited)?;
        let edge = tokio::select! {
            edge = Edge::start(config, Clock::system(), metrics, data, sockets) => edge?,
            // It may wait for long.
            () = signals.stop() => return Ok(()),
        };
        while let Wanted::Reload = signals.next().await {
            match reload().and_then(|next| edge.reload(&next).map(|()| next)) {
                Ok(next) => {
                    tracing::info!("routes, upstreams, limits and certificates were reloaded");
                    let waiting = config.waiting_for_a_start(&next).join(", ");
                    if !waiting.is_empty() {
                        tracing::warn!(%waiting, "changed, and takes effect at the next start");
                    }
                }
                Err(problems) => {
                    for problem in &problems.0 {
                        tracing::error!(%problem, "the configuration is not reloaded");
                    }
                }
            }
        }
        tracing::info!("draining");
        edge.drain();
        edge.ended().await
    })
}

/// The signals that a process is sent.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

pub(super) enum Wanted {
    Stop,
    Reload,
}

impl Signals {
    /// From here on they no longer kill.
    pub(super) fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    pub(super) async fn stop(&mut self) {
        while let Wanted::Reload = self.next().await {}
    }

    pub(super) async fn next(&mut self) -> Wanted {
        tokio::select! {
            _ = self.terminate.recv() => Wanted::Stop,
            _ = self.interrupt.recv() => Wanted::Stop,
            _ = self.hangup.recv() => Wanted::Reload,
        }
    }
}
