//! Which records of the trail are meant.

use crate::audit::{About, Query, Verdict, parse_moment};
use clap::{Args, ValueEnum};
use std::{net::IpAddr, time::SystemTime};

/// Where the help has these options.
const WHICH: &str = "Which records";
const TIME: &str = "When";

/// What to look for, and how; everything that is given must hold.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct FilterArgs {
    /// A person: subject, login, or provider:subject
    #[arg(long, help_heading = WHICH)]
    user: Option<String>,
    /// What the path begins with, such as `/api`
    #[arg(long, value_name = "PREFIX", value_parser = prefix, help_heading = WHICH)]
    path: Option<String>,
    /// The route's name
    #[arg(long, help_heading = WHICH)]
    route: Option<String>,
    /// What was decided
    #[arg(long, value_enum, ignore_case = true, help_heading = WHICH)]
    decision: Option<VerdictArg>,
    /// The id of a policy that decided
    #[arg(long, value_name = "ID", help_heading = WHICH)]
    policy: Option<String>,
    /// The request id
    #[arg(long, value_name = "ID", help_heading = WHICH)]
    request: Option<String>,
    /// Only what the shadow policies would have decided otherwise
    #[arg(long, help_heading = WHICH)]
    differs: bool,
    /// The number of a CI job
    #[arg(long, value_name = "ID", help_heading = WHICH)]
    job: Option<u64>,
    /// The path of the project that a CI job is of
    #[arg(long, value_name = "PATH", help_heading = WHICH)]
    project: Option<String>,
    /// The host that was asked for, without port
    #[arg(long, help_heading = WHICH)]
    host: Option<String>,
    /// The request's method
    #[arg(long, help_heading = WHICH)]
    method: Option<String>,
    /// The answer's status, such as `404`, or a class of them, such as `4xx`
    #[arg(long, value_name = "CODE", value_parser = status, help_heading = WHICH)]
    status: Option<String>,
    /// The code of a refusal or a failure, such as `not_permitted`
    #[arg(long, value_name = "CODE", help_heading = WHICH)]
    reason: Option<String>,
    /// A session, by the hash that `sessions list` shows
    #[arg(long, value_name = "HASH", help_heading = WHICH)]
    session: Option<String>,
    /// The address of the client, or what stands for it (`address:…`)
    #[arg(long, value_name = "ADDRESS", value_parser = client, help_heading = WHICH)]
    client: Option<String>,
    /// What it is about
    #[arg(long, value_enum, ignore_case = true, help_heading = WHICH)]
    kind: Option<About>,
    /// The number of an OCSF class, such as 4002
    #[arg(long, value_name = "UID", help_heading = WHICH)]
    class: Option<u32>,
    /// Not before this: a day (`2026-11-23`, `yesterday`), a time (`2026-11-23 06:38`) or how long ago (`1h`). Days and times are
    /// of UTC, unless an offset is named
    #[arg(long, visible_alias = "from", value_name = "TIME", help_heading = TIME)]
    since: Option<String>,
    /// Before this, in the same words: a day is where it begins
    #[arg(long, visible_alias = "to", value_name = "TIME", help_heading = TIME)]
    until: Option<String>,
    /// Read every line of the journal, not only what its indexes lead to
    #[arg(long)]
    no_index: bool,
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
            status: self.status.clone(),
            reason: self.reason.clone(),
            session: self.session.clone(),
            client: self.client.clone(),
            about: self.kind,
            class: self.class,
            since,
            until,
            no_index: self.no_index,
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

/// What a path begins with.
fn prefix(text: &str) -> Result<String, String> {
    let fits = text.starts_with('/') || text == "*"; // of `OPTIONS *`
    if fits { Ok(text.to_owned()) } else { Err(format!("no path begins so: expected `/{text}`")) }
}

/// A status, or the first digit of a class of them.
fn status(text: &str) -> Result<String, String> {
    let is_status = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
    let class = text.strip_suffix("xx").or_else(|| text.strip_suffix("XX"));
    let digits = class.filter(|class| class.len() == 1).or(is_status.then_some(text)).unwrap_or_default();
    match digits.bytes().next() {
        Some(b'1'..=b'5') => Ok(digits.to_owned()),
        _ => Err("expected a status such as `404`, or a class of them such as `4xx`".to_owned()),
    }
}

/// How many records; none would be nothing to ask for.
pub(super) fn count(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|count| *count > 0).ok_or_else(|| "expected a number of records, at least 1".to_owned())
}

/// A client's address in its shortest form, or a pseudonym as it is.
fn client(text: &str) -> Result<String, String> {
    match text.parse::<IpAddr>() {
        Ok(address) => Ok(address.to_canonical().to_string()),
        Err(_) if text.starts_with("address:") => Ok(text.to_owned()),
        Err(_) => Err("expected an IP address, or the pseudonym of one (`address:…`)".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        filter: FilterArgs,
        #[arg(long, value_parser = count, allow_negative_numbers = true)]
        limit: Option<usize>,
    }

    /// What nothing can match is a mistake, and the message says what can.
    #[test]
    fn what_matches_nothing_is_refused() {
        for (line, said) in [
            ("--path api", "expected `/api`"),
            ("--limit 0", "at least 1"),
            ("--limit -1", "at least 1"),
            ("--status 4x", "such as `4xx`"),
            ("--status 0xx", "such as `4xx`"),
            ("--status 999", "such as `4xx`"),
            ("--status éxx", "such as `4xx`"),
        ] {
            let fault = Line::try_parse_from(["x"].into_iter().chain(line.split(' '))).expect_err(line).to_string();
            assert!(fault.contains(said), "{line}: {fault}");
        }
        for (given, digits) in [("4xx", "4"), ("5XX", "5"), ("404", "404")] {
            let line =
                Line::try_parse_from(["x", "--status", given, "--path", "/a", "--since", "yesterday"]).expect("good");
            let query = line.filter.query(SystemTime::now()).expect("good");
            assert_eq!((query.status.as_deref(), query.path.as_deref()), (Some(digits), Some("/a")));
        }
    }
}
