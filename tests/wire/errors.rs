//! Bad input: one clear message, the right exit code, nothing lost.

use crate::support::gateway::{POLICIES, free_port, program};
use std::{fs, path::Path, process::Output};
use tempfile::TempDir;

/// A directory with this configuration, a secret, and these policies.
fn place(text: &str, policies: &str) -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    fs::create_dir(directory.path().join("policies")).expect("made");
    fs::write(directory.path().join("policies/app.cedar"), policies).expect("written");
    fs::write(directory.path().join("vestibule.yaml"), text).expect("written");
    secret(directory.path());
    directory
}

fn secret(directory: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::write(directory.join("secret"), "x").expect("written");
    fs::set_permissions(directory.join("secret"), fs::Permissions::from_mode(0o600)).expect("set");
}

fn said(output: &Output, directory: &TempDir) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    text.replace(directory.path().to_str().expect("UTF-8"), "DIR")
}

fn run(command: &[&str], directory: &TempDir) -> Output {
    program().args(command).arg("-c").arg(directory.path().join("vestibule.yaml")).output().expect("it runs")
}

const GOOD: &str = "public_url: http://127.0.0.1:18080
listen: 127.0.0.1:18080
providers:
  - { name: gitlab, kind: gitlab, issuer: http://127.0.0.1:9, client_id: x, client_secret: { file: secret } }
routes:
  - { name: app, upstream: \"http://127.0.0.1:9\" }
policies: ./policies
";

#[test]
fn a_good_configuration_checks() {
    let directory = place(GOOD, POLICIES);
    let output = run(&["check"], &directory);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output, &directory));
    assert!(!directory.path().join("state").exists(), "checking changes nothing");
}

#[test]
fn every_mistake_is_named_at_once_with_its_place() {
    let text = GOOD
        .replace("upstream:", "upstrem:")
        .replace("client_id: x", "client_id: 5m, clent: 1")
        .replace("file: secret", "file: nowhere");
    let directory = place(&text, POLICIES);
    let output = run(&["run"], &directory);
    assert_eq!(output.status.code(), Some(2));
    let said = said(&output, &directory);
    for part in ["vestibule.yaml:6:18", "routes[0].upstrem", "`upstream`", "clent", "nowhere"] {
        assert!(said.contains(part), "`{part}` is missing in\n{said}");
    }
}

#[test]
fn a_port_in_use_is_named() {
    let port = free_port();
    let _taken = std::net::TcpListener::bind(("127.0.0.1", port)).expect("ours");
    let directory = place(&GOOD.replace("18080", &port.to_string()), POLICIES);
    let output = run(&["run"], &directory);
    assert_eq!(output.status.code(), Some(2));
    let expected = format!(
        "error: cannot listen on 127.0.0.1:{port}: Address already in use (os error 98): stop what listens there, or change `listen`"
    );
    let said = said(&output, &directory);
    assert_eq!(said.lines().last(), Some(&*expected), "{said}");
}

#[test]
fn an_invalid_policy_stops_the_start_with_file_and_line() {
    let directory = place(GOOD, "@id(\"x\")\npermit (principal, action, resource == Route::\"ap\");\n");
    for (command, code) in [("check", 1), ("run", 2)] {
        let output = run(&[command], &directory);
        assert_eq!(output.status.code(), Some(code), "{command}");
        let said = said(&output, &directory);
        assert!(said.contains("app.cedar:2:") && said.contains("`app`"), "{said}");
    }
}

#[test]
fn broken_yaml_is_shown_where_it_breaks() {
    let directory = place(&GOOD.replace("providers:\n", "providers:\n  - {\n"), POLICIES);
    let output = run(&["check"], &directory);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output, &directory).contains("vestibule.yaml:"), "{}", said(&output, &directory));
}

#[test]
fn a_file_in_the_place_of_a_directory_is_to_be_moved_away() {
    let directory = place(&format!("{GOOD}state: ./secret\n"), POLICIES);
    let output = run(&["check"], &directory);
    let said = said(&output, &directory);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("`state` is `./secret`, which is a file") && said.contains("help: move it away"), "{said}");
}

#[test]
fn no_configuration_says_how_to_name_one() {
    let directory = tempfile::tempdir().expect("a directory");
    let output = run(&["run"], &directory);
    assert_eq!(output.status.code(), Some(2));
    let said = said(&output, &directory);
    assert!(
        said.starts_with("error: cannot read the configuration `DIR/vestibule.yaml`: No such file or directory"),
        "{said}"
    );
    assert!(
        said.contains("name the file with `-c FILE` or `VESTIBULE_CONFIG`, or write one with `vestibule init`"),
        "{said}"
    );
}

#[test]
fn two_processes_cannot_share_a_state_directory() {
    let upstream_port = free_port();
    let (one, two) = (free_port(), free_port());
    let directory =
        place(&GOOD.replace("18080", &one.to_string()).replace(":9\" }", &format!(":{upstream_port}\" }}")), POLICIES);
    let mut first = program()
        .args(["run", "-c"])
        .arg(directory.path().join("vestibule.yaml"))
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("it runs");
    while !directory.path().join("state/sessions.redb").exists()
        || std::net::TcpStream::connect(("127.0.0.1", one)).is_err()
    {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let text = fs::read_to_string(directory.path().join("vestibule.yaml")).expect("read");
    fs::write(directory.path().join("second.yaml"), text.replace(&one.to_string(), &two.to_string())).expect("written");
    let output = program().args(["run", "-c"]).arg(directory.path().join("second.yaml")).output().expect("it runs");
    let _ = first.kill();
    let _ = first.wait();
    assert_eq!(output.status.code(), Some(2));
    let said = said(&output, &directory);
    let expected = "error: cannot open the session store `DIR/state/sessions.redb`: another process has it open: stop what uses it, or change `state`";
    assert_eq!(said.lines().last(), Some(expected), "{said}");
}
