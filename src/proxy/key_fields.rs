//! What an upstream is told of the key.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::text::Text;
use crate::directory::Entry;

pub(super) const X_EDGE_KEY_ID: HeaderName = HeaderName::from_static("x-edge-key-id");
pub(super) const X_EDGE_KEY_NAME: HeaderName = HeaderName::from_static("x-edge-key-name");
pub(super) const X_EDGE_PERMISSIONS: HeaderName = HeaderName::from_static("x-edge-permissions");

/// What a name may hold unencoded: RFC 3986's unreserved characters.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// How many keys' fields a worker remembers; a power of two.
const SLOTS: usize = 2048;

/// The fields of the keys that a worker has seen of late, so that they are not
/// written anew for each request.
pub(super) struct KeyFields {
    slots: RefCell<Box<[Option<Fields>]>>,
    text: Text,
}

struct Fields {
    of: Arc<Entry>,
    id: HeaderValue,
    name: HeaderValue,
    permissions: HeaderValue,
}

impl KeyFields {
    pub(super) fn new() -> Self {
        let slots: Vec<_> = std::iter::repeat_with(|| None).take(SLOTS).collect();
        Self {
            slots: RefCell::new(slots.into()),
            text: Text::default(),
        }
    }

    /// Puts `X-Edge-Key-Id`, `X-Edge-Key-Name` (percent-encoded) and
    /// `X-Edge-Permissions` (comma-separated) on a request of `entry`'s key.
    pub(super) fn set(&self, entry: &Arc<Entry>, headers: &mut HeaderMap) {
        let slots = &mut *self.slots.borrow_mut();
        let slot = &mut slots[slot_of(entry)];
        let fields = match slot {
            Some(fields) if Arc::ptr_eq(&fields.of, entry) => fields,
            _ => slot.insert(self.fields(entry)),
        };
        headers.insert(X_EDGE_KEY_ID, fields.id.clone());
        headers.insert(X_EDGE_KEY_NAME, fields.name.clone());
        headers.insert(X_EDGE_PERMISSIONS, fields.permissions.clone());
    }

    fn fields(&self, entry: &Arc<Entry>) -> Fields {
        let key = &entry.key;
        Fields {
            of: Arc::clone(entry),
            id: self.text.value(key.id.hyphenated()),
            name: self
                .text
                .value(utf8_percent_encode(key.name.as_str(), ENCODED)),
            permissions: self.text.value(key.permissions.as_text()),
        }
    }
}

/// By address: an entry is never changed, only replaced, and what a slot holds
/// cannot be another one at the same address.
fn slot_of(entry: &Arc<Entry>) -> usize {
    let mixed = (Arc::as_ptr(entry).addr() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    usize::try_from(mixed >> 32).unwrap_or_default() % SLOTS
}

impl fmt::Debug for KeyFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyFields").finish_non_exhaustive()
    }
}
