//! The header of the PROXY protocol, versions 1 and 2, as its document
//! `proxy-protocol.txt` has it.
//!
//! Of ways to write a header only the one is read that the document allows: what
//! another reader may take for another address is refused.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What version 2 begins with.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// What version 1 begins with.
const WORD: &[u8] = b"PROXY ";

/// The longest line of version 1, with its end.
const LONGEST_LINE: usize = 107;

/// Signature, version and command, family, length.
const FIXED: usize = 16;

/// What version 2 may have behind its fixed part: addresses, and details that
/// are not read. Senders write a few hundred bytes at most.
const MOST_BEHIND: usize = 2048;

/// What is known once so many bytes are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// At least so many bytes are missing, and none of them is of what follows
    /// the header.
    Missing(usize),
    Whole(Header),
}

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// The connection that is relayed.
    Relayed {
        client: SocketAddr,
        local: SocketAddr,
    },
    /// Nobody's but the sender's own: a health check, say.
    Own,
}

/// No header that is understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no sound header of the PROXY protocol")]
pub struct Malformed;

/// Reads the beginning of a connection. What is given must not go beyond what
/// [`Parsed::Missing`] asked for.
pub fn parse(bytes: &[u8]) -> Result<Parsed, Malformed> {
    if bytes.is_empty() {
        // Either has more than these.
        return Ok(Parsed::Missing(SIGNATURE.len()));
    }
    if begins(bytes, SIGNATURE) {
        return binary(bytes);
    }
    if begins(bytes, WORD) {
        return line(bytes);
    }
    Err(Malformed)
}

/// Whether `bytes` are the beginning of `word`, or begin with all of it.
fn begins(bytes: &[u8], word: &[u8]) -> bool {
    let common = bytes.len().min(word.len());
    bytes[..common] == word[..common]
}

fn binary(bytes: &[u8]) -> Result<Parsed, Malformed> {
    let Some((fixed, behind)) = bytes.split_at_checked(FIXED) else {
        return Ok(Parsed::Missing(FIXED - bytes.len()));
    };
    let relays = match fixed[12] {
        0x20 => false,
        0x21 => true,
        _ => return Err(Malformed),
    };
    let length = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if length > MOST_BEHIND || behind.len() > length {
        return Err(Malformed);
    }
    if behind.len() < length {
        return Ok(Parsed::Missing(length - behind.len()));
    }
    let header = match (relays, fixed[13]) {
        (false, _) | (true, 0x00) => Header::Own,
        (true, 0x11) => addresses::<4>(behind).ok_or(Malformed)?,
        (true, 0x21) => addresses::<16>(behind).ok_or(Malformed)?,
        // Datagrams, sockets of a file system: whose a request is, is not said.
        (true, _) => return Err(Malformed),
    };
    Ok(Parsed::Whole(header))
}

/// Two addresses of `N` bytes, then their ports.
fn addresses<const N: usize>(behind: &[u8]) -> Option<Header>
where
    [u8; N]: IntoAddress,
{
    let (client, rest) = behind.split_first_chunk::<N>()?;
    let (local, rest) = rest.split_first_chunk::<N>()?;
    let (client_port, rest) = rest.split_first_chunk::<2>()?;
    let (local_port, _) = rest.split_first_chunk::<2>()?;
    let end = |address: &[u8; N], port: &[u8; 2]| {
        SocketAddr::new(address.into_address(), u16::from_be_bytes(*port))
    };
    Some(Header::Relayed {
        client: end(client, client_port),
        local: end(local, local_port),
    })
}

trait IntoAddress {
    fn into_address(self) -> IpAddr;
}

impl IntoAddress for [u8; 4] {
    fn into_address(self) -> IpAddr {
        Ipv4Addr::from(self).into()
    }
}

impl IntoAddress for [u8; 16] {
    fn into_address(self) -> IpAddr {
        Ipv6Addr::from(self).into()
    }
}

fn line(bytes: &[u8]) -> Result<Parsed, Malformed> {
    if let Some(line) = bytes.strip_suffix(b"\r\n") {
        let text = str::from_utf8(line).map_err(|_| Malformed)?;
        return fields(text).map(Parsed::Whole).ok_or(Malformed);
    }
    let missing = missing(bytes);
    if bytes.contains(&b'\n') || bytes.len() + missing > LONGEST_LINE {
        return Err(Malformed);
    }
    Ok(Parsed::Missing(missing))
}

/// How much is missing of a line at the least: the shortest that may follow.
fn missing(line: &[u8]) -> usize {
    if line.len() < WORD.len() {
        return b"PROXY UNKNOWN\r\n".len() - line.len();
    }
    if line.ends_with(b"\r") {
        return 1;
    }
    let behind = &line[WORD.len()..];
    if !behind.starts_with(b"TCP") {
        return 2;
    }
    // Family, two addresses, two ports: a blank before each, and something in it.
    let begun = line.split(|&byte| byte == b' ').count();
    6_usize.saturating_sub(begun) * 2 + usize::from(line.ends_with(b" ")) + 2
}

/// A line without its end.
fn fields(line: &str) -> Option<Header> {
    let line = line.strip_prefix("PROXY ")?;
    if line == "UNKNOWN" || line.starts_with("UNKNOWN ") {
        return Some(Header::Own);
    }
    let mut fields = line.split(' ');
    let mut next = || fields.next();
    let (family, client, local) = (next()?, next()?, next()?);
    let (client_port, local_port) = (port(next()?)?, port(next()?)?);
    if next().is_some() {
        return None;
    }
    let address = |text: &str| -> Option<IpAddr> {
        match family {
            "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            "TCP6" => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    Some(Header::Relayed {
        client: SocketAddr::new(address(client)?, client_port),
        local: SocketAddr::new(address(local)?, local_port),
    })
}

/// In decimal digits, and no more of them than it takes.
fn port(text: &str) -> Option<u16> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let is_short = text == "0" || !text.starts_with('0');
    (is_plain && is_short).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn relayed(client: &str, local: &str) -> Parsed {
        Parsed::Whole(Header::Relayed {
            client: client.parse().unwrap(),
            local: local.parse().unwrap(),
        })
    }

    /// A header of version 2: what stands in the bytes after the signature.
    fn version2(command: u8, family: u8, behind: &[u8]) -> Vec<u8> {
        let length = u16::try_from(behind.len()).unwrap().to_be_bytes();
        let mut header = SIGNATURE.to_vec();
        header.extend([command, family]);
        header.extend(length);
        header.extend(behind);
        header
    }

    /// Gives `parse` as many bytes as it asks for; how many those were.
    fn read(all: &[u8]) -> Option<(usize, Result<Header, Malformed>)> {
        let mut given = 0;
        loop {
            match parse(&all[..given]) {
                Ok(Parsed::Missing(missing)) => {
                    assert!(missing > 0);
                    given += missing;
                    if given > all.len() {
                        return None;
                    }
                }
                Ok(Parsed::Whole(header)) => return Some((given, Ok(header))),
                Err(malformed) => return Some((given, Err(malformed))),
            }
        }
    }

    #[test]
    fn lines_say_who_is_relayed_or_nobody() {
        for (line, parsed) in [
            (
                "PROXY TCP4 192.0.2.7 198.51.100.1 56324 443",
                Ok(relayed("192.0.2.7:56324", "198.51.100.1:443")),
            ),
            (
                "PROXY TCP6 2001:db8::7 2001:db8::1 0 65535",
                Ok(relayed("[2001:db8::7]:0", "[2001:db8::1]:65535")),
            ),
            ("PROXY UNKNOWN", Ok(Parsed::Whole(Header::Own))),
            ("PROXY UNKNOWN ff:: 1 x", Ok(Parsed::Whole(Header::Own))),
        ] {
            let line = format!("{line}\r\n");
            assert_eq!(parse(line.as_bytes()), parsed, "{line}");
        }
    }

    #[test]
    fn what_another_reader_might_take_otherwise_is_refused() {
        for line in [
            "PROXY TCP4 192.0.2.07 198.51.100.1 1 2",
            "PROXY TCP4 192.0.2 198.51.100.1 1 2",
            "PROXY TCP4 2001:db8::7 2001:db8::1 1 2",
            "PROXY TCP6 192.0.2.7 198.51.100.1 1 2",
            "PROXY TCP4  192.0.2.7 198.51.100.1 1 2",
            "PROXY TCP4 192.0.2.7 198.51.100.1 1 2 ",
            "PROXY TCP4 192.0.2.7 198.51.100.1 1 2 3",
            "PROXY TCP4 192.0.2.7 198.51.100.1 +1 2",
            "PROXY TCP4 192.0.2.7 198.51.100.1 01 2",
            "PROXY TCP4 192.0.2.7 198.51.100.1 1 65536",
            "PROXY TCP4 192.0.2.7 198.51.100.1 1 ",
            "PROXY TCP5 192.0.2.7 198.51.100.1 1 2",
            "PROXY TCP4",
            "PROXY UNKNOWNS",
            "PROXY \u{fc}",
            "proxy TCP4 192.0.2.7 198.51.100.1 1 2",
            "GET / HTTP/1.1",
        ] {
            let line = format!("{line}\r\n");
            assert_eq!(parse(line.as_bytes()), Err(Malformed), "{line}");
        }
        let bare_end = b"PROXY TCP4 192.0.2.7 198.51.100.1 1 2\n";
        assert_eq!(parse(bare_end), Err(Malformed));
        let long = format!("PROXY UNKNOWN {}", "x".repeat(LONGEST_LINE));
        let (read, parsed) = read(long.as_bytes()).unwrap();
        assert!(read <= LONGEST_LINE, "{read}");
        assert_eq!(parsed, Err(Malformed));
    }

    #[test]
    fn version_2_says_it_in_bytes_and_what_follows_them_is_not_read() {
        let four = [192, 0, 2, 7, 198, 51, 100, 1, 0x12, 0x34, 1, 0xbb];
        let six = [
            &Ipv6Addr::LOCALHOST.octets()[..],
            &Ipv6Addr::UNSPECIFIED.octets(),
            &[0, 80, 0, 81],
        ]
        .concat();
        let more = [&four[..], b"\x04\x00\x01x"].concat();
        let own = Ok(Parsed::Whole(Header::Own));
        let of_four = Ok(relayed("192.0.2.7:4660", "198.51.100.1:443"));
        for (header, parsed) in [
            (version2(0x21, 0x11, &four), of_four),
            (version2(0x21, 0x11, &more), of_four),
            (
                version2(0x21, 0x21, &six),
                Ok(relayed("[::1]:80", "[::]:81")),
            ),
            (version2(0x20, 0x11, &four), own),
            (version2(0x20, 0x00, &[]), own),
            (version2(0x21, 0x00, &[]), own),
            (version2(0x21, 0x11, &four[..11]), Err(Malformed)),
            (version2(0x21, 0x21, &four), Err(Malformed)),
            (version2(0x21, 0x12, &four), Err(Malformed)),
            (version2(0x21, 0x31, &[0; 216]), Err(Malformed)),
            (version2(0x22, 0x11, &four), Err(Malformed)),
            (version2(0x11, 0x11, &four), Err(Malformed)),
            (version2(0x21, 0x11, &[0; 2049]), Err(Malformed)),
        ] {
            assert_eq!(parse(&header), parsed, "{header:x?}");
        }
    }

    proptest! {
        #[test]
        fn a_header_is_read_to_its_last_byte_and_no_further(
            client: SocketAddr, local: SocketAddr, follows: Vec<u8>, binary: bool, more in 0..64_usize
        ) {
            let local = SocketAddr::new(
                if client.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { IpAddr::from(Ipv6Addr::LOCALHOST) },
                local.port(),
            );
            let header = if binary {
                let (family, mut behind) = match (client.ip(), local.ip()) {
                    (IpAddr::V4(client), IpAddr::V4(local)) => (0x11, [client.octets(), local.octets()].concat()),
                    (IpAddr::V6(client), IpAddr::V6(local)) => (0x21, [client.octets(), local.octets()].concat()),
                    _ => unreachable!(),
                };
                behind.extend(client.port().to_be_bytes());
                behind.extend(local.port().to_be_bytes());
                behind.extend(std::iter::repeat_n(7, more));
                version2(0x21, family, &behind)
            } else {
                let family = if client.is_ipv4() { 4 } else { 6 };
                format!("PROXY TCP{family} {} {} {} {}\r\n", client.ip(), local.ip(), client.port(), local.port())
                    .into_bytes()
            };
            let all = [&header[..], &follows].concat();
            let said = Header::Relayed {
                client: SocketAddr::new(client.ip(), client.port()),
                local,
            };
            prop_assert_eq!(read(&all), Some((header.len(), Ok(said))));
            // And no part of it is one.
            for end in 0..header.len() {
                prop_assert!(read(&header[..end]).is_none());
            }
        }

        #[test]
        fn whatever_comes_is_read_in_bounds(bytes: Vec<u8>, binary: bool) {
            let begin: &[u8] = if binary { SIGNATURE } else { WORD };
            let all = [begin, &bytes].concat();
            if let Some((read, _)) = read(&all) {
                prop_assert!(read <= FIXED + MOST_BEHIND);
            }
        }
    }
}
