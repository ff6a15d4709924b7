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

/// Every line of an example stands in what the command prints today.
#[test]
fn the_page_about_asking_shows_what_is_answered() {
    let root = Path::new(ROOT);
    let page = fs::read_to_string(root.join("docs/policy-review.md")).expect("the page");
    let mut seen = 0;
    for block in page.split("```console\n$ vestibule ").skip(1) {
        let (command, shown) = block.split("```").next().and_then(|block| block.split_once('\n')).expect("a command");
        let (_, out, err) = run(root, &command.split(' ').collect::<Vec<_>>());
        let missing = shown.lines().filter(|line| !line.contains('…') && !out.lines().any(|told| told == *line));
        assert_eq!(missing.collect::<Vec<_>>(), [""; 0], "{command}\n{out}{err}");
        seen += 1;
    }
    assert_eq!(seen, 4);
}

const SITE: &str = "public_url: http://localhost:8080
listen: 127.0.0.1:8080
providers:
  - { name: gitlab, kind: gitlab, issuer: https://gitlab.example.com, client_id: a, client_secret: { file: secret } }
routes:
  - name: portal
    host: localhost
    upstream: \"http://127.0.0.1:7007\"
    body_fields: [{ method: POST, path: /tasks, fields: { template_ref: { pointer: /templateRef, as: backstage_ref } } }]
policies: policies
";

const POLICIES: &str = "@id(\"all\")
permit (principal is User, action, resource == Route::\"portal\")
when { context.path like \"/docs/*\" || context.path == \"/tasks\" };

@id(\"no-production\")
forbid (principal, action, resource == Route::\"portal\")
when
{
  context.path_folded == \"/tasks\" &&
  context.body has template_ref &&
  context.body.template_ref like \"template:production/*\"
};
";

/// A configuration whose secret is not there, its policies, and these cases if there are some.
fn site(policies: &str, cases: Option<&str>) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| {
        let file = directory.path().join(name);
        fs::create_dir_all(file.parent().expect("a directory")).expect("made");
        fs::write(file, text).expect("written");
    };
    write("vestibule.yaml", SITE);
    write("policies/all.cedar", policies);
    cases.iter().for_each(|cases| write("policies/tests/cases.yaml", cases));
    directory
}

/// Somebody who begins is told what to write, in words that can be used as they are.
#[test]
fn what_is_missing_is_said_so_that_it_can_be_written() {
    let site_ = site(POLICIES, None);
    let at = site_.path();
    let (code, _, err) = run(at, &["policy", "test"]);
    assert_eq!(
        (code, err.as_str()),
        (2, "error: no cases yet: write policies/tests/NAME.yaml, see docs/policy-tests.md\n")
    );
    for command in [&["policy", "explain", "GET", "/docs/a"][..], &["policy", "access"]] {
        let (code, _, err) = run(at, command);
        assert!(
            code == 2 && err.contains("say who asks: `--as NAME`, `--user PROVIDER:SUBJECT` or `--token`"),
            "{err}"
        );
    }
    let (code, _, err) = run(at, &["policy", "explain", "get", "/docs/a", "--as", "anonymous"]);
    assert!(code == 2 && err.contains("write `GET`"), "{err}");
    let (code, _, err) = run(at, &["policy", "explain", "GET", "/a", "--user", "gitlab:1", "--group", "gitlab:acme"]);
    assert!(code == 2 && err.contains("`gitlab:acme` names a provider; write `acme`"), "{err}");
    fs::create_dir(at.join("empty")).expect("made");
    let (code, _, err) = run(at, &["policy", "fmt", "--check", "empty"]);
    assert!(code == 2 && err.contains("no `*.cedar` file below `empty`"), "{err}");
}

/// Both ways to say who or which method are taken.
#[test]
fn access_and_who_take_what_explain_takes() {
    let site_ = site(POLICIES, None);
    let at = site_.path();
    for command in [&["policy", "access", "anonymous"][..], &["policy", "access", "--as", "anonymous"]] {
        assert_eq!(run(at, command).0, 1, "{command:?}");
    }
    let (code, told, err) = run(at, &["policy", "who", "PUT", "/docs/a"]);
    assert_eq!((code, err.as_str()), (1, ""));
    assert!(told.starts_with("PUT localhost/docs/a: route `portal`"), "{told}");
    assert_eq!(run(at, &["policy", "who", "/docs/a", "--method", "PUT"]).1, told);
    assert!(run(at, &["policy", "who", "/docs/a"]).1.starts_with("GET "));
    assert_eq!(run(at, &["policy", "who", "PUT", "/docs/a", "--method", "PUT"]).0, 2);
}

/// A case without the body that policies know is told with one that can be copied; so is `policy explain`.
#[test]
fn a_body_that_is_missing_is_said_with_an_example() {
    let cases = "people: { ann: { subject: \"1\" } }
cases:
  - { as: ann, request: POST /tasks, expect: permit }
  - { as: ann, request: GET /a, expect: permit, client_ip: 192.0.2.7, at: \"2026-02-03T04:05:06Z\", websocket: true }
";
    let site_ = site(POLICIES, Some(cases));
    let at = site_.path();
    let (code, out, _) = run(at, &["policy", "test"]);
    let body = r#"{"templateRef":"template:default/name"}"#;
    let expected =
        format!("a rule of `body_fields` reads this request's body: give the case one, such as `body: '{body}'`\n");
    assert!(code == 1 && out.contains("    found    error\n") && out.contains(&expected), "{out}");
    assert!(out.starts_with("policies/tests/cases.yaml:3: "), "{out}");
    assert!(out.contains("ann: GET /a (websocket, from 192.0.2.7, at 2026-02-03T04:05:06Z)\n"), "{out}");
    let explain = ["policy", "explain", "POST", "/tasks", "--as", "ann"];
    let (code, _, err) = run(at, &explain);
    assert!(code == 2 && err.contains(&format!("--body '{body}'")), "{err}");
    let (code, out, err) = run(at, &[&explain[..], &["--body", body]].concat());
    assert!(code == 0 && out.contains("PERMITTED by"), "{out}{err}");
}

/// Who has made no secret yet learns of the policies' mistakes all the same, and paths have no detour.
#[test]
fn check_looks_at_policies_without_the_secrets() {
    let site_ = site(&POLICIES.replace("template:production", "template:Production"), None);
    let at = site_.path();
    fs::write(at.join("policies/vestibule.yaml"), SITE.replace("policies: policies", "policies: .")).expect("written");
    let (code, out, err) = run(at, &["check"]);
    assert!(code == 1 && err.is_empty() && out.contains("client_secret"), "{out}{err}");
    assert!(out.contains("`context.body.template_ref` never fits `template:Production/*`"), "{out}");
    assert!(out.contains("write `\"template:production/*\"`") && out.contains("--> policies/all.cedar:11:"), "{out}");
    let (_, out, _) = run(at, &["policy", "check", "-c", "policies/vestibule.yaml"]);
    assert!(out.contains("--> policies/all.cedar:11:"), "{out}");
    let (_, out, _) = run(&at.join("policies"), &["policy", "check"]);
    assert!(out.contains("--> all.cedar:11:"), "{out}");
}
