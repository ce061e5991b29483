//! Addresses as header values, written once for most.

use std::cell::RefCell;
use std::fmt;
use std::hash::BuildHasher;
use std::net::IpAddr;

use foldhash::fast::RandomState;
use http::HeaderValue;

use super::text::Text;

/// How many a worker remembers; a power of two.
const SLOTS: usize = 256;

/// The values of the addresses that a worker has seen of late: a connection asks
/// for the same one again and again.
pub(super) struct Addresses {
    slots: RefCell<Box<[Option<Written>]>>,
    hasher: RandomState,
    text: Text,
}

struct Written {
    of: IpAddr,
    value: HeaderValue,
}

impl Addresses {
    pub(super) fn new() -> Self {
        let slots: Vec<_> = std::iter::repeat_with(|| None).take(SLOTS).collect();
        Self {
            slots: RefCell::new(slots.into()),
            hasher: RandomState::default(),
            text: Text::default(),
        }
    }

    /// What `address` displays as.
    pub(super) fn value(&self, address: IpAddr) -> HeaderValue {
        let slots = &mut *self.slots.borrow_mut();
        match &mut slots[self.slot_of(address)] {
            Some(written) if written.of == address => written.value.clone(),
            slot => {
                let value = self.text.value(address);
                // What is kept must not keep the block that it was cut from.
                let value = HeaderValue::from_bytes(value.as_bytes()).unwrap_or(value);
                let of = address;
                slot.insert(Written { of, value }).value.clone()
            }
        }
    }

    fn slot_of(&self, address: IpAddr) -> usize {
        let hash = self.hasher.hash_one(address);
        usize::try_from(hash % SLOTS as u64).unwrap_or_default()
    }
}

impl fmt::Debug for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Addresses").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_they_display() {
        let addresses = Addresses::new();
        for address in ["0.0.0.0", "9.10.99.100", "255.255.255.255", "2001:db8::1"] {
            let parsed = address.parse().unwrap();
            for _ in 0..2 {
                assert_eq!(addresses.value(parsed), address);
            }
        }
    }

    #[test]
    fn addresses_that_share_a_slot_do_not_share_a_value() {
        let addresses = Addresses::new();
        for number in (0..2000_u32).chain(0..2000) {
            let address = IpAddr::from(number.to_be_bytes());
            assert_eq!(addresses.value(address), address.to_string());
        }
    }
}
