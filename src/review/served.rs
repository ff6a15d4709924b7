//! What two configurations have otherwise, beside their policies, of what decides who may do what.

use crate::config::Settings;
use serde_json::{Map, Value, json};
use std::{collections::BTreeSet, fmt, path::Path};

/// Lists whose entries have names, each with the keys of an entry that decide nothing: all others may.
const LISTS: [(&str, &[&str]); 3] = [
    ("routes", &["name", "allow", "body", "idle", "limits", "timeouts", "upstream"]), // `allow` is policies
    ("providers", &["name", "title"]),
    ("token_issuers", &["name"]),
];

/// Other keys that decide nothing about a request; the policies are compared by what they say.
const APART: [&str; 12] = [
    "audit",
    "contact",
    "drain",
    "hsts",
    "keys",
    "limits",
    "operations",
    "policies",
    "sessions",
    "shadow_policies",
    "state",
    "workers",
];

/// One key that is not the same on both sides.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// Which, such as `routes[api].labels`; `routes[api]` alone was added or removed.
    pub key: String,
    /// The value before; null: none.
    pub before: Value,
    /// The value after; null: none.
    pub after: Value,
}

impl Setting {
    /// For programs.
    pub fn json(&self) -> Value {
        json!({ "key": self.key, "before": self.before, "after": self.after })
    }
}

/// `routes[api].labels: {"tier":"production"} → {"tier":"dev"}`; `routes[payroll]: added: {"host":…}`.
impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let said = |value: &Value| if value.is_null() { "none".to_owned() } else { value.to_string() };
        match (self.key.ends_with(']'), &self.before, &self.after) {
            (true, Value::Null, after) => write!(f, "{} added: {after}", self.key),
            (true, ..) => write!(f, "{} removed", self.key),
            (false, before, after) => write!(f, "{}: {} → {}", self.key, said(before), said(after)),
        }
    }
}

/// All of these, sorted by key.
pub fn settings(before: &Settings, after: &Settings) -> Vec<Setting> {
    let [one, other] = [before, after].map(whole);
    let mut found = unlike("", &one, &other);
    for (list, apart) in LISTS {
        let [before, after] = [before, after].map(|side| entries(side, list, apart));
        for name in before.keys().chain(after.keys()).collect::<BTreeSet<_>>() {
            let key = format!("{list}[{name}]");
            match (before.get(name), after.get(name)) {
                (Some(Value::Object(before)), Some(Value::Object(after))) => {
                    found.extend(unlike(&format!("{key}."), before, after));
                }
                (before, after) => {
                    let value = |value: Option<&Value>| value.cloned().unwrap_or_default();
                    found.push(Setting { key, before: value(before), after: value(after) });
                }
            }
        }
    }
    found
}

/// The keys of the configuration that are no such lists.
fn whole(settings: &Settings) -> Map<String, Value> {
    let base = settings.file.parent().unwrap_or(Path::new(""));
    let is_apart = |key: &str| APART.contains(&key) || LISTS.iter().any(|(list, _)| *list == key);
    let own = settings.effective.as_object().into_iter().flatten().filter(|(key, _)| !is_apart(key));
    own.map(|(key, value)| (key.clone(), relative(value, base))).collect()
}

fn unlike(path: &str, before: &Map<String, Value>, after: &Map<String, Value>) -> Vec<Setting> {
    let value = |map: &Map<String, Value>, key: &String| map.get(key).cloned().unwrap_or_default();
    let keys: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let keys = keys.into_iter().filter(|key| before.get(*key) != after.get(*key));
    keys.map(|key| Setting { key: format!("{path}{key}"), before: value(before, key), after: value(after, key) })
        .collect()
}

/// The entries of a list by name, without the keys that stand `apart`.
fn entries(settings: &Settings, list: &str, apart: &[&str]) -> Map<String, Value> {
    let base = settings.file.parent().unwrap_or(Path::new(""));
    let entry = |entry: &Value| {
        let name = entry.get("name")?.as_str()?.to_owned();
        let own = entry.as_object()?.iter().filter(|(key, value)| !apart.contains(&key.as_str()) && !value.is_null());
        Some((name, own.map(|(key, value)| (key.clone(), relative(value, base))).collect()))
    };
    settings.effective.get(list).and_then(Value::as_array).into_iter().flatten().filter_map(entry).collect()
}

/// The value with paths as they stand below the configuration: where it was checked out is no difference.
fn relative(value: &Value, base: &Path) -> Value {
    match value {
        Value::String(text) => match Path::new(text).strip_prefix(base) {
            Ok(below) if !base.as_os_str().is_empty() => below.display().to_string().into(),
            Ok(_) | Err(_) => value.clone(),
        },
        Value::Array(items) => items.iter().map(|item| relative(item, base)).collect(),
        Value::Object(map) => map.iter().map(|(key, item)| (key.clone(), relative(item, base))).collect(),
        _ => value.clone(),
    }
}
