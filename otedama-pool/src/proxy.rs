//! The PROXY protocol, versions 1 and 2: the header in which a load balancer says whose connection it passes
//! on ([specification](https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt)).
//!
//! ```text
//!   1: PROXY TCP4 192.0.2.7 198.51.100.1 56324 3333\r\n           at most 107 bytes
//!   2: 12 bytes of signature | version, command | family, transport | length, 2 bytes | addresses, extensions
//! ```
//!
//! Whoever may connect may write such a header: it is worth nothing unless the connection comes from a
//! balancer that is known.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The most bytes a header may have: far more than addresses and the extensions in use take.
pub const MAX_BYTES: usize = 2048;

/// How version 1 begins.
pub const V1_PREFIX: &[u8] = b"PROXY ";

/// How version 2 begins. No line of text does: there is a zero byte among these.
pub const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// The longest header of version 1, its end included.
const V1_BYTES: usize = 107;

/// The part of version 2 that all headers have.
const V2_FIXED: usize = 16;

/// A whole header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// How many bytes it takes; what follows is the connection's own.
    pub len: usize,
    /// Who connected to the balancer; `None` if the balancer speaks for itself, as for a health check, or
    /// does not know.
    pub source: Option<SocketAddr>,
}

/// Bytes that are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// Neither version begins so.
    #[error("no PROXY header: expected one of version 1 or 2, as this address is among stratum.proxies")]
    NoHeader,
    /// No end within the limit.
    #[error("PROXY header of more than {0} bytes")]
    TooLong(usize),
    /// A field of version 1.
    #[error("PROXY header of version 1: {0} is not usable")]
    Field(&'static str),
    /// A byte of version 2.
    #[error("PROXY header of version 2: {field} is {found:#04x}")]
    Byte {
        /// What it stands for.
        field: &'static str,
        /// Its value.
        found: u8,
    },
    /// Fewer bytes than the addresses take.
    #[error("PROXY header of version 2: {found} bytes of addresses, expected at least {expected}")]
    TooShort {
        /// How many there are.
        found: usize,
        /// How many the family takes.
        expected: usize,
    },
}

/// Whether these bytes begin as a header of either version does, as far as they go. An empty slice does not.
pub fn begins(bytes: &[u8]) -> bool {
    let agrees = |with: &[u8]| bytes.iter().zip(with).all(|(found, expected)| found == expected);
    !bytes.is_empty() && (agrees(V1_PREFIX) || agrees(V2_SIGNATURE))
}

/// Reads a header off the front of `bytes`; `None` if it goes on behind them, in which case all of them belong
/// to it.
///
/// # Errors
/// As soon as it can be seen that this is no header, or one longer than [`MAX_BYTES`].
pub fn parse(bytes: &[u8]) -> Result<Option<Header>, ProxyError> {
    match bytes.first() {
        None => Ok(None),
        Some(_) if !begins(bytes) => Err(ProxyError::NoHeader),
        Some(b'P') => version_1(bytes),
        Some(_) => version_2(bytes),
    }
}

fn version_1(bytes: &[u8]) -> Result<Option<Header>, ProxyError> {
    let Some(end) = bytes.iter().take(V1_BYTES).position(|&byte| byte == b'\n') else {
        return if bytes.len() < V1_BYTES { Ok(None) } else { Err(ProxyError::TooLong(V1_BYTES)) };
    };
    let line = bytes[..end].strip_suffix(b"\r").ok_or(ProxyError::Field("its end"))?;
    // The line is longer than the prefix: that has no line feed, and no carriage return.
    let line = line.get(V1_PREFIX.len()..).ok_or(ProxyError::Field("its end"))?;
    let line = std::str::from_utf8(line).map_err(|_| ProxyError::Field("text"))?;
    let len = end + 1;
    let mut fields = line.split(' ');
    let family = fields.next().unwrap_or_default();
    if family == "UNKNOWN" {
        return Ok(Some(Header { len, source: None }));
    }
    let mut address = |name| {
        let field = fields.next().unwrap_or_default();
        let address: Option<IpAddr> = match family {
            "TCP4" => field.parse::<Ipv4Addr>().ok().map(IpAddr::from),
            "TCP6" => field.parse::<Ipv6Addr>().ok().map(IpAddr::from),
            _ => return Err(ProxyError::Field("the family")),
        };
        address.ok_or(ProxyError::Field(name))
    };
    let (source, _) = (address("the source address")?, address("the destination address")?);
    let mut port = |name| {
        let field = fields.next().unwrap_or_default();
        // A plus sign would be taken for part of a number.
        let digits = field.bytes().all(|byte| byte.is_ascii_digit());
        field.parse::<u16>().ok().filter(|_| digits).ok_or(ProxyError::Field(name))
    };
    let (source_port, _) = (port("the source port")?, port("the destination port")?);
    if fields.next().is_some() {
        return Err(ProxyError::Field("what follows the ports"));
    }
    Ok(Some(Header { len, source: Some(SocketAddr::new(source.to_canonical(), source_port)) }))
}

fn version_2(bytes: &[u8]) -> Result<Option<Header>, ProxyError> {
    let Some((fixed, rest)) = bytes.split_at_checked(V2_FIXED) else { return Ok(None) };
    let [command, family] = [fixed[12], fixed[13]];
    let announced = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    let len = V2_FIXED + announced;
    if len > MAX_BYTES {
        return Err(ProxyError::TooLong(MAX_BYTES));
    }
    let local = match command {
        0x20 => true,
        0x21 => false,
        found => return Err(ProxyError::Byte { field: "version and command", found }),
    };
    // Addresses are source, destination, ports of both. Families without any that mean something here:
    // unspecified, and Unix sockets.
    let size: usize = match family {
        _ if local => 0,
        0x11 => 12,
        0x21 => 36,
        0x00 | 0x31 => 0,
        found => return Err(ProxyError::Byte { field: "family and transport", found }),
    };
    if announced < size {
        return Err(ProxyError::TooShort { found: announced, expected: size });
    }
    let Some(addresses) = rest.get(..announced) else { return Ok(None) };
    let source = match size {
        12 => source_of::<4>(addresses),
        36 => source_of::<16>(addresses),
        _ => None,
    };
    Ok(Some(Header { len, source }))
}

/// The source among addresses of `N` bytes each.
fn source_of<const N: usize>(addresses: &[u8]) -> Option<SocketAddr>
where
    IpAddr: From<[u8; N]>,
{
    let address: [u8; N] = *addresses.first_chunk()?;
    let port = addresses.get(2 * N..2 * N + 2)?;
    Some(SocketAddr::new(IpAddr::from(address).to_canonical(), u16::from_be_bytes([port[0], port[1]])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = V2_SIGNATURE.to_vec();
        bytes.extend([command, family]);
        bytes.extend((rest.len() as u16).to_be_bytes());
        bytes.extend(rest);
        bytes
    }

    fn v2_of(source: SocketAddr, extensions: &[u8]) -> Vec<u8> {
        let (family, mut rest) = match source.ip() {
            IpAddr::V4(ip) => (0x11, [ip.octets(), [198, 51, 100, 1]].concat()),
            IpAddr::V6(ip) => (0x21, [ip.octets(), [1; 16]].concat()),
        };
        rest.extend(source.port().to_be_bytes());
        rest.extend(3333u16.to_be_bytes());
        rest.extend(extensions);
        v2(0x21, family, &rest)
    }

    #[track_caller]
    fn reads(bytes: &[u8], source: Option<&str>) {
        let expected = Header { len: bytes.len(), source: source.map(|text| text.parse().unwrap()) };
        assert_eq!(parse(bytes), Ok(Some(expected)));
        for end in 0..bytes.len() {
            assert_eq!(parse(&bytes[..end]), Ok(None), "the first {end} bytes");
        }
        let followed = [bytes, b"{\"id\":1}\n"].concat();
        assert_eq!(parse(&followed), Ok(Some(expected)));
    }

    #[test]
    fn version_1_is_read() {
        // The examples of the specification.
        reads(b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", Some("255.255.255.255:65535"));
        let longest = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
        reads(
            format!("PROXY TCP6 {longest} {longest} 65535 65535\r\n").as_bytes(),
            Some(&format!("[{longest}]:65535")),
        );
        reads(b"PROXY UNKNOWN\r\n", None);
        reads(format!("PROXY UNKNOWN {longest} {longest} 65535 65535\r\n").as_bytes(), None);
        reads(b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n", Some("192.168.0.1:56324"));
        reads(b"PROXY TCP6 ::ffff:192.0.2.7 ::1 1 2\r\n", Some("192.0.2.7:1"));
    }

    #[test]
    fn version_2_is_read() {
        for source in ["192.0.2.7:56324", "[2001:db8::7]:1"] {
            let bytes = v2_of(source.parse().unwrap(), &[]);
            reads(&bytes, Some(source));
            // A checksum (PP2_TYPE_CRC32C) and a no-op behind the addresses.
            reads(&v2_of(source.parse().unwrap(), &[3, 0, 4, 1, 2, 3, 4, 4, 0, 1, 0]), Some(source));
        }
        // A health check, with and without addresses; what comes by a Unix socket.
        reads(&v2(0x20, 0, &[]), None);
        reads(&v2(0x20, 0x11, &[9; 12]), None);
        reads(&v2(0x21, 0x31, &[0; 216]), None);
    }

    #[test]
    fn what_is_no_header_is_refused_as_soon_as_it_shows() {
        for (bytes, expected) in [
            (&b"{"[..], ProxyError::NoHeader),
            (b"PROXX", ProxyError::NoHeader),
            (b"\r\n\r\n{", ProxyError::NoHeader),
            (b"\x16\x03\x01", ProxyError::NoHeader),
            (b"PROXY TCP4\n", ProxyError::Field("its end")),
            (b"PROXY \n", ProxyError::Field("its end")),
            (b"PROXY \r\n", ProxyError::Field("the family")),
            (b"PROXY UDP4 1.2.3.4 1.2.3.4 1 1\r\n", ProxyError::Field("the family")),
            (b"PROXY TCP4 1.2.3 1.2.3.4 1 1\r\n", ProxyError::Field("the source address")),
            (b"PROXY TCP4 ::1 1.2.3.4 1 1\r\n", ProxyError::Field("the source address")),
            (b"PROXY TCP4 1.2.3.4  1.2.3.4 1 1\r\n", ProxyError::Field("the destination address")),
            (b"PROXY TCP4 1.2.3.4 1.2.3.4 65536 1\r\n", ProxyError::Field("the source port")),
            (b"PROXY TCP4 1.2.3.4 1.2.3.4 +1 1\r\n", ProxyError::Field("the source port")),
            (b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n", ProxyError::Field("the destination port")),
            (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 1 \r\n", ProxyError::Field("what follows the ports")),
            (b"PROXY TCP4 \xff 1.2.3.4 1 1 \r\n", ProxyError::Field("text")),
        ] {
            assert_eq!(parse(bytes), Err(expected), "{:?}", String::from_utf8_lossy(bytes));
        }
        assert_eq!(parse(&[b"PROXY ", [b'1'; 101].as_slice()].concat()), Err(ProxyError::TooLong(107)));
        let byte = |field, found| Err(ProxyError::Byte { field, found });
        assert_eq!(parse(&v2(0x11, 0x11, &[0; 12])), byte("version and command", 0x11));
        assert_eq!(parse(&v2(0x22, 0x11, &[0; 12])), byte("version and command", 0x22));
        assert_eq!(parse(&v2(0x21, 0x12, &[0; 12])), byte("family and transport", 0x12));
        assert_eq!(parse(&v2(0x21, 0x21, &[0; 12])), Err(ProxyError::TooShort { found: 12, expected: 36 }));
        // Known to be too long before it has come.
        assert_eq!(parse(&v2(0x21, 0x11, &[0; 2033])[..16]), Err(ProxyError::TooLong(MAX_BYTES)));
    }

    proptest! {
        #[test]
        fn whatever_comes_nothing_is_read_beyond_it(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for begun in [&[][..], V1_PREFIX, V2_SIGNATURE] {
                let bytes = [begun, &bytes].concat();
                if let Ok(Some(header)) = parse(&bytes) {
                    prop_assert!(header.len <= bytes.len().min(MAX_BYTES));
                }
            }
        }

        #[test]
        fn what_a_balancer_writes_is_what_is_read(ip in any::<IpAddr>(), port in any::<u16>()) {
            let source = SocketAddr::new(ip.to_canonical(), port);
            let family = if source.is_ipv4() { 4 } else { 6 };
            let line = format!("PROXY TCP{family} {0} {0} {port} 3333\r\n", source.ip());
            for bytes in [line.into_bytes(), v2_of(source, &[])] {
                prop_assert_eq!(parse(&bytes), Ok(Some(Header { len: bytes.len(), source: Some(source) })));
            }
        }
    }
}
