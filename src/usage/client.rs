//! How much of a client's address is kept.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;

/// How much of a client's address a usage event keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientIp {
    #[default]
    Full,
    /// The network: see [`network`].
    Prefix,
    None,
}

impl ClientIp {
    pub fn keep(self, client: Option<IpAddr>) -> Option<IpAddr> {
        match self {
            Self::Full => client,
            Self::Prefix => client.map(network),
            Self::None => None,
        }
    }
}

/// The address of the client's network: the first 24 bits of an IPv4 address,
/// also of one mapped into IPv6, the first 48 of an IPv6 address.
pub fn network(client: IpAddr) -> IpAddr {
    let client = client.to_canonical();
    let bits = if client.is_ipv4() { 24 } else { 48 };
    IpNet::new(client, bits).map_or(client, |net| net.network())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_kept_as_the_setting_says() {
        for (setting, client, kept) in [
            (ClientIp::Full, "192.0.2.77", Some("192.0.2.77")),
            (ClientIp::Prefix, "192.0.2.77", Some("192.0.2.0")),
            (ClientIp::Prefix, "::ffff:192.0.2.77", Some("192.0.2.0")),
            (ClientIp::Prefix, "2001:db8:1:2::3", Some("2001:db8:1::")),
            (ClientIp::None, "192.0.2.77", None),
        ] {
            let client = client.parse().unwrap();
            let kept: Option<IpAddr> = kept.map(|kept| kept.parse().unwrap());
            assert_eq!(setting.keep(Some(client)), kept, "{setting:?} {client}");
        }
    }
}
