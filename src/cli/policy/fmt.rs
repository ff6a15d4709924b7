//! `vestibule policy fmt`: policies in one shape, so that a review shows what changed and nothing else.

use super::mistakes;
use crate::{
    authorize::{PolicyError, sources, unparsed},
    cli::{Fault, print},
    config::{ConfigErrors, Settings},
    review::format::{Unformatted, formatted},
};
use serde_json::{Value as Json, json};
use std::{
    fs,
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// What to lay out.
#[derive(Clone, Debug, Eq, PartialEq, clap::Args)]
pub struct FmtArguments {
    /// Write nothing: name the files that are not laid out so, and answer no if there are some.
    #[arg(long)]
    check: bool,
    /// Files, or directories with `*.cedar` files. Default: `policies` of the configuration.
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
}

impl FmtArguments {
    /// Lays out every file, or looks whether it is; `settings` is asked only where no path is given. `false` if a file is not laid
    /// out and should only be looked at.
    ///
    /// # Errors
    /// What cannot be read, parsed, laid out or written. Other files are laid out all the same.
    pub(in crate::cli) fn run(
        &self,
        settings: impl FnOnce() -> Result<Settings, ConfigErrors>,
        json: bool,
    ) -> Result<bool, Fault> {
        let tally = self.tally(settings)?;
        print(&if json { format!("{:#}", tally.json()) } else { tally.text() });
        match tally.faults.is_empty() {
            true => Ok(tally.good()),
            false => Err(Fault::Line(mistakes(&tally.faults))),
        }
    }

    fn tally(&self, settings: impl FnOnce() -> Result<Settings, ConfigErrors>) -> Result<Tally, Fault> {
        let mut tally = Tally { check: self.check, ..Tally::default() };
        for path in self.files(settings, &mut tally.faults)? {
            tally.add(&path, lay_out(&path, self.check));
        }
        Ok(tally)
    }

    fn files(
        &self,
        settings: impl FnOnce() -> Result<Settings, ConfigErrors>,
        faults: &mut Vec<PolicyError>,
    ) -> Result<Vec<PathBuf>, Fault> {
        let mut paths = self.paths.clone();
        if paths.is_empty() {
            let nothing = "the configuration has no `policies`: name files, or directories with `*.cedar` files";
            paths.push(settings()?.policies.ok_or_else(|| Fault::Line(nothing.to_owned()))?);
        }
        let (mut files, mut errors) = (Vec::new(), Vec::new());
        for path in &paths {
            if path.is_dir() { files.extend(sources::paths(path, &mut errors)) } else { files.push(path.clone()) }
        }
        if files.is_empty() && errors.is_empty() {
            let names: Vec<_> = paths.iter().map(|path| format!("`{}`", path.display())).collect();
            return Err(Fault::Line(format!(
                "there is nothing to lay out: no `*.cedar` file below {}",
                names.join(", ")
            )));
        }
        faults.extend(errors);
        Ok(files)
    }
}

/// Lays out one file; true if it was not so before. With `check` nothing is written.
fn lay_out(path: &Path, check: bool) -> Result<bool, Vec<PolicyError>> {
    let text = sources::text(path).map_err(|error| vec![error])?;
    let laid = formatted(&text).map_err(|error| faults(path, &text, error))?;
    if laid != text && !check {
        let fault = |error| vec![PolicyError::new(path.display().to_string(), format!("cannot write: {error}"))];
        replace(path, &laid).map_err(fault)?;
    }
    Ok(laid != text)
}

/// Replaces a file as a whole. It keeps its mode and its owner, and whoever reads it meanwhile gets the old one.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let path = fs::canonicalize(path)?; // where a link points to
    let about = fs::metadata(&path)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let draft = path.with_file_name(format!(".{name}.new"));
    let written = write(&draft, text, &about).and_then(|()| fs::rename(&draft, &path));
    if written.is_err() {
        let _ = fs::remove_file(&draft); // it may not be there
    }
    written?;
    fs::File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

fn write(draft: &Path, text: &str, like: &fs::Metadata) -> io::Result<()> {
    let _ = fs::remove_file(draft); // of one that was stopped
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft)?;
    file.write_all(text.as_bytes())?;
    let mine = file.metadata()?;
    if (mine.uid(), mine.gid()) != (like.uid(), like.gid()) {
        std::os::unix::fs::fchown(&file, Some(like.uid()), Some(like.gid()))?;
    }
    file.set_permissions(like.permissions())?;
    file.sync_all()
}

/// What became of the files.
#[derive(Default)]
struct Tally {
    /// Nothing is written.
    check: bool,
    files: usize,
    changed: Vec<String>,
    faults: Vec<PolicyError>,
}

impl Tally {
    fn add(&mut self, path: &Path, outcome: Result<bool, Vec<PolicyError>>) {
        self.files += 1;
        match outcome {
            Ok(changed) => self.changed.extend(changed.then(|| path.display().to_string())),
            Err(faults) => self.faults.extend(faults),
        }
    }

    /// Every file is laid out, now if not before.
    fn good(&self) -> bool {
        self.faults.is_empty() && (!self.check || self.changed.is_empty())
    }

    fn text(&self) -> String {
        let word = if self.check { "not formatted" } else { "formatted" };
        let lines = self.changed.iter().map(|name| format!("{word}: {name}"));
        let (changed, files) = (self.changed.len(), self.files);
        let files = format!("{files} {}", if files == 1 { "file" } else { "files" });
        let end = match (self.check, changed, self.faults.len()) {
            (true, 0, 0) => format!("{files}, all formatted"),
            (true, _, 0) => format!("{files}, {changed} not formatted: run `vestibule policy fmt`"),
            (false, _, 0) => format!("{files}, {changed} changed"),
            (_, _, faults) => format!("{files}, {changed} {word}, {faults} with an error"),
        };
        lines.chain([end]).collect::<Vec<_>>().join("\n")
    }

    fn json(&self) -> Json {
        let errors: Vec<_> = self.faults.iter().map(PolicyError::json).collect();
        json!({ "ok": self.good(), "files": self.files, "changed": self.changed, "errors": errors })
    }
}

/// Why a file is left as it is.
fn faults(path: &Path, text: &str, why: Unformatted) -> Vec<PolicyError> {
    let name = path.display().to_string();
    match why {
        Unformatted::Left(_) => vec![PolicyError::new(name, why.to_string())],
        Unformatted::Broken(errors) => errors.iter().map(|error| unparsed(&name, text, error)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const ROUGH: &str = "@id(\"a\") permit(principal,action,resource); // all";
    const LAID: &str = "@id(\"a\")\npermit (principal, action, resource); // all\n";

    /// Whether all is well, or what is wrong.
    fn run(check: bool, paths: &[&Path]) -> Result<bool, String> {
        let arguments = FmtArguments { check, paths: paths.iter().map(|path| path.to_path_buf()).collect() };
        let Ok(tally) = arguments.tally(|| unreachable!("paths are given")) else { unreachable!("none is configured") };
        if tally.faults.is_empty() { Ok(tally.good()) } else { Err(mistakes(&tally.faults)) }
    }

    fn place(files: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().expect("a directory");
        files.iter().for_each(|(name, text)| fs::write(directory.path().join(name), text).expect("written"));
        directory
    }

    #[test]
    fn a_file_is_laid_out_in_place_with_its_mode_and_only_once() {
        let directory = place(&[("a.cedar", ROUGH), ("b.txt", ROUGH)]);
        let file = directory.path().join("a.cedar");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("own file");
        assert_eq!(run(true, &[directory.path()]), Ok(false));
        assert_eq!(fs::read_to_string(&file).expect("text"), ROUGH);
        assert_eq!(run(false, &[directory.path()]), Ok(true));
        assert_eq!(fs::read_to_string(&file).expect("text"), LAID);
        assert_eq!(fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o640);
        let inode = fs::metadata(&file).expect("there").ino();
        assert_eq!((run(false, &[directory.path()]), run(true, &[&file])), (Ok(true), Ok(true)));
        assert_eq!(fs::metadata(&file).expect("there").ino(), inode, "what is laid out is not written");
        assert_eq!(fs::read_to_string(directory.path().join("b.txt")).expect("text"), ROUGH);
        assert_eq!(fs::read_dir(directory.path()).expect("a directory").count(), 2, "no draft is left");
    }

    #[test]
    fn a_link_stays_one() {
        let directory = place(&[("real", ROUGH)]);
        let link = directory.path().join("a.cedar");
        std::os::unix::fs::symlink("real", &link).expect("linked");
        assert_eq!(run(false, &[&link]), Ok(true));
        assert!(fs::symlink_metadata(&link).expect("there").is_symlink());
        assert_eq!(fs::read_to_string(directory.path().join("real")).expect("text"), LAID);
    }

    #[test]
    fn what_does_not_parse_is_shown_and_left_and_others_are_laid_out() {
        let broken = "// c\npermit (principal, action resource);\n";
        let directory = place(&[("a.cedar", broken), ("b.cedar", ROUGH)]);
        let error = run(false, &[directory.path()]).expect_err("a mistake");
        let at = format!("{}/a.cedar:2:27", directory.path().display());
        assert!(error.contains(&at) && error.contains("permit (principal, action resource);"), "{error}");
        assert!(error.contains('^'), "{error}");
        let read = |name: &str| fs::read_to_string(directory.path().join(name)).expect("text");
        assert_eq!((read("a.cedar"), read("b.cedar")), (broken.to_owned(), LAID.to_owned()));
        assert!(run(true, &[&directory.path().join("c.cedar")]).expect_err("a mistake").contains("cannot read"));
    }

    #[test]
    fn what_became_of_files_is_told() {
        let tally = |check| Tally { check, files: 2, changed: vec!["a.cedar".into()], faults: Vec::new() };
        assert_eq!(tally(false).text(), "formatted: a.cedar\n2 files, 1 changed");
        assert_eq!(tally(true).text(), "not formatted: a.cedar\n2 files, 1 not formatted: run `vestibule policy fmt`");
        let faulty = Tally { faults: vec![PolicyError::new("b", "")], ..tally(true) };
        assert_eq!(faulty.text(), "not formatted: a.cedar\n2 files, 1 not formatted, 1 with an error");
        let expected = json!({ "ok": false, "files": 2, "changed": ["a.cedar"], "errors": [] });
        assert_eq!((tally(true).json(), tally(false).json()["ok"].clone()), (expected, json!(true)));
    }
}
