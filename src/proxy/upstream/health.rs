//! Asking targets how they are, before requests find out.

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, USER_AGENT};
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::Deserialize;
use tokio::time::timeout;

use super::target::Target;
use super::{HostRule, Upstream};
use crate::cause;
use crate::proxy::BoxError;
use crate::proxy::head::to_http2;
use crate::setting::{self, Invalid};

/// `[upstreams.<name>.health]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CheckConfig {
    /// What is asked for, with `GET`; any 2xx is a good answer.
    pub path: String,
    #[serde(deserialize_with = "setting::duration")]
    pub interval: Duration,
    #[serde(deserialize_with = "setting::duration")]
    pub timeout: Duration,
    /// How many bad answers in a row take a target out.
    pub unhealthy: u32,
    /// How many good ones bring it back.
    pub healthy: u32,
}

impl Default for CheckConfig {
    fn default() -> Self {
        Self {
            path: "/".to_owned(),
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            unhealthy: 3,
            healthy: 2,
        }
    }
}

impl CheckConfig {
    pub(super) fn problems(&self, section: &str, found: &mut Vec<Invalid>) {
        let mut invalid = |key: &str, problem: String| {
            found.push(Invalid::new(format!("{section}.{key}"), problem));
        };
        if self.path_and_query().is_none() {
            let problem = format!("`{}` is no path: write `/healthz`", self.path);
            invalid("path", problem);
        }
        for (key, duration) in [("interval", self.interval), ("timeout", self.timeout)] {
            if duration.is_zero() {
                invalid(key, "is zero: write `5s`".into());
            }
        }
        for (key, count) in [("unhealthy", self.unhealthy), ("healthy", self.healthy)] {
            if count == 0 {
                invalid(key, "is zero: write 1 for the first answer to count".into());
            }
        }
    }

    fn path_and_query(&self) -> Option<PathAndQuery> {
        let path = self.path.parse().ok()?;
        self.path.starts_with('/').then_some(path)
    }
}

/// What the checks of one target say.
#[derive(Debug)]
pub(super) struct Health {
    is_healthy: bool,
    /// How many in a row said otherwise.
    contrary: u32,
}

impl Default for Health {
    /// Until it is known better.
    fn default() -> Self {
        Self {
            is_healthy: true,
            contrary: 0,
        }
    }
}

impl Health {
    /// Whether it is healthy now, when one more check changes that.
    pub(super) fn saw(&mut self, good: bool, config: &CheckConfig) -> Option<bool> {
        if good == self.is_healthy {
            self.contrary = 0;
            return None;
        }
        self.contrary += 1;
        let needed = if good {
            config.healthy
        } else {
            config.unhealthy
        };
        if self.contrary < needed {
            return None;
        }
        *self = Self {
            is_healthy: good,
            contrary: 0,
        };
        Some(good)
    }
}

impl Upstream {
    /// Asks one target once, and notes what came of it.
    pub(super) async fn check(&self, target: &Target, health: &mut Health, config: &CheckConfig) {
        let asking = timeout(config.timeout, self.ask(target, config)).await;
        let asked = asking.unwrap_or_else(|_| Err("no answer within `health.timeout`".into()));
        if asked.is_err() {
            self.meters.failed_checks.increment(1);
        }
        let Some(is_healthy) = health.saw(asked.is_ok(), config) else {
            return;
        };
        target.standing.set_healthy(is_healthy);
        let (upstream, target) = (&*self.name, target.name());
        match asked {
            Ok(()) => tracing::info!(upstream, target, "a target is healthy again"),
            Err(error) => {
                let error = cause::chain(&*error);
                tracing::warn!(upstream, target, error, "a target is not healthy");
            }
        }
    }

    async fn ask(&self, target: &Target, config: &CheckConfig) -> Result<(), BoxError> {
        let stream = self.connect(target).await?;
        let mut request = Request::new(Nothing);
        *request.uri_mut() = Uri::from(config.path_and_query().ok_or("no path")?);
        let host = match &self.host {
            HostRule::Name(name) => name,
            HostRule::Preserve | HostRule::Target => &target.authority,
        };
        let headers = request.headers_mut();
        headers.insert(HOST, host.clone());
        headers.insert(USER_AGENT, HeaderValue::from_static("cypheron-edge"));
        let status = if self.config.http2 {
            to_http2(&mut request, self);
            let (mut sender, connection) =
                http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
            answered(sender.send_request(request), connection).await?
        } else {
            let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
            answered(sender.send_request(request), connection).await?
        };
        if status.is_success() {
            Ok(())
        } else {
            Err(format!("the answer is {status}").into())
        }
    }
}

/// The status of an answer. Whatever the connection ends with, that or the lack
/// of it is told to who asked.
async fn answered(
    asking: impl Future<Output = hyper::Result<Response<Incoming>>>,
    connection: impl Future<Output = hyper::Result<()>>,
) -> hyper::Result<StatusCode> {
    let driving = async {
        connection.await.ok();
        pending::<Infallible>().await
    };
    tokio::select! {
        response = asking => Ok(response?.status()),
        never = driving => match never {},
    }
}

/// No body.
struct Nothing;

impl Body for Nothing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        std::task::Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        true
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_so_many_answers_in_a_row_to_change_what_is_believed() {
        let config = CheckConfig::default();
        let mut health = Health::default();
        for (answers, changes) in [
            ("+--+---", "......-"),
            ("-+-+-", "....."),
            ("++", ".+"),
            ("---", "..-"),
            ("+-++", "...+"),
        ] {
            let seen: String = answers
                .chars()
                .map(|answer| match health.saw(answer == '+', &config) {
                    None => '.',
                    Some(true) => '+',
                    Some(false) => '-',
                })
                .collect();
            assert_eq!(seen, changes, "{answers}");
        }
    }

    #[test]
    fn every_bad_setting_is_named() {
        let config: CheckConfig = toml::from_str(
            "path = 'healthz'\ninterval = '0s'\ntimeout = '0s'\nhealthy = 0\nunhealthy = 0",
        )
        .unwrap();
        let mut found = Vec::new();
        config.problems("h", &mut found);
        let named: Vec<&str> = found.iter().map(|invalid| &*invalid.key).collect();
        assert_eq!(
            named,
            [
                "h.path",
                "h.interval",
                "h.timeout",
                "h.unhealthy",
                "h.healthy"
            ]
        );
    }
}
