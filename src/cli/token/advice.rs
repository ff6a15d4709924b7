//! What to do about a token that is refused: the mistakes that people make, told by what it looks like and which check it fails.

use super::{report::Report, with_tokens};
use crate::{
    config::{JwtTokens, ProviderSettings, TokenIssuerSettings, TokenKind},
    oidc::{Check, Outcome, Shape, Way},
};
use std::{fmt::Write, sync::Arc};

const BROKEN: &str = "there is white space in it: copy it whole, on one line";

/// What to do about it; nothing for a good token, and where the cause says all.
pub(super) fn advice(report: &Report<'_>) -> Option<String> {
    let Some((issuer, explanation)) = report.issuer.as_deref().zip(report.explanation.as_ref()) else {
        return Some(of_shape(report, None).unwrap_or_else(|| of_nobody(report)));
    };
    let checks = explanation.checks();
    let (check, outcome) = checks.iter().find(|(_, outcome)| *outcome != Outcome::Passed)?;
    if matches!(outcome, Outcome::Unknown(_)) {
        return unknown(report, explanation.way);
    }
    match check {
        Check::Form => Some(form(report)),
        Check::Algorithm => of_shape(report, Some(issuer)).or_else(|| algorithm(report, issuer)),
        Check::Issuer => of_another(report).or_else(|| of_shape(report, Some(issuer))),
        Check::Class => of_shape(report, Some(issuer)),
        Check::Audience => Some(of_shape(report, Some(issuer)).unwrap_or_else(|| audience(report, issuer))),
        Check::Time => Some(time(issuer)),
        Check::Age => Some(format!(
            "ask for a new one, or raise `max_age` of `{}` if jobs and services have to come with older ones",
            issuer.name
        )),
        Check::Signature => Some(signature(report, issuer)),
        Check::Active => Some(active(explanation.way)),
        Check::Claims => claims(issuer),
    }
}

/// What a token is that opens nothing here, whoever signed it; `issuer`: the one that it is held against.
fn of_shape(report: &Report<'_>, issuer: Option<&TokenIssuerSettings>) -> Option<String> {
    let kind = issuer.map(|issuer| &issuer.kind);
    let takes_assertions = |tokens: &JwtTokens| tokens.media_type.as_deref() == Some("vestibule+jwt");
    match (&report.look.shape, kind) {
        (Shape::Assertion, Some(TokenKind::Jwt(tokens))) if takes_assertions(tokens) => None,
        (Shape::Assertion, _) => Some(assertion(report)),
        (Shape::LogoutToken, _) => Some(
            "it is a logout token, by which a provider tells that somebody has signed out, and no credential: send an access \
             token, or the ID token of a CI job"
                .to_owned(),
        ),
        (Shape::IdToken, kind) => Some(format!(
            "it is the ID token of a person's sign-in, which tells one application who they are, and is no credential: {}",
            instead(report, issuer, kind)
        )),
        (Shape::JobToken, Some(TokenKind::Jwt(_))) => Some(of_job(report)),
        (Shape::JobToken | Shape::Opaque(_) | Shape::Other, _) => None,
    }
}

/// A job's token that came to an issuer of access tokens.
fn of_job(report: &Report<'_>) -> String {
    let whose = &report.look.whose.issuer;
    let taken = with_tokens(report.settings).find(|it| it.has_jobs() && it.issuer.as_ref() == Some(whose));
    match taken {
        Some(issuer) => {
            format!("it is the ID token of a CI job, and `{}` takes those, for another audience. {}", issuer.name, id_tokens(issuer))
        }
        None => "it is the ID token of a CI job: add an issuer of kind `gitlab_ci` to `token_issuers`, with an audience of its \
                 own, and ask for that in the job"
            .to_owned(),
    }
}

fn assertion(report: &Report<'_>) -> String {
    let whose = &report.look.whose.issuer;
    if *whose == report.settings.public_url.origin().ascii_serialization() {
        return "it is an assertion of this Vestibule, by which an upstream is told who asks (`Vestibule-Assertion`), and no \
                credential here: send the token that the caller has from its own issuer"
            .to_owned();
    }
    "it is an assertion, by which a Vestibule tells an upstream who asks: where those of another Vestibule are to be taken, add \
     an issuer of kind `jwt` to `token_issuers`, with `typ: vestibule+jwt` and its `/.well-known/vestibule/jwks.json` as \
     `jwks_uri`"
        .to_owned()
}

fn instead(report: &Report<'_>, issuer: Option<&TokenIssuerSettings>, kind: Option<&TokenKind>) -> String {
    match (kind, issuer) {
        (Some(TokenKind::GitlabCi(_)), Some(issuer)) => format!("a job gets a token of its own. {}", id_tokens(issuer)),
        (_, Some(issuer)) => {
            format!("send the access token, asked for with the audience {}", either(&issuer.audiences))
        }
        (_, None) => match with_tokens(report.settings).find(|it| it.has_jobs()) {
            Some(issuer) => format!(
                "a CI job gets a token of its own, and a program of a person an access token. {}",
                id_tokens(issuer)
            ),
            None => "send an access token".to_owned(),
        },
    }
}

/// What a job of GitLab has to ask for.
fn id_tokens(issuer: &TokenIssuerSettings) -> String {
    let audience = issuer.audiences.first().map_or("", String::as_str);
    format!(
        "Ask for this audience in `id_tokens` of the job, in `.gitlab-ci.yml`, and send what it gets:\n\n    id_tokens:\n      \
         VESTIBULE_TOKEN:\n        aud: {audience}"
    )
}

/// It claims to be of an issuer that is not among those of tokens.
fn of_nobody(report: &Report<'_>) -> String {
    let whose = &report.look.whose.issuer;
    if report.broken {
        return BROKEN.to_owned();
    }
    if let Shape::Opaque(_) = report.look.shape {
        return "copy it whole; opaque tokens are known by how they begin (`prefix`, `job_token_prefix`)".to_owned();
    }
    if let Some(near) =
        with_tokens(report.settings).find(|it| it.issuer.as_deref().is_some_and(|it| is_almost(it, whose)))
    {
        let known = near.issuer.as_deref().unwrap_or_default();
        return format!(
            "`{}` is of `{known}`, which is almost the same, and has to be the same byte for byte: write `issuer: {whose}` there, \
             if that is what its tokens say",
            near.name
        );
    }
    match report.settings.providers.iter().find(|provider| provider.issuer == *whose) {
        Some(provider) => format!(
            "`{}` is a provider that people sign in with, and takes no tokens by that: add an issuer to `token_issuers`",
            provider.name
        ),
        None => "send a token of an issuer that is known here, or add its issuer to `token_issuers`".to_owned(),
    }
}

/// Two issuers that people take for one: but for the scheme, upper and lower case, and slashes at the end.
fn is_almost(one: &str, other: &str) -> bool {
    let plain = |text: &str| {
        let text = text.to_ascii_lowercase();
        text.split_once("://").map_or(&*text, |(_, rest)| rest).trim_end_matches('/').to_owned()
    };
    plain(one) == plain(other)
}

/// It was held against an issuer by name and is of another.
fn of_another(report: &Report<'_>) -> Option<String> {
    let whose = &report.look.whose.issuer;
    let other = with_tokens(report.settings).find(|it| it.issuer.as_ref() == Some(whose))?;
    Some(format!("it is of `{}`: leave out `--issuer`", other.name))
}

fn form(report: &Report<'_>) -> String {
    match report.broken {
        true => BROKEN.to_owned(),
        false => {
            "copy it whole, from its first letter to its last; where it is whole, its issuer has to make it otherwise"
                .to_owned()
        }
    }
}

fn algorithm(report: &Report<'_>, issuer: &TokenIssuerSettings) -> Option<String> {
    let its = report.look.algorithm.as_ref()?;
    Some(format!("if `{}` signs by `{its}`, write that into its `algorithms`", issuer.name))
}

fn audience(report: &Report<'_>, issuer: &TokenIssuerSettings) -> String {
    let mut told = String::new();
    let clients = |it: &&Arc<ProviderSettings>| report.look.whose.audiences.contains(&it.client_id);
    if let Some(provider) = report.settings.providers.iter().find(clients) {
        let _ =
            write!(told, "it is for the client by which people sign in with `{}`, and no credential. ", provider.name);
    }
    match &issuer.kind {
        TokenKind::GitlabCi(_) => told.push_str(&id_tokens(issuer)),
        TokenKind::Jwt(_) | TokenKind::Introspection(_) | TokenKind::Certificate => {
            let _ = write!(told, "ask its issuer for one with the audience {}", either(&issuer.audiences));
        }
    }
    for other in with_tokens(report.settings).filter(|it| it.issuer == issuer.issuer && it.name != issuer.name) {
        let _ = write!(told, "\n\n`{}`, of the same issuer, takes {}", other.name, either(&other.audiences));
    }
    told
}

fn time(issuer: &TokenIssuerSettings) -> String {
    let new = match issuer.kind {
        TokenKind::GitlabCi(_) => "a job's token lasts as long as its job may; ask for a new one",
        TokenKind::Jwt(_) | TokenKind::Introspection(_) | TokenKind::Certificate => "ask for a new one",
    };
    format!("{new}, and where times are in the future, compare this machine's clock with its issuer's")
}

fn signature(report: &Report<'_>, issuer: &TokenIssuerSettings) -> String {
    let keys = match report.offline {
        true => "the keys may be older than the token: try it without `--offline`. ",
        false => "",
    };
    let whose = issuer.issuer.as_deref().unwrap_or_default();
    format!(
        "{keys}It was changed or cut on its way, or made by somebody else than `{whose}`: copy it anew from where it was given"
    )
}

fn active(way: Way) -> String {
    match way {
        Way::JobToken => {
            "its job is over, or it is of another GitLab: a job's token is good while the job runs".to_owned()
        }
        Way::Signed | Way::Introspected => {
            "it is over, was revoked, or is of another issuer: ask for a new one".to_owned()
        }
    }
}

fn claims(issuer: &TokenIssuerSettings) -> Option<String> {
    match &issuer.kind {
        TokenKind::GitlabCi(_) | TokenKind::Certificate => None,
        TokenKind::Jwt(_) | TokenKind::Introspection(_) => Some(format!(
            "where it says who it is of in another claim, name that in `claims.subject` of `{}`",
            issuer.name
        )),
    }
}

fn unknown(report: &Report<'_>, way: Way) -> Option<String> {
    match (report.offline, way) {
        (true, _) => Some("try it without `--offline`".to_owned()),
        (false, Way::Signed) => Some("with `--offline` the keys are used that a running process has kept".to_owned()),
        (false, Way::Introspected | Way::JobToken) => None,
    }
}

/// Words as a sentence lists them.
fn either(words: &[String]) -> String {
    format!("`{}`", words.join("` or `"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn issuers_are_almost_the_same_but_for_what_people_overlook() {
        let known = "https://gitlab.example.com";
        for other in [
            "https://gitlab.example.com/",
            "http://gitlab.example.com",
            "https://GitLab.example.com",
            "gitlab.example.com",
        ] {
            assert!(is_almost(known, other), "{other}");
        }
        for other in ["https://gitlab.example.org", "https://gitlab.example.com/api", ""] {
            assert!(!is_almost(known, other), "{other}");
        }
    }
}
