//! `vestibule check`: is this configuration fit to run? No listener is opened and nothing is written.

use super::print;
use crate::{
    authorize::{Authorize, PolicyError},
    config::{self, ConfigErrors, ProviderSettings, Settings},
};
use serde_json::{Value as Json, json};
use std::{fs, io::IsTerminal, path::Path};

/// Prints all mistakes and warnings, and a short summary. False if there is a mistake.
///
/// # Errors
/// None of its own: a configuration that cannot be read is a mistake as well.
pub(super) fn run(file: &Path, json: bool) -> Result<bool, String> {
    let verdict = Verdict::of(config::load(file), |settings| {
        Authorize::load(settings.policies.as_deref(), &settings.routes, &settings.providers).map(|_| ())
    });
    if json {
        print(&format!("{:#}", verdict.json()));
    } else {
        print(&verdict.text(std::io::stdout().is_terminal()));
    }
    Ok(verdict.good())
}

/// What a check found.
enum Verdict {
    Unreadable(ConfigErrors),
    Read { settings: Box<Settings>, policies: Vec<PolicyError>, warnings: Vec<String> },
}

impl Verdict {
    fn of(
        loaded: Result<Settings, ConfigErrors>,
        policies: impl FnOnce(&Settings) -> Result<(), Vec<PolicyError>>,
    ) -> Self {
        match loaded {
            Err(errors) => Self::Unreadable(errors),
            Ok(settings) => {
                let policies = policies(&settings).err().unwrap_or_default();
                let warnings = settings.warnings.iter().cloned().chain(open_keys(&settings.keys)).collect();
                Self::Read { settings: Box::new(settings), policies, warnings }
            }
        }
    }

    fn good(&self) -> bool {
        matches!(self, Self::Read { policies, .. } if policies.is_empty())
    }

    fn text(&self, colour: bool) -> String {
        match self {
            Self::Unreadable(errors) => errors.render(colour),
            Self::Read { settings, policies, warnings } => {
                let errors = policies.iter().map(|error| format!("error: {error}"));
                let warnings = warnings.iter().map(|warning| format!("warning: {warning}"));
                let summary = self.good().then(|| summary(settings));
                let register = settings.providers.iter().filter(|_| self.good()).map(|one| register(settings, one));
                errors.chain(warnings).chain(summary).chain(register).collect::<Vec<_>>().join("\n")
            }
        }
    }

    fn json(&self) -> Json {
        match self {
            Self::Unreadable(errors) => {
                let errors: Vec<_> = errors.all().iter().map(config_error).collect();
                json!({ "ok": false, "errors": errors, "warnings": [] })
            }
            Self::Read { settings, policies, warnings } => {
                let errors: Vec<_> =
                    policies.iter().map(|error| json!({ "place": error.place, "message": error.message })).collect();
                json!({
                    "ok": self.good(),
                    "errors": errors,
                    "warnings": warnings,
                    "routes": settings.routes.iter().map(|route| route.name.as_str()).collect::<Vec<_>>(),
                    "providers": settings.providers.iter().map(|provider| provider.name.as_str()).collect::<Vec<_>>(),
                    "policies": settings.policies,
                    "digest": settings.digest,
                })
            }
        }
    }
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
fn register(settings: &Settings, provider: &ProviderSettings) -> String {
    let origin = settings.public_url.origin().ascii_serialization();
    let name = &provider.name;
    format!("redirect URI to register at `{name}`: {origin}/.vestibule/callback/{name}")
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

    fn sample() -> (tempfile::TempDir, Settings) {
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
        let settings = config::load(&file).expect("a valid configuration");
        (directory, settings)
    }

    #[test]
    fn says_what_is_odd_and_that_it_is_fit_to_run() {
        let (directory, settings) = sample();
        let verdict = Verdict::of(Ok(settings), |_| Ok(()));
        assert!(verdict.good());
        let at = directory.path().display();
        let expected = format!(
            "warning: {at}/vestibule.yaml:1:13: plain http on loopback: cookies go without `Secure`, for trying things out only\n\
             warning: `{at}/keys/ring/0001.key` is open to everybody (mode 0644): set it to 0600\n\
             ok: 1 provider, 1 route, no policy files, 1 entry of `allow`\n\
             redirect URI to register at `sso`: http://localhost:8080/.vestibule/callback/sso"
        );
        assert_eq!(verdict.text(false), expected);
        assert_eq!(verdict.json()["ok"], true);
        assert_eq!(verdict.json()["routes"], json!(["portal"]));
    }

    #[test]
    fn a_wrong_policy_is_a_no() {
        let (_directory, settings) = sample();
        let error = PolicyError { place: "policies/a.cedar:1:2".to_owned(), message: "no `@id`".to_owned() };
        let verdict = Verdict::of(Ok(settings), |_| Err(vec![error]));
        assert!(!verdict.good());
        assert!(verdict.text(false).starts_with("error: policies/a.cedar:1:2: no `@id`\n"));
        assert_eq!(verdict.json()["errors"][0]["place"], "policies/a.cedar:1:2");
    }

    #[test]
    fn a_configuration_that_cannot_be_read_is_a_no() {
        let verdict = Verdict::of(config::load(Path::new("/nowhere/vestibule.yaml")), |_| Ok(()));
        assert!(!verdict.good());
        assert_eq!(verdict.json()["ok"], false);
    }
}
