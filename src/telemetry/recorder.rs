//! The recorder behind `/metrics`.

use std::fmt;
use std::sync::Arc;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

use super::AlreadyInstalled;
use super::metric;

/// Upper bounds of the histograms' buckets, in seconds: a factor of about two
/// apart where an edge's own work lies, then coarser up to a slow upstream.
const SECONDS: &[f64] = &[
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0, 30.0,
];

/// What was measured, to be rendered. Cheap to clone.
#[derive(Clone)]
pub struct Metrics(Arc<PrometheusHandle>);

impl Metrics {
    /// The Prometheus text format.
    pub fn render(&self) -> String {
        self.0.render()
    }

    /// Folds what the histograms gathered into their buckets; to be called
    /// every few seconds, or they grow until somebody renders them.
    pub fn upkeep(&self) {
        self.0.run_upkeep();
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

/// Installs the process's recorder.
pub fn install_metrics() -> Result<Metrics, AlreadyInstalled> {
    let handle = builder().install_recorder().map_err(|_| AlreadyInstalled)?;
    metric::describe();
    metrics::gauge!(metric::BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    Ok(Metrics(Arc::new(handle)))
}

fn builder() -> PrometheusBuilder {
    let builder = PrometheusBuilder::new();
    // why: it fails only for an empty list; without buckets they are summaries.
    builder
        .set_buckets(SECONDS)
        .unwrap_or_else(|_| PrometheusBuilder::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_has_buckets_and_a_meaning() {
        let recorder = builder().build_recorder();
        let rendered = metrics::with_local_recorder(&recorder, || {
            metric::describe();
            metrics::histogram!(metric::STORE_READ_SECONDS).record(0.002);
            recorder.handle().render()
        });
        assert!(rendered.contains("# HELP cypheron_edge_store_read_seconds"));
        assert!(rendered.contains("cypheron_edge_store_read_seconds_bucket{le=\"0.0025\"} 1"));
    }
}
