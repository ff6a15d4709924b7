//! The answers so far. Each is read by the parsers of the configuration, as a part of one that is not written yet.

use crate::config::{self, ConfigError, Settings};
use std::path::Path;
use url::{Host, Url};

/// What stands in for the secret while answers are checked.
const SECRET: &str = "VESTIBULE_INIT";

/// What has to be known.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Field {
    PublicUrl,
    Kind,
    Issuer,
    /// Of Google only.
    Domain,
    ClientId,
    Upstream,
    Allow,
}

/// All of them, in the order in which they are asked.
pub(super) const FIELDS: [Field; 7] =
    [Field::PublicUrl, Field::Kind, Field::Issuer, Field::Domain, Field::ClientId, Field::Upstream, Field::Allow];

impl Field {
    /// The flag that says it.
    pub(super) fn flag(self) -> &'static str {
        match self {
            Self::PublicUrl => "--public-url",
            Self::Kind => "--kind",
            Self::Issuer => "--issuer",
            Self::Domain => "--hosted-domain",
            Self::ClientId => "--client-id",
            Self::Upstream => "--upstream",
            Self::Allow => "--allow",
        }
    }

    /// The keys whose mistakes are those of this answer.
    fn keys(self) -> &'static [&'static str] {
        match self {
            Self::PublicUrl => &["public_url", "listen", "trusted_proxies"],
            Self::Kind => &["providers[0].kind"],
            Self::Issuer => &["providers[0].issuer", "providers[0].tenants"],
            Self::Domain => &["providers[0].hosted_domains"],
            Self::ClientId => &["providers[0].client_id"],
            Self::Upstream => &["routes[0].upstream"],
            Self::Allow => &["routes[0].allow"],
        }
    }

    /// A value that is well, while the answer is not known.
    fn filler(self) -> &'static str {
        match self {
            Self::PublicUrl => "https://portal.example.com",
            Self::Kind => "oidc",
            Self::Issuer => "https://sso.example.com",
            Self::Domain => "example.com",
            Self::ClientId => "client",
            Self::Upstream => "http://127.0.0.1:7007",
            Self::Allow => "signed-in",
        }
    }
}

/// The answers so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Draft([Option<String>; FIELDS.len()]);

impl Draft {
    /// What was answered, or what stands in for it.
    pub(super) fn get(&self, field: Field) -> &str {
        self.0[field as usize].as_deref().unwrap_or(match field {
            Field::Issuer if self.is_google() => "https://accounts.google.com",
            field => field.filler(),
        })
    }

    /// What is not answered yet. Google has one issuer, and people of many domains.
    pub(super) fn missing(&self) -> impl Iterator<Item = Field> {
        let left_out = if self.is_google() { Field::Issuer } else { Field::Domain };
        FIELDS.into_iter().filter(move |field| *field != left_out && self.0[*field as usize].is_none())
    }

    fn is_google(&self) -> bool {
        self.0[Field::Kind as usize].as_deref() == Some("google")
    }

    /// The keys of the provider's entry that only its kind has, a line each.
    pub(super) fn particular(&self) -> String {
        match self.is_google() {
            true => format!("    hosted_domains: [{}]\n", scalar(self.get(Field::Domain))),
            false => String::new(),
        }
    }

    /// Takes an answer.
    ///
    /// # Errors
    /// What is wrong with it, and what to do; it is not taken.
    pub(super) fn answer(&mut self, field: Field, text: &str) -> Result<(), Vec<String>> {
        let before = self.0[field as usize].replace(text.trim().to_owned());
        let wrong = self.mistakes(field.keys(), &format!("{{ env: {SECRET} }}"), Path::new(""));
        if wrong.is_empty() {
            return Ok(());
        }
        self.0[field as usize] = before;
        Err(wrong)
    }

    /// Reads the secret in a file, which may be named from `dir`.
    ///
    /// # Errors
    /// What is wrong with it, and what to do.
    pub(super) fn secret_file(&self, path: &str, dir: &Path) -> Result<(), Vec<String>> {
        let wrong = self.mistakes(&["providers[0].client_secret"], &format!("{{ file: {} }}", scalar(path)), dir);
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }

    /// The settings that the answers mean.
    ///
    /// # Errors
    /// What is wrong with them together.
    pub(super) fn settings(&self) -> Result<Settings, String> {
        let text = self.text(&format!("{{ env: {SECRET} }}"));
        config::draft(&text, Path::new("vestibule.yaml"), &[SECRET]).map_err(|errors| errors.to_string())
    }

    /// The provider's name, which begins the ids of its people and groups.
    pub(super) fn provider(&self) -> &str {
        match self.get(Field::Kind) {
            kind @ ("gitlab" | "okta" | "entra" | "keycloak" | "google") => kind,
            _ => "sso",
        }
    }

    /// Where we listen: where a plain URL leads, or behind what ends TLS on this machine.
    pub(super) fn listen(&self) -> String {
        let behind = "127.0.0.1:8080";
        let Ok(url) = Url::parse(self.get(Field::PublicUrl)) else { return behind.to_owned() };
        let host = match url.host() {
            _ if url.scheme() != "http" => return behind.to_owned(),
            Some(Host::Ipv6(address)) => format!("[{address}]"),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Domain(_)) | None => "127.0.0.1".to_owned(),
        };
        format!("{host}:{}", url.port().unwrap_or(80))
    }

    /// TLS ends in front of us.
    pub(super) fn is_behind(&self) -> bool {
        self.get(Field::PublicUrl).starts_with("https")
    }

    /// What has to be registered at the provider.
    pub(super) fn redirect_uri(&self) -> String {
        self.ours(&format!("callback/{}", self.provider()))
    }

    /// The address of an endpoint of ours.
    pub(super) fn ours(&self, endpoint: &str) -> String {
        let origin = Url::parse(self.get(Field::PublicUrl)).map(|url| url.origin().ascii_serialization());
        format!("{}/.vestibule/{endpoint}", origin.unwrap_or_default())
    }

    fn mistakes(&self, keys: &[&str], secret: &str, dir: &Path) -> Vec<String> {
        let of_ours = |error: &&ConfigError| {
            keys.iter().any(|key| {
                error.key.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
            })
        };
        match config::draft(&self.text(secret), &dir.join("vestibule.yaml"), &[SECRET]) {
            Ok(_) => Vec::new(),
            Err(errors) => errors.all().iter().find(of_ours).map(said).unwrap_or_default(),
        }
    }

    fn text(&self, secret: &str) -> String {
        let of = |field| scalar(self.get(field));
        let allow: Vec<_> =
            self.get(Field::Allow).split([',', ' ']).filter(|one| !one.is_empty()).map(scalar).collect();
        format!(
            "public_url: {}\nlisten: {}\n{}providers:\n  - name: {}\n    kind: {}\n    issuer: {}\n    client_id: {}\n    \
             client_secret: {secret}\n{}routes:\n  - name: portal\n    upstream: {}\n    allow: [{}]\n",
            of(Field::PublicUrl),
            scalar(&self.listen()),
            if self.is_behind() { "trusted_proxies: [127.0.0.1]\n" } else { "" },
            self.provider(),
            of(Field::Kind),
            of(Field::Issuer),
            of(Field::ClientId),
            self.particular(),
            of(Field::Upstream),
            allow.join(", "),
        )
    }
}

/// A mistake as somebody reads it who has not seen the file: what is wrong, what was expected, what to do.
fn said(error: &ConfigError) -> Vec<String> {
    let message = error.message.replace("providers[0].", "").replace("routes[0].", "");
    let first = if error.expected.is_empty() { message } else { format!("{message}, {}", error.expected) };
    std::iter::once(first).chain(error.help.clone()).collect()
}

/// A text as YAML writes it: plain where that has one reading, else in quotes.
pub(super) fn scalar(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._/:@+".contains(&b);
    let word = ["null", "true", "false", "yes", "no", "on", "off"].contains(&text.to_ascii_lowercase().as_str());
    let fits = text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '/')
        && text.bytes().all(plain)
        && !text.ends_with(':')
        && !word;
    if fits || text.parse::<std::net::SocketAddrV4>().is_ok() {
        text.to_owned()
    } else {
        serde_json::Value::from(text).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(field: Field, text: &str) -> Vec<String> {
        Draft::default().answer(field, text).expect_err("a mistake")
    }

    #[test]
    fn an_answer_is_read_as_the_configuration_reads_it() {
        assert_eq!(
            wrong(Field::PublicUrl, "portal.example.com"),
            [
                "`public_url` is `portal.example.com`, expected an origin, such as `https://portal.example.com`",
                "it begins with `https://` or `http://`",
            ]
        );
        assert_eq!(
            wrong(Field::PublicUrl, "http://portal.example.com")[1],
            "plain http is for `localhost`, `*.localhost`, `127.0.0.0/8` and `::1` only"
        );
        assert_eq!(wrong(Field::Kind, "gitlub")[1], "did you mean `gitlab`?");
        assert_eq!(
            wrong(Field::Issuer, "https://a/.well-known/openid-configuration")[1],
            "leave out `/.well-known/openid-configuration`"
        );
        assert_eq!(
            wrong(Field::Upstream, "127.0.0.1:7007")[0],
            "`upstream` is `127.0.0.1:7007`, expected the upstream's URL, such as `http://127.0.0.1:7007`"
        );
        assert_eq!(wrong(Field::Upstream, "http://127.0.0.1:8080")[1], "here we listen ourselves");
        assert_eq!(wrong(Field::ClientId, "")[0], "`client_id` is ``, expected one line of text, at most 1024 bytes");
        assert_eq!(wrong(Field::Allow, "acme/**")[1], "a group is written with its provider: `sso:acme/**`");
    }

    #[test]
    fn an_answer_that_is_wrong_changes_nothing() {
        let mut draft = Draft::default();
        draft.answer(Field::Kind, " gitlab ").expect("well");
        draft.answer(Field::Kind, "github").expect_err("a mistake");
        assert_eq!((draft.get(Field::Kind), draft.provider()), ("gitlab", "gitlab"));
        assert_eq!(Vec::from_iter(draft.missing()).len(), 5);
        draft.answer(Field::Allow, "gitlab:acme/**, signed-in").expect("well");
    }

    #[test]
    fn a_plain_url_is_listened_at_and_others_stand_behind_something() {
        for (url, listen) in [
            ("http://localhost:8080", "127.0.0.1:8080"),
            ("http://portal.localhost", "127.0.0.1:80"),
            ("http://[::1]:81", "[::1]:81"),
            ("http://127.0.0.2:81", "127.0.0.2:81"),
            ("https://portal.example.com", "127.0.0.1:8080"),
        ] {
            let mut draft = Draft::default();
            draft.answer(Field::PublicUrl, url).unwrap_or_else(|said| panic!("{url}: {said:?}"));
            assert_eq!(draft.listen(), listen, "{url}");
            assert!(draft.settings().is_ok(), "{url}");
        }
    }

    #[test]
    fn no_answer_becomes_anything_but_a_value() {
        for text in [
            "a: b", "a # b", "[a]", "{ a: b }", "*a", "&a", "!a", "null", "~", "a\"b", "'a", "- a", "a:", "0123",
            "${A}", "é", "a\\b",
        ] {
            let mut draft = Draft::default();
            match draft.answer(Field::ClientId, text) {
                Ok(()) => assert_eq!(draft.settings().expect("well").providers[0].client_id, text),
                Err(said) => assert!(text.contains("${"), "{text}: {said:?}"),
            }
        }
    }
}
