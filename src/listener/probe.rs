//! Looks whether we could listen at a place, without listening there.

use crate::{
    config::ListenAt,
    finding::{Finding, Level},
};
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    fs,
    io::{self, ErrorKind},
    net::SocketAddr,
    os::unix::{fs::FileTypeExt, net::UnixStream},
    path::Path,
};

/// Whether `at` is free, or held by the process that runs with this configuration and listens at `ours`.
pub fn probe(at: &ListenAt, key: &str, ours: &[String]) -> Finding {
    let finding = |level, said: String| Finding::new(level, format!("listen at `{at}`"), key, said);
    let held = ours.contains(&at.to_string());
    let found = match at {
        ListenAt::Systemd(_) => return finding(Level::Skipped, "systemd holds it".to_owned()),
        ListenAt::Tcp(address) => bind(*address),
        ListenAt::Unix(path) => socket(path),
    };
    match found {
        Ok(said) => finding(Level::Good, said.to_owned()),
        Err(error) if error.kind() == ErrorKind::AddrInUse && held => {
            finding(Level::Good, "the running process listens there".to_owned())
        }
        Err(error) => finding(Level::Fault, said(&error)).help(help(at, &error)),
    }
}

/// Takes the address for a moment. Nobody can connect: nothing listens.
fn bind(address: SocketAddr) -> io::Result<&'static str> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    Ok("free")
}

fn socket(path: &Path) -> io::Result<&'static str> {
    let about = match fs::symlink_metadata(path) {
        Ok(about) => about,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let parent = path.parent().unwrap_or(Path::new("/"));
            return if parent.is_dir() { Ok("free") } else { Err(error) };
        }
        Err(error) => return Err(error),
    };
    if !about.file_type().is_socket() {
        return Err(ErrorKind::AlreadyExists.into());
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok("nobody listens there any more"),
        Err(error) => Err(error),
        Ok(_) => Err(ErrorKind::AddrInUse.into()),
    }
}

fn said(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::AddrInUse => "something else listens there".to_owned(),
        ErrorKind::AddrNotAvailable => "this machine has no such address".to_owned(),
        ErrorKind::AlreadyExists => "a file that is no socket is there".to_owned(),
        ErrorKind::NotFound => "its directory is not there".to_owned(),
        _ => error.to_string(),
    }
}

fn help(at: &ListenAt, error: &io::Error) -> &'static str {
    match (error.kind(), at) {
        (ErrorKind::AddrInUse, _) => "stop what listens there, or change the address",
        (ErrorKind::AddrNotAvailable, _) => "write an address of this machine, or `0.0.0.0` for all",
        (ErrorKind::PermissionDenied, ListenAt::Tcp(_)) => {
            "ports below 1024 need `CAP_NET_BIND_SERVICE`, or a socket that systemd holds; run this as the proxy's user"
        }
        (ErrorKind::AlreadyExists, _) => "move it away, or change the path",
        (ErrorKind::NotFound, _) => "make the directory, for the proxy's user",
        _ => "run this as the proxy's user, or change the address",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{net::TcpListener, os::unix::net::UnixListener};

    fn found(at: &ListenAt, ours: &[String]) -> (Level, String) {
        let found = probe(at, "listen", ours);
        (found.level, found.said)
    }

    #[test]
    fn a_port_is_free_ours_or_somebody_elses() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let at = ListenAt::Tcp(listener.local_addr().expect("an address"));
        assert_eq!(found(&at, &[]), (Level::Fault, "something else listens there".into()));
        assert_eq!(found(&at, &[at.to_string()]), (Level::Good, "the running process listens there".into()));
        drop(listener);
        assert_eq!(found(&at, &[]), (Level::Good, "free".into()));
        let nowhere = ListenAt::Tcp("192.0.2.1:80".parse().expect("an address"));
        assert_eq!(found(&nowhere, &[]), (Level::Fault, "this machine has no such address".into()));
    }

    #[test]
    fn a_socket_is_free_left_behind_or_in_the_way() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| ListenAt::Unix(directory.path().join(name));
        assert_eq!(found(&at("s"), &[]), (Level::Good, "free".into()));
        let listener = UnixListener::bind(directory.path().join("s")).expect("a socket");
        assert_eq!(found(&at("s"), &[]).0, Level::Fault);
        assert_eq!(found(&at("s"), &[at("s").to_string()]).0, Level::Good);
        drop(listener);
        assert_eq!(found(&at("s"), &[]), (Level::Good, "nobody listens there any more".into()));
        fs::write(directory.path().join("f"), "").expect("written");
        assert_eq!(found(&at("f"), &[]), (Level::Fault, "a file that is no socket is there".into()));
        assert_eq!(found(&at("d/s"), &[]), (Level::Fault, "its directory is not there".into()));
        assert_eq!(found(&ListenAt::Systemd(None), &[]).0, Level::Skipped);
    }
}
