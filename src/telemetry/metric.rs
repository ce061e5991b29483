//! The metrics: name, kind, unit and meaning, one row each.
//!
//! Nothing that a client sent becomes a label, except through a value of ours
//! (a route's name, a refusal's reason).

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// Declares the name of each metric as a constant, documented by its meaning,
/// and [`describe`], which tells the recorder of all of them.
macro_rules! metrics {
    ($($describe:ident $constant:ident = $name:literal, $unit:ident, $meaning:literal;)*) => {
        $(
            #[doc = $meaning]
            #[doc = concat!("\n\nUnit: `", stringify!($unit), "`.")]
            pub const $constant: &str = concat!("cypheron_edge_", $name);
        )*

        /// Tells the installed recorder what each metric means.
        pub fn describe() {
            $($describe!($constant, Unit::$unit, $meaning);)*
        }

        #[cfg(test)]
        const NAMES: &[&str] = &[$($constant),*];
    };
}

// By module, in the order of a request.
metrics! {
    describe_gauge BUILD_INFO = "build_info", Count, "Always 1; the label `version` tells which build runs.";
    describe_gauge CONNECTIONS = "connections", Count, "Open connections of clients.";
    describe_counter CONNECTIONS_ACCEPTED = "connections_accepted_total", Count, "Connections of clients that were accepted.";
    describe_counter CONNECTIONS_CLOSED_FULL = "connections_closed_full_total", Count, "Connections that were closed at once because `server.max_connections` others were open.";
    describe_counter CONNECTIONS_CLOSED_CROWDED = "connections_closed_crowded_total", Count, "Connections that were closed at once because their address had `server.max_connections_per_address` others open.";
    describe_counter CONNECTIONS_CLOSED_SLOW = "connections_closed_slow_total", Count, "Connections that were cut because their client was too slow; the label `what` is head, answer, or idle for one that did not end when it was told to.";
    describe_counter ACCEPT_FAILURES = "accept_failures_total", Count, "How often no connection could be accepted, as when there are no file descriptors left.";
    describe_counter PROXY_HEADERS_FAILED = "proxy_headers_failed_total", Count, "Connections of balancers that began with no sound header of the PROXY protocol; the label `reason` is malformed, `timed_out` or `broke_off`.";
    describe_counter CONNECTIONS_CLOSED_FLOODING = "connections_closed_flooding_total", Count, "HTTP/2 connections that were closed because most of their requests were given up as soon as they had begun.";
    describe_counter TLS_HANDSHAKES = "tls_handshakes_total", Count, "TLS handshakes of clients that succeeded; the label `version` is `TLSv1_3` or `TLSv1_2`, `key_exchange` is how keys were agreed on.";
    describe_counter TLS_HANDSHAKES_FAILED = "tls_handshakes_failed_total", Count, "TLS handshakes of clients that failed; the label `reason` is a word for why.";
    describe_gauge TLS_CERTIFICATE_EXPIRY_SECONDS = "tls_certificate_expiry_timestamp_seconds", Seconds, "When a certificate expires, in seconds since 1970; the label `certificate` is its file.";
    describe_counter TLS_RELOAD_FAILURES = "tls_reload_failures_total", Count, "How often certificates changed on disk and could not be used, so that the old ones stayed.";
    describe_gauge TUNNELS = "tunnels", Count, "Connections of clients that are tunnels now (WebSocket).";
    describe_counter REQUESTS = "requests_total", Count, "Requests by route (`none` where none matched) and outcome: admitted, or the reason of the refusal.";
    describe_histogram REQUEST_SECONDS = "request_seconds", Seconds, "From the head of a request to the head of its response, by route.";
    describe_counter DECISIONS_UNHEARD = "decisions_unheard_total", Count, "Questions of proxies that were not heard; the label `listener` is its name, `why` is caller-unknown or question-unclear.";
    describe_gauge STORE_FEED_CONNECTED = "store_feed_connected", Count, "1 while the key store's change feed has no gap, 0 while it is cut.";
    describe_counter STORE_FEED_CUTS = "store_feed_cuts_total", Count, "How often the key store's change feed was interrupted.";
    describe_gauge KEYRING_VERSION = "keyring_version", Count, "The version of the keyring in use: the same on every edge once all have reloaded.";
    describe_counter STORE_FEED_DOCUMENTS = "store_feed_documents_total", Count, "Documents that came over Firestore's change feed, each of which is billed as a read.";
    describe_counter STORE_FEED_PROBES = "store_feed_probes_total", Count, "How often Firestore's change feed was silent and the server asked for a sign of life, each time for the price of a read.";
    describe_histogram STORE_READ_SECONDS = "store_read_seconds", Seconds, "How long the key store took to answer one read.";
    describe_gauge STORE_CIRCUIT = "store_circuit", Count, "How the key store is asked: 0 freely, 2 not at all because it failed, 1 while a probe looks whether it answers again.";
    describe_counter STORE_CIRCUIT_OPENINGS = "store_circuit_openings_total", Count, "How often the key store began to fail.";
    describe_counter STORE_RETRIES = "store_retries_total", Count, "Reads of the key store that failed and were made once more.";
    describe_counter STORE_LATE_READS = "store_late_reads_total", Count, "Reads that the key store did not answer within `directory.lookup_timeout`.";
    describe_counter DIRECTORY_READS = "directory_reads_total", Count, "Reads of single records from the key store; the label `outcome` is found, absent, tampered, failed or `over_budget`.";
    describe_counter DIRECTORY_WARMED = "directory_warmed_total", Count, "Keys that were cached before anybody asked for them.";
    describe_gauge DIRECTORY_KEYS = "directory_keys", Count, "How many keys are cached, about.";
    describe_counter LIMITER_CROWDED = "limiter_crowded_total", Count, "Requests of keys that share a rate limit's state because `limiter.max_keys` others are in use.";
    describe_counter UPSTREAM_CONNECTIONS = "upstream_connections_total", Count, "Connections that were opened to an upstream; the label `upstream` is its name.";
    describe_counter UPSTREAM_RETRIES = "upstream_retries_total", Count, "Requests that were tried once more, not having been sent or having been turned away: on another connection, or on another target; the label `upstream` is its name.";
    describe_counter UPSTREAM_FAILURES = "upstream_failures_total", Count, "Requests that an upstream failed; the label `upstream` is its name, `failure` is failed or `timed_out`.";
    describe_counter UPSTREAM_BUSY = "upstream_busy_total", Count, "Requests that were refused because an upstream had as many of them, or of tunnels, as it may have; the label `upstream` is its name.";
    describe_counter UPSTREAM_WAITED = "upstream_waited_total", Count, "Requests that waited for a connection because a target had as many as it may have; the label `upstream` is its name.";
    describe_counter UPSTREAM_EJECTIONS = "upstream_ejections_total", Count, "How often a target was left alone for a while because requests failed there; the label `upstream` is its name.";
    describe_counter UPSTREAM_CHECKS_FAILED = "upstream_checks_failed_total", Count, "Checks of health that a target failed; the label `upstream` is its name.";
    describe_counter UPSTREAM_LOOK_UPS_FAILED = "upstream_look_ups_failed_total", Count, "Names of targets that could not be looked up: the addresses that are known stay in use; the label `upstream` is its name.";
    describe_gauge UPSTREAM_TARGET_HEALTHY = "upstream_target_healthy", Count, "1 while a target passes its checks of health, or has none, 0 while it does not; the labels `upstream` and `target` name it.";
    describe_gauge UPSTREAM_TARGET_EJECTED = "upstream_target_ejected", Count, "1 while a target is left alone because requests failed there, otherwise 0; the labels `upstream` and `target` name it.";
    describe_counter ID_TOKEN_FAILURES = "id_token_failures_total", Count, "Failed attempts to get an identity token for an upstream from Google's metadata server.";
    describe_gauge JOURNAL_BACKLOG_BYTES = "journal_backlog_bytes", Bytes, "Usage of this process that is in its journal and not yet stored.";
    describe_counter JOURNAL_DAMAGED = "journal_damaged_total", Count, "Stretches of damaged bytes that were stepped over in usage journals.";
    describe_counter JOURNAL_SYNC_FAILURES = "journal_sync_failures_total", Count, "Failed attempts to sync the usage journal to its disk.";
    describe_counter USAGE_DROPPED = "usage_dropped_total", Count, "Decided requests of known keys that found no room in the usage journal.";
    describe_counter USAGE_STORED = "usage_stored_total", Count, "Usage events that were stored, once each.";
    describe_counter USAGE_QUARANTINED = "usage_quarantined_total", Count, "Usage events, of those that were stored, that were put into quarantine: too old, too far ahead, or refused by the database.";
    describe_gauge DATABASE_CONNECTIONS = "database_connections", Count, "Connections to PostgreSQL; the label `pool` is queries or ingest, `state` is idle or `in_use`.";
    describe_counter COUNTERS_WRITTEN = "counters_written_total", Count, "Records of keys that this edge told their `usage_count` and `last_used`.";
    describe_counter COUNTERS_FAILURES = "counters_failures_total", Count, "Attempts of this edge to tell records their usage that were broken off.";
    describe_counter USAGE_SINK_FAILURES = "usage_sink_failures_total", Count, "Failed attempts to store usage, or to delete what is older than its retention.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_a_plain_name_of_its_own() {
        let mut names = NAMES.to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), NAMES.len());
        for name in names {
            let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
            assert!(name.bytes().all(plain), "{name}");
        }
    }
}
