//! `vestibule keys` and `vestibule status`: asked of the running process, or done to the files where none runs.

use super::print;
use crate::{
    admin::{
        Command, Kind,
        client::{self, Files},
    },
    audit::rfc3339,
    config::Settings,
    text::counted,
};
use clap::{Subcommand, ValueEnum};
use serde_json::Value;

/// What to do with the keys.
#[derive(Debug, Subcommand)]
pub(super) enum KeysCommand {
    /// The keys, what each is used for, and which may go.
    List,
    /// Make a new key; it is used once everybody who shares it knows it.
    Rotate {
        /// Which keys. Default: both kinds.
        #[arg(long)]
        kind: Option<KeyKind>,
    },
    /// Delete a key that nothing needs any more.
    Retire {
        /// The key's name, as `keys list` has it.
        name: String,
        /// Delete it although something needs it: sessions and sign-ins that it sealed end, and a token for GitLab's API that was
        /// renewed is lost.
        #[arg(long)]
        force: bool,
    },
}

/// The kinds of keys.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum KeyKind {
    /// Seals sessions and sign-ins.
    Ring,
    /// Signs what upstreams are told about callers.
    Assertion,
}

/// Lists, makes or deletes keys.
pub(super) fn run(command: &KeysCommand, settings: &Settings, json: bool) -> Result<bool, String> {
    let running = client::ask(&settings.state, &Command::Status {})?.is_some();
    let files = match command {
        KeysCommand::List if !running => return listed(&Files::look(settings)?, json),
        _ if running => None,
        _ => Some(Files::open(settings)?),
    };
    let done = |command: &Command| match &files {
        Some(files) => files.act(command),
        None => {
            client::ask(&settings.state, command)?.ok_or_else(|| "the process has just ended: try again".to_owned())
        }
    };
    match command {
        KeysCommand::List => return listed(&done(&Command::KeysList {})?, json),
        KeysCommand::Rotate { kind } => {
            let kinds = match kind {
                Some(KeyKind::Ring) => vec![Kind::Ring],
                Some(KeyKind::Assertion) => vec![Kind::Assertion],
                None => vec![Kind::Ring, Kind::Assertion],
            };
            let mut made = Vec::new();
            for kind in kinds {
                made.push(done(&Command::KeysRotate { kind })?);
            }
            let told = |key: &Value| {
                let when = if key["kind"] == "ring" { "seals in a minute" } else { "signs in ten minutes" };
                format!("{} key {}: {when}", text(&key["kind"]), text(&key["name"]))
            };
            let lines: Vec<_> = made.iter().map(told).collect();
            print(&if json { format!("{:#}", Value::from(made)) } else { lines.join("\n") });
        }
        KeysCommand::Retire { name, force } => {
            let keys = done(&Command::KeysList {})?;
            let found = keys.as_array().into_iter().flatten().find(|key| key["name"] == **name);
            let kind = match found.map(|key| text(&key["kind"])) {
                Some("assertion") => Kind::Assertion,
                Some(_) => Kind::Ring,
                None => return Err(format!("there is no key `{name}`: `vestibule keys list` has their names")),
            };
            let gone = done(&Command::KeysRetire { kind, name: name.clone(), force: *force })?;
            let next = gone["in_use_now"].as_str().map_or_else(String::new, |next| format!("; `{next}` is in use now"));
            let lost = lost(&gone);
            print(&if json {
                format!("{gone:#}")
            } else {
                format!("{} key {name} is deleted{next}{lost}", kind.as_str())
            });
        }
    }
    Ok(true)
}

/// What went with a key.
fn lost(gone: &Value) -> String {
    let mut lost = String::new();
    if let Some(records @ 1..) = gone["lost_records"].as_u64() {
        lost += &format!(
            "; {} any more",
            counted(
                records,
                "session or handle that it sealed does not open",
                "sessions and handles that it sealed do not open"
            )
        );
    }
    for provider in gone["lost_tokens"].as_array().into_iter().flatten().map(text) {
        lost += &format!(
            "; the renewed token for the API of {provider} is lost at the next start: make another there, and give it to \
             `membership.api.token`"
        );
    }
    lost
}

fn listed(keys: &Value, json: bool) -> Result<bool, String> {
    let none = keys.as_array().is_none_or(Vec::is_empty);
    print(&if json {
        format!("{keys:#}")
    } else if none {
        "no keys yet: they are made at the first start".to_owned()
    } else {
        table(keys)
    });
    Ok(true)
}

/// How the running process is. False: none runs.
pub(super) fn status(settings: &Settings, json: bool) -> Result<bool, String> {
    let Some(status) = client::ask(&settings.state, &Command::Status {})? else {
        print(if json { "null" } else { "no process runs with this configuration" });
        return Ok(false);
    };
    print(&if json { format!("{status:#}") } else { told(&status) });
    Ok(true)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn moment(value: &Value) -> String {
    value.as_u64().map_or_else(|| "never".to_owned(), |seconds| rfc3339(seconds.saturating_mul(1000)))
}

fn table(keys: &Value) -> String {
    let mut lines =
        vec![format!("{:<10} {:<28} {:<25} {:<10} {:<18} may go", "kind", "name", "made", "state", "needed by")];
    for key in keys.as_array().into_iter().flatten() {
        let tokens = key["tokens"].as_array().map_or(0, Vec::len);
        let needed = match key["needed_by"].as_u64() {
            Some(number) if tokens > 0 => format!("{number} and {}", counted(tokens as u64, "token", "tokens")),
            Some(number) => counted(number, "session", "sessions"),
            None if key["kind"] == "ring" => "unknown".to_owned(),
            None => "-".to_owned(),
        };
        let may_go = if key["may_go"] == true { "yes" } else { "no" };
        lines.push(format!(
            "{:<10} {:<28} {:<25} {:<10} {needed:<18} {may_go}",
            text(&key["kind"]),
            text(&key["name"]),
            moment(&key["created"]),
            text(&key["state"]),
        ));
    }
    lines.join("\n")
}

fn told(status: &Value) -> String {
    let mut lines = vec![
        format!(
            "vestibule {} at {}, since {}",
            text(&status["version"]),
            text(&status["public_url"]),
            moment(&status["since"])
        ),
        format!(
            "configuration {}, policies {}, {}",
            text(&status["configuration"]),
            text(&status["policies"]),
            counted(number(&status["routes"]), "route", "routes")
        ),
        format!(
            "{}, {} open",
            counted(number(&status["sessions_in_use"]), "session in use", "sessions in use"),
            counted(number(&status["streams"]), "stream", "streams")
        ),
    ];
    lines.extend(shadow(&status["shadow"]));
    lines.extend(last_reload(&status["last_reload"]));
    for provider in status["providers"].as_array().into_iter().flatten() {
        let ready = if provider["ready"] == true { "ready" } else { "NOT READY" };
        let keys =
            provider["keys_age"].as_u64().map_or_else(|| "no keys".to_owned(), |age| format!("keys read {age} s ago"));
        let answered = format!("last answered {}", moment(&provider["answered"]));
        let clock = match provider["clock_ahead"].as_i64() {
            Some(0) => ", its clock is as ours".to_owned(),
            Some(ahead) => format!(", its clock is {ahead:+} s from ours"),
            None => String::new(),
        };
        let error = provider["last_error"].as_str().map_or_else(String::new, |error| format!(", last error: {error}"));
        lines.push(format!("provider {}: {ready}, {answered}, {keys}{clock}{error}", text(&provider["name"])));
    }
    for issuer in status["token_issuers"].as_array().into_iter().flatten() {
        let ready = if issuer["ready"] == true { "ready" } else { "NOT READY" };
        let keys = issuer["keys_age"].as_u64().map_or_else(String::new, |age| format!(", keys read {age} s ago"));
        let error = issuer["last_error"].as_str().map_or_else(String::new, |error| format!(", last error: {error}"));
        lines.push(format!("token issuer {}: {ready}{keys}{error}", text(&issuer["name"])));
    }
    lines.push(journal(&status["journal"]));
    lines.extend(status["sinks"].as_array().into_iter().flatten().map(sink));
    for (kind, word) in [("ring", "seals"), ("assertion", "signs")] {
        let used = &status["in_use"][kind];
        let named = |name: &Value| {
            let word = if name == used { format!(" ({word})") } else { String::new() };
            format!("{}{word}", text(name))
        };
        let names: Vec<_> = status[format!("{kind}_keys")].as_array().into_iter().flatten().map(named).collect();
        lines.push(format!("{kind} keys: {}", names.join(", ")));
    }
    for token in status["tokens"].as_array().into_iter().flatten() {
        let until = token["expires"].as_str().map_or_else(String::new, |day| format!(", until {day}"));
        let state = token["alarm"].as_str().map_or_else(|| "in order".to_owned(), |alarm| format!("ALARM: {alarm}"));
        lines.push(format!("token for the API of {}{until}: {state}", text(&token["provider"])));
    }
    for group in status["unreadable_groups"].as_array().into_iter().flatten() {
        lines.push(format!("group {}: ALARM: its members cannot be read", text(group)));
    }
    for lock in status["locks"].as_array().into_iter().flatten() {
        lines.push(format!("locked: {}", text(lock)));
    }
    lines.join("\n")
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

/// How the journal of the audit trail is.
fn journal(journal: &Value) -> String {
    let required = journal["mode"] == "required";
    let state = match (journal["writable"] == true, required) {
        (true, _) => "written",
        (false, true) => "CANNOT BE WRITTEN, so every request is refused; the log says why",
        (false, false) => "CANNOT BE WRITTEN, and requests go on; the log says why",
    };
    let (mode, written, lost) =
        (text(&journal["mode"]), counted(number(&journal["written"]), "event", "events"), &journal["lost"]);
    format!("audit journal ({mode}): {state}; since the start {written} written, {lost} lost")
}

/// How one sink of the audit trail is.
fn sink(sink: &Value) -> String {
    let state = match text(&sink["state"]) {
        "shipping" => "takes records".to_owned(),
        other => other.to_uppercase(),
    };
    let behind = match sink["records_behind"].as_u64() {
        Some(0) => "nothing behind".to_owned(),
        _ => format!(
            "{} ({}) behind, the oldest {} s old",
            counted(number(&sink["records_behind"]), "record", "records"),
            counted(number(&sink["bytes_behind"]), "byte", "bytes"),
            sink["oldest_age"]
        ),
    };
    let many = |key: &str, what: &str| match sink[key].as_u64() {
        None | Some(0) => String::new(),
        Some(count) => format!(", {count} {what}"),
    };
    let error = sink["last_error"].as_str().map_or_else(String::new, |error| format!(", last error: {error}"));
    format!(
        "sink {} ({} at {}): {state}, {behind}, last took some at {}{}{}{error}",
        text(&sink["name"]),
        text(&sink["kind"]),
        text(&sink["place"]),
        moment(&sink["last_success"]),
        many("rejected", "REJECTED"),
        many("unreadable", "places of the journal UNREADABLE"),
    )
}

/// The policies that are asked and not obeyed, or why they are not asked.
fn shadow(shadow: &Value) -> Option<String> {
    let error =
        shadow["error"].as_str().map(|error| format!("shadow policies: NOT ASKED: {}", error.replace('\n', "\n  ")));
    error.or_else(|| shadow["policies"].as_str().map(|digest| format!("shadow policies {digest}, not obeyed")))
}

/// When the configuration or policies were read again, and why they were not taken.
fn last_reload(last: &Value) -> Vec<String> {
    if last.is_null() {
        return Vec::new();
    }
    let at = moment(&last["at"]);
    let Some(refused) = last["refused"].as_str() else { return vec![format!("last reload: taken at {at}")] };
    let (first, more) = refused.trim_end().split_once('\n').unwrap_or((refused, ""));
    let more = more.lines().map(|line| format!("  {line}"));
    std::iter::once(format!("last reload: refused at {at}: {first}")).chain(more).collect()
}
