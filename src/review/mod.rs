//! What a reviewer asks of policies before they serve: whether they decide as they should, and what they let whom do.
//!
//! Pure: no network, no clock of its own. Every decision is made by [`crate::authorize::Authorize::decide`], as it is for
//! requests.

pub mod access;
pub mod anybody;
pub mod asking;
pub mod cases;
pub mod cast;
pub mod coverage;
pub mod diff;
pub mod explain;
pub mod file;
pub mod format;
pub mod junit;
pub mod mutate;
pub mod population;
pub mod prove;
#[cfg(test)]
mod recipes;
pub mod report;
pub mod served;
#[cfg(test)]
mod tests;
mod told;
pub mod who;

use crate::{authorize::PolicyError, config::ConfigErrors};

/// The mistakes of a file, each with its place: `FILE:LINE:COLUMN`.
fn placed(file: &str, errors: &ConfigErrors) -> Vec<PolicyError> {
    let place = |position: Option<(usize, usize)>| match position {
        Some((line, column)) => format!("{file}:{line}:{column}"),
        None => file.to_owned(),
    };
    let of = |error: &crate::config::ConfigError| {
        PolicyError::new(place(error.position), &error.message)
            .expected(&error.expected)
            .help(error.help.as_deref().unwrap_or_default())
    };
    errors.all().iter().map(of).collect()
}
