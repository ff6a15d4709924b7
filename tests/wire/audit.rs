//! The trail of a running gateway: what is recorded before it is answered, what a disk that fails does, what can be proved.

use crate::support::{
    gateway::{Gateway, POLICIES, configuration, program},
    upstream::Upstream,
};
use serde_json::Value;
use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// In `required` mode whatever is answered is on disk before: what is permitted, what is refused by policy, what was never
/// decided, and what cannot be read.
#[tokio::test]
async fn required_answers_nothing_that_is_not_recorded() {
    let upstream = Upstream::start().await;
    let more = "audit: { mode: required }\n";
    let gateway = Gateway::start(&configuration("http://127.0.0.1:9", &upstream, "", "", more), POLICIES).await;
    let asked = [
        ("GET", "/public/a", 200),
        ("GET", "/secret", 401),
        ("GET", "/.vestibule/nothing", 404),
        ("TRACE", "/public/b", 405),
        ("GET", "/.vestibule/session", 401),
        ("GET", "/public/%00", 400),
    ];
    for (turn, (method, target, status)) in asked.into_iter().enumerate() {
        let answer = gateway.request(method, target, &[]).await;
        let journal = gateway.audit(); // read at once: a record that comes later would be too late
        assert_eq!(answer.status, status, "{method} {target}");
        let decided = |event: &&Value| event["unmapped"]["phase"] == "decision";
        let decisions = journal.iter().filter(decided).count();
        assert_eq!(decisions, turn + 1, "{method} {target}: {journal:#?}");
    }
    let last = |event: &Value| event["unmapped"]["phase"] == "completion" && event["http_response"]["code"] == 400;
    let end = gateway.audited("the end of the last one", last).await;
    assert!(end["unmapped"]["decision_seq"].as_u64().is_some_and(|seq| seq > 1), "{end:#}");
}

/// A journal that cannot be written stops no act that ends access; what was refused otherwise is refused for this.
#[tokio::test]
async fn a_full_disk_keeps_nobody_signed_in() {
    let Some(provider) = Gateway::provider(&[]) else { return };
    let Some(small) = SmallDisk::mount() else {
        println!("skipped: a_full_disk_keeps_nobody_signed_in (mounting a tmpfs needs root)");
        return;
    };
    let upstream = Upstream::start().await;
    // the sessions are on the same disk: their store has made itself the room that it needs
    let text = configuration(&provider.issuer, &upstream, "", "", &small.configuration("required"));
    let gateway = Gateway::start(&text, POLICIES).await;
    let browser = gateway.sign_in(&provider, "alice").await;
    assert_eq!(gateway.get_as(&browser, "/").await.status, 200);
    small.fill();
    gateway.until("the journal fails", async || gateway.get("/public/a", &[]).await.status == 503).await;
    assert_eq!(gateway.get("/secret", &[]).await.status, 503, "a refusal that cannot be recorded");
    let (cookies, own) = (gateway.cookies(&browser), format!("Origin: http://127.0.0.1:{}", gateway.port));
    assert_eq!(gateway.request("POST", "/.vestibule/sign-out", &[&cookies, &own]).await.status, 303);
    small.free();
    gateway.until("the journal is written", async || gateway.get("/public/a", &[]).await.status == 200).await;
    assert_eq!(gateway.get_as(&browser, "/").await.status, 401, "the session ended all the same");
    let journal = small.path().join("journal");
    let told = || gateway.events(&journal).iter().any(|event| event["unmapped"]["why"] == "signed_out");
    gateway.until("the sign-out is recorded", async || told()).await;
}

/// Where the journal cannot be opened nothing starts, in any mode, and the message says what to do.
#[tokio::test]
async fn a_journal_that_cannot_be_written_stops_the_start() {
    let upstream = Upstream::start().await;
    let Some(small) = SmallDisk::mount() else {
        println!("skipped: a_journal_that_cannot_be_written_stops_the_start (mounting a tmpfs needs root)");
        return;
    };
    let text = configuration("http://127.0.0.1:9", &upstream, "", "", &small.configuration("best_effort"));
    let mut gateway = Gateway::start(&text, POLICIES).await;
    gateway.stop().await;
    // the journal alone is on a disk that takes nothing: the store beside it would complain first
    let journal = small.path().join("journal");
    let mounted = Command::new("mount").args(["--bind", "-o", "ro"]).args([&journal, &journal]).status();
    assert!(mounted.is_ok_and(|status| status.success()));
    let output = program().args(["run", "-c"]).arg(gateway.path("vestibule.yaml")).output().expect("it runs");
    let _ = Command::new("umount").arg("-l").arg(&journal).status();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    let last = said.lines().last().unwrap_or_default();
    assert!(last.contains("journal") && last.contains("Read-only file system"), "{said}");
    assert!(last.contains("change `state`"), "what to do: {said}");
}

/// A journal that is kept to a size proves that it was, and a sink's heads prove what the journal alone cannot.
#[tokio::test]
async fn a_journal_that_retention_cut_is_proved_and_one_that_somebody_cut_is_not() {
    let upstream = Upstream::start().await;
    let more = "audit: { segment: 16KiB, retention: { size: 64KiB } }\n";
    let mut gateway = Gateway::start(&configuration("http://127.0.0.1:9", &upstream, "", "", more), POLICIES).await;
    let first = |gateway: &Gateway| Journal(gateway).segments().first().cloned();
    let begun = first(&gateway);
    let start = Instant::now();
    loop {
        while first(&gateway) == begun || Journal(&gateway).segments().len() < 3 {
            let segments = Journal(&gateway).segments();
            assert!(start.elapsed() < Duration::from_secs(30), "nothing was removed: {segments:?}");
            gateway.get("/public/a", &[]).await;
        }
        gateway.stop().await;
        if Journal(&gateway).segments().len() > 2 {
            break;
        }
        gateway.run().await; // a segment that became large on a busy machine went, and left too little to cut
    }
    let journal = Journal(&gateway);
    let (code, said) = journal.audit(&["verify"]);
    assert!(code == Some(0) && said.contains("removed by retention: all up to record"), "{said}");
    assert!(journal.audit(&["tail", "-n", "1000"]).1.contains("went by retention for their size"));
    let heads: String = journal.lines().into_iter().filter(|line| line.contains("\"kind\":\"head\"")).collect();
    gateway.write("heads", &heads);
    let anchored =
        ["verify", "--anchors"].map(str::to_owned).into_iter().chain([gateway.path("heads").display().to_string()]);
    let anchored: Vec<_> = anchored.collect();
    let anchored: Vec<_> = anchored.iter().map(String::as_str).collect();
    let (code, said) = journal.audit(&anchored);
    assert!(code == Some(0) && said.contains("heads of the sink"), "{said}");
    let segments = journal.segments();
    fs::remove_file(segments.last().expect("one")).expect("removed");
    let (code, said) = journal.audit(&anchored);
    // what was cut off may be what told of the removal, too
    assert!(code == Some(1) && said.contains("BROKEN"), "{said}");
    fs::remove_file(&segments[0]).expect("removed");
    let (code, said) = journal.audit(&["verify"]);
    assert!(code == Some(1) && said.contains("BROKEN: record 1 of epoch 1"), "{said}");
}

/// The journal of a gateway, and the commands that read it.
struct Journal<'a>(&'a Gateway);

impl Journal<'_> {
    fn segments(&self) -> Vec<std::path::PathBuf> {
        let entries =
            fs::read_dir(self.0.path("state/journal")).expect("a journal").flatten().map(|entry| entry.path());
        let mut segments: Vec<_> = entries.filter(|path| path.extension().is_some_and(|it| it == "jsonl")).collect();
        segments.sort();
        segments
    }

    /// All lines, with their line feeds.
    fn lines(&self) -> Vec<String> {
        let texts = self.segments().into_iter().map(|path| fs::read_to_string(path).expect("text"));
        texts.flat_map(|text| text.split_inclusive('\n').map(str::to_owned).collect::<Vec<_>>()).collect()
    }

    /// Runs `vestibule audit`; the exit code and what it said.
    fn audit(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let mut command = program();
        command.args(["audit", "--journal"]).arg(self.0.path("state/journal"));
        command.arg("--public-key").arg(self.0.path("keys/audit.pub")).args(arguments);
        let output = command.output().expect("it runs");
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        (output.status.code(), said)
    }
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
        let more = small.configuration(mode);
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
            let start = Instant::now();
            while records() < asked && start.elapsed().as_secs() < 10 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            assert_eq!(records(), asked, "nothing is lost");
        }
    }
}

/// Waits for a line of the log, word for word.
async fn logged(gateway: &Gateway, message: &str) {
    let start = Instant::now();
    while !gateway.log().contains(&format!("\"message\":\"{message}\"")) {
        assert!(start.elapsed().as_secs() < 15, "`{message}` is missing in\n{}", gateway.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A file system of 6 MiB.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let directory = tempfile::tempdir().expect("a directory");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=6m", "none"])
            .arg(directory.path())
            .stderr(Stdio::null())
            .status();
        mounted.is_ok_and(|status| status.success()).then_some(Self(directory))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Where the journal is here.
    fn configuration(&self, mode: &str) -> String {
        format!("state: {}\naudit: {{ mode: {mode} }}\n", self.path().display())
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
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
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
    let journal = Journal(&gateway);
    let audit = |arguments: &[&str]| journal.audit(arguments);
    let (code, said) = audit(&["verify"]);
    assert_eq!(code, Some(0), "{said}");
    let (code, found) = audit(&["search", "--path", "/secret"]);
    assert_eq!((code, found.lines().count()), (Some(0), 1), "{found}");
    assert!(found.contains("no_session") && found.contains("GET 127.0.0.1"), "{found}");
    assert_eq!(audit(&["search", "--path", "/nobody/asked"]), (Some(1), "no record\n".to_owned()));
    assert_eq!(audit(&["tail"]).1.lines().filter(|line| line.contains("/public/")).count(), 2);
    let segment = journal.segments().remove(0);
    let text = fs::read_to_string(&segment).expect("text");
    fs::write(&segment, text.replace("/secret", "/harmles")).expect("written");
    let (code, said) = audit(&["verify"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("record"), "{said}");
}
