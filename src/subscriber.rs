//! Whose an address is, as far as one can tell from outside.

use std::net::{IpAddr, Ipv6Addr};

/// What one subscriber has of the internet: an IPv4 address, or a /64 of IPv6
/// addresses. What is bounded for each client is bounded for each of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Subscriber(IpAddr);

impl Subscriber {
    pub fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
            v4 @ IpAddr::V4(_) => v4,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscriber_has_one_ipv4_address_or_64_bits_of_ipv6() {
        let of = |address: &str| Subscriber::of(address.parse().unwrap());
        assert_eq!(of("::ffff:192.0.2.7"), of("192.0.2.7"));
        assert_ne!(of("192.0.2.7"), of("192.0.2.8"));
        assert_eq!(of("2001:db8:1:2::3"), of("2001:db8:1:2:ffff::"));
        assert_ne!(of("2001:db8:1:2::3"), of("2001:db8:1:3::3"));
    }
}
