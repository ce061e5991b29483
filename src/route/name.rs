//! What a route is called.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use http::HeaderValue;
use percent_encoding::{CONTROLS, utf8_percent_encode};

/// What a route is called, and the header value that says so to an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteName {
    text: Arc<str>,
    header: HeaderValue,
}

impl RouteName {
    /// The text, to be kept without a copy.
    pub const fn shared(&self) -> &Arc<str> {
        &self.text
    }

    /// Percent-encoded where it is not visible ASCII.
    pub const fn header(&self) -> &HeaderValue {
        &self.header
    }
}

impl From<&str> for RouteName {
    fn from(text: &str) -> Self {
        let encoded = utf8_percent_encode(text, CONTROLS).to_string();
        // why: what is left is visible ASCII and spaces, always a header value.
        let header = HeaderValue::try_from(encoded).unwrap_or(HeaderValue::from_static(""));
        Self {
            text: text.into(),
            header,
        }
    }
}

impl Deref for RouteName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for RouteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
