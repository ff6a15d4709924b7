//! What mistakes in `body_fields` look like.

use super::tests::{START, mistakes, settings_in_place, with};

fn rules(rules: &str) -> String {
    with(" allow:", &format!(" body_fields: [{rules}], allow:"))
}

#[test]
fn a_rule_has_its_path_folded_and_its_defaults() {
    let text = rules("{ method: POST, path: /API/Tasks/, fields: { kind: { pointer: /a~1b/0 } } }");
    let rule = settings_in_place(&text).routes[0].body_fields[0].clone();
    assert_eq!((rule.method.as_str(), &*rule.path, rule.max), ("POST", "/api/tasks", 64 * 1024));
    let [field] = &rule.fields[..] else { panic!("{rule:?}") };
    assert_eq!((&*field.name, field.pointer.to_string().as_str(), field.optional), ("kind", "/a~1b/0", false));
    assert!(settings_in_place(START).routes[0].body_fields.is_empty());
}

/// The only mistake of a rule, in one line: what is wrong, what was expected, what to do.
fn mistake(text: &str) -> String {
    let shown = mistakes(&rules(text));
    assert_eq!(shown.matches("error: ").count(), 1, "{shown}");
    let first = shown.lines().next().and_then(|line| line.strip_prefix("error: ")).expect("a mistake");
    let marked = shown.lines().find_map(|line| line.split_once('^')).expect("a place").1.trim_start_matches('^').trim();
    let help = shown.split_once("= help: ").map_or("", |(_, help)| help);
    format!("{first}; {marked}; {help}")
}

#[test]
fn every_mistake_in_a_rule_says_what_to_do() {
    let rule = |method: &str, path: &str, more: &str, field: &str| {
        format!("{{ method: {method}, path: {path}, {more}fields: {{ kind: {{ {field} }} }} }}")
    };
    let good = "pointer: /kind";
    for (text, expected) in [
        (
            rule("post", "/a", "", good),
            "`routes[0].body_fields[0].method` is `post`; expected `POST`, `PUT`, `PATCH` or `DELETE`; methods are written in capitals: `POST`",
        ),
        (
            rule("GET", "/a", "", good),
            "`routes[0].body_fields[0].method` is `GET`; expected `POST`, `PUT`, `PATCH` or `DELETE`; these are the methods whose requests have bodies",
        ),
        (
            rule("POST", "/a/*", "", good),
            "`routes[0].body_fields[0].path` is `/a/*`; expected a whole path, such as `/api/scaffolder/v2/tasks`; each rule is for one path: there is no `*` here",
        ),
        (
            rule("POST", "/a/../b", "", good),
            "`routes[0].body_fields[0].path` is `/a/../b`; expected a whole path, such as `/api/scaffolder/v2/tasks`; path has a dot segment",
        ),
        (
            rule("POST", "/a?b", "", good),
            "`routes[0].body_fields[0].path` is `/a?b`; expected a whole path, such as `/api/scaffolder/v2/tasks`; write `/a`",
        ),
        (
            rule("POST", "/a", "max: 17MiB, ", good),
            "`routes[0].body_fields[0].max` is `17MiB`; expected a size from `1B` to `16MiB`; ",
        ),
        (
            rule("POST", "/a", "", "pointer: $.values.kind"),
            "`routes[0].body_fields[0].fields.kind.pointer` is `$.values.kind`; expected a JSON pointer (RFC 6901), such as `/templateRef` or `/values/owner`; did you mean `/values/kind`?",
        ),
        (
            rule("POST", "/a", "", "pointer: /a~b"),
            "`routes[0].body_fields[0].fields.kind.pointer` is `/a~b`; expected a JSON pointer (RFC 6901), such as `/templateRef` or `/values/owner`; a `~` is written `~0`, and a `/` in a name `~1`",
        ),
        (
            rule("POST", "/a", "", "pointer: /a, as: number"),
            "`routes[0].body_fields[0].fields.kind.as` is `number`; expected `string` or `backstage_ref`; ",
        ),
        (
            rule("POST", "/a", "", "optional: true"),
            "`routes[0].body_fields[0].fields.kind.pointer` is missing; expected a key `pointer` here; where it stands in the JSON text (RFC 6901), such as `/templateRef`",
        ),
        (
            "{ method: POST, path: /a, fields: {} }".to_owned(),
            "`routes[0].body_fields[0].fields` is empty; expected at least one field; write what policies read, such as `template_ref: { pointer: /templateRef }`",
        ),
        (
            "{ method: POST, path: /a, fields: { a-b: { pointer: /a } } }".to_owned(),
            "`a-b` is no name of a field; expected a letter or `_`, then letters, digits and `_`; policies name it as an attribute of `context.body`",
        ),
        (
            "{ method: POST, path: /a, fields: { a: { pointer: /a }, b: { pointer: /a/b } } }".to_owned(),
            "`routes[0].body_fields[0].fields.b.pointer` is `/a/b`, and `a` is at `/a`; never both there; a string has nothing below it",
        ),
        (
            rule("POST", "/a", "", good) + ", " + &rule("POST", "/A/", "", good),
            "`routes[0].body_fields[1]` names `POST /a`, as a rule above does; overlaps; put all fields into one rule; upper and lower case, and a `/` at the end, are the same here",
        ),
        (
            rule("POST", "/a", "", good) + ", " + &rule("PUT", "/a", "", "pointer: /kind, as: backstage_ref"),
            "`routes[0].body_fields[1].fields.kind.as` is `backstage_ref`, and `routes[0].body_fields[0].fields.kind` is read as `string`; expected `string`; a name means one thing in policies: give this field another",
        ),
    ] {
        assert_eq!(mistake(&text), expected, "{text}");
    }
}

#[test]
fn a_rule_is_for_a_path_of_its_route() {
    let text = with(
        " allow:",
        " path: /api/, body_fields: [{ method: POST, path: /apix, fields: { a: { pointer: /a } } }], allow:",
    );
    let shown = mistakes(&text);
    assert!(shown.contains("help: this route is for what is below `/api/`"), "{shown}");
    let text = text.replace("/apix", "/API/x");
    assert_eq!(&*settings_in_place(&text).routes[0].body_fields[0].path, "/api/x");
}

/// Whoever copies the rules from the documents has what they say.
#[test]
fn the_rules_in_the_documents_load() {
    let documents = [include_str!("../../docs/configuration.md"), include_str!("../../docs/backstage.md")];
    for page in documents {
        let block = page.split("```yaml\n").skip(1).find(|block| block.trim_start().starts_with("body_fields:"));
        let block = block.and_then(|block| block.split("```").next()).expect("a block");
        let indent = block.len() - block.trim_start().len();
        let lines: String = block.lines().map(|line| format!("    {}\n", &line[indent..])).collect();
        let route = "  - name: backstage\n    upstream: http://127.0.0.1:7007\n    allow: [\"gitlab:acme/**\"]\n";
        let start = START.split("  - { name: backstage").next().expect("what stands before the routes");
        let rules = settings_in_place(&format!("{start}{route}{lines}")).routes[0].body_fields.clone();
        let [rule] = &*rules else { panic!("{rules:?}") };
        assert_eq!(
            (&*rule.path, rule.max, &*rule.fields[0].name),
            ("/api/scaffolder/v2/tasks", 1 << 20, "template_ref")
        );
    }
}
