//! What mistakes about one kind of provider look like, and about what routes ask of sign-ins, word for word.

use super::{
    messages::shows,
    tests::{mistakes, with},
};

shows! {
    an_issuer_for_many_needs_its_tenants: with("kind: gitlab, issuer: https://gitlab.example.com", "kind: entra, issuer: https://login.microsoftonline.com/organizations/v2.0"), r#"
error: `providers[0].tenants` is missing, and `issuer` signs in people of every tenant
 --> vestibule.yaml:5:5
  |
5 |   - { name: gitlab, kind: entra, issuer: https://login.microsoftonline.com/organizations/v2.0, client_id: 0f2c6a, client_secret: { fi...
  |     ^ expected a key `tenants` here
  |
  = help: list the ids of the tenants whose people may come in, such as `[72f988bf-86f1-41af-91ab-2d7cd011db47]`"#;

    an_empty_list_of_tenants_lists_none: with("kind: gitlab, issuer: https://gitlab.example.com", "kind: entra, issuer: https://login.microsoftonline.com/common/v2.0, tenants: []"), r#"
error: `providers[0].tenants` is missing, and `issuer` signs in people of every tenant
 --> vestibule.yaml:5:98
  |
5 |   - { name: gitlab, kind: entra, issuer: https://login.microsoftonline.com/common/v2.0, tenants: [], client_id: 0f2c6a, client_secret...
  |                                                                                                  ^ expected a key `tenants` here
  |
  = help: list the ids of the tenants whose people may come in, such as `[72f988bf-86f1-41af-91ab-2d7cd011db47]`"#;

    a_tenant_is_a_guid: with("kind: gitlab, issuer: https://gitlab.example.com", "kind: entra, issuer: https://login.microsoftonline.com/common/v2.0, tenants: [acme.onmicrosoft.com]"), r#"
error: `providers[0].tenants[0]` is `acme.onmicrosoft.com`
 --> vestibule.yaml:5:99
  |
5 | ...0, tenants: [acme.onmicrosoft.com], client_id: 0f2c6a, client_secret: { file: secrets/gitlab } }
  |                 ^^^^^^^^^^^^^^^^^^^^ expected the id of a tenant, a GUID such as `72f988bf-86f1-41af-91ab-2d7cd011db47`"#;

    an_issuer_of_one_tenant_is_for_no_other: with("kind: gitlab, issuer: https://gitlab.example.com", "kind: entra, issuer: https://login.microsoftonline.com/72f988bf-86f1-41af-91ab-2d7cd011db47/v2.0, tenants: [9188040d-6c67-4c5b-b112-36a304b66dad]"), r#"
error: `providers[0].tenants[0]` is `9188040d-6c67-4c5b-b112-36a304b66dad`
 --> vestibule.yaml:5:129
  |
5 | ... tenants: [9188040d-6c67-4c5b-b112-36a304b66dad], client_id: 0f2c6a, client_secret: { file: secrets/gitlab } }
  |               ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ expected `72f988bf-86f1-41af-91ab-2d7cd011db47`, the tenant of `issuer`
  |
  = help: for people of several tenants write `issuer: https://login.microsoftonline.com/organizations/v2.0`"#;

    a_tenant_is_not_named_in_the_issuer: with("kind: gitlab, issuer: https://gitlab.example.com", "kind: entra, issuer: https://login.microsoftonline.com/acme.onmicrosoft.com/v2.0"), r#"
error: `providers[0].issuer` is `https://login.microsoftonline.com/acme.onmicrosoft.com/v2.0`
 --> vestibule.yaml:5:42
  |
5 | ...ssuer: https://login.microsoftonline.com/acme.onmicrosoft.com/v2.0, client_id: 0f2c6a, client_secret: { file: secrets/gitlab } }
  |           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ expected `https://login.microsoftonline.com/TENANT/v2.0`
  |
  = help: TENANT is the tenant's id, a GUID from its overview page; or `organizations` and the key `tenants`"#;

    the_former_endpoint_is_not_known: with("kind: gitlab, issuer: https://gitlab.example.com", "kind: entra, issuer: https://login.microsoftonline.com/72f988bf-86f1-41af-91ab-2d7cd011db47"), r#"
error: `providers[0].issuer` is `https://login.microsoftonline.com/72f988bf-86f1-41af-91ab-2d7cd011db47`
 --> vestibule.yaml:5:42
  |
5 | ..., kind: entra, issuer: https://login.microsoftonline.com/72f988bf-86f1-41af-91ab-2d7cd011db47, client_id: 0f2c6a, client_secret: {...
  |                           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ expected `https://login.microsoftonline.com/TENANT/v2.0`
  |
  = help: TENANT is the tenant's id, a GUID from its overview page; or `organizations` and the key `tenants`"#;

    private_accounts_have_a_tenant_of_their_own: with("kind: gitlab, issuer: https://gitlab.example.com", "kind: entra, issuer: https://login.microsoftonline.com/consumers/v2.0"), r#"
error: `providers[0].issuer` is `https://login.microsoftonline.com/consumers/v2.0`
 --> vestibule.yaml:5:42
  |
5 | ...ra, issuer: https://login.microsoftonline.com/consumers/v2.0, client_id: 0f2c6a, client_secret: { file: secrets/gitlab } }
  |                ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ expected `https://login.microsoftonline.com/TENANT/v2.0`
  |
  = help: for private accounts TENANT is `9188040d-6c67-4c5b-b112-36a304b66dad`"#;

    tenants_are_for_entra: with("client_id:", "tenants: [72f988bf-86f1-41af-91ab-2d7cd011db47], client_id:"), r#"
error: `providers[0].tenants` is for `kind: entra` only
 --> vestibule.yaml:5:71
  |
5 |   - { name: gitlab, kind: gitlab, issuer: https://gitlab.example.com, tenants: [72f988bf-86f1-41af-91ab-2d7cd011db47], client_id: 0f2...
  |                                                                       ^^^^^^^ does nothing here
  |
  = help: remove the key, or change `kind`"#;

    graph_is_for_entra: with("client_id:", "membership: { graph: {} }, client_id:"), r#"
error: `providers[0].membership.graph` is for `kind: entra` only
 --> vestibule.yaml:5:85
  |
5 |   - { name: gitlab, kind: gitlab, issuer: https://gitlab.example.com, membership: { graph: {} }, client_id: 0f2c6a, client_secret: { ...
  |                                                                                     ^^^^^ does nothing here
  |
  = help: remove the key, or change `kind`"#;

    graph_reads_no_roles: with("kind: gitlab, issuer: https://gitlab.example.com", "kind: entra, issuer: https://login.microsoftonline.com/72f988bf-86f1-41af-91ab-2d7cd011db47/v2.0, membership: { claim: roles, graph: {} }"), r#"
error: `providers[0].membership.claim` is `roles`
 --> vestibule.yaml:5:140
  |
5 | ...1db47/v2.0, membership: { claim: roles, graph: {} }, client_id: 0f2c6a, client_secret: { file: secrets/gitlab } }
  |                                     ^^^^^ expected `groups`, which is what `membership.graph` reads
  |
  = help: remove one of the two"#;

    graph_gets_secrets: with("kind: gitlab, issuer: https://gitlab.example.com", "kind: entra, issuer: https://login.microsoftonline.com/72f988bf-86f1-41af-91ab-2d7cd011db47/v2.0, membership: { graph: { url: 'http://graph.example.com' } }"), r#"
error: `providers[0].membership.graph.url` is `http://graph.example.com`
 --> vestibule.yaml:5:147
  |
5 | ...1db47/v2.0, membership: { graph: { url: 'http://graph.example.com' } }, client_id: 0f2c6a, client_secret: { file: secrets/gitlab } }
  |                                            ^^^^^^^^^^^^^^^^^^^^^^^^^^ expected an `https` URL
  |
  = help: secrets travel there: write `https`; `http` is for loopback only"#;

    entra_needs_profile: with("kind: gitlab, issuer: https://gitlab.example.com", "kind: entra, issuer: https://login.microsoftonline.com/72f988bf-86f1-41af-91ab-2d7cd011db47/v2.0, scopes: [openid]"), r#"
error: `providers[0].scopes` lacks `profile`
 --> vestibule.yaml:5:127
  |
5 | ...f988bf-86f1-41af-91ab-2d7cd011db47/v2.0, scopes: [openid], client_id: 0f2c6a, client_secret: { file: secrets/gitlab } }
  |                                                     ^ expected `profile` among these
  |
  = help: without it Entra does not say who somebody is: `oid`"#;

    hosted_domains_are_for_google: with("client_id:", "hosted_domains: [example.com], client_id:"), r#"
error: `providers[0].hosted_domains` is for `kind: google` only
 --> vestibule.yaml:5:71
  |
5 |   - { name: gitlab, kind: gitlab, issuer: https://gitlab.example.com, hosted_domains: [example.com], client_id: 0f2c6a, client_secret...
  |                                                                       ^^^^^^^^^^^^^^ does nothing here
  |
  = help: remove the key, or change `kind`"#;

    hosted_domains_are_domains: with("kind: gitlab, issuer: https://gitlab.example.com", "kind: google, issuer: https://accounts.google.com, hosted_domains: [example]").replace("\"gitlab:acme/**\"", "signed-in"), r#"
error: `providers[0].hosted_domains[0]` is `example`
 --> vestibule.yaml:5:89
  |
5 | ...://accounts.google.com, hosted_domains: [example], client_id: 0f2c6a, client_secret: { file: secrets/gitlab } }
  |                                             ^^^^^^^ expected a domain, such as `example.com`"#;

    no_hosted_domain_is_nobody: with("kind: gitlab, issuer: https://gitlab.example.com", "kind: google, issuer: https://accounts.google.com, hosted_domains: []").replace("\"gitlab:acme/**\"", "signed-in"), r#"
error: `providers[0].hosted_domains` is empty
 --> vestibule.yaml:5:88
  |
5 |   - { name: gitlab, kind: google, issuer: https://accounts.google.com, hosted_domains: [], client_id: 0f2c6a, client_secret: { file: ...
  |                                                                                        ^ expected at least one domain
  |
  = help: nobody could sign in: list your domains, such as `[example.com]`"#;

    google_has_one_issuer: with("kind: gitlab, issuer: https://gitlab.example.com", "kind: google, issuer: https://sso.example.com").replace("\"gitlab:acme/**\"", "signed-in"), r#"
error: `providers[0].issuer` is `https://sso.example.com`
 --> vestibule.yaml:5:43
  |
5 |   - { name: gitlab, kind: google, issuer: https://sso.example.com, client_id: 0f2c6a, client_secret: { file: secrets/gitlab } }
  |                                           ^^^^^^^^^^^^^^^^^^^^^^^ expected `https://accounts.google.com`
  |
  = help: any other provider is `kind: oidc`"#;

    google_says_nobodys_groups: with("kind: gitlab, issuer: https://gitlab.example.com", "kind: google, issuer: https://accounts.google.com"), r#"
error: `routes[0].allow[0]` is `gitlab:acme/**`
 --> vestibule.yaml:7:67
  |
7 |   - { name: backstage, upstream: "http://127.0.0.1:7007", allow: ["gitlab:acme/**"] }
  |                                                                   ^^^^^^^^^^^^^^^^ expected no group of `gitlab`, which says nobody's groups
  |
  = help: write the claim that lists them in `membership.claim`, if there is one"#;

    gitlab_gives_no_acr: with("allow:", "step_up: { acr: mfa }, allow:"), r#"
error: `routes[0].step_up.acr` cannot be had of `gitlab`, whose people come here
 --> vestibule.yaml:7:70
  |
7 |   - { name: backstage, upstream: "http://127.0.0.1:7007", step_up: { acr: mfa }, allow: ["gitlab:acme/**"] }
  |                                                                      ^^^ expected a provider that gives `acr`
  |
  = help: write `max_age`, or leave the provider out of this route's `providers`"#;

    google_gives_no_auth_time: with("kind: gitlab, issuer: https://gitlab.example.com", "kind: google, issuer: https://accounts.google.com").replace("\"gitlab:acme/**\"", "signed-in").replace("allow:", "step_up: { max_age: 15m }, allow:"), r#"
error: `routes[0].step_up.max_age` cannot be had of `gitlab`, whose people come here
 --> vestibule.yaml:7:70
  |
7 |   - { name: backstage, upstream: "http://127.0.0.1:7007", step_up: { max_age: 15m }, allow: [signed-in] }
  |                                                                      ^^^^^^^ expected a provider that gives `auth_time`
  |
  = help: leave the provider out of this route's `providers`"#;

    a_step_up_asks_for_something: with("allow:", "step_up: {}, allow:"), r#"
error: `routes[0].step_up` asks for nothing
 --> vestibule.yaml:7:59
  |
7 |   - { name: backstage, upstream: "http://127.0.0.1:7007", step_up: {}, allow: ["gitlab:acme/**"] }
  |                                                           ^^^^^^^ expected `acr`, `max_age` or both"#;

    a_step_up_has_bounds: with("kind: gitlab", "kind: okta").replace("allow:", "step_up: { acr: 'a b', max_age: 10s }, allow:"), r#"
error: `routes[0].step_up.acr` is `a b`
 --> vestibule.yaml:7:75
  |
7 |   - { name: backstage, upstream: "http://127.0.0.1:7007", step_up: { acr: 'a b', max_age: 10s }, allow: ["gitlab:acme/**"] }
  |                                                                           ^^^^^ expected one class, such as `urn:okta:loa:2fa:any`: no spaces, quotes or `\`

error: `routes[0].step_up.max_age` is `10s`
 --> vestibule.yaml:7:91
  |
7 |   - { name: backstage, upstream: "http://127.0.0.1:7007", step_up: { acr: 'a b', max_age: 10s }, allow: ["gitlab:acme/**"] }
  |                                                                                           ^^^ expected a duration from `1m` to `30d`"#;

    a_step_up_is_not_public: with("\"gitlab:acme/**\"", "public").replace("allow:", "step_up: { max_age: 15m }, allow:"), r#"
error: `routes[0].step_up` asks for a sign-in, and `allow` lets everybody in
 --> vestibule.yaml:7:59
  |
7 |   - { name: backstage, upstream: "http://127.0.0.1:7007", step_up: { max_age: 15m }, allow: [public] }
  |                                                           ^^^^^^^ expected a route without `public`
  |
  = help: remove one of the two, or give the public pages a route of their own"#;
}
