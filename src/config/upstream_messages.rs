//! What every mistake in an upstream looks like, word for word.

use super::{
    messages::shows,
    tests::{mistakes, with},
};

fn upstream(text: &str) -> String {
    with("\"http://127.0.0.1:7007\"", text)
}

shows! {
    an_upstream_begins_with_what_is_spoken: with("\"http://127.0.0.1:7007\"", "tcp://127.0.0.1:7007"), r#"
error: `routes[0].upstream` is `tcp://127.0.0.1:7007`
 --> vestibule.yaml:7:34
  |
7 |   - { name: backstage, upstream: tcp://127.0.0.1:7007, allow: ["gitlab:acme/**"] }
  |                                  ^^^^^^^^^^^^^^^^^^^^ expected the upstream's URL, such as `http://127.0.0.1:7007`
  |
  = help: it begins with `https://` or `http://`"#;

    an_upstream_has_no_path: with("\"http://127.0.0.1:7007\"", "http://a/b"), r#"
error: `routes[0].upstream` is `http://a/b`
 --> vestibule.yaml:7:34
  |
7 |   - { name: backstage, upstream: http://a/b, allow: ["gitlab:acme/**"] }
  |                                  ^^^^^^^^^^ expected the upstream's URL, such as `http://127.0.0.1:7007`
  |
  = help: the upstream gets the path that was asked for: leave out what follows the host"#;

    a_socket_has_an_absolute_path: with("\"http://127.0.0.1:7007\"", "unix:run/portal.sock"), r#"
error: `routes[0].upstream` is `unix:run/portal.sock`
 --> vestibule.yaml:7:34
  |
7 |   - { name: backstage, upstream: unix:run/portal.sock, allow: ["gitlab:acme/**"] }
  |                                  ^^^^^^^^^^^^^^^^^^^^ expected the upstream's URL, such as `http://127.0.0.1:7007`
  |
  = help: a socket is written as `unix:/run/portal.sock`: an absolute path of at most 107 bytes"#;

    an_upstream_has_a_url: upstream("{ urls: [] }"), r#"
error: `routes[0].upstream.urls` is empty
 --> vestibule.yaml:7:42
  |
7 |   - { name: backstage, upstream: { urls: [] }, allow: ["gitlab:acme/**"] }
  |                                          ^ expected at least one URL"#;

    an_upstream_is_not_ourselves: upstream("{ urls: [\"http://0.0.0.0:8080\", \"http://a\", \"http://A:80\"] }"), r#"
error: `routes[0].upstream.urls[0]` is `http://0.0.0.0:8080`
 --> vestibule.yaml:7:43
  |
7 |   - { name: backstage, upstream: { urls: ["http://0.0.0.0:8080", "http://a", "http://A:80"] }, allow: ["gitlab:acme/**"] }
  |                                           ^^^^^^^^^^^^^^^^^^^^^ expected another address than our own
  |
  = help: here we listen ourselves

error: `routes[0].upstream.urls[2]` is `http://A:80`
 --> vestibule.yaml:7:78
  |
7 |   - { name: backstage, upstream: { urls: ["http://0.0.0.0:8080", "http://a", "http://A:80"] }, allow: ["gitlab:acme/**"] }
  |                                                                              ^^^^^^^^^^^^^ expected every URL once"#;

    all_urls_are_of_one_kind: upstream("{ urls: [\"http://a\", \"https://a\", \"unix:/a\"] }"), r#"
error: `routes[0].upstream.urls[1]` is `https://a`
 --> vestibule.yaml:7:55
  |
7 |   - { name: backstage, upstream: { urls: ["http://a", "https://a", "unix:/a"] }, allow: ["gitlab:acme/**"] }
  |                                                       ^^^^^^^^^^^ expected a URL of the same kind as the first
  |
  = help: one upstream is spoken to in one way: all `http`, all `https` or all `unix`

error: `routes[0].upstream.urls[2]` is `unix:/a`
 --> vestibule.yaml:7:68
  |
7 |   - { name: backstage, upstream: { urls: ["http://a", "https://a", "unix:/a"] }, allow: ["gitlab:acme/**"] }
  |                                                                    ^^^^^^^^^ expected a URL of the same kind as the first
  |
  = help: one upstream is spoken to in one way: all `http`, all `https` or all `unix`"#;

    a_health_check_has_a_path: upstream("{ urls: [\"http://a\"], health: healthz }"), r#"
error: `routes[0].upstream.health` is `healthz`
 --> vestibule.yaml:7:64
  |
7 |   - { name: backstage, upstream: { urls: ["http://a"], health: healthz }, allow: ["gitlab:acme/**"] }
  |                                                                ^^^^^^^ expected a path, such as `/healthz`
  |
  = help: it begins with `/`: the host is that of each URL"#;

    a_health_check_has_limits: upstream("{ urls: [\"http://a\"], health: { path: /h, interval: 1ms, timeout: 5, healthy: 0 } }"), r#"
error: `routes[0].upstream.health.interval` is `1ms`
 --> vestibule.yaml:7:86
  |
7 |   - { name: backstage, upstream: { urls: ["http://a"], health: { path: /h, interval: 1ms, timeout: 5, healthy: 0 } }, allow: ["gitlab...
  |                                                                                      ^^^ expected a duration from `100ms` to `1h`

error: `routes[0].upstream.health.timeout` is `5`
 --> vestibule.yaml:7:100
  |
7 | ...th: { path: /h, interval: 1ms, timeout: 5, healthy: 0 } }, allow: ["gitlab:acme/**"] }
  |                                            ^ expected a duration with its unit, such as `30m`
  |
  = help: write `5s` for seconds

error: `routes[0].upstream.health.healthy` is `0`
 --> vestibule.yaml:7:112
  |
7 | ...ath: /h, interval: 1ms, timeout: 5, healthy: 0 } }, allow: ["gitlab:acme/**"] }
  |                                                 ^ expected a whole number from 1 to 100"#;

    an_upstream_has_limits: upstream("{ urls: [\"http://a\"], connections: 0, retries: 11, slow_start: soon }"), r#"
error: `routes[0].upstream.connections` is `0`
 --> vestibule.yaml:7:69
  |
7 |   - { name: backstage, upstream: { urls: ["http://a"], connections: 0, retries: 11, slow_start: soon }, allow: ["gitlab:acme/**"] }
  |                                                                     ^ expected a whole number from 1 to 1000000

error: `routes[0].upstream.retries` is `11`
 --> vestibule.yaml:7:81
  |
7 |   - { name: backstage, upstream: { urls: ["http://a"], connections: 0, retries: 11, slow_start: soon }, allow: ["gitlab:acme/**"] }
  |                                                                                 ^^ expected a whole number from 0 to 10

error: `routes[0].upstream.slow_start` is `soon`
 --> vestibule.yaml:7:97
  |
7 |   - { name: backstage, upstream: { urls: ["http://a"], connections: 0, retries: 11, slow_start: soon }, allow: ["gitlab:acme/**"] }
  |                                                                                                 ^^^^ expected a duration with its unit, such as `30m`
  |
  = help: the units are `ms`, `s`, `m`, `h` and `d`, written right after a whole number"#;

    tls_is_for_https: upstream("{ urls: [\"http://a\"], tls: { ca: tls/ca.pem } }"), r#"
error: `routes[0].upstream.tls` is there, and the upstream is in clear text
 --> vestibule.yaml:7:56
  |
7 |   - { name: backstage, upstream: { urls: ["http://a"], tls: { ca: tls/ca.pem } }, allow: ["gitlab:acme/**"] }
  |                                                        ^^^ expected `https` URLs with it
  |
  = help: write `https` in every URL, or remove the key"#;

    a_file_of_tls_is_there: upstream("{ urls: [\"https://a\"], tls: { ca: tls/nowhere.pem } }"), r#"
error: `routes[0].upstream.tls.ca` is `tls/nowhere.pem`
 --> vestibule.yaml:7:68
  |
7 |   - { name: backstage, upstream: { urls: ["https://a"], tls: { ca: tls/nowhere.pem } }, allow: ["gitlab:acme/**"] }
  |                                                                    ^^^^^^^^^^^^^^^ expected a file in PEM
  |
  = help: there is no file `tls/nowhere.pem`"#;

    an_authority_is_a_certificate: upstream("{ urls: [\"https://a\"], tls: { ca: tls/text.pem } }"), r#"
error: `routes[0].upstream.tls.ca` is `tls/text.pem`
 --> vestibule.yaml:7:68
  |
7 |   - { name: backstage, upstream: { urls: ["https://a"], tls: { ca: tls/text.pem } }, allow: ["gitlab:acme/**"] }
  |                                                                    ^^^^^^^^^^^^ expected certificates of authorities in PEM
  |
  = help: it holds no certificate in PEM"#;

    every_authority_is_whole: upstream("{ urls: [\"https://a\"], tls: { ca: tls/cut.pem } }"), r#"
error: `routes[0].upstream.tls.ca` is `tls/cut.pem`
 --> vestibule.yaml:7:68
  |
7 |   - { name: backstage, upstream: { urls: ["https://a"], tls: { ca: tls/cut.pem } }, allow: ["gitlab:acme/**"] }
  |                                                                    ^^^^^^^^^^^ expected certificates of authorities in PEM
  |
  = help: its certificate number 2 is broken"#;

    a_certificate_has_its_key: upstream("{ urls: [\"https://a\"], tls: { ca: tls/ca.pem, certificate: tls/us.pem } }"), r#"
error: `routes[0].upstream.tls.certificate` is there without `routes[0].upstream.tls.key`
 --> vestibule.yaml:7:80
  |
7 |   - { name: backstage, upstream: { urls: ["https://a"], tls: { ca: tls/ca.pem, certificate: tls/us.pem } }, allow: ["gitlab:acme/**"] }
  |                                                                                ^^^^^^^^^^^ expected a key `key` beside it
  |
  = help: a client certificate is two files: the certificate with its chain, and its key"#;

    a_key_has_its_certificate: upstream("{ urls: [\"https://a\"], tls: { ca: tls/ca.pem, key: tls/us.key } }"), r#"
error: `routes[0].upstream.tls.key` is there without `routes[0].upstream.tls.certificate`
 --> vestibule.yaml:7:80
  |
7 |   - { name: backstage, upstream: { urls: ["https://a"], tls: { ca: tls/ca.pem, key: tls/us.key } }, allow: ["gitlab:acme/**"] }
  |                                                                                ^^^ expected a key `certificate` beside it
  |
  = help: a client certificate is two files: the certificate with its chain, and its key"#;

    certificate_and_key_belong_together: upstream("{ urls: [\"https://a\"], tls: { ca: tls/ca.pem, certificate: tls/us.pem, key: tls/other.key } }"), r#"
error: `routes[0].upstream.tls.key` is `tls/other.key`
 --> vestibule.yaml:7:110
  |
7 | ...pem, certificate: tls/us.pem, key: tls/other.key } }, allow: ["gitlab:acme/**"] }
  |                                       ^^^^^^^^^^^^^ expected the key of the certificate beside it
  |
  = help: it does not belong to the certificate"#;

    a_key_is_a_key: upstream("{ urls: [\"https://a\"], tls: { ca: tls/ca.pem, certificate: tls/us.pem, key: tls/text.pem } }"), r#"
error: `routes[0].upstream.tls.key` is `tls/text.pem`
 --> vestibule.yaml:7:110
  |
7 | ....pem, certificate: tls/us.pem, key: tls/text.pem } }, allow: ["gitlab:acme/**"] }
  |                                        ^^^^^^^^^^^^ expected a private key in PEM, not encrypted
  |
  = help: it holds no private key in PEM"#;

    a_certificate_is_a_certificate: upstream("{ urls: [\"https://a\"], tls: { ca: tls/ca.pem, certificate: tls/us.key, key: tls/us.key } }"), r#"
error: `routes[0].upstream.tls.certificate` is `tls/us.key`
 --> vestibule.yaml:7:93
  |
7 | ...ls: { ca: tls/ca.pem, certificate: tls/us.key, key: tls/us.key } }, allow: ["gitlab:acme/**"] }
  |                                       ^^^^^^^^^^ expected a certificate in PEM, its chain after it
  |
  = help: it holds no certificate in PEM"#;

    a_name_of_tls_is_a_host: upstream("{ urls: [\"https://a\"], tls: { ca: tls/ca.pem, name: \"https://a\" } }"), r#"
error: `routes[0].upstream.tls.name` is `https://a`
 --> vestibule.yaml:7:86
  |
7 |   - { name: backstage, upstream: { urls: ["https://a"], tls: { ca: tls/ca.pem, name: "https://a" } }, allow: ["gitlab:acme/**"] }
  |                                                                                      ^^^^^^^^^^^ expected a host name or an address, such as `portal.internal`
  |
  = help: it is what the upstream's certificate is made out to: no scheme, no port"#;

    what_is_verified_is_not_skipped: upstream("{ urls: [\"https://a\"], tls: { ca: tls/ca.pem, insecure_skip_verify: true } }"), r#"
error: `routes[0].upstream.tls.ca` is there, and `routes[0].upstream.tls.insecure_skip_verify` is `true`
 --> vestibule.yaml:7:64
  |
7 |   - { name: backstage, upstream: { urls: ["https://a"], tls: { ca: tls/ca.pem, insecure_skip_verify: true } }, allow: ["gitlab:acme/*...
  |                                                                ^^ expected one of the two
  |
  = help: with `ca` nothing needs to be skipped: remove `insecure_skip_verify`"#;

    turning_tls_off_is_spelt_out: upstream("{ urls: [\"https://a\"], tls: { skip_verify: true } }"), r#"
error: `routes[0].upstream.tls.skip_verify` is not a known key
 --> vestibule.yaml:7:64
  |
7 |   - { name: backstage, upstream: { urls: ["https://a"], tls: { skip_verify: true } }, allow: ["gitlab:acme/**"] }
  |                                                                ^^^^^^^^^^^ not known
  |
  = help: known here: `ca`, `certificate`, `insecure_skip_verify`, `key`, `name`"#;

    a_host_header_is_a_host: with("allow:", "host_header: \"http://a\", allow:"), r#"
error: `routes[0].host_header` is `http://a`
 --> vestibule.yaml:7:72
  |
7 |   - { name: backstage, upstream: "http://127.0.0.1:7007", host_header: "http://a", allow: ["gitlab:acme/**"] }
  |                                                                        ^^^^^^^^^^ expected `preserve`, `upstream` or a host, such as `portal.internal` or `portal.internal:8080`
  |
  = help: leave out the scheme"#;

    a_host_header_has_two_words: with("allow:", "host_header: preserved, allow:"), r#"
error: `routes[0].host_header` is `preserved`
 --> vestibule.yaml:7:72
  |
7 |   - { name: backstage, upstream: "http://127.0.0.1:7007", host_header: preserved, allow: ["gitlab:acme/**"] }
  |                                                                        ^^^^^^^^^ expected `preserve`, `upstream` or a host, such as `portal.internal` or `portal.internal:8080`
  |
  = help: did you mean `preserve`?"#;

    a_host_header_has_a_port_that_exists: with("allow:", "host_header: \"a:99999\", allow:"), r#"
error: `routes[0].host_header` is `a:99999`
 --> vestibule.yaml:7:72
  |
7 |   - { name: backstage, upstream: "http://127.0.0.1:7007", host_header: "a:99999", allow: ["gitlab:acme/**"] }
  |                                                                        ^^^^^^^^^ expected `preserve`, `upstream` or a host, such as `portal.internal` or `portal.internal:8080`"#;
}
