//! How a figure is told.

use std::{env, fs, io::Write};

/// Says a figure, and adds it to those of a run that publishes them.
pub(crate) fn tell(figure: &str, value: &str, must: &str) {
    println!("{figure}: {value}{}", if must.is_empty() { String::new() } else { format!(" (must be {must})") });
    let Some(path) = env::var_os("TESTS_FIGURES") else { return };
    let line = serde_json::json!({ "figure": figure, "value": value, "must": must });
    let mut file = fs::File::options().append(true).create(true).open(path).expect("a file of figures");
    writeln!(file, "{line}").expect("written");
}
