//! `vestibule demo`: everything on loopback, nothing to set up.
//!
//! A GitLab-shaped provider, a sample portal and a sample API are started beside the real proxy, which runs with a real
//! configuration from a temporary directory. Nothing of the proxy is simulated.

use crate::cli;
use place::{Place, Ports};
use provider::{Client, Hooks, Provider};
use std::{
    io::{self, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::Arc,
    time::SystemTime,
};

mod announce;
mod api;
mod assertion;
mod people;
mod place;
pub mod policies;
mod portal;
mod provider;
mod server;

/// Runs the demo on `127.0.0.1:port` until it is interrupted. Port 0 takes any.
///
/// The provider, the portal and the API take the three ports above, or any other where one of them is in use.
///
/// # Errors
/// One line that says what is in the way, such as the port being in use.
pub fn run(port: u16) -> Result<(), String> {
    let front = free(port)?;
    let fault = |error: io::Error| format!("cannot start the demo: {error}");
    let sample = |nth| server::bind(front.checked_add(nth).unwrap_or(0));
    let (idp, portal, api) = (sample(1).map_err(fault)?, sample(2).map_err(fault)?, sample(3).map_err(fault)?);
    let port_of = |listener: &TcpListener| listener.local_addr().map(|address| address.port());
    let ports = Ports {
        front,
        provider: port_of(&idp).map_err(fault)?,
        portal: port_of(&portal).map_err(fault)?,
        api: port_of(&api).map_err(fault)?,
    };
    let place = Place::create().map_err(fault)?;
    let settings = place.settings(&ports).map_err(fault)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("demo")
        .enable_all()
        .build()
        .map_err(fault)?;
    start_provider(&runtime, idp, &place, &ports)?;
    start_upstreams(&runtime, portal, api, &ports);
    let block = announce::block(&ports, &place);
    let ready = move |_: &crate::config::Settings| {
        // A closed standard output is no reason to stop serving.
        let _ = io::stdout().write_all(block.as_bytes());
    };
    let ended = cli::run::run(&settings, Some(Box::new(ready)));
    runtime.shutdown_background();
    ended
}

/// The port to serve on, if nobody else does.
fn free(port: u16) -> Result<u16, String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => format!("port {port} is in use; choose another one with `--port`"),
        _ => format!("cannot listen on 127.0.0.1:{port}: {error}; choose another port with `--port`"),
    })?;
    listener.local_addr().map(|address| address.port()).map_err(|error| error.to_string())
}

fn start_provider(
    runtime: &tokio::runtime::Runtime,
    listener: TcpListener,
    place: &Place,
    ports: &Ports,
) -> Result<(), String> {
    let redirect_uri = format!("{}/.vestibule/callback/gitlab", ports.public_url());
    let client = Client { id: "vestibule-demo".to_owned(), secret: provider::random(), redirect_uri };
    let service_token = format!("glpat-{}", provider::random());
    let (hook, audit) = (provider::random(), provider::random());
    let write = |name, value: &str| {
        place.secret(name, value).map_err(|error| format!("cannot write the demo's secret `{name}`: {error}"))
    };
    write("gitlab", &client.secret)?;
    write("gitlab_api", &service_token)?;
    write("gitlab_hook", &hook)?;
    write("gitlab_audit", &audit)?;
    let hooks = Hooks::new(front_of(ports), &ports.public_url(), hook, audit);
    let provider = Arc::new(Provider::new(ports.issuer(), client, service_token, hooks)?);
    runtime.spawn(server::serve(listener, move |asked| {
        let provider = provider.clone();
        async move { provider.serve(&asked, SystemTime::now()).await }
    }));
    Ok(())
}

fn front_of(ports: &Ports) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, ports.front))
}

fn start_upstreams(runtime: &tokio::runtime::Runtime, portal: TcpListener, api: TcpListener, ports: &Ports) {
    let site = Arc::new(portal::Portal::new(front_of(ports), &ports.public_url()));
    runtime.spawn(server::serve(portal, move |asked| {
        let site = site.clone();
        async move { site.answer(asked).await }
    }));
    let services = Arc::new(api::Api::new(front_of(ports), &ports.public_url()));
    runtime.spawn(server::serve(api, move |asked| {
        let services = services.clone();
        async move { services.answer(&asked).await }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_which_port_is_in_use_and_what_to_do() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = taken.local_addr().expect("it is bound").port();
        assert_eq!(free(port), Err(format!("port {port} is in use; choose another one with `--port`")));
    }
}
