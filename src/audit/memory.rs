//! The last signed head of each journal, remembered beside the key: a start goes on from nothing else.
//!
//! Whoever can write the journal's files, and not the keys, could otherwise cut them back or write them anew while nothing runs, and
//! have the next start sign the rest. One file for each node, in `audit-heads` below `keys`.

use serde::{Deserialize, Serialize};
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// A record that was signed last.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Last {
    pub(super) epoch: u32,
    /// Its number: it is the head itself.
    pub(super) seq: u64,
    /// SHA-256 of its line, in hex.
    pub(super) hash: String,
    /// It covers the record that closed the journal: nothing of ours stands behind it.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub(super) closed: bool,
}

/// Where that is remembered.
#[derive(Debug)]
pub(super) struct Memory {
    directory: PathBuf,
}

impl Memory {
    pub(super) fn of(keys: &Path) -> Self {
        Self { directory: keys.join("audit-heads") }
    }

    /// What is remembered of the journal of `node`; `None` if nothing is, or what a crash left of it: then it is said.
    ///
    /// # Errors
    /// If there is something that cannot be read.
    pub(super) fn read(&self, node: &str) -> Result<Option<Last>, String> {
        let Some(path) = self.path(node) else { return Ok(None) };
        let fail = |error: &dyn std::fmt::Display| {
            format!(
                "cannot read `{}`: {error}: it says how far the audit journal was signed; remove it if you know why that is lost",
                path.display()
            )
        };
        match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(fail(&error)),
            Ok(bytes) => Ok(serde_json::from_slice(&bytes)
                .inspect_err(|error| {
                    tracing::error!(%error, "`{}` is not whole, as a crash leaves it: how far the audit journal was signed is not known", path.display());
                })
                .ok()),
        }
    }

    /// What is remembered of all journals, by node.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub(super) fn all(&self) -> Result<Vec<(String, Last)>, String> {
        let fail = |error: io::Error| format!("cannot read `{}`: {error}", self.directory.display());
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(fail)?,
        };
        let mut all = Vec::new();
        for entry in entries {
            let Ok(node) = entry.map_err(fail)?.file_name().into_string() else { continue };
            let last = self.read(&node)?;
            all.extend(last.map(|last| (node, last)));
        }
        all.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        Ok(all)
    }

    /// Says that the journal is open again: what will stand behind the head that closed it is ours. Durable when this returns.
    ///
    /// # Errors
    /// As the kernel says.
    pub(super) fn reopen(&self, node: &str, last: &Last) -> io::Result<()> {
        self.write(node, &Last { closed: false, ..last.clone() })?;
        let Some(path) = self.path(node) else { return Ok(()) };
        File::open(path)?.sync_all()?;
        File::open(&self.directory)?.sync_all()
    }

    /// Remembers what was signed last.
    ///
    /// # Errors
    /// As the kernel says.
    pub(super) fn write(&self, node: &str, last: &Last) -> io::Result<()> {
        let Some(path) = self.path(node) else { return Ok(()) };
        DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        let new = path.with_extension("new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&serde_json::to_vec(last)?)?; // not synced: each head would wait for that
        fs::rename(&new, &path)
    }

    /// Names are ours: sixteen hexadecimal digits. Others have no file.
    fn path(&self, node: &str) -> Option<PathBuf> {
        let is_ours = node.len() == 16 && node.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_ours.then(|| self.directory.join(node))
    }
}
