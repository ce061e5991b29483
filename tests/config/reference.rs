//! `config/reference.toml` has every key, each at its default.

use std::fmt;

use cypheron_edge::admin::HealthConfig;
use cypheron_edge::config::{self, Purpose, REFERENCE};
use cypheron_edge::decision::DecisionConfig;
use cypheron_edge::middleware::auth;
use cypheron_edge::proxy::{CheckConfig, EjectionConfig, TlsConfig, UpstreamConfig};
use cypheron_edge::route::{CorsConfig, RouteConfig};
use cypheron_edge::{database, directory, limiter, repository, server, telemetry, tls, usage};
use serde::Deserialize;
use serde::de::{self, Visitor};
use toml::{Table, Value};

use crate::{accepted, variables};

pub(crate) const QUICKSTART: &str = include_str!("../../config/quickstart.toml");

#[test]
fn the_quickstart_configuration_is_enough_to_serve() {
    let variables = variables(&[
        ("CYPHERON_EDGE__KEYS__STORE", ""),
        ("CYPHERON_EDGE__USAGE__SINK", ""),
    ]);
    let reading = config::parse(QUICKSTART, &variables, Purpose::Serve);
    assert_eq!(reading.config.err(), None);
}

#[test]
fn the_reference_is_what_is_in_effect_when_nothing_is_written() {
    let written = accepted(REFERENCE, &[]);
    let unwritten = accepted(
        r#"
            [upstreams.app]
            target = "http://127.0.0.1:9000"

            [[routes]]
            name = "orders"
            upstream = "app"
        "#,
        &[],
    );
    assert_eq!(format!("{written:#?}"), format!("{unwritten:#?}"));
}

#[test]
fn an_upstream_that_takes_the_edge_on_trust_is_warned_of() {
    for (target, warned) in [("app.example.com", true), ("10.1.2.3", false)] {
        let text = format!("[upstreams.app]\ntarget = \"http://{target}\"\n");
        let reading = config::parse(&text, &variables(&[]), Purpose::Operate);
        assert_eq!(reading.config.err(), None);
        let shown = reading.effective.to_string();
        assert_eq!(
            shown.contains("# warning: upstreams.app "),
            warned,
            "{shown}"
        );
    }
}

#[test]
fn the_reference_has_every_key_and_no_other() {
    for (section, fields) in [
        ("data", vec!["dir"]),
        ("log", fields::<telemetry::Config>()),
        ("directory", fields::<directory::Config>()),
        ("server", fields::<server::Config>()),
        ("server.http2", fields::<server::Http2Config>()),
        ("server.tls", fields::<tls::Config>()),
        ("health", fields::<HealthConfig>()),
        ("auth", fields::<auth::Config>()),
        ("keys", fields::<repository::Config>()),
        ("limiter", fields::<limiter::Config>()),
        ("usage", fields::<usage::Config>()),
        ("counters", fields::<usage::totals::Config>()),
        ("database", fields::<database::Config>()),
        ("upstreams.app", fields::<UpstreamConfig>()),
        ("decisions.proxy", fields::<DecisionConfig>()),
        ("upstreams.app.tls", fields::<TlsConfig>()),
        ("upstreams.app.ejection", fields::<EjectionConfig>()),
        ("upstreams.app.health", fields::<CheckConfig>()),
        ("routes", fields::<RouteConfig>()),
        ("routes.cors", fields::<CorsConfig>()),
        ("usage.journal", fields::<usage::journal::Config>()),
    ] {
        let mut fields = fields;
        fields.sort_unstable();
        assert_eq!(keys(section), fields, "[{section}]");
    }
}

/// The keys that the reference has in a section, with or without a default.
fn keys(section: &str) -> Vec<String> {
    let uncommented: Vec<&str> = REFERENCE
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(key) if key.contains(['=', '[']) && !key.starts_with(' ') => key,
            _ => line,
        })
        .collect();
    let table: Table = uncommented.join("\n").parse().unwrap();
    let mut at = Value::Table(table);
    for name in section.split('.') {
        at = match at.get(name) {
            Some(Value::Array(entries)) => entries[0].clone(),
            Some(value) => value.clone(),
            None => panic!("the reference has no [{section}]"),
        };
    }
    at.as_table().unwrap().keys().cloned().collect()
}

/// The names of the fields that `T` reads.
fn fields<'de, T: Deserialize<'de>>() -> Vec<&'static str> {
    let mut fields = Vec::new();
    // It fails on purpose, once it has been told the names.
    T::deserialize(Listener(&mut fields)).err();
    fields
}

/// A deserializer that only listens to what a struct asks for.
struct Listener<'a>(&'a mut Vec<&'static str>);

#[derive(Debug)]
struct Heard;

impl<'de> de::Deserializer<'de> for Listener<'_> {
    type Error = Heard;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Heard> {
        Err(Heard)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Heard> {
        self.0.extend(fields);
        Err(Heard)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string
        bytes byte_buf option unit unit_struct newtype_struct seq tuple
        tuple_struct map enum identifier ignored_any
    }
}

impl fmt::Display for Heard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("heard")
    }
}

impl std::error::Error for Heard {}

impl de::Error for Heard {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}
