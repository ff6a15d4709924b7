//! From claims to a person and their groups.

use crate::{
    config::{ProviderKind, ProviderSettings},
    group::GroupPath,
    principal::{Person, UserId},
};
use serde_json::{Map, Value};
use std::sync::Arc;

const LONGEST_NAME: usize = 255;
const MOST_GROUPS: usize = 10_000;

/// The members of an ID token or of a userinfo answer.
pub(super) type Claims = Map<String, Value>;

/// Describes the person `subject` by the ID token, then by userinfo where the ID token is silent.
pub(super) fn person(
    settings: &ProviderSettings,
    subject: &str,
    id_token: &Claims,
    userinfo: Option<&Claims>,
) -> Person {
    let sources = || std::iter::once(id_token).chain(userinfo);
    let first = |claim: &str| sources().find_map(|claims| text(claims, claim));
    Person {
        id: UserId { provider: settings.name.clone(), subject: subject.into() },
        issuer: settings.issuer.as_str().into(),
        login: first("preferred_username").or_else(|| first("nickname")).unwrap_or_else(|| subject.into()),
        email: sources().find_map(|claims| email(settings, claims)),
        name: first("name"),
    }
}

/// A text for display: without control characters, at most 255 bytes, absent if nothing is left.
fn text(claims: &Claims, claim: &str) -> Option<Arc<str>> {
    let kept = printable(claims.get(claim)?.as_str()?, LONGEST_NAME);
    let trimmed = kept.trim();
    (!trimmed.is_empty()).then(|| trimmed.into())
}

/// `text` without control characters, cut at `most` bytes.
pub(super) fn printable(text: &str, most: usize) -> String {
    let mut kept = String::new();
    for character in text.chars().filter(|character| !character.is_control()) {
        if kept.len() + character.len_utf8() > most {
            break;
        }
        kept.push(character);
    }
    kept
}

/// The e-mail address, only if the provider says that it verified it. An address with several `@` or with control
/// characters or spaces reads differently in different programs, so it is treated as absent.
fn email(settings: &ProviderSettings, claims: &Claims) -> Option<Arc<str>> {
    let address = claims.get("email")?.as_str()?;
    if claims.get("email_verified") != Some(&Value::Bool(true)) {
        return None;
    }
    let halves = address.split_once('@');
    let is_plain = halves.is_some_and(|(user, domain)| !user.is_empty() && !domain.is_empty() && !domain.contains('@'))
        && !address.contains(|character: char| character.is_control() || character.is_whitespace())
        && address.len() <= LONGEST_NAME;
    if !is_plain {
        tracing::warn!(provider = %settings.name, "e-mail address ignored: expected one `@` and no control characters");
        return None;
    }
    Some(address.into())
}

/// What an answer says about groups.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Claimed {
    /// It has no such claim.
    Absent,
    /// It has the claim, but not the whole list: membership is unknown, which is never "no groups".
    Unreadable(String),
    /// The list; sorted, without doubles.
    Listed(Vec<GroupPath>),
}

/// Reads the groups claim.
///
/// A list that cannot be read whole is not read at all. To drop an entry would turn a member into a non-member, and a
/// forbid on that group into a permit; so a value of another type, an entry that is no group path, more than 10,000
/// entries, and a list that the provider keeps elsewhere (`_claim_names`) each make membership unknown.
pub(super) fn groups(settings: &ProviderSettings, claims: &Claims) -> Claimed {
    let claim = settings.groups_claim.as_str();
    if claims.get("_claim_names").is_some_and(|names| names.get(claim).is_some()) {
        return Claimed::Unreadable("the provider keeps the list elsewhere".to_owned());
    }
    let entries = match claims.get(claim) {
        None | Some(Value::Null) => return Claimed::Absent,
        Some(Value::Array(entries)) if entries.len() <= MOST_GROUPS => entries,
        Some(Value::Array(entries)) => {
            return Claimed::Unreadable(format!("it has {} entries, {MOST_GROUPS} are allowed", entries.len()));
        }
        Some(_) => return Claimed::Unreadable("it is no array".to_owned()),
    };
    match entries.iter().map(|entry| group(settings.kind, entry)).collect::<Result<Vec<_>, _>>() {
        Ok(mut paths) => {
            paths.sort_unstable();
            paths.dedup();
            Claimed::Listed(paths)
        }
        Err(cause) => Claimed::Unreadable(cause),
    }
}

fn group(kind: ProviderKind, entry: &Value) -> Result<GroupPath, String> {
    let text = entry.as_str().ok_or("an entry is no string")?;
    let path = match kind {
        ProviderKind::Keycloak => text.strip_prefix('/').unwrap_or(text),
        ProviderKind::Gitlab | ProviderKind::Okta | ProviderKind::Oidc => text,
    };
    path.parse::<GroupPath>().map_err(|cause| printable(&cause.to_string(), LONGEST_NAME))
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::SecretString;
    use serde_json::json;
    use std::time::Duration;

    fn settings(kind: ProviderKind) -> ProviderSettings {
        ProviderSettings {
            name: "idp".parse().expect("a name"),
            kind,
            title: "idp".into(),
            issuer: "https://id.example.com".into(),
            client_id: "client".into(),
            client_secret: SecretString::from("secret"),
            scopes: vec!["openid".into()],
            groups_claim: "groups".into(),
            membership_refresh: Duration::from_secs(60),
            membership_outage: Duration::from_secs(900),
            without_refresh: Duration::from_secs(3600),
        }
    }

    fn claims(value: Value) -> Claims {
        value.as_object().expect("an object").clone()
    }

    fn listed(kind: ProviderKind, value: Value) -> Claimed {
        groups(&settings(kind), &claims(json!({ "groups": value })))
    }

    fn paths(list: &[&str]) -> Claimed {
        Claimed::Listed(list.iter().map(|path| path.parse().expect("a path")).collect())
    }

    #[test]
    fn email_counts_only_if_verified_and_plain() {
        let read = |email: &str, verified: Value| {
            person(
                &settings(ProviderKind::Oidc),
                "1",
                &claims(json!({"email": email, "email_verified": verified})),
                None,
            )
            .email
        };
        assert_eq!(read("a@example.com", json!(true)).as_deref(), Some("a@example.com"));
        for (email, verified) in [
            ("a@example.com", json!(false)),
            ("a@example.com", Value::Null),
            ("a@example.com", json!("true")),
            ("a@b@example.com", json!(true)),
            ("a\n@example.com", json!(true)),
            ("a @example.com", json!(true)),
            ("a\u{0}@example.com", json!(true)),
            ("@example.com", json!(true)),
            ("a@", json!(true)),
            ("a", json!(true)),
        ] {
            assert_eq!(read(email, verified.clone()), None, "{email:?} {verified}");
        }
    }

    #[test]
    fn login_is_the_username_then_the_nickname_then_the_subject() {
        let login = |id: Value, info: Value| {
            person(&settings(ProviderKind::Gitlab), "907", &claims(id), Some(&claims(info))).login
        };
        assert_eq!(&*login(json!({"nickname": "nick"}), json!({"preferred_username": "ines"})), "ines");
        assert_eq!(&*login(json!({"nickname": "nick"}), json!({})), "nick");
        assert_eq!(&*login(json!({"preferred_username": "\u{7}"}), json!({})), "907");
        assert_eq!(&*login(json!({"preferred_username": "a\r\nX-Admin: 1"}), json!({})), "aX-Admin: 1");
        assert_eq!(login(json!({"preferred_username": "ü".repeat(200)}), json!({})).len(), 254);
    }

    #[test]
    fn groups_are_sorted_without_doubles() {
        assert_eq!(listed(ProviderKind::Gitlab, json!(["b", "a/c", "b"])), paths(&["a/c", "b"]));
        assert_eq!(listed(ProviderKind::Gitlab, json!([])), paths(&[]));
        assert_eq!(groups(&settings(ProviderKind::Gitlab), &claims(json!({}))), Claimed::Absent);
    }

    #[test]
    fn only_keycloak_paths_lose_their_leading_slash() {
        assert_eq!(listed(ProviderKind::Keycloak, json!(["/platform/edge"])), paths(&["platform/edge"]));
        assert!(matches!(listed(ProviderKind::Okta, json!(["/platform"])), Claimed::Unreadable(_)));
        assert!(matches!(listed(ProviderKind::Keycloak, json!(["//platform"])), Claimed::Unreadable(_)));
    }

    /// A list that cannot be read whole is unknown; it is neither empty nor shortened.
    #[test]
    fn unreadable_lists_are_unknown() {
        for value in [
            json!("a"),
            json!({"a": 1}),
            json!(["a", 7]),
            json!(["a", ""]),
            json!(["a", "b//c"]),
            json!(vec!["a"; 10_001]),
        ] {
            assert!(matches!(listed(ProviderKind::Oidc, value.clone()), Claimed::Unreadable(_)), "{value:.40}");
        }
        let overage = claims(json!({"_claim_names": {"groups": "src1"}, "groups": ["a"]}));
        assert!(matches!(groups(&settings(ProviderKind::Oidc), &overage), Claimed::Unreadable(_)));
    }
}
