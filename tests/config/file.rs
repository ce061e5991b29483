//! What a file may say.

use std::fs;

use cypheron_edge::config::{self, Config, Purpose};

use crate::{accepted, read, refused, variables};

#[test]
fn everything_that_is_wrong_is_reported_at_once() {
    let problems = refused(
        r#"
            [log]
            format = 7
            level = "loud"

            [limiter]
            brust = 5
            max_keys = "many"

            [usage]
            flush_timeout = "soon"

            [usage.journal]
            segment_bytes = "4KiB"

            [sevrer]
            listen = "0.0.0.0:80"
        "#,
        &[("PORT", "eighty")],
    );
    for key in [
        "log.format",
        "log.level",
        "limiter.brust",
        "limiter.max_keys",
        "usage.flush_timeout",
        "usage.journal.segment_bytes",
        "sevrer",
        "PORT",
    ] {
        let line = problems.lines().find(|line| line.starts_with(key));
        assert!(line.is_some(), "{key} is not in\n{problems}");
    }
    assert_eq!(problems.lines().count(), 8, "{problems}");
}

#[test]
fn an_unknown_key_is_refused_with_what_was_probably_meant() {
    for (text, expected) in [
        (
            "[limiter]\nbrust = 5",
            "limiter.brust: unknown; did you mean `burst`?",
        ),
        (
            "[log]\nsink = \"x\"",
            "log.sink: unknown; `usage.sink` is a key, the keys here are format, level",
        ),
        (
            "[log]\nxyzzy = 1",
            "log.xyzzy: unknown; the keys here are format, level",
        ),
        (
            "[usage.journal]\nmax-bytes = 1",
            "usage.journal.max-bytes: unknown; did you mean `max_bytes`?",
        ),
        (
            "[limitter]",
            "limitter: unknown section; did you mean [limiter]?",
        ),
        (
            "[[route]]",
            "route: unknown section; did you mean [[routes]]?",
        ),
        ("log = 5", "log: is a section: write [log]"),
        (
            "upstreams.app = 5",
            "upstreams.app: is a section: write [upstreams.app]",
        ),
        (
            "[routes]",
            "routes: is a list of sections: write [[routes]]",
        ),
        ("routes = [5]", "routes[0]: is a section: write [[routes]]"),
    ] {
        assert_eq!(refused(text, &[]), expected);
    }
}

#[test]
fn a_wrong_type_is_refused_with_the_key_and_an_example() {
    let problem = refused("[limiter]\nmax_keys = \"many\"", &[]);
    assert!(problem.starts_with("limiter.max_keys: "), "{problem}");
    assert!(
        problem.ends_with("for example: max_keys = 1000000"),
        "{problem}"
    );
}

#[test]
fn what_is_not_toml_is_refused_with_its_place() {
    let problem = refused("[log\nlevel = 3", &[]);
    assert!(problem.contains("line 1"), "{problem}");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let environment = variables(&[("CYPHERON_EDGE_CONFIG", "/nowhere/edge.toml")]);
    let problems = Config::load(None, &environment, Purpose::Operate).unwrap_err();
    assert!(
        problems.to_string().starts_with("/nowhere/edge.toml: "),
        "{problems}"
    );
}

#[test]
fn the_file_named_on_the_command_line_wins() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("edge.toml");
    fs::write(&file, "[log]\nlevel = \"debug\"").unwrap();
    let environment = variables(&[("CYPHERON_EDGE_CONFIG", "/nowhere/edge.toml")]);
    let config = Config::load(Some(&file), &environment, Purpose::Operate).unwrap();
    assert_eq!(config.log.level, "debug");
}

#[test]
fn files_live_in_the_data_home_unless_the_configuration_says_otherwise() {
    let xdg = [("XDG_DATA_HOME", "/xdg")];
    for (text, more, expected) in [
        ("", &[][..], "/home/somebody/.local/share/cypheron-edge"),
        ("", &xdg, "/xdg/cypheron-edge"),
        ("[data]\ndir = \"/data\"", &xdg, "/data"),
    ] {
        assert_eq!(accepted(text, more).data.dir.to_str(), Some(expected));
    }
    let problem = refused("", &[("HOME", "")]);
    assert!(problem.starts_with("data.dir: "), "{problem}");
}

#[test]
fn what_is_in_effect_can_be_read_back() {
    let text = "[limiter]\nburst = 7";
    let first = config::parse(text, &variables(&[]), Purpose::Operate);
    let again = read(&first.effective.to_string(), &[]).unwrap();
    assert_eq!(format!("{:?}", first.config.unwrap()), format!("{again:?}"));
}

#[test]
fn a_store_is_used_only_where_it_was_chosen() {
    let problems = refused(
        "",
        &[
            ("CYPHERON_EDGE__KEYS__STORE", ""),
            ("CYPHERON_EDGE__USAGE__SINK", ""),
        ],
    );
    assert!(problems.contains("keys.store: is not set"), "{problems}");
    assert!(problems.contains("usage.sink: is not set"), "{problems}");
}

#[test]
fn serving_takes_the_password_and_working_on_the_stores_does_not() {
    let variables = variables(&[("PQ_ENCRYPTION_PASSWORD", "")]);
    let problem = |purpose| config::parse("", &variables, purpose).config.err();
    assert_eq!(problem(Purpose::Operate), None);
    let problems = problem(Purpose::Serve).unwrap().to_string();
    assert!(
        problems.contains("PQ_ENCRYPTION_PASSWORD: not set"),
        "{problems}"
    );
}

#[test]
fn what_does_not_go_together_is_refused() {
    let route = |name: &str| {
        format!(
            "[[routes]]\nname = \"{name}\"\nupstream = \"app\"\n\
             [upstreams.app]\ntarget = \"http://127.0.0.1:1\"\n"
        )
    };
    let second = |name: &str| format!("[[routes]]\nname = \"{name}\"\nupstream = \"app\"\n");
    for (text, expected) in [
        (
            "[health]\nlisten = \"0.0.0.0:8080\"".to_owned(),
            "health.listen: is the address of the traffic",
        ),
        (
            route("one") + &second("two"),
            "routes: the routes `one` and `two` have the same host and path",
        ),
        (
            route("one") + &second("one"),
            "routes: the routes `one` and `one` have the same name",
        ),
        (
            route("one").replace("[upstreams.app]", "[upstreams.apps]"),
            "routes.one.upstream: there is no upstream `app`; did you mean `apps`?",
        ),
    ] {
        let problems = refused(&text, &[]);
        assert!(problems.starts_with(expected), "{problems}");
    }
}

#[test]
fn an_edge_without_routes_does_not_serve() {
    let problems = config::parse("", &variables(&[]), Purpose::Serve)
        .config
        .unwrap_err();
    assert!(
        problems.to_string().starts_with("routes: there is none"),
        "{problems}"
    );
}

#[test]
fn every_problem_of_every_upstream_and_route_is_named_by_it() {
    let problems = refused(
        r#"
            [upstreams.app]
            target = "https://127.0.0.1/base"
            timeout = "5s"

            [[routes]]
            name = "orders"
            upstream = "app"
            paht = "/orders"
            permission = "Orders"

            [[routes]]
            path = "/files/"
            body_limit = "huge"
        "#,
        &[],
    );
    for start in [
        "upstreams.app.target: ",
        "upstreams.app.timeout: unknown; `routes.*.timeout` is a key, the keys here are assertion, ",
        "routes.orders.paht: unknown; did you mean `path`?",
        "routes.orders.permission: ",
        "routes[1].body_limit: ",
        "routes[1].name: is missing",
        "routes[1].upstream: is missing",
        "routes[1].path: ",
    ] {
        let line = problems.lines().find(|line| line.starts_with(start));
        assert!(line.is_some(), "{start} is not in\n{problems}");
    }
}
