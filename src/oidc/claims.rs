//! From claims to a person and their groups.

use crate::{
    config::{ProviderKind, ProviderSettings},
    group::GroupPath,
    guid::Guid,
    principal::{Person, Strength, UserId},
};
use serde_json::{Map, Value};
use std::{borrow::Cow, sync::Arc};

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
    let email = sources().find_map(|claims| email(settings, claims));
    let login = match &settings.claims.login {
        Some(claim) => first(claim),
        None if settings.kind == ProviderKind::Google => email.clone(), // it has no usernames
        None => first("preferred_username").or_else(|| first("nickname")),
    };
    Person {
        id: UserId { provider: settings.name.clone(), subject: subject.into() },
        issuer: settings.issuer.as_str().into(),
        login: login.unwrap_or_else(|| subject.into()),
        email,
        name: first(&settings.claims.name),
    }
}

/// A text for display: without control characters, at most 255 bytes, absent if nothing is left.
pub(super) fn text(claims: &Claims, claim: &str) -> Option<Arc<str>> {
    let kept = printable(claims.get(claim)?.as_str()?, LONGEST_NAME);
    let trimmed = kept.trim();
    (!trimmed.is_empty()).then(|| trimmed.into())
}

/// How and how well a token says that its person signed in, but for when.
pub(super) fn strength(claims: &Claims) -> Strength {
    let methods = claims.get("amr").and_then(Value::as_array).into_iter().flatten();
    Strength {
        created: None,
        auth_time: None,
        amr: methods.filter_map(|method| Some(printable(method.as_str()?, 64))).take(32).collect(),
        acr: claims.get("acr").and_then(Value::as_str).map(|text| printable(text, 255).into()),
    }
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

/// The e-mail address, only if the provider says that it verified it.
fn email(settings: &ProviderSettings, claims: &Claims) -> Option<Arc<str>> {
    if !is_verified(settings.kind, claims) {
        return None;
    }
    let plain = plain_email(claims, &settings.claims.email);
    if plain.is_none() && claims.contains_key(&settings.claims.email) {
        tracing::warn!(provider = %settings.name, "e-mail address ignored: expected one `@` and no control characters");
    }
    plain
}

/// An address with several `@` or with control characters or spaces reads differently in different programs, so it is treated
/// as absent.
pub(super) fn plain_email(claims: &Claims, claim: &str) -> Option<Arc<str>> {
    let address = claims.get(claim)?.as_str()?;
    let halves = address.split_once('@');
    let is_plain = halves.is_some_and(|(user, domain)| !user.is_empty() && !domain.is_empty() && !domain.contains('@'))
        && !address.contains(|character: char| character.is_control() || character.is_whitespace())
        && address.len() <= LONGEST_NAME;
    is_plain.then(|| address.into())
}

/// Entra says of an address's domain only that its owner proved it is theirs, in one of three spellings.
fn is_verified(kind: ProviderKind, claims: &Claims) -> bool {
    match kind {
        ProviderKind::Entra => match claims.get("xms_edov") {
            Some(Value::Bool(is)) => *is,
            Some(Value::Number(number)) => number.as_u64() == Some(1),
            Some(Value::String(text)) => text == "1",
            _ => false,
        },
        _ => claims.get("email_verified") == Some(&Value::Bool(true)),
    }
}

/// What an answer says about groups.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Claimed {
    /// It has no such claim.
    Absent,
    /// It has the claim, but not the whole list: membership is unknown, which is never "no groups".
    Unreadable(String),
    /// The list has no room in it and is kept elsewhere: unknown too, until it is read there.
    Elsewhere,
    /// The list; sorted, without doubles.
    Listed(Vec<GroupPath>),
}

/// Reads the groups claim.
///
/// A list that cannot be read whole is not read at all. To drop an entry would turn a member into a non-member, and a
/// forbid on that group into a permit; so a value of another type, an entry that is no group path, more than 10,000
/// entries, and a list that the provider keeps elsewhere (`_claim_names`, or Entra's `hasgroups`) each make membership
/// unknown. Where it is kept is never looked up in the token.
pub(super) fn groups(settings: &ProviderSettings, claims: &Claims) -> Claimed {
    let Some(claim) = settings.groups_claim.as_deref() else { return Claimed::Absent };
    groups_in(settings.kind, claim, claims)
}

/// The same for a claim of this name, as providers of this kind write it.
pub(super) fn groups_in(kind: ProviderKind, claim: &str, claims: &Claims) -> Claimed {
    let is_entra = kind == ProviderKind::Entra;
    let has_groups = || is_entra && claim == "groups" && claims.get("hasgroups").is_some_and(|has| has != false);
    if claims.get("_claim_names").is_some_and(|names| names.get(claim).is_some()) || has_groups() {
        return Claimed::Elsewhere;
    }
    let entries = match claims.get(claim) {
        // The roles of an application need no setting to be sent: where there are none, none was given.
        None | Some(Value::Null) if is_entra && claim == "roles" => return Claimed::Listed(Vec::new()),
        None | Some(Value::Null) => return Claimed::Absent,
        Some(Value::Array(entries)) if entries.len() <= MOST_GROUPS => entries,
        Some(Value::Array(entries)) => {
            return Claimed::Unreadable(format!("it has {} entries, {MOST_GROUPS} are allowed", entries.len()));
        }
        Some(_) => return Claimed::Unreadable("it is no array".to_owned()),
    };
    match list(kind, entries) {
        Ok(paths) => Claimed::Listed(paths),
        Err(cause) => Claimed::Unreadable(cause),
    }
}

/// The groups of a list; sorted, without doubles.
///
/// # Errors
/// Why an entry is no group.
pub(super) fn list(kind: ProviderKind, entries: &[Value]) -> Result<Vec<GroupPath>, String> {
    let mut paths = entries.iter().map(|entry| group(kind, entry)).collect::<Result<Vec<_>, _>>()?;
    paths.sort_unstable();
    paths.dedup();
    Ok(paths)
}

fn group(kind: ProviderKind, entry: &Value) -> Result<GroupPath, String> {
    let text = entry.as_str().ok_or("an entry is no string")?;
    let path = match kind {
        ProviderKind::Keycloak => Cow::Borrowed(text.strip_prefix('/').unwrap_or(text)),
        ProviderKind::Entra => text.parse::<Guid>().map_or(Cow::Borrowed(text), |guid| Cow::Owned(guid.to_string())),
        ProviderKind::Gitlab | ProviderKind::Okta | ProviderKind::Google | ProviderKind::Oidc => Cow::Borrowed(text),
    };
    path.parse::<GroupPath>().map_err(|cause| printable(&cause.to_string(), LONGEST_NAME))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ClaimNames;
    use secrecy::SecretString;
    use serde_json::json;

    fn settings(kind: ProviderKind) -> ProviderSettings {
        let name = "idp".parse().expect("a name");
        ProviderSettings::new(name, kind, "https://id.example.com", "client", SecretString::from("secret"))
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
        assert_eq!(groups(&settings(ProviderKind::Oidc), &overage), Claimed::Elsewhere);
    }

    /// P71: who is in too many groups for a token of Entra is not in none; roles have no such bound.
    #[test]
    fn p71_overage_at_entra_is_told_from_an_empty_list() {
        let entra = settings(ProviderKind::Entra);
        let source = json!({"src1": {"endpoint": "https://graph.windows.net/x"}});
        for value in [
            json!({"_claim_names": {"groups": "src1"}, "_claim_sources": source}),
            json!({"hasgroups": true}),
            json!({"hasgroups": "true"}),
        ] {
            assert_eq!(groups(&entra, &claims(value.clone())), Claimed::Elsewhere, "{value}");
        }
        assert_eq!(groups(&entra, &claims(json!({}))), Claimed::Absent);
        assert_eq!(groups(&entra, &claims(json!({"groups": []}))), paths(&[]));
        let upper = json!({"groups": ["3F2C0A11-0000-4000-8000-00000000000A", "Named Group"]});
        assert_eq!(groups(&entra, &claims(upper)), paths(&["3f2c0a11-0000-4000-8000-00000000000a", "Named Group"]));
        let roles = ProviderSettings { groups_claim: Some("roles".into()), ..entra };
        assert_eq!(
            groups(&roles, &claims(json!({"roles": ["Portal.Admin"], "hasgroups": true}))),
            paths(&["Portal.Admin"])
        );
        assert_eq!(groups(&roles, &claims(json!({}))), paths(&[]));
    }

    /// Whatever Google sends under that name, groups of it are none unless a claim is configured.
    #[test]
    fn google_has_no_groups_unless_configured() {
        let google = settings(ProviderKind::Google);
        let said = claims(json!({"groups": ["a"]}));
        assert_eq!(groups(&google, &said), Claimed::Absent);
        let configured = ProviderSettings { groups_claim: Some("groups".into()), ..google };
        assert_eq!(groups(&configured, &said), paths(&["a"]));
    }

    #[test]
    fn an_address_at_entra_counts_only_if_its_domain_is_proved() {
        let read = |mark: Value| {
            let said = claims(json!({"email": "a@example.com", "email_verified": true, "xms_edov": mark}));
            person(&settings(ProviderKind::Entra), "1", &said, None).email.is_some()
        };
        assert!(read(json!(true)) && read(json!(1)) && read(json!("1")));
        for other in [json!(false), json!(0), json!("0"), json!("true"), json!([1]), Value::Null] {
            assert!(!read(other.clone()), "{other}");
        }
    }

    #[test]
    fn claims_are_read_by_their_configured_names() {
        let names = ClaimNames { login: Some("upn".into()), email: "mail".into(), name: "display".into() };
        let own = ProviderSettings { claims: names, ..settings(ProviderKind::Oidc) };
        let said = json!({"upn": "ines", "preferred_username": "x", "mail": "a@example.com", "email": "b@example.com",
                          "email_verified": true, "display": "Ines O", "name": "x"});
        let found = person(&own, "1", &claims(said), None);
        assert_eq!(
            (&*found.login, found.email.as_deref(), found.name.as_deref()),
            ("ines", Some("a@example.com"), Some("Ines O"))
        );
        assert_eq!(&*person(&own, "1", &claims(json!({"preferred_username": "x"})), None).login, "1");
        let google = settings(ProviderKind::Google);
        let said = claims(json!({"preferred_username": "x", "email": "a@example.com", "email_verified": true}));
        assert_eq!(&*person(&google, "1", &said, None).login, "a@example.com");
    }
}
