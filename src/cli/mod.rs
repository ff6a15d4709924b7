//! Command line.
pub mod run;
