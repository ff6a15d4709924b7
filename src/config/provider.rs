//! `providers`: from as written to as meant.

use super::{
    ProviderKind, ProviderSettings,
    file::{KindFile, MembershipFile, ProviderFile, SecretFile},
    mask,
    meaning::{MONTH, Meaning, entry},
    mistake::Mistake,
    secret,
    value::{self, Expected},
};
use crate::principal::Name;
use secrecy::SecretString;
use std::{sync::Arc, time::Duration};

/// All providers that are free of mistakes.
pub(super) fn all(meaning: &mut Meaning<'_, '_>, written: &[ProviderFile]) -> Vec<Arc<ProviderSettings>> {
    if written.is_empty() {
        meaning
            .report
            .add(Mistake::new("providers", "`providers` is empty").expected("expected at least one provider"));
    }
    unique(meaning, "providers", written.iter().map(|it| it.name.as_deref()));
    let read: Vec<_> = written.iter().enumerate().map(|(index, it)| one(meaning, index, it)).collect();
    read.into_iter().flatten().map(Arc::new).collect()
}

/// Reports every name that an earlier entry of the list has already.
pub(super) fn unique<'a>(meaning: &mut Meaning<'_, '_>, list: &str, names: impl Iterator<Item = Option<&'a str>>) {
    let names: Vec<_> = names.collect();
    for (index, name) in names.iter().enumerate().filter_map(|(index, name)| Some((index, (*name)?))) {
        if let Some(first) = names[..index].iter().position(|other| *other == Some(name)) {
            let first = entry(list, first, "name");
            let help = format!("`{first}` on line {} has it already", meaning.report.line(&first));
            meaning.refuse(&entry(list, index, "name"), name, Expected::new("a name of its own").help(help));
        }
    }
}

/// A name of a provider or route.
pub(super) fn name(text: &str) -> Result<Name, Expected> {
    text.parse().map_err(|_| {
        let expected = Expected::new("a lower-case letter, then letters, digits and `-`, at most 63 in all");
        let better: String = text
            .to_ascii_lowercase()
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .skip_while(|c| !c.is_ascii_lowercase())
            .take(63)
            .collect();
        if better.is_empty() { expected } else { expected.help(format!("write `{better}`")) }
    })
}

fn one(meaning: &mut Meaning<'_, '_>, index: usize, written: &ProviderFile) -> Option<ProviderSettings> {
    let key = |key| entry("providers", index, key);
    let kind = kind(written.kind.unwrap_or_default());
    let name = meaning.read(&key("name"), written.name.as_deref(), name);
    let title = meaning.text(&key("title"), written.title.as_deref());
    let issuer = written.issuer.clone();
    let checked = meaning.read(&key("issuer"), issuer.as_deref(), value::issuer);
    let client_id = meaning.text(&key("client_id"), written.client_id.as_deref());
    let client_secret = written.client_secret.as_ref().and_then(|it| secret(meaning, &key("client_secret"), it));
    let scopes = scopes(meaning, &key("scopes"), written.scopes.as_deref(), kind);
    let membership =
        Membership::read(meaning, &key("membership"), written.membership.clone().unwrap_or_default(), kind);
    let name = name?;
    Some(ProviderSettings {
        kind,
        title: title.unwrap_or_else(|| usual_title(name.as_str()).to_owned()),
        name,
        issuer: checked.and(issuer)?,
        client_id: client_id?,
        client_secret: client_secret?,
        scopes,
        groups_claim: membership.claim,
        membership_refresh: membership.refresh,
        membership_outage: membership.outage,
        without_refresh: membership.without_refresh,
    })
}

fn kind(written: KindFile) -> ProviderKind {
    match written {
        KindFile::Gitlab => ProviderKind::Gitlab,
        KindFile::Okta => ProviderKind::Okta,
        KindFile::Keycloak => ProviderKind::Keycloak,
        KindFile::Oidc => ProviderKind::Oidc,
    }
}

fn secret(meaning: &mut Meaning<'_, '_>, key: &str, written: &SecretFile) -> Option<SecretString> {
    let (from, found) = match (&written.file, &written.env) {
        (Some(path), None) => {
            let from = format!("{key}.file");
            let found = meaning.path(path);
            let found = meaning.read(&from, Some(path), |_| secret::file(&found))?;
            (from, found)
        }
        (None, Some(name)) => {
            let from = format!("{key}.env");
            if !mask::is_variable(name) {
                // It may be the secret itself, so it is not shown.
                meaning.report.add(
                    Mistake::new(from, format!("`{key}.env` is not a name"))
                        .expected("expected letters, digits and `_`")
                        .help(
                            "write the name of the environment variable; the secret itself is never written here"
                                .to_owned(),
                        ),
                );
                return None;
            }
            let environment = meaning.environment;
            let found = meaning.read(&from, Some(name), |name| secret::variable(name, environment))?;
            (from, found)
        }
        (both, _) => {
            let how = if both.is_some() { "has two sources" } else { "has no source" };
            meaning.report.add(
                Mistake::new(key, format!("`{key}` {how}"))
                    .at_key()
                    .expected("expected `{ file: PATH }` or `{ env: NAME }`"),
            );
            return None;
        }
    };
    if let Some(warning) = &found.warning {
        meaning.report.warn(&from, warning);
    }
    Some(found.secret)
}

/// Source of what a scope may look like: RFC 6749, section 3.3.
fn scopes(meaning: &mut Meaning<'_, '_>, key: &str, written: Option<&[String]>, kind: ProviderKind) -> Vec<String> {
    let Some(scopes) = written else { return usual_scopes(kind) };
    for (index, scope) in scopes.iter().enumerate() {
        let fits = !scope.is_empty() && scope.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\');
        if !fits {
            let expected = Expected::new("one scope").help("write one scope an entry: no spaces, quotes or `\\`");
            meaning.refuse(&format!("{key}[{index}]"), scope, expected);
        } else if scopes[..index].contains(scope) {
            meaning.refuse(&format!("{key}[{index}]"), scope, Expected::new("every scope once"));
        }
    }
    if !scopes.iter().any(|scope| scope == "openid") {
        meaning.report.add(
            Mistake::new(key, format!("`{key}` lacks `openid`"))
                .expected("expected `openid` among these")
                .help("without it the provider sends no ID token".to_owned()),
        );
    }
    scopes.to_vec()
}

fn usual_scopes(kind: ProviderKind) -> Vec<String> {
    let scopes = match kind {
        ProviderKind::Okta => "openid profile email groups offline_access",
        ProviderKind::Gitlab | ProviderKind::Keycloak | ProviderKind::Oidc => "openid profile email",
    };
    scopes.split(' ').map(str::to_owned).collect()
}

struct Membership {
    claim: String,
    refresh: Duration,
    outage: Duration,
    without_refresh: Duration,
}

impl Membership {
    fn read(meaning: &mut Meaning<'_, '_>, key: &str, written: MembershipFile, kind: ProviderKind) -> Self {
        let second = Duration::from_secs(1);
        let longest = Duration::from_secs(5 * 60); // what is older counts as unknown
        let usual = if kind == ProviderKind::Gitlab { 60 * second } else { longest };
        let refresh = meaning.duration(&format!("{key}.refresh"), written.refresh.as_ref(), usual, second..=longest);
        let outage = meaning.duration(
            &format!("{key}.outage"),
            written.outage.as_ref(),
            3 * longest,
            Duration::ZERO..=Duration::from_secs(86_400),
        );
        let without = written.without_refresh.as_ref();
        let without_refresh =
            meaning.duration(&format!("{key}.without_refresh"), without, 12 * longest, second..=MONTH);
        let claim = meaning.text(&format!("{key}.claim"), written.claim.as_deref());
        Self { claim: claim.unwrap_or_else(|| "groups".to_owned()), refresh, outage, without_refresh }
    }
}

/// How the makers of well-known providers spell what people name them by; other names stand as they are.
fn usual_title(name: &str) -> &str {
    match name {
        "gitlab" => "GitLab",
        "okta" => "Okta",
        "keycloak" => "Keycloak",
        other => other,
    }
}
