//! What every mistake looks like, word for word.

use super::tests::{START, mistakes, with};

/// One test: the name is the claim, then the configuration, then all that is shown.
macro_rules! shows {
    ($($name:ident: $text:expr, $shown:expr;)*) => {
        $(#[test]
        fn $name() {
            assert_eq!(mistakes(&$text), $shown.trim_start());
        })*
    };
}

pub(super) use shows;

shows! {
    broken_yaml_is_shown_where_it_breaks: with("[10.0.0.0/8]", "[10.0.0.0/8"), r#"
error: this cannot be read as YAML
 --> vestibule.yaml:4:10
  |
4 | providers:
  |          ^ illegal placement of ':' indicator"#;

    an_open_quote_is_shown_where_it_breaks: with("\"http://127.0.0.1:7007\"", "\"http://127.0.0.1:7007"), r#"
error: this cannot be read as YAML
 --> vestibule.yaml:7:67
  |
7 |   - { name: backstage, upstream: "http://127.0.0.1:7007, allow: ["gitlab:acme/**"] }
  |                                                                   ^ invalid trailing content after double-quoted scalar"#;

    an_empty_file_lacks_all_that_is_required: "", r#"
error: `public_url` is missing
 --> vestibule.yaml:1:1
  |
1 |
  | ^ expected a key `public_url` here
  |
  = help: the origin that people see, such as `https://portal.example.com`: no path. Plain `http` only on loopback

error: `listen` is missing
 --> vestibule.yaml:1:1
  |
1 |
  | ^ expected a key `listen` here
  |
  = help: where to listen, such as `0.0.0.0:8080`, or a list of `{ address: … }`

error: `routes` is missing
 --> vestibule.yaml:1:1
  |
1 |
  | ^ expected a key `routes` here
  |
  = help: what is asked for and where it is forwarded, at least one. The most specific host and path wins

error: `providers` is missing
 --> vestibule.yaml:1:1
  |
1 |
  | ^ expected at least one provider
  |
  = help: or `token_issuers`, where nobody signs in and all callers have tokens"#;

    a_document_is_a_mapping: "- a\n", r#"
error: the document is a list
 --> vestibule.yaml:1:3
  |
1 | - a
  |   ^ expected a mapping"#;

    an_unknown_key_has_a_nearest_name: with("allow:", "alow:"), r#"
error: `routes[0].alow` is not a known key
 --> vestibule.yaml:7:59
  |
7 |   - { name: backstage, upstream: "http://127.0.0.1:7007", alow: ["gitlab:acme/**"] }
  |                                                           ^^^^ did you mean `allow`?"#;

    an_unknown_key_without_a_near_name_lists_all: format!("{START}colour: red\n"), r#"
error: `colour` is not a known key
 --> vestibule.yaml:8:1
  |
8 | colour: red
  | ^^^^^^ not known
  |
  = help: known here: `audit`, `contact`, `drain`, `hsts`, `keys`, `limits`, `listen`, `operations`, `policies`, `providers`, `public_url`, `routes`, `sessions`, `shadow_policies`, `state`, `token_issuers`, `trusted_proxies`, `workers`"#;

    every_doubled_key_is_shown: format!("{START}listen: 127.0.0.1:1\nlisten: 127.0.0.1:2\n"), r#"
error: `listen` is written twice
 --> vestibule.yaml:8:1
  |
8 | listen: 127.0.0.1:1
  | ^^^^^^ second time
  |
  = help: line 2 has it already: keep one of the two

error: `listen` is written twice
 --> vestibule.yaml:9:1
  |
9 | listen: 127.0.0.1:2
  | ^^^^^^ second time
  |
  = help: line 2 has it already: keep one of the two"#;

    a_secret_needs_its_file: with("secrets/gitlab", "secrets/gitlob"), r#"
error: `providers[0].client_secret.file` is `secrets/gitlob`
 --> vestibule.yaml:5:113
  |
5 |   - { name: gitlab, kind: gitlab, issuer: https://gitlab.example.com, client_id: 0f2c6a, client_secret: { file: secrets/gitlob } }
  |                                                                                                                 ^^^^^^^^^^^^^^ expected a file with the secret
  |
  = help: there is no file `secrets/gitlob`: create it with mode 0600"#;

    a_secret_is_not_empty: with("secrets/gitlab", "secrets/empty"), r#"
error: `providers[0].client_secret.file` is `secrets/empty`
 --> vestibule.yaml:5:113
  |
5 |   - { name: gitlab, kind: gitlab, issuer: https://gitlab.example.com, client_id: 0f2c6a, client_secret: { file: secrets/empty } }
  |                                                                                                                 ^^^^^^^^^^^^^ expected a file with the secret
  |
  = help: `secrets/empty` is empty: put the secret there, on one line"#;

    a_literal_secret_is_refused_and_not_shown: with("{ file: secrets/gitlab }", "hunter2"), r#"
error: `providers[0].client_secret` is a literal
 --> vestibule.yaml:5:105
  |
5 |   - { name: gitlab, kind: gitlab, issuer: https://gitlab.example.com, client_id: 0f2c6a, client_secret: ******* *
  |                                                                                                         ^^^^^^^ expected a mapping with the key `env` or `file`
  |
  = help: a secret is never written here: put it into a file and write `{ file: PATH }`"#;

    broken_yaml_shows_no_secret: with("{ file: secrets/gitlab }", "${GITLAB_SECRET}"), r#"
error: this cannot be read as YAML
 --> vestibule.yaml:5:106
  |
5 |   - { name: gitlab, kind: gitlab, issuer: https://gitlab.example.com, client_id: 0f2c6a, client_secret: **************** *
  |                                                                                                          ^ while parsing a flow mapping, did not find expected ',' or '}'"#;

    a_secret_has_a_source: with("{ file: secrets/gitlab }", "{}"), r#"
error: `providers[0].client_secret` has no source
 --> vestibule.yaml:5:90
  |
5 |   - { name: gitlab, kind: gitlab, issuer: https://gitlab.example.com, client_id: 0f2c6a, client_secret: {} }
  |                                                                                          ^^^^^^^^^^^^^ expected `{ file: PATH }` or `{ env: NAME }`"#;

    a_secret_has_one_source: with("{ file: secrets/gitlab }", "{ file: secrets/gitlab, env: A }"), r#"
error: `providers[0].client_secret` has two sources
 --> vestibule.yaml:5:90
  |
5 | ...lab.example.com, client_id: 0f2c6a, client_secret: * ***** *************** **** * * *
  |                                        ^^^^^^^^^^^^^ expected `{ file: PATH }` or `{ env: NAME }`"#;

    a_secret_needs_its_variable: with("{ file: secrets/gitlab }", "{ env: GITLAB_SECRET }"), r#"
error: `providers[0].client_secret.env` is `GITLAB_SECRET`
 --> vestibule.yaml:5:112
  |
5 |   - { name: gitlab, kind: gitlab, issuer: https://gitlab.example.com, client_id: 0f2c6a, client_secret: { env: GITLAB_SECRET } }
  |                                                                                                                ^^^^^^^^^^^^^ expected an environment variable with the secret
  |
  = help: the environment variable `GITLAB_SECRET` is not set"#;

    a_list_is_a_list: with("[10.0.0.0/8]", "10.0.0.0/8"), r#"
error: `trusted_proxies` is `10.0.0.0/8`
 --> vestibule.yaml:3:18
  |
3 | trusted_proxies: 10.0.0.0/8
  |                  ^^^^^^^^^^ expected a list
  |
  = help: write a list, such as `[a, b]`"#;

    yes_is_not_true: with("allow:", "encoded_slash: yes, allow:"), r#"
error: `routes[0].encoded_slash` is `yes`
 --> vestibule.yaml:7:74
  |
7 |   - { name: backstage, upstream: "http://127.0.0.1:7007", encoded_slash: yes, allow: ["gitlab:acme/**"] }
  |                                                                          ^^^ expected `true` or `false`
  |
  = help: write `true`, without quotes"#;

    a_key_has_a_value: with("trusted_proxies: [10.0.0.0/8]", "trusted_proxies:"), r#"
error: `trusted_proxies` has no value
 --> vestibule.yaml:3:1
  |
3 | trusted_proxies:
  | ^^^^^^^^^^^^^^^ expected a list
  |
  = help: write a value, or remove the key"#;

    an_unknown_kind_has_a_nearest_name: with("kind: gitlab", "kind: gitlap"), r#"
error: `providers[0].kind` is `gitlap`
 --> vestibule.yaml:5:27
  |
5 |   - { name: gitlab, kind: gitlap, issuer: https://gitlab.example.com, client_id: 0f2c6a, client_secret: { file: secrets/gitlab } }
  |                           ^^^^^^ expected `gitlab`, `okta`, `entra`, `keycloak`, `google` or `oidc`
  |
  = help: did you mean `gitlab`?"#;

    a_key_of_a_later_version_is_named: with("allow:", "kind: console, allow:"), r#"
error: `routes[0].kind` is not supported by this version
 --> vestibule.yaml:7:59
  |
7 |   - { name: backstage, upstream: "http://127.0.0.1:7007", kind: console, allow: ["gitlab:acme/**"] }
  |                                                           ^^^^ not supported
  |
  = help: remove the key: every route has an upstream"#;

    keys_about_tokens_need_an_issuer: with("allow:", "basic: true, allow:"), r#"
error: `routes[0].basic` is about tokens, and this route takes none
 --> vestibule.yaml:7:59
  |
7 |   - { name: backstage, upstream: "http://127.0.0.1:7007", basic: true, allow: ["gitlab:acme/**"] }
  |                                                           ^^^^^ expected `token_issuers` beside it
  |
  = help: name the issuers of tokens in `token_issuers` of this route, or remove the key"#;

    a_key_of_another_certificate_is_refused: with("listen: 0.0.0.0:8080", "listen:\n  - address: 0.0.0.0:8443\n    tls: { certificate: tls/portal.pem, key: tls/apps.key }"), r#"
error: `listen[0].tls.key` is `tls/apps.key`
 --> vestibule.yaml:4:46
  |
4 |     tls: { certificate: tls/portal.pem, key: tls/apps.key }
  |                                              ^^^^^^^^^^^^ expected the private key of the certificate
  |
  = help: `tls/apps.key` is the key of another certificate than `tls/portal.pem`: put the pair in place together"#;

    an_encrypted_key_is_refused: with("listen: 0.0.0.0:8080", "listen:\n  - address: 0.0.0.0:8443\n    tls: { certificate: tls/portal.pem, key: tls/locked.key }"), r#"
error: `listen[0].tls.key` is `tls/locked.key`
 --> vestibule.yaml:4:46
  |
4 |     tls: { certificate: tls/portal.pem, key: tls/locked.key }
  |                                              ^^^^^^^^^^^^^^ expected a private key that is not encrypted
  |
  = help: `tls/locked.key` is encrypted, and there is nobody to type its password: decrypt it with `openssl pkey`"#;

    half_a_pair_is_refused: with("listen: 0.0.0.0:8080", "listen:\n  - address: 0.0.0.0:8443\n    tls: { certificate: tls/none.pem }"), r#"
error: `listen[0].tls.key` is missing
 --> vestibule.yaml:4:5
  |
4 |     tls: { certificate: tls/none.pem }
  |     ^^^ expected `{ certificate: FILE, key: FILE }`

error: `listen[0].tls.certificate` is `tls/none.pem`
 --> vestibule.yaml:4:25
  |
4 |     tls: { certificate: tls/none.pem }
  |                         ^^^^^^^^^^^^ expected a file with the certificate and its chain in PEM
  |
  = help: there is no file `tls/none.pem`"#;

    a_broken_certificate_is_refused: with("listen: 0.0.0.0:8080", "listen:\n  - address: 0.0.0.0:8443\n    tls: { certificate: tls/broken.pem, key: tls/apps.key }"), r#"
error: `listen[0].tls.certificate` is `tls/broken.pem`
 --> vestibule.yaml:4:25
  |
4 |     tls: { certificate: tls/broken.pem, key: tls/apps.key }
  |                         ^^^^^^^^^^^^^^ expected certificates in PEM
  |
  = help: `tls/broken.pem` holds a certificate that cannot be read"#;

    client_certificates_need_tls: with("listen: 0.0.0.0:8080", "listen:\n  - address: 0.0.0.0:8443\n    client_certificates: { ca: tls/portal.pem }"), r#"
error: `listen[0].client_certificates` is set, and this listener has no `tls`
 --> vestibule.yaml:4:5
  |
4 |     client_certificates: { ca: tls/portal.pem }
  |     ^^^^^^^^^^^^^^^^^^^ expected a key `tls` beside it
  |
  = help: a client shows its certificate while TLS begins: write `tls: { certificate: FILE, key: FILE }`"#;

    a_key_is_no_authority: with("listen: 0.0.0.0:8080", "listen:\n  - address: 0.0.0.0:8443\n    tls: { certificate: tls/portal.pem, key: tls/portal.key }\n    client_certificates: { ca: tls/portal.key }"), r#"
error: `listen[0].client_certificates.ca` is `tls/portal.key`
 --> vestibule.yaml:5:32
  |
5 |     client_certificates: { ca: tls/portal.key }
  |                                ^^^^^^^^^^^^^^ expected certificates in PEM
  |
  = help: `tls/portal.key` holds no certificate"#;

    a_place_to_listen_at_is_checked: with("listen: 0.0.0.0:8080", "listen: [{ address: unix:relative }, { address: 'systemd:' }, { address: ':8080' }]"), r#"
error: `listen[0].address` is `unix:relative`
 --> vestibule.yaml:2:21
  |
2 | listen: [{ address: unix:relative }, { address: 'systemd:' }, { address: ':8080' }]
  |                     ^^^^^^^^^^^^^ expected `unix:` and a path of less than 108 bytes that begins with `/`

error: `listen[1].address` is `systemd:`
 --> vestibule.yaml:2:49
  |
2 | listen: [{ address: unix:relative }, { address: 'systemd:' }, { address: ':8080' }]
  |                                                 ^^^^^^^^^^ expected `systemd:` and the `FileDescriptorName` of the socket's unit

error: `listen[2].address` is `:8080`
 --> vestibule.yaml:2:74
  |
2 | listen: [{ address: unix:relative }, { address: 'systemd:' }, { address: ':8080' }]
  |                                                                          ^^^^^^^ expected an address and a port, such as `127.0.0.1:8080` or `[::]:8080`
  |
  = help: write `0.0.0.0:8080` for all addresses"#;

    the_proxy_protocol_needs_trusted_proxies: with("trusted_proxies: [10.0.0.0/8]\n", "").replace("listen: 0.0.0.0:8080", "listen: [{ address: 0.0.0.0:8080, proxy_protocol: true }]"), r#"
error: `trusted_proxies` is empty, and a listener has `proxy_protocol`
 --> vestibule.yaml:1:1
  |
1 | public_url: https://portal.example.com
  | ^^^^^^^^^^ expected the addresses of the balancers
  |
  = help: who connects to `0.0.0.0:8080` can say that it is anybody: list who may, such as `[10.0.0.0/8]`"#;

    plain_http_and_tls_do_not_go_together: with("https://portal.example.com", "http://localhost:8443").replace("listen: 0.0.0.0:8080", "listen:\n  - address: 127.0.0.1:8443\n    tls: { certificate: tls/portal.pem, key: tls/portal.key }"), r#"
error: `listen[0].address` is `127.0.0.1:8443`
 --> vestibule.yaml:3:14
  |
3 |   - address: 127.0.0.1:8443
  |              ^^^^^^^^^^^^^^ expected a listener without `tls`
  |
  = help: `public_url` is plain http: write its `https` URL there, or leave out `tls` here"#;

    no_origin_is_everybody: with("allow:", "cors: { origins: ['*'], methods: [put] }, allow:"), r#"
error: `routes[0].cors.origins[0]` is `*`
 --> vestibule.yaml:7:77
  |
7 |   - { name: backstage, upstream: "http://127.0.0.1:7007", cors: { origins: ['*'], methods: [put] }, allow: ["gitlab:acme/**"] }
  |                                                                             ^^^ expected an origin, such as `https://app.example.com`
  |
  = help: with `*` every page could read what this route answers: list the origins"#;

    no_page_in_every_frame: with("allow:", "frame: { ancestors: ['*'] }, allow:"), r#"
error: `routes[0].frame.ancestors[0]` is `*`
 --> vestibule.yaml:7:80
  |
7 |   - { name: backstage, upstream: "http://127.0.0.1:7007", frame: { ancestors: ['*'] }, allow: ["gitlab:acme/**"] }
  |                                                                                ^^^ expected an origin, such as `https://intranet.example.com`
  |
  = help: with `*` every page could show this route's and lead a person's clicks: list the origins"#;

    an_empty_frame_is_no_frame: with("allow:", "frame: { ancestors: [] }, allow:"), r#"
error: `routes[0].frame.ancestors` is empty
 --> vestibule.yaml:7:79
  |
7 |   - { name: backstage, upstream: "http://127.0.0.1:7007", frame: { ancestors: [] }, allow: ["gitlab:acme/**"] }
  |                                                                               ^ expected at least one origin
  |
  = help: remove `frame` where no other page shows this route's"#;

    idle_is_a_word_or_a_list: with("allow:", "idle: never, allow:"), r#"
error: `routes[0].idle` is `never`
 --> vestibule.yaml:7:65
  |
7 |   - { name: backstage, upstream: "http://127.0.0.1:7007", idle: never, allow: ["gitlab:acme/**"] }
  |                                                                 ^^^^^ expected `navigations`, `any` or a list of paths
  |
  = help: a path that counts beside navigations stands in a list: `["/api/activity"]`"#;

    grace_has_paths: with("allow:", "grace: { paths: ['static/*'] }, allow:"), r#"
error: `routes[0].grace.paths[0]` is `static/*`
 --> vestibule.yaml:7:76
  |
7 |   - { name: backstage, upstream: "http://127.0.0.1:7007", grace: { paths: ['static/*'] }, allow: ["gitlab:acme/**"] }
  |                                                                            ^^^^^^^^^^ expected a path, such as `/api/activity`, or `/static/*` for all below
  |
  = help: it begins with `/`, and `*` stands for all that follows"#;

    a_template_names_somebody: with("allow:", "backstage_user: \"user:default/{name}\", allow:"), r#"
error: `routes[0].backstage_user` is `user:default/{name}`
 --> vestibule.yaml:7:75
  |
7 |   - { name: backstage, upstream: "http://127.0.0.1:7007", backstage_user: "user:default/{name}", allow: ["gitlab:acme/**"] }
  |                                                                           ^^^^^^^^^^^^^^^^^^^^^ expected a template, such as `user:default/{login}`
  |
  = help: known are `{login}`, `{subject}` and `{email_local}`"#;

    a_role_is_one_of_five: with("gitlab:acme/**", "gitlab:acme#maintaner"), r#"
error: `routes[0].allow[0]` is `gitlab:acme#maintaner`
 --> vestibule.yaml:7:67
  |
7 |   - { name: backstage, upstream: "http://127.0.0.1:7007", allow: ["gitlab:acme#maintaner"] }
  |                                                                   ^^^^^^^^^^^^^^^^^^^^^^^ expected `PROVIDER:group#ROLE`, with a role of `guest`, `reporter`, `developer`, `maintainer`, `owner`
  |
  = help: did you mean `gitlab:acme#maintainer`?"#;

    an_unknown_provider_has_a_nearest_name: with("gitlab:acme/**", "gitlib:acme"), r#"
error: `routes[0].allow[0]` is `gitlib:acme`
 --> vestibule.yaml:7:67
  |
7 |   - { name: backstage, upstream: "http://127.0.0.1:7007", allow: ["gitlib:acme"] }
  |                                                                   ^^^^^^^^^^^^^ expected the provider `gitlab`
  |
  = help: did you mean `gitlab`?"#;

    every_entry_of_allow_is_checked: with("[\"gitlab:acme/**\"]", "[acme, pubic, \"gitlab:a/*\", \"gitlab:/a\"]"), r#"
error: `routes[0].allow[0]` is `acme`
 --> vestibule.yaml:7:67
  |
7 |   - { name: backstage, upstream: "http://127.0.0.1:7007", allow: [acme, pubic, "gitlab:a/*", "gitlab:/a"] }
  |                                                                   ^^^^ expected `public`, `signed-in`, `PROVIDER:group` or `PROVIDER:group/**`
  |
  = help: a group is written with its provider: `gitlab:acme`

error: `routes[0].allow[1]` is `pubic`
 --> vestibule.yaml:7:73
  |
7 |   - { name: backstage, upstream: "http://127.0.0.1:7007", allow: [acme, pubic, "gitlab:a/*", "gitlab:/a"] }
  |                                                                         ^^^^^ expected `public`, `signed-in`, `PROVIDER:group` or `PROVIDER:group/**`
  |
  = help: did you mean `public`?

error: `routes[0].allow[2]` is `gitlab:a/*`
 --> vestibule.yaml:7:80
  |
7 |   - { name: backstage, upstream: "http://127.0.0.1:7007", allow: [acme, pubic, "gitlab:a/*", "gitlab:/a"] }
  |                                                                                ^^^^^^^^^^^^ expected `PROVIDER:group` or `PROVIDER:group/**`
  |
  = help: `*` stands only in `/**` at the end: the group and all below it

error: `routes[0].allow[3]` is `gitlab:/a`
 --> vestibule.yaml:7:94
  |
7 |   - { name: backstage, upstream: "http://127.0.0.1:7007", allow: [acme, pubic, "gitlab:a/*", "gitlab:/a"] }
  |                                                                                              ^^^^^^^^^^^ expected `PROVIDER:group` or `PROVIDER:group/**`
  |
  = help: leave out the first `/`"#;

    durations_have_units_and_bounds: format!("{START}sessions: {{ idle: 30, absolute: 8 hours }}\ndrain: 20m\n"), r#"
error: `sessions.idle` is `30`
 --> vestibule.yaml:8:19
  |
8 | sessions: { idle: 30, absolute: 8 hours }
  |                   ^^ expected a duration with its unit, such as `30m`
  |
  = help: write `30s` for seconds

error: `sessions.absolute` is `8 hours`
 --> vestibule.yaml:8:33
  |
8 | sessions: { idle: 30, absolute: 8 hours }
  |                                 ^^^^^^^ expected a duration with its unit, such as `30m`
  |
  = help: the units are `ms`, `s`, `m`, `h` and `d`, written right after a whole number

error: `drain` is `20m`
 --> vestibule.yaml:9:8
  |
9 | drain: 20m
  |        ^^^ expected a duration from `0s` to `10m`"#;

    idle_is_not_longer_than_absolute: format!("{START}sessions: {{ idle: 2h, absolute: 1h }}\n"), r#"
error: `sessions.idle` is `2h`
 --> vestibule.yaml:8:19
  |
8 | sessions: { idle: 2h, absolute: 1h }
  |                   ^^ expected at most `1h`
  |
  = help: a session without activity would outlive `sessions.absolute`"#;

    routes_do_not_overlap: format!("{START}  - {{ name: other, host: portal.example.com, upstream: \"http://b\" }}\n").replace("backstage,", "backstage, host: portal.example.com, path: /,"), r#"
error: `routes[1]` and `routes[0]` both answer to `portal.example.com/`
 --> vestibule.yaml:8:5
  |
8 |   - { name: other, host: portal.example.com, upstream: "http://b" }
  |     ^ overlaps
  |
  = help: give it another `path` or `host` than the route on line 7 has; upper and lower case are the same here"#;

    several_routes_say_their_hosts: format!("{START}  - {{ name: other, path: /v1/, upstream: \"http://b\" }}\n"), r#"
error: `routes[0].host` is missing
 --> vestibule.yaml:7:5
  |
7 |   - { name: backstage, upstream: "http://127.0.0.1:7007", allow: ["gitlab:acme/**"] }
  |     ^ expected a key `host` here
  |
  = help: with several routes each says its host, such as `host: portal.example.com`

error: `routes[1].host` is missing
 --> vestibule.yaml:8:5
  |
8 |   - { name: other, path: /v1/, upstream: "http://b" }
  |     ^ expected a key `host` here
  |
  = help: with several routes each says its host, such as `host: portal.example.com`"#;

    our_own_paths_are_not_routed: with("allow:", "path: /.vestibule/x, allow:"), r#"
error: `routes[0].path` is `/.vestibule/x`
 --> vestibule.yaml:7:65
  |
7 |   - { name: backstage, upstream: "http://127.0.0.1:7007", path: /.vestibule/x, allow: ["gitlab:acme/**"] }
  |                                                                 ^^^^^^^^^^^^^ expected a path that is not ours
  |
  = help: nothing below `/.vestibule/` is ever forwarded: choose another path"#;

    plain_http_is_for_loopback: with("https://portal.example.com", "http://portal.example.com"), r#"
error: `public_url` is `http://portal.example.com`
 --> vestibule.yaml:1:13
  |
1 | public_url: http://portal.example.com
  |             ^^^^^^^^^^^^^^^^^^^^^^^^^ expected an `https` URL
  |
  = help: plain http is for `localhost`, `*.localhost`, `127.0.0.0/8` and `::1` only"#;

    plain_http_listens_on_loopback_only: with("https://portal.example.com", "http://localhost:8080"), r#"
error: `listen` is `0.0.0.0:8080`
 --> vestibule.yaml:2:9
  |
2 | listen: 0.0.0.0:8080
  |         ^^^^^^^^^^^^ expected a loopback address, such as `127.0.0.1:8080`
  |
  = help: `public_url` is plain http, which never leaves this machine: change this address, or write an `https` URL there"#;

    a_plain_listener_needs_trusted_proxies: with("trusted_proxies: [10.0.0.0/8]\n", ""), r#"
error: `trusted_proxies` is empty, and `public_url` is https
 --> vestibule.yaml:1:1
  |
1 | public_url: https://portal.example.com
  | ^^^^^^^^^^ expected the addresses of what terminates TLS
  |
  = help: `listen` takes plain http on `0.0.0.0:8080`: list the proxy in front of it, such as `[10.0.0.0/8]`, or give it `tls`"#;

    nobody_trusts_everybody: with("10.0.0.0/8", "0.0.0.0/0, 10.0.0.1/8"), r#"
error: `trusted_proxies[0]` is `0.0.0.0/0`
 --> vestibule.yaml:3:19
  |
3 | trusted_proxies: [0.0.0.0/0, 10.0.0.1/8]
  |                   ^^^^^^^^^ expected the addresses of the proxies in front
  |
  = help: with this everybody could say who they are and whence they come: list the proxies themselves

error: `trusted_proxies[1]` is `10.0.0.1/8`
 --> vestibule.yaml:3:30
  |
3 | trusted_proxies: [0.0.0.0/0, 10.0.0.1/8]
  |                              ^^^^^^^^^^ expected the first address of the network, `10.0.0.0/8`
  |
  = help: write `10.0.0.0/8` for the network, or `10.0.0.1` for the one address"#;

    something_permits: with(", allow: [\"gitlab:acme/**\"]", ""), r#"
error: `policies` is missing, and no route has `allow`: nothing would be permitted
 --> vestibule.yaml:1:1
  |
1 | public_url: https://portal.example.com
  | ^^^^^^^^^^ expected a key `policies` here
  |
  = help: write `policies: ./policies`, or `allow` on a route"#;

    policies_are_there: format!("{START}policies: ./polices\n"), r#"
error: `policies` is `./polices`
 --> vestibule.yaml:8:11
  |
8 | policies: ./polices
  |           ^^^^^^^^^ expected the directory of `*.cedar` files
  |
  = help: there is no directory `polices`"#;

    workers_have_bounds: format!("{START}workers: 0\n"), r#"
error: `workers` is `0`
 --> vestibule.yaml:8:10
  |
8 | workers: 0
  |          ^ expected a whole number from 1 to 1024"#;

    a_password_in_a_url_is_not_shown: with("issuer: https://gitlab.example.com", "issuer: http://me:hunter2@gitlab.example.com"), r#"
error: `providers[0].issuer` is `http://***@gitlab.example.com`
 --> vestibule.yaml:5:43
  |
5 | ...itlab, issuer: http://**********@gitlab.example.com, client_id: 0f2c6a, client_secret: { file: secrets/gitlab } }
  |                   ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ expected the issuer's URL, such as `https://gitlab.example.com`
  |
  = help: leave out the user name and password"#;

    names_are_unique: format!("{START}  - {{ name: backstage, host: a.example.com, upstream: \"http://b\" }}\n").replace("backstage, up", "backstage, host: a.b, up"), r#"
error: `routes[1].name` is `backstage`
 --> vestibule.yaml:8:13
  |
8 |   - { name: backstage, host: a.example.com, upstream: "http://b" }
  |             ^^^^^^^^^ expected a name of its own
  |
  = help: `routes[0].name` on line 7 has it already"#;

    all_mistakes_are_shown_in_order: with("listen: 0.0.0.0:8080", "listn: 0.0.0.0:8080").replace("kind: gitlab", "kind: gitlub").replace("acme/**", "acme/**#owner") + "sessions: { idle: 5 }\n", r#"
error: `listn` is not a known key
 --> vestibule.yaml:2:1
  |
2 | listn: 0.0.0.0:8080
  | ^^^^^ did you mean `listen`?

error: `providers[0].kind` is `gitlub`
 --> vestibule.yaml:5:27
  |
5 |   - { name: gitlab, kind: gitlub, issuer: https://gitlab.example.com, client_id: 0f2c6a, client_secret: { file: secrets/gitlab } }
  |                           ^^^^^^ expected `gitlab`, `okta`, `entra`, `keycloak`, `google` or `oidc`
  |
  = help: did you mean `gitlab`?

error: `routes[0].allow[0]` is `gitlab:acme/**#owner`
 --> vestibule.yaml:7:67
  |
7 |   - { name: backstage, upstream: "http://127.0.0.1:7007", allow: ["gitlab:acme/**#owner"] }
  |                                                                   ^^^^^^^^^^^^^^^^^^^^^^ expected `PROVIDER:group#ROLE`, with a role of `guest`, `reporter`, `developer`, `maintainer`, `owner`
  |
  = help: a role is one group's: write `gitlab:acme#owner`

error: `sessions.idle` is `5`
 --> vestibule.yaml:8:19
  |
8 | sessions: { idle: 5 }
  |                   ^ expected a duration with its unit, such as `30m`
  |
  = help: write `5s` for seconds"#;

    a_key_is_not_empty: format!("{START}~: 1\n"), r#"
error: this cannot be read as YAML
 --> vestibule.yaml:8:1
  |
8 | ~: 1
  | ^ a key cannot be empty"#;

    a_bad_name_comes_with_a_good_one: with("name: backstage", "name: Back Stage"), r#"
error: `routes[0].name` is `Back Stage`
 --> vestibule.yaml:7:13
  |
7 |   - { name: Back Stage, upstream: "http://127.0.0.1:7007", allow: ["gitlab:acme/**"] }
  |             ^^^^^^^^^^ expected a lower-case letter, then letters, digits and `-`, at most 63 in all
  |
  = help: write `back-stage`"#;

    several_providers_need_one_for_the_headers: START.replace("routes:", "  - { name: b, kind: oidc, issuer: https://b, client_id: c, client_secret: { env: OKTA_SECRET } }\nroutes:"), r#"
error: `routes[0].header_provider` is missing, and this route takes people of several providers
 --> vestibule.yaml:8:5
  |
8 |   - { name: backstage, upstream: "http://127.0.0.1:7007", allow: ["gitlab:acme/**"] }
  |     ^ expected a key `header_provider` here
  |
  = help: identity headers such as `X-Forwarded-User` are sent for people of one provider only: write `header_provider: gitlab` or another"#;

    a_secret_in_place_of_a_variable_is_not_shown: with("{ file: secrets/gitlab }", "{ env: hunter-2 }"), r#"
error: `providers[0].client_secret.env` is not a name
 --> vestibule.yaml:5:112
  |
5 |   - { name: gitlab, kind: gitlab, issuer: https://gitlab.example.com, client_id: 0f2c6a, client_secret: * **** ******** * *
  |                                                                                                                ^^^^^^^^ expected letters, digits and `_`
  |
  = help: write the name of the environment variable; the secret itself is never written here"#;

    a_missing_key_is_described: with("upstream: \"http://127.0.0.1:7007\", ", ""), r#"
error: `routes[0].upstream` is missing
 --> vestibule.yaml:7:5
  |
7 |   - { name: backstage, allow: ["gitlab:acme/**"] }
  |     ^ expected a key `upstream` here
  |
  = help: where requests go, such as `http://127.0.0.1:7007`, or `{ urls: [URL] }`"#;

    nothing_is_substituted: with("0f2c6a", "\"${CLIENT_ID}\""), r#"
error: `providers[0].client_id` contains `${CLIENT_ID}`
 --> vestibule.yaml:5:82
  |
5 |   - { name: gitlab, kind: gitlab, issuer: https://gitlab.example.com, client_id: "${CLIENT_ID}", client_secret: { file: secrets/gitla...
  |                                                                                  ^^^^^^^^^^^^^^ `${…}` is not replaced by anything
  |
  = help: write the value itself; a secret can be `{ env: NAME }`"#;

    a_file_has_one_document: format!("{START}---\na: b\n"), r#"
error: this cannot be read as YAML
 --> vestibule.yaml:9:1
  |
9 | a: b
  | ^ multiple YAML documents detected"#;

    a_secret_in_place_of_a_key_is_not_shown: with("{ file: secrets/gitlab }", "{ hunter2 }"), r#"
error: `providers[0].client_secret` has a key that is not known
 --> vestibule.yaml:5:90
  |
5 |   - { name: gitlab, kind: gitlab, issuer: https://gitlab.example.com, client_id: 0f2c6a, client_secret: * ******* * *
  |                                                                                          ^^^^^^^^^^^^^ expected `{ file: PATH }` or `{ env: NAME }`"#;

    labels_can_be_named_in_policies: with("allow:", "labels: { a-b: c }, allow:"), r#"
error: `routes[0].labels` has the label `a-b`
 --> vestibule.yaml:7:69
  |
7 |   - { name: backstage, upstream: "http://127.0.0.1:7007", labels: { a-b: c }, allow: ["gitlab:acme/**"] }
  |                                                                     ^^^ expected a letter or `_`, then letters, digits and `_`
  |
  = help: policies name it as an attribute of the route"#;
}
