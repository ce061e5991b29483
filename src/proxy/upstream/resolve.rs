//! The addresses behind the name of a target.
//!
//! Names are looked up by the operating system, so that they mean here what
//! they mean to every other program of the machine: hosts file, search domains
//! and all. It tells no TTL; names are looked up again at an interval.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwapOption;
use tokio::net::lookup_host;

/// What a name was resolved to last.
#[derive(Debug)]
pub(in crate::proxy) struct Addresses {
    host: Box<str>,
    port: u16,
    /// It is an address already.
    literal: Option<SocketAddr>,
    known: ArcSwapOption<Box<[SocketAddr]>>,
    turn: AtomicUsize,
}

impl Addresses {
    pub(super) fn of(host: &str, port: u16) -> Self {
        let literal = host
            .parse()
            .ok()
            .map(|ip: IpAddr| SocketAddr::new(ip, port));
        Self {
            host: host.into(),
            port,
            literal,
            known: ArcSwapOption::empty(),
            turn: AtomicUsize::new(0),
        }
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) const fn is_name(&self) -> bool {
        self.literal.is_none()
    }

    /// In the order in which they are to be tried: each time another one of a
    /// family comes first.
    pub(super) async fn in_turn(&self) -> io::Result<Vec<SocketAddr>> {
        if let Some(literal) = self.literal {
            return Ok(vec![literal]);
        }
        let known = match self.known.load_full() {
            Some(known) => known,
            None => self.look_up().await?,
        };
        Ok(interleaved(
            &known,
            self.turn.fetch_add(1, Ordering::Relaxed),
        ))
    }

    /// Looks the name up anew. Where that fails, what was known stays known.
    pub(super) async fn look_up(&self) -> io::Result<Arc<Box<[SocketAddr]>>> {
        let found: Box<[SocketAddr]> = lookup_host((&*self.host, self.port)).await?.collect();
        if found.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                "the name has no address",
            ));
        }
        let found = Arc::new(found);
        self.known.store(Some(Arc::clone(&found)));
        Ok(found)
    }
}

/// The families by turns, the one that the system prefers first (RFC 8305,
/// section 4), each turned by `turn`.
fn interleaved(addresses: &[SocketAddr], turn: usize) -> Vec<SocketAddr> {
    let Some(preferred) = addresses.first().map(SocketAddr::is_ipv6) else {
        return Vec::new();
    };
    let (mut first, mut second): (Vec<SocketAddr>, Vec<SocketAddr>) = addresses
        .iter()
        .copied()
        .partition(|address| address.is_ipv6() == preferred);
    for family in [&mut first, &mut second] {
        if !family.is_empty() {
            let by = turn % family.len();
            family.rotate_left(by);
        }
    }
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut ordered = Vec::with_capacity(addresses.len());
    while ordered.len() < addresses.len() {
        ordered.extend(first.next());
        ordered.extend(second.next());
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns_and_so_do_the_addresses_of_one() {
        let addresses = |texts: &[&str]| -> Vec<SocketAddr> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        for (found, turn, ordered) in [
            (
                &["[::1]:1", "[::2]:1", "1.1.1.1:1"][..],
                0,
                &["[::1]:1", "1.1.1.1:1", "[::2]:1"][..],
            ),
            (
                &["[::1]:1", "[::2]:1", "1.1.1.1:1"],
                1,
                &["[::2]:1", "1.1.1.1:1", "[::1]:1"],
            ),
            (
                &["1.1.1.1:1", "[::1]:1", "2.2.2.2:1"],
                3,
                &["2.2.2.2:1", "[::1]:1", "1.1.1.1:1"],
            ),
            (&["1.1.1.1:1"], 5, &["1.1.1.1:1"]),
            (&[], 1, &[]),
        ] {
            assert_eq!(interleaved(&addresses(found), turn), addresses(ordered));
        }
    }

    #[tokio::test]
    async fn a_name_that_cannot_be_resolved_any_more_keeps_its_addresses() {
        let addresses = Addresses::of("no-such-name.invalid", 80);
        assert!(addresses.in_turn().await.is_err());
        let known: Box<[SocketAddr]> = Box::new(["1.2.3.4:80".parse().unwrap()]);
        addresses.known.store(Some(Arc::new(known.clone())));
        assert!(addresses.look_up().await.is_err());
        assert_eq!(addresses.in_turn().await.unwrap(), known.to_vec());
    }

    #[tokio::test]
    async fn an_address_needs_no_looking_up() {
        let addresses = Addresses::of("::1", 80);
        assert!(!addresses.is_name());
        assert_eq!(
            addresses.in_turn().await.unwrap(),
            ["[::1]:80".parse().unwrap()]
        );
    }
}
