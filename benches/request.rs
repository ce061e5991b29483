//! What a request passes before its key is looked for, and the judgement of the
//! key that was found.

#![expect(clippy::unwrap_used, reason = "a benchmark")]

#[expect(dead_code, reason = "only a key is of use here")]
#[path = "../tests/layers/support/mod.rs"]
mod support;

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};

use criterion::{Criterion, criterion_group, criterion_main};
use cypheron_edge::clock::Timestamp;
use cypheron_edge::context::RequestId;
use cypheron_edge::key::{KnownKey, evaluate};
use cypheron_edge::permission::Required;
use cypheron_edge::route::{Host, RouteConfig, RouteTable, path};
use cypheron_edge::token::KeyHash;
use http::{HeaderMap, HeaderValue};

const NOW: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

fn route(number: usize, host: Option<&str>) -> RouteConfig {
    RouteConfig {
        name: format!("route-{number}"),
        host: host.map(str::to_owned),
        path: Some(format!("/service-{number}")),
        upstream: "api".to_owned(),
        permission: Some("orders:read".to_owned()),
        ..RouteConfig::default()
    }
}

fn paths(criterion: &mut Criterion) {
    for path in ["/", "/orders/42/items", "/caf%C3%A9/%E2%82%AC/menu"] {
        assert!(path::is_unambiguous(path));
        criterion.bench_function(&format!("path checked, {path}"), |bencher| {
            bencher.iter(|| path::is_unambiguous(black_box(path)));
        });
    }
}

fn routes(criterion: &mut Criterion) {
    for count in [1, 16, 256] {
        let path = format!("/service-{}/orders/42", count - 1);
        let everywhere: Vec<_> = (0..count).map(|number| route(number, None)).collect();
        let everywhere = RouteTable::from_config(&everywhere).unwrap();
        criterion.bench_function(&format!("route found, {count} routes"), |bencher| {
            bencher.iter(|| everywhere.find(None, black_box(&path)).is_ok());
        });
        let of_host: Vec<_> = (0..count)
            .map(|number| route(number, Some("api.example.com")))
            .collect();
        let of_host = RouteTable::from_config(&of_host).unwrap();
        let host = Host::parse(b"api.example.com").unwrap();
        assert!(of_host.find(Some(&host), &path).is_ok());
        criterion.bench_function(
            &format!("route of a host found, {count} routes"),
            |bencher| {
                bencher.iter(|| {
                    of_host
                        .find(black_box(Some(&host)), black_box(&path))
                        .is_ok()
                });
            },
        );
    }
}

fn names(criterion: &mut Criterion) {
    let unnamed = HeaderMap::new();
    criterion.bench_function("request named", |bencher| {
        bencher.iter(|| RequestId::of(black_box(&unnamed), NOW));
    });
    let mut named = HeaderMap::new();
    let id = HeaderValue::from_static("0193a5f0-5a4e-7cc3-98c4-dc0c0c07398f");
    named.insert("x-request-id", id);
    criterion.bench_function("request's own name taken", |bencher| {
        bencher.iter(|| RequestId::of(black_box(&named), NOW));
    });
}

fn policy(criterion: &mut Criterion) {
    let key = support::key(KeyHash::from_bytes([7; 32]));
    let known = KnownKey::from(key.clone());
    let required: Required = "orders:read".parse().unwrap();
    let client = IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3));
    criterion.bench_function("policy judged", |bencher| {
        bencher.iter(|| evaluate(black_box(&known), Some(&required), Some(client), NOW));
    });
    let mut bound = key;
    bound.allowed_ips = ["192.0.2.0/24", "2001:db8::/32", "10.0.0.0/8"]
        .map(|network| network.parse().unwrap())
        .into();
    let bound = KnownKey::from(bound);
    criterion.bench_function("policy judged, of three networks", |bencher| {
        bencher.iter(|| evaluate(black_box(&bound), Some(&required), Some(client), NOW));
    });
}

criterion_group!(benches, paths, routes, names, policy);
criterion_main!(benches);
