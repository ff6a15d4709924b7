//! The demo's temporary directory: configuration, secrets, keys, state. It is gone when the demo ends.

use super::policies;
use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// Where everything listens.
pub(super) struct Ports {
    pub(super) front: u16,
    pub(super) provider: u16,
    pub(super) portal: u16,
    pub(super) api: u16,
}

impl Ports {
    /// What people open.
    pub(super) fn public_url(&self) -> String {
        format!("http://portal.localhost:{}", self.front)
    }

    /// Whom the tokens of CI jobs are for: what they call.
    pub(super) fn audience(&self) -> String {
        format!("{}/deploy", self.public_url())
    }

    /// The demo GitLab. An address, since `*.localhost` is resolved by browsers and curl but not by every C library.
    pub(super) fn issuer(&self) -> String {
        format!("http://127.0.0.1:{}", self.provider)
    }
}

/// A directory that only its owner can read, and that is removed when this is dropped.
pub(super) struct Place {
    directory: PathBuf,
    policies: PathBuf,
}

impl Place {
    /// Makes the directory. Policies come from `./policies` if there are any, so that edits of them act at once.
    ///
    /// # Errors
    /// The temporary directory cannot be written.
    pub(super) fn create() -> io::Result<Self> {
        let directory = std::env::temp_dir().join(format!("vestibule-demo-{}", &super::provider::random()[..8]));
        DirBuilder::new().mode(0o700).create(&directory)?;
        let own = Path::new("policies").canonicalize().ok().filter(|path| has_policies(path));
        let place = Self { policies: own.unwrap_or_else(|| directory.join("policies")), directory };
        if place.embedded() {
            DirBuilder::new().mode(0o700).create(&place.policies)?;
            for (name, text) in policies::STARTER {
                fs::write(place.policies.join(name), text)?;
            }
        }
        DirBuilder::new().mode(0o700).create(place.directory.join("secrets"))?;
        Ok(place)
    }

    /// The directory itself.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where the policies are read.
    pub(super) fn policies(&self) -> &Path {
        &self.policies
    }

    /// True if the policies are the embedded ones.
    pub(super) fn embedded(&self) -> bool {
        self.policies.starts_with(&self.directory)
    }

    /// Writes a secret that only its owner can read.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn secret(&self, name: &str, value: &str) -> io::Result<()> {
        let path = self.directory.join("secrets").join(name);
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(value.as_bytes())
    }

    /// Writes `vestibule.yaml` and returns its path.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn settings(&self, ports: &Ports) -> io::Result<PathBuf> {
        let path = self.directory.join("vestibule.yaml");
        fs::write(&path, settings(ports, &self.policies))?;
        Ok(path)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Nothing can be done about it, and the operating system clears its temporary directory.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn has_policies(directory: &Path) -> bool {
    let is_policy =
        |entry: io::Result<fs::DirEntry>| entry.is_ok_and(|e| e.path().extension().is_some_and(|x| x == "cedar"));
    fs::read_dir(directory).is_ok_and(|mut entries| entries.any(is_policy))
}

/// A complete configuration, as an operator would write it.
fn settings(ports: &Ports, policies: &Path) -> String {
    let Ports { front, portal, api, .. } = ports;
    let (public_url, issuer) = (ports.public_url(), ports.issuer());
    let audience = ports.audience();
    let policies = serde_json::Value::from(policies.to_string_lossy()); // a JSON string is a YAML string
    format!(
        r#"# Written by `vestibule demo`, and removed when it ends.
public_url: {public_url}
listen: 127.0.0.1:{front}
state: ./state
keys: ./keys
drain: 0s
providers:
  - name: gitlab
    kind: gitlab
    title: GitLab (demo)
    issuer: {issuer}
    client_id: vestibule-demo
    client_secret: {{ file: secrets/gitlab }}
    membership:
      api: {{ token: {{ file: secrets/gitlab_api }} }}
      hook: {{ token: {{ file: secrets/gitlab_hook }}, audit_token: {{ file: secrets/gitlab_audit }} }}
token_issuers:
  - name: ci
    kind: gitlab_ci
    provider: gitlab
    audiences: ["{audience}"]
    projects: {{ acme/shop/api: 5120 }}
routes:
  - name: portal
    host: portal.localhost
    upstream: "http://127.0.0.1:{portal}"
    providers: [gitlab]
    groups_header: ["gitlab:acme/**", "gitlab:contractors"]
  - name: api
    host: portal.localhost
    path: /api/
    upstream: "http://127.0.0.1:{api}"
    providers: [gitlab]
    groups_header: ["gitlab:acme/**"]
  - name: deploy-api
    host: portal.localhost
    path: /deploy/
    labels: {{ tier: production }}
    upstream: "http://127.0.0.1:{api}"
    providers: [gitlab]
    token_issuers: [ci]
policies: {policies}
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn is_readable_by_its_owner_alone_and_gone_at_the_end() {
        let place = Place::create().expect("the temporary directory is writable");
        let directory = place.directory().to_owned();
        place.secret("gitlab", "hush").expect("a fresh directory");
        let mode = |path: &Path| fs::metadata(path).expect("it was made").permissions().mode() & 0o777;
        assert_eq!(mode(&directory), 0o700);
        assert_eq!(mode(&directory.join("secrets/gitlab")), 0o600);
        drop(place);
        assert!(!directory.exists());
    }

    #[test]
    fn writes_a_configuration_with_every_address() {
        let place = Place::create().expect("the temporary directory is writable");
        let ports = Ports { front: 8080, provider: 8081, portal: 8082, api: 8083 };
        let text = fs::read_to_string(place.settings(&ports).expect("a fresh directory")).expect("it was written");
        let settings: serde_json::Value = serde_saphyr::from_str(&text).expect("YAML");
        assert_eq!(settings["public_url"], "http://portal.localhost:8080");
        assert_eq!(settings["providers"][0]["issuer"], "http://127.0.0.1:8081");
        let membership = &settings["providers"][0]["membership"];
        assert_eq!(membership["api"]["token"]["file"], "secrets/gitlab_api");
        assert_eq!(membership["hook"]["token"]["file"], "secrets/gitlab_hook");
        assert_eq!(membership["hook"]["audit_token"]["file"], "secrets/gitlab_audit");
        assert_eq!(settings["token_issuers"][0]["audiences"][0], "http://portal.localhost:8080/deploy");
        assert_eq!(settings["routes"][2]["upstream"], "http://127.0.0.1:8083");
        assert_eq!(settings["policies"].as_str(), place.policies().to_str());
    }

    /// What is reviewed by `policies/vestibule.yaml` is what the demo serves.
    #[test]
    fn the_configuration_beside_the_policies_is_that_of_the_demo() {
        let place = Place::create().expect("the temporary directory is writable");
        let ports = Ports { front: 8080, provider: 8081, portal: 8082, api: 8083 };
        let demo = place.settings(&ports).expect("a fresh directory");
        let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/vestibule.yaml");
        let [demo, beside] = [demo, beside].map(|file| {
            let settings = crate::config::load_for_review(&file).unwrap_or_else(|errors| panic!("{errors}"));
            let routes = settings.routes.iter().map(|route| {
                let (host, path) = (route.host.to_string(), route.path.clone());
                (
                    route.name.clone(),
                    host,
                    path,
                    route.labels.clone(),
                    route.providers.clone(),
                    route.token_issuers.clone(),
                )
            });
            let projects =
                settings.token_issuers.iter().map(|issuer| (issuer.name.clone(), format!("{:?}", issuer.kind)));
            let routes: Vec<_> = routes.collect();
            (settings.public_url.clone(), routes, projects.collect::<Vec<_>>())
        });
        assert_eq!(demo, beside);
    }
}
