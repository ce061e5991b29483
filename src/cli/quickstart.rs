//! `quickstart`

use std::io::{self, Write};

use super::Streams;
use super::failure::Failure;
use crate::app::{self, Welcome};
use crate::config::Process;

/// Serves until a signal, after a page for newcomers.
pub(super) fn run(streams: &mut Streams<'_>) -> Result<(), Failure> {
    Ok(app::quickstart(&Process, |welcome| {
        greet(welcome, streams.out)
    })?)
}

fn greet(welcome: &Welcome, out: &mut dyn Write) -> io::Result<()> {
    let Welcome {
        traffic,
        health,
        sample,
        config_file,
        token,
    } = welcome;
    let token = token.expose();
    let program = std::env::current_exe().map_or_else(
        |_| "cypheron-edge".into(),
        |path| path.display().to_string(),
    );
    let config_file = config_file.display();
    let moved = if traffic.port() == app::TRAFFIC_PORT {
        String::new()
    } else {
        format!("  (port {} is taken)", app::TRAFFIC_PORT)
    };
    writeln!(
        out,
        "\
cypheron-edge serves, with a key made for the occasion and a sample upstream.

    traffic   http://{traffic}{moved}
    health    http://{health}/readyz, /healthz and /metrics
    upstream  http://{sample}
    token     {token}

This request is admitted, and the upstream says what it was sent:

    curl -i -H 'Authorization: Bearer {token}' http://{traffic}/hello

This one has no key, and is refused:

    curl -i http://{traffic}/hello

In another terminal, a key of your own:

    {program} --config '{config_file}' keys create --name mine

Ctrl-C stops it; a second start finds its keys again."
    )?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    #[test]
    fn the_page_has_two_lines_to_paste() {
        let welcome = Welcome {
            traffic: "127.0.0.1:8080".parse().unwrap(),
            health: "127.0.0.1:9902".parse().unwrap(),
            sample: "127.0.0.1:9000".parse().unwrap(),
            config_file: "/data/quickstart.toml".into(),
            token: Secret::new("cyk_test_0".to_owned()),
        };
        let mut out = Vec::new();
        greet(&welcome, &mut out).unwrap();
        let page = String::from_utf8(out).unwrap();
        let curls: Vec<_> = page
            .lines()
            .map(str::trim)
            .filter(|line| line.starts_with("curl "))
            .collect();
        let with_key = "curl -i -H 'Authorization: Bearer cyk_test_0' http://127.0.0.1:8080/hello";
        assert_eq!(curls, [with_key, "curl -i http://127.0.0.1:8080/hello"]);
    }
}
