//! Which records of the trail are meant.

use crate::audit::{About, Query, Verdict, parse_moment};
use clap::{Args, ValueEnum};
use std::{net::IpAddr, time::SystemTime};

/// What to look for; everything that is given must hold.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct FilterArgs {
    /// A person: subject, login, or provider:subject
    #[arg(long)]
    user: Option<String>,
    /// What the path begins with
    #[arg(long, value_name = "PREFIX")]
    path: Option<String>,
    /// The route's name
    #[arg(long)]
    route: Option<String>,
    /// What was decided
    #[arg(long, value_enum, ignore_case = true)]
    decision: Option<VerdictArg>,
    /// The id of a policy that decided
    #[arg(long, value_name = "ID")]
    policy: Option<String>,
    /// The request id
    #[arg(long, value_name = "ID")]
    request: Option<String>,
    /// Only what the shadow policies would have decided otherwise
    #[arg(long)]
    differs: bool,
    /// The number of a CI job
    #[arg(long, value_name = "ID")]
    job: Option<u64>,
    /// The path of the project that a CI job is of
    #[arg(long, value_name = "PATH")]
    project: Option<String>,
    /// The host that was asked for, without port
    #[arg(long)]
    host: Option<String>,
    /// The request's method
    #[arg(long)]
    method: Option<String>,
    /// The answer's status
    #[arg(long, value_name = "CODE")]
    status: Option<u16>,
    /// The code of a refusal or a failure, such as `not_permitted`
    #[arg(long, value_name = "CODE")]
    reason: Option<String>,
    /// A session, by the hash that `sessions list` shows
    #[arg(long, value_name = "HASH")]
    session: Option<String>,
    /// The address of the client, or what stands for it (`address:…`)
    #[arg(long, value_name = "ADDRESS", value_parser = client)]
    client: Option<String>,
    /// What it is about
    #[arg(long, value_enum, ignore_case = true)]
    kind: Option<About>,
    /// The number of an OCSF class, such as 4002
    #[arg(long, value_name = "UID")]
    class: Option<u32>,
    /// Not before this time (`2026-11-23T06:38:14Z`), or this long ago (`1h`)
    #[arg(long, visible_alias = "from", value_name = "TIME")]
    since: Option<String>,
    /// Before this time, or this long ago
    #[arg(long, visible_alias = "to", value_name = "TIME")]
    until: Option<String>,
}

/// What was decided.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum VerdictArg {
    /// The request was allowed
    Allowed,
    /// The request was denied, for whatever reason
    Denied,
    /// By a policy
    Blocked,
    /// Nobody known asked
    Unauthorized,
    /// It could not be read, or was too much
    Rejected,
    /// Something failed
    Error,
    /// The right ended while it was going on
    #[value(alias = "access revoked")]
    Revoked,
}

impl VerdictArg {
    fn verdict(self) -> Verdict {
        match self {
            Self::Allowed => Verdict::Allowed,
            Self::Denied => Verdict::Denied,
            Self::Blocked => Verdict::Said("Blocked"),
            Self::Unauthorized => Verdict::Said("Unauthorized"),
            Self::Rejected => Verdict::Said("Rejected"),
            Self::Error => Verdict::Said("Error"),
            Self::Revoked => Verdict::Said("Access Revoked"),
        }
    }
}

impl FilterArgs {
    /// The query that these are.
    ///
    /// # Errors
    /// Which time cannot be read, or that the range is empty.
    pub(super) fn query(&self, now: SystemTime) -> Result<Query, String> {
        let (since, until) = range(self.since.as_deref(), self.until.as_deref(), now)?;
        Ok(Query {
            user: self.user.clone(),
            path: self.path.clone(),
            route: self.route.clone(),
            verdict: self.decision.map(VerdictArg::verdict),
            policy: self.policy.clone(),
            request: self.request.as_ref().map(|id| id.to_ascii_lowercase()),
            differs: self.differs,
            job: self.job,
            project: self.project.clone(),
            host: self.host.as_ref().map(|host| host.to_ascii_lowercase()),
            method: self.method.as_ref().map(|method| method.to_ascii_uppercase()),
            status: self.status,
            reason: self.reason.clone(),
            session: self.session.clone(),
            client: self.client.clone(),
            about: self.kind,
            class: self.class,
            since,
            until,
            ..Query::default()
        })
    }
}

/// The first moment, and the first one after the last, in milliseconds since 1970.
///
/// # Errors
/// Which of them cannot be read, or that there is nothing between them.
pub(super) fn range(
    since: Option<&str>,
    until: Option<&str>,
    now: SystemTime,
) -> Result<(Option<u64>, Option<u64>), String> {
    let moment = |text: Option<&str>| text.map(|text| parse_moment(text, now)).transpose();
    match (moment(since)?, moment(until)?) {
        (Some(from), Some(to)) if from >= to => Err(format!(
            "nothing is between `{}` and `{}`: the first must be before the second",
            since.unwrap_or_default(),
            until.unwrap_or_default()
        )),
        range => Ok(range),
    }
}

/// A client's address in its shortest form, or a pseudonym as it is.
fn client(text: &str) -> Result<String, String> {
    match text.parse::<IpAddr>() {
        Ok(address) => Ok(address.to_canonical().to_string()),
        Err(_) if text.starts_with("address:") => Ok(text.to_owned()),
        Err(_) => Err("expected an IP address, or the pseudonym of one (`address:…`)".to_owned()),
    }
}
