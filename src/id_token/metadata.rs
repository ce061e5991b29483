//! Google's metadata server, which knows whose machine this is.

use std::future::poll_fn;
use std::pin::Pin;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL;
use http::header::HOST;
use http::{HeaderName, HeaderValue, Request, StatusCode};
use http_body::Body;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use tokio::net::TcpStream;
use zeroize::Zeroizing;

use crate::clock::Timestamp;

/// Asked for and answered with, so that no other server is taken for it.
const METADATA_FLAVOR: HeaderName = HeaderName::from_static("metadata-flavor");
const GOOGLE: HeaderValue = HeaderValue::from_static("Google");

/// A token has a kilobyte or so.
const LONGEST: usize = 16 * 1024;

/// Why there is no identity token.
#[derive(Debug, thiserror::Error)]
pub enum NoToken {
    #[error("the metadata server cannot be reached: {0}")]
    Unreachable(#[from] std::io::Error),
    #[error("the metadata server broke off: {0}")]
    BrokeOff(#[from] hyper::Error),
    #[error("the metadata server answered {0}")]
    Refused(StatusCode),
    #[error("what answered is no metadata server, or what it gave is no token")]
    Nonsense,
    #[error("the metadata server took too long")]
    TooSlow,
}

/// Where the metadata server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataServer {
    host: String,
}

pub(super) struct Token {
    pub(super) bearer: HeaderValue,
    pub(super) until: Timestamp,
}

impl Default for MetadataServer {
    fn default() -> Self {
        Self::at("metadata.google.internal".to_owned())
    }
}

impl MetadataServer {
    /// A host, perhaps with a port.
    pub const fn at(host: String) -> Self {
        Self { host }
    }

    pub(super) async fn fetch(&self, audience: &str) -> Result<Token, NoToken> {
        let stream = if self.host.contains(':') {
            TcpStream::connect(&self.host).await?
        } else {
            TcpStream::connect((self.host.as_str(), 80)).await?
        };
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let audience = utf8_percent_encode(audience, NON_ALPHANUMERIC);
        let request = Request::get(format!(
            "/computeMetadata/v1/instance/service-accounts/default/identity\
             ?audience={audience}&format=full"
        ))
        .header(HOST, &self.host)
        .header(METADATA_FLAVOR, GOOGLE)
        .body(String::new())
        .map_err(|_| NoToken::Nonsense)?;
        let answer = async {
            let response = sender.send_request(request).await?;
            if response.status() != StatusCode::OK {
                return Err(NoToken::Refused(response.status()));
            }
            if response.headers().get(METADATA_FLAVOR) != Some(&GOOGLE) {
                return Err(NoToken::Nonsense);
            }
            read(response.into_body()).await
        };
        let body = tokio::select! {
            body = answer => body?,
            // The answer comes while the connection is driven.
            Err(error) = connection => return Err(error.into()),
        };
        token(&body).ok_or(NoToken::Nonsense)
    }
}

async fn read(mut body: hyper::body::Incoming) -> Result<Zeroizing<Vec<u8>>, NoToken> {
    let mut read = Zeroizing::new(Vec::with_capacity(2048));
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        if let Ok(data) = frame?.into_data() {
            read.extend_from_slice(&data);
        }
        if read.len() > LONGEST {
            return Err(NoToken::Nonsense);
        }
    }
    Ok(read)
}

/// A JWT, whose end its claims say. Whether it is signed as it should be, its
/// audience sees.
fn token(body: &[u8]) -> Option<Token> {
    #[derive(Deserialize)]
    struct Claims {
        exp: i64,
    }
    let text = std::str::from_utf8(body).ok()?.trim();
    let mut parts = text.split('.');
    let (Some(_), Some(claims), Some(_), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    let claims: Claims = serde_json::from_slice(&BASE64URL.decode(claims).ok()?).ok()?;
    let bearer = Zeroizing::new(format!("Bearer {text}"));
    let mut bearer = HeaderValue::from_str(&bearer).ok()?;
    bearer.set_sensitive(true);
    Some(Token {
        bearer,
        until: Timestamp::from_micros(claims.exp.checked_mul(1_000_000)?),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn whatever_answers_gives_a_token_or_none(text in "[ -~]{0,20}", claims in ".{0,40}") {
            let encoded = BASE64URL.encode(&claims);
            for body in [text.clone(), format!("{text}.{encoded}.{text}")] {
                if let Some(token) = token(body.as_bytes()) {
                    prop_assert!(claims.contains("exp"));
                    prop_assert!(token.bearer.to_str().unwrap().ends_with(body.trim()));
                }
            }
        }
    }

    #[test]
    fn a_token_says_until_when_it_is_good() {
        let claims = BASE64URL.encode(r#"{"aud":"https://a","exp":1700000000}"#);
        let good = token(format!("e30.{claims}.sig\n").as_bytes()).unwrap();
        assert_eq!(good.until, Timestamp::from_micros(1_700_000_000_000_000));
        assert_eq!(good.bearer, format!("Bearer e30.{claims}.sig"));
        assert!(!format!("{:?}", good.bearer).contains(&claims));
    }

    #[test]
    fn what_is_no_token_is_none() {
        let endless = BASE64URL.encode(r#"{"exp":9223372036854775807}"#);
        let timeless = BASE64URL.encode("{}");
        for body in [
            "",
            "a.b",
            "<html>",
            "e30.e30.e30.e30",
            &format!("e30.{endless}.s"),
            &format!("e30.{timeless}.s"),
            "e30.!.s",
        ] {
            assert!(token(body.as_bytes()).is_none(), "{body}");
        }
    }
}
