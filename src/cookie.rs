//! Our own cookies: their names, and how they are set and taken back.

use crate::config::Settings;
use std::sync::Arc;

/// The names of our cookies, by the origin that people see.
#[derive(Clone, Debug)]
pub struct Cookies {
    /// Holds the session handle.
    pub session: Arc<str>,
    /// Binds sign-ins to this browser.
    pub binding: Arc<str>,
    secure: bool,
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
        Self { binding: format!("{session}-binding").into(), session: session.into(), secure }
    }

    /// A cookie for this host only, out of reach of scripts, not sent with other sites' forms.
    pub fn set(&self, name: &str, value: &str) -> String {
        let secure = if self.secure { "; Secure" } else { "" };
        format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax{secure}")
    }

    /// The same cookie, taken back.
    pub fn clear(&self, name: &str) -> String {
        format!("{}; Max-Age=0", self.set(name, ""))
    }
}
