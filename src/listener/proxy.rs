//! The header of the PROXY protocol, version 2: what a balancer for TCP says of the client.
//!
//! Source: The PROXY protocol, versions 1 and 2, section 2.2.

use ppp::v2::{self, Addresses, Command, Header, Protocol};
use std::{io, net::SocketAddr, time::Duration};
use tokio::io::{AsyncRead, AsyncReadExt};

/// How long a balancer may take for it.
pub(super) const LIMIT: Duration = Duration::from_secs(5);

/// The signature, version and command, family, and length.
const FIXED: usize = 16;
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Addresses and all that balancers are known to add are far shorter.
const LONGEST: usize = 4096;
/// `PP2_TYPE_SSL`, and `PP2_CLIENT_SSL` in its first byte.
const SSL: u8 = 0x20;
const CLIENT_SSL: u8 = 0x01;

/// What the header says.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Said {
    /// The client's address; none where the balancer speaks for itself (a health check).
    pub(super) client: Option<SocketAddr>,
    /// The client came to the balancer by TLS.
    pub(super) tls: bool,
    /// The balancer speaks for itself.
    pub(super) itself: bool,
}

/// Why there is no header.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProxyError {
    #[error("cannot read the header of the PROXY protocol")]
    Read(#[from] io::Error),
    #[error("connection does not begin with the signature of the PROXY protocol, version 2")]
    Signature,
    #[error("connection begins with version 1 of the PROXY protocol, expected version 2: set the balancer to that")]
    Version1,
    #[error("header of the PROXY protocol has {0} bytes, {LONGEST} are allowed")]
    Long(usize),
    #[error("header of the PROXY protocol cannot be read: {0}")]
    Broken(String),
    #[error("header of the PROXY protocol is about datagrams")]
    Datagram,
    #[error("header of the PROXY protocol names no address of the client")]
    Nobody,
}

/// Reads exactly the header, so that what follows is the client's.
pub(super) async fn read<R: AsyncRead + Unpin>(from: &mut R) -> Result<Said, ProxyError> {
    let mut bytes = vec![0; FIXED];
    from.read_exact(&mut bytes[..SIGNATURE.len()]).await?;
    if bytes.starts_with(b"PROXY ") {
        return Err(ProxyError::Version1);
    }
    if !bytes.starts_with(SIGNATURE) {
        return Err(ProxyError::Signature);
    }
    from.read_exact(&mut bytes[SIGNATURE.len()..]).await?;
    let length = usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
    if length > LONGEST {
        return Err(ProxyError::Long(length));
    }
    bytes.resize(FIXED + length, 0);
    from.read_exact(&mut bytes[FIXED..]).await?;
    parse(&bytes)
}

fn parse(bytes: &[u8]) -> Result<Said, ProxyError> {
    let header = Header::try_from(bytes).map_err(|error| ProxyError::Broken(error.to_string()))?;
    if header.command == Command::Local {
        return Ok(Said { client: None, tls: false, itself: true });
    }
    let client = match (header.addresses, header.protocol) {
        (Addresses::IPv4(_) | Addresses::IPv6(_), Protocol::Datagram) => return Err(ProxyError::Datagram),
        (Addresses::IPv4(both), _) => Some((both.source_address, both.source_port).into()),
        (Addresses::IPv6(both), _) => Some((both.source_address, both.source_port).into()),
        // a client that nobody can name must not pass for the balancer
        (Addresses::Unspecified | Addresses::Unix(_), _) => return Err(ProxyError::Nobody),
    };
    Ok(Said { client, tls: tls(&header)?, itself: false })
}

fn tls(header: &Header<'_>) -> Result<bool, ProxyError> {
    for tlv in header.tlvs() {
        let v2::TypeLengthValue { kind, value } = tlv.map_err(|error| ProxyError::Broken(error.to_string()))?;
        if kind == SSL {
            return Ok(value.first().is_some_and(|client| client & CLIENT_SSL != 0));
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([0x20 | command, family]);
        bytes.extend(u16::try_from(rest.len()).expect("a length").to_be_bytes());
        bytes.extend(rest);
        bytes
    }

    const V4: [u8; 12] = [192, 0, 2, 7, 10, 0, 0, 1, 0x9c, 0x40, 0x01, 0xbb];

    async fn said(bytes: &[u8]) -> Result<(Said, usize), String> {
        let mut rest = bytes;
        let said = read(&mut rest).await.map_err(|error| crate::text::chain(&error))?;
        Ok((said, rest.len()))
    }

    #[tokio::test]
    async fn tells_the_client_and_leaves_what_follows() {
        let bytes = [header(1, 0x11, &V4), b"GET / HTTP/1.1\r\n".to_vec()].concat();
        let client = Some("192.0.2.7:40000".parse().expect("an address"));
        assert_eq!(said(&bytes).await, Ok((Said { client, tls: false, itself: false }, 16)));
        let mut v6 = [0; 36];
        (v6[15], v6[31], v6[33]) = (1, 2, 80);
        let client = Some("[::1]:80".parse().expect("an address"));
        assert_eq!(said(&header(1, 0x21, &v6)).await, Ok((Said { client, tls: false, itself: false }, 0)));
    }

    #[tokio::test]
    async fn tells_whether_the_client_came_by_tls() {
        for (flags, tls) in [(0x01, true), (0x07, true), (0x00, false), (0x02, false)] {
            let tlv = [0x20, 0, 5, flags, 0, 0, 0, 0];
            let found = said(&header(1, 0x11, &[&V4[..], &[0x03, 0, 1, 0], &tlv].concat())).await;
            assert_eq!(found.map(|(said, _)| said.tls), Ok(tls), "{flags}");
        }
    }

    #[tokio::test]
    async fn a_balancer_that_speaks_for_itself_names_no_client() {
        let nobody = Said { client: None, tls: false, itself: true };
        assert_eq!(said(&header(0, 0x00, &[])).await, Ok((nobody, 0)));
        let nobody = Said { client: None, tls: false, itself: true };
        assert_eq!(said(&header(0, 0x11, &V4)).await, Ok((nobody, 0)));
    }

    #[tokio::test]
    async fn everything_else_is_refused() {
        let whole = header(1, 0x11, &V4);
        for cut in 0..whole.len() {
            assert!(said(&whole[..cut]).await.is_err(), "{cut}");
        }
        let mut wrong_version = whole.clone();
        wrong_version[12] = 0x11;
        let mut long = header(1, 0x11, &V4);
        (long[14], long[15]) = (0xff, 0xff);
        for bytes in [
            b"PROXY TCP4 192.0.2.7 10.0.0.1 40000 443\r\n".to_vec(),
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
            wrong_version,
            long,
            header(1, 0x12, &V4),
            header(1, 0x11, &V4[..11]),
            header(1, 0x11, &[&V4[..], &[0x20, 0, 9, 1]].concat()),
            header(2, 0x11, &V4),
            header(1, 0x00, &[]),
            header(1, 0x31, &[0; 216]),
            header(1, 0x51, &V4),
        ] {
            assert!(said(&bytes).await.is_err(), "{}", bytes.escape_ascii());
        }
    }
}
