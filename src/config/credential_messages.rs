//! What every mistake in a route's `credential` looks like, word for word.

use super::{
    messages::shows,
    tests::{mistakes, with},
};

/// The start of the documentation with this credential.
fn credential(text: &str) -> String {
    with("allow:", &format!("credential: {text}, allow:"))
}

/// A bearer token, and this upstream.
fn sent_to(upstream: &str) -> String {
    credential("{ bearer: { file: secrets/gitlab } }").replace("\"http://127.0.0.1:7007\"", upstream)
}

shows! {
    a_credential_is_the_assertion_or_a_secret: credential("asertion"), r#"
error: `routes[0].credential` is another word
 --> vestibule.yaml:7:71
  |
7 |   - { name: backstage, upstream: "http://127.0.0.1:7007", credential: ********* ****** ****************** *
  |                                                                       ^^^^^^^^ expected `assertion`, or a mapping with `bearer`, `basic`, `header` or `gitlab_api`
  |
  = help: did you mean `assertion`?"#;

    a_secret_in_place_of_a_credential_is_not_repeated: credential("hunter2"), r#"
error: `routes[0].credential` is another word
 --> vestibule.yaml:7:71
  |
7 |   - { name: backstage, upstream: "http://127.0.0.1:7007", credential: ******** ****** ****************** *
  |                                                                       ^^^^^^^ expected `assertion`, or a mapping with `bearer`, `basic`, `header` or `gitlab_api`
  |
  = help: a secret is never written here: put it into a file and write `{ bearer: { file: PATH } }`"#;

    s104_a_bearer_token_is_no_literal: credential("{ bearer: hunter2 }"), r#"
error: `routes[0].credential.bearer` is a literal
 --> vestibule.yaml:7:81
  |
7 |   - { name: backstage, upstream: "http://127.0.0.1:7007", credential: { bearer: ******* ** ****** ****************** *
  |                                                                                 ^^^^^^^ expected a mapping with the key `env` or `file`
  |
  = help: a secret is never written here: put it into a file and write `{ file: PATH }`"#;

    s104_a_key_is_no_literal: credential("{ value: hunter2, header: X-Api-Key }"), r#"
error: `routes[0].credential.value` is a literal
 --> vestibule.yaml:7:80
  |
7 |   - { name: backstage, upstream: "http://127.0.0.1:7007", credential: { value: ******** ******* ********* ** ****** ****************** *
  |                                                                                ^^^^^^^ expected a mapping with the key `env` or `file`
  |
  = help: a secret is never written here: put it into a file and write `{ file: PATH }`"#;

    a_credential_has_a_secret: credential("{ keep_cookies: true }"), r#"
error: `routes[0].credential` has no secret
 --> vestibule.yaml:7:59
  |
7 |   - { name: backstage, upstream: "http://127.0.0.1:7007", credential: { keep_cookies: true }, allow: ["gitlab:acme/**"] }
  |                                                           ^^^^^^^^^^ expected one of `bearer`, `basic`, `header` or `gitlab_api`"#;

    a_form_of_a_credential_has_a_nearest_name: credential("{ beaer: { file: secrets/gitlab } }"), r#"
error: `routes[0].credential.beaer` is not a known key
 --> vestibule.yaml:7:73
  |
7 |   - { name: backstage, upstream: "http://127.0.0.1:7007", credential: { beaer: { file: secrets/gitlab } }, allow: ["gitlab:acme/**"] }
  |                                                                         ^^^^^ did you mean `bearer`?"#;

    a_credential_has_one_secret: credential("{ bearer: { file: secrets/gitlab }, gitlab_api: gitlab }"), r#"
error: `routes[0].credential` has several secrets
 --> vestibule.yaml:7:59
  |
7 |   - { name: backstage, upstream: "http://127.0.0.1:7007", credential: { bearer: { file: secrets/gitlab }, gitlab_api: gitlab }, allow...
  |                                                           ^^^^^^^^^^ expected one of `bearer`, `basic`, `header` or `gitlab_api`"#;

    a_field_has_a_value: credential("{ header: X-Api-Key }"), r#"
error: `routes[0].credential.value` is missing
 --> vestibule.yaml:7:59
  |
7 |   - { name: backstage, upstream: "http://127.0.0.1:7007", credential: { header: X-Api-Key }, allow: ["gitlab:acme/**"] }
  |                                                           ^^^^^^^^^^ expected a key `value` here
  |
  = help: `header` is there: the name of the field stands in `header`, the secret in `value`"#;

    a_value_has_a_field: credential("{ value: { file: secrets/gitlab } }"), r#"
error: `routes[0].credential.header` is missing
 --> vestibule.yaml:7:59
  |
7 |   - { name: backstage, upstream: "http://127.0.0.1:7007", credential: { value: { file: secrets/gitlab } }, allow: ["gitlab:acme/**"] }
  |                                                           ^^^^^^^^^^ expected a key `header` here
  |
  = help: `value` is there: the name of the field stands in `header`, the secret in `value`"#;

    a_user_has_a_password: credential("{ basic: { user: a } }"), r#"
error: `routes[0].credential.basic.password` is missing
 --> vestibule.yaml:7:73
  |
7 |   - { name: backstage, upstream: "http://127.0.0.1:7007", credential: { basic: { user: a } }, allow: ["gitlab:acme/**"] }
  |                                                                         ^^^^^ expected a key `password` here
  |
  = help: the password: `{ file: PATH }` or `{ env: NAME }`"#;

    a_user_has_no_colon: credential("{ basic: { user: \"a:b\", password: { file: secrets/gitlab } } }"), r#"
error: `routes[0].credential.basic.user` is `a:b`
 --> vestibule.yaml:7:88
  |
7 |   - { name: backstage, upstream: "http://127.0.0.1:7007", credential: { basic: { user: "a:b", password: { file: secrets/gitlab } } },...
  |                                                                                        ^^^^^ expected a name without `:`
  |
  = help: what follows the first `:` would be the password"#;

    a_field_has_a_name: credential("{ header: \"X-Api-Key:\", value: { file: secrets/gitlab } }"), r#"
error: `routes[0].credential.header` is `X-Api-Key:`
 --> vestibule.yaml:7:81
  |
7 | ...:7007", credential: { header: "X-Api-Key:", value: { file: secrets/gitlab } }, allow: ["gitlab:acme/**"] }
  |                                  ^^^^^^^^^^^^ expected the name of a header field, such as `X-Api-Key`
  |
  = help: it has letters, digits and `-`, and no `:` behind it"#;

    a_field_is_nobody_elses: credential("{ header: Transfer_Encoding, value: { file: secrets/gitlab } }"), r#"
error: `routes[0].credential.header` is `Transfer_Encoding`
 --> vestibule.yaml:7:81
  |
7 | ...007", credential: { header: Transfer_Encoding, value: { file: secrets/gitlab } }, allow: ["gitlab:acme/**"] }
  |                                ^^^^^^^^^^^^^^^^^ expected the name of a header field, such as `X-Api-Key`
  |
  = help: this field is about the connection, frames the message, or is set or removed by us"#;

    a_bearer_token_is_a_token: credential("{ bearer: { file: secrets/words } }"), r#"
error: the secret of `routes[0].credential.bearer` cannot be sent
 --> vestibule.yaml:7:73
  |
7 |   - { name: backstage, upstream: "http://127.0.0.1:7007", credential: { bearer: { file: secrets/words } }, allow: ["gitlab:acme/**"] }
  |                                                                         ^^^^^^ expected a token of printable ASCII without spaces
  |
  = help: the token alone stands there: `Bearer` is put in front of it"#;

    a_value_fits_into_a_field: credential("{ header: X-Api-Key, value: { file: secrets/blank } }"), r#"
error: the secret of `routes[0].credential.value` cannot be sent
 --> vestibule.yaml:7:92
  |
7 | ...007", credential: { header: X-Api-Key, value: { file: secrets/blank } }, allow: ["gitlab:acme/**"] }
  |                                           ^^^^^ expected a secret that a header field can hold
  |
  = help: a field's value has no space at its ends and no letter outside ASCII"#;

    a_secret_is_there: credential("{ bearer: { file: secrets/nowhere } }"), r#"
error: `routes[0].credential.bearer.file` is `secrets/nowhere`
 --> vestibule.yaml:7:89
  |
7 |   - { name: backstage, upstream: "http://127.0.0.1:7007", credential: { bearer: { file: secrets/nowhere } }, allow: ["gitlab:acme/**"] }
  |                                                                                         ^^^^^^^^^^^^^^^ expected a file with the secret
  |
  = help: there is no file `secrets/nowhere`: create it with mode 0600"#;

    a_token_for_the_api_is_one_that_is_kept: credential("{ gitlab_api: gitlab }"), r#"
error: `routes[0].credential.gitlab_api` is `gitlab`
 --> vestibule.yaml:7:85
  |
7 |   - { name: backstage, upstream: "http://127.0.0.1:7007", credential: { gitlab_api: gitlab }, allow: ["gitlab:acme/**"] }
  |                                                                                     ^^^^^^ expected a provider with `membership.api`
  |
  = help: `gitlab` has none: write its token there"#;

    a_secret_is_not_for_everybody: credential("{ bearer: { file: secrets/gitlab } }").replace("\"gitlab:acme/**\"", "signed-in, public"), r#"
error: `routes[0].allow[1]` is `public`
 --> vestibule.yaml:7:128
  |
7 |   - { name: backstage, upstream: "http://127.0.0.1:7007", credential: { bearer: { file: secrets/gitlab } }, allow: [signed-in, public] }
  |                                                                                                                                ^^^^^^ expected somebody who is known, such as `signed-in`
  |
  = help: everybody would act with the secret of `credential`: remove `public`, or give the public pages a route without one"#;

    s99_a_secret_does_not_travel_in_clear_text: sent_to("{ urls: [\"http://127.0.0.1:1\", \"http://ledger:8080\"] }"), r#"
error: `routes[0].credential` would go in clear text: to `http://ledger:8080`
 --> vestibule.yaml:7:90
  |
7 | ...27.0.0.1:1", "http://ledger:8080"] }, credential: { bearer: { file: secrets/gitlab } }, allow: ["gitlab:acme/**"] }
  |                                          ^^^^^^^^^^ needs `https` that is verified, or loopback
  |
  = help: write `https` in `routes[0].upstream`, or let the upstream listen on loopback or on a Unix socket"#;

    s99_a_secret_goes_to_somebody_who_is_verified: sent_to("{ urls: [\"https://ledger\"], tls: { insecure_skip_verify: true } }"), r#"
error: `routes[0].credential` would go to whoever answers there: to `https://ledger`
 --> vestibule.yaml:7:101
  |
7 | ...ls: { insecure_skip_verify: true } }, credential: { bearer: { file: secrets/gitlab } }, allow: ["gitlab:acme/**"] }
  |                                          ^^^^^^^^^^ needs `https` that is verified, or loopback
  |
  = help: write `ca` in `routes[0].upstream.tls` in place of `insecure_skip_verify`"#;
}
