//! `vestibule check`: is this configuration fit to run? No listener is opened and nothing is written.

mod groups;
mod live;
mod places;
pub(super) mod policies;

use super::{policy::open, print};
use crate::{
    authorize::{Authorize, Open, PolicyError, show_errors, show_warnings},
    canonical::covers,
    config::{self, ConfigErrors, Places, ProviderKind, ProviderSettings, Settings},
    finding::{Finding, Level},
};
use serde_json::{Value as Json, json};
use std::{collections::BTreeSet, fs, io::IsTerminal, path::Path};

/// Prints all mistakes and warnings, and a short summary; with `live` also what everything that the configuration names
/// has to say. False if there is a mistake or a failure.
///
/// # Errors
/// One line, if nothing can be asked. A configuration that cannot be read is a mistake as well.
pub(super) fn run(file: &Path, json: bool, live: bool) -> Result<bool, String> {
    let mut verdict = Verdict::of(config::load_with_places(file), || config::load_for_review(file), known);
    if live {
        verdict.look()?;
    }
    if json {
        print(&format!("{:#}", verdict.json()));
    } else {
        print(&verdict.text(std::io::stdout().is_terminal()));
    }
    Ok(verdict.good())
}

fn known(settings: &Settings) -> Result<Known, Vec<PolicyError>> {
    let mut known = Known::of(&load(settings.policies.as_deref(), settings)?, settings);
    known.beside(settings);
    Ok(known)
}

fn load(directory: Option<&Path>, settings: &Settings) -> Result<Authorize, Vec<PolicyError>> {
    Authorize::load(directory, &settings.routes, &settings.providers, &settings.token_issuers)
}

/// What policies say as a whole.
#[derive(Default)]
struct Known {
    /// The routes that they let nobody into, by their places.
    closed: Vec<usize>,
    /// Permits that never apply, and what is wrong with the shadow policies.
    wrong: Vec<PolicyError>,
    /// What is odd about them.
    odd: Vec<PolicyError>,
    /// The groups that they name.
    groups: BTreeSet<String>,
    /// What they open to those who are not signed in.
    open: Vec<Open>,
    /// What they open to everybody who is signed in.
    signed_in: Vec<Open>,
}

impl Known {
    fn of(policies: &Authorize, settings: &Settings) -> Self {
        Self {
            closed: policies.closed(&settings.routes).iter().map(|route| route.index).collect(),
            wrong: policies.overruled().to_vec(),
            odd: policies.warnings(&settings.routes, &settings.token_issuers),
            groups: policies.groups(),
            open: policies.open(&settings.routes),
            signed_in: policies.open_to_signed_in(&settings.routes),
        }
    }

    /// Adds what is wrong with the shadow policies, and the groups that they name.
    fn beside(&mut self, settings: &Settings) {
        let Some(directory) = &settings.shadow_policies else { return };
        match load(Some(directory), settings) {
            Ok(policies) => {
                self.wrong.extend_from_slice(policies.overruled());
                self.groups.extend(policies.groups());
            }
            Err(errors) => self.wrong.extend(errors),
        }
    }
}

/// What a check found.
enum Verdict {
    /// A configuration that cannot be served, and what is wrong and odd about its policies; none where it cannot be read without its
    /// secrets either.
    Unfit(ConfigErrors, Option<(Vec<PolicyError>, Vec<PolicyError>)>),
    Read(Box<Read>),
}

/// Said where nobody can tell what the policies are about.
const NOT_LOOKED_AT: &str = "policies were not looked at: what is wrong above comes first";

/// What a check found of a configuration that can be read.
struct Read {
    settings: Settings,
    places: Places,
    policies: Vec<PolicyError>,
    known: Known,
    warnings: Vec<String>,
    /// With `--live`.
    live: Option<Vec<Finding>>,
}

impl Verdict {
    fn of(
        loaded: Result<(Settings, Places), ConfigErrors>,
        for_review: impl FnOnce() -> Result<Settings, ConfigErrors>,
        policies: impl FnOnce(&Settings) -> Result<Known, Vec<PolicyError>>,
    ) -> Self {
        let found = |settings: &Settings| {
            let (mut known, mut wrong) = match policies(settings) {
                Ok(known) => (known, Vec::new()),
                Err(errors) => (Known::default(), errors),
            };
            wrong.append(&mut known.wrong);
            (known, wrong)
        };
        let (settings, places) = match loaded {
            Ok(loaded) => loaded,
            Err(errors) => {
                let found = for_review().ok().as_ref().map(found);
                return Self::Unfit(errors, found.map(|(known, wrong)| (wrong, known.odd)));
            }
        };
        let (known, wrong) = found(&settings);
        let closed = known.closed.iter().map(|index| closed(&settings, &places, *index).to_string());
        let odd = settings.warnings.iter().cloned().chain(uncovered(&settings, &places));
        let warnings = odd.chain(closed).chain(open_keys(&settings.keys)).collect();
        Self::Read(Box::new(Read { settings, places, policies: wrong, known, warnings, live: None }))
    }

    /// Asks everything that the configuration names.
    fn look(&mut self) -> Result<(), String> {
        if let Self::Read(read) = self {
            read.live = Some(live::look(&read.settings, &read.known.groups)?);
        }
        Ok(())
    }

    fn good(&self) -> bool {
        match self {
            Self::Unfit(..) => false,
            Self::Read(read) => read.policies.is_empty() && read.count(Level::Fault) == 0,
        }
    }

    fn text(&self, colour: bool) -> String {
        match self {
            Self::Unfit(errors, policies) => {
                let policies = match policies {
                    None => NOT_LOOKED_AT.to_owned(),
                    Some((wrong, odd)) if wrong.is_empty() && odd.is_empty() => "policies: no mistake".to_owned(),
                    Some((wrong, odd)) => {
                        let shown = [show_errors(wrong, colour), show_warnings(odd, colour)];
                        shown.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n\n")
                    }
                };
                format!("{}\n\n{policies}", errors.render(colour).trim_end())
            }
            Self::Read(read) => read.text(colour),
        }
    }

    fn json(&self) -> Json {
        match self {
            Self::Unfit(errors, policies) => {
                let (wrong, odd) = policies.as_ref().map(|(wrong, odd)| (&**wrong, &**odd)).unwrap_or_default();
                let errors = errors.all().iter().map(config_error).chain(wrong.iter().map(PolicyError::json));
                let warnings: Vec<_> = odd.iter().map(ToString::to_string).collect();
                json!({
                    "ok": false,
                    "errors": errors.collect::<Vec<_>>(),
                    "warnings": warnings,
                    "policies_checked": policies.is_some(),
                })
            }
            Self::Read(read) => {
                let mut json = read.json();
                json["ok"] = self.good().into();
                json
            }
        }
    }
}

impl Read {
    fn text(&self, colour: bool) -> String {
        let well = self.policies.is_empty();
        let settings = &self.settings;
        let errors = (!well).then(|| show_errors(&self.policies, colour) + "\n");
        let odd = &self.known.odd;
        let errors = errors.into_iter().chain((!odd.is_empty()).then(|| show_warnings(odd, colour) + "\n"));
        let warnings = self.warnings.iter().map(|warning| format!("warning: {warning}"));
        let summary = well.then(|| summary(settings));
        let register = settings.providers.iter().filter(|_| well).flat_map(|one| register(settings, one));
        let live = self.live.iter().flatten().map(|finding| self.line(finding));
        let tally = self.live.is_some().then(|| self.tally());
        let open = open::text(open::STRANGERS, &self.known.open);
        let signed_in = open::text(open::SIGNED_IN, &self.known.signed_in);
        errors
            .chain(warnings)
            .chain(summary)
            .chain(open)
            .chain(signed_in)
            .chain(register)
            .chain(live)
            .chain(tally)
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// One finding on one line: how it stands, where it is written, what was looked at, what was found, what to do.
    fn line(&self, finding: &Finding) -> String {
        let Finding { level, what, key, said, help } = finding;
        let (file, line) = (self.settings.file.display(), self.places.line(key));
        let help = help.as_ref().map_or_else(String::new, |help| format!("; {help}"));
        format!("{:<8} {file}:{line}: {what}: {said}{help}", level.as_str())
    }

    fn tally(&self) -> String {
        let (warnings, faults) = (self.count(Level::Warning), self.count(Level::Fault));
        let good = format!("{} ok", self.count(Level::Good));
        format!("live: {good}, {}, {}", count(warnings, "warning", "warnings"), count(faults, "failure", "failures"))
    }

    fn count(&self, level: Level) -> usize {
        self.live.iter().flatten().filter(|finding| finding.level == level).count()
    }

    fn json(&self) -> Json {
        let settings = &self.settings;
        let errors: Vec<_> = self.policies.iter().map(PolicyError::json).collect();
        let warnings: Vec<_> = self.known.odd.iter().map(ToString::to_string).chain(self.warnings.clone()).collect();
        let mut json = json!({
            "errors": errors,
            "warnings": warnings,
            "open": open::json(&self.known.open),
            "open_to_signed_in": open::json(&self.known.signed_in),
            "routes": settings.routes.iter().map(|route| route.name.as_str()).collect::<Vec<_>>(),
            "providers": settings.providers.iter().map(|provider| provider.name.as_str()).collect::<Vec<_>>(),
            "policies": settings.policies,
            "digest": settings.digest,
        });
        let finding = |it: &Finding| {
            let (level, line) = (it.level.as_str().to_lowercase(), self.places.line(&it.key));
            json!({ "level": level, "line": line, "key": it.key, "what": it.what, "message": it.said, "help": it.help })
        };
        if let Some(live) = &self.live {
            json["live"] = live.iter().map(finding).collect();
        }
        json
    }
}

/// Hosts that people ask for and for which a listener with TLS has no certificate.
fn uncovered(settings: &Settings, places: &Places) -> Vec<String> {
    let public = settings.public_url.host_str().unwrap_or_default();
    let hosts: BTreeSet<&str> = settings.routes.iter().map(|route| route.host.as_str()).chain([public]).collect();
    let mut warnings = Vec::new();
    for (index, listen) in settings.listen.iter().enumerate() {
        let Some(tls) = &listen.tls else { continue };
        let names: Vec<_> = tls.certificates.iter().flat_map(|certificate| &certificate.names).collect();
        let place = format!("{}:{}", settings.file.display(), places.line(&format!("listen[{index}].tls")));
        let missing = hosts.iter().filter(|host| !names.iter().any(|name| covers(name, host)));
        warnings.extend(missing.map(|host| {
            let at = &listen.at;
            format!(
                "{place}: no certificate of the listener {at} is for `{host}`: browsers refuse it there, and so do we"
            )
        }));
    }
    warnings
}

/// The warning about a route that nobody can enter.
fn closed(settings: &Settings, places: &Places, index: usize) -> PolicyError {
    let name = settings.routes.get(index).map_or("", |route| route.name.as_str());
    let line = places.line(&format!("routes[{index}].name"));
    let tokens = settings.routes.get(index).is_none_or(|route| !route.token_issuers.is_empty());
    let jobs = match tokens || settings.token_issuers.is_empty() {
        true => "",
        false => "; jobs and services come where a route names `token_issuers`, and this one names none",
    };
    let place = format!("{}:{line}", settings.file.display());
    let help = format!("write `allow` there, or a `permit` with `resource == Route::\"{name}\"`{jobs}");
    PolicyError::new(place, format!("nobody may reach the route `{name}`")).help(help)
}

fn config_error(error: &config::ConfigError) -> Json {
    json!({
        "key": error.key,
        "line": error.position.map(|(line, _)| line),
        "column": error.position.map(|(_, column)| column),
        "message": error.message,
        "expected": error.expected,
        "help": error.help,
    })
}

/// What every OIDC set-up needs, and most often has wrong.
fn register(settings: &Settings, provider: &ProviderSettings) -> Vec<String> {
    let name = &provider.name;
    let mut lines = vec![format!("redirect URI to register at `{name}`: {}", redirect_uri(settings, provider))];
    if provider.kind != ProviderKind::Gitlab {
        let uri = ours(settings, "sign-out");
        lines.push(format!("post-logout redirect URI to register at `{name}`, if it has one: {uri}"));
    }
    lines
}

fn redirect_uri(settings: &Settings, provider: &ProviderSettings) -> String {
    ours(settings, &format!("callback/{}", provider.name))
}

fn ours(settings: &Settings, endpoint: &str) -> String {
    format!("{}/.vestibule/{endpoint}", settings.public_url.origin().ascii_serialization())
}

fn summary(settings: &Settings) -> String {
    let allow = settings.routes.iter().map(|route| route.allow.len()).sum();
    let policies = match &settings.policies {
        Some(directory) => format!("policies in `{}`", directory.display()),
        None => "no policy files".to_owned(),
    };
    format!(
        "ok: {}, {}, {policies}, {} of `allow`",
        count(settings.providers.len(), "provider", "providers"),
        count(settings.routes.len(), "route", "routes"),
        count(allow, "entry", "entries"),
    )
}

fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// A warning for every key that others can read. Public keys may be read by all.
fn open_keys(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    let (directories, mut files): (Vec<_>, Vec<_>) = paths.into_iter().partition(|path| path.is_dir());
    files.retain(|path| path.is_file() && path.extension().is_none_or(|extension| extension != "pub"));
    let mut warnings: Vec<_> = files.iter().filter_map(|path| config::open_to_others(path)).collect();
    warnings.extend(directories.iter().flat_map(|directory| open_keys(directory)));
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn sample() -> (tempfile::TempDir, (Settings, Places)) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let write = |name: &str, text: &str, mode| {
            let path = directory.path().join(name);
            fs::write(&path, text).expect("a writable file");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("own file");
            path
        };
        fs::create_dir_all(directory.path().join("keys/ring")).expect("a writable directory");
        write("keys/ring/0001.key", "x", 0o644);
        write("keys/audit.pub", "x", 0o644);
        write("keys/assertion", "x", 0o600);
        write("secret", "hunter2", 0o600);
        let file = write(
            "vestibule.yaml",
            "public_url: http://localhost:8080\nlisten: 127.0.0.1:8080\nproviders:\n  - { name: sso, kind: oidc, issuer: \
             https://sso.example.com, client_id: a, client_secret: { file: secret } }\nroutes:\n  - { name: portal, \
             upstream: \"http://127.0.0.1:7007\", allow: [signed-in] }\n",
            0o600,
        );
        (directory, config::load_with_places(&file).expect("a valid configuration"))
    }

    fn no_review() -> Result<Settings, ConfigErrors> {
        unreachable!("what can be served is not read again")
    }

    #[test]
    fn says_what_is_odd_and_that_it_is_fit_to_run() {
        let (directory, loaded) = sample();
        let verdict = Verdict::of(Ok(loaded), no_review, |_| Ok(Known::default()));
        assert!(verdict.good());
        let at = directory.path().display();
        let expected = format!(
            "warning: {at}/vestibule.yaml:1:13: plain http on loopback: cookies go without `Secure`, for trying things out only\n\
             warning: `{at}/keys/ring/0001.key` is open to everybody (mode 0644): set it to 0600\n\
             ok: 1 provider, 1 route, no policy files, 1 entry of `allow`\n\
             redirect URI to register at `sso`: http://localhost:8080/.vestibule/callback/sso\n\
             post-logout redirect URI to register at `sso`, if it has one: http://localhost:8080/.vestibule/sign-out"
        );
        assert_eq!(verdict.text(false), expected);
        assert_eq!(verdict.json()["ok"], true);
        assert_eq!(verdict.json()["routes"], json!(["portal"]));
    }

    #[test]
    fn a_wrong_policy_is_a_no() {
        let (_directory, loaded) = sample();
        let error = PolicyError::new("policies/a.cedar:1:2", "no `@id`");
        let verdict = Verdict::of(Ok(loaded), no_review, |_| Err(vec![error]));
        assert!(!verdict.good());
        assert!(verdict.text(false).starts_with("error: policies/a.cedar:1:2: no `@id`\n"));
        assert_eq!(verdict.json()["errors"][0]["place"], "policies/a.cedar:1:2");
    }

    #[test]
    fn a_configuration_that_cannot_be_read_is_a_no() {
        let loaded = config::load_with_places(Path::new("/nowhere/vestibule.yaml"));
        let verdict = Verdict::of(
            loaded,
            || config::load_for_review(Path::new("/nowhere/vestibule.yaml")),
            |_| Ok(Known::default()),
        );
        assert!(!verdict.good());
        assert_eq!(verdict.json()["ok"], false);
        assert_eq!(verdict.json()["policies_checked"], false);
        assert!(verdict.text(false).ends_with(NOT_LOOKED_AT), "{}", verdict.text(false));
    }

    /// Somebody who has not made the secrets yet learns of all mistakes at once.
    #[test]
    fn policies_are_checked_while_a_secret_is_missing() {
        let (directory, (settings, _)) = sample();
        fs::remove_file(directory.path().join("secret")).expect("it is there");
        let check = |wrong: Vec<PolicyError>| {
            Verdict::of(
                config::load_with_places(&settings.file),
                || config::load_for_review(&settings.file),
                |_| {
                    if wrong.is_empty() { Ok(Known::default()) } else { Err(wrong) }
                },
            )
        };
        let verdict = check(vec![PolicyError::new("policies/a.cedar:1:2", "no `@id`")]);
        let text = verdict.text(false);
        assert!(!verdict.good() && text.contains("providers[0].client_secret"), "{text}");
        assert!(text.ends_with("\n\nerror: policies/a.cedar:1:2: no `@id`"), "{text}");
        let json = verdict.json();
        assert_eq!(
            (&json["policies_checked"], &json["errors"][1]["place"]),
            (&json!(true), &json!("policies/a.cedar:1:2"))
        );
        assert!(check(Vec::new()).text(false).ends_with("\n\npolicies: no mistake"));
    }

    #[test]
    fn a_route_that_nobody_may_reach_is_told() {
        let (directory, loaded) = sample();
        let verdict = Verdict::of(Ok(loaded), no_review, |_| Ok(Known { closed: vec![0], ..Known::default() }));
        let expected = format!(
            "warning: {}/vestibule.yaml:6: nobody may reach the route `portal`; write `allow` there, or a `permit` with `resource == Route::\"portal\"`\n",
            directory.path().display()
        );
        assert!(verdict.good() && verdict.text(false).contains(&expected), "{}", verdict.text(false));
    }

    /// What anybody may do is told where it is looked for: beside the summary of what is fit to run.
    #[test]
    fn what_is_open_is_told() {
        let (_directory, loaded) = sample();
        let open = Open {
            route: "portal".parse().expect("a name"),
            actions: vec!["read"],
            paths: vec!["/public/*".to_owned()],
            conditions: Vec::new(),
            policy: "public-pages".into(),
            forbids: Vec::new(),
        };
        let verdict = Verdict::of(Ok(loaded), no_review, |_| Ok(Known { open: vec![open], ..Known::default() }));
        let expected =
            "\nopen to those who are not signed in:\n  portal  read  /public/*  by `public-pages`\nredirect URI";
        assert!(verdict.good() && verdict.text(false).contains(expected), "{}", verdict.text(false));
        assert_eq!(verdict.json()["open"][0]["policy"], "public-pages");
    }

    #[test]
    fn p62_a_finding_is_one_line_with_its_place_and_what_to_do() {
        let (directory, loaded) = sample();
        let mut verdict = Verdict::of(Ok(loaded), no_review, |_| Ok(Known::default()));
        let Verdict::Read(read) = &mut verdict else { panic!("a configuration that can be read") };
        read.live = Some(vec![
            Finding::new(Level::Good, "session store", "state", "can be opened"),
            Finding::new(Level::Fault, "client secret", "providers[0].client_secret", "not accepted")
                .help("copy it anew"),
        ]);
        let expected = format!(
            "ok       {at}/vestibule.yaml:1: session store: can be opened\n\
             FAIL     {at}/vestibule.yaml:4: client secret: not accepted; copy it anew\n\
             live: 1 ok, 0 warnings, 1 failure",
            at = directory.path().display()
        );
        assert!(verdict.text(false).ends_with(&expected), "{}", verdict.text(false));
        let json = verdict.json();
        assert_eq!(
            (&json["ok"], &json["live"][1]["level"], &json["live"][1]["line"]),
            (&json!(false), &json!("fail"), &json!(4))
        );
    }
}
