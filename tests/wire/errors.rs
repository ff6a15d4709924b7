//! Bad input: one clear message, the right exit code, nothing lost.

use crate::support::{
    gateway::{Gateway, POLICIES, configuration, free_port, program},
    upstream::Upstream,
};
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

/// S-82: on a full disk nothing is lost silently. `required` refuses; `best_effort` counts and leaves a gap record.
#[tokio::test]
async fn s82_a_full_disk_is_a_503_or_a_counted_gap() {
    let upstream = Upstream::start().await;
    for (mode, status) in [("required", 503), ("best_effort", 200)] {
        let Some(small) = SmallDisk::mount() else {
            println!("skipped: s82_a_full_disk_is_a_503_or_a_counted_gap (mounting a tmpfs needs root)");
            return;
        };
        let more = format!("state: {}\naudit: {{ mode: {mode} }}\n", small.path().display());
        let gateway = Gateway::start(&configuration("http://127.0.0.1:9", &upstream, "", "", &more), POLICIES).await;
        assert_eq!(gateway.get("/public/a", &[]).await.status, 200, "{mode}");
        small.fill();
        let (mut asked, mut last) = (1, 0);
        while asked < 200 && last != 503 {
            upstream.take();
            last = gateway.get("/public/a", &[]).await.status;
            asked += 1;
        }
        assert_eq!(last, status, "{mode}\n{}", gateway.log());
        assert_eq!(upstream.take().len(), usize::from(status == 200), "no request goes upstream without its record");
        logged(&gateway, "the audit journal cannot be written; it is tried again each second").await;
        small.free();
        logged(&gateway, "the audit journal is written again").await;
        assert_eq!(gateway.get("/public/a", &[]).await.status, 200, "{mode}");
        asked += 1;
        if mode == "best_effort" {
            let journal = small.path().join("journal");
            let records = || gateway.events(&journal).iter().filter(|event| event["class_uid"] == 4002).count();
            let start = std::time::Instant::now();
            while records() < asked && start.elapsed().as_secs() < 10 {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
            assert_eq!(records(), asked, "nothing is lost");
        }
    }
}

/// Waits for a line of the log, word for word.
async fn logged(gateway: &Gateway, message: &str) {
    let start = std::time::Instant::now();
    while !gateway.log().contains(&format!("\"message\":\"{message}\"")) {
        assert!(start.elapsed().as_secs() < 15, "`{message}` is missing in\n{}", gateway.log());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

/// A file system of 6 MiB.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let directory = tempfile::tempdir().expect("a directory");
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=6m", "none"])
            .arg(directory.path())
            .stderr(std::process::Stdio::null())
            .status();
        mounted.is_ok_and(|status| status.success()).then_some(Self(directory))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn fill(&self) {
        use std::io::Write;
        let mut file = fs::File::create(self.path().join("ballast")).expect("made");
        while file.write_all(&[0; 4096]).is_ok() {}
        while file.write_all(&[0]).is_ok() {}
    }

    fn free(&self) {
        fs::remove_file(self.path().join("ballast")).expect("removed");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

/// S-101: the journal of a real run is proved by its public key alone, and a changed record is named.
#[tokio::test]
async fn s101_the_journal_proves_itself_and_names_what_was_changed() {
    let upstream = Upstream::start().await;
    let mut gateway = Gateway::start(&configuration("http://127.0.0.1:9", &upstream, "", "", ""), POLICIES).await;
    for path in ["/public/a", "/secret", "/public/b"] {
        gateway.get(path, &[]).await;
    }
    gateway.stop().await;
    let audit = |arguments: &[&str]| {
        let output = program()
            .args(["audit", "--journal"])
            .arg(gateway.path("state/journal"))
            .arg("--public-key")
            .arg(gateway.path("keys/audit.pub"))
            .args(arguments)
            .output()
            .expect("it runs");
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr),
        )
    };
    let (code, said) = audit(&["verify"]);
    assert_eq!(code, Some(0), "{said}");
    let (code, found) = audit(&["search", "--path", "/secret"]);
    assert_eq!((code, found.lines().count()), (Some(0), 1), "{found}");
    assert!(found.contains("no_session") && found.contains("GET 127.0.0.1"), "{found}");
    assert_eq!(audit(&["search", "--path", "/nobody/asked"]), (Some(1), "no record\n".to_owned()));
    assert_eq!(audit(&["tail"]).1.lines().filter(|line| line.contains("/public/")).count(), 2);
    let file = fs::read_dir(gateway.path("state/journal")).expect("a journal").flatten().map(|entry| entry.path());
    let segment = file.into_iter().find(|path| path.extension().is_some_and(|it| it == "jsonl")).expect("a segment");
    let text = fs::read_to_string(&segment).expect("text");
    fs::write(&segment, text.replace("/secret", "/harmles")).expect("written");
    let (code, said) = audit(&["verify"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("record"), "{said}");
}
