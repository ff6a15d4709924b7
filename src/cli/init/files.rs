//! What is written: all of it or nothing, and never over anything.

use super::{Secret, draft::Draft, text};
use crate::authorize::schema_text;
use secrecy::ExposeSecret;
use std::{
    fs,
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

/// Files that are to be written into a directory.
pub(super) struct Plan {
    directory: PathBuf,
    files: Vec<File>,
}

struct File {
    /// From the directory.
    path: &'static str,
    name: String,
    text: Zeroizing<String>,
    mode: u32,
}

impl File {
    fn path(&self) -> PathBuf {
        Path::new(self.path).join(&self.name)
    }
}

impl Plan {
    /// The files that the answers mean.
    ///
    /// # Errors
    /// One line or more: the answers do not go together.
    pub(super) fn of(directory: &Path, draft: &Draft, secret: &Secret) -> Result<Self, String> {
        let settings = draft.settings()?;
        let place = match secret {
            Secret::File(path) => path.clone(),
            Secret::Given(_) | Secret::Later => format!("secrets/{}", draft.provider()),
        };
        let file = |path, name: &str, text: String, mode| File { path, name: name.to_owned(), text: text.into(), mode };
        let mut files = vec![
            file("", "vestibule.yaml", text::configuration(draft, &place), 0o644),
            file("policies", "portal.cedar", text::policies(draft, &settings.routes), 0o644),
            file("policies/tests", "portal.yaml", text::cases(&settings.routes), 0o644),
            file("policies", "vestibule.cedarschema", schema_text(&settings.routes), 0o644),
        ];
        match secret {
            Secret::File(_) => {}
            Secret::Given(secret) => {
                files.push(file("secrets", draft.provider(), format!("{}\n", secret.expose_secret()), 0o600));
            }
            Secret::Later => files.push(file("secrets", draft.provider(), String::new(), 0o600)),
        }
        Ok(Self { directory: directory.to_owned(), files })
    }

    /// The files, as they are shown.
    pub(super) fn files(&self) -> impl Iterator<Item = PathBuf> {
        self.files.iter().map(|file| shown(&self.directory, &file.path()))
    }

    /// Writes all files. If one of them cannot be written, those before it are taken away again.
    ///
    /// # Errors
    /// One line, that says which file and why.
    pub(super) fn write(&self) -> Result<(), String> {
        let wanted: Vec<PathBuf> = self.files.iter().map(File::path).collect();
        nothing_in_the_way(&self.directory, &wanted)?;
        let mut made = Made::default();
        for file in &self.files {
            let path = self.directory.join(file.path());
            made.write(&path, &file.text, file.mode)
                .map_err(|error| format!("cannot write `{}`: {error}: nothing is written", path.display()))?;
        }
        made.stays = true;
        Ok(())
    }
}

/// Fails if one of `paths` is in `directory` already. A directory is in the way if something is in it.
pub(super) fn nothing_in_the_way(directory: &Path, paths: &[impl AsRef<Path>]) -> Result<(), String> {
    let is_there = |path: &Path| match fs::symlink_metadata(path) {
        Ok(about) if about.is_dir() => fs::read_dir(path).map_or(true, |mut entries| entries.next().is_some()),
        Ok(_) => true,
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    };
    let there: Vec<_> = paths.iter().map(AsRef::as_ref).filter(|path| is_there(&directory.join(path))).collect();
    if there.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = there.iter().map(|path| format!("`{}`", shown(directory, path).display())).collect();
    let verb = if names.len() == 1 { "is there" } else { "are there" };
    Err(format!(
        "{} {verb} already, and nothing is overwritten: move it away, or write elsewhere with `--dir`",
        names.join(", ")
    ))
}

fn shown(directory: &Path, path: &Path) -> PathBuf {
    if directory == Path::new(".") { path.to_owned() } else { directory.join(path) }
}

/// What was made so far; it is taken away again unless it stays.
#[derive(Default)]
struct Made {
    paths: Vec<PathBuf>,
    stays: bool,
}

impl Made {
    fn write(&mut self, path: &Path, text: &str, mode: u32) -> io::Result<()> {
        if let Some(parent) = path.parent() {
            self.directory(parent, if mode == 0o600 { 0o700 } else { 0o755 })?;
        }
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        self.paths.push(path.to_owned());
        file.write_all(text.as_bytes())?;
        file.sync_all()
    }

    fn directory(&mut self, path: &Path, mode: u32) -> io::Result<()> {
        if path.as_os_str().is_empty() || path.is_dir() {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            self.directory(parent, 0o755)?;
        }
        fs::DirBuilder::new().mode(mode).create(path)?;
        self.paths.push(path.to_owned());
        Ok(())
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for path in self.paths.iter().rev().filter(|_| !self.stays) {
            let _ = if path.is_dir() { fs::remove_dir(path) } else { fs::remove_file(path) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        authorize::Authorize,
        cli::init::draft::Field,
        config,
        review::{
            cases::{Suite, Verdict},
            coverage::Coverage,
            format::formatted,
            mutate::Mutation,
        },
    };
    use std::os::unix::fs::PermissionsExt;

    fn draft(kind: &str, public_url: &str, allow: &str) -> Draft {
        let mut draft = Draft::default();
        for (field, text) in [
            (Field::PublicUrl, public_url),
            (Field::Kind, kind),
            (Field::ClientId, "a: b"),
            (Field::Upstream, "http://10.0.0.7:80"),
            (Field::Allow, allow),
        ] {
            draft.answer(field, text).unwrap_or_else(|said| panic!("{said:?}"));
        }
        let (field, text) = match kind {
            "google" => (Field::Domain, "example.com"),
            "entra" => (Field::Issuer, "https://login.microsoftonline.com/72f988bf-86f1-41af-91ab-2d7cd011db47/v2.0"),
            _ => (Field::Issuer, "https://sso.example.com/a"),
        };
        draft.answer(field, text).unwrap_or_else(|said| panic!("{said:?}"));
        draft
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("there").permissions().mode() & 0o777
    }

    /// Whatever is answered, `check` finds it well at once.
    #[test]
    fn what_is_written_is_well() {
        for (kind, url, allow) in [
            ("gitlab", "https://portal.example.com", "gitlab:acme/**"),
            ("okta", "https://portal.example.com:8443", "okta:everybody,signed-in"),
            ("keycloak", "http://localhost:8080", "keycloak:a/b/**,keycloak:c"),
            ("oidc", "http://127.0.0.1:8080", "public"),
            ("google", "https://portal.example.com", "signed-in"),
            ("entra", "https://portal.example.com", "entra:3f2c0a11-0000-4000-8000-00000000000a"),
        ] {
            let directory = tempfile::tempdir().expect("a directory");
            let into = directory.path().join("new/place");
            let secret = Secret::Given("hunter2".to_owned().into());
            Plan::of(&into, &draft(kind, url, allow), &secret)
                .and_then(|plan| plan.write())
                .unwrap_or_else(|error| panic!("{error}"));
            let settings = config::load(&into.join("vestibule.yaml")).unwrap_or_else(|errors| panic!("{errors}"));
            assert_eq!(settings.providers[0].client_id, "a: b");
            assert_eq!(settings.warnings.len(), usize::from(url.starts_with("http:")), "{:?}", settings.warnings);
            let policies = Authorize::load(settings.policies.as_deref(), &settings.routes, &settings.providers, &[]);
            let policies = policies.unwrap_or_else(|errors| panic!("{errors:?}"));
            assert!(policies.closed(&settings.routes).is_empty(), "{}", policies.show());
            assert_eq!(policies.ids().len(), allow.split(',').count());
            let text = fs::read_to_string(into.join("policies/portal.cedar")).expect("read");
            assert_eq!(formatted(&text).expect("it parses"), text);
            let cases = [into.join("policies/tests/portal.yaml")];
            let suite = Suite::read(&cases, &settings, &policies.ids()).unwrap_or_else(|errors| panic!("{errors:?}"));
            assert!(suite.run(&policies).iter().all(Verdict::passed), "{allow}");
            assert!(Coverage::of(&policies, &suite.run(&policies)).uncovered.is_empty(), "{allow}");
            let changes = Mutation::of(&suite, &policies, &settings).expect("the schema is good");
            assert!(changes.survivors.is_empty(), "{allow}");
            let name = if kind == "oidc" { "sso" } else { kind };
            assert_eq!((mode(&into.join("secrets")), mode(&into.join("secrets").join(name))), (0o700, 0o600));
        }
    }

    /// Whoever takes the comment signs away gets policies that hold.
    #[test]
    fn the_ideas_in_the_policies_are_well() {
        for (kind, count) in [("gitlab", 4), ("okta", 4), ("entra", 4), ("google", 3)] {
            let directory = tempfile::tempdir().expect("a directory");
            let secret = Secret::Given("hunter2".to_owned().into());
            let plan = Plan::of(directory.path(), &draft(kind, "https://a.example.com", "signed-in"), &secret);
            plan.and_then(|plan| plan.write()).unwrap_or_else(|error| panic!("{error}"));
            let file = directory.path().join("policies/portal.cedar");
            let text = fs::read_to_string(&file).expect("read");
            let (head, ideas) = text.split_once("// Pages that anybody").expect("the ideas");
            let signs = ["// @", "// permit", "// forbid", "// when", "// unless"];
            let taken = |line: &str| {
                if signs.iter().any(|sign| line.starts_with(sign)) { line[3..].to_owned() } else { line.to_owned() }
            };
            let ideas: Vec<String> = ideas.lines().skip(1).map(taken).collect();
            fs::write(&file, format!("{head}\n{}\n", ideas.join("\n"))).expect("written");
            let settings =
                config::load(&directory.path().join("vestibule.yaml")).unwrap_or_else(|errors| panic!("{errors}"));
            let policies = Authorize::load(settings.policies.as_deref(), &settings.routes, &settings.providers, &[]);
            assert_eq!(policies.unwrap_or_else(|errors| panic!("{errors:?}")).ids().len(), count);
        }
    }

    #[test]
    fn nothing_is_overwritten_and_nothing_is_left_half_done() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = directory.path();
        fs::create_dir(at.join("secrets")).expect("made");
        fs::write(at.join("secrets/gitlab"), "theirs").expect("written");
        let plan =
            Plan::of(at, &draft("gitlab", "https://a.example.com", "signed-in"), &Secret::Later).expect("a plan");
        let error = plan.write().expect_err("in the way");
        let expected = format!(
            "`{}/secrets/gitlab` is there already, and nothing is overwritten: move it away, or write elsewhere with `--dir`",
            at.display()
        );
        assert_eq!(error, expected);
        assert_eq!(fs::read_dir(at).expect("a directory").count(), 1);
        let mut made = Made::default();
        made.write(&at.join("new/a"), "a", 0o644).expect("written");
        made.write(&at.join("secrets/gitlab"), "ours", 0o600).expect_err("there");
        drop(made);
        assert!(!at.join("new").exists());
        assert_eq!(fs::read_to_string(at.join("secrets/gitlab")).expect("read"), "theirs");
    }

    #[test]
    fn a_link_that_leads_nowhere_is_in_the_way_too() {
        let directory = tempfile::tempdir().expect("a directory");
        std::os::unix::fs::symlink("/nowhere", directory.path().join("vestibule.yaml")).expect("a link");
        assert!(nothing_in_the_way(directory.path(), &["vestibule.yaml"]).is_err());
        fs::create_dir(directory.path().join("policies")).expect("made");
        assert!(nothing_in_the_way(directory.path(), &["policies"]).is_ok(), "an empty directory is in nobody's way");
    }
}
