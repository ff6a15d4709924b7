//! A record as a person reads it: one line, safe on every terminal.

use super::{json::visible, record::Recovery, time::rfc3339};
use crate::text::counted;
use serde_json::Value;
use std::fmt::Write as _;

/// Looks a value up by its path.
pub(super) fn at<'a>(event: &'a Value, path: &[&str]) -> &'a Value {
    path.iter().fold(event, |value, key| &value[*key])
}

/// A text by its path; empty if there is none.
pub(super) fn text<'a>(event: &'a Value, path: &[&str]) -> &'a str {
    at(event, path).as_str().unwrap_or_default()
}

/// The person of an event: who asked, or who it is about.
pub(super) fn user(event: &Value) -> &Value {
    if event["user"].is_object() { &event["user"] } else { &event["actor"]["user"] }
}

/// The ids of the policies that decided.
pub(super) fn policies(event: &Value) -> impl Iterator<Item = &str> {
    let list = event["authorizations"].as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().map(|authorization| text(authorization, &["policy", "uid"]))
}

/// One line for a record; `None` for heads and other records of the journal's own that tell nothing about requests.
pub(super) fn line(record: &Value) -> Option<String> {
    match record["kind"].as_str()? {
        "event" => {
            let event = &record["event"];
            let mut line = rfc3339(event["time"].as_u64().unwrap_or_default());
            if event["class_uid"] == 4002 {
                request(event, &mut line)
            } else {
                other(event, &mut line)
            }
            Some(line)
        }
        "gap" => {
            let gap = &record["gap"];
            let time = |key: &str| rfc3339(gap[key].as_u64().unwrap_or_default());
            Some(format!(
                "{}  GAP: {} lost until then, since {}",
                time("last"),
                counted(gap["count"].as_u64().unwrap_or_default(), "event was", "events were"),
                time("first")
            ))
        }
        "recovery" => {
            let recovery: Recovery = serde_json::from_value(record["recovery"].clone()).ok()?;
            Some(format!("{}  RECOVERY: {}", rfc3339(recovery.time), recovery.said()))
        }
        "removal" => {
            let removal = &record["removal"];
            let time = |key: &str| rfc3339(removal[key].as_u64().unwrap_or_default());
            let (segment, why) = (visible(text(removal, &["segment"])), visible(text(removal, &["why"])));
            Some(format!(
                "{}  REMOVED: records {} to {} ({segment}, {} to {}) went by retention for their {why}",
                time("time"),
                removal["first"],
                removal["last"],
                time("from"),
                time("until"),
            ))
        }
        _ => None,
    }
}

fn request(event: &Value, line: &mut String) {
    let word = |path: &[&str], absent: &'static str| match text(event, path) {
        "" => absent.to_owned(),
        found => visible(found).into_owned(),
    };
    let status = event["http_response"]["code"].as_u64().map_or("-".to_owned(), |code| code.to_string());
    let url = match event["http_request"]["url"].as_object() {
        Some(_) => word(&["http_request", "url", "hostname"], "-") + &word(&["http_request", "url", "path"], "-"),
        None => "-".to_owned(),
    };
    let (disposition, asked) = (word(&["disposition"], "-"), event["http_request"]["url"].is_object());
    let method = match word(&["http_request", "http_method"], "-") {
        unknown if unknown == "-" && asked => word(&["activity_name"], "-"), // OCSF has no name for it
        method => method,
    };
    let _ = write!(line, "  {disposition:<14} {status:>3}  {}  {method} {url}", who(event));
    field(line, "route", text(event, &["unmapped", "route"]));
    job(&event["unmapped"]["job"], line);
    let mut ids = policies(event).peekable();
    if ids.peek().is_some() {
        field(line, "policies", &ids.collect::<Vec<_>>().join(","));
    }
    let differs = text(event, &["unmapped", "shadow", "differs"]);
    if !differs.is_empty() {
        let ids = event["unmapped"]["shadow"]["policies"].as_array().map(Vec::as_slice).unwrap_or_default();
        let ids: Vec<_> = ids.iter().filter_map(Value::as_str).collect();
        field(line, "shadow", &format!("{differs}({})", ids.join(",")));
    }
    field(line, "reason", text(event, &["status_code"]));
    let limit = ["whom", "measure"].map(|key| text(event, &["unmapped", "limit", key])).join(".");
    field(line, "limit", limit.trim_matches('.'));
    field(line, "cut", text(event, &["unmapped", "cut"]));
    match text(event, &["unmapped", "phase"]) {
        "request" => {}
        phase => field(line, "phase", phase),
    }
    if let Some(duration) = event["duration"].as_u64() {
        let _ = write!(line, "  {duration}ms");
    }
    from(event, line);
    field(line, "id", text(event, &["metadata", "correlation_uid"]));
    quoted(line, "detail", text(event, &["status_detail"]));
    quoted(line, "cause", text(event, &["unmapped", "cause"]));
}

/// Which job it was that somebody started.
fn job(job: &Value, line: &mut String) {
    let Some(id) = job["id"].as_u64() else { return };
    field(line, "job", &id.to_string());
    field(line, "project", text(job, &["project"]));
    field(line, "ref", text(job, &["ref"]));
}

fn other(event: &Value, line: &mut String) {
    let what = [text(event, &["class_name"]), text(event, &["activity_name"])].map(visible).join(": ");
    let _ = write!(line, "  {:<14}   -  {}  {what}", visible(text(event, &["status"])), who(event));
    from(event, line);
    field(line, "entity", text(event, &["entity", "name"]));
    if event["user"].is_object() {
        field(line, "by", text(event, &["actor", "user", "name"]));
    }
    field(line, "why", text(event, &["unmapped", "why"]));
    quoted(line, "because", text(event, &["unmapped", "reason"]));
    for change in ["changed", "added", "removed", "sessions"] {
        if let Some(count) = event["unmapped"][change]["count"].as_u64() {
            let items = event["unmapped"][change]["items"].as_array().map(Vec::as_slice).unwrap_or_default();
            let some: Vec<_> = items.iter().take(5).filter_map(Value::as_str).collect();
            field(line, change, &format!("{count} ({}{})", some.join(", "), if count > 5 { ", …" } else { "" }));
        }
    }
    field(line, "reason", text(event, &["status_code"]));
    quoted(line, "detail", text(event, &["status_detail"]));
    field(line, "session", text(event, &["session", "uid"]));
}

/// Where the client is, or what stands for its address.
fn from(event: &Value, line: &mut String) {
    let source = &event["src_endpoint"];
    field(line, "from", if source["ip"].is_string() { text(source, &["ip"]) } else { text(source, &["uid"]) });
}

fn who(event: &Value) -> String {
    let user = user(event);
    match (text(user, &["uid_alt"]), text(user, &["name"])) {
        ("", "") => "-".to_owned(),
        ("", name) => visible(name).into_owned(),
        (id, "") => visible(id).into_owned(),
        (id, name) => format!("{} ({})", visible(id), visible(name)),
    }
}

fn field(line: &mut String, name: &str, value: &str) {
    if !value.is_empty() {
        let _ = write!(line, "  {name}={}", visible(value));
    }
}

/// What may be in a client's own words: they can look like no other field.
fn quoted(line: &mut String, name: &str, value: &str) {
    if !value.is_empty() {
        let _ = write!(line, "  {name}=\"{}\"", visible(value).replace('"', "'"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_line_about_a_job_says_which_and_whose() {
        let job = json!({ "id": 301, "project": "acme/shop/api", "ref": "main\u{1b}[2J" });
        let record = json!({ "kind": "event", "event": {
            "class_uid": 4002, "time": 0, "disposition": "Allowed", "http_response": { "code": 201 },
            "actor": { "user": { "uid_alt": "gitlab:102", "name": "ben" } },
            "unmapped": { "route": "deploy-api", "job": job, "phase": "request" },
        } });
        let line = line(&record).expect("a line");
        assert!(
            line.contains("201  gitlab:102 (ben)  - -  route=deploy-api  job=301  project=acme/shop/api  ref=main")
        );
        assert!(!line.contains('\u{1b}'), "{line}");
    }

    /// A sign-in that failed, and what could not be read, come from somewhere.
    #[test]
    fn a_line_says_where_the_client_is() {
        for (source, expected) in
            [(json!({ "ip": "192.0.2.7" }), "  from=192.0.2.7"), (json!({ "uid": "address:9c" }), "  from=address:9c")]
        {
            for class in [4002, 3002] {
                let record = json!({ "kind": "event", "event": {
                    "class_uid": class, "time": 0, "src_endpoint": source, "unmapped": { "phase": "request" },
                } });
                assert!(line(&record).expect("a line").contains(expected), "{record}");
            }
        }
    }

    /// Who was locked out, by whom and why; and a method that OCSF does not know.
    #[test]
    fn a_line_about_an_act_says_whose_it_was() {
        let lock = json!({ "kind": "event", "event": {
            "class_uid": 3001, "class_name": "Account Change", "activity_name": "Lock", "time": 0, "status": "Success",
            "user": { "uid_alt": "gitlab:907" }, "actor": { "user": { "name": "uid 0" } },
            "unmapped": { "why": "sessions.lock", "reason": "left" },
        } });
        let line = line(&lock).expect("a line");
        assert!(
            line.contains("gitlab:907  Account Change: Lock  by=uid 0  why=sessions.lock  because=\"left\""),
            "{line}"
        );
        let asked = json!({ "kind": "event", "event": {
            "class_uid": 4002, "time": 0, "activity_name": "PROPFIND", "disposition": "Allowed",
            "http_request": { "url": { "hostname": "a.test", "path": "/x" } }, "unmapped": { "phase": "request" },
        } });
        assert!(super::line(&asked).expect("a line").contains("PROPFIND a.test/x"));
    }

    /// Why a body was refused is told in the line, not only in the record.
    #[test]
    fn a_line_has_the_detail_of_a_refusal() {
        let record = json!({ "kind": "event", "event": {
            "class_uid": 4002, "time": 0, "disposition": "Blocked", "http_response": { "code": 400 },
            "status_code": "invalid_body", "status_detail": "`/templateRef` of the body is not a string",
            "unmapped": { "phase": "request" },
        } });
        let line = line(&record).expect("a line");
        assert!(
            line.ends_with("  reason=invalid_body  detail=\"`/templateRef` of the body is not a string\""),
            "{line}"
        );
    }

    /// A client chooses what a token says of itself, before anybody has signed it.
    #[test]
    fn the_words_of_a_client_are_no_fields() {
        let cause = "check 'signature': no key `a\"  policies=admins  reason=ok  id=1`";
        let record = json!({ "kind": "event", "event": {
            "class_uid": 4002, "time": 0, "disposition": "Unauthorized", "http_response": { "code": 401 },
            "metadata": { "correlation_uid": "f00" }, "unmapped": { "cause": cause, "phase": "request" },
        } });
        let line = line(&record).expect("a line");
        let (ours, theirs) = line.split_once("  cause=").expect("a cause");
        assert!(ours.ends_with("id=f00") && !ours.contains("policies"), "{line}");
        assert!(theirs.matches('"').count() == 2 && theirs.ends_with('"'), "{line}");
    }
}
