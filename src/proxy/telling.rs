//! How an upstream is told what only the edge says: by lines of HTTP/1.1, written
//! as they are sent, or by fields in a map, for HTTP/2.

use std::io::Write;
use std::net::IpAddr;

use bytes::{BufMut, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use uuid::Uuid;

use crate::context::RequestId;
use crate::permission::Permissions;

/// A field that only the edge says: nothing of it that a client sent is left.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: HeaderName,
    /// What its line begins with.
    begins: &'static [u8],
}

macro_rules! field {
    ($name:literal) => {
        Field {
            name: HeaderName::from_static($name),
            begins: concat!($name, ": ").as_bytes(),
        }
    };
}

pub(super) const KEY_ID: Field = field!("x-edge-key-id");
pub(super) const KEY_NAME: Field = field!("x-edge-key-name");
pub(super) const PERMISSIONS: Field = field!("x-edge-permissions");
pub(super) const ROUTE: Field = field!("x-edge-route");
pub(super) const REQUEST_ID: Field = field!("x-request-id");
pub(super) const FORWARDED_FOR: Field = field!("x-forwarded-for");
pub(super) const FORWARDED_PROTO: Field = field!("x-forwarded-proto");
pub(super) const FORWARDED_HOST: Field = field!("x-forwarded-host");

#[cfg(test)]
pub(super) const ALL: [Field; 8] = [
    KEY_ID,
    KEY_NAME,
    PERMISSIONS,
    ROUTE,
    REQUEST_ID,
    FORWARDED_FOR,
    FORWARDED_PROTO,
    FORWARDED_HOST,
];

/// What can be told: it has no line break in it, whatever it says.
pub(super) trait Value {
    fn put(&self, out: &mut impl BufMut);
}

impl Value for HeaderValue {
    fn put(&self, out: &mut impl BufMut) {
        out.put_slice(self.as_bytes());
    }
}

impl Value for RequestId {
    fn put(&self, out: &mut impl BufMut) {
        out.put_slice(self.as_bytes());
    }
}

/// Separated by commas.
impl Value for Permissions {
    fn put(&self, out: &mut impl BufMut) {
        out.put_slice(self.as_text().as_bytes());
    }
}

impl Value for Uuid {
    fn put(&self, out: &mut impl BufMut) {
        let mut text = Self::encode_buffer();
        out.put_slice(self.hyphenated().encode_lower(&mut text).as_bytes());
    }
}

impl Value for IpAddr {
    fn put(&self, out: &mut impl BufMut) {
        let Self::V4(address) = self else {
            // Writing to memory does not fail.
            let _ = write!(out.writer(), "{self}");
            return;
        };
        let mut digits = itoa::Buffer::new();
        let [first, others @ ..] = address.octets();
        out.put_slice(digits.format(first).as_bytes());
        for octet in others {
            out.put_u8(b'.');
            out.put_slice(digits.format(octet).as_bytes());
        }
    }
}

/// A text that may be of any characters.
pub(super) struct Encoded<'a>(pub(super) &'a str);

/// Percent-encoded but for RFC 3986's unreserved characters.
impl Value for Encoded<'_> {
    fn put(&self, out: &mut impl BufMut) {
        const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
            .remove(b'-')
            .remove(b'.')
            .remove(b'_')
            .remove(b'~');
        for piece in utf8_percent_encode(self.0, ENCODED) {
            out.put_slice(piece.as_bytes());
        }
    }
}

/// Where something is told. A field is told once.
pub(super) trait Telling {
    fn tell(&mut self, field: &Field, value: &impl Value);
}

/// The end of a head, but for the empty line.
pub(super) type Lines = Vec<u8>;

impl Telling for Lines {
    fn tell(&mut self, field: &Field, value: &impl Value) {
        self.extend_from_slice(field.begins);
        value.put(self);
        self.extend_from_slice(b"\r\n");
    }
}

/// Puts fields into a map. Their values are cut from one block.
pub(super) struct InMap<'a> {
    map: &'a mut HeaderMap,
    block: BytesMut,
}

impl<'a> InMap<'a> {
    pub(super) fn new(map: &'a mut HeaderMap) -> Self {
        // What is told of most requests.
        let block = BytesMut::with_capacity(512);
        Self { map, block }
    }
}

impl Telling for InMap<'_> {
    fn tell(&mut self, field: &Field, value: &impl Value) {
        value.put(&mut self.block);
        let value = HeaderValue::from_maybe_shared(self.block.split().freeze());
        // why: what can be told has no byte that a value may not have.
        let value = value.unwrap_or(HeaderValue::from_static(""));
        self.map.insert(field.name.clone(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(value: &impl Value) -> String {
        let mut lines = Lines::new();
        lines.tell(&KEY_NAME, value);
        String::from_utf8(lines).unwrap()
    }

    #[test]
    fn a_line_and_a_field_say_the_same() {
        let mut headers = HeaderMap::new();
        headers.insert(KEY_NAME.name, HeaderValue::from_static("spoof"));
        let said = Encoded("a b\r\nx-edge-permissions: *");
        InMap::new(&mut headers).tell(&KEY_NAME, &said);
        let encoded = "a%20b%0D%0Ax-edge-permissions%3A%20%2A";
        assert_eq!(headers.len(), 1);
        assert_eq!(headers[KEY_NAME.name], encoded);
        assert_eq!(line(&said), format!("x-edge-key-name: {encoded}\r\n"));
    }

    #[test]
    fn addresses_are_written_as_they_display() {
        for address in ["0.0.0.0", "9.10.99.100", "255.255.255.255", "2001:db8::1"] {
            let parsed: IpAddr = address.parse().unwrap();
            assert_eq!(line(&parsed), format!("x-edge-key-name: {address}\r\n"));
        }
    }
}
