//! Which route a request takes, and what is refused before it takes any.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use cypheron_edge::refusal::Refusal;
use cypheron_edge::route::{Host, RouteConfig, RouteTable};
use proptest::prelude::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct Routes {
    routes: Vec<RouteConfig>,
}

fn configs(toml: &str) -> Vec<RouteConfig> {
    toml::from_str::<Routes>(toml).unwrap().routes
}

fn table() -> RouteTable {
    let routes = r#"
        routes = [
            { name = "public", upstream = "u", path = "/", public = true },
            { name = "api", upstream = "u", path = "/api", permission = "api:use" },
            { name = "admin", upstream = "u", path = "/api/admin", permission = "api:admin" },
            { name = "cafe", upstream = "u", path = "/caf%C3%A9", permission = "cafe:use" },
            { name = "shop", upstream = "u", host = "Shop.Example.", path = "/api" },
        ]
    "#;
    RouteTable::from_config(&configs(routes)).unwrap()
}

fn route_of(table: &RouteTable, host: Option<&str>, path: &str) -> String {
    let host = host.map(|host| Host::parse(host.as_bytes()).unwrap());
    match table.find(host.as_ref(), path) {
        Ok(route) => route.name.to_string(),
        Err(refusal) => refusal.reason().to_owned(),
    }
}

#[test]
fn a_path_takes_the_longest_route_of_whole_segments() {
    let table = table();
    for (path, route) in [
        ("/", "public"),
        ("/x", "public"),
        ("/api", "api"),
        ("/api/", "api"),
        ("/api/x", "api"),
        ("/api/x/y/z/", "api"),
        ("/apiary", "public"),
        ("/api-2/admin", "public"),
        ("/api/admin", "admin"),
        ("/api/admin/x", "admin"),
        ("/api/administrator", "api"),
        ("/x/api/admin", "public"),
        ("/API", "public"),
        ("/caf%C3%A9/x", "cafe"),
        ("/a.b/..c/c../.d/...", "public"),
        ("/100%25", "public"),
        ("/x;y=1/z", "public"),
        ("/api/x;y=1", "api"),
        ("/api/%78", "api"),
    ] {
        assert_eq!(route_of(&table, None, path), route, "{path}");
    }
}

#[test]
fn a_path_that_could_mean_two_things_is_refused() {
    let table = table();
    for path in [
        "/.",
        "/..",
        "/./api",
        "/x/../api/admin",
        "/x/..",
        "/api/.",
        "/..;/api",
        "/x/..;a=b/api",
        "/x/.;/api",
        "/;/api",
        "/;a=b/api",
        "//",
        "//api",
        "/api//admin",
        "/api//",
        "/api\\admin",
        "/api/..\\admin",
        "/%2e/api",
        "/x/%2e%2E/api",
        "/x/.%2e/api",
        "/api%2fadmin",
        "/api%2Fadmin",
        "/api%5cadmin",
        "/api%5Cadmin",
        "/api%00",
        "/api\0",
        "/%",
        "/%2",
        "/%zz",
        "/%u002e/api",
        "api",
        "",
        "*",
        // Another route, for a server that decodes or drops parameters.
        "/%61pi",
        "/api/%61dmin",
        "/api/adm%69n/x",
        "/api;x=1/admin",
        "/api/admin;x=1",
        "/caf%c3%a9",
    ] {
        assert_eq!(route_of(&table, None, path), "ambiguous-path", "{path}");
    }
}

#[test]
fn a_route_of_the_host_is_preferred_to_one_of_any_host() {
    let table = table();
    for (host, path, route) in [
        (Some("shop.example"), "/api", "shop"),
        (Some("SHOP.example:8443"), "/api/admin", "shop"),
        (Some("shop.example."), "/api", "shop"),
        (Some("shop.example"), "/x", "public"),
        (Some("other.example"), "/api/admin", "admin"),
        (Some("shop.example.evil"), "/api", "api"),
        (None, "/api", "api"),
    ] {
        assert_eq!(route_of(&table, host, path), route, "{host:?} {path}");
    }
}

#[test]
fn without_a_match_there_is_no_route() {
    let routes = r#"routes = [{ name = "a", upstream = "u", host = "a.example", path = "/a" }]"#;
    let table = RouteTable::from_config(&configs(routes)).unwrap();
    for (host, path) in [
        (Some("a.example"), "/b"),
        (Some("b.example"), "/a"),
        (None, "/a"),
    ] {
        assert_eq!(route_of(&table, host, path), "no-route");
    }
}

#[test]
fn every_mistake_in_every_route_is_reported_at_once() {
    let routes = r#"
        routes = [
            { path = "/a/", host = "http://a", permission = "Orders" },
            { name = "b c", upstream = "u", public = true, permission = "a:b", timeout = "0s" },
            { name = "c", upstream = "u", permissions = { get = "a:b", POST = "*" }, query_parameter = "a=b" },
            { name = "d", upstream = "u", path = "/../d", cors = { origins = [] } },
        ]
    "#;
    let found = RouteTable::from_config(&configs(routes)).unwrap_err();
    let keys: Vec<_> = found.iter().map(|invalid| invalid.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "routes[0].name",
            "routes[0].upstream",
            "routes[0].host",
            "routes[0].path",
            "routes[0].permission",
            "routes[1].name",
            "routes[1].timeout",
            "routes[1].public",
            "routes[2].query_parameter",
            "routes[2].permissions.POST",
            "routes[2].permissions.get",
            "routes[3].path",
            "routes[3].cors.origins",
        ]
    );
}

#[test]
fn routes_that_cannot_be_told_apart_are_refused() {
    for (one, other, what) in [
        (r#"path = "/a""#, r#"path = "/b""#, "name"),
        (r#"path = "/a""#, r#"path = "/a""#, "host and path"),
        (r#"path = "/a""#, r#"path = "/%61""#, "host and path"),
        (r#"host = "H""#, r#"host = "h.""#, "host and path"),
    ] {
        let second = if what == "name" { "one" } else { "two" };
        let routes = format!(
            r#"routes = [{{ name = "one", upstream = "u", {one} }}, {{ name = "{second}", upstream = "u", {other} }}]"#
        );
        let found = RouteTable::from_config(&configs(&routes)).unwrap_err();
        assert!(found[0].problem.contains(what), "{}", found[0]);
    }
}

#[test]
fn an_unknown_key_of_a_route_is_refused() {
    let typo = r#"routes = [{ name = "a", upstream = "u", permision = "a:b" }]"#;
    let error = toml::from_str::<Routes>(typo).err().unwrap();
    assert!(error.to_string().contains("permision"));
}

proptest! {
    /// However a path is disguised, it is refused or takes the route that its
    /// plain reading takes.
    #[test]
    fn no_disguise_changes_the_route(path in "(/(api|admin|%61pi|adm%69n|\\.|\\.\\.|;x|%2e|%2F|x|)(;a)?){0,5}") {
        let table = table();
        if let Ok(route) = table.find(None, &path) {
            let plain = cypheron_edge::route::path::plain(&path).into_owned();
            let plain = String::from_utf8(plain).unwrap();
            prop_assert_eq!(&table.find(None, &plain).unwrap().name, &route.name);
        }
    }

    #[test]
    fn any_text_is_routed_or_refused(path in "\\PC*") {
        let refusal = table().find(None, &path).err();
        prop_assert!(matches!(
            refusal,
            None | Some(Refusal::AmbiguousPath | Refusal::NoRoute)
        ));
    }
}
