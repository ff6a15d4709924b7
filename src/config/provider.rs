//! `providers`: from as written to as meant.

use super::{
    HookProof, MembershipApi, MembershipHook, ProviderSettings,
    file::{KindFile, MembershipApiFile, MembershipFile, MembershipHookFile, ProviderFile, SecretFile},
    kind::ProviderKind,
    mask,
    meaning::{MONTH, Meaning, entry},
    mistake::Mistake,
    particular::Particular,
    secret,
    value::{self, Expected},
};
use crate::{credential::ApiToken, principal::Name};
use base64::{Engine, engine::general_purpose::STANDARD};
use secrecy::{ExposeSecret, SecretString};
use std::{sync::Arc, time::Duration};

/// All providers that are free of mistakes.
pub(super) fn all(
    meaning: &mut Meaning<'_, '_>,
    written: Option<&[ProviderFile]>,
    tokens: bool,
) -> Vec<Arc<ProviderSettings>> {
    let written = match written {
        None if !tokens => {
            let lacks = Mistake::new("providers", "`providers` is missing").expected("expected at least one provider");
            meaning
                .report
                .add(lacks.help("or `token_issuers`, where nobody signs in and all callers have tokens".to_owned()));
            &[]
        }
        Some([]) => {
            let empty = Mistake::new("providers", "`providers` is empty").expected("expected at least one provider");
            meaning.report.add(empty);
            &[][..]
        }
        written => written.unwrap_or_default(),
    };
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
    let membership = written.membership.clone().unwrap_or_default();
    let membership = Membership::read(meaning, &key("membership"), membership, kind, checked.and(issuer.as_deref()));
    let particular = Particular::read(meaning, index, written, kind, checked.as_ref().and(issuer.as_deref()));
    let usual = ProviderSettings::new(name?, kind, &checked.and(issuer)?, &client_id?, client_secret?);
    Some(ProviderSettings {
        title: title.unwrap_or_else(|| usual.title.clone()),
        scopes: scopes.unwrap_or_else(|| usual.scopes.clone()),
        claims: particular.claims,
        groups_claim: membership.claim.or_else(|| usual.groups_claim.clone()),
        tenants: particular.tenants?,
        hosted_domains: particular.hosted_domains,
        graph: particular.graph,
        membership_refresh: membership.refresh,
        membership_outage: membership.outage,
        without_refresh: membership.without_refresh,
        api: membership.api,
        hook: membership.hook,
        ..usual
    })
}

/// The kind that is written.
pub(super) fn kind(written: KindFile) -> ProviderKind {
    match written {
        KindFile::Gitlab => ProviderKind::Gitlab,
        KindFile::Okta => ProviderKind::Okta,
        KindFile::Entra => ProviderKind::Entra,
        KindFile::Keycloak => ProviderKind::Keycloak,
        KindFile::Google => ProviderKind::Google,
        KindFile::Oidc => ProviderKind::Oidc,
    }
}

/// The secret that is written, if it can be read; its file is watched for changes.
pub(super) fn secret(meaning: &mut Meaning<'_, '_>, key: &str, written: &SecretFile) -> Option<SecretString> {
    let (from, found) = match (&written.file, &written.env) {
        (Some(path), None) => {
            let from = format!("{key}.file");
            let found = meaning.path(path);
            meaning.files.push(found.clone());
            let found = match secret::file(&found) {
                Err(_) if meaning.may_lack(key) => secret::not_at_hand(),
                found => meaning.read(&from, Some(path), |_| found)?,
            };
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
            let found = match secret::variable(name, environment) {
                Err(_) if meaning.may_lack(key) => secret::not_at_hand(),
                found => meaning.read(&from, Some(name), |_| found)?,
            };
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

/// Source: Standard Webhooks, on secrets.
fn is_signing_key(secret: &str) -> bool {
    STANDARD.decode(secret.strip_prefix("whsec_").unwrap_or(secret)).is_ok_and(|key| key.len() >= 16)
}

/// Source of what a scope may look like: RFC 6749, section 3.3.
fn scopes(
    meaning: &mut Meaning<'_, '_>,
    key: &str,
    written: Option<&[String]>,
    kind: ProviderKind,
) -> Option<Vec<String>> {
    let scopes = written?;
    for (index, scope) in scopes.iter().enumerate() {
        let fits = !scope.is_empty() && scope.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\');
        if !fits {
            let expected = Expected::new("one scope").help("write one scope an entry: no spaces, quotes or `\\`");
            meaning.refuse(&format!("{key}[{index}]"), scope, expected);
        } else if scopes[..index].contains(scope) {
            meaning.refuse(&format!("{key}[{index}]"), scope, Expected::new("every scope once"));
        }
    }
    let mut needed = vec![("openid", "without it the provider sends no ID token")];
    needed.extend(
        (kind == ProviderKind::Entra).then_some(("profile", "without it Entra does not say who somebody is: `oid`")),
    );
    for (scope, help) in needed {
        if !scopes.iter().any(|one| one == scope) {
            meaning.report.add(
                Mistake::new(key, format!("`{key}` lacks `{scope}`"))
                    .expected(format!("expected `{scope}` among these"))
                    .help(help.to_owned()),
            );
        }
    }
    Some(scopes.to_vec())
}

struct Membership {
    claim: Option<String>,
    refresh: Duration,
    outage: Duration,
    without_refresh: Duration,
    api: Option<MembershipApi>,
    hook: Option<MembershipHook>,
}

impl Membership {
    fn read(
        meaning: &mut Meaning<'_, '_>,
        key: &str,
        written: MembershipFile,
        kind: ProviderKind,
        issuer: Option<&str>,
    ) -> Self {
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
        if kind != ProviderKind::Gitlab {
            for (name, there) in [("api", written.api.is_some()), ("hook", written.hook.is_some())] {
                if there {
                    let only = format!("remove it: `{name}` is there for `kind: gitlab` alone");
                    let mistake =
                        Mistake::new(format!("{key}.{name}"), format!("`{key}.{name}` is for `kind: gitlab` only"));
                    meaning.report.add(mistake.at_key().expected("expected no such key here").help(only));
                }
            }
        }
        let api = written.api.as_ref().and_then(|it| api(meaning, &format!("{key}.api"), it, issuer));
        let hook = written.hook.as_ref().and_then(|it| hook(meaning, &format!("{key}.hook"), it));
        Self { claim, refresh, outage, without_refresh, api, hook }
    }
}

fn api(
    meaning: &mut Meaning<'_, '_>,
    key: &str,
    written: &MembershipApiFile,
    issuer: Option<&str>,
) -> Option<MembershipApi> {
    let token = match &written.token {
        Some(token) => secret(meaning, &format!("{key}.token"), token),
        None => {
            let lacks = Mistake::new(format!("{key}.token"), format!("`{key}` has no `token`"));
            meaning.report.add(lacks.expected("expected `{ file: PATH }` or `{ env: NAME }`"));
            None
        }
    };
    let url = match &written.url {
        Some(url) => meaning.read(&format!("{key}.url"), Some(url), value::api),
        None => issuer.map(|issuer| format!("{}/api/v4", issuer.trim_end_matches('/'))),
    };
    let token = token?;
    let lent = ApiToken::new(&token);
    Some(MembershipApi { token, lent, url: url?, rotate: written.rotate.unwrap_or(false) })
}

fn hook(meaning: &mut Meaning<'_, '_>, key: &str, written: &MembershipHookFile) -> Option<MembershipHook> {
    let mut read = |name: &str, one: &Option<SecretFile>| {
        one.as_ref().and_then(|it| secret(meaning, &format!("{key}.{name}"), it))
    };
    let (token, signing_key) = (read("token", &written.token), read("signing_key", &written.signing_key));
    let audit_token = read("audit_token", &written.audit_token);
    let proof = match (&written.token, &written.signing_key) {
        (Some(_), None) => token.map(HookProof::Token),
        (None, Some(_)) => signing_key.and_then(|secret| {
            if is_signing_key(secret.expose_secret()) {
                return Some(HookProof::SigningKey(secret));
            }
            let mistake = Mistake::new(format!("{key}.signing_key"), format!("`{key}.signing_key` is no signing key"));
            let expected = "expected `whsec_` and at least 16 bytes in base64";
            meaning
                .report
                .add(mistake.at_key().expected(expected).help("copy it as GitLab shows it, which is once".to_owned()));
            None
        }),
        (both, _) => {
            let how = if both.is_some() { "has two proofs" } else { "has no proof" };
            meaning.report.add(
                Mistake::new(key, format!("`{key}` {how}"))
                    .at_key()
                    .expected("expected `token` or `signing_key`")
                    .help("the one that is entered at GitLab's hook".to_owned()),
            );
            None
        }
    };
    Some(MembershipHook { proof: proof?, audit_token })
}

/// How the makers of well-known providers spell what people name them by; other names stand as they are.
pub(super) fn usual_title(name: &str) -> &str {
    match name {
        "gitlab" => "GitLab",
        "okta" => "Okta",
        "entra" => "Microsoft",
        "keycloak" => "Keycloak",
        "google" => "Google",
        other => other,
    }
}
