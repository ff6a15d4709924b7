//! `credential` of a route: from as written to as meant, and as it is shown.

use super::{
    ProviderSettings,
    file::{BasicFile, ConfigFile, CredentialFile, ProviderFile, RouteFile, SecretCredentialFile, SecretFile},
    meaning::{Meaning, entry},
    mistake::{Mistake, either, nearest},
    provider,
    tree::below,
    value::Expected,
};
use crate::{
    canonical::is_ours,
    credential::{Credential, PRIVATE_TOKEN, Secret, Value, sensitive},
    upstream::{Place, UpstreamSettings},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderName, HeaderValue, header::AUTHORIZATION};
use secrecy::{ExposeSecret, SecretString};
use std::{net::IpAddr, sync::Arc};
use zeroize::Zeroizing;

/// The word for the assertion.
const ASSERTION: &str = "assertion";
/// The forms of a secret.
const FORMS: [&str; 4] = ["bearer", "basic", "header", "gitlab_api"];

/// What a route's credential depends on beside what it says.
pub(super) struct Around<'a> {
    /// The providers as written and as meant; those with mistakes are missing there.
    pub(super) providers: (&'a [ProviderFile], &'a [Arc<ProviderSettings>]),
    /// The route's upstream; none if that has a mistake.
    pub(super) upstream: Option<&'a UpstreamSettings>,
}

/// What the upstream of the route at `index` gets; none only if a mistake is reported.
pub(super) fn read(
    meaning: &mut Meaning<'_, '_>,
    index: usize,
    route: &RouteFile,
    written: &CredentialFile,
    around: &Around<'_>,
) -> Option<Credential> {
    let key = &entry("routes", index, "credential");
    let written = match written {
        CredentialFile::One(word) if word == ASSERTION => return Some(Credential::Assertion),
        CredentialFile::One(word) => return not_the_word(meaning, key, word),
        CredentialFile::Many(many) => &**many,
    };
    lent_to_the_known(meaning, index, route.allow.as_deref().unwrap_or_default());
    if let Some(upstream) = around.upstream {
        kept_on_its_way(meaning, key, upstream);
    }
    let (name, value) = form(meaning, key, written, around.providers)?;
    Some(Credential::Secret(Secret { name, value, keep_cookies: written.keep_cookies.unwrap_or(false) }))
}

/// It may be the secret itself, so it is not shown.
fn not_the_word(meaning: &mut Meaning<'_, '_>, key: &str, word: &str) -> Option<Credential> {
    let help = match nearest(word, [ASSERTION]) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "a secret is never written here: put it into a file and write `{ bearer: { file: PATH } }`".to_owned(),
    };
    let expected = format!("expected `{ASSERTION}`, or a mapping with {}", either(&FORMS));
    meaning.report.add(Mistake::new(key, format!("`{key}` is another word")).expected(expected).help(help));
    None
}

/// The field and its value, of the one form that is written.
fn form(
    meaning: &mut Meaning<'_, '_>,
    key: &str,
    written: &SecretCredentialFile,
    providers: (&[ProviderFile], &[Arc<ProviderSettings>]),
) -> Option<(HeaderName, Value)> {
    let within = |name| below(key, name);
    let forms = (&written.bearer, &written.basic, (&written.header, &written.value), &written.gitlab_api);
    match forms {
        (Some(token), None, (None, None), None) => {
            let value = bearer(meaning, &within("bearer"), token)?;
            Some((AUTHORIZATION, Value::Fixed(value)))
        }
        (None, Some(pair), (None, None), None) => {
            let value = basic(meaning, &within("basic"), pair)?;
            Some((AUTHORIZATION, Value::Fixed(value)))
        }
        (None, None, (Some(name), Some(value)), None) => {
            let name = meaning.read(&within("header"), Some(name), header);
            let value = field(meaning, &within("value"), value);
            Some((name?, Value::Fixed(value?)))
        }
        (None, None, (None, None), Some(provider)) => {
            let token = gitlab_api(meaning, &within("gitlab_api"), provider, providers)?;
            Some((PRIVATE_TOKEN, token))
        }
        _ => {
            not_one_form(meaning, key, written);
            None
        }
    }
}

fn not_one_form(meaning: &mut Meaning<'_, '_>, key: &str, written: &SecretCredentialFile) {
    let pair = written.header.is_some() != written.value.is_some();
    let forms = [
        written.bearer.is_some(),
        written.basic.is_some(),
        written.header.is_some() || written.value.is_some(),
        written.gitlab_api.is_some(),
    ];
    let count = forms.into_iter().filter(|there| *there).count();
    let misspelt = FORMS.iter().chain(&["value"]).any(|form| meaning.report.knows(&below(key, form)));
    if count == 1 && pair {
        let (there, lacks) = if written.header.is_some() { ("header", "value") } else { ("value", "header") };
        let lacking = below(key, lacks);
        let mistake = Mistake::new(&lacking, format!("`{lacking}` is missing")).at_key();
        let help = format!("`{there}` is there: the name of the field stands in `header`, the secret in `value`");
        return meaning.report.add(mistake.expected(format!("expected a key `{lacks}` here")).help(help));
    }
    if count > 1 || !misspelt {
        let how = if count > 1 { "has several secrets" } else { "has no secret" };
        let mistake = Mistake::new(key, format!("`{key}` {how}")).at_key();
        meaning.report.add(mistake.expected(format!("expected one of {}", either(&FORMS))));
    }
}

/// Source: RFC 6750, section 2.1.
fn bearer(meaning: &mut Meaning<'_, '_>, key: &str, written: &SecretFile) -> Option<HeaderValue> {
    let secret = provider::secret(meaning, key, written)?;
    let fits = secret.expose_secret().bytes().all(|byte| byte.is_ascii_graphic());
    let help = "the token alone stands there: `Bearer` is put in front of it";
    made(meaning, key, fits, "Bearer ", &secret, ("expected a token of printable ASCII without spaces", help))
}

/// The value of the field as it is.
fn field(meaning: &mut Meaning<'_, '_>, key: &str, written: &SecretFile) -> Option<HeaderValue> {
    let secret = provider::secret(meaning, key, written)?;
    let text = secret.expose_secret();
    let fits = text.trim() == text;
    let help = "a field's value has no space at its ends and no letter outside ASCII";
    made(meaning, key, fits, "", &secret, ("expected a secret that a header field can hold", help))
}

/// Source: RFC 7617, section 2; both are in UTF-8.
fn basic(meaning: &mut Meaning<'_, '_>, key: &str, written: &BasicFile) -> Option<HeaderValue> {
    let user = meaning.text(&below(key, "user"), written.user.as_deref());
    let user = meaning.read(&below(key, "user"), user.as_deref(), |text| {
        let expected = Expected::new("a name without `:`").help("what follows the first `:` would be the password");
        if text.contains(':') { Err(expected) } else { Ok(text.to_owned()) }
    });
    let password = written.password.as_ref().and_then(|it| provider::secret(meaning, &below(key, "password"), it));
    let pair = Zeroizing::new(format!("{}:{}", user?, password?.expose_secret()));
    sensitive(&Zeroizing::new(format!("Basic {}", STANDARD.encode(&*pair))))
}

/// The value of a field, if the secret `fits` and a header can hold it.
fn made(
    meaning: &mut Meaning<'_, '_>,
    key: &str,
    fits: bool,
    scheme: &str,
    secret: &SecretString,
    (expected, help): (&str, &str),
) -> Option<HeaderValue> {
    let text = Zeroizing::new(format!("{scheme}{}", secret.expose_secret()));
    let value = sensitive(&text).filter(|_| fits);
    if value.is_none() {
        let mistake = Mistake::new(key, format!("the secret of `{key}` cannot be sent")).at_key();
        meaning.report.add(mistake.expected(expected).help(help.to_owned()));
    }
    value
}

/// The name of a field that is nobody else's.
fn header(text: &str) -> Result<HeaderName, Expected> {
    let expected = || Expected::new("the name of a header field, such as `X-Api-Key`");
    let name = HeaderName::from_bytes(text.as_bytes())
        .map_err(|_| expected().help("it has letters, digits and `-`, and no `:` behind it"))?;
    if is_ours(&name) {
        let help = "this field is about the connection, frames the message, or is set or removed by us";
        return Err(expected().help(help));
    }
    Ok(name)
}

/// The token that is kept for reading memberships.
fn gitlab_api(
    meaning: &mut Meaning<'_, '_>,
    key: &str,
    name: &str,
    (written, meant): (&[ProviderFile], &[Arc<ProviderSettings>]),
) -> Option<Value> {
    let with_api = || written.iter().filter(|it| it.membership.as_ref().is_some_and(|it| it.api.is_some()));
    let names = || with_api().filter_map(|it| it.name.as_deref());
    meaning.read(key, Some(name), |text| {
        let there = written.iter().any(|it| it.name.as_deref() == Some(text));
        let expected = || Expected::new("a provider with `membership.api`");
        match nearest(text, names()) {
            _ if names().any(|name| name == text) => Ok(()),
            Some(near) => Err(expected().help(format!("did you mean `{near}`?"))),
            None if there => Err(expected().help(format!("`{text}` has none: write its token there"))),
            None => Err(expected().help("the token that is kept and renewed there is what the upstream gets")),
        }
    })?;
    let provider = meant.iter().find(|it| it.name.as_str() == name)?; // without it a mistake is reported there
    provider.api.as_ref().map(|api| Value::GitlabApi(api.lent.clone()))
}

/// Whoever may come here acts with the secret.
fn lent_to_the_known(meaning: &mut Meaning<'_, '_>, index: usize, allow: &[String]) {
    for public in allow.iter().enumerate().filter(|(_, text)| *text == "public").map(|(at, _)| at) {
        let help = "everybody would act with the secret of `credential`: remove `public`, or give the public pages a route without one";
        let key = format!("{}[{public}]", entry("routes", index, "allow"));
        meaning.refuse(&key, "public", Expected::new("somebody who is known, such as `signed-in`").help(help));
    }
}

/// A secret travels where nobody can read it, and to nobody who cannot prove who they are.
fn kept_on_its_way(meaning: &mut Meaning<'_, '_>, key: &str, upstream: &UpstreamSettings) {
    let verified = upstream.tls.as_ref().map(|tls| !tls.source.insecure_skip_verify);
    if verified == Some(true) {
        return;
    }
    let Some(place) = upstream.places.iter().find(|place| !is_loopback(place)) else { return };
    let (url, at) = (upstream.url(place), key.trim_end_matches(".credential"));
    let (how, help) = match verified {
        None => (
            "in clear text",
            format!("write `https` in `{at}.upstream`, or let the upstream listen on loopback or on a Unix socket"),
        ),
        Some(_) => (
            "to whoever answers there",
            format!("write `ca` in `{at}.upstream.tls` in place of `insecure_skip_verify`"),
        ),
    };
    let mistake = Mistake::new(key, format!("`{key}` would go {how}: to `{url}`")).at_key();
    meaning.report.add(mistake.expected("needs `https` that is verified, or loopback").help(help));
}

fn is_loopback(place: &Place) -> bool {
    match place {
        Place::Unix { .. } => true,
        Place::Tcp { host, .. } => match host.parse::<IpAddr>() {
            Ok(address) => address.to_canonical().is_loopback(),
            Err(_) => &**host == "localhost" || host.ends_with(".localhost"),
        },
    }
}

/// The environment variables that hold secrets of routes.
pub(super) fn variables(written: &ConfigFile) -> impl Iterator<Item = &str> {
    let credentials = written.routes.iter().flatten().filter_map(|route| route.credential.as_ref());
    credentials.filter_map(|it| secret_of(it)?.env.as_deref())
}

fn secret_of(written: &CredentialFile) -> Option<&SecretFile> {
    let CredentialFile::Many(written) = written else { return None };
    let password = || written.basic.as_ref().and_then(|basic| basic.password.as_ref());
    written.bearer.as_ref().or_else(password).or(written.value.as_ref())
}

/// The same as a file would have it; `secret` shows where a secret is.
pub(super) fn shown(
    settings: &Credential,
    written: &CredentialFile,
    secret: impl Fn(&Option<SecretFile>) -> Option<SecretFile>,
) -> CredentialFile {
    let (Credential::Secret(settings), CredentialFile::Many(written)) = (settings, written) else {
        return CredentialFile::One(ASSERTION.to_owned());
    };
    CredentialFile::Many(Box::new(SecretCredentialFile {
        bearer: secret(&written.bearer),
        basic: written
            .basic
            .as_ref()
            .map(|basic| BasicFile { user: basic.user.clone(), password: secret(&basic.password) }),
        header: written.header.clone(),
        value: secret(&written.value),
        gitlab_api: written.gitlab_api.clone(),
        keep_cookies: Some(settings.keep_cookies),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{
        changes,
        tests::{START, settings_in_place, with},
    };
    use crate::route::Route;

    const LOOPBACK: [&str; 7] = [
        "http://127.0.0.1:7007",
        "http://127.9.9.9",
        "http://[::1]:80",
        "http://localhost:7007",
        "http://ledger.localhost",
        "unix:/run/ledger.sock",
        "https://ledger.internal",
    ];

    /// The field and the value that an upstream gets.
    fn sent(credential: &str) -> (String, String) {
        let settings = settings_in_place(&with("allow:", &format!("credential: {credential}, allow:")));
        let secret = settings.routes[0].secret().expect("a secret").clone();
        let value = secret.now().expect("a value");
        assert!(value.is_sensitive());
        let shown = format!("{settings:?} {}", settings.effective);
        for planted in ["hunter2", "hunter3", "aHVudGVyMg", value.to_str().expect("ASCII")] {
            assert!(!shown.contains(planted), "{planted} is in {shown}");
        }
        (secret.name.to_string(), value.to_str().expect("ASCII").to_owned())
    }

    #[test]
    fn s98_every_form_is_ready_to_be_sent_and_never_shown() {
        for (credential, name, value) in [
            ("{ bearer: { file: secrets/gitlab } }", "authorization", "Bearer hunter2"),
            ("{ bearer: { env: OKTA_SECRET } }", "authorization", "Bearer hunter3"),
            ("{ basic: { user: us, password: { file: secrets/gitlab } } }", "authorization", "Basic dXM6aHVudGVyMg=="),
            ("{ header: X-Api-Key, value: { file: secrets/gitlab } }", "x-api-key", "hunter2"),
            ("{ header: Authorization, value: { file: secrets/words } }", "authorization", "Bearer hunter2"),
        ] {
            assert_eq!(sent(credential), (name.to_owned(), value.to_owned()), "{credential}");
        }
    }

    #[test]
    fn the_token_of_the_api_is_the_one_that_the_provider_keeps() {
        let api =
            "client_secret: { file: secrets/gitlab }, membership: { api: { token: { file: secrets/gitlab_api } } }";
        let text = with("allow:", "credential: { gitlab_api: gitlab }, allow:");
        let settings = settings_in_place(&text.replace("client_secret: { file: secrets/gitlab }", api));
        let secret = settings.routes[0].secret().expect("a secret");
        assert_eq!(secret.name, PRIVATE_TOKEN);
        assert_eq!(secret.now().expect("a token"), "glpat-7");
        settings.providers[0].api.as_ref().expect("an API").lent.replace(&"glpat-8".into());
        assert_eq!(secret.now().expect("a token"), "glpat-8");
    }

    #[test]
    fn no_field_is_anybody_elses() {
        for name in ["X-Api-Key", "x_api_key", "Authorization", "PRIVATE-TOKEN", "X-Auth-Token"] {
            assert!(header(name).is_ok(), "{name}");
        }
        for name in [
            "",
            "X Api",
            "X-Api-Key:",
            "Connection",
            "keep-alive",
            "Proxy-Authorization",
            "TE",
            "Trailer",
            "Upgrade",
            "Transfer-Encoding",
            "content-length",
            "Content_Type",
            "Expect",
            "Host",
            "Cookie",
            "_cookie_",
            "X-Request-Id",
            "X-Forwarded-For",
            "Vestibule-Assertion",
            "vestibule.assertion",
            "traceparent",
            "Sec-WebSocket-Key",
            "HTTP2-Settings",
        ] {
            assert!(header(name).is_err(), "{name}");
        }
    }

    #[test]
    fn loopback_and_verified_https_are_safe() {
        for upstream in LOOPBACK {
            let text = with("allow:", "credential: { bearer: { file: secrets/gitlab } }, allow:");
            let settings = settings_in_place(&text.replace("http://127.0.0.1:7007", upstream));
            assert!(settings.routes[0].secret().is_some() && settings.warnings.is_empty(), "{upstream}");
        }
        let anybody = with("allow:", "credential: assertion, allow:").replace("127.0.0.1:7007", "10.0.0.7");
        let open = settings_in_place(&anybody.replace("\"gitlab:acme/**\"", "public"));
        assert!(open.routes[0].secret().is_none(), "what is signed for one audience may travel as all else does");
    }

    #[test]
    fn a_replaced_secret_is_a_change() {
        let text = |from: &str| with("allow:", &format!("credential: {{ bearer: {{ file: {from} }} }}, allow:"));
        let one = settings_in_place(&text("secrets/gitlab"));
        let mut other = settings_in_place(&text("secrets/gitlab_api"));
        other.effective = one.effective.clone(); // as it is when the file says something else
        assert_eq!(Vec::from_iter(changes(&one, &other)), ["routes[backstage].credential"]);
    }

    /// Whoever copies a route from the page has one that loads.
    #[test]
    fn the_page_has_routes_that_load() {
        let loaded = routes_of(include_str!("../../docs/credentials.md"));
        assert!(loaded.len() == 3 && loaded.iter().all(|route| route.credential.is_some()), "{loaded:?}");
        let loaded = routes_of(include_str!("../../docs/backstage.md"));
        let of_people = |route: &&Route| route.credential.is_none() && route.token_issuers.is_empty();
        assert_eq!((loaded.len(), loaded.iter().filter(of_people).count()), (2, 1), "{loaded:?}");
    }

    /// The routes that stand on a page, loaded.
    fn routes_of(page: &str) -> Vec<Route> {
        let blocks = page.split("```yaml\n").skip(1).filter_map(|block| block.split("```").next());
        let mut loaded = Vec::new();
        for block in blocks.filter(|block| block.contains("routes:\n")) {
            let (before, start) = START.split_once("providers:\n").expect("providers");
            let (providers, _) = start.split_once("routes:\n").expect("routes");
            let own = if block.starts_with("providers:") { String::new() } else { format!("providers:\n{providers}") };
            let block = block.replace("secrets/ledger", "secrets/gitlab").replace("internal-ca", "ca");
            let settings = settings_in_place(&format!("{before}{own}{block}policies: ./policies\n"));
            loaded.extend(settings.routes);
        }
        loaded
    }
}
