//! `limits` of a route: from as written to as meant.

use super::{
    file::{LimitFile, RouteLimitsFile},
    meaning::Meaning,
    mistake::Mistake,
    value::Expected,
};
use crate::fairness::{Every, Limit, Limits, Rate, Whom};
use std::time::Instant;

/// More is no limit.
const MOST: u32 = 1_000_000;

/// The limits of a route, which are of those who may `come` there.
pub(super) fn read(
    meaning: &mut Meaning<'_, '_>,
    key: &str,
    written: &RouteLimitsFile,
    come: impl Fn(Whom) -> bool,
) -> Limits {
    let mut limits = Vec::new();
    for whom in Whom::ALL {
        let Some(written) = written.of(whom) else { continue };
        let key = format!("{key}.{}", whom.as_str());
        if !come(whom) {
            vain(meaning, &key, whom);
        }
        limits.extend(limit(meaning, &key, written).map(|limit| (whom, limit)));
    }
    Limits::new(limits, Instant::now())
}

/// A limit that holds back nobody is a mistake: whoever wrote it means somebody.
fn vain(meaning: &mut Meaning<'_, '_>, key: &str, whom: Whom) {
    let (nobody, expected) = match whom {
        Whom::Address => return,
        Whom::User => ("person", "`providers`, or an issuer of tokens of people in `token_issuers`"),
        Whom::Job | Whom::Project => ("CI job", "an issuer of kind `gitlab_ci` in `token_issuers` of this route"),
        Whom::Service => ("service", "an issuer of services in `token_issuers` of this route"),
    };
    let mistake = Mistake::new(key, format!("`{key}` limits nobody: no {nobody} comes here")).at_key();
    meaning
        .report
        .add(mistake.expected(format!("expected {expected}")).help("name one there, or remove the key".to_owned()));
}

fn limit(meaning: &mut Meaning<'_, '_>, key: &str, written: &LimitFile) -> Option<Limit> {
    let (requests_key, burst_key) = (format!("{key}.requests"), format!("{key}.burst"));
    let is_written = |key: &str, is: bool| is || meaning.report.knows(key);
    let requests = is_written(&requests_key, written.requests.is_some());
    if !requests && !is_written(&format!("{key}.concurrent"), written.concurrent.is_some()) {
        let mistake = Mistake::new(key, format!("`{key}` limits nothing")).at_key();
        meaning.report.add(mistake.expected("expected `requests`, `concurrent` or both"));
        return None;
    }
    if written.burst.is_some() && !requests {
        let mistake =
            Mistake::new(&burst_key, format!("`{burst_key}` is how many `requests` may come at once")).at_key();
        let help = "requests that are under way at once are `concurrent`";
        meaning.report.add(mistake.expected("expected `requests` beside it").help(help.to_owned()));
        return None;
    }
    let rate = meaning.read(&requests_key, written.requests.as_ref().map(|it| it.0.as_str()), rate);
    let rate = rate.map(|rate| Rate { burst: number(written.burst).unwrap_or(rate.burst), ..rate });
    Some(Limit { rate, concurrent: number(written.concurrent) })
}

/// What is no such number is reported already.
fn number(written: Option<u64>) -> Option<u32> {
    u32::try_from(written?).ok()
}

/// `20/s`, `100/m` or `5000/h`; as many may come at once.
fn rate(text: &str) -> Result<Rate, Expected> {
    let expected = || Expected::new("a number of requests and a time, such as `20/s`, `100/m` or `5000/h`");
    let (number, every) = text.split_once('/').ok_or_else(|| {
        if text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() {
            expected().help(format!("write `{text}/s` for so many a second"))
        } else {
            expected()
        }
    })?;
    let every = match every {
        "s" => Every::Second,
        "m" => Every::Minute,
        "h" => Every::Hour,
        _ => {
            let near = every.get(..1).filter(|first| "smh".contains(first));
            let help = near.map(|first| format!("write `{number}/{first}`"));
            return Err(expected().help(help.unwrap_or_else(|| "the times are `s`, `m` and `h`".to_owned())));
        }
    };
    let whole = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    match number.parse().ok().filter(|_| whole) {
        Some(0) => Err(expected().help("with none nobody could come: leave that to a policy")),
        Some(requests) if requests <= MOST => Ok(Rate { requests, every, burst: requests }),
        _ if whole => Err(expected().help(format!("the most is {MOST}"))),
        _ => Err(expected().help("the number is a whole one")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{
        messages::shows,
        tests::{mistakes, settings_in_place, with},
    };

    #[test]
    fn reads_rates_only_with_their_time() {
        for (text, requests, every) in
            [("20/s", 20, Every::Second), ("100/m", 100, Every::Minute), ("1000000/h", 1_000_000, Every::Hour)]
        {
            assert_eq!(rate(text), Ok(Rate { requests, every, burst: requests }));
            assert_eq!(rate(text).map(|rate| rate.to_string()), Ok(text.to_owned()));
        }
        for wrong in
            ["", "20", "/s", "0/s", "-1/s", "+1/s", "1.5/s", "20/d", "20/min", "20 / s", "20/S", "1000001/s", "20/s/s"]
        {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
    }

    fn limited(limits: &str) -> String {
        with("allow:", &format!("limits: {{ {limits} }}, allow:"))
    }

    /// The same where CI jobs come, and nobody else.
    fn limited_to_jobs(limits: &str) -> String {
        let start = limited(limits).replace("allow: [\"gitlab:acme/**\"]", "token_issuers: [ci]");
        let issuer =
            "token_issuers: [{ name: ci, kind: gitlab_ci, issuer: https://gitlab.example.com, audiences: [a] }]\n";
        let lines = start.lines().filter(|line| !line.contains("providers:") && !line.contains("kind: gitlab,"));
        lines.map(|line| format!("{line}\n")).collect::<String>() + issuer + "policies: ./policies\n"
    }

    /// As many as the rate says may come at once, unless that is said otherwise; nobody else is limited.
    #[test]
    fn what_is_written_is_meant() {
        let settings = settings_in_place(&limited(
            "user: { requests: 5000/h, concurrent: 3 }, address: { requests: 5/s, burst: 9 }",
        ));
        let limits = &settings.routes[0].limits;
        let rate = |requests, every, burst| Some(Rate { requests, every, burst });
        let user = Limit { rate: rate(5000, Every::Hour, 5000), concurrent: Some(3) };
        assert_eq!(limits.of(Whom::User), Some(&user));
        assert_eq!(limits.of(Whom::Address), Some(&Limit { rate: rate(5, Every::Second, 9), concurrent: None }));
        assert!([Whom::Job, Whom::Project, Whom::Service].iter().all(|whom| limits.of(*whom).is_none()));
        assert!(settings_in_place(&with("allow:", "limits: {}, allow:")).routes[0].limits.is_empty());
    }

    shows! {
    a_limit_limits_something: limited("user: {}"), r#"
error: `routes[0].limits.user` limits nothing
 --> vestibule.yaml:7:69
  |
7 |   - { name: backstage, upstream: "http://127.0.0.1:7007", limits: { user: {} }, allow: ["gitlab:acme/**"] }
  |                                                                     ^^^^ expected `requests`, `concurrent` or both"#;

    a_burst_is_of_a_rate: limited("user: { burst: 5, concurrent: 2 }"), r#"
error: `routes[0].limits.user.burst` is how many `requests` may come at once
 --> vestibule.yaml:7:77
  |
7 |   - { name: backstage, upstream: "http://127.0.0.1:7007", limits: { user: { burst: 5, concurrent: 2 } }, allow: ["gitlab:acme/**"] }
  |                                                                             ^^^^^ expected `requests` beside it
  |
  = help: requests that are under way at once are `concurrent`"#;

    a_rate_has_its_time: limited("user: { requests: 20 }"), r#"
error: `routes[0].limits.user.requests` is `20`
 --> vestibule.yaml:7:87
  |
7 |   - { name: backstage, upstream: "http://127.0.0.1:7007", limits: { user: { requests: 20 } }, allow: ["gitlab:acme/**"] }
  |                                                                                       ^^ expected a number of requests and a time, such as `20/s`, `100/m` or `5000/h`
  |
  = help: write `20/s` for so many a second"#;

    a_rate_has_a_known_time: limited("user: { requests: 20/min }"), r#"
error: `routes[0].limits.user.requests` is `20/min`
 --> vestibule.yaml:7:87
  |
7 |   - { name: backstage, upstream: "http://127.0.0.1:7007", limits: { user: { requests: 20/min } }, allow: ["gitlab:acme/**"] }
  |                                                                                       ^^^^^^ expected a number of requests and a time, such as `20/s`, `100/m` or `5000/h`
  |
  = help: write `20/m`"#;

    a_rate_lets_somebody_come: limited("user: { requests: 0/s }"), r#"
error: `routes[0].limits.user.requests` is `0/s`
 --> vestibule.yaml:7:87
  |
7 |   - { name: backstage, upstream: "http://127.0.0.1:7007", limits: { user: { requests: 0/s } }, allow: ["gitlab:acme/**"] }
  |                                                                                       ^^^ expected a number of requests and a time, such as `20/s`, `100/m` or `5000/h`
  |
  = help: with none nobody could come: leave that to a policy"#;

    a_burst_is_not_nothing: limited("user: { requests: 1/s, burst: 0 }"), r#"
error: `routes[0].limits.user.burst` is `0`
 --> vestibule.yaml:7:99
  |
7 |   - { name: backstage, upstream: "http://127.0.0.1:7007", limits: { user: { requests: 1/s, burst: 0 } }, allow: ["gitlab:acme/**"] }
  |                                                                                                   ^ expected a whole number from 1 to 1000000"#;

    limits_are_of_known_kinds: limited("users: { requests: 1/s }"), r#"
error: `routes[0].limits.users` is not a known key
 --> vestibule.yaml:7:69
  |
7 |   - { name: backstage, upstream: "http://127.0.0.1:7007", limits: { users: { requests: 1/s } }, allow: ["gitlab:acme/**"] }
  |                                                                     ^^^^^ did you mean `user`?"#;

    a_limit_of_jobs_needs_jobs: limited("job: { concurrent: 1 }, project: { concurrent: 1 }"), r#"
error: `routes[0].limits.job` limits nobody: no CI job comes here
 --> vestibule.yaml:7:69
  |
7 | ...127.0.0.1:7007", limits: { job: { concurrent: 1 }, project: { concurrent: 1 } }, allow: ["gitlab:acme/**"] }
  |                               ^^^ expected an issuer of kind `gitlab_ci` in `token_issuers` of this route
  |
  = help: name one there, or remove the key

error: `routes[0].limits.project` limits nobody: no CI job comes here
 --> vestibule.yaml:7:93
  |
7 | ... job: { concurrent: 1 }, project: { concurrent: 1 } }, allow: ["gitlab:acme/**"] }
  |                             ^^^^^^^ expected an issuer of kind `gitlab_ci` in `token_issuers` of this route
  |
  = help: name one there, or remove the key"#;

    a_limit_of_services_needs_services: limited("service: { concurrent: 1 }"), r#"
error: `routes[0].limits.service` limits nobody: no service comes here
 --> vestibule.yaml:7:69
  |
7 |   - { name: backstage, upstream: "http://127.0.0.1:7007", limits: { service: { concurrent: 1 } }, allow: ["gitlab:acme/**"] }
  |                                                                     ^^^^^^^ expected an issuer of services in `token_issuers` of this route
  |
  = help: name one there, or remove the key"#;

    a_limit_of_people_needs_people: limited_to_jobs("user: { concurrent: 1 }, job: { concurrent: 1 }, service: { concurrent: 1 }"), r#"
error: `routes[0].limits.user` limits nobody: no person comes here
 --> vestibule.yaml:5:69
  |
5 | ...27.0.0.1:7007", limits: { user: { concurrent: 1 }, job: { concurrent: 1 }, service: { concurrent: 1 } }, token_issuers: [ci] }
  |                              ^^^^ expected `providers`, or an issuer of tokens of people in `token_issuers`
  |
  = help: name one there, or remove the key

error: `routes[0].limits.service` limits nobody: no service comes here
 --> vestibule.yaml:5:118
  |
5 | ...1 }, job: { concurrent: 1 }, service: { concurrent: 1 } }, token_issuers: [ci] }
  |                                 ^^^^^^^ expected an issuer of services in `token_issuers` of this route
  |
  = help: name one there, or remove the key"#;
    }
}
