//! Our own cookies: their names, and how they are set and taken back.

use crate::{canonical::Host, config::Settings};
use std::{collections::HashSet, sync::Arc};

/// The names of our cookies, by the origin that people see.
#[derive(Clone, Debug)]
pub struct Cookies {
    /// Holds the session handle.
    pub session: Arc<str>,
    /// Binds sign-ins to this browser.
    pub binding: Arc<str>,
    secure: bool,
    /// Hosts with pages that other pages show in frames.
    framed: HashSet<Host>,
}

impl Cookies {
    /// `__Host-vestibule` over https. On loopback by plain http browsers would refuse that prefix; there the port stands in
    /// the name, since cookies do not tell ports apart.
    pub fn of(settings: &Settings) -> Self {
        let secure = !settings.loopback_http;
        let session = if secure {
            "__Host-vestibule".to_owned()
        } else {
            format!("vestibule-{}", settings.public_url.port_or_known_default().unwrap_or(80))
        };
        let framed = settings.routes.iter().filter(|route| !route.frame.is_empty()).map(|route| route.host.clone());
        Self { binding: format!("{session}-binding").into(), session: session.into(), secure, framed: framed.collect() }
    }

    /// A cookie for `host` only, out of reach of scripts, not sent with other sites' forms.
    ///
    /// Where other pages may show those of `host` in a frame, the cookie is sent there too, and kept apart for each site that
    /// does so (`Partitioned`, CHIPS): a page that shows another's never acts with the person's own session there.
    pub fn set(&self, host: &Host, name: &str, value: &str) -> String {
        self.written(name, value, self.framed.contains(host))
    }

    fn written(&self, name: &str, value: &str, framed: bool) -> String {
        match (self.secure, framed) {
            (false, _) => format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax"),
            (true, false) => format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax; Secure"),
            (true, true) => format!("{name}={value}; Path=/; HttpOnly; SameSite=None; Secure; Partitioned"),
        }
    }

    /// The same cookie, taken back.
    pub fn clear(&self, host: &Host, name: &str) -> String {
        format!("{}; Max-Age=0", self.set(host, name, ""))
    }

    /// Takes back what was set before pages of `host` were shown in frames, or while they were: browsers keep such a cookie
    /// beside the one of today, and send both.
    pub fn clear_former(&self, host: &Host, name: &str) -> Option<String> {
        self.secure.then(|| format!("{}; Max-Age=0", self.written(name, "", !self.framed.contains(host))))
    }
}
