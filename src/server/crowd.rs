//! How many connections each client address has.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::subscriber::Subscriber;

/// The connections of all workers, by whose they are. It is asked when one
/// comes or goes, not for a request.
#[derive(Debug)]
pub(super) struct Crowd {
    present: Mutex<HashMap<Subscriber, usize>>,
    max: usize,
}

/// A connection that counts until this is dropped.
#[derive(Debug)]
pub(super) struct Present {
    crowd: Arc<Crowd>,
    whose: Subscriber,
}

impl Crowd {
    pub(super) fn new(max: usize) -> Self {
        Self {
            present: Mutex::default(),
            max,
        }
    }

    /// `None` when the address has as many as it may have.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Present> {
        let whose = Subscriber::of(address);
        let mut present = self.lock();
        let count = present.entry(whose).or_default();
        if *count >= self.max {
            return None;
        }
        *count += 1;
        Some(Present {
            crowd: Arc::clone(self),
            whose,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Subscriber, usize>> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        let mut present = self.crowd.lock();
        if let Some(count) = present.get_mut(&self.whose) {
            *count -= 1;
            if *count == 0 {
                present.remove(&self.whose);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_so_many_at_a_time_and_nothing_is_kept_of_who_left() {
        let crowd = Arc::new(Crowd::new(2));
        let enter = |address: &str| crowd.enter(address.parse().unwrap());
        let first = enter("192.0.2.1").unwrap();
        let _second = enter("192.0.2.1").unwrap();
        assert!(enter("::ffff:192.0.2.1").is_none());
        let other = enter("192.0.2.2").unwrap();
        drop(first);
        assert!(enter("192.0.2.1").is_some());
        drop(other);
        assert_eq!(crowd.lock().len(), 1);
    }
}
