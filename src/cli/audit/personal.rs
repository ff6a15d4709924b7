//! What is personal in the trail: which fields are, and what stands for whom.

use super::output::say;
use crate::audit::{FieldAbout, PSEUDONYMS, Pseudonyms, Query, fields};
use std::{io::Write, net::IpAddr, path::Path};

/// The query for a person or a client as the trail has them: under their pseudonym, where it asks for an address and there is a key
/// for pseudonyms in `keys`.
///
/// # Errors
/// One line that says what is wrong with the key.
pub(super) fn translated(query: Query, keys: &Path) -> Result<Query, String> {
    let user = query.user.as_deref().filter(|user| user.contains('@'));
    let client = query.client.as_deref().filter(|client| client.parse::<IpAddr>().is_ok());
    if user.or(client).is_none() {
        return Ok(query);
    }
    let Some(names) = Pseudonyms::read(keys)? else { return Ok(query) };
    let [user, client] = [user, client].map(|value| value.and_then(|value| names.value(value)));
    Ok(Query { user: user.or(query.user), client: client.or(query.client), ..query })
}

/// Lists what is recorded. It needs no configuration.
///
/// # Errors
/// If it cannot be written.
pub(super) fn list_fields(json: bool, out: &mut dyn Write) -> Result<bool, String> {
    let fields = fields();
    let text = if json {
        serde_json::to_string(&fields).map_err(|error| error.to_string())?
    } else {
        let width = fields.iter().map(|field| field.path.len()).max().unwrap_or_default();
        let line = |field: &FieldAbout| format!("{:width$}  {:8}  {}", field.path, field.class.as_str(), field.text);
        fields.iter().map(line).collect::<Vec<_>>().join("\n")
    };
    say(&text, out).map(|()| true)
}

/// Says what stands for `value`; false if nothing does.
pub(super) fn pseudonym(value: &str, keys: &Path, json: bool, out: &mut dyn Write) -> Result<bool, String> {
    let names = Pseudonyms::read(keys)?.ok_or_else(|| {
        let path = keys.join(PSEUDONYMS);
        format!("there is no `{}`: it is made at the first start with `audit.pseudonyms`", path.display())
    })?;
    let found = names.value(value);
    let text = match (&found, json) {
        (_, true) => serde_json::json!({ "value": value, "pseudonym": found }).to_string(),
        (Some(found), false) => found.clone(),
        (None, false) => return Err(format!("`{value}` is neither an e-mail address nor that of a client")),
    };
    say(&text, out).map(|()| found.is_some())
}
