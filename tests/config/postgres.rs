//! Where PostgreSQL is, as platforms say it.

use cypheron_edge::database::{Login, Server, SslMode};
use cypheron_edge::secret::Secret;

use crate::{accepted, refused};

fn server(variables: &[(&str, &str)]) -> Server {
    accepted("", variables).postgres.unwrap()
}

#[test]
fn the_parts_are_as_good_as_a_url() {
    let of_url = server(&[
        (
            "DATABASE_URL",
            "postgres://edge:sesame@db:6000/usage?sslmode=require",
        ),
        ("DB_MAX_CONNECTIONS", "7"),
    ]);
    let of_parts = server(&[
        ("DB_HOST", "db"),
        ("DB_PORT", "6000"),
        ("DB_USER", "edge"),
        ("DB_PASSWORD", "sesame"),
        ("DB_NAME", "usage"),
        ("DB_SSL_MODE", "require"),
        ("DB_MAX_CONNECTIONS", "7"),
    ]);
    assert_eq!(of_url, of_parts);
    assert_eq!(of_url.max_connections, 7);
}

#[test]
fn a_url_may_leave_its_password_and_its_root_certificate_to_others() {
    let found = server(&[
        (
            "DATABASE_URL",
            "postgres://edge@db/usage?sslmode=verify-full",
        ),
        ("DB_PASSWORD", "sesame"),
        ("DB_SSL_ROOT_CERT", "/etc/ca.pem"),
    ]);
    assert_eq!(found.password, Some(Secret::new("sesame".to_owned())));
    assert_eq!(found.ssl_mode, SslMode::VerifyFull);
    assert_eq!(found.trusted_root(), Some("/etc/ca.pem".as_ref()));
}

#[test]
fn without_a_url_or_a_host_there_is_none() {
    assert_eq!(accepted("", &[("DB_NAME", "usage")]).postgres, None);
}

#[test]
fn what_does_not_go_together_is_refused_by_name_and_nothing_secret_is_shown() {
    let url = ("DATABASE_URL", "postgres://edge:sesame@db/usage");
    for (variables, problem) in [
        (
            [url, ("DB_HOST", "db")],
            "DB_HOST: set together with DATABASE_URL",
        ),
        (
            [url, ("DB_PASSWORD", "sesame")],
            "DB_PASSWORD: DATABASE_URL has",
        ),
        (
            [url, ("DB_SSL_MODE", "always")],
            "DB_SSL_MODE: `always` is no sslmode",
        ),
        ([url, ("DB_MAX_CONNECTIONS", "1")], "PostgreSQL: at least 2"),
        (
            [url, ("DB_MAX_CONNECTIONS", "all")],
            "DB_MAX_CONNECTIONS: `all`",
        ),
        ([url, ("DB_SSL_ROOT_CERT", "/ca")], "would not be used"),
        ([url, ("DB_SSL_MODE", "verify-ca")], "root certificate"),
        (
            [("DB_HOST", "db"), ("DB_PORT", "x")],
            "DB_PORT: `x` is not a port",
        ),
        (
            [("DATABASE_URL", "mysql://sesame"), ("DB_NAME", "")],
            "DATABASE_URL: it has to begin with `postgres://`",
        ),
    ] {
        let text = refused("", &variables);
        assert!(text.contains(problem), "{text}");
        assert!(!text.contains("sesame"), "{text}");
    }
}

#[test]
fn an_access_token_needs_no_password_and_a_server_that_is_known() {
    let iam = "[database]\nlogin = \"iam\"";
    let socket = (
        "DATABASE_URL",
        "postgres://edge@/usage?host=/cloudsql/a:b:c",
    );
    let config = accepted(iam, &[socket]);
    assert_eq!(config.database.login, Login::Iam);
    let text = refused(iam, &[("DATABASE_URL", "postgres://edge@db/usage")]);
    assert!(text.contains("access token"), "{text}");
    let text = refused(iam, &[socket, ("DB_PASSWORD", "sesame")]);
    assert!(text.contains("needs none"), "{text}");
}

#[test]
fn a_statement_may_take_an_hour_and_no_longer() {
    let url = ("DATABASE_URL", "postgres://edge:sesame@db/usage");
    accepted("[database]\nstatement_timeout = \"1h\"", &[url]);
    let text = refused("[database]\nstatement_timeout = \"61min\"", &[url]);
    let problem = "database.statement_timeout: must be at most `1h`";
    assert!(text.contains(problem), "{text}");
}
