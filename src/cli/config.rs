//! `vestibule config`: the schema, and the effective configuration.

use super::{Fault, print};
use crate::config;
use clap::Subcommand;
use std::path::Path;

/// What to show of the configuration.
#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// The JSON Schema of the configuration, for editors.
    Schema,
    /// The configuration with all defaults, without secrets.
    Show,
}

/// Shows it on standard output.
pub(super) fn run(command: &ConfigCommand, file: &Path, json: bool) -> Result<bool, Fault> {
    match command {
        ConfigCommand::Schema => print(&format!("{:#}", config::schema())),
        ConfigCommand::Show if json => print(&format!("{:#}", config::show_json(file)?)),
        ConfigCommand::Show => print(&config::show(file)?),
    }
    Ok(true)
}
