//! Whether the groups that policies name are there, as far as anybody can tell before people come.

use crate::{
    config::{ProviderSettings, Settings},
    finding::{Finding, Level},
    gitlab::{Api, ApiError, api::TokenAbout},
    group::GroupPath,
};
use std::{collections::BTreeSet, sync::Arc};

/// Names that one finding shows.
const SHOWN: usize = 12;

/// What is found about the groups that policies name, `PROVIDER:path` each, and about the tokens that read them.
pub(super) async fn found(settings: &Settings, groups: &BTreeSet<String>) -> Vec<Finding> {
    let mut found = Vec::new();
    for (index, provider) in settings.providers.iter().enumerate() {
        let prefix = format!("{}:", provider.name);
        let named: BTreeSet<&str> = groups.iter().filter_map(|id| id.strip_prefix(&prefix)).collect();
        if provider.api.is_some() {
            found.extend(asked(provider, &format!("providers[{index}].membership.api"), &named).await);
        } else if !named.is_empty() {
            let said = format!("{}: {}", list(named.iter().copied()), unchecked(provider));
            found.push(Finding::new(Level::Skipped, what(provider), key(settings), said));
        }
    }
    found
}

fn what(provider: &ProviderSettings) -> String {
    format!("provider `{}`, groups that policies name", provider.name)
}

fn key(settings: &Settings) -> &'static str {
    if settings.policies.is_some() { "policies" } else { "routes" }
}

fn unchecked(provider: &ProviderSettings) -> &'static str {
    match provider.kind {
        crate::config::ProviderKind::Gitlab => "not checked, which `membership.api` would do: compare the spelling",
        _ => "not checked, which only a sign-in does: compare the spelling",
    }
}

async fn asked(provider: &Arc<ProviderSettings>, key: &str, named: &BTreeSet<&str>) -> Vec<Finding> {
    let Some(settings) = &provider.api else { return Vec::new() };
    let api = Api::new(&settings.url);
    api.configure(&settings.token);
    let about = format!("provider `{}`, token for the API", provider.name);
    let token = |level, said: String| Finding::new(level, &*about, format!("{key}.token"), said);
    let mut found = vec![match api.about_token().await {
        Ok(told) => judged(&told, settings.rotate, token),
        Err(error @ ApiError::Token(_)) => {
            return vec![token(Level::Fault, error.to_string()).help("make one at GitLab, best of a service account")];
        }
        Err(error) => return vec![token(Level::Fault, error.to_string()).help("compare `membership.api.url`")],
    }];
    let paths: BTreeSet<GroupPath> = named.iter().filter_map(|id| id.split('#').next()?.parse().ok()).collect();
    let (mut there, mut missing) = (0, Vec::new());
    for path in &paths {
        match api.group(path).await {
            Ok(_) => there += 1,
            Err(ApiError::Missing) => missing.push(path.as_str()),
            Err(error) => {
                found.push(Finding::new(Level::Fault, what(provider), key, error.to_string()));
                return found;
            }
        }
    }
    if !missing.is_empty() {
        let said = format!("{}: GitLab has none of that path, or the token may not see it", list(missing.into_iter()));
        let help = "compare the spelling, and let the token's account be a member of the group";
        found.push(Finding::new(Level::Fault, what(provider), key, said).help(help));
    } else if there > 0 {
        let one = if there == 1 { "1 is there" } else { "all are there" };
        found.push(Finding::new(
            Level::Good,
            what(provider),
            key,
            format!("{one}: {}", list(paths.iter().map(GroupPath::as_str))),
        ));
    }
    found
}

fn judged(about: &TokenAbout, rotate: bool, token: impl Fn(Level, String) -> Finding) -> Finding {
    let until = about.expires_at.as_ref().map_or_else(|| "without end".to_owned(), |day| format!("good until {day}"));
    let has = |scope: &str| about.scopes.iter().any(|one| one == scope);
    if !has("read_api") && !has("api") {
        return token(Level::Fault, format!("{until}, but it lacks scope `read_api`")).help("make one with that scope");
    }
    if rotate && !has("self_rotate") && !has("api") {
        let said = format!("{until}, and it cannot renew itself: it lacks scope `self_rotate`");
        return token(Level::Fault, said)
            .help("make one with scopes `read_api` and `self_rotate`, or leave out `rotate`");
    }
    if has("api") {
        let said = format!("{until}, and with scope `api` it may do more than is needed");
        return token(Level::Warning, said)
            .help("make one with scope `read_api`, and `self_rotate` if it is to renew itself");
    }
    token(Level::Good, until)
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let all: Vec<_> = names.map(|name| format!("`{name}`")).collect();
    let more = all.len().saturating_sub(SHOWN);
    let shown = all[..all.len() - more].join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_the_scopes_that_it_needs_and_no_more() {
        let judge = |scopes: &[&str], rotate| {
            let about = TokenAbout {
                id: 1,
                scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
                expires_at: Some("2027-01-01".into()),
                created_at: None,
            };
            judged(&about, rotate, |level, said| Finding::new(level, "token", "key", said))
        };
        assert_eq!(judge(&["read_api"], false).level, Level::Good);
        assert_eq!(judge(&["read_api", "self_rotate"], true).level, Level::Good);
        assert_eq!(judge(&["read_user"], false).level, Level::Fault);
        assert_eq!(judge(&["read_api"], true).level, Level::Fault);
        assert_eq!(judge(&["api"], true).level, Level::Warning);
    }

    #[test]
    fn long_lists_are_cut() {
        let names: Vec<_> = (0..15).map(|number| format!("g{number}")).collect();
        assert!(list(names.iter().map(String::as_str)).ends_with("`g11` and 3 more"));
        assert_eq!(list(["a"].into_iter()), "`a`");
    }
}
