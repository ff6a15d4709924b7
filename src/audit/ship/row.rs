//! What can be looked for in a record: who, what, when, and what was decided by which policy.

use super::{
    super::show::{policies, text, user},
    batch::Record,
};
use serde_json::Value;
use std::net::IpAddr;

/// A line, taken apart.
pub(super) struct Row(Value);

impl Row {
    pub(super) fn of(record: &Record) -> Self {
        // what was read as one of our lines is JSON
        Self(serde_json::from_str(&record.line).unwrap_or_default())
    }

    fn event(&self) -> &Value {
        &self.0["event"]
    }

    /// The body of a head.
    pub(super) fn head(&self) -> &Value {
        &self.0["head"]
    }

    fn at(&self, path: &[&str]) -> Option<&str> {
        Some(text(self.event(), path)).filter(|text| !text.is_empty())
    }

    pub(super) fn prev(&self) -> &str {
        self.0["prev"].as_str().unwrap_or_default()
    }

    pub(super) fn class(&self) -> Option<i32> {
        self.event()["class_uid"].as_i64().and_then(|class| i32::try_from(class).ok())
    }

    pub(super) fn class_name(&self) -> Option<&str> {
        self.at(&["class_name"])
    }

    pub(super) fn activity(&self) -> Option<&str> {
        self.at(&["activity_name"])
    }

    pub(super) fn severity(&self) -> u64 {
        self.event()["severity_id"].as_u64().unwrap_or_default()
    }

    /// Who, such as `gitlab:907`.
    pub(super) fn user(&self) -> Option<&str> {
        user(self.event())["uid_alt"].as_str()
    }

    pub(super) fn login(&self) -> Option<&str> {
        user(self.event())["name"].as_str()
    }

    pub(super) fn issuer(&self) -> Option<&str> {
        self.at(&["actor", "idp", "uid"]).or_else(|| self.at(&["session", "issuer"]))
    }

    pub(super) fn session(&self) -> Option<&str> {
        self.at(&["session", "uid"]).or_else(|| self.at(&["actor", "session", "uid"]))
    }

    pub(super) fn client(&self) -> Option<String> {
        let address: IpAddr = self.at(&["src_endpoint", "ip"])?.parse().ok()?;
        Some(address.to_string())
    }

    pub(super) fn method(&self) -> Option<&str> {
        self.at(&["http_request", "http_method"])
    }

    pub(super) fn host(&self) -> Option<&str> {
        self.at(&["http_request", "url", "hostname"])
    }

    pub(super) fn path(&self) -> Option<&str> {
        self.at(&["http_request", "url", "path"])
    }

    pub(super) fn route(&self) -> Option<&str> {
        self.at(&["unmapped", "route"])
    }

    /// `Allowed` or `Denied`.
    pub(super) fn decision(&self) -> Option<&str> {
        self.at(&["action"])
    }

    pub(super) fn phase(&self) -> Option<&str> {
        self.at(&["unmapped", "phase"])
    }

    pub(super) fn disposition(&self) -> Option<&str> {
        self.at(&["disposition"])
    }

    pub(super) fn policies(&self) -> Vec<&str> {
        policies(self.event()).collect()
    }

    pub(super) fn policy_digest(&self) -> Option<&str> {
        self.at(&["unmapped", "policy_digest"])
    }

    pub(super) fn reason(&self) -> Option<&str> {
        self.at(&["status_code"])
    }

    pub(super) fn status(&self) -> Option<i32> {
        self.event()["http_response"]["code"].as_i64().and_then(|code| i32::try_from(code).ok())
    }

    pub(super) fn request(&self) -> Option<&str> {
        self.at(&["metadata", "correlation_uid"])
    }

    pub(super) fn trace(&self) -> Option<&str> {
        self.at(&["unmapped", "trace_id"])
    }
}
