//! `token_issuers` of a route, and how tokens come and go there.

use super::{
    file::{ConfigFile, ProviderFile, RouteFile, TokenIssuerFile, TokenKindFile, TokenPrincipalFile},
    meaning::{Meaning, entry},
    mistake::{Mistake, either, nearest},
    value::Expected,
};
use crate::{fairness::Whom, principal::Name, route::Tokens};
use http::{HeaderName, header};

/// The token issuers that are written, whether they are good or not.
pub(super) struct Issuers<'a> {
    written: &'a [TokenIssuerFile],
    providers: &'a [ProviderFile],
}

/// Headers that mean something else to somebody on the way.
static OTHERS: [HeaderName; 10] = [
    header::AUTHORIZATION,
    header::COOKIE,
    header::HOST,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    header::UPGRADE,
    header::EXPECT,
    header::ORIGIN,
];

impl<'a> Issuers<'a> {
    pub(super) fn of(written: &'a ConfigFile) -> Self {
        let written_issuers = written.token_issuers.as_deref().unwrap_or_default();
        Self { written: written_issuers, providers: written.providers.as_deref().unwrap_or_default() }
    }

    /// Those that a route names.
    pub(super) fn named(&self, meaning: &mut Meaning<'_, '_>, key: &str, written: Option<&[String]>) -> Vec<Name> {
        let written = written.unwrap_or_default();
        let each = written.iter().enumerate().filter_map(|(index, text)| {
            let key = format!("{key}[{index}]");
            if written[..index].contains(text) {
                meaning.refuse(&key, text, Expected::new("every token issuer once"));
            }
            meaning.read(&key, Some(text), |text| self.known(text))
        });
        each.collect()
    }

    fn known(&self, text: &str) -> Result<Name, Expected> {
        let names: Vec<&str> = self.written.iter().filter_map(|it| it.name.as_deref()).collect();
        let known = names.contains(&text).then(|| text.parse().ok()).flatten();
        known.ok_or_else(|| {
            let expected = Expected::new(match names.is_empty() {
                true => "no such name, as there are no `token_issuers`".to_owned(),
                false => format!("the token issuer {}", either(&names)),
            });
            match nearest(text, names.iter().copied()) {
                Some(near) => expected.help(format!("did you mean `{near}`?")),
                None => expected.help("token issuers stand in `token_issuers`, beside `providers`"),
            }
        })
    }

    /// How tokens come and go on a route with these issuers.
    pub(super) fn tokens(
        &self,
        meaning: &mut Meaning<'_, '_>,
        index: usize,
        written: &RouteFile,
        issuers: &[Name],
    ) -> Tokens {
        let key = |key: &str| entry("routes", index, key);
        let keys = [
            ("basic", written.basic),
            ("token_header", written.token_header.as_ref().map(|_| true)),
            ("forward_credential", written.forward_credential),
            ("one_time", written.one_time),
            ("running_job", written.running_job),
        ];
        if written.token_issuers.as_deref().unwrap_or_default().is_empty() {
            for (name, _) in keys.iter().filter(|(_, written)| *written == Some(true)) {
                let key = key(name);
                let vain = Mistake::new(&key, format!("`{key}` is about tokens, and this route takes none"));
                let help = "name the issuers of tokens in `token_issuers` of this route, or remove the key";
                meaning.report.add(vain.at_key().expected("expected `token_issuers` beside it").help(help.to_owned()));
            }
        }
        if written.running_job == Some(true) && !issuers.iter().any(|name| self.asks_gitlab(name)) {
            let key = key("running_job");
            let vain =
                Mistake::new(&key, format!("`{key}` asks GitLab about jobs, and none of this route's issuers can"));
            let help = "it needs an issuer of kind `gitlab_ci` with a `provider` that has `membership.api`";
            meaning
                .report
                .add(vain.at_key().expected("expected such an issuer in `token_issuers`").help(help.to_owned()));
        }
        if written.forward_credential == Some(true) && written.credential.is_some() {
            let key = key("forward_credential");
            let both = Mistake::new(&key, format!("`{key}` and `credential` both say what the upstream gets"));
            let help = "with `credential` the upstream trusts this proxy, without it the caller: remove one of the two";
            meaning.report.add(both.at_key().expected("expected one of them").help(help.to_owned()));
        }
        let asked = issuers.iter().find(|name| self.asks_about_tokens(name));
        if let Some(name) = asked.filter(|_| written.one_time == Some(true)) {
            let key = key("one_time");
            let vain = Mistake::new(&key, format!("`{key}` cannot hold for the opaque tokens of `{name}`"));
            let help =
                "nobody says until when such a token has to be remembered: use an issuer whose tokens are signed";
            meaning.report.add(vain.at_key().expected("expected issuers of signed tokens only").help(help.to_owned()));
        }
        Tokens {
            basic: written.basic.unwrap_or(false),
            header: meaning.read(&key("token_header"), written.token_header.as_deref(), header),
            forward: written.forward_credential.unwrap_or(false),
            one_time: written.one_time.unwrap_or(false),
            running_job: written.running_job.unwrap_or(false),
        }
    }

    /// Whether such callers come to a route with these issuers: by a token, or, where `people` sign in, by a session. Whoever an
    /// issuer brings about which something is wrong is not said.
    pub(super) fn bring(&self, issuers: &[Name], people: bool, whom: Whom) -> bool {
        let mut named = issuers.iter().filter_map(|name| self.one(name));
        let speaks_for = |it: &TokenIssuerFile, whose: TokenPrincipalFile| match it.kind {
            Some(TokenKindFile::Jwt | TokenKindFile::Introspection) => it.principal.is_none_or(|of| of == whose),
            Some(TokenKindFile::Certificate) => whose == TokenPrincipalFile::Service,
            Some(TokenKindFile::GitlabCi) => false,
            None => true,
        };
        match whom {
            Whom::Address => true,
            Whom::User => people || named.any(|it| speaks_for(it, TokenPrincipalFile::User)),
            Whom::Job | Whom::Project => named.any(|it| matches!(it.kind, None | Some(TokenKindFile::GitlabCi))),
            Whom::Service => named.any(|it| speaks_for(it, TokenPrincipalFile::Service)),
        }
    }

    fn one(&self, name: &Name) -> Option<&TokenIssuerFile> {
        self.written.iter().find(|it| it.name.as_deref() == Some(name.as_str()))
    }

    /// The issuer has to be asked about some of its tokens.
    fn asks_about_tokens(&self, name: &Name) -> bool {
        let issuer = self.written.iter().find(|it| it.name.as_deref() == Some(name.as_str()));
        issuer.is_some_and(|it| it.kind == Some(TokenKindFile::Introspection) || it.job_token_prefix.is_some())
    }

    /// The issuer is of CI jobs, at a provider that we can ask about them.
    fn asks_gitlab(&self, name: &Name) -> bool {
        let issuer = self.one(name).filter(|it| it.kind == Some(TokenKindFile::GitlabCi));
        let provider = issuer.and_then(|it| it.provider.as_deref());
        let provider = provider.and_then(|name| self.providers.iter().find(|it| it.name.as_deref() == Some(name)));
        provider.is_some_and(|it| it.membership.as_ref().is_some_and(|membership| membership.api.is_some()))
    }
}

fn header(text: &str) -> Result<HeaderName, Expected> {
    let expected = || Expected::new("the name of a header, such as `X-Job-Token`");
    let name = HeaderName::try_from(text).map_err(|_| expected())?;
    if OTHERS.contains(&name) {
        return Err(expected().help("this one means something else; `Authorization` is looked at in any case"));
    }
    let ours = ["x-forwarded-", "vestibule-", "x-vestibule-", "sec-", "proxy-"];
    if ours.iter().any(|start| name.as_str().starts_with(start)) || name.as_str().contains('_') {
        return Err(expected().help("this one is taken away from every request"));
    }
    Ok(name)
}
