//! `token_issuers`: from as written to as meant.

use super::{
    ProviderKind, ProviderSettings,
    file::{ProviderFile, TokenIssuerFile, TokenKindFile, TokenPrincipalFile},
    meaning::{MONTH, Meaning, entry},
    mistake::{Mistake, either, nearest},
    provider::{name, secret, unique},
    tokens::{
        GitlabCi, Introspection, JwtTokens, KeySource, TokenClaims, TokenIssuerSettings, TokenKind, TokenPrincipal,
    },
    value::{self, Expected},
};
use crate::{group::GroupPath, principal::Name};
use serde_json::{Map, Value};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// The signature algorithms that a token may use: asymmetric, and never `none`.
pub(crate) const ALGORITHMS: [&str; 9] =
    ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"];

const HOUR: Duration = Duration::from_secs(3600);
const LARGEST_KEYS: u64 = 1 << 20;

/// All token issuers that are free of mistakes.
pub(super) fn all(
    meaning: &mut Meaning<'_, '_>,
    written: &[TokenIssuerFile],
    providers: &[Arc<ProviderSettings>],
    named: &[ProviderFile],
) -> Vec<Arc<TokenIssuerSettings>> {
    unique(meaning, "token_issuers", written.iter().map(|it| it.name.as_deref()));
    let each = written.iter().enumerate();
    let read: Vec<_> = each.map(|(index, written)| Entry { index, written, providers, named }.read(meaning)).collect();
    let issuers: Vec<_> = read.into_iter().flatten().map(Arc::new).collect();
    apart(meaning, written, &issuers);
    issuers
}

/// Tokens of one `iss` belong to the issuer whose audience they have, so no audience may be of two.
fn apart(meaning: &mut Meaning<'_, '_>, written: &[TokenIssuerFile], issuers: &[Arc<TokenIssuerSettings>]) {
    for (at, issuer) in issuers.iter().enumerate() {
        let begins = |other: &&Arc<TokenIssuerSettings>| match (issuer.prefix(), other.prefix()) {
            (Some(one), Some(other)) => one.starts_with(other) || other.starts_with(one),
            (None, _) | (_, None) => false,
        };
        if let Some(other) = issuers[..at].iter().find(begins) {
            let index = written.iter().position(|it| it.name.as_deref() == Some(issuer.name.as_str()));
            let key = entry("token_issuers", index.unwrap_or(at), "prefix");
            let message = format!("tokens of `{}` begin as those of `{}` do", issuer.name, other.name);
            let help = "one issuer would be asked about the tokens of the other";
            meaning.report.add(
                Mistake::new(&key, message)
                    .at_key()
                    .expected("expected prefixes of which none begins another")
                    .help(help.to_owned()),
            );
        }
        let position = |name: &Name| written.iter().position(|it| it.name.as_deref() == Some(name.as_str()));
        for other in &issuers[..at] {
            let both = issuer.audiences.iter().find(|audience| other.audiences.contains(audience));
            let (Some(audience), Some(index)) = (both, position(&issuer.name)) else { continue };
            if issuer.issuer.is_some() && issuer.issuer == other.issuer {
                let key = entry("token_issuers", index, "audiences");
                let message = format!("`{key}` has `{audience}`, which `{}` of the same issuer has too", other.name);
                let help = "nobody could say whose token one for both is: give each an audience of its own";
                meaning.report.add(
                    Mistake::new(key, message).at_key().expected("expected another audience").help(help.to_owned()),
                );
            }
        }
    }
}

/// One entry, and what it has to know of the rest.
struct Entry<'a> {
    index: usize,
    written: &'a TokenIssuerFile,
    providers: &'a [Arc<ProviderSettings>],
    /// As they are written, those with mistakes too.
    named: &'a [ProviderFile],
}

impl Entry<'_> {
    fn key(&self, key: &str) -> String {
        entry("token_issuers", self.index, key)
    }

    fn read(&self, meaning: &mut Meaning<'_, '_>) -> Option<TokenIssuerSettings> {
        let written = self.written;
        let name = meaning.read(&self.key("name"), written.name.as_deref(), |text| self.name(text));
        let kind = written.kind?; // a missing kind is reported by the schema
        self.no_others(meaning, kind);
        let provider = self.provider(meaning, kind);
        let issuer = self.issuer(meaning, kind, provider.as_ref());
        let audiences = self.audiences(meaning, kind);
        let algorithms = self.algorithms(meaning);
        let minute = Duration::from_secs(60);
        let max_age = meaning.duration(&self.key("max_age"), written.max_age.as_ref(), HOUR, minute..=MONTH);
        let keys = self.keys(meaning);
        let kind = match kind {
            TokenKindFile::GitlabCi => TokenKind::GitlabCi(self.gitlab_ci(meaning, provider.as_ref(), issuer.as_ref())),
            TokenKindFile::Jwt => TokenKind::Jwt(JwtTokens {
                principal: self.principal(meaning)?,
                media_type: meaning.text(&self.key("typ"), written.media_type.as_deref()),
                claims: self.claims(meaning),
            }),
            TokenKindFile::Introspection => TokenKind::Introspection(self.introspection(meaning)?),
            TokenKindFile::Certificate => TokenKind::Certificate,
        };
        self.assertions_need_a_provider(meaning, &kind, provider.as_ref());
        let provider_kind = self.at(provider.as_ref()).map(|provider| provider.kind);
        let (name, issuer, audiences, keys) = (name?, issuer?, audiences?, keys?);
        Some(TokenIssuerSettings { name, kind, issuer, provider, provider_kind, audiences, algorithms, max_age, keys })
    }

    /// Another Vestibule speaks for people of its providers: those of the provider of the same name here are ours.
    fn assertions_need_a_provider(&self, meaning: &mut Meaning<'_, '_>, kind: &TokenKind, provider: Option<&Name>) {
        let TokenKind::Jwt(JwtTokens { principal: TokenPrincipal::User, media_type: Some(media_type), .. }) = kind
        else {
            return;
        };
        if media_type == "vestibule+jwt" && provider.is_none() {
            let key = self.key("provider");
            let lacks = Mistake::new(&key, format!("`{key}` is missing"));
            let help = "an assertion names its person's provider: write the one whose people are let in; it has the same name there";
            meaning
                .report
                .add(lacks.expected("expected a provider, as `typ` is `vestibule+jwt`").help(help.to_owned()));
        }
    }

    /// Ids begin with either, so that one must not stand for both.
    fn name(&self, text: &str) -> Result<Name, Expected> {
        let name = name(text)?;
        match self.providers.iter().any(|provider| provider.name == name) {
            true => {
                Err(Expected::new("a name that no provider has").help(format!("write `{name}-tokens`, for example")))
            }
            false => Ok(name),
        }
    }

    /// Keys of other kinds would restrict nothing here.
    fn no_others(&self, meaning: &mut Meaning<'_, '_>, kind: TokenKindFile) {
        use TokenKindFile::{Certificate, GitlabCi, Introspection, Jwt};
        let written = self.written;
        let keys: [(&str, bool, &[TokenKindFile], &str); 16] = [
            ("issuer", written.issuer.is_some(), &[GitlabCi, Jwt, Introspection], "gitlab_ci, jwt and introspection"),
            (
                "provider",
                written.provider.is_some(),
                &[GitlabCi, Jwt, Introspection],
                "gitlab_ci, jwt and introspection",
            ),
            (
                "audiences",
                written.audiences.is_some(),
                &[GitlabCi, Jwt, Introspection],
                "gitlab_ci, jwt and introspection",
            ),
            ("algorithms", written.algorithms.is_some(), &[GitlabCi, Jwt], "gitlab_ci and jwt"),
            ("max_age", written.max_age.is_some(), &[GitlabCi, Jwt, Introspection], "gitlab_ci, jwt and introspection"),
            ("jwks_uri", written.jwks_uri.is_some(), &[GitlabCi, Jwt], "gitlab_ci and jwt"),
            ("jwks_file", written.jwks_file.is_some(), &[GitlabCi, Jwt], "gitlab_ci and jwt"),
            ("principal", written.principal.is_some(), &[Jwt, Introspection], "jwt and introspection"),
            ("typ", written.media_type.is_some(), &[Jwt], "jwt"),
            ("claims", written.claims.is_some(), &[Jwt, Introspection], "jwt and introspection"),
            ("projects", written.projects.is_some(), &[GitlabCi], "gitlab_ci"),
            ("legacy_project", written.legacy_project.is_some(), &[GitlabCi], "gitlab_ci"),
            ("job_token_prefix", written.job_token_prefix.is_some(), &[GitlabCi], "gitlab_ci"),
            ("endpoint", written.endpoint.is_some(), &[Introspection], "introspection"),
            ("client_id", written.client_id.is_some(), &[Introspection], "introspection"),
            ("client_secret", written.client_secret.is_some(), &[Introspection], "introspection"),
        ];
        let prefix = ("prefix", written.prefix.is_some(), &[Introspection][..], "introspection");
        debug_assert!(![GitlabCi, Jwt, Introspection].contains(&Certificate));
        for (key, there, kinds, names) in keys.into_iter().chain([prefix]) {
            if there && !kinds.contains(&kind) {
                let key = self.key(key);
                let mistake = Mistake::new(&key, format!("`{key}` is for kind {names} only"));
                meaning.report.add(mistake.at_key().expected("expected no such key here").help("remove it".to_owned()));
            }
        }
    }

    fn provider(&self, meaning: &mut Meaning<'_, '_>, kind: TokenKindFile) -> Option<Name> {
        let names = || self.providers.iter().map(|provider| provider.name.as_str());
        if self.written.provider.is_none() && kind == TokenKindFile::GitlabCi {
            let same = self.providers.iter().find(|it| self.written.issuer.as_deref() == Some(&*it.issuer));
            if let Some(same) = same {
                let key = self.key("provider");
                let lacks = Mistake::new(&key, format!("`{key}` is missing, and `{}` has the same issuer", same.name));
                let help = format!(
                    "without it the people behind jobs would be others than those who sign in, and no lock or policy about these \
                     would hold for their jobs: write `provider: {}`",
                    same.name
                );
                meaning.report.add(lacks.expected("expected the provider of these people").help(help));
            }
        }
        let is = |text: Option<&str>| text.is_some() && text == self.written.provider.as_deref();
        if self.named.iter().any(|it| is(it.name.as_deref())) && !names().any(|name| is(Some(name))) {
            return None; // what is wrong with it is said where it stands
        }
        let found = meaning.read(&self.key("provider"), self.written.provider.as_deref(), |text| {
            let found = self.providers.iter().find(|provider| provider.name.as_str() == text);
            let expected = || Expected::new(format!("the provider {}", either(&names().collect::<Vec<_>>())));
            let found = found.ok_or_else(|| match nearest(text, names()) {
                Some(near) => expected().help(format!("did you mean `{near}`?")),
                None => expected(),
            })?;
            match kind == TokenKindFile::GitlabCi && found.kind != ProviderKind::Gitlab {
                true => Err(Expected::new("a provider of `kind: gitlab`").help("the people behind jobs are GitLab's")),
                false => Ok(found.clone()),
            }
        })?;
        let reads = found.api.is_some();
        if kind == TokenKindFile::GitlabCi && !reads {
            let said = format!(
                "without `membership.api` of `{}` nobody can say whether the person behind a job is still there: jobs of people \
                 who were blocked go on until their token is `max_age` old",
                found.name
            );
            meaning.report.warn(&self.key("provider"), &said);
        }
        Some(found.name.clone())
    }

    /// `Some(None)`: there is none, and none is needed.
    fn issuer(
        &self,
        meaning: &mut Meaning<'_, '_>,
        kind: TokenKindFile,
        provider: Option<&Name>,
    ) -> Option<Option<String>> {
        let key = self.key("issuer");
        let Some(text) = self.written.issuer.as_deref() else {
            if let Some(same) = self.at(provider).filter(|_| kind == TokenKindFile::GitlabCi) {
                return Some(Some(same.issuer.clone()));
            }
            let needless = kind == TokenKindFile::Certificate
                || kind == TokenKindFile::Introspection && self.written.prefix.is_some();
            if needless {
                return Some(None);
            }
            if kind == TokenKindFile::GitlabCi && self.written.provider.is_some() {
                return None; // it is that of the provider, about which something has been said
            }
            let lacks = Mistake::new(&key, format!("`{key}` is missing")).expected("expected `iss` of its tokens");
            meaning.report.add(lacks.help("such as `issuer: https://gitlab.example.com`".to_owned()));
            return None;
        };
        // An issuer whose keys are told may be any text; one that is to be discovered is a URL.
        let told =
            self.written.jwks_uri.is_some() || self.written.jwks_file.is_some() || kind == TokenKindFile::Introspection;
        let text = if told {
            meaning.text(&key, Some(text))
        } else {
            meaning.read(&key, Some(text), |text| value::issuer(text).map(|()| text.to_owned()))
        };
        text.map(Some)
    }

    fn audiences(&self, meaning: &mut Meaning<'_, '_>, kind: TokenKindFile) -> Option<Vec<String>> {
        let key = self.key("audiences");
        let written = self.written.audiences.as_deref().unwrap_or_default();
        if kind == TokenKindFile::Certificate {
            return Some(Vec::new());
        }
        if written.is_empty() {
            let lacks = Mistake::new(&key, format!("`{key}` is missing or empty"));
            let help = "a token says whom it is for in `aud`: write the address of this service, such as \
                        `[https://deploy.example.com]`, and ask for the same in the job";
            meaning.report.add(lacks.expected("expected at least one audience").help(help.to_owned()));
            return None;
        }
        let each = written.iter().enumerate().map(|(at, text)| {
            let key = format!("{key}[{at}]");
            let client = self.providers.iter().find(|provider| provider.client_id == *text);
            if let Some(provider) = client {
                let help = format!(
                    "it is the client id at `{}`, so that a sign-in's ID token and this token would be for the same: choose \
                     another, such as this service's address",
                    provider.name
                );
                meaning.refuse(&key, text, Expected::new("an audience that is no client id").help(help));
                return None;
            }
            meaning.text(&key, Some(text))
        });
        each.collect()
    }

    fn algorithms(&self, meaning: &mut Meaning<'_, '_>) -> Vec<String> {
        let Some(written) = &self.written.algorithms else { return vec!["RS256".to_owned()] };
        let key = self.key("algorithms");
        if written.is_empty() {
            let lacks = Mistake::new(&key, format!("`{key}` is empty")).expected("expected at least one algorithm");
            meaning.report.add(lacks.help("remove the key for `RS256`".to_owned()));
        }
        let each = written.iter().enumerate().filter_map(|(at, text)| {
            meaning.read(&format!("{key}[{at}]"), Some(text), |text| match ALGORITHMS.contains(&text) {
                true => Ok(text.to_owned()),
                false => Err(Expected::new(format!("one of `{}`", ALGORITHMS.join("`, `")))),
            })
        });
        each.collect()
    }

    fn keys(&self, meaning: &mut Meaning<'_, '_>) -> Option<KeySource> {
        let written = self.written;
        match (&written.jwks_uri, &written.jwks_file) {
            (Some(_), Some(_)) => {
                let key = self.key("jwks_file");
                let both = Mistake::new(&key, format!("`{key}` stands beside `jwks_uri`"));
                meaning.report.add(both.at_key().expected("expected one of them"));
                None
            }
            (Some(uri), None) => meaning.read(&self.key("jwks_uri"), Some(uri), value::endpoint).map(KeySource::Uri),
            (None, Some(file)) => self.fixed_keys(meaning, file).map(KeySource::Fixed),
            (None, None) => Some(KeySource::Discovery),
        }
    }

    fn fixed_keys(&self, meaning: &mut Meaning<'_, '_>, file: &str) -> Option<Map<String, Value>> {
        let key = self.key("jwks_file");
        let bytes = meaning.file(&key, file, "a JWK set", LARGEST_KEYS)?;
        meaning.read(&key, Some(file), |_| {
            key_set(&bytes).map_err(|help| Expected::new("a file with a JWK set of public keys").help(help))
        })
    }

    fn principal(&self, meaning: &mut Meaning<'_, '_>) -> Option<TokenPrincipal> {
        match self.written.principal {
            Some(TokenPrincipalFile::User) => Some(TokenPrincipal::User),
            Some(TokenPrincipalFile::Service) => Some(TokenPrincipal::Service),
            None => {
                let key = self.key("principal");
                let lacks = Mistake::new(&key, format!("`{key}` is missing")).expected("expected `user` or `service`");
                meaning.report.add(lacks.help("what its tokens speak for: people, or machines".to_owned()));
                None
            }
        }
    }

    fn claims(&self, meaning: &mut Meaning<'_, '_>) -> TokenClaims {
        let written = self.written.claims.clone().unwrap_or_default();
        let mut read = |name: &str, written: &Option<String>| {
            meaning.text(&format!("{}.{name}", self.key("claims")), written.as_deref())
        };
        let usual = TokenClaims::default();
        TokenClaims {
            subject: read("subject", &written.subject).unwrap_or(usual.subject),
            login: read("login", &written.login),
            groups: read("groups", &written.groups).unwrap_or(usual.groups),
            client_id: read("client_id", &written.client_id),
            scopes: read("scopes", &written.scopes),
        }
    }

    fn at(&self, provider: Option<&Name>) -> Option<&ProviderSettings> {
        provider.and_then(|name| self.providers.iter().find(|provider| provider.name == *name)).map(Arc::as_ref)
    }

    fn gitlab_ci(
        &self,
        meaning: &mut Meaning<'_, '_>,
        provider: Option<&Name>,
        issuer: Option<&Option<String>>,
    ) -> GitlabCi {
        let api = self.at(provider).and_then(|provider| Some(provider.api.as_ref()?.url.clone()));
        let below =
            || format!("{}/api/v4", issuer.and_then(Option::as_deref).unwrap_or_default().trim_end_matches('/'));
        let mut projects = BTreeMap::new();
        for (path, id) in self.written.projects.iter().flatten() {
            let key = self.key("projects");
            match path.parse::<GroupPath>() {
                Ok(path) if path.as_str().contains('/') => drop(projects.insert(path, *id)),
                _ => meaning.refuse(&key, path, Expected::new("the full path of a project, such as `acme/shop/api`")),
            }
        }
        GitlabCi {
            api: api.unwrap_or_else(below),
            projects,
            legacy_project: self.written.legacy_project.unwrap_or(false),
            job_token_prefix: self.prefix(meaning, "job_token_prefix", self.written.job_token_prefix.as_deref()),
        }
    }

    /// Long enough that no other credential is taken for one of these by chance.
    fn prefix(&self, meaning: &mut Meaning<'_, '_>, key: &str, written: Option<&str>) -> Option<String> {
        meaning.read(&self.key(key), written, |text| {
            let fits = (3..=64).contains(&text.len())
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
                && !text.starts_with("ey");
            let expected =
                "how the tokens begin: 3 to 64 letters, digits, `-`, `_` or `.`, and not `ey`, as every JWT begins";
            fits.then(|| text.to_owned()).ok_or_else(|| Expected::new(expected))
        })
    }

    fn introspection(&self, meaning: &mut Meaning<'_, '_>) -> Option<Introspection> {
        let written = self.written;
        let principal = self.principal(meaning);
        let endpoint = meaning.read(&self.key("endpoint"), written.endpoint.as_deref(), value::endpoint);
        let client_id = meaning.text(&self.key("client_id"), written.client_id.as_deref());
        let client_secret =
            written.client_secret.as_ref().and_then(|it| secret(meaning, &self.key("client_secret"), it));
        let missing = [
            ("endpoint", written.endpoint.is_none(), "the address of the issuer's introspection endpoint (RFC 7662)"),
            ("client_id", written.client_id.is_none(), "the client id that we ask with"),
            ("client_secret", written.client_secret.is_none(), "`{ file: PATH }` or `{ env: NAME }`"),
        ];
        for (key, _, what) in missing.into_iter().filter(|(_, missing, _)| *missing) {
            let key = self.key(key);
            let lacks = Mistake::new(&key, format!("`{key}` is missing"));
            meaning.report.add(lacks.expected(format!("expected {what}")));
        }
        let prefix = self.prefix(meaning, "prefix", written.prefix.as_deref());
        let claims = self.claims(meaning);
        Some(Introspection {
            principal: principal?,
            endpoint: endpoint?,
            client_id: client_id?,
            client_secret: client_secret?,
            prefix,
            claims,
        })
    }
}

/// What a file says that is to hold public keys (RFC 7517, section 5).
fn key_set(bytes: &[u8]) -> Result<Map<String, Value>, &'static str> {
    let Ok(Value::Object(set)) = serde_json::from_slice(bytes) else { return Err("it is no JSON object") };
    let keys = set.get("keys").and_then(Value::as_array).filter(|keys| !keys.is_empty());
    let keys = keys.ok_or("it has no list `keys` with a key in it")?;
    let kind = |key: &Value| matches!(key.get("kty").and_then(Value::as_str), Some("RSA" | "EC" | "OKP"));
    if !keys.iter().all(kind) {
        return Err("a key in it is of no asymmetric kind: `kty` is not `RSA`, `EC` or `OKP`");
    }
    if keys.iter().any(|key| key.get("d").is_some()) {
        return Err(
            "it has a private key (`d`): take that away, and give the issuer a new one, as it may be known by now",
        );
    }
    Ok(set)
}
