//! How people write where sinks are.

use super::value::Expected;
use crate::upstream::Place;
use std::{net::IpAddr, path::Path};
use url::Url;

/// True for what never leaves this machine.
pub(super) fn is_here(place: &Place) -> bool {
    match place {
        Place::Unix { .. } => true,
        Place::Tcp { host, .. } => {
            **host == *"localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
        }
    }
}

/// True for a name of a schema that needs no quotes: lower-case letters, digits and `_`, at most 63, none of the system's.
pub fn is_schema(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.starts_with(|first: char| first.is_ascii_lowercase() || first == '_')
        && !text.starts_with("pg_")
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// A name of a schema.
pub(super) fn schema(text: &str) -> Result<String, Expected> {
    is_schema(text).then(|| text.to_owned()).ok_or_else(|| {
        Expected::new("the name of a schema, such as `vestibule`")
            .help("lower-case letters, digits and `_`, at most 63, and not `pg_` at the beginning")
    })
}

/// `postgres://USER@HOST:PORT/DATABASE`, or with a directory of sockets in place of the host, percent-encoded.
///
/// Source: PostgreSQL, libpq, section 34.1.1.2 (connection URIs).
pub(super) fn database(text: &str) -> Result<(Place, String, String), Expected> {
    let expected = || Expected::new("`postgres://USER@HOST:PORT/DATABASE`");
    if !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
        return Err(expected().help("it begins with `postgres://`"));
    }
    let url = Url::parse(text).map_err(|error| expected().help(error.to_string()))?;
    if url.password().is_some() {
        return Err(expected().help("a secret is never written here: put it into a file, and name that in `password`"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(expected().help("leave out what follows the database: TLS is said in `tls`"));
    }
    let decoded = |text: &str| decode(text).filter(|text| !text.is_empty() && !text.chars().any(char::is_control));
    let user =
        decoded(url.username()).ok_or_else(|| expected().help("write the role's name and `@` before the host"))?;
    let name = decoded(url.path().trim_start_matches('/'));
    let database = name.ok_or_else(|| expected().help("write the name of the database after the host"))?;
    let host = url.host_str().and_then(decode).unwrap_or_default();
    let port = url.port().unwrap_or(5432);
    let place = if host.starts_with('/') {
        let file = format!("{}/.s.PGSQL.{port}", host.trim_end_matches('/'));
        if file.len() > 107 {
            return Err(expected().help("the path of the socket is longer than 107 bytes"));
        }
        Place::Unix { path: Path::new(&file).into() }
    } else {
        tcp(&host, port).ok_or_else(|| expected().help("write the name or address of its host"))?
    };
    Ok((place, user, database))
}

/// `tls://HOST:PORT` or `tcp://HOST:PORT`; the ports are those of RFC 5425 and RFC 6587.
pub(super) fn server(text: &str) -> Result<(bool, Place), Expected> {
    let expected = || Expected::new("`tls://HOST:PORT`");
    let secure = match text.split_once("://") {
        Some(("tls", _)) => true,
        Some(("tcp", _)) => false,
        _ => return Err(expected().help("it begins with `tls://`, or `tcp://` for clear text")),
    };
    let url = Url::parse(text).map_err(|error| expected().help(error.to_string()))?;
    let alone = url.username().is_empty() && url.password().is_none() && matches!(url.path(), "" | "/");
    if !alone || url.query().is_some() || url.fragment().is_some() {
        return Err(expected().help("leave out all but the host and its port"));
    }
    let port = url.port().unwrap_or(if secure { 6514 } else { 601 });
    let place = url.host_str().and_then(|host| tcp(host, port));
    place.map(|place| (secure, place)).ok_or_else(|| expected().help("write the name or address of its host"))
}

fn tcp(host: &str, port: u16) -> Option<Place> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).to_ascii_lowercase();
    let odd = |c: char| c.is_whitespace() || c.is_control() || "/@?#%,".contains(c);
    if bare.is_empty() || bare.contains(odd) || port == 0 {
        return None;
    }
    Some(Place::Tcp { authority: format!("{host}:{port}").into(), host: bare.into(), port })
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        if *first == b'%' {
            let pair = std::str::from_utf8(more.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(pair, 16).ok()?);
            rest = &more[2..];
        } else {
            bytes.push(*first);
            rest = more;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_databases() {
        let read = |text: &str| database(text).map(|(place, user, name)| (place.to_string(), user, name));
        let found = |place: &str, user: &str, name: &str| Ok((place.to_owned(), user.to_owned(), name.to_owned()));
        assert_eq!(read("postgres://a@db.example.com/audit"), found("db.example.com:5432", "a", "audit"));
        assert_eq!(read("postgresql://a%40b@[::1]:6432/x%20y"), found("[::1]:6432", "a@b", "x y"));
        assert_eq!(read("postgres://a@%2Frun%2Fpostgresql:5433/x"), found("/run/postgresql/.s.PGSQL.5433", "a", "x"));
        for wrong in [
            "postgres://db/x",
            "postgres://a:b@db/x",
            "postgres://a@db",
            "postgres://a@/x",
            "postgres://a@db/x?sslmode=disable",
            "mysql://a@db/x",
            "postgres://a@db,other/x",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn reads_syslog_servers() {
        let read = |text: &str| server(text).map(|(secure, place)| (secure, place.to_string()));
        assert_eq!(read("tls://logs.example.com"), Ok((true, "logs.example.com:6514".to_owned())));
        assert_eq!(read("tcp://127.0.0.1:514"), Ok((false, "127.0.0.1:514".to_owned())));
        for wrong in ["udp://a:1", "tls://", "tls://a/b", "tls://u@a", "a:1", "tls://a:0"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_of_schemas_need_no_quotes() {
        for (text, fits) in
            [("vestibule", true), ("_a1", true), ("pg_a", false), ("A", false), ("a-b", false), ("", false)]
        {
            assert_eq!(schema(text).is_ok(), fits, "{text}");
        }
    }
}
