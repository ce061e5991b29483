//! What a probe has to know. It reads nothing else of a configuration, and no
//! secret: whatever is wrong with those, the edge that runs was started with
//! what it has.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use toml::{Table, Value};

use super::FILE;
use super::environment::{self, Environment};
use super::layers::Written;
use crate::admin::HealthConfig;
use crate::setting::Invalid;

/// Where the health port of an edge with this configuration is, seen from its
/// own machine.
pub fn health_address(
    file: Option<&Path>,
    environment: &dyn Environment,
) -> Result<SocketAddr, Invalid> {
    let named = environment::path(environment, FILE);
    let table = file
        .or(named.as_deref())
        .map_or_else(|| Ok(Table::new()), table)?;
    let mut written = Written::new(table);
    written.override_from(environment, &mut Vec::new());
    let listen = written.get(&["health", "listen"]).and_then(Value::as_str);
    let Some(listen) = listen else {
        return Ok(near(HealthConfig::default().listen));
    };
    listen.parse().map(near).map_err(|_| {
        Invalid::new(
            "health.listen",
            format!("`{listen}` is no address and port"),
        )
    })
}

fn table(path: &Path) -> Result<Table, Invalid> {
    let invalid = |problem: String| Invalid::new(path.display().to_string(), problem);
    let text =
        fs::read_to_string(path).map_err(|error| invalid(format!("cannot be read: {error}")))?;
    text.parse()
        .map_err(|error| invalid(format!("is not TOML: {error}")))
}

/// Every address of a machine is reached by its loopback.
fn near(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn asked(file: &str, environment: &[(&str, &str)]) -> Result<String, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("edge.toml");
        fs::write(&path, file).unwrap();
        let environment: BTreeMap<_, _> = environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        health_address(Some(&path), &environment)
            .map(|address| address.to_string())
            .map_err(|invalid| invalid.to_string())
    }

    #[test]
    fn the_port_is_asked_over_the_loopback() {
        let elsewhere = "[health]\nlisten = \"10.1.2.3:7000\"";
        for (file, environment, expected) in [
            ("", vec![], "127.0.0.1:9902"),
            ("[health]\nlisten = \"[::]:7000\"", vec![], "[::1]:7000"),
            (elsewhere, vec![], "10.1.2.3:7000"),
            (
                elsewhere,
                vec![("CYPHERON_EDGE__HEALTH__LISTEN", "0.0.0.0:7001")],
                "127.0.0.1:7001",
            ),
            // What is wrong elsewhere is none of a probe's business.
            ("[keys]\nstore = \"nowhere\"", vec![], "127.0.0.1:9902"),
        ] {
            assert_eq!(asked(file, &environment).as_deref(), Ok(expected), "{file}");
        }
    }

    #[test]
    fn what_cannot_be_asked_is_named() {
        let refused = asked("[health]\nlisten = \"here\"", &[]).unwrap_err();
        assert!(refused.contains("health.listen"), "{refused}");
        assert!(asked("[health", &[]).is_err());
    }
}
