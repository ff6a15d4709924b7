//! `vestibule sessions`: who is signed in, and how that ends. Asked of the running process.

use super::{clean, print};
use crate::{
    admin::{
        Command,
        client::ask,
        sessions::{Filter, PAGE},
    },
    audit::{parse_span, parse_time, rfc3339},
    config::Settings,
};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    time::{SystemTime, UNIX_EPOCH},
};

/// What to do with sessions.
#[derive(Debug, Subcommand)]
pub(super) enum SessionsCommand {
    /// Who is signed in, since when and until when. Exit code 1: nobody who fits.
    List {
        #[command(flatten)]
        filter: FilterArguments,
        /// Show at most so many.
        #[arg(long, value_name = "NUMBER", default_value_t = PAGE)]
        limit: usize,
    },
    /// End sessions at once, with their streams. Exit code 1: there is none that fits.
    Revoke {
        #[command(flatten)]
        filter: FilterArguments,
        /// All sessions there are.
        #[arg(long, conflicts_with_all = ["user", "login", "provider", "group", "id"])]
        all: bool,
        /// Why; the audit trail has it.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Keep people out until the lock is taken away or over. Their sessions are refused, not ended.
    Lock {
        #[command(flatten)]
        target: TargetArguments,
        /// Why; those who are kept out read it.
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// For how long, such as `2h`. Default: until it is taken away.
        #[arg(long = "for", value_name = "DURATION", conflicts_with = "until")]
        span: Option<String>,
        /// Until when, such as `2026-11-25T18:00:00Z`.
        #[arg(long, value_name = "TIME")]
        until: Option<String>,
    },
    /// Let them in again. Exit code 1: there is no such lock.
    Unlock {
        #[command(flatten)]
        target: TargetArguments,
        /// Why; the audit trail has it.
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// The locks in force. Exit code 1: there is none.
    Locks,
}

/// Which sessions are meant: all that is given has to fit.
#[derive(Args, Clone, Debug)]
pub(super) struct FilterArguments {
    /// Those of one person, such as `gitlab:907`.
    #[arg(long, value_name = "PROVIDER:SUBJECT")]
    user: Option<String>,
    /// Those of people with this login.
    #[arg(long)]
    login: Option<String>,
    /// Those that began at this provider.
    #[arg(long)]
    provider: Option<String>,
    /// Those of a group's members, as far as their groups are known now, such as `gitlab:acme/platform` or `gitlab:acme/**`.
    #[arg(long, value_name = "PROVIDER:GROUP")]
    group: Option<String>,
    /// One session, by the hash that `list` and audit events have.
    #[arg(long, value_name = "HASH")]
    id: Option<String>,
}

/// Whom a lock keeps out.
#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = false)]
pub(super) struct TargetArguments {
    /// One person, such as `gitlab:907`.
    #[arg(long, value_name = "PROVIDER:SUBJECT")]
    user: Option<String>,
    /// Everybody who signs in with this provider.
    #[arg(long)]
    provider: Option<String>,
    /// The members of a group, such as `gitlab:acme/platform`; and of all below it, `gitlab:acme/**`.
    #[arg(long, value_name = "PROVIDER:GROUP")]
    group: Option<String>,
}

impl From<&FilterArguments> for Filter {
    fn from(arguments: &FilterArguments) -> Self {
        let FilterArguments { user, login, provider, group, id } = arguments.clone();
        Self { user, login, provider, group, id }
    }
}

impl TargetArguments {
    fn kind_and_name(&self) -> (String, String) {
        let given = [("user", &self.user), ("provider", &self.provider), ("group", &self.group)];
        let given = given.into_iter().find_map(|(kind, name)| Some((kind.to_owned(), name.clone()?)));
        given.unwrap_or_default() // the process refuses what is not there
    }
}

/// Does it. False: nothing fits, or no process runs.
pub(super) fn run(command: &SessionsCommand, settings: &Settings, json: bool) -> Result<bool, String> {
    let done = |command: &Command| ask(&settings.state, command);
    let outcome = match command {
        SessionsCommand::List { filter, limit } => list(&filter.into(), *limit, json, &done)?,
        SessionsCommand::Revoke { filter, all, reason } => {
            let command = Command::SessionsRevoke { filter: filter.into(), all: *all, reason: reason.clone() };
            done(&command)?.map(|ended| shown(json, &ended, revoked(&ended), ended["ended"] != 0))
        }
        SessionsCommand::Lock { target, reason, span, until } => {
            let (kind, target) = target.kind_and_name();
            let until = end(span.as_deref(), until.as_deref(), SystemTime::now())?;
            let command = Command::SessionsLock { kind, target, reason: reason.clone(), until };
            done(&command)?.map(|lock| shown(json, &lock, locked(&lock), true))
        }
        SessionsCommand::Unlock { target, reason } => {
            let (kind, target) = target.kind_and_name();
            let told = format!("{kind} {target}");
            let gone = done(&Command::SessionsUnlock { kind, target, reason: reason.clone() })?;
            gone.map(|gone| {
                let there = gone["unlocked"] == true;
                let told = if there { format!("{told} is let in again") } else { format!("{told} is not locked") };
                shown(json, &gone, told, there)
            })
        }
        SessionsCommand::Locks => done(&Command::SessionsLocks {})?.map(|locks| {
            let any = locks.as_array().is_some_and(|locks| !locks.is_empty());
            shown(json, &locks, table_of_locks(&locks), any)
        }),
    };
    Ok(outcome.unwrap_or_else(|| {
        print(if json { "null" } else { "no process runs with this configuration" });
        false
    }))
}

fn shown(json: bool, value: &Value, told: String, yes: bool) -> bool {
    print(&if json { format!("{value:#}") } else { told });
    yes
}

/// Asks for page after page. `None`: no process runs.
fn list(
    filter: &Filter,
    limit: usize,
    json: bool,
    done: &dyn Fn(&Command) -> Result<Option<Value>, String>,
) -> Result<Option<bool>, String> {
    let (mut sessions, mut unknown, mut after) = (Vec::new(), BTreeSet::new(), None);
    loop {
        let left = limit.max(1) - sessions.len();
        let command = Command::SessionsList { filter: filter.clone(), after, limit: left.min(PAGE) };
        let Some(mut page) = done(&command)? else { return Ok(None) };
        if let Some(listed) = page["sessions"].as_array_mut() {
            sessions.append(listed);
        }
        unknown.extend(page["unknown"].as_array().into_iter().flatten().map(|user| text(user).to_owned()));
        after = page["next"].as_str().map(str::to_owned);
        if after.is_none() || sessions.len() >= limit {
            break;
        }
    }
    sessions.sort_by_key(|session| std::cmp::Reverse(session["seen"].as_u64()));
    let (any, more) = (!sessions.is_empty(), after.is_some());
    if json {
        let value = json!({ "sessions": sessions, "more": more, "unknown": unknown });
        return Ok(Some(shown(true, &value, String::new(), any)));
    }
    let mut told = table(&sessions);
    if more {
        told.push_str(&format!("\nthere are more: `--limit` is {limit}"));
    }
    told.push_str(&not_known(unknown.len()));
    Ok(Some(shown(false, &Value::Null, told, any)))
}

/// The end of a lock, in milliseconds since 1970.
fn end(span: Option<&str>, until: Option<&str>, now: SystemTime) -> Result<Option<u64>, String> {
    let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
    if let Some(text) = span {
        let span = parse_span(text).filter(|span| !span.is_zero());
        let span = span.ok_or_else(|| format!("`--for {text}` is no duration: expected one such as `90m` or `2h`"))?;
        return Ok(Some(now.saturating_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))));
    }
    let Some(text) = until else { return Ok(None) };
    let until = parse_time(text);
    let until =
        until.ok_or_else(|| format!("`--until {text}` is no time: expected one such as `2026-11-25T18:00:00Z`"))?;
    if until <= now {
        return Err(format!("`--until {text}` lies in the past"));
    }
    Ok(Some(until))
}

fn revoked(ended: &Value) -> String {
    let unknown = ended["unknown"].as_array().map_or(0, Vec::len);
    let (sessions, people) = (ended["ended"].as_u64().unwrap_or(0), ended["people"].as_u64().unwrap_or(0));
    let told = match sessions {
        0 => "no session fits".to_owned(),
        1 => "1 session has ended".to_owned(),
        _ if people == 1 => format!("{sessions} sessions of 1 person have ended"),
        _ => format!("{sessions} sessions of {people} people have ended"),
    };
    told + &not_known(unknown)
}

fn not_known(people: usize) -> String {
    match people {
        0 => String::new(),
        1 => "\nthe groups of 1 person are not known now: their sessions are not among these".to_owned(),
        _ => format!("\nthe groups of {people} people are not known now: their sessions are not among these"),
    }
}

fn locked(lock: &Value) -> String {
    let until = match lock["until"].as_u64() {
        Some(until) => format!("until {}", rfc3339(until)),
        None => "until it is unlocked".to_owned(),
    };
    let missing = match lock["unseen"].as_bool() {
        Some(true) => {
            "\nthere is no such group, or none that the token of `membership.api` may see: until there is, everybody of this \
             provider is refused"
        }
        _ => "",
    };
    let unseen = match (lock["invited_unseen"].as_bool(), text(&lock["target"]).ends_with("/**")) {
        (Some(true), true) => {
            "\npeople of groups that were invited to a group below it are not kept out: lock those groups too"
        }
        (Some(true), false) => {
            "\npeople who are in it only because their group was invited are not kept out: that needs `membership.api`"
        }
        _ => "",
    };
    format!(
        "{} {} is locked {until}: {} refused, {} cut{missing}{unseen}",
        text(&lock["kind"]),
        clean(text(&lock["target"]), 200),
        counted(&lock["sessions"], "session in use is", "sessions in use are"),
        counted(&lock["streams"], "stream is", "streams are"),
    )
}

fn counted(count: &Value, one: &str, more: &str) -> String {
    crate::text::counted(count.as_u64().unwrap_or_default(), one, more)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// `2026-11-25 14:30Z`.
fn minute(seconds: &Value) -> String {
    let text = rfc3339(seconds.as_u64().unwrap_or(0).saturating_mul(1000));
    format!("{} {}Z", text.get(..10).unwrap_or_default(), text.get(11..16).unwrap_or_default())
}

fn table(sessions: &[Value]) -> String {
    if sessions.is_empty() {
        return "no session fits".to_owned();
    }
    let mut lines = vec![format!(
        "{:<16}  {:<20} {:<20} {:<18} {:<18} {:<18} {:<8} {:<7} {:<24} {:<40} issuer",
        "id", "login", "user", "began", "last seen", "ends", "in use", "streams", "host", "device"
    )];
    for session in sessions {
        lines.push(format!(
            "{:<16}  {:<20} {:<20} {:<18} {:<18} {:<18} {:<8} {:<7} {:<24} {:<40} {}",
            text(&session["id"]),
            clean(text(&session["login"]), 20),
            clean(text(&session["user"]), 20),
            minute(&session["began"]),
            minute(&session["seen"]),
            minute(&session["ends"]),
            if session["in_use"] == true { "yes" } else { "no" },
            session["streams"].as_u64().unwrap_or(0),
            clean(text(&session["host"]), 24),
            clean(session["device"].as_str().unwrap_or("-"), 40),
            clean(text(&session["issuer"]), 80),
        ));
    }
    lines.join("\n")
}

fn table_of_locks(locks: &Value) -> String {
    let all: Vec<_> = locks.as_array().into_iter().flatten().collect();
    if all.is_empty() {
        return "nobody is locked".to_owned();
    }
    let mut lines = vec![format!("{:<9} {:<40} {:<25} {:<25} {:<10} reason", "kind", "target", "since", "until", "by")];
    for lock in all {
        lines.push(format!(
            "{:<9} {:<40} {:<25} {:<25} {:<10} {}",
            text(&lock["kind"]),
            clean(text(&lock["target"]), 200),
            rfc3339(lock["since"].as_u64().unwrap_or(0)),
            lock["until"].as_u64().map_or_else(|| "-".to_owned(), rfc3339),
            text(&lock["by"]),
            clean(text(&lock["reason"]), 500),
        ));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_lock_ends_in_the_future_or_never() {
        let now = UNIX_EPOCH + Duration::from_secs(1_795_416_594);
        assert_eq!(end(None, None, now), Ok(None));
        assert_eq!(end(Some("2h"), None, now), Ok(Some(1_795_423_794_000)));
        assert_eq!(end(None, Some("2026-11-23T06:49:55Z"), now), Ok(Some(1_795_416_595_000)));
        for (span, until) in [
            (Some("2"), None),
            (Some("0s"), None),
            (Some("soon"), None),
            (None, Some("2h")),
            (None, Some("2026-11-23T06:49:54Z")),
        ] {
            assert!(end(span, until, now).is_err(), "{span:?} {until:?}");
        }
    }
}
