//! Paths that every server reads alike.
//!
//! Which route a request takes decides which permission it needs, so the proxy
//! and the application behind it must agree on what a path says. Refused is a
//! path with
//!
//! - a dot segment (`/./`, `/../`), also one with parameters (`/..;x/`);
//! - an empty segment (`//`). A path may end in `/`: that is no empty segment;
//! - a backslash or a NUL;
//! - `%2e`, `%2f`, `%5c` or `%00`, in any case, or a `%` that encodes nothing.
//!
//! What remains can be read in two ways, with percent-encoding and parameters
//! (`;x`) or [without](plain); the [table](super::RouteTable) refuses a path
//! whose route depends on which.

use std::borrow::Cow;

/// Whether `path` is one that every server reads alike.
pub fn is_unambiguous(path: &str) -> bool {
    let Some(rest) = path.strip_prefix('/') else {
        return false;
    };
    is_simple(rest) || has_unambiguous_segments(rest)
}

/// How a path can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// In one way: it is [plain] already.
    Simple,
    /// Perhaps with percent-encoding and parameters, and without.
    TwoWays,
    Ambiguous,
}

impl Reading {
    pub(super) fn of(path: &str) -> Self {
        match path.strip_prefix('/') {
            Some(rest) if is_simple(rest) => Self::Simple,
            Some(rest) if has_unambiguous_segments(rest) => Self::TwoWays,
            _ => Self::Ambiguous,
        }
    }
}

fn has_unambiguous_segments(rest: &str) -> bool {
    let mut segments = rest.split('/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        if !segment_is_unambiguous(segment, last) {
            return false;
        }
    }
    true
}

/// Most paths are: no empty segment, and nothing that can mean something else.
fn is_simple(path: &str) -> bool {
    let mut before = b'/';
    path.bytes().all(|byte| {
        let is_empty_segment = byte == b'/' && before == b'/';
        before = byte;
        !is_empty_segment && !matches!(byte, 0 | b'\\' | b'%' | b';' | b'.')
    })
}

fn segment_is_unambiguous(segment: &str, last: bool) -> bool {
    if segment.is_empty() {
        return last;
    }
    let name = segment.split(';').next().unwrap_or_default();
    if matches!(name, "" | "." | "..") {
        return false;
    }
    let mut rest = segment.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = match byte {
            0 | b'\\' => return false,
            b'%' => match decoded(after) {
                None | Some(0 | b'.' | b'/' | b'\\') => return false,
                Some(_) => &after[2..],
            },
            _ => after,
        }
    }
    true
}

/// `path` with its percent-encoding decoded and its parameters cut: what the
/// most forgiving server makes of it. Allocates only where there are any.
pub fn plain(path: &str) -> Cow<'_, [u8]> {
    let bytes = path.as_bytes();
    if !bytes.iter().any(|byte| matches!(byte, b'%' | b';')) {
        return Cow::Borrowed(bytes);
    }
    let mut plain = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&byte, after)) = rest.split_first() {
        rest = match byte {
            b';' => {
                let segment_ends = after.iter().position(|&byte| byte == b'/');
                &after[segment_ends.unwrap_or(after.len())..]
            }
            b'%' => {
                let decoded = decoded(after);
                plain.push(decoded.unwrap_or(byte));
                &after[if decoded.is_some() { 2 } else { 0 }..]
            }
            _ => {
                plain.push(byte);
                after
            }
        }
    }
    Cow::Owned(plain)
}

/// The byte that the two hexadecimal digits at the start of `digits` stand for.
fn decoded(digits: &[u8]) -> Option<u8> {
    let digit = |at: usize| char::from(*digits.get(at)?).to_digit(16);
    u8::try_from(digit(0)? << 4 | digit(1)?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_simple_path_is_unambiguous(path in "[a/.%;2e\\\\\\x00é]{0,8}") {
            let segments: Vec<_> = path.split('/').collect();
            let last = segments.len() - 1;
            let reads_alike = segments
                .iter()
                .enumerate()
                .all(|(at, segment)| segment_is_unambiguous(segment, at == last));
            prop_assert!(reads_alike || !is_simple(&path));
            let path = format!("/{path}");
            prop_assert_eq!(is_unambiguous(&path), reads_alike);
            let reading = Reading::of(&path);
            prop_assert_eq!(reading != Reading::Ambiguous, reads_alike);
            prop_assert!(reading != Reading::Simple || *plain(&path) == *path.as_bytes());
        }
    }
}
