//! Where policies come from: the files below one directory, and the `allow` lists of routes.

use super::{
    PolicyError,
    words::{Kind, Uid},
};
use crate::route::Route;
use crate::{config::Allow, route::GroupPattern};
use std::{
    fs, io,
    ops::Range,
    path::{Component, Path, PathBuf},
    sync::Arc,
};

/// Directories below directories are followed so far: a link to a directory above must not go on for ever.
const DEPTH: usize = 16;

/// The longest file that is read, in bytes.
const LONGEST: u64 = 64 << 20;

/// Some Cedar text, and how places in it are written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Source {
    /// The file, or the configuration key.
    pub(super) name: Arc<str>,
    /// The Cedar text.
    pub(super) text: Arc<str>,
    /// Made by us from a route's `allow`: places in the text mean nothing to the author.
    pub(super) expanded: bool,
    /// Where each line begins. A file may hold as many policies as there are groups, and each is asked for its place.
    lines: Arc<[usize]>,
}

impl Source {
    /// The text of a file.
    pub(super) fn file(name: &str, text: &str) -> Self {
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { name: name.into(), text: text.into(), expanded: false, lines }
    }

    /// A text of ours that stands for something at `name`, such as an entry of an `allow` list.
    pub(super) fn expanded(name: String, text: String) -> Self {
        Self { expanded: true, ..Self::file(&name, &text) }
    }

    /// A place in the text, as `portal.cedar:12:3`; lines and columns count from 1.
    pub(super) fn place(&self, offset: usize) -> String {
        if self.expanded {
            return self.name.to_string();
        }
        let (line, column) = self.position(offset);
        format!("{}:{line}:{column}", self.name)
    }

    /// Line and column of a byte, both from 1, the column in characters.
    pub(super) fn position(&self, offset: usize) -> (usize, usize) {
        let (number, line) = self.line(offset);
        let before = &self.text[line.start..self.text.floor_char_boundary(offset.min(self.text.len()))];
        (number, before.chars().count() + 1)
    }

    /// The number of the line that a byte stands in, from 1, and the line's bytes without its end.
    pub(super) fn line(&self, offset: usize) -> (usize, Range<usize>) {
        let number = self.lines.partition_point(|start| *start <= offset.min(self.text.len()));
        let (start, next) = (self.lines[number - 1], self.lines.get(number));
        (number, start..next.map_or(self.text.len(), |next| next - 1))
    }
}

/// Every `*.cedar` file below `directory`, sorted by path. Names with a leading dot are skipped.
pub(super) fn files(directory: &Path, errors: &mut Vec<PolicyError>) -> Vec<Source> {
    let mut sources = Vec::new();
    for path in paths(directory, errors) {
        match text(&path) {
            Ok(text) => sources.push(Source::file(&path.display().to_string(), &text)),
            Err(error) => errors.push(error),
        }
    }
    sources
}

/// Where the policies below `directory` are, as [`files`] has them. What cannot be listed goes to `errors`.
pub fn paths(directory: &Path, errors: &mut Vec<PolicyError>) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    list(directory, DEPTH, &mut paths, errors);
    paths.iter_mut().for_each(|path| *path = tidy(path));
    paths.sort();
    paths
}

/// The same path without the `.` in it, as people write it.
pub fn tidy(path: &Path) -> PathBuf {
    path.components().filter(|part| *part != Component::CurDir).collect()
}

/// The text of a file of policies, without byte order mark.
///
/// # Errors
/// Why it cannot be read.
pub fn text(path: &Path) -> Result<String, PolicyError> {
    let about = fs::metadata(path).map_err(|error| unreadable(path, &error))?;
    let fault = |message: String| Err(PolicyError::new(path.display().to_string(), message));
    if !about.is_file() {
        return fault("is no file".to_owned()); // nobody may ever write at the other end of a named pipe
    }
    if about.len() > LONGEST {
        return fault(format!("has {} bytes, at most {LONGEST} are read", about.len()));
    }
    let text = fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
    Ok(text.trim_start_matches('\u{feff}').to_owned())
}

fn list(directory: &Path, depth: usize, paths: &mut Vec<PathBuf>, errors: &mut Vec<PolicyError>) {
    let entries = match fs::read_dir(directory).and_then(Iterator::collect::<io::Result<Vec<_>>>) {
        Ok(entries) => entries,
        Err(error) => return errors.push(unreadable(directory, &error)),
    };
    for entry in entries {
        let path = entry.path();
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        match fs::metadata(&path) {
            Ok(found) if !found.is_dir() => {
                if path.extension().is_some_and(|extension| extension == "cedar") {
                    paths.push(path);
                }
            }
            Ok(_) if depth == 0 => errors.push(
                PolicyError::new(path.display().to_string(), format!("more than {DEPTH} directories deep"))
                    .help("a link to a directory above it?"),
            ),
            Ok(_) => list(&path, depth - 1, paths, errors),
            Err(error) => errors.push(unreadable(&path, &error)),
        }
    }
}

fn unreadable(path: &Path, error: &io::Error) -> PolicyError {
    PolicyError::new(path.display().to_string(), format!("cannot read: {error}"))
}

/// The permits that the `allow` lists of routes stand for, one source each.
pub(super) fn expand(routes: &[Route]) -> Vec<Source> {
    let mut sources = Vec::new();
    for (position, route) in routes.iter().enumerate() {
        for (entry, allow) in route.allow.iter().enumerate() {
            let name = format!("routes[{position}].allow[{entry}]");
            sources.push(Source::expanded(name, permit(route, entry + 1, allow)));
        }
    }
    sources
}

fn permit(route: &Route, number: usize, allow: &Allow) -> String {
    let resource = Uid::new(Kind::Route, route.name.as_str()).to_cedar();
    let (principal, reason) = match allow {
        Allow::Public => ("principal".to_owned(), None),
        Allow::SignedIn => {
            ("principal is User".to_owned(), Some("This is open to everyone who is signed in.".to_owned()))
        }
        Allow::Groups(GroupPattern::Group(provider, path)) => {
            let group = Uid::new(Kind::Group, format!("{provider}:{path}")).to_cedar();
            (format!("principal is User in {group}"), Some(format!("This is open to members of {path}.")))
        }
        Allow::Role(provider, path, role) => {
            let word = role.as_str();
            let role = Uid::new(Kind::Role, format!("{provider}:{path}#{word}")).to_cedar();
            let reason = format!("This is open to those who are {word} of {path}, or more.");
            (format!("principal is User in {role}"), Some(reason))
        }
        Allow::Groups(GroupPattern::Tree(provider, path)) => {
            let tree = Uid::new(Kind::Namespace, format!("{provider}:{path}")).to_cedar();
            (
                format!("principal is User in {tree}"),
                Some(format!("This is open to members of {path} and its subgroups.")),
            )
        }
    };
    let reason = reason.map_or(String::new(), |reason| format!("@reason(\"{}\")\n", reason.escape_debug()));
    format!(
        "@id(\"route:{}:allow:{number}\")\n{reason}permit ({principal}, action, resource == {resource});",
        route.name
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authorize::testing::route;

    #[test]
    fn places_count_lines_and_characters_from_one() {
        let source = Source::file("a.cedar", "ä\nöü permit");
        assert_eq!(source.place(0), "a.cedar:1:1");
        assert_eq!(source.place(source.text.find("permit").expect("present")), "a.cedar:2:4");
        assert_eq!(source.place(9999), "a.cedar:2:10");
    }

    #[test]
    fn files_are_found_below_and_sorted_and_hidden_names_are_skipped() {
        let directory = tempfile::tempdir().expect("a directory");
        for name in ["b.cedar", "a/z.cedar", "a.txt", "..data/b.cedar", ".c.cedar"] {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, "").expect("written");
        }
        let mut errors = Vec::new();
        let names: Vec<_> = files(directory.path(), &mut errors).into_iter().map(|source| source.name).collect();
        let expected: Vec<Arc<str>> =
            ["a/z.cedar", "b.cedar"].map(|name| directory.path().join(name).display().to_string().into()).to_vec();
        assert_eq!((names, errors), (expected, vec![]));
    }

    #[test]
    fn allow_lists_become_permits_that_say_what_they_stand_for() {
        let mut route = route("portal");
        let (gitlab, acme) = ("gitlab".parse().expect("a name"), "acme".parse().expect("a path"));
        route.allow = vec![Allow::Public, Allow::Groups(GroupPattern::Tree(gitlab, acme))];
        let texts: Vec<_> = expand(&[route]).into_iter().map(|source| (source.name, source.text)).collect();
        assert_eq!(
            texts,
            [
                (
                    "routes[0].allow[0]".into(),
                    "@id(\"route:portal:allow:1\")\npermit (principal, action, resource == Route::\"portal\");".into()
                ),
                (
                    "routes[0].allow[1]".into(),
                    "@id(\"route:portal:allow:2\")\n@reason(\"This is open to members of acme and its subgroups.\")\n\
                     permit (principal is User in Namespace::\"gitlab:acme\", action, resource == Route::\"portal\");"
                        .into()
                ),
            ]
        );
    }
}
