//! Header values made for one request, without an allocation for each.

use std::cell::RefCell;
use std::fmt::{self, Write};

use bytes::{Bytes, BytesMut};
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
        let mut block = self.0.borrow_mut();
        if block.capacity() < BLOCK / 16 {
            // The same block again, where nothing of it is kept.
            block.reserve(BLOCK);
        }
        // Writing to memory does not fail.
        let _ = write!(block, "{value}");
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
    fn values_that_are_kept_are_not_overwritten() {
        let text = Text::default();
        let kept: Vec<_> = (0..5000).map(|number| text.value(number)).collect();
        for (number, value) in kept.iter().enumerate() {
            assert_eq!(value, &number.to_string());
        }
    }
}
