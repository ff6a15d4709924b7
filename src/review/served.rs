//! What two configurations have otherwise, beside their policies, of what decides who may do what.

use crate::config::Settings;
use serde_json::{Map, Value, json};
use std::{collections::BTreeSet, fmt, path::Path};

/// Keys that decide who comes to a route, what policies see of it and of a request, and as whom its upstream is asked.
const ROUTE: [&str; 12] = [
    "host",
    "path",
    "paths",
    "providers",
    "token_issuers",
    "labels",
    "body_fields",
    "step_up",
    "credential",
    "forward_credential",
    "one_time",
    "running_job",
];

/// Keys that decide whom a provider vouches for.
const PROVIDER: [&str; 5] = ["kind", "issuer", "tenants", "hosted_domains", "claims"];

/// Keys that decide for whom a token issuer vouches.
const TOKEN_ISSUER: [&str; 13] = [
    "kind",
    "issuer",
    "provider",
    "audiences",
    "algorithms",
    "max_age",
    "principal",
    "media_type",
    "claims",
    "projects",
    "legacy_project",
    "endpoint",
    "client_id",
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
    let mut found = Vec::new();
    for (list, keys) in [("routes", &ROUTE[..]), ("providers", &PROVIDER), ("token_issuers", &TOKEN_ISSUER)] {
        let [before, after] = [before, after].map(|side| entries(side, list, keys));
        for name in before.keys().chain(after.keys()).collect::<BTreeSet<_>>() {
            let key = format!("{list}[{name}]");
            match (before.get(name), after.get(name)) {
                (Some(Value::Object(before)), Some(Value::Object(after))) => found.extend(unlike(&key, before, after)),
                (before, after) => {
                    let value = |value: Option<&Value>| value.cloned().unwrap_or_default();
                    found.push(Setting { key, before: value(before), after: value(after) });
                }
            }
        }
    }
    found
}

fn unlike(path: &str, before: &Map<String, Value>, after: &Map<String, Value>) -> Vec<Setting> {
    let value = |map: &Map<String, Value>, key: &String| map.get(key).cloned().unwrap_or_default();
    let keys: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let keys = keys.into_iter().filter(|key| before.get(*key) != after.get(*key));
    keys.map(|key| Setting { key: format!("{path}.{key}"), before: value(before, key), after: value(after, key) })
        .collect()
}

/// The entries of a list by name, with these keys alone.
fn entries(settings: &Settings, list: &str, keys: &[&str]) -> Map<String, Value> {
    let base = settings.file.parent().unwrap_or(Path::new(""));
    let entry = |entry: &Value| {
        let name = entry.get("name")?.as_str()?.to_owned();
        let own = keys.iter().filter_map(|key| Some(((*key).to_owned(), relative(entry.get(*key)?, base))));
        Some((name, Value::Object(own.filter(|(_, value)| !value.is_null()).collect())))
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
