//! Reads secrets from where the configuration says they are.

use super::{Environment, mistake::quote, value::Expected};
use secrecy::SecretString;
use std::{fs, io, os::unix::fs::PermissionsExt, path::Path};
use zeroize::Zeroizing;

/// No secret of ours is longer.
const LONGEST: usize = 64 * 1024;

/// A secret that was read.
pub(super) struct Found {
    pub(super) secret: SecretString,
    /// What is odd about its file.
    pub(super) warning: Option<String>,
}

/// Reads the secret in `path`. One line break at its end is left out.
pub(super) fn file(path: &Path) -> Result<Found, Expected> {
    let shown = quote(&path.display().to_string());
    let expected = || Expected::new("a file with the secret");
    let bytes = fs::read(path).map(Zeroizing::new).map_err(|error| {
        expected().help(match error.kind() {
            io::ErrorKind::NotFound => format!("there is no file {shown}: create it with mode 0600"),
            io::ErrorKind::IsADirectory => format!("{shown} is a directory"),
            io::ErrorKind::PermissionDenied => format!("{shown} cannot be read by this user"),
            _ => format!("{shown} cannot be read: {error}"),
        })
    })?;
    let text = std::str::from_utf8(&bytes).map_err(|_| expected().help(format!("{shown} is not text in UTF-8")))?;
    let text = text.strip_suffix('\n').map_or(text, |text| text.strip_suffix('\r').unwrap_or(text));
    let secret = usable(text).map_err(|fault| expected().help(format!("{shown} {fault}")))?;
    Ok(Found { secret, warning: open_to_others(path) })
}

/// Reads the secret in the environment variable `name`.
pub(super) fn variable(name: &str, environment: &Environment) -> Result<Found, Expected> {
    let expected = || Expected::new("an environment variable with the secret");
    let value = environment
        .get(name)
        .ok_or_else(|| expected().help(format!("the environment variable {} is not set", quote(name))))?;
    let secret =
        usable(value).map_err(|fault| expected().help(format!("the environment variable {} {fault}", quote(name))))?;
    Ok(Found { secret, warning: None })
}

/// What stands in for a secret where nothing is served. Any key that is written in base64 may be so.
pub(super) fn not_at_hand() -> Found {
    Found { secret: SecretString::from("bm90IGF0IGhhbmQsIGFuZCBub3QgbmVlZGVk"), warning: None }
}

/// A warning if somebody beside its owner may read `path`.
pub(crate) fn open_to_others(path: &Path) -> Option<String> {
    let mode = fs::metadata(path).ok()?.permissions().mode() & 0o777;
    let whom = match (mode & 0o077, mode & 0o007) {
        (0, _) => return None,
        (_, 0) => "its group",
        _ => "everybody",
    };
    let shown = quote(&path.display().to_string());
    Some(format!("{shown} is open to {whom} (mode {mode:04o}): set it to 0600"))
}

fn usable(text: &str) -> Result<SecretString, &'static str> {
    if text.is_empty() {
        Err("is empty: put the secret there, on one line")
    } else if text.len() > LONGEST {
        Err("is longer than 64 KiB")
    } else if text.chars().any(char::is_control) {
        Err("has more than one line, or a control character")
    } else {
        Ok(SecretString::from(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    fn read(text: &str) -> Result<String, Expected> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("secret");
        fs::write(&path, text).expect("a writable file");
        file(&path).map(|found| found.secret.expose_secret().to_owned())
    }

    #[test]
    fn leaves_out_one_line_break_at_the_end() {
        assert_eq!(read("hunter2\n"), Ok("hunter2".to_owned()));
        assert_eq!(read("hunter2\r\n"), Ok("hunter2".to_owned()));
        assert_eq!(read(" hunter2 "), Ok(" hunter2 ".to_owned()));
        assert!(read("hunter2\n\n").is_err() && read("\n").is_err() && read("").is_err());
    }

    #[test]
    fn warns_of_files_that_others_can_read() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("secret");
        fs::write(&path, "hunter2").expect("a writable file");
        for (mode, odd) in [(0o600, false), (0o400, false), (0o640, true), (0o644, true)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("own file");
            assert_eq!(open_to_others(&path).is_some(), odd, "{mode:o}");
        }
    }
}
