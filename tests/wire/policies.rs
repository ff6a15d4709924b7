//! `vestibule policy` as people run it: exit codes, what is printed, what is written.

use crate::support::gateway::program;
use serde_json::Value as Json;
use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Output};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn run(at: &Path, arguments: &[&str]) -> (i32, String, String) {
    let secrets = [("GITLAB_SECRET", "none"), ("GITLAB_API", "none")];
    let Output { status, stdout, stderr } =
        program().current_dir(at).envs(secrets).args(arguments).output().expect("it runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (status.code().expect("a code"), text(stdout), text(stderr))
}

/// The page shows what the command prints, and the configuration of the recipes is one to begin with.
#[test]
fn the_recipes_are_clean_and_the_page_shows_what_they_open() {
    let root = Path::new(ROOT);
    let page = fs::read_to_string(root.join("docs/policies.md")).expect("the page");
    let command = ["policy", "check", "-c", "docs/recipes/vestibule.yaml"];
    let (code, out, err) = run(root, &command);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(page.contains(&format!("$ vestibule {}\n{out}```\n", command.join(" "))), "{out}");
    let (code, out, err) = run(root, &["check", "-c", "docs/recipes/vestibule.yaml"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.starts_with("ok: 1 provider, 11 routes") && !out.contains("warning"), "{out}");
    assert!(out.contains("\n  portal  read  /public/*  by `public-pages`"), "{out}");
    let (_, out, _) = run(root, &["check", "--json", "-c", "docs/recipes/vestibule.yaml"]);
    let json: Json = serde_json::from_str(&out).expect("JSON");
    assert_eq!((&json["open"][0]["route"], &json["open"][0]["paths"][0]), (&"portal".into(), &"/public/*".into()));
}

/// A file is laid out in place, one that does not parse is shown with a caret and left, and programs are told the same.
#[test]
fn policies_are_laid_out_in_place() {
    let directory = tempfile::tempdir().expect("a directory");
    let (at, rough) = (directory.path(), "@id(\"a\") permit(principal,action,resource);\n");
    fs::create_dir(at.join("policies")).expect("made");
    let file = at.join("policies/a.cedar");
    fs::write(&file, rough).expect("written");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o604)).expect("own file");
    let (code, out, _) = run(at, &["policy", "fmt", "--check", "policies"]);
    assert_eq!(code, 1);
    assert_eq!(out, "not formatted: policies/a.cedar\n1 file, 1 not formatted: run `vestibule policy fmt`\n");
    let (code, out, _) = run(at, &["policy", "fmt", "policies"]);
    assert_eq!((code, out.as_str()), (0, "formatted: policies/a.cedar\n1 file, 1 changed\n"));
    let laid = "@id(\"a\")\npermit (principal, action, resource);\n";
    assert_eq!(fs::read_to_string(&file).expect("text"), laid);
    assert_eq!(fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o604);
    fs::write(at.join("policies/b.cedar"), "permit (principal, action resource);\n").expect("written");
    let (code, out, err) = run(at, &["policy", "fmt", "--check", "--json", "policies"]);
    let json: Json = serde_json::from_str(&out).expect("JSON");
    assert_eq!((code, &json["ok"], &json["files"]), (2, &false.into(), &2.into()));
    assert_eq!(json["errors"][0]["place"], "policies/b.cedar:1:27");
    assert!(err.contains("policies/b.cedar:1:27") && err.contains('^'), "{err}");
    let (code, _, err) = run(at, &["policy", "fmt"]);
    assert!(code == 2 && err.contains("vestibule.yaml"), "without a path the configuration is read: {err}");
}
