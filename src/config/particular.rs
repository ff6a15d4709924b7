//! What only some kinds of provider have: tenants, hosted domains, Graph; and the names of claims.

use super::{
    ClaimNames,
    file::{ClaimsFile, ProviderFile},
    kind::{ProviderKind, SHARED},
    meaning::{Meaning, entry},
    mistake::Mistake,
    value::{self, Expected},
};
use crate::guid::Guid;
use url::Url;

/// Where Graph is for most.
const GRAPH: &str = "https://graph.microsoft.com";
/// The one issuer of Google.
const GOOGLE: &str = "https://accounts.google.com";
/// The tenant of everybody's private accounts, for which Microsoft has a word too.
const CONSUMERS: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";

/// What an entry of `providers` says beyond what every kind has.
pub(super) struct Particular {
    pub(super) claims: ClaimNames,
    /// None if a mistake is reported.
    pub(super) tenants: Option<Vec<Guid>>,
    pub(super) hosted_domains: Vec<String>,
    pub(super) graph: Option<Url>,
}

impl Particular {
    /// `issuer` is none where it is wrong already.
    pub(super) fn read(
        meaning: &mut Meaning<'_, '_>,
        index: usize,
        written: &ProviderFile,
        kind: ProviderKind,
        issuer: Option<&str>,
    ) -> Self {
        let key = |key| entry("providers", index, key);
        let graph = written.membership.as_ref().and_then(|it| it.graph.as_ref());
        only(meaning, &key("tenants"), written.tenants.is_some(), kind, ProviderKind::Entra);
        only(meaning, &key("hosted_domains"), written.hosted_domains.is_some(), kind, ProviderKind::Google);
        only(meaning, &key("membership.graph"), graph.is_some(), kind, ProviderKind::Entra);
        let tenants = match (kind, issuer) {
            (ProviderKind::Entra, Some(issuer)) => tenants(meaning, index, issuer, written.tenants.as_deref()),
            (ProviderKind::Entra, None) => None,
            (ProviderKind::Google, Some(issuer)) => {
                google(meaning, &key("issuer"), issuer);
                Some(Vec::new())
            }
            _ => Some(Vec::new()),
        };
        let hosted_domains = domains(meaning, &key("hosted_domains"), written.hosted_domains.as_deref());
        if kind == ProviderKind::Google && written.hosted_domains.is_none() {
            let said = "everybody with a Google account can sign in: list your domains in `hosted_domains`";
            meaning.report.warn(&key("issuer"), said);
        }
        let claim = written.membership.as_ref().and_then(|it| it.claim.as_deref());
        if let Some(claim) = claim.filter(|claim| graph.is_some() && *claim != "groups") {
            let expected = Expected::new("`groups`, which is what `membership.graph` reads");
            meaning.refuse(&key("membership.claim"), claim, expected.help("remove one of the two"));
        }
        let url = graph.map(|it| it.url.as_deref().unwrap_or(GRAPH));
        let graph = meaning.read(&key("membership.graph.url"), url, value::server);
        Self { claims: claims(meaning, &key("claims"), written.claims.as_ref()), tenants, hosted_domains, graph }
    }
}

/// Refuses a key of another kind of provider: there it would restrict nothing.
fn only(meaning: &mut Meaning<'_, '_>, key: &str, written: bool, kind: ProviderKind, fitting: ProviderKind) {
    let name = if fitting == ProviderKind::Entra { "entra" } else { "google" };
    if written && kind != fitting {
        meaning.report.add(
            Mistake::new(key, format!("`{key}` is for `kind: {name}` only"))
                .at_key()
                .expected("does nothing here")
                .help("remove the key, or change `kind`".to_owned()),
        );
    }
}

/// The tenants whose people may sign in: those that are listed, of an issuer for many; the issuer's own, of any other.
fn tenants(meaning: &mut Meaning<'_, '_>, index: usize, issuer: &str, written: Option<&[String]>) -> Option<Vec<Guid>> {
    let key = entry("providers", index, "tenants");
    let segment =
        meaning.read(&entry("providers", index, "issuer"), Some(issuer), |text| authority(text).map(str::to_owned))?;
    let own = segment.parse::<Guid>().ok();
    let Some(written) = written.filter(|list| !list.is_empty()) else {
        if own.is_none() {
            meaning.report.add(
                Mistake::new(&key, format!("`{key}` is missing, and `issuer` signs in people of every tenant"))
                    .expected("expected a key `tenants` here")
                    .help("list the ids of the tenants whose people may come in, such as `[72f988bf-86f1-41af-91ab-2d7cd011db47]`".to_owned()),
            );
        }
        return own.map(|own| vec![own]);
    };
    let each = written.iter().enumerate().map(|(at, text)| {
        meaning.read(&format!("{key}[{at}]"), Some(text), |text| {
            let expected = Expected::new("the id of a tenant, a GUID such as `72f988bf-86f1-41af-91ab-2d7cd011db47`");
            let tenant = text.parse::<Guid>().map_err(|_| expected)?;
            match &own {
                Some(own) if *own != tenant => {
                    let help = "for people of several tenants write `issuer: https://login.microsoftonline.com/organizations/v2.0`";
                    Err(Expected::new(format!("`{own}`, the tenant of `issuer`")).help(help))
                }
                _ => Ok(tenant),
            }
        })
    });
    let mut tenants = each.collect::<Vec<_>>().into_iter().collect::<Option<Vec<_>>>()?;
    tenants.dedup();
    Some(tenants)
}

/// The segment of an issuer that says whose people sign in: a tenant's id, `common` or `organizations`.
fn authority(issuer: &str) -> Result<&str, Expected> {
    let expected = || Expected::new("`https://login.microsoftonline.com/TENANT/v2.0`");
    let overview = "TENANT is the tenant's id, a GUID from its overview page; or `organizations` and the key `tenants`";
    let above = issuer.strip_suffix("/v2.0").ok_or_else(|| expected().help(overview))?;
    let segment = above.rsplit('/').next().unwrap_or_default();
    match segment {
        "consumers" => Err(expected().help(format!("for private accounts TENANT is `{CONSUMERS}`"))),
        _ if SHARED.contains(&segment) => Ok(segment),
        // The document and every token have it in lower case.
        _ if segment.parse::<Guid>().is_ok_and(|guid| guid.as_str() == segment) => Ok(segment),
        _ => Err(expected().help(overview)),
    }
}

fn google(meaning: &mut Meaning<'_, '_>, key: &str, issuer: &str) {
    let is_test = Url::parse(issuer).is_ok_and(|url| value::is_loopback(&url));
    if issuer != GOOGLE && !is_test {
        let help = "any other provider is `kind: oidc`";
        meaning.refuse(key, issuer, Expected::new(format!("`{GOOGLE}`")).help(help));
    }
}

fn domains(meaning: &mut Meaning<'_, '_>, key: &str, written: Option<&[String]>) -> Vec<String> {
    let Some(written) = written else { return Vec::new() };
    if written.is_empty() {
        meaning.report.add(
            Mistake::new(key, format!("`{key}` is empty"))
                .expected("expected at least one domain")
                .help("nobody could sign in: list your domains, such as `[example.com]`".to_owned()),
        );
    }
    let each = written.iter().enumerate().filter_map(|(at, text)| {
        meaning.read(&format!("{key}[{at}]"), Some(text), |text| {
            let fits = text.contains('.')
                && text.split('.').all(|label| {
                    !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                });
            let expected = Expected::new("a domain, such as `example.com`");
            if fits { Ok(text.to_ascii_lowercase()) } else { Err(expected) }
        })
    });
    each.collect()
}

fn claims(meaning: &mut Meaning<'_, '_>, key: &str, written: Option<&ClaimsFile>) -> ClaimNames {
    let usual = ClaimNames::default();
    let Some(written) = written else { return usual };
    let mut read = |name: &str, written: &Option<String>| meaning.text(&format!("{key}.{name}"), written.as_deref());
    ClaimNames {
        login: read("login", &written.login),
        email: read("email", &written.email).unwrap_or(usual.email),
        name: read("name", &written.name).unwrap_or(usual.name),
    }
}
