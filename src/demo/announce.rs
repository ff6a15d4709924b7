//! What the demo prints once it serves.

use super::place::{Place, Ports};
use std::{io::IsTerminal, path::PathBuf};

/// The whole block, ready to print.
pub(super) fn block(ports: &Ports, place: &Place) -> String {
    let bold = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let head = |text: &str| if bold { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() };
    [
        format!("\n{}\n\n", head("Vestibule demo: a proxy, a GitLab, a portal and an API, on this machine alone")),
        running(ports, place),
        format!("\n{}\n\n", head("Who you can be")),
        people(),
        format!("\n{}\n\n", head("From the command line")),
        commands(&of_people(ports, place)),
        format!("\n  # In a browser, be somebody else\n  {}/.vestibule/sign-in?to=/&switch=1\n", ports.public_url()),
        format!("\n{}\n\n", head("From a CI job, which has no secret")),
        variable(ports),
        commands(&of_jobs(ports)),
        format!("\n{}\n\n", head("What was decided, and by which policy")),
        format!("  {} audit tail -c {}/vestibule.yaml\n", program().display(), place.directory().display()),
        "\nCtrl-C ends everything and removes the directory.\n\n".to_owned(),
    ]
    .concat()
}

fn running(ports: &Ports, place: &Place) -> String {
    let kind = if place.embedded() { "the starter policies" } else { "your own: an edit acts within two seconds" };
    format!(
        "  Open in a browser   {}/\n  Demo GitLab         {}/\n  Behind the proxy    portal 127.0.0.1:{}, API 127.0.0.1:{}\n  \
         Configuration       {}\n  Policies            {}\n                      ({kind})\n",
        ports.public_url(),
        ports.issuer(),
        ports.portal,
        ports.api,
        place.directory().join("vestibule.yaml").display(),
        place.policies().display(),
    )
}

fn people() -> String {
    let rows = [
        ("ada", "owner of acme", "the portal; reads and restarts services"),
        ("ben", "developer of acme/platform", "the portal; reads and restarts services"),
        ("cleo", "reporter of acme/payments", "the portal; reads services, restarts none"),
        ("dan", "guest of contractors", "public pages and the documentation, /docs/"),
    ];
    rows.iter().map(|(login, place, may)| format!("  {login:<6}{place:<29}{may}\n")).collect()
}

/// This very program, which need not be where the shell looks.
fn program() -> PathBuf {
    std::env::current_exe().unwrap_or_else(|_| "vestibule".into())
}

/// Lines that can be pasted as they are, each with what it shows.
fn commands(steps: &[(&str, String)]) -> String {
    let each = |(title, lines): &(&str, String)| {
        let lines: String = lines.lines().map(|line| format!("  {line}\n")).collect();
        format!("  # {title}\n{lines}")
    };
    steps.iter().map(each).collect::<Vec<_>>().join("\n")
}

fn of_people(ports: &Ports, place: &Place) -> [(&'static str, String); 8] {
    let (site, idp, directory) = (ports.public_url(), ports.issuer(), place.directory().display());
    [
        ("Where the cookies go", format!("jar={directory}/jar")),
        ("A public page: 200", format!("curl -i {site}/public/")),
        ("No session: 401, and why", format!("curl -i {site}/api/services")),
        (
            "Sign in as ben: first at GitLab, then here",
            format!(
                "curl -sb $jar -c $jar {idp}/demo/as/ben\n\
                 curl -sLb $jar -c $jar -o /dev/null -w '%{{http_code}}\\n' {site}/.vestibule/sign-in/gitlab"
            ),
        ),
        (
            "Read, and write",
            format!(
                "curl -b $jar {site}/api/services\n\
                 curl -b $jar -H 'Origin: {site}' -X POST {site}/api/services/catalogue/restart"
            ),
        ),
        (
            "Take ben out of his group: GitLab's hook says so, and his very next request is refused, 403",
            format!("{}\ncurl -i -b $jar {site}/api/services", leave(&idp)),
        ),
        (
            "And back in: 200 with the next one, without a new sign-in",
            format!("{}\ncurl -i -b $jar {site}/api/services", join(&idp)),
        ),
        (
            "Block him: an audit event says so, and within a second his session is over, 401",
            format!(
                "curl -X POST {idp}/demo/people/ben/block; sleep 1\n\
                 curl -i -b $jar {site}/api/services\n\
                 curl -X POST {idp}/demo/people/ben/unblock"
            ),
        ),
    ]
}

fn leave(idp: &str) -> String {
    format!("curl -X POST '{idp}/demo/people/ben/leave?group=acme/platform'")
}

fn join(idp: &str) -> String {
    format!("curl -X POST '{idp}/demo/people/ben/join?group=acme/platform&role=developer'")
}

/// Where a job has its token from, with GitLab and without.
fn variable(ports: &Ports) -> String {
    format!(
        "  GitLab puts a token into $TOKEN of a job where .gitlab-ci.yml says   id_tokens: {{ TOKEN: {{ aud: {} }} }}\n  \
         The demo GitLab runs no jobs, and gives such a token to whoever asks. It is good for an hour, and for this API alone.\n\n",
        ports.audience()
    )
}

fn of_jobs(ports: &Ports) -> [(&'static str, String); 6] {
    let (site, idp) = (ports.public_url(), ports.issuer());
    let deploy = |token: &str| {
        let release = r#"{"service":"billing","version":"1.2"}"#;
        format!("curl -i -H \"Authorization: Bearer ${token}\" -d '{release}' $releases")
    };
    let of_ben = |token: &str, query: &str| format!("{token}=$(curl -s \"$job&user=ben&{query}\")\n{}", deploy(token));
    [
        (
            "Where the demo GitLab gives the token of a job, and what the job calls",
            format!("job='{idp}/demo/job?aud={}'\nreleases={site}/deploy/releases", ports.audience()),
        ),
        (
            "A job of ben's on main, which is protected: 201, and the API is told which job it is, and whose",
            of_ben("MAIN", "ref=main"),
        ),
        ("A job of his on another branch: 403, in the policy's words", of_ben("BRANCH", "ref=feature")),
        (
            "A job of his for the merge request of dan's fork, from a branch called main too: 403, since dan wrote what it runs",
            of_ben("FORK", "ref=main&fork=dan"),
        ),
        (
            "Take ben out of his group: his job on main, with the token that it has, may not deploy any more, 403",
            format!("{}\n{}\n{}", leave(&idp), deploy("MAIN"), join(&idp)),
        ),
        (
            "What was deployed, and by whom: every job in acme may read it, 200",
            "curl -H \"Authorization: Bearer $BRANCH\" $releases".to_owned(),
        ),
    ]
}
