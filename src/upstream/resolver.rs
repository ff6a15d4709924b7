//! From a host name to its addresses.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};
use tokio::net::lookup_host;

/// Who knows the addresses of a name.
#[derive(Clone, Default)]
pub enum Resolver {
    /// The system.
    #[default]
    System,
    /// A table that can change: for tests, whose addresses have ports of their own.
    Table(Arc<Mutex<HashMap<String, Vec<SocketAddr>>>>),
}

impl Resolver {
    /// The addresses of `host`, at least one, in an order that does not change from call to call. Link-local ones are left
    /// out: clouds serve instance credentials there, and whoever answers for a name must not lead requests to them. An
    /// upstream that is meant to be there is written as an address.
    ///
    /// # Errors
    /// There is no such name, it has no usable address, or nobody can be asked.
    pub async fn look_up(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let mut found: Vec<SocketAddr> = match self {
            Self::System => lookup_host((host, port)).await?.collect(),
            Self::Table(table) => {
                table.lock().unwrap_or_else(PoisonError::into_inner).get(host).cloned().unwrap_or_default()
            }
        };
        found.sort_unstable();
        found.dedup();
        let all = found.len();
        found.retain(|address| !is_link_local(address.ip()));
        if found.len() < all && found.is_empty() {
            return Err(io::Error::other("the name leads to link-local addresses only"));
        }
        if found.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
        }
        Ok(found)
    }
}

/// 169.254.0.0/16, fe80::/10 and fd00:ec2::254.
fn is_link_local(address: IpAddr) -> bool {
    const METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    match address.to_canonical() {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local() || address == METADATA,
    }
}
