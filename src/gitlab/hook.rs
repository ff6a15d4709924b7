//! What GitLab tells unasked: system hooks, group hooks and streamed audit events. Pure: who calls gives the bytes and the time.
//!
//! A hook says that something changed, never what is true now: that is read from the API.

use crate::config::HookProof;
use aws_lc_rs::{constant_time::verify_slices_are_equal, digest, hmac};
use base64::{Engine, engine::general_purpose::STANDARD};
use http::HeaderMap;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A signed hook may be as old, or as far ahead, as this.
pub const WINDOW: Duration = Duration::from_secs(300);

/// What a hook is about.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum About {
    /// One person's memberships, or the person.
    Person {
        /// GitLab's number.
        id: u64,
        /// They can only have gained by it.
        added: bool,
        /// GitLab's number of the group that it happened in, if that is told.
        group: Option<u64>,
        /// They may be blocked or gone.
        state: bool,
    },
    /// Everybody's memberships: something happened to a group, nobody says which.
    Everybody,
    /// Everybody's memberships in what is named by a path: a group was renamed or moved. Its paths of before and after.
    Renamed([String; 2]),
    /// Everybody's memberships in a group that was deleted or shared, and in those that it was invited to.
    Group(String),
    /// A repository: it may be the one of the policies.
    Push,
    /// Nothing that membership rests on.
    Nothing,
}

/// One event, from somebody who proved to be GitLab.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Hook {
    /// The same for every delivery of one event; absent in old versions of GitLab.
    pub id: Option<String>,
    /// The name of the event, such as `user_remove_from_group`; cut, without control characters.
    pub event: String,
    /// What it is about.
    pub about: About,
}

/// Why a hook is not believed or not understood.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum HookError {
    /// A header is missing or stands there twice.
    #[error("`{0}` is missing, or stands there twice")]
    Header(&'static str),
    /// It is not the token that the configuration names.
    #[error("`X-Gitlab-Token` is not the one that `membership.hook.token` names")]
    Token,
    /// It is not the token of the stream of audit events.
    #[error("`X-Gitlab-Event-Streaming-Token` is not the one that `membership.hook.audit_token` names")]
    AuditToken,
    /// No signature fits.
    #[error("no signature in `webhook-signature` fits what was sent")]
    Signature,
    /// Made too long ago, or by a clock that is ahead.
    #[error("`webhook-timestamp` is more than 300 s from our clock")]
    Time,
    /// It is no JSON object.
    #[error("the body is no JSON object")]
    Body,
    /// It lacks what an event of its name has.
    #[error("the body lacks `{0}`, or it is no number")]
    Lacks(&'static str),
}

impl HookError {
    /// Whoever called did not prove to be GitLab.
    pub fn is_unproved(self) -> bool {
        !matches!(self, Self::Body | Self::Lacks(_))
    }
}

/// The part of the proof that can be looked at before the body has come.
///
/// # Errors
/// [`HookError::Header`], [`HookError::Token`], [`HookError::Time`].
pub fn look(proof: &HookProof, headers: &HeaderMap, now: SystemTime) -> Result<(), HookError> {
    match proof {
        HookProof::Token(secret) => same(one(headers, "x-gitlab-token")?, secret).then_some(()).ok_or(HookError::Token),
        HookProof::SigningKey(_) => {
            one(headers, "webhook-id")?;
            one(headers, "webhook-signature")?;
            let seconds = one(headers, "webhook-timestamp")?.parse();
            let seconds = seconds.map_err(|_| HookError::Header("webhook-timestamp"))?;
            let made = UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).ok_or(HookError::Time)?;
            let apart = now.duration_since(made).unwrap_or_else(|ahead| ahead.duration());
            if apart <= WINDOW { Ok(()) } else { Err(HookError::Time) }
        }
    }
}

/// The proof of a streamed audit event, all of which is in its header.
///
/// # Errors
/// [`HookError::Header`], [`HookError::AuditToken`].
pub fn look_at_audit_token(token: &SecretString, headers: &HeaderMap) -> Result<(), HookError> {
    same(one(headers, AUDIT_TOKEN)?, token).then_some(()).ok_or(HookError::AuditToken)
}

/// The rest of the proof. Source: Standard Webhooks, on signatures: HMAC-SHA256 over id, time and body.
fn check(proof: &HookProof, headers: &HeaderMap, body: &[u8]) -> Result<(), HookError> {
    let HookProof::SigningKey(secret) = proof else { return Ok(()) };
    let secret = secret.expose_secret();
    let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap_or(secret)).map_err(|_| HookError::Signature)?;
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
    let mut signed = hmac::Context::with_key(&key);
    for part in [one(headers, "webhook-id")?, ".", one(headers, "webhook-timestamp")?, "."] {
        signed.update(part.as_bytes());
    }
    signed.update(body);
    let tag = signed.sign();
    let given = one(headers, "webhook-signature")?.split(' ').filter_map(|one| one.strip_prefix("v1,"));
    let fits =
        |text: &str| STANDARD.decode(text).is_ok_and(|bytes| verify_slices_are_equal(&bytes, tag.as_ref()).is_ok());
    if given.take(8).any(fits) { Ok(()) } else { Err(HookError::Signature) }
}

impl About {
    /// The groups that it names: by path, or by GitLab's number.
    pub fn groups(&self) -> Vec<String> {
        match self {
            Self::Person { group, .. } => group.iter().map(|number| format!("group {number}")).collect(),
            Self::Renamed([new, old]) => vec![old.clone(), new.clone()],
            Self::Group(path) => vec![path.clone()],
            Self::Everybody | Self::Push | Self::Nothing => Vec::new(),
        }
    }
}

impl Hook {
    /// Reads a delivery of a system hook or group hook.
    ///
    /// # Errors
    /// Any [`HookError`].
    pub fn read(proof: &HookProof, headers: &HeaderMap, body: &[u8], now: SystemTime) -> Result<Self, HookError> {
        look(proof, headers, now)?;
        check(proof, headers, body)?;
        let said = object(body)?;
        let text = |name: &str| said.get(name).and_then(Value::as_str);
        let event = text("event_name").or_else(|| text("object_kind")).unwrap_or("unknown");
        let id = ["webhook-id", "idempotency-key"].iter().find_map(|name| one(headers, name).ok()).map(printable);
        let group = said.get("group_id").and_then(number);
        let person = |added, state| match said.get("user_id").and_then(number) {
            Some(id) => Ok(About::Person { id, added, group, state }),
            None => Err(HookError::Lacks("user_id")),
        };
        let about = match event {
            "user_add_to_group" => person(true, false)?,
            "user_update_for_group" | "user_remove_from_group" => person(false, false)?,
            "user_destroy" | "user_failed_login" | "user_rename" => person(false, true)?,
            "group_rename" => {
                let paths = text("full_path").zip(text("old_full_path"));
                paths.map_or(About::Everybody, |(new, old)| About::Renamed([new, old].map(str::to_owned)))
            }
            "group_destroy" | "subgroup_destroy" => of_group(text("full_path")),
            "push" => About::Push,
            _ => About::Nothing,
        };
        Ok(Self { id, event: printable(event), about })
    }

    /// Reads a streamed audit event, which proves itself by a token of its own.
    ///
    /// # Errors
    /// Any [`HookError`].
    pub fn read_audit_event(token: &SecretString, headers: &HeaderMap, body: &[u8]) -> Result<Self, HookError> {
        look_at_audit_token(token, headers)?;
        let said = object(body)?;
        let text = |name: &str| said.get(name).and_then(Value::as_str);
        let event = one(headers, AUDIT_EVENT).ok().or_else(|| text("event_type")).unwrap_or("unknown");
        let about = streamed(event, text("entity_path"), || target(event, &said))?;
        let id = match said.get("id") {
            Some(Value::String(id)) => Some(printable(id)),
            Some(Value::Number(id)) => Some(id.to_string()),
            _ => None,
        };
        Ok(Self { id: id.map(|id| format!("audit {id}")), event: printable(event), about })
    }

    /// A hook that is proved by its token, and whose body is too long to be read: it may be about everybody, unless its header
    /// says that it is about what people write.
    pub fn unread(headers: &HeaderMap) -> Self {
        let event = one(headers, "x-gitlab-event").unwrap_or("a hook");
        let about = match event {
            "a hook" | "System Hook" | "Member Hook" | "Subgroup Hook" => About::Everybody,
            "Push Hook" => About::Push,
            _ => About::Nothing,
        };
        Self::too_long(event, about)
    }

    /// The same for a streamed audit event.
    pub fn unread_audit_event(headers: &HeaderMap) -> Self {
        let event = one(headers, AUDIT_EVENT);
        let about = event.map(|event| streamed(event, None, || Ok((0, None)))); // whom it is about stands in the body
        let is_nothing = matches!(about, Ok(Ok(About::Nothing)));
        Self::too_long(event.unwrap_or("an event"), if is_nothing { About::Nothing } else { About::Everybody })
    }

    fn too_long(event: &str, about: About) -> Self {
        Self { id: None, event: format!("{}, too long to be read", printable(event)), about }
    }
}

/// A group that was deleted or shared, if it is told which.
fn of_group(path: Option<&str>) -> About {
    path.filter(|path| !path.is_empty()).map_or(About::Everybody, |path| About::Group(path.to_owned()))
}

/// What a streamed audit event is about, which happened to `entity`; `target` gives the numbers of the person in it, and of the group.
fn streamed(
    event: &str,
    entity: Option<&str>,
    target: impl Fn() -> Result<(u64, Option<u64>), HookError>,
) -> Result<About, HookError> {
    let person = |added, state| target().map(|(id, group)| About::Person { id, added, group, state });
    match event {
        "member_created" => person(true, false),
        "member_updated" | "member_destroyed" | "user_username_updated" => person(false, false),
        "user_blocked" | "user_banned" | "user_deactivated" | "user_destroyed" | "user_rejected" => person(false, true),
        "group_path_updated" => Ok(About::Everybody),
        "group_destroyed" => Ok(of_group(entity)),
        _ if event.starts_with("group_share_with_group_link_") => Ok(of_group(entity)),
        _ => Ok(About::Nothing),
    }
}

/// The numbers of the person that an audit event is about, and of the group. The entity is the person only in events of people:
/// in those of members it is the group, if it is one.
fn target(event: &str, said: &Map<String, Value>) -> Result<(u64, Option<u64>), HookError> {
    let of_details = || said.get("details").and_then(|details| details.get("target_id"));
    let entity = said.get("entity_id");
    let of_entity = || if event.starts_with("user_") { entity } else { None };
    let found = said.get("target_id").or_else(of_details).or_else(of_entity).and_then(number);
    let is_group = said.get("entity_type").and_then(Value::as_str) == Some("Group");
    Ok((found.ok_or(HookError::Lacks("target_id"))?, entity.filter(|_| is_group).and_then(number)))
}

/// The header by which a stream of audit events proves itself.
pub const AUDIT_TOKEN: &str = "x-gitlab-event-streaming-token";

/// The header that has the type of an audit event.
const AUDIT_EVENT: &str = "x-gitlab-audit-event-type";

/// The value of a header that stands there once.
fn one<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<&'a str, HookError> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().map_err(|_| HookError::Header(name)),
        _ => Err(HookError::Header(name)),
    }
}

/// Compares digests, so that neither content nor length shows in the time that it takes.
fn same(given: &str, secret: &SecretString) -> bool {
    let hash = |text: &str| digest::digest(&digest::SHA256, text.as_bytes());
    verify_slices_are_equal(hash(given).as_ref(), hash(secret.expose_secret()).as_ref()).is_ok()
}

fn object(body: &[u8]) -> Result<Map<String, Value>, HookError> {
    serde_json::from_slice(body).map_err(|_| HookError::Body)
}

/// A number, as GitLab writes them: bare, or as text.
fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

fn printable(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(128).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderName;

    const KEY: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    const ID: &str = "7d1f0c52-4c3a-4a58-9d0e-0f2f1c9a6b11";
    const BODY: &str = r#"{"event_name":"user_remove_from_group","group_id":4211,"user_id":907}"#;
    const SIGNATURE: &str = "v1,4WD8Dp88kfOoGZjGB/rH6claz7MMOE2NKRYGI55bKp0=";

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
        let entry =
            |(name, value): &(&'static str, &str)| (HeaderName::from_static(name), value.parse().expect("a value"));
        let mut map = HeaderMap::new();
        for (name, value) in list.iter().map(entry) {
            map.append(name, value);
        }
        map
    }

    fn signed(list: &[(&'static str, &str)], body: &str, now: u64) -> Result<Hook, HookError> {
        Hook::read(&HookProof::SigningKey(SecretString::from(KEY)), &headers(list), body.as_bytes(), at(now))
    }

    fn person(id: u64, added: bool, state: bool) -> About {
        About::Person { id, added, group: None, state }
    }

    #[test]
    fn a_signature_is_checked_over_id_time_and_body() {
        let time = "1789000000";
        let list = [("webhook-id", ID), ("webhook-timestamp", time), ("webhook-signature", SIGNATURE)];
        let hook = signed(&list, BODY, 1_789_000_000).expect("good");
        let removed = About::Person { id: 907, added: false, group: Some(4211), state: false };
        assert_eq!(hook, Hook { id: Some(ID.into()), event: "user_remove_from_group".into(), about: removed });
        let two = format!("v1,AAAA {SIGNATURE}");
        assert!(
            signed(&[list[0], list[1], ("webhook-signature", &two)], BODY, 1_789_000_300).is_ok(),
            "one of several"
        );
        for now in [1_789_000_301, 1_788_999_699] {
            assert_eq!(signed(&list, BODY, now), Err(HookError::Time), "{now}");
        }
        let forged = BODY.replace("907", "908");
        assert_eq!(signed(&list, &forged, 1_789_000_000), Err(HookError::Signature));
        let other = [("webhook-id", "other"), list[1], list[2]];
        assert_eq!(signed(&other, BODY, 1_789_000_000), Err(HookError::Signature));
        let later = [list[0], ("webhook-timestamp", "1789000001"), list[2]];
        assert_eq!(signed(&later, BODY, 1_789_000_000), Err(HookError::Signature));
    }

    /// A static token opens nothing where signatures are demanded, and neither does a header that stands there twice.
    #[test]
    fn without_a_signature_nothing_else_helps() {
        let list = [("webhook-id", ID), ("webhook-timestamp", "1789000000"), ("x-gitlab-token", KEY)];
        assert_eq!(signed(&list, BODY, 1_789_000_000), Err(HookError::Header("webhook-signature")));
        let twice = [list[0], list[0], list[1], ("webhook-signature", SIGNATURE)];
        assert_eq!(signed(&twice, BODY, 1_789_000_000), Err(HookError::Header("webhook-id")));
        for signature in ["", "v1,", "v1,!!", "v2,4WD8Dp88kfOoGZjGB/rH6claz7MMOE2NKRYGI55bKp0="] {
            let list = [list[0], list[1], ("webhook-signature", signature)];
            assert_eq!(signed(&list, BODY, 1_789_000_000), Err(HookError::Signature), "{signature}");
        }
    }

    #[test]
    fn a_token_has_to_be_the_whole_token() {
        let read = |list: &[(&'static str, &str)]| {
            Hook::read(&HookProof::Token(SecretString::from("s3cret")), &headers(list), BODY.as_bytes(), at(0))
        };
        assert!(read(&[("x-gitlab-token", "s3cret")]).is_ok());
        for bad in ["s3cre", "s3cret ", "S3cret", ""] {
            let outcome = read(&[("x-gitlab-token", bad)]);
            assert!(outcome == Err(HookError::Token) || bad.ends_with(' '), "{bad}: {outcome:?}");
        }
        assert_eq!(read(&[]), Err(HookError::Header("x-gitlab-token")));
        assert_eq!(
            read(&[("x-gitlab-token", "s3cret"), ("x-gitlab-token", "x")]),
            Err(HookError::Header("x-gitlab-token"))
        );
    }

    #[test]
    fn each_event_says_whom_it_is_about() {
        let read = |body: &str| {
            let headers = headers(&[("x-gitlab-token", "t"), ("idempotency-key", "k\u{e9}y")]);
            Hook::read(&HookProof::Token(SecretString::from("t")), &headers, body.as_bytes(), at(0))
        };
        let about = |body: &str| read(body).expect("good").about;
        assert_eq!(about(r#"{"event_name":"user_add_to_group","user_id":7}"#), person(7, true, false));
        let added = About::Person { id: 7, added: true, group: Some(4211), state: false };
        assert_eq!(about(r#"{"event_name":"user_add_to_group","user_id":7,"group_id":4211}"#), added);
        assert_eq!(about(r#"{"event_name":"user_update_for_group","user_id":"7"}"#), person(7, false, false));
        assert_eq!(about(r#"{"event_name":"user_destroy","user_id":7}"#), person(7, false, true));
        let renamed = r#"{"event_name":"group_rename","full_path":"acme/b","old_full_path":"acme/a"}"#;
        assert_eq!(about(renamed), About::Renamed(["acme/b".into(), "acme/a".into()]));
        let destroyed = about(r#"{"event_name":"group_destroy","full_path":"acme/b"}"#);
        assert_eq!(destroyed, About::Group("acme/b".into()));
        assert_eq!(about(r#"{"event_name":"subgroup_destroy"}"#), About::Everybody);
        let vague = about(r#"{"event_name":"group_rename","full_path":"b"}"#);
        assert_eq!(vague, About::Everybody, "nobody can tell whom that concerns");
        assert_eq!(about(r#"{"object_kind":"push","user_id":7}"#), About::Push);
        assert_eq!(about(r#"{"event_name":7}"#), About::Nothing);
        assert_eq!(read(r#"{"event_name":"user_remove_from_group"}"#), Err(HookError::Lacks("user_id")));
        for body in ["", "[]", "7", "{", "\u{0}"] {
            assert_eq!(read(body), Err(HookError::Body), "{body}");
        }
    }

    #[test]
    fn audit_events_prove_themselves_by_their_own_token() {
        let read = |token: &str, body: &str| {
            let headers = headers(&[(AUDIT_TOKEN, token)]);
            Hook::read_audit_event(&SecretString::from("t"), &headers, body.as_bytes())
        };
        let blocked = r#"{"id":"88","event_type":"user_blocked","target_id":907,"entity_id":1}"#;
        let hook = read("t", blocked).expect("good");
        assert_eq!((hook.id.as_deref(), hook.about), (Some("audit 88"), person(907, false, true)));
        assert_eq!(read("x", blocked), Err(HookError::AuditToken));
        let details = r#""details":{"target_id":"907"}"#;
        let member = |more: &str| read("t", &format!(r#"{{"event_type":"member_created",{more}}}"#));
        let added = About::Person { id: 907, added: true, group: Some(4211), state: false };
        let of_group = format!(r#""entity_id":4211,"entity_type":"Group",{details}"#);
        assert_eq!(member(&of_group).expect("good").about, added, "older versions tell it in `details` only");
        assert_eq!(
            member(r#""entity_id":4211,"entity_type":"Group""#),
            Err(HookError::Lacks("target_id")),
            "no person"
        );
        let shared = r#"{"id":9,"event_type":"group_share_with_group_link_removed"}"#;
        assert_eq!(read("t", shared).expect("good").about, About::Everybody);
        assert_eq!(read("t", r#"{"event_type":"user_blocked"}"#), Err(HookError::Lacks("target_id")));
        assert_eq!(read("t", r#"{"event_type":"repository_git_operation"}"#).expect("good").about, About::Nothing);
    }

    /// What an event of members says of its group is not taken for the person.
    #[test]
    fn an_audit_event_is_about_its_target() {
        let about = |body: &str| {
            let headers = headers(&[(AUDIT_TOKEN, "t")]);
            Hook::read_audit_event(&SecretString::from("t"), &headers, body.as_bytes()).map(|hook| hook.about)
        };
        let member = r#"{"event_type":"member_destroyed","entity_id":4211,"entity_type":"Group""#;
        let removed = About::Person { id: 907, added: false, group: Some(4211), state: false };
        assert_eq!(about(&format!(r#"{member},"target_id":907}}"#)), Ok(removed.clone()));
        assert_eq!(about(&format!(r#"{member},"details":{{"target_id":907}}}}"#)), Ok(removed));
        assert_eq!(about(&format!("{member}}}")), Err(HookError::Lacks("target_id")));
        assert_eq!(about(r#"{"event_type":"user_blocked","entity_id":907}"#), Ok(person(907, false, true)));
    }

    /// GitLab says in a header what a body is about that is too long to be read; what does not say it may be about everybody.
    #[test]
    fn what_is_too_long_may_be_about_everybody() {
        let hook = |list: &[(&'static str, &str)]| Hook::unread(&headers(list));
        let system = hook(&[("x-gitlab-event", "System Hook")]);
        assert_eq!((system.about, system.event.as_str()), (About::Everybody, "System Hook, too long to be read"));
        assert_eq!(hook(&[]).about, About::Everybody);
        assert_eq!(hook(&[("x-gitlab-event", "Push Hook")]).about, About::Push);
        assert_eq!(hook(&[("x-gitlab-event", "Issue Hook")]).about, About::Nothing);
        let audit = |list: &[(&'static str, &str)]| Hook::unread_audit_event(&headers(list)).about;
        assert_eq!(audit(&[(AUDIT_EVENT, "user_blocked")]), About::Everybody);
        assert_eq!(audit(&[]), About::Everybody);
        assert_eq!(audit(&[(AUDIT_EVENT, "repository_git_operation")]), About::Nothing);
    }
}
