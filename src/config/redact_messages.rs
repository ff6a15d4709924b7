//! What mistakes in `redact_paths` and `audit.pseudonyms` look like.

use super::{
    Pseudonym,
    tests::{START, mistakes, settings_in_place, with},
};

#[test]
fn patterns_and_pseudonyms_are_taken() {
    let text = with(" allow:", " redact_paths: [\"/Users/*/x/*\", \"/files/**\"], allow:");
    let settings = settings_in_place(&format!("{text}audit: {{ pseudonyms: [address] }}\n"));
    let redact = settings.routes[0].redact.as_ref().expect("patterns");
    assert_eq!(redact.patterns().map(ToString::to_string).collect::<Vec<_>>(), ["/users/*/x/*", "/files/**"]);
    assert_eq!(settings.audit.pseudonyms, [Pseudonym::Address]);
    assert!(settings_in_place(START).routes[0].redact.is_none());
}

#[test]
fn a_pattern_that_keeps_nothing_out_is_a_mistake_with_its_place() {
    for (keys, expected, place) in [
        (
            "redact_paths: [\"/users/7\"]",
            "`routes[0].redact_paths[0]` is `/users/7`",
            "a `*` stands for a whole segment",
        ),
        (
            "redact_paths: [\"/a/*\", \"/a*\"]",
            "`routes[0].redact_paths[1]` is `/a*`",
            "a `*` stands for a whole segment",
        ),
        (
            "path: /v1/, redact_paths: [\"/users/*\"]",
            "`routes[0].redact_paths[0]` is `/users/*`",
            "no path of this route fits: all of them begin with `/v1/`",
        ),
    ] {
        let shown = mistakes(&with(" allow:", &format!(" {keys}, allow:")));
        assert!(shown.contains(expected) && shown.contains(place) && shown.contains(".yaml:"), "{shown}");
    }
    let shown = mistakes(&format!("{START}audit: {{ pseudonyms: [emial] }}\n"));
    assert!(shown.contains("emial") && shown.contains("email"), "{shown}");
}
