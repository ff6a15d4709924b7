//! Other files that people write in YAML, read as the configuration is: every mistake with its place, the nearest name for
//! words that nobody knows.

use super::{
    ConfigErrors, broken_yaml,
    mistake::{Mistake, Report, nearest},
    schema, tree,
};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use std::path::Path;

/// A file that was read, and what is found wrong with it.
pub(crate) struct Document<'a> {
    report: Report<'a>,
}

impl<'a> Document<'a> {
    /// Reads `text`, which stands in `file`. What is wrong is left out of the value, and said by [`Self::finish`].
    ///
    /// # Errors
    /// The text is no YAML, or no mapping.
    pub(crate) fn read<T: DeserializeOwned + JsonSchema>(
        text: &'a str,
        file: &'a Path,
    ) -> Result<(T, Self), ConfigErrors> {
        let root = tree::parse(text).map_err(|broken| broken_yaml(file, text, broken))?;
        let mut report = Report::new(file, text, tree::places(&root));
        match schema::check_as(&root, &schema::shape_of::<T>(), &mut report) {
            Some(written) => Ok((written, Self { report })),
            None => Err(report.finish().err().unwrap_or_else(|| {
                ConfigErrors::about(file, format!("{} cannot be read", file.display()), "expected a mapping")
            })),
        }
    }

    /// Says that the value of `key` is wrong, unless it is known already.
    pub(crate) fn refuse(&mut self, key: &str, message: impl Into<String>, expected: impl Into<String>) {
        self.report.add(Mistake::new(key, message).expected(expected));
    }

    /// The same of a word that is none of `known`, with the nearest of these.
    pub(crate) fn unknown<'k>(
        &mut self,
        key: &str,
        message: impl Into<String>,
        word: &str,
        known: impl IntoIterator<Item = &'k str>,
    ) {
        let known: Vec<_> = known.into_iter().collect();
        let expected = match (nearest(word, known.iter().copied()), known.is_empty()) {
            (Some(near), _) => format!("did you mean `{near}`?"),
            (None, true) => "there is none".to_owned(),
            (None, false) => {
                format!("there are {}", known.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "))
            }
        };
        self.report.add(Mistake::new(key, message).expected(expected));
    }

    /// The line of `key`, from 1.
    pub(crate) fn line(&self, key: &str) -> usize {
        self.report.line(key)
    }

    /// Every mistake, if there is one.
    ///
    /// # Errors
    /// All of them, in the order of the file.
    pub(crate) fn finish(self) -> Result<(), ConfigErrors> {
        self.report.finish().map(drop)
    }
}
