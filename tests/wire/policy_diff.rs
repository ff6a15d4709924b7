//! `vestibule policy snapshot` and `vestibule policy diff`: who gains and who loses between two versions of policies.

use crate::support::gateway::{Gateway, program};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
};
use tempfile::TempDir;

const POLICIES: &str = r#"
@id("portal-read")
permit (principal is User in Namespace::"gitlab:acme", action in Action::"read", resource == Route::"portal");

@id("portal-write")
permit (principal is User in Role::"gitlab:acme/platform#maintainer", action in Action::"write", resource == Route::"portal")
when { context.path like "/entities/*" };

@id("docs")
permit (principal is User in Group::"gitlab:contractors", action in Action::"read", resource == Route::"portal")
when { context.path like "/docs/*" };
"#;

const CAST: &str = "people:
  ada: { subject: '1', groups: [acme], roles: { acme/platform: owner } }
  ben: { subject: '2', roles: { acme/platform: developer } }
  cleo: { subject: '3', groups: [acme/payments] }
  dan: { subject: '4', groups: [contractors] }
";

/// A directory with a configuration and two versions of its policies, `before` and `after`.
struct Scene(TempDir);

/// What the program said, and how it ended.
#[derive(Debug)]
struct Told {
    code: i32,
    out: String,
    err: String,
}

impl Scene {
    fn new(before: &str, after: &str) -> Self {
        let scene = Self(tempfile::tempdir().expect("a directory"));
        for (version, text) in [("before", before), ("after", after)] {
            scene.write(&format!("{version}/all.cedar"), text);
        }
        scene.write("after/tests/cast.yaml", CAST);
        scene.configure("https://gitlab.example.test", "");
        scene
    }

    fn configure(&self, issuer: &str, more: &str) {
        let configuration = format!(
            "public_url: https://portal.example.test\n\
             listen: [{{ address: 127.0.0.1:8443, tls: {{ certificate: tls.pem, key: tls.key }} }}]\n\
             providers:\n\
             \x20 - {{ name: gitlab, kind: gitlab, issuer: \"{issuer}\", client_id: a, client_secret: {{ file: secret }}, membership: {{ api: {{ token: {{ file: api }} }} }} }}\n\
             routes:\n\
             \x20 - {{ name: portal, host: portal.example.test, upstream: \"http://127.0.0.1:9\" }}\n\
             \x20 - {{ name: api, host: portal.example.test, path: /api/, labels: {{ tier: production }}, upstream: \"http://127.0.0.1:9\" }}\n\
             policies: ./before\n\
             {more}"
        );
        self.write("vestibule.yaml", &configuration);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a directory")).expect("made");
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("set");
    }

    /// Runs `vestibule policy` in the directory.
    fn policy(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Told {
        self.run(program(), arguments, variables)
    }

    fn run(&self, mut program: Command, arguments: &[&str], variables: &[(&str, &str)]) -> Told {
        let output = program
            .arg("policy")
            .args(arguments)
            .current_dir(self.0.path())
            .env_remove("CVC5")
            .envs(variables.iter().copied())
            .output()
            .expect("the program runs");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        Told { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
    }

    /// Two configurations with policies of their own: each the text of its policies, and its route `api` beside `portal` as YAML.
    fn versions(before: (&str, &str), after: (&str, &str)) -> Self {
        let scene = Self(tempfile::tempdir().expect("a directory"));
        for (version, (policies, api)) in [("before", before), ("after", after)] {
            let configuration = format!(
                "public_url: https://portal.example.test\n\
                 listen: [{{ address: 127.0.0.1:8443, tls: {{ certificate: tls.pem, key: tls.key }} }}]\n\
                 providers:\n\
                 \x20 - {{ name: gitlab, kind: gitlab, issuer: \"https://gitlab.example.test\", client_id: a, client_secret: {{ file: secret }}, membership: {{ api: {{ token: {{ file: api }} }} }} }}\n\
                 token_issuers:\n\
                 \x20 - {{ name: ci, kind: gitlab_ci, provider: gitlab, audiences: [\"https://portal.example.test\"] }}\n\
                 \x20 - {{ name: machines, kind: jwt, issuer: \"https://machines.example.test\", audiences: [\"x\"], principal: service }}\n\
                 routes:\n\
                 \x20 - {{ name: portal, host: portal.example.test, upstream: \"http://127.0.0.1:9\" }}\n\
                 {api}\
                 policies: ./{version}\n"
            );
            scene.write(&format!("{version}.yaml"), &configuration);
            scene.write(&format!("{version}/all.cedar"), policies);
        }
        scene
    }

    /// The verdicts about principals of this type that are not `equivalent`, the exit code, and all that was said.
    fn proved(&self, solver: &str, principal: &str) -> (Vec<String>, i32, Value) {
        let arguments = ["diff", "before.yaml", "after.yaml", "--prove", "--limit", "120s", "--json"];
        let told = self.policy(&arguments, &[("CVC5", solver)]);
        let json: Value = serde_json::from_str(&told.out).unwrap_or_else(|error| panic!("{error}: {told:?}"));
        let environments = json["proof"]["environments"].as_array().unwrap_or_else(|| panic!("{json:#}"));
        let own = environments.iter().filter(|it| it["principal"] == principal && it["verdict"] != "equivalent");
        let verdicts = own.map(|it| it["verdict"].as_str().expect("a word").to_owned()).collect();
        (verdicts, told.code, json)
    }

    fn diff(&self, more: &[&str]) -> Told {
        self.policy(&[&["diff", "before", "after"], more].concat(), &[])
    }
}

/// What the tests of a solver need: where it is. Without it they say that they are left out.
fn solver() -> Option<String> {
    let solver = std::env::var("CVC5").ok().filter(|path| Path::new(path).is_file());
    if solver.is_none() {
        println!("skipped: {} (CVC5 names no solver)", std::thread::current().name().unwrap_or("a test"));
    }
    solver
}

#[test]
fn equal_rights_are_told_by_the_exit_code_however_policies_are_laid_out() {
    let renamed = POLICIES.replace("@id(\"docs\")", "// for a while\n@id(\"documentation\")\n@reason(\"Docs.\")");
    let told = Scene::new(POLICIES, &renamed).diff(&[]);
    assert_eq!((told.code, &*told.err), (0, ""), "{told:?}");
    assert!(told.out.contains("policies: 1 added (documentation), 1 removed (docs)"), "{}", told.out);
    assert!(told.out.ends_with("no right differs, over 5 principals\n"), "{}", told.out);
}

#[test]
fn gains_losses_and_changed_conditions_are_told_by_whom_they_concern() {
    let after = POLICIES
        .replace("User in Namespace::\"gitlab:acme\"", "User in Group::\"gitlab:acme/platform\"")
        .replace("/docs/*", "/public/*")
        .replace(
            "when { context.path like \"/entities/*\" }",
            "when { context.path like \"/*\" || resource has tier }",
        )
        + "@id(\"api\") permit (principal is User, action, resource == Route::\"api\") unless { principal in Group::\"gitlab:contractors\" };";
    let scene = Scene::new(POLICIES, &after);
    let told = scene.diff(&[]);
    assert_eq!((told.code, &*told.err), (1, ""), "{told:?}");
    let expected = "\
gain    everything on api: 3 people: ada, ben, cleo, and anybody of gitlab
        by api
change  read on portal: dan
        when { context.path like \"/docs/*\" } → when { context.path like \"/public/*\" }
        by docs
change  write on portal: ada
        when { context.path like \"/entities/*\" } → when { context.path like \"/*\" }
        by portal-write
loss    read on portal: cleo
        by portal-read
policies: 1 added (api), 3 changed (docs, portal-read, portal-write)
1 gain, 2 changes, 1 loss, over 5 principals
";
    assert_eq!(told.out, expected);
    let told = scene.diff(&["--json"]);
    let json: Value = serde_json::from_str(&told.out).expect("JSON");
    assert_eq!((told.code, &json["equal"]), (1, &json!(false)));
    assert_eq!(json["changes"][0]["principals"], json!(["ada", "ben", "cleo"]));
    assert_eq!(json["changes"][3]["before"], json!({ "permits": [""], "forbids": [] }));
}

/// A forbid that has gone gives nothing: it no longer takes away.
#[test]
fn a_forbid_that_has_gone_is_told_as_one() {
    let forbid = "@id(\"ban\") forbid (principal is User, action in Action::\"read\", resource == Route::\"portal\")
        unless { context.path_folded like \"/open/*\" };";
    let told = Scene::new(&(POLICIES.to_owned() + forbid), POLICIES).diff(&[]);
    let expected = "        no longer forbidden outside { context.path_folded like \"/open/*\" }\n        no longer forbidden by ban\n";
    assert!(told.out.starts_with("gain    read on portal: "), "{}", told.out);
    assert!(told.out.contains(expected), "{}", told.out);
}

#[test]
fn requests_of_tests_are_decided_by_both_versions() {
    let scene = Scene::new(POLICIES, &POLICIES.replace("/docs/*", "/public/*"));
    let case = |request: &str| format!("  - {{ as: dan, request: '{request}', expect: permit }}\n");
    scene.write("after/tests/docs.yaml", &format!("cases:\n{}{}", case("GET /docs/a"), case("GET /public/a")));
    let told = scene.diff(&[]);
    assert_eq!(told.code, 1, "{told:?}");
    assert!(told.out.contains("request GET /docs/a as dan: permit by docs → deny\n"), "{}", told.out);
    assert!(told.out.contains("requests of tests: 2 of 2 are decided otherwise\n"), "{}", told.out);
}

/// A version may be a configuration, whose routes and labels count; a mistake in one is a fault, with its place.
#[test]
fn a_version_is_a_directory_or_a_configuration() {
    let scene = Scene::new(POLICIES, POLICIES);
    let configuration = fs::read_to_string(scene.path("vestibule.yaml")).expect("readable");
    scene.write("other.yaml", &configuration.replace("name: api,", "name: api, allow: [\"gitlab:contractors\"],"));
    let told = scene.policy(&["diff", "vestibule.yaml", "other.yaml", "--population", "after/tests/cast.yaml"], &[]);
    assert_eq!(told.code, 1, "{told:?}");
    assert!(told.out.starts_with("gain    everything on api: dan\n        by route:api:allow:1\n"), "{}", told.out);
    scene.write("after/all.cedar", "permit (principal, action, resource);");
    let told = scene.diff(&[]);
    assert_eq!((told.code, &*told.out), (2, ""));
    assert!(told.err.starts_with("error: the policy has no `@id`"), "{}", told.err);
    assert!(told.err.contains("--> after/all.cedar:1:1\n"), "{}", told.err);
    assert_eq!(scene.policy(&["diff", "before", "nowhere"], &[]).code, 2);
}

/// Whatever a name or a condition holds, a comment of a merge request mentions nobody, and orders nothing.
#[test]
fn what_others_wrote_acts_on_no_merge_request() {
    let after = POLICIES
        .replace("@id(\"docs\")", "@id(\"</code>@all ![x](http://e.test) ~bug\")")
        .replace("/docs/*", "/a`@all`</summary>*");
    let scene = Scene::new(POLICIES, &after);
    scene.write("evil.yaml", "people:\n  \"@dan\\n/merge <img src=x>\": { subject: '4', groups: [contractors] }\n");
    let told = scene.diff(&["--markdown", "--population", "evil.yaml"]);
    assert_eq!(told.code, 1, "{told:?}");
    for mark in ["@", "<img", "http://", "](", "`", "~", "\n/", "\u{1b}"] {
        assert!(!told.out.contains(mark), "{mark}: {}", told.out);
    }
    assert!(
        told.out.contains(
            "<details><summary><b>change</b> <code>read</code> on <code>portal</code>: <code>&#64;dan &#47;merge"
        ),
        "{}",
        told.out
    );
    assert_eq!(told.out.matches("<code>").count(), told.out.matches("</code>").count());
    let told = scene.diff(&["--population", "evil.yaml"]);
    assert!(told.out.starts_with("change  read on portal: @dan?/merge <img src=x>\n"), "{}", told.out);
}

#[tokio::test]
async fn a_snapshot_has_everybody_in_the_groups_that_policies_name() {
    let Some(provider) = Gateway::provider(&[]) else { return };
    let scene = Scene::new(
        POLICIES,
        &(POLICIES.to_owned()
            + "@id(\"new\") permit (principal is User in Group::\"gitlab:release\", action, resource == Route::\"api\");"),
    );
    let configuration = fs::read_to_string(scene.path("vestibule.yaml")).expect("readable");
    let plain = configuration.replace("https://portal.example.test", "http://127.0.0.1:8080");
    let plain = plain.replace("host: portal.example.test", "host: 127.0.0.1");
    let plain = plain.replace(
        "listen: [{ address: 127.0.0.1:8443, tls: { certificate: tls.pem, key: tls.key } }]",
        "listen: 127.0.0.1:8080",
    );
    scene.write("vestibule.yaml", &plain.replace("https://gitlab.example.test", &provider.issuer));
    let told = scene.policy(&["snapshot"], &[]);
    assert_eq!((told.code, &*told.out), (2, ""));
    assert!(told.err.contains("providers[0].membership.api.token.file"), "{}", told.err);
    assert!(!told.err.contains("client_secret.file"), "{}", told.err);
    scene.write("api", "glpat-test-token-0123456789"); // no secret to sign in with
    for (user, memberships) in [
        ("alice", json!({ "acme": "owner" })),
        ("bob", json!({ "acme/platform/sre": "developer", "acme/platform": "guest" })),
        ("carol", json!({ "acme/payments/eu": "developer" })),
        ("mallory", json!({ "contractors": "guest", "elsewhere": "owner" })),
    ] {
        provider.admin("/admin/user", json!({ "user": user, "memberships": memberships })).await;
    }
    provider.admin("/admin/user", json!({ "user": "gone", "memberships": { "acme": "owner" }, "blocked": true })).await;
    provider.admin("/admin/user", json!({ "user": "new", "memberships": { "release": "reporter" } })).await;
    let told = scene.policy(&["snapshot", "--and", "after"], &[]);
    assert_eq!((told.code, &*told.err), (0, ""), "{told:?}");
    let (head, people) = told.out.split_once("people:\n").expect("people");
    assert!(head.ends_with("# gitlab: acme, acme/platform, contractors, release\n"), "{head}");
    let lines: Vec<&str> = people.lines().map(str::trim).collect();
    let id = |line: &str| line.split('"').nth(1).expect("a subject").to_owned();
    let expected = [
        "alice: { provider: gitlab, subject: \"1\", roles: { acme: owner, acme/platform: owner } }".to_owned(),
        "bob: { provider: gitlab, subject: \"2\", roles: { acme/platform: guest } }".to_owned(),
        "carol: { provider: gitlab, subject: \"3\", groups: [acme/payments/eu] }".to_owned(),
        "mallory: { provider: gitlab, subject: \"666\", roles: { contractors: guest } }".to_owned(),
        format!("new: {{ provider: gitlab, subject: \"{}\", roles: {{ release: reporter }} }}", id(lines[4])),
    ];
    assert_eq!(lines, expected);
    scene.write("population.yaml", &told.out);
    let told = scene.diff(&["--population", "population.yaml"]);
    assert_eq!(told.code, 1, "{told:?}");
    assert!(told.out.starts_with("gain    everything on api: new\n"), "{}", told.out);
    let as_json = scene.policy(&["snapshot", "--json"], &[]);
    scene.write("population.json", &as_json.out);
    assert_eq!(scene.policy(&["diff", "before", "before", "--population", "population.json"], &[]).code, 0);
    scene.write("api", "glpat-wrong");
    let told = scene.policy(&["snapshot"], &[]);
    assert_eq!((told.code, &*told.out), (2, ""));
    assert!(
        told.err.contains("provider `gitlab`, group `acme`: GitLab's API does not accept the token"),
        "{}",
        told.err
    );
}

#[test]
fn without_a_solver_there_is_no_proof_which_is_no_yes() {
    let scene = Scene::new(POLICIES, &POLICIES.replace("/docs/*", "/public/*"));
    scene.write("few.yaml", "people: {}\n");
    let prove = ["diff", "before", "after", "--population", "few.yaml", "--prove"];
    let told = scene.policy(&prove, &[("PATH", "/nowhere")]);
    assert_eq!((told.code, &*told.err), (1, ""), "{told:?}");
    assert!(told.out.contains("proof: none: `--prove` needs the solver cvc5, 1.3.1 or later"), "{}", told.out);
    let told = scene.policy(&["diff", "before", "before", "--prove"], &[("PATH", "/nowhere")]);
    assert_eq!(told.code, 1, "{told:?}");
    // a solver that comes to its end says nothing, least of all that nothing differs
    let told = scene.policy(&prove, &[("CVC5", "/bin/false")]);
    assert_eq!((told.code, &*told.err), (1, ""), "{told:?}");
    let ended = "cvc5 at `/bin/false` ended without an answer: is it cvc5 1.3.1 or later?";
    assert!(told.out.contains(ended), "{}", told.out);
    assert!(told.out.contains("policies: 1 changed (docs)"), "{}", told.out);
}

/// With nobody in the population, a permit for everybody who is signed in is a gain, and of one for a group that nobody is in it is
/// said that nothing can be told.
#[test]
fn an_empty_population_is_no_reason_to_say_that_nothing_differs() {
    let everybody = "@id(\"x\") permit (principal is User, action == Action::\"GET\", resource == Route::\"api\");";
    let scene = Scene::new(POLICIES, &(POLICIES.to_owned() + everybody));
    scene.write("few.yaml", "people: {}\n");
    let told = scene.diff(&["--population", "few.yaml"]);
    assert_eq!(told.code, 1, "{told:?}");
    assert!(told.out.starts_with("gain    GET on api: anybody of gitlab\n        by x\n"), "{}", told.out);
    let group = everybody.replace("is User", "is User in Group::\"gitlab:release\"");
    let scene = Scene::new(POLICIES, &(POLICIES.to_owned() + &group));
    scene.write("few.yaml", "people: {}\n");
    let told = scene.diff(&["--population", "few.yaml"]);
    assert_eq!(told.code, 1, "{told:?}");
    assert!(told.out.contains("warning: nobody in the population shows what x changes"), "{}", told.out);
    assert!(!told.out.contains("no right differs"), "{}", told.out);
    let forbid = |but: &str| {
        let path = "when { context.path_folded == \"/api/admin\" || context.path_folded like \"/api/admin/*\" }";
        format!("{POLICIES}@id(\"f\") forbid (principal is User, action, resource == Route::\"api\") {path}{but};")
    };
    let scene = Scene::new(&forbid(""), &forbid(" unless { principal.login == \"eve\" }"));
    let told = scene.diff(&[]);
    assert!(told.code == 1 && told.out.contains("shows what f changes"), "nobody there is eve: {told:?}");
    let by_condition = everybody.replace(';', " when { principal in Group::\"gitlab:release\" };");
    let scene = Scene::new(POLICIES, &(POLICIES.to_owned() + &by_condition));
    assert_eq!(scene.diff(&[]).code, 1);
}

/// The same name in several files is several people, and none of them is left out.
#[test]
fn people_of_one_name_in_several_files_are_all_compared() {
    let scene = Scene::new(POLICIES, &POLICIES.replace("/docs/*", "/public/*"));
    scene.write("after/tests/cast.yaml", "people: {}\n");
    scene.write("after/tests/a.yaml", "people: { dev: { subject: '1', groups: [acme] }, ada: { subject: '2' } }\n");
    scene.write(
        "after/tests/b.yaml",
        "people: { dev: { subject: '4', groups: [contractors] }, ada: { subject: '2' } }\n",
    );
    let told = scene.diff(&[]);
    assert!(told.out.starts_with("change  read on portal: b/dev\n"), "{}", told.out);
    assert!(told.out.ends_with("over 4 principals\n"), "{}", told.out);
    let told = scene.diff(&["--population", "after/tests/a.yaml", "--population", "after/tests/b.yaml"]);
    assert!(told.out.starts_with("change  read on portal: b/dev\n"), "{}", told.out);
    let configuration = fs::read_to_string(scene.path("vestibule.yaml")).expect("readable");
    scene.write("vestibule.yaml", &configuration.replace("./before", "./after"));
    let told = scene.policy(&["who", "/public/a"], &[]);
    assert!(told.out.contains("b/dev"), "{told:?}");
    for arguments in [&["explain", "GET", "/public/a", "--as", "dev"][..], &["access", "dev"]] {
        let told = scene.policy(arguments, &[]);
        assert_eq!(told.code, 2, "{told:?}");
        let error = "error: `dev` is somebody else in each of `after/tests/a.yaml`, `after/tests/b.yaml`: say `a/dev` or `b/dev`, or \
                     name one file with `--cast FILE`\n";
        assert!(told.err.replace("./", "").ends_with(&error[7..]), "{}", told.err);
    }
    assert_eq!(scene.policy(&["explain", "GET", "/public/a", "--as", "b/dev"], &[]).code, 0);
    assert_eq!(scene.policy(&["access", "dev", "--cast", "after/tests/b.yaml"], &[]).code, 0);
}

#[test]
fn what_is_no_version_is_told() {
    let told = Scene::new(POLICIES, POLICIES).policy(&["diff", "before", "nosuch"], &[]);
    assert_eq!(told.code, 2);
    assert_eq!(told.err, "error: `nosuch` is neither a directory of policies nor a configuration\n");
}

const JOBS: &str = "token_issuers: [ci, machines]";

/// A route `api` with these keys.
fn api(keys: &str) -> String {
    format!(
        "\x20 - {{ name: api, host: portal.example.test, path: /api/, upstream: \"http://127.0.0.1:9\", {JOBS}, {keys} }}\n"
    )
}

/// What two configurations have otherwise beside their policies is told, without a proof too.
#[test]
fn settings_that_differ_are_told() {
    let body = |path: &str, pointer: &str| {
        format!("body_fields: [{{ method: POST, path: {path}, fields: {{ t: {{ pointer: {pointer} }} }} }}]")
    };
    let forbid = "@id(\"x\") forbid (principal, action, resource) when { context.body has t && context.body.t like \"prod/*\" };";
    let policies = POLICIES.to_owned() + forbid;
    let (one, other) = (body("/api/run", "/t"), body("/api/runx", "/nothing"));
    let before = api(&format!("{one}, step_up: {{ max_age: 1h }}, labels: {{ tier: production }}"));
    let after = api(&format!("{other}, labels: {{ tier: dev }}"));
    let scene = Scene::versions((&policies, &before), (&policies, &after));
    let told = scene.policy(&["diff", "before.yaml", "after.yaml"], &[]);
    assert_eq!((told.code, &*told.err), (1, ""), "{told:?}");
    for line in [
        "config  routes[api].body_fields: [{",
        "config  routes[api].labels: {\"tier\":\"production\"} → {\"tier\":\"dev\"}\n",
        "config  routes[api].step_up: {\"max_age\":\"1h\"} → none\n",
        "no right differs, 3 settings otherwise, over 1 principal\n",
    ] {
        assert!(told.out.contains(line), "{line}\n{}", told.out);
    }
    let scene = Scene::versions((POLICIES, ""), (POLICIES, &after));
    let told = scene.policy(&["diff", "before.yaml", "after.yaml"], &[]);
    assert!(told.out.contains("config  routes[api] added: {"), "{told:?}");
    let same = scene.policy(&["diff", "after.yaml", "after.yaml"], &[]);
    assert_eq!((same.code, same.out.contains("config")), (0, false), "{same:?}");
}

/// Whatever may decide about a request is a difference; what cannot is none.
#[test]
fn every_key_is_a_difference_but_for_those_that_decide_nothing() {
    let scene = Scene::new(POLICIES, POLICIES);
    let text = fs::read_to_string(scene.path("vestibule.yaml")).expect("readable");
    let diff = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        scene.write("other.yaml", &text.replace(from, to));
        scene.policy(&["diff", "vestibule.yaml", "other.yaml"], &[])
    };
    let policies = "policies: ./before";
    for (from, to, line) in [
        (policies, "trusted_proxies: [10.0.0.0/8]\npolicies: ./before", "config  trusted_proxies: "),
        ("membership: { api", "membership: { claim: nicknames, api", "config  providers[gitlab].membership: "),
        ("labels: {", "encoded_slash: true, labels: {", "config  routes[api].encoded_slash: "),
        ("labels: {", "origins: [\"https://a.example\"], labels: {", "config  routes[api].origins: "),
    ] {
        let told = diff(from, to);
        assert!(told.code == 1 && told.out.contains(line), "{to}: {told:?}");
    }
    for (from, to) in [
        (policies, "workers: 3\npolicies: ./before"),
        (policies, "contact: { name: a, url: \"https://a.example\" }\npolicies: ./before"),
        ("labels: {", "timeouts: { connect: 1s }, labels: {"),
    ] {
        let told = diff(from, to);
        assert_eq!((told.code, told.out.contains("config")), (0, false), "{to}: {told:?}");
    }
}

/// Each version is asked about with the routes and labels that it has.
#[test]
fn a_proof_is_about_the_routes_of_each_version() {
    let Some(solver) = solver() else { return };
    let dev = "@id(\"jobs\") permit (principal is Job, action, resource) when { resource has tier && resource.tier == \"dev\" };";
    let all = "@id(\"jobs\") permit (principal is Job, action, resource);";
    let spare = "\x20 - { name: spare, host: portal.example.test, path: /spare/, upstream: \"http://127.0.0.1:9\", labels: { tier: dev } }\n";
    let [production, labelled] = ["production", "dev"].map(|tier| api(&format!("labels: {{ tier: {tier} }}")) + spare);
    let scene = Scene::versions((dev, &production), (dev, &labelled));
    let (verdicts, code, json) = scene.proved(&solver, "Job");
    assert_eq!((verdicts, code), (vec!["looser".to_owned()], 1), "{json:#}");
    let scene = Scene::versions((dev, &labelled), (dev, &production));
    assert_eq!(scene.proved(&solver, "Job").0, ["stricter"]);
    let scene = Scene::versions((all, &api("labels: { a: b }")), (all, &api("labels: { a: c }")));
    let (verdicts, code, json) = scene.proved(&solver, "Job");
    assert_eq!((verdicts.len(), code), (0, 1), "a label that no policy reads: {json:#}");

    let services = "@id(\"x\") permit (principal is Service, action, resource);";
    let scene = Scene::versions((services, ""), (services, &api("")));
    let (verdicts, code, json) = scene.proved(&solver, "Service");
    assert_eq!((verdicts, code), (vec!["looser".to_owned()], 1), "{json:#}");

    let body = |path: &str| {
        api(&format!("body_fields: [{{ method: POST, path: {path}, fields: {{ t: {{ pointer: /t }} }} }}]"))
    };
    let prod = "@id(\"y\") permit (principal, action, resource);
        @id(\"x\") forbid (principal, action, resource) when { context.body has t && context.body.t like \"prod/*\" };";
    let scene = Scene::versions((prod, &body("/api/run")), (prod, &body("/api/runx")));
    let (verdicts, code, json) = scene.proved(&solver, "User");
    assert_eq!((verdicts, code), (vec!["conditional".to_owned()], 1), "{json:#}");
}

/// A forbid that the gateway refuses by, though it never applies, is missed when it goes.
#[test]
fn a_proof_knows_what_the_gateway_refuses_by_itself() {
    let Some(solver) = solver() else { return };
    let removed = |rest: &str, forbid: &str| {
        let both = format!("{rest}\n@id(\"gone\") {forbid}");
        Scene::versions((&both, &api("")), (rest, &api("")))
    };
    let admin = "when { context.query == \"admin\" }";
    let jobs = "@id(\"x\") permit (principal is Job, action, resource) unless { context.query == \"admin\" };";
    let scene =
        removed(jobs, &format!("forbid (principal is Job in Namespace::\"gitlab:evil\", action, resource) {admin};"));
    let (verdicts, code, json) = scene.proved(&solver, "Job");
    assert_eq!((verdicts, code), (vec!["looser".to_owned()], 1), "{json:#}");
    let environments = json["proof"]["environments"].as_array().expect("a list");
    let found = environments.iter().find(|it| it["verdict"] == "looser").expect("one");
    assert_eq!(found["permitted_only_after"]["unknown"], json!(["the project of the job"]));

    let people = jobs.replace("Job", "User");
    let scene = removed(
        &people,
        &format!("forbid (principal is User in Group::\"gitlab:suspended\", action, resource) {admin};"),
    );
    let (verdicts, code, json) = scene.proved(&solver, "User");
    assert_eq!((verdicts, code), (vec!["looser".to_owned()], 1), "{json:#}");
    assert!(json.to_string().contains("\"unknown\":[\"Group::\\\"gitlab:suspended\\\"\"]"), "{json:#}");

    let failing =
        "principal.project_id * 9223372036854775807 < 5 && context.query like \"a*\" && context.query like \"b*\"";
    let jobs = "@id(\"x\") permit (principal is Job, action, resource);";
    let scene = removed(jobs, &format!("forbid (principal is Job, action, resource) when {{ {failing} }};"));
    let (verdicts, code, json) = scene.proved(&solver, "Job");
    assert_eq!((verdicts, code), (vec!["conditional".to_owned()], 1), "{json:#}");
    assert!(json.to_string().contains("cannot be evaluated, as may be: `gone`"), "{json:#}");
    let harmless = failing.replace(" * 9223372036854775807", "");
    let scene = removed(jobs, &format!("forbid (principal is Job, action, resource) when {{ {harmless} }};"));
    let (verdicts, _, json) = scene.proved(&solver, "Job");
    assert_eq!(verdicts, [""; 0], "{json:#}");
}

/// Nobody in the population gains, yet the new policy is wider: the solver shows a request, which is confirmed by Cedar before it is
/// told.
#[test]
fn a_planted_widening_is_proved_by_a_request_that_shows_it() {
    let Some(solver) = solver() else { return };
    let after = POLICIES.replace(
        "User in Group::\"gitlab:contractors\", action in Action::\"read\"",
        "User in Group::\"gitlab:contractors\", action",
    );
    let scene = Scene::new(POLICIES, &after);
    scene.write("few.yaml", "people:\n  ada: { subject: '1', groups: [acme] }\n");
    let arguments = ["diff", "before", "after", "--population", "few.yaml", "--prove", "--limit", "120s"];
    let told = scene.policy(&arguments, &[("CVC5", &solver)]);
    assert_eq!((told.code, &*told.err), (1, ""), "{told:?}");
    for line in [
        "proof   Anonymous, everything: equivalent\n",
        "proof   User, read: equivalent\n",
        "proof   User, write: looser\n        permitted only after, such as:\n          principal  any User in Group::\"gitlab:contractors\"\n          action     Action::\"POST\"\n          resource   Route::\"portal\"\n          context    path: \"/docs/",
    ] {
        assert!(told.out.contains(line), "{line}\n{}", told.out);
    }
    let json = scene.policy(&[&arguments[..], &["--json"]].concat(), &[("CVC5", &solver)]);
    let json: Value = serde_json::from_str(&json.out).expect("JSON");
    let environments = json["proof"]["environments"].as_array().expect("a list");
    let found = environments.iter().find(|it| it["verdict"] == "looser").expect("one");
    let example = &found["permitted_only_after"];
    assert_eq!((&found["principal"], &example["resource"]), (&json!("User"), &json!("Route::\"portal\"")));
    let path = example["context"]["path"].as_str().expect("a path").trim_matches('"').to_owned();
    // the same request, asked of the engine that serves, is decided otherwise by the two versions
    scene.write(
        "after/tests/shown.yaml",
        &format!("cases:\n  - {{ as: dan, request: 'POST {path}', expect: permit }}\n"),
    );
    let told = scene.diff(&[]);
    assert!(told.out.contains(&format!("request POST {path} as dan: deny → permit by docs\n")), "{}", told.out);
}

#[test]
fn a_stricter_and_an_incomparable_version_are_told_apart_and_rewriting_is_equivalent() {
    let Some(solver) = solver() else { return };
    let verdict = |before: &str, after: &str| {
        let scene = Scene::new(&(POLICIES.to_owned() + before), &(POLICIES.to_owned() + after));
        let told =
            scene.policy(&["diff", "before", "after", "--prove", "--limit", "120s", "--json"], &[("CVC5", &solver)]);
        let json: Value = serde_json::from_str(&told.out).unwrap_or_else(|error| panic!("{error}: {told:?}"));
        let environments = json["proof"]["environments"].as_array().expect("a list").clone();
        let users = environments.iter().filter(|it| it["principal"] == "User" && it["verdict"] != "equivalent");
        users.map(|it| it["verdict"].as_str().expect("a word").to_owned()).collect::<Vec<_>>()
    };
    let policy = |effect: &str, rest: &str| {
        format!(
            "@id(\"x\") {effect} (principal is User in Group::\"gitlab:x\", action == Action::\"PUT\", resource == Route::\"api\") {rest};"
        )
    };
    let prefix = |path: &str| policy("permit", &format!("when {{ context.path like \"{path}\" }}"));
    assert_eq!(verdict(&prefix("/api/*"), &prefix("/api/a/*")), ["stricter"]);
    assert_eq!(verdict(&prefix("/api/a/*"), &prefix("/api/b/*")), ["incomparable"]);
    let twice = policy("permit", "when { context.path == \"/api/a\" || context.path == \"/api/b\" }");
    let negated = policy("permit", "unless { context.path != \"/api/a\" && !(context.path == \"/api/b\") }");
    assert_eq!(verdict(&twice, &negated), [""; 0]);
    // a maintainer is a developer: naming both roles is naming the lesser
    let roles = |condition: &str| policy("permit", &format!("when {{ {condition} }}"));
    let developer = "principal in Role::\"gitlab:acme/platform#developer\"";
    let both = format!("{developer} || principal in Role::\"gitlab:acme/platform#maintainer\"");
    assert_eq!(verdict(&roles(developer), &roles(&both)), [""; 0]);
}

#[derive(Deserialize)]
struct Job {
    script: Vec<String>,
}

/// GitLab's list of one merge request's notes: what was asked of it, and the notes by their numbers.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Kept>>);

type Kept = (Vec<String>, BTreeMap<u64, String>);

impl Notes {
    /// Serves them; returns the port.
    fn serve(&self) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let notes = self.clone();
        std::thread::spawn(move || listener.incoming().flatten().for_each(|stream| notes.answer(stream)));
        port
    }

    fn answer(&self, stream: TcpStream) {
        let mut reader = BufReader::new(stream);
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).expect("a line");
            if line.trim().is_empty() {
                break;
            }
            head.push(line.trim().to_owned());
        }
        let field = |name: &str| {
            head.iter().find_map(|line| line.split_once(": ").filter(|(own, _)| own.eq_ignore_ascii_case(name)))
        };
        let length = field("content-length").map_or(0, |(_, length)| length.parse().expect("a number"));
        let mut body = vec![0; length];
        reader.read_exact(&mut body).expect("a body");
        let body =
            url::form_urlencoded::parse(&body).find(|(name, _)| name == "body").map(|(_, body)| body.into_owned());
        let token = field("private-token").map(|(_, token)| token);
        let (mut said, asked) = (String::new(), head[0].trim_end_matches(" HTTP/1.1").to_owned());
        let mut status = if token == Some("glpat-comments") { 200 } else { 401 };
        let mut all = self.0.lock().expect("no panic");
        match (asked.split_once(' ').expect("a method").0, body) {
            ("GET", _) => {
                let note = |(id, body): (&u64, &String)| {
                    let body = Value::from(body.as_str()).to_string().replace('<', "\\u003c").replace('>', "\\u003e");
                    format!("{{\"id\":{id},\"type\":null,\"body\":{body},\"author\":{{\"id\":1}}}}")
                };
                said = format!("[{}]", all.1.iter().map(note).collect::<Vec<_>>().join(","));
            }
            ("POST", Some(body)) => {
                let next = all.1.len() as u64 + 301;
                all.1.insert(next, body);
            }
            ("PUT", Some(body)) => {
                let id = asked.rsplit('/').next().and_then(|id| id.parse().ok()).expect("a number");
                all.1.insert(id, body);
            }
            _ => status = 400,
        }
        all.0.push(asked);
        let answer =
            format!("HTTP/1.1 {status} .\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{said}", said.len());
        let _ = reader.into_inner().write_all(answer.as_bytes());
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().expect("no panic").0)
    }

    fn all(&self) -> BTreeMap<u64, String> {
        self.0.lock().expect("no panic").1.clone()
    }
}

/// The job of the documentation, line by line, in a repository with two commits, before a GitLab that takes comments.
#[test]
fn the_documented_job_comments_a_merge_request() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples/policy-diff.gitlab-ci.yml");
    let text = fs::read_to_string(example).expect("readable");
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/policy-diff.md")).expect("readable");
    let job = text.split_once("policy-diff:\n").expect("the job").1;
    assert!(page.contains(job.trim_end()), "docs/policy-diff.md does not have the job as it is");
    let jobs: BTreeMap<String, Job> = serde_saphyr::from_str(&text).expect("jobs");
    let notes = Notes::default();
    let port = notes.serve();
    notes.0.lock().expect("no panic").1.insert(300, "{\"id\":7,\"body\":\"!-- vestibule policy diff --".to_owned());
    let scene = Scene::new(POLICIES, POLICIES);
    let configuration = fs::read_to_string(scene.path("vestibule.yaml")).expect("readable");
    scene.write("origin/vestibule.yaml", &configuration.replace("./before", "./policies"));
    scene.write("origin/policies/all.cedar", POLICIES);
    scene.write("origin/population.yaml", CAST);
    let origin = scene.path("origin");
    let git = |directory: &Path, arguments: &[&str]| {
        let identity = ["-c", "user.name=a", "-c", "user.email=a@example.test", "-c", "init.defaultBranch=main"];
        let output =
            Command::new("git").args(identity).args(arguments).current_dir(directory).output().expect("git runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned()
    };
    git(&origin, &["init", "--quiet"]);
    git(&origin, &["config", "uploadpack.allowAnySHA1InWant", "true"]);
    git(&origin, &["add", "--all"]);
    git(&origin, &["commit", "--quiet", "--message", "before"]);
    let base = git(&origin, &["rev-parse", "HEAD"]);
    scene.write("origin/policies/all.cedar", &POLICIES.replace("/docs/*", "/public/*"));
    scene.write("origin/population.yaml", "people: {}\n"); // the author's own, which counts for nothing
    git(&origin, &["commit", "--quiet", "--all", "--message", "after"]);
    let url = format!("file://{}", origin.display());
    git(scene.0.path(), &["clone", "--quiet", "--depth", "1", &url, "clone"]);
    let run = || {
        let binaries = Path::new(env!("CARGO_BIN_EXE_vestibule")).parent().expect("a directory").display().to_string();
        let output = Command::new("bash")
            .args(["-eo", "pipefail", "-c", &jobs["policy-diff"].script.join("\n")])
            .current_dir(scene.path("clone"))
            .env("PATH", format!("{binaries}:{}", std::env::var("PATH").unwrap_or_default()))
            .env_remove("CVC5")
            .env("CI_MERGE_REQUEST_DIFF_BASE_SHA", &base)
            .env("CI_API_V4_URL", format!("http://127.0.0.1:{port}/api/v4"))
            .env("CI_MERGE_REQUEST_PROJECT_ID", "5120")
            .env("CI_MERGE_REQUEST_IID", "7")
            .env("POLICY_DIFF_TOKEN", "glpat-comments")
            .output()
            .expect("bash runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    run();
    let list = "/api/v4/projects/5120/merge_requests/7/notes";
    assert_eq!(notes.take(), [format!("GET {list}?sort=asc&per_page=100"), format!("POST {list}")]);
    let comment = notes.all()[&302].clone();
    assert!(comment.contains("<b>change</b> <code>read</code> on <code>portal</code>: <code>dan</code>"), "{comment}");
    // the next push changes the comment, also where nothing differs any more
    fs::write(scene.path("clone/policies/all.cedar"), POLICIES).expect("written");
    run();
    assert_eq!(notes.take(), [format!("GET {list}?sort=asc&per_page=100"), format!("PUT {list}/302")]);
    assert_eq!(notes.all().len(), 2);
    assert!(notes.all()[&302].contains("no right differs"), "{:?}", notes.all());
}
