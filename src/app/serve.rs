//! `serve`: an edge, until a signal ends it.

use std::path::Path;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::edge::{Edge, Sockets};
use super::error::ServeError;
use super::handover::{Offer, Predecessor};
use crate::clock::Clock;
use crate::config::{Config, Problems};
use crate::inherited::Inherited;
use crate::telemetry;
use crate::usage::journal::DataDir;

/// Serves until SIGTERM or SIGINT, or until another process takes over; on the
/// sockets that were `inherited` where they were. At SIGHUP, `reload` gives the configuration
/// anew; one that is refused is logged, and the old one stays.
pub fn serve(
    config: &Config,
    take_over: bool,
    mut inherited: Inherited,
    reload: impl Fn() -> Result<Config, Problems>,
) -> Result<(), ServeError> {
    telemetry::install_logging(&config.log)?;
    let metrics = telemetry::install_metrics()?;
    super::background()?.block_on(async {
        let mut signals = Signals::listen()?;
        let data = DataDir::claim(&config.data.dir, take_over)?;
        let directory = data.path().to_owned();
        let predecessor = predecessor(config, take_over, &directory, &mut inherited)?;
        let sockets = Sockets::of(config, inherited)?;
        let copies = sockets.copies()?;
        let clock = Clock::system();
        let mut edge = tokio::select! {
            edge = Edge::start(config, clock, metrics, data, sockets, predecessor) => edge?,
            // It may wait for long.
            () = signals.stop() => return Ok(()),
        };
        let mut offer = Offer::make(&directory, config, copies)
            .inspect_err(|error| tracing::warn!(%error, "no process can take over from this one"))
            .ok();
        loop {
            let wanted = tokio::select! {
                wanted = signals.next() => wanted,
                () = taken(&mut offer) => {
                    tracing::info!("another process has taken over");
                    edge.hand_over().await;
                    break;
                }
            };
            if let Wanted::Stop = wanted {
                break;
            }
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
        // Nobody accepts on its copies.
        drop(offer);
        edge.drain();
        edge.ended().await
    })
}

/// The process to take over from, where there is one, with what it gives.
fn predecessor(
    config: &Config,
    take_over: bool,
    directory: &Path,
    inherited: &mut Inherited,
) -> Result<Option<Predecessor>, ServeError> {
    if !take_over {
        return Ok(None);
    }
    let address = config.server.listen;
    let mut found = Predecessor::find(directory, config)
        .map_err(|source| ServeError::Handover { address, source })?;
    if let Some(predecessor) = &mut found {
        predecessor.give(config, inherited);
    }
    Ok(found)
}

async fn taken(offer: &mut Option<Offer>) {
    match offer {
        Some(offer) => offer.taken().await,
        None => std::future::pending().await,
    }
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
