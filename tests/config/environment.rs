//! What the environment may say.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use cypheron_edge::config::{self, Purpose};
use cypheron_edge::limiter::Burst;

use crate::{PASSWORD, accepted, password, refused, variables};

#[test]
fn a_variable_overrides_the_file_whatever_its_type() {
    let config = accepted(
        "[limiter]\ninstances = 2\nburst = 3",
        &[
            ("CYPHERON_EDGE__LIMITER__INSTANCES", "4"),
            ("CYPHERON_EDGE__LIMITER__BURST", "50"),
            ("CYPHERON_EDGE__LOG__LEVEL", "warn"),
            ("CYPHERON_EDGE__USAGE__JOURNAL__SEGMENT_BYTES", "1048576"),
        ],
    );
    assert_eq!(config.limiter.instances, 4);
    assert_eq!(config.limiter.burst, Burst::Requests(50));
    assert_eq!(config.log.level, "warn");
    assert_eq!(config.usage.journal.segment_bytes.as_u64(), 1 << 20);
}

#[test]
fn an_empty_variable_counts_as_not_set() {
    let config = accepted("", &[("CYPHERON_EDGE__LOG__LEVEL", ""), ("PORT", "")]);
    assert_eq!(config.log.level, "info");
}

#[test]
fn a_list_is_separated_by_commas_or_written_as_in_toml() {
    for text in [
        "10.0.0.0/8, 2001:db8::/32",
        "[\"10.0.0.0/8\", \"2001:db8::/32\"]",
    ] {
        let config = accepted("", &[("CYPHERON_EDGE__SERVER__TRUSTED_PROXIES", text)]);
        assert_eq!(config.server.trusted_proxies.len(), 2, "{text}");
    }
}

#[test]
fn port_moves_the_traffic_unless_an_override_says_where() {
    let port = ("PORT", "3000");
    let listen = ("CYPHERON_EDGE__SERVER__LISTEN", "127.0.0.1:80");
    for (text, more, expected) in [
        ("", &[port][..], "0.0.0.0:3000"),
        ("[server]\nlisten = \"[::1]:8080\"", &[port], "[::1]:3000"),
        ("", &[port, listen], "127.0.0.1:80"),
    ] {
        let config = accepted(text, more);
        assert_eq!(
            config.server.listen.to_string(),
            expected,
            "{text} {more:?}"
        );
    }
}

#[test]
fn a_route_is_overridden_by_its_name() {
    let text = r#"
        [[routes]]
        name = "Big-Files"
        upstream = "app"

        [upstreams.app]
        target = "http://127.0.0.1:9000"
    "#;
    let config = accepted(text, &[("CYPHERON_EDGE__ROUTES__BIG_FILES__TIMEOUT", "5s")]);
    assert_eq!(config.routes[0].timeout, Some(Duration::from_secs(5)));
    let of_method = "CYPHERON_EDGE__ROUTES__BIG_FILES__PERMISSIONS__GET";
    let config = accepted(text, &[(of_method, "files:read")]);
    assert_eq!(config.routes[0].permissions["GET"], "files:read");
    let problem = refused(text, &[("CYPHERON_EDGE__ROUTES__SMALL__TIMEOUT", "5s")]);
    assert!(problem.ends_with("no route is named `small`"), "{problem}");
}

#[test]
fn an_upstream_is_overridden_or_made_by_its_name() {
    let text = r#"
        [upstreams.blue-team]
        target = "http://127.0.0.1:9000"
    "#;
    let config = accepted(
        text,
        &[
            ("CYPHERON_EDGE__UPSTREAMS__BLUE_TEAM__MAX_IDLE", "3"),
            (
                "CYPHERON_EDGE__UPSTREAMS__RED__TARGET",
                "http://127.0.0.1:9001",
            ),
        ],
    );
    assert_eq!(config.upstreams["blue-team"].max_idle, 3);
    assert_eq!(
        config.upstreams["blue-team"].target,
        "http://127.0.0.1:9000"
    );
    assert_eq!(config.upstreams["red"].target, "http://127.0.0.1:9001");
}

#[test]
fn an_unknown_variable_is_refused_with_what_was_probably_meant() {
    assert_eq!(
        refused("", &[("CYPHERON_EDGE__LIMITER__BRUST", "5")]),
        "CYPHERON_EDGE__LIMITER__BRUST: no setting has this name; did you mean \
         CYPHERON_EDGE__LIMITER__BURST?"
    );
}

#[test]
fn a_bad_value_is_blamed_on_its_variable() {
    let problem = refused("", &[("CYPHERON_EDGE__LIMITER__MAX_KEYS", "many")]);
    assert!(problem.starts_with("limiter.max_keys: "), "{problem}");
    assert!(
        problem.ends_with("(set by CYPHERON_EDGE__LIMITER__MAX_KEYS)"),
        "{problem}"
    );
}

#[test]
fn what_kubernetes_puts_beside_a_service_of_this_name_is_left_alone() {
    accepted(
        "",
        &[
            ("CYPHERON_EDGE_PORT", "tcp://10.0.0.1:8080"),
            ("CYPHERON_EDGE_SERVICE_HOST", "10.0.0.1"),
        ],
    );
}

/// Why the password that was given cannot be used: a command that needs none
/// goes on.
fn password_problem(variables: &[(&str, &str)]) -> String {
    let config = accepted("", variables);
    assert_eq!(config.password, None);
    config.password_problem.unwrap().to_string()
}

#[test]
fn a_password_that_cannot_be_used_keeps_an_edge_from_serving() {
    let short = BTreeMap::from([("PQ_ENCRYPTION_PASSWORD".to_owned(), "short".to_owned())]);
    let problems = config::parse(crate::reference::QUICKSTART, &short, Purpose::Serve).config;
    let problems = problems.unwrap_err().to_string();
    assert!(problems.contains("PQ_ENCRYPTION_PASSWORD: "), "{problems}");
}

#[test]
fn a_short_password_is_refused_and_not_shown() {
    let short = "hunter2-hunter2-hunter2-hunter2";
    let problem = password_problem(&[("PQ_ENCRYPTION_PASSWORD", short)]);
    assert!(problem.starts_with("PQ_ENCRYPTION_PASSWORD: "), "{problem}");
    assert!(!problem.contains(short), "{problem}");
}

#[test]
fn a_secret_may_lie_in_a_file_instead() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("password");
    fs::write(&file, format!("{PASSWORD}\n")).unwrap();
    let file = file.to_str().unwrap();
    let config = accepted(
        "",
        &[
            ("PQ_ENCRYPTION_PASSWORD", ""),
            ("PQ_ENCRYPTION_PASSWORD_FILE", file),
        ],
    );
    assert_eq!(config.password, password());

    let both = password_problem(&[("PQ_ENCRYPTION_PASSWORD_FILE", file)]);
    assert!(both.contains("unset one of them"), "{both}");
    let missing = password_problem(&[
        ("PQ_ENCRYPTION_PASSWORD", ""),
        ("PQ_ENCRYPTION_PASSWORD_FILE", "/nowhere"),
    ]);
    assert!(missing.contains("cannot read /nowhere"), "{missing}");
}

#[test]
fn a_password_kept_in_the_data_directory_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let kept = directory.path().join(config::PASSWORD_FILE);
    fs::write(kept, PASSWORD).unwrap();
    let config = accepted(
        &format!("[data]\ndir = {:?}", directory.path()),
        &[("PQ_ENCRYPTION_PASSWORD", "")],
    );
    assert_eq!(config.password, password());
}

#[test]
fn a_store_that_this_build_lacks_is_refused_by_the_variable_that_chooses_it() {
    let mut lacking = Vec::new();
    if cfg!(not(feature = "firestore")) {
        lacking.extend([
            ("GOOGLE_CLOUD_PROJECT_ID", "Firestore"),
            ("FIRESTORE_EMULATOR_HOST", "Firestore"),
        ]);
    }
    if cfg!(not(feature = "postgres")) {
        lacking.extend([("DATABASE_URL", "PostgreSQL"), ("DB_HOST", "PostgreSQL")]);
    }
    for (name, store) in lacking {
        let problem = refused("", &[(name, "sesame")]);
        assert!(
            problem.starts_with(&format!("{name}: chooses {store}")),
            "{problem}"
        );
        assert!(!problem.contains("sesame"), "{problem}");
    }
    accepted(
        "",
        &[
            ("GOOGLE_APPLICATION_CREDENTIALS", "/key.json"),
            ("DB_NAME", "edge"),
        ],
    );
}

#[test]
fn no_secret_is_in_what_is_in_effect() {
    let environment = variables(&[("DB_PASSWORD", "sesame")]);
    let reading = config::parse("", &environment, Purpose::Operate);
    let shown = format!("{}{reading:?}", reading.effective);
    assert!(
        shown.contains("PQ_ENCRYPTION_PASSWORD = [redacted]"),
        "{shown}"
    );
    assert!(
        !shown.contains(PASSWORD) && !shown.contains("sesame"),
        "{shown}"
    );
}
