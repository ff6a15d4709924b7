//! Asks a token issuer for everything that its tokens need. Nothing is kept.

use super::{checks::TokenFault, issuer::Issuer};
use crate::{
    config::{KeySource, TokenIssuerSettings, TokenKind},
    finding::{Finding, Level},
};
use secrecy::SecretString;
use std::{sync::Arc, time::SystemTime};

/// A token that nobody gave to anybody.
const MADE_UP: &str = "vestibule-check-live-vestibule-check-live-0000";

/// Asks for discovery and keys, or what the issuer thinks of our client, at most 5 s each. Keys of the findings are those of the
/// issuer's entry.
pub async fn probe_issuer(settings: &Arc<TokenIssuerSettings>) -> Vec<Finding> {
    let issuer = Issuer::passing(settings.clone());
    let mut found = Vec::new();
    if issuer.has_keys() {
        found.push(issuer.keys_found().await);
    }
    if matches!(settings.kind, TokenKind::Introspection(_)) {
        found.push(issuer.introspection_found().await);
    }
    found
}

impl Issuer {
    async fn keys_found(&self) -> Finding {
        let key = match &self.settings.keys {
            KeySource::Discovery => "issuer",
            KeySource::Uri(_) => "jwks_uri",
            KeySource::Fixed(_) => "jwks_file",
        };
        let finding = |level, said: String| Finding::new(level, "signing keys", key, said);
        let read = match &self.settings.keys {
            KeySource::Fixed(_) => self.usable_keys(SystemTime::now()).map_err(|fault| fault.to_string()),
            KeySource::Discovery | KeySource::Uri(_) => self.fetched().await,
        };
        let keys = match read {
            Ok(keys) => keys,
            Err(cause) => return finding(Level::Fault, cause).help("no token of it can be verified without its keys"),
        };
        let algorithms = &self.settings.algorithms;
        let fits = |algorithm: &String| keys.fit(algorithm);
        match algorithms.iter().find(|algorithm| fits(algorithm)) {
            Some(algorithm) => {
                finding(Level::Good, format!("{} usable, among them for {algorithm}", keys.signing().count()))
            }
            None => finding(Level::Fault, format!("none is for {}", algorithms.join(" or ")))
                .help("list the algorithm that it signs with in `algorithms`"),
        }
    }

    /// Its answer to a made-up token: that it is not active, which only a client that it knows is told.
    async fn introspection_found(&self) -> Finding {
        let finding = |level, said: &str| Finding::new(level, "introspection", "endpoint", said);
        match self.ask(&SecretString::from(MADE_UP)).await {
            Err(TokenFault::Bad { .. }) => finding(Level::Good, "it answers, and knows our client"),
            Ok(_) => {
                finding(Level::Fault, "it takes a token that nobody gave").help("is this an introspection endpoint?")
            }
            Err(TokenFault::Unavailable { cause, .. }) => {
                finding(Level::Fault, &cause).help("look at `endpoint`, `client_id` and `client_secret`")
            }
        }
    }
}
