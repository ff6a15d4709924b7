//! How decisions, policies and principals are told, as text and as JSON.

use crate::authorize::{Seen, Written};
use serde_json::{Value, json};
use std::sync::Arc;

/// Longer conditions are cut in texts, in characters; JSON has them whole.
const LONGEST: usize = 160;

/// What a policy does where it applies.
pub(super) fn effect(written: &Written) -> &'static str {
    if written.permits { "permit" } else { "forbid" }
}

/// Names of policies.
pub(super) fn ids(ids: &[Arc<str>]) -> Vec<&str> {
    ids.iter().map(|id| &**id).collect()
}

/// A policy as one object.
pub(super) fn policy(written: &Written) -> Value {
    json!({
        "id": &*written.id,
        "effect": effect(written),
        "place": written.place,
        "reason": written.reason.as_deref(),
        "remedy": written.remedy.as_deref(),
    })
}

/// An entity as one object.
pub(super) fn entity(seen: &Seen) -> Value {
    json!({ "type": seen.kind, "id": seen.id, "attributes": seen.attributes, "parents": seen.parents })
}

/// A condition that fits a line.
pub(super) fn short(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

/// Lines of cells in columns; the last column is as wide as it is.
pub(super) fn table(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<_> = (0..columns).map(|column| width(column).unwrap_or_default()).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// Methods in few words: `read` for GET, HEAD and OPTIONS, `write` for POST, PUT, PATCH and DELETE.
pub(super) fn methods(methods: &[&str]) -> String {
    let mut words = Vec::new();
    for (group, members) in [("read", &["GET", "HEAD", "OPTIONS"][..]), ("write", &["POST", "PUT", "PATCH", "DELETE"])]
    {
        let held: Vec<_> = members.iter().copied().filter(|member| methods.contains(member)).collect();
        if held.len() == members.len() { words.push(group) } else { words.extend(held) }
    }
    words.extend(methods.iter().copied().filter(|method| *method == "connect"));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_groups_where_all_are_there() {
        assert_eq!(methods(&["GET", "HEAD", "OPTIONS", "POST", "connect"]), "read POST connect");
        assert_eq!(methods(&["DELETE", "POST", "PUT", "PATCH"]), "write");
        assert_eq!(methods(&[]), "");
    }

    #[test]
    fn columns_stand_below_each_other() {
        let row = |cells: &[&str]| cells.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(table(&[row(&["a", "bc", ""]), row(&["abc", "d", "e"])]), ["a    bc", "abc  d   e"]);
    }
}
