//! The whole policy: a pure function of a record, what the route requires, the
//! client's address and the time.

use std::net::IpAddr;

use super::KnownKey;
use crate::clock::Timestamp;
use crate::permission::Required;
use crate::refusal::Refusal;

/// What the policy says of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Admit,
    Refuse(Refusal),
}

/// Judges one request by `key`. The first rule that refuses gives the reason:
/// what would tell that the key exists comes after what would not.
///
/// `address` is the client address; a key bound to addresses is refused when
/// it is not known.
pub fn evaluate(
    key: &KnownKey,
    required: Option<&Required>,
    address: Option<IpAddr>,
    now: Timestamp,
) -> Verdict {
    if !key.is_active {
        return Verdict::Refuse(Refusal::KeyInactive);
    }
    if key.has_expired(now) {
        return Verdict::Refuse(Refusal::KeyExpired);
    }
    if !address_allowed(key, address) {
        return Verdict::Refuse(Refusal::AddressDenied);
    }
    if !permission_held(key, required) {
        return Verdict::Refuse(Refusal::PermissionDenied);
    }
    Verdict::Admit
}

fn address_allowed(key: &KnownKey, address: Option<IpAddr>) -> bool {
    let networks = key.allowed_ips();
    if networks.is_empty() {
        return true;
    }
    let Some(address) = address.map(|address| address.to_canonical()) else {
        return false;
    };
    networks.iter().any(|network| network.contains(&address))
}

fn permission_held(key: &KnownKey, required: Option<&Required>) -> bool {
    required.is_none_or(|required| {
        key.permissions
            .iter()
            .any(|permission| permission.grants(required))
    })
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use uuid::Uuid;

    use super::*;
    use crate::key::ApiKey;
    use crate::token::KeyHash;

    const NOW: Timestamp = Timestamp::from_micros(1_000_000);

    fn key() -> ApiKey {
        ApiKey {
            id: Uuid::from_u128(1),
            name: "test".parse().unwrap(),
            key_hash: KeyHash::from_bytes([0; 32]),
            permissions: vec!["orders:read".parse().unwrap()],
            rate_limit: NonZeroU32::MIN,
            created_at: Timestamp::EPOCH,
            expires_at: None,
            is_active: true,
            allowed_ips: Vec::new(),
            revision: 1,
            last_used: None,
            usage_count: 0,
        }
    }

    fn expiring(micros: i64) -> ApiKey {
        ApiKey {
            expires_at: Some(Timestamp::from_micros(micros)),
            ..key()
        }
    }

    fn bound_to(networks: &[&str]) -> ApiKey {
        ApiKey {
            allowed_ips: networks.iter().map(|net| net.parse().unwrap()).collect(),
            ..key()
        }
    }

    fn inactive(key: ApiKey) -> ApiKey {
        ApiKey {
            is_active: false,
            ..key
        }
    }

    #[test]
    #[rustfmt::skip]
    fn the_policy() {
        use Refusal::{AddressDenied, KeyExpired, KeyInactive, PermissionDenied};
        let read = Some("orders:read");
        let write = Some("orders:write");
        let office = Some("192.0.2.7");
        for (what, key, required, address, refusal) in [
            ("an active key", key(), read, office, None),
            ("a route that requires nothing", key(), None, None, None),
            ("another permission", key(), write, office, Some(PermissionDenied)),
            ("a revoked key", inactive(key()), read, office, Some(KeyInactive)),
            ("a key before its expiry", expiring(1_000_001), read, office, None),
            ("a key at its expiry", expiring(1_000_000), read, office, Some(KeyExpired)),
            ("revoked before expired", inactive(expiring(0)), read, office, Some(KeyInactive)),
            ("expired before permission", expiring(0), write, office, Some(KeyExpired)),
            ("inside its network", bound_to(&["192.0.2.0/24"]), read, office, None),
            ("outside its network", bound_to(&["198.51.100.0/24"]), read, office, Some(AddressDenied)),
            ("inside one of two", bound_to(&["::1/128", "192.0.2.7/32"]), read, office, None),
            ("a mapped IPv4 address", bound_to(&["192.0.2.0/24"]), read, Some("::ffff:192.0.2.7"), None),
            ("an IPv6 network", bound_to(&["2001:db8::/32"]), read, Some("2001:db8::1"), None),
            ("an unknown address", bound_to(&["0.0.0.0/0"]), read, None, Some(AddressDenied)),
            ("address before permission", bound_to(&["::1/128"]), write, office, Some(AddressDenied)),
        ] {
            let required = required.map(|text| text.parse().unwrap());
            let address = address.map(|text| text.parse().unwrap());
            let expected = refusal.map_or(Verdict::Admit, Verdict::Refuse);
            let verdict = evaluate(&key.into(), required.as_ref(), address, NOW);
            assert_eq!(verdict, expected, "{what}");
        }
    }
}
