//! Header values made for one request, without an allocation for each.

use std::cell::RefCell;
use std::fmt::{self, Write};
use std::net::IpAddr;

use bytes::{BufMut, Bytes, BytesMut};
use http::HeaderValue;

/// Where values are cut from. A value that is kept keeps its block, so blocks
/// are small.
const BLOCK: usize = 2048;

/// Writes header values one after the other into a shared block.
#[derive(Debug, Default)]
pub(super) struct Text(RefCell<BytesMut>);

impl Text {
    /// What `value` displays as; an empty value when that is none.
    pub(super) fn value(&self, value: impl fmt::Display) -> HeaderValue {
        self.written(|block| {
            // Writing to memory does not fail.
            let _ = write!(block, "{value}");
        })
    }

    /// As [`value`](Self::value), of an address, and for each request: IPv4's are
    /// written without a formatter.
    pub(super) fn address(&self, address: IpAddr) -> HeaderValue {
        let IpAddr::V4(address) = address else {
            return self.value(address);
        };
        let mut digits = itoa::Buffer::new();
        self.written(|block| {
            for (place, octet) in address.octets().into_iter().enumerate() {
                if place > 0 {
                    block.put_u8(b'.');
                }
                block.put_slice(digits.format(octet).as_bytes());
            }
        })
    }

    fn written(&self, write: impl FnOnce(&mut BytesMut)) -> HeaderValue {
        let mut block = self.0.borrow_mut();
        if block.capacity() < BLOCK / 16 {
            // The same block again, where nothing of it is kept.
            block.reserve(BLOCK);
        }
        write(&mut block);
        header_value(block.split().freeze())
    }
}

fn header_value(text: Bytes) -> HeaderValue {
    HeaderValue::from_maybe_shared(text).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_they_display() {
        let text = Text::default();
        for address in ["0.0.0.0", "9.10.99.100", "255.255.255.255", "2001:db8::1"] {
            let parsed = address.parse().unwrap();
            assert_eq!(text.address(parsed), address);
        }
    }

    #[test]
    fn values_that_are_kept_are_not_overwritten() {
        let text = Text::default();
        let kept: Vec<_> = (0..5000).map(|number| text.value(number)).collect();
        for (number, value) in kept.iter().enumerate() {
            assert_eq!(value, &number.to_string());
        }
    }
}
