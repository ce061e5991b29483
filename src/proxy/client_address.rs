//! Whose request it is, when proxies of ours stand in front of us.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;

use http::HeaderMap;
use ipnet::IpNet;

use super::telling::FORWARDED_FOR;
use crate::context::Peer;

/// Whom to believe about the client's address.
#[derive(Clone, Debug)]
pub struct ClientAddressRule {
    trusted_proxies: Vec<IpNet>,
    trusted_hops: NonZeroUsize,
}

impl ClientAddressRule {
    pub const fn new(trusted_proxies: Vec<IpNet>, trusted_hops: NonZeroUsize) -> Self {
        Self {
            trusted_proxies,
            trusted_hops,
        }
    }

    /// Who a connection is with.
    pub fn peer(&self, address: IpAddr) -> Peer {
        let address = address.to_canonical();
        Peer {
            address,
            trusted: self
                .trusted_proxies
                .iter()
                .any(|network| network.contains(&address)),
            secure: false,
        }
    }

    /// The client: the peer, or the entry that a trusted peer's outermost
    /// trusted proxy appended. Where there is no such entry, or it is not an
    /// address, nobody further out is believed: it is the peer's.
    pub fn client(&self, peer: Peer, headers: &HeaderMap) -> IpAddr {
        if !peer.trusted {
            return peer.address;
        }
        headers
            .get_all(FORWARDED_FOR.name)
            .iter()
            .rev()
            .flat_map(|list| list.as_bytes().rsplit(|&byte| byte == b','))
            .nth(self.trusted_hops.get() - 1)
            .and_then(address)
            .unwrap_or(peer.address)
    }
}

/// Reads an entry: an address, perhaps with a port, as proxies write it.
fn address(entry: &[u8]) -> Option<IpAddr> {
    let entry = std::str::from_utf8(entry).ok()?.trim();
    let bare = entry
        .strip_prefix('[')
        .and_then(|entry| entry.strip_suffix(']'))
        .unwrap_or(entry);
    let address = bare.parse::<IpAddr>().ok();
    let with_port = || entry.parse::<SocketAddr>().ok().map(|with| with.ip());
    address
        .or_else(with_port)
        .map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn client(hops: usize, peer: &str, forwarded_for: &[&str]) -> String {
        let rule = ClientAddressRule::new(
            vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()],
            NonZeroUsize::new(hops).unwrap(),
        );
        let mut headers = HeaderMap::new();
        for list in forwarded_for {
            headers.append(FORWARDED_FOR.name, HeaderValue::from_str(list).unwrap());
        }
        let peer = rule.peer(peer.parse().unwrap());
        rule.client(peer, &headers).to_string()
    }

    #[test]
    fn the_client_is_whom_a_trusted_proxy_names_and_else_the_peer() {
        for (what, hops, peer, forwarded_for, expected) in [
            ("no proxy", 1, "192.0.2.1", &[][..], "192.0.2.1"),
            ("a liar", 1, "192.0.2.1", &["198.51.100.9"], "192.0.2.1"),
            ("a proxy", 1, "10.0.0.1", &["198.51.100.9"], "198.51.100.9"),
            (
                "a liar before a proxy",
                1,
                "10.0.0.1",
                &["1.1.1.1, 198.51.100.9"],
                "198.51.100.9",
            ),
            (
                "two proxies",
                2,
                "10.0.0.1",
                &["1.1.1.1, 198.51.100.9, 10.0.0.2"],
                "198.51.100.9",
            ),
            (
                "two fields",
                2,
                "10.0.0.1",
                &["198.51.100.9", "10.0.0.2"],
                "198.51.100.9",
            ),
            (
                "fewer than hops",
                2,
                "10.0.0.1",
                &["198.51.100.9"],
                "10.0.0.1",
            ),
            ("nothing from a proxy", 1, "10.0.0.1", &[], "10.0.0.1"),
            (
                "no address",
                1,
                "10.0.0.1",
                &["198.51.100.9, unknown"],
                "10.0.0.1",
            ),
            (
                "an empty entry",
                1,
                "10.0.0.1",
                &["198.51.100.9,"],
                "10.0.0.1",
            ),
            (
                "a port",
                1,
                "10.0.0.1",
                &["198.51.100.9:4711"],
                "198.51.100.9",
            ),
            ("IPv6", 1, "fd00::1", &["2001:db8::1"], "2001:db8::1"),
            (
                "IPv6 in brackets",
                1,
                "10.0.0.1",
                &["[2001:db8::1]"],
                "2001:db8::1",
            ),
            (
                "IPv6 with a port",
                1,
                "10.0.0.1",
                &["[2001:db8::1]:80"],
                "2001:db8::1",
            ),
            (
                "a mapped peer",
                1,
                "::ffff:10.0.0.1",
                &["::ffff:1.2.3.4"],
                "1.2.3.4",
            ),
            (
                "a mapped stranger",
                1,
                "::ffff:192.0.2.1",
                &["1.2.3.4"],
                "192.0.2.1",
            ),
        ] {
            assert_eq!(client(hops, peer, forwarded_for), expected, "{what}");
        }
    }
}
