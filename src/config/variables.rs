//! Environment variables that begin with `VESTIBULE_`: one that nobody reads is a typing error, like an unknown key.

use super::{
    Environment,
    mistake::{Mistake, Report, nearest, quote},
};
use tracing_subscriber::EnvFilter;

/// Those that the program itself reads; the documentation lists them.
pub(super) const VARIABLES: [&str; 2] = ["VESTIBULE_CONFIG", LOG];

/// What is logged.
const LOG: &str = "VESTIBULE_LOG";

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Reports variables that are neither ours nor in `secrets`, and a value of ours that cannot be used.
pub(super) fn check(report: &mut Report<'_>, environment: &Environment, secrets: &[&str]) {
    let known: Vec<&str> = VARIABLES.iter().chain(secrets).copied().collect();
    let ours = environment.keys().filter(|name| name.starts_with("VESTIBULE_") && !is_service_link(name));
    for name in ours.filter(|name| !known.contains(&name.as_str())) {
        let help = match nearest(name, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "unset it: settings are written in the configuration file".to_owned(),
        };
        let message = format!("the environment variable {} is not known", quote(name));
        report.add_at(None, Mistake::new("", message).help(help));
    }
    if let Some(help) = environment.get(LOG).and_then(|text| not_a_filter(text)) {
        let message = format!("the environment variable `{LOG}` is {}", quote(&environment[LOG]));
        report.add_at(None, Mistake::new("", message).help(help));
    }
}

/// Kubernetes sets these in every pod beside a service named `vestibule`.
fn is_service_link(name: &str) -> bool {
    name == "VESTIBULE_PORT" || name.starts_with("VESTIBULE_PORT_") || name.starts_with("VESTIBULE_SERVICE_")
}

/// What to do about a filter that would not log what is meant. A word that is no level would silently name a module.
fn not_a_filter(text: &str) -> Option<String> {
    if text.trim().is_empty() {
        return Some("unset it, or write a level, such as `info`".to_owned());
    }
    let bare = text.split(',').map(str::trim).filter(|part| !part.contains(['=', '[', ']', '{', '}']));
    let mut wrong = bare.filter(|part| !LEVELS.contains(&part.to_ascii_lowercase().as_str()));
    if let Some(word) = wrong.next() {
        let levels = LEVELS.map(|level| format!("`{level}`")).join(", ");
        return Some(match nearest(word, LEVELS) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("write a level ({levels}), or a module and its level, such as `info,vestibule=debug`"),
        });
    }
    let unread = EnvFilter::builder().parse(text).err()?;
    Some(format!("{unread}: write levels and modules, such as `info,vestibule=debug`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p61_a_filter_says_what_it_means() {
        for good in
            ["info", "WARN", "debug,hyper=off,h2=off", "info,vestibule::oidc=trace", "off", "vestibule[walk]=info"]
        {
            assert_eq!(not_a_filter(good), None, "{good}");
        }
        let help = |text| not_a_filter(text).expect("not a filter");
        assert_eq!(help("deubg"), "did you mean `debug`?");
        assert_eq!(help(""), "unset it, or write a level, such as `info`");
        assert!(help("vestibule").starts_with("write a level (`off`, `error`, "), "{}", help("vestibule"));
        assert!(help("vestibule=loud").ends_with("such as `info,vestibule=debug`"), "{}", help("vestibule=loud"));
        assert!(help("info,,debug").starts_with("write a level"));
    }
}
