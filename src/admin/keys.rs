//! What is done with keys, by a running process and without one.

use super::Kind;
use crate::{
    forward::assertion,
    principal::Name,
    session::{
        record::seconds,
        ring::{self, NOTICE},
    },
};
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    fs,
    io::ErrorKind,
    path::Path,
    time::{Duration, SystemTime},
};

/// A sign-in takes at most so long, and needs the key that sealed its `state`.
const SIGN_IN: Duration = Duration::from_secs(600);

/// What is sealed, by the id of the key of the ring that it needs.
#[derive(Default)]
pub(super) struct Sealed {
    /// How many stored records.
    pub(super) records: HashMap<[u8; 4], u64>,
    /// The providers whose renewed token is kept, see [`crate::membership`].
    pub(super) tokens: HashMap<[u8; 4], Vec<String>>,
}

impl Sealed {
    /// These records, and the tokens that are kept in `state`. `None`: nobody can tell.
    pub(super) fn with_tokens(records: HashMap<[u8; 4], u64>, state: &Path) -> Option<Self> {
        let mut tokens = HashMap::<_, Vec<_>>::new();
        let files = match fs::read_dir(state.join("tokens")) {
            Ok(files) => files,
            Err(error) if error.kind() == ErrorKind::NotFound => return Some(Self { records, tokens }),
            Err(_) => return None,
        };
        for file in files {
            let file = file.ok()?;
            let Ok(name) = file.file_name().into_string() else { continue };
            if name.parse::<Name>().is_ok()
                && let Some(id) = fs::read(file.path()).ok()?.first_chunk()
            {
                tokens.entry(*id).or_default().push(name);
            }
        }
        Some(Self { records, tokens })
    }
}

/// All keys with what is needed to decide about them: what each key of the ring has sealed; `None`: nobody can tell.
pub(super) fn list(
    ring: &[ring::About],
    signs: &[assertion::About],
    sealed: Option<&Sealed>,
    now: SystemTime,
) -> Value {
    let age = |created: SystemTime| now.duration_since(created).unwrap_or_default().as_secs();
    // whatever was sealed by the one before is at most as old as the one that seals now
    let since = ring.first().map_or(0, |key| age(key.created).saturating_sub(NOTICE.as_secs()));
    let sealing = ring.iter().map(|key| {
        let waits = NOTICE.as_secs().saturating_sub(age(key.created));
        let newer = ring.first().is_some_and(|sealing| key.name > sealing.name); // the newest name seals
        let announced = newer && waits > 0;
        let used = sealed.map(|sealed| sealed.records.get(&key.id).copied().unwrap_or(0));
        let tokens = sealed.and_then(|sealed| sealed.tokens.get(&key.id)).cloned().unwrap_or_default();
        json!({
            "kind": Kind::Ring, "name": key.name, "created": seconds(key.created),
            "state": if key.seals { "seals" } else if announced { "announced" } else { "opens" },
            "takes_over_in": announced.then_some(waits),
            "needed_by": used,
            "may_go": !key.seals && !announced && used == Some(0) && tokens.is_empty() && since >= SIGN_IN.as_secs(),
            "tokens": tokens,
        })
    });
    let signing = signs.iter().position(|key| key.signs);
    let signing_for = signing.map_or(0, |at| age(signs[at].created).saturating_sub(assertion::NOTICE.as_secs()));
    let signing = signs.iter().enumerate().map(|(at, key)| {
        let announced = signing.is_some_and(|signing| at > signing);
        let waits = assertion::NOTICE.as_secs().saturating_sub(age(key.created));
        json!({
            "kind": Kind::Assertion, "name": key.id, "created": seconds(key.created),
            "state": if key.signs { "signs" } else if announced { "announced" } else { "published" },
            "takes_over_in": announced.then_some(waits),
            "may_go": !key.signs && !announced && signing_for >= assertion::AFTERLIFE.as_secs(),
        })
    });
    sealing.chain(signing).collect()
}

/// Makes a new key; its name.
pub(super) fn rotate(keys: &Path, kind: Kind, now: SystemTime) -> Result<String, String> {
    match kind {
        Kind::Ring => ring::add(keys, now).map_err(|error| crate::text::chain(&error)),
        Kind::Assertion => assertion::add(&keys.join("assertion"), now),
    }
}

/// Whether a key may be deleted.
///
/// # Errors
/// Why not, and what to do.
pub(super) fn may_retire(list: &Value, kind: Kind, name: &str, force: bool) -> Result<(), String> {
    let is = |key: &&Value| key["kind"] == kind.as_str() && key["name"] == name;
    let word = kind.as_str();
    let Some(key) = list.as_array().into_iter().flatten().find(is) else {
        return Err(format!("there is no {word} key `{name}`: `vestibule keys list` has their names"));
    };
    if key["state"] == "seals" || key["state"] == "signs" {
        return match (successor(list, kind), kind) {
            (None, _) => {
                Err(format!("`{name}` is the {word} key in use: make another with `vestibule keys rotate` first"))
            }
            // all who share the ring have it, and what one of them sealed meanwhile ends as `--force` says
            (Some(_), Kind::Ring) if force => Ok(()),
            (Some((next, seconds)), Kind::Ring) => Err(format!(
                "`{name}` is the ring key in use, and `{next}` takes over in {seconds} s: retire it then, or say `--force`"
            )),
            (Some((next, seconds)), Kind::Assertion) => Err(format!(
                "`{name}` is the assertion key in use, and `{next}` takes over in {seconds} s: retire it then; before, \
                 upstreams may not know what `{next}` signs"
            )),
        };
    }
    if force || key["may_go"] == true {
        return Ok(());
    }
    if let Some(seconds) = key["takes_over_in"].as_u64() {
        return Err(format!("`{name}` is new and takes over in {seconds} s: if it is not to, say `--force`"));
    }
    Err(match (kind, key["needed_by"].as_u64()) {
        (Kind::Ring, Some(needed @ 1..)) => format!(
            "`{name}` is needed by {needed} stored sessions and handles, which would end: wait until they have ended or were \
             used, or say `--force`"
        ),
        (Kind::Ring, _) if tokens(key).next().is_some() => format!(
            "`{name}` seals the renewed token for the API of {}, which would be lost: a running process seals it anew within a \
             minute after another key took over; wait for that, or say `--force`",
            tokens(key).collect::<Vec<_>>().join(", ")
        ),
        (Kind::Ring, _) => {
            format!("`{name}` may be needed by sign-ins that are under way: wait ten minutes, or say `--force`")
        }
        (Kind::Assertion, _) => format!(
            "`{name}` has signed assertions that upstreams may still verify: wait eleven minutes after the newer key began \
             to sign, or say `--force`"
        ),
    })
}

/// The providers whose renewed token a key seals.
fn tokens(key: &Value) -> impl Iterator<Item = &str> {
    key["tokens"].as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// The announced key of this kind that takes over next, and in how many seconds.
fn successor(list: &Value, kind: Kind) -> Option<(&str, u64)> {
    let of_kind = list.as_array()?.iter().filter(|key| key["kind"] == kind.as_str());
    of_kind
        .filter_map(|key| Some((key["name"].as_str()?, key["takes_over_in"].as_u64()?)))
        .min_by_key(|(_, seconds)| *seconds)
}

/// The answer to whoever retired a key: what is gone and what went with it, and the key of this kind that is in use now, if `list`
/// had another.
pub(super) fn retired(list: &Value, kind: Kind, name: &str, in_use: Option<String>) -> Value {
    let is = |key: &&Value| key["kind"] == kind.as_str() && key["name"] == name;
    let key = list.as_array().into_iter().flatten().find(is).unwrap_or(&Value::Null);
    let was_used = key["state"] == "seals" || key["state"] == "signs";
    let tokens: Vec<_> = tokens(key).collect();
    json!({
        "kind": kind, "name": name, "in_use_now": in_use.filter(|_| was_used),
        "lost_records": key["needed_by"], "lost_tokens": tokens,
    })
}

/// Deletes a key.
pub(super) fn retire(keys: &Path, kind: Kind, name: &str) -> Result<(), String> {
    match kind {
        Kind::Ring => ring::remove(keys, name).map_err(|error| crate::text::chain(&error)),
        Kind::Assertion => assertion::remove(&keys.join("assertion"), name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{forward::assertion::AssertionKeys, session::KeyRing};

    fn listed(directory: &Path, uses: &HashMap<[u8; 4], u64>, now: SystemTime) -> Value {
        let ring = KeyRing::open(directory).expect("opens");
        ring.refresh(now).expect("read");
        let assertion = AssertionKeys::load(&directory.join("assertion"), now).expect("loads");
        let sealed = Sealed::with_tokens(uses.clone(), directory).expect("read");
        list(&ring.about(), &assertion.about(now), Some(&sealed), now)
    }

    fn states(list: &Value, kind: Kind) -> Vec<String> {
        let keys = list.as_array().expect("a list").iter().filter(|key| key["kind"] == kind.as_str());
        keys.map(|key| key["state"].as_str().expect("a state").to_owned()).collect()
    }

    /// No key goes while anything needs it, unless somebody insists; the one in use never goes.
    #[test]
    fn a_key_goes_when_nothing_needs_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let (now, uses) = (SystemTime::now(), HashMap::new());
        let first = listed(directory.path(), &uses, now);
        let old = first[0]["name"].as_str().expect("a name").to_owned();
        assert!(may_retire(&first, Kind::Ring, &old, true).expect_err("in use").contains("keys rotate"));
        assert!(may_retire(&first, Kind::Ring, "none", true).expect_err("none").contains("keys list"));
        rotate(directory.path(), Kind::Ring, now).expect("made");
        let at = |seconds| now + Duration::from_secs(seconds);
        let announced = listed(directory.path(), &uses, at(30));
        assert_eq!(states(&announced, Kind::Ring), ["seals", "announced"]);
        let new = announced[1]["name"].as_str().expect("a name");
        let error = may_retire(&announced, Kind::Ring, &old, false).expect_err("in use");
        assert!(error.contains(&format!("`{new}` takes over in 30 s: retire it then, or say `--force`")), "{error}");
        assert!(may_retire(&announced, Kind::Ring, &old, true).is_ok(), "it may have leaked");
        let error = may_retire(&announced, Kind::Ring, new, false).expect_err("it is to be used");
        assert!(error.contains("takes over in 30 s: if it is not to, say `--force`"), "{error}");
        let after = listed(directory.path(), &uses, at(61));
        assert_eq!(states(&after, Kind::Ring), ["seals", "opens"]);
        let error = may_retire(&after, Kind::Ring, &old, false).expect_err("a sign-in may need it");
        assert!(error.contains("ten minutes"), "{error}");
        assert!(may_retire(&after, Kind::Ring, &old, true).is_ok());
        let later = listed(directory.path(), &uses, at(700));
        assert!(may_retire(&later, Kind::Ring, &old, false).is_ok());
        let id = KeyRing::open(directory.path())
            .expect("opens")
            .about()
            .iter()
            .find(|key| key.name == old)
            .expect("there")
            .id;
        let used = listed(directory.path(), &HashMap::from([(id, 3)]), at(700));
        let error = may_retire(&used, Kind::Ring, &old, false).expect_err("needed");
        assert!(error.contains("needed by 3 stored sessions"), "{error}");
        std::fs::create_dir(directory.path().join("tokens")).expect("made");
        std::fs::write(directory.path().join("tokens/gitlab"), [&id[..], b"sealed"].concat()).expect("written");
        let kept = listed(directory.path(), &uses, at(700));
        let error = may_retire(&kept, Kind::Ring, &old, false).expect_err("a token needs it");
        assert!(error.contains("seals the renewed token for the API of gitlab, which would be lost"), "{error}");
        assert!(may_retire(&kept, Kind::Ring, &old, true).is_ok());
        let told = retired(&listed(directory.path(), &HashMap::from([(id, 3)]), at(700)), Kind::Ring, &old, None);
        assert_eq!((&told["lost_records"], &told["lost_tokens"]), (&json!(3), &json!(["gitlab"])));
        retire(directory.path(), Kind::Ring, &old).expect("deleted");
        let told = retired(&announced, Kind::Ring, &old, Some("next".to_owned()));
        assert_eq!(told["in_use_now"], "next");
        assert_eq!(retired(&later, Kind::Ring, &old, Some("next".to_owned()))["in_use_now"], Value::Null);
        assert_eq!(states(&listed(directory.path(), &uses, at(700)), Kind::Ring), ["seals"]);
    }

    #[test]
    fn an_assertion_key_stays_published_after_it_has_signed() {
        let directory = tempfile::tempdir().expect("a directory");
        let (now, uses) = (SystemTime::now(), HashMap::new());
        listed(directory.path(), &uses, now);
        rotate(directory.path(), Kind::Assertion, now + Duration::from_secs(5)).expect("made");
        let at = |seconds| now + Duration::from_secs(seconds);
        let list = listed(directory.path(), &uses, at(30));
        assert_eq!(states(&list, Kind::Assertion), ["signs", "announced"]);
        let of = |list: &Value, state: &str| {
            list.as_array().expect("a list").iter().find(|key| key["state"] == state).expect("one").clone()
        };
        let (used, new) = (of(&list, "signs"), of(&list, "announced"));
        assert_eq!((&new["may_go"], &new["takes_over_in"]), (&json!(false), &json!(575)), "it is to be used");
        let new = new["name"].as_str().expect("a name");
        for force in [false, true] {
            let error = may_retire(&list, Kind::Assertion, used["name"].as_str().expect("a name"), force);
            let error = error.expect_err("upstreams do not know the other yet");
            assert!(error.contains(&format!("`{new}` takes over in 575 s: retire it then")), "{error}");
        }
        assert!(may_retire(&list, Kind::Assertion, new, false).is_err());
        assert!(may_retire(&list, Kind::Assertion, new, true).is_ok());
        let list = listed(directory.path(), &uses, at(606));
        assert_eq!(states(&list, Kind::Assertion), ["published", "signs"]);
        let old = list.as_array().expect("a list").iter().find(|key| key["state"] == "published").expect("one")["name"]
            .clone();
        let old = old.as_str().expect("a name");
        assert!(may_retire(&list, Kind::Assertion, old, false).is_err());
        assert!(may_retire(&listed(directory.path(), &uses, at(1_270)), Kind::Assertion, old, false).is_ok());
    }
}
