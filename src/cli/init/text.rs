//! The text of what `init` writes.

use super::draft::{Draft, Field, scalar};
use crate::{
    config::Allow,
    route::{GroupPattern, Route},
};

/// `vestibule.yaml`, with the secret in the file `secret`.
pub(super) fn configuration(draft: &Draft, secret: &str) -> String {
    let of = |field| scalar(draft.get(field));
    format!(
        "\
# The configuration of Vestibule.
#
#   vestibule check           what is wrong with it, each mistake with its line and what to do
#   vestibule check --live    whether the provider, the upstream and this machine are ready for it
#   vestibule config show     the same with all defaults
#   vestibule config schema   every key there is
#
# `vestibule run` takes a changed file within two seconds, or says why not and goes on with the old one.

# What people type into their browser.
public_url: {public_url}

{listening}listen: {listen}
{trusted}
# Health and metrics, for this machine only.
# operations: {{ address: 127.0.0.1:9090 }}

# Who signs people in.
providers:
  - name: {name} # begins the ids of its people and groups
    kind: {kind}
    issuer: {issuer}
    client_id: {client_id}
    client_secret: {{ file: {secret} }}
{particular}
# What people come for. Who may, and what they may do there, is written in `policies`.
routes:
  - name: portal
    upstream: {upstream}
    # Is it a Backstage, it reads errors of this shape, and is told which of its users somebody is:
    # body: backstage
    # backstage_user: \"user:default/{{login}}\"

policies: ./policies

# How long people stay signed in.
# sessions: {{ idle: 30m, absolute: 8h }}

# Where sessions and the audit trail are kept, and the keys that seal and sign them. Both are made at the first start.
# state: ./state
# keys: ./keys
",
        public_url = of(Field::PublicUrl),
        listening = if draft.is_behind() { BEHIND } else { PLAIN },
        listen = scalar(&draft.listen()),
        trusted = if draft.is_behind() { "trusted_proxies: [127.0.0.1]\n" } else { "" },
        name = draft.provider(),
        kind = of(Field::Kind),
        issuer = of(Field::Issuer),
        client_id = of(Field::ClientId),
        secret = scalar(secret),
        particular = draft.particular(),
        upstream = of(Field::Upstream),
    )
}

const BEHIND: &str = "\
# What ends TLS stands in front, on this machine: it passes requests on to this address and says
# `X-Forwarded-Proto: https`. If it stands elsewhere, write
#
#   listen: 0.0.0.0:8080
#   trusted_proxies: [10.0.0.0/8] # its addresses
#
# and where nothing stands in front, TLS ends here:
#
#   listen:
#     - { address: \"0.0.0.0:443\", tls: { certificate: tls/fullchain.pem, key: tls/key.pem } }
";

const PLAIN: &str = "\
# Plain http never leaves this machine. For others to come, write an `https` URL above.
";

/// `policies/portal.cedar`: one permit for everything that was answered, and ideas for what comes next.
pub(super) fn policies(draft: &Draft, routes: &[Route]) -> String {
    let allowed = routes.iter().flat_map(|route| &route.allow).enumerate();
    let permits: Vec<String> = allowed.map(|(index, allow)| permit(index, allow)).collect();
    let by_group = match draft.get(Field::Kind) {
        "google" => String::new(), // it says nobody's groups
        "entra" => POLICIES_GROUP.replace("GROUP", "entra:72f988bf-86f1-41af-91ab-2d7cd011db47"),
        _ => POLICIES_GROUP.replace("GROUP", &format!("{}:acme/platform", draft.provider())),
    };
    format!("{}\n{}\n{}", POLICIES_HEAD, permits.join("\n"), POLICIES_MORE.replace("BY GROUP\n", &by_group))
}

fn permit(index: usize, allow: &Allow) -> String {
    let (principal, reason, remedy) = match allow {
        Allow::Public => ("principal".to_owned(), "Everybody may see the portal.".to_owned(), None),
        Allow::SignedIn => {
            ("principal is User".to_owned(), "The portal is open to everybody who is signed in.".to_owned(), None)
        }
        Allow::Groups(GroupPattern::Group(provider, path)) => (
            format!("principal is User in Group::{}", quoted(&format!("{provider}:{path}"))),
            format!("The portal is open to members of {path}."),
            Some(format!("Ask an owner of {path} to add you.")),
        ),
        Allow::Role(provider, path, role) => (
            format!("principal is User in Role::{}", quoted(&format!("{provider}:{path}#{}", role.as_str()))),
            format!("The portal is open to those who are {} of {path}, or more.", role.as_str()),
            Some(format!("Ask an owner of {path} for the role.")),
        ),
        Allow::Groups(GroupPattern::Tree(provider, path)) => (
            format!("principal is User in Namespace::{}", quoted(&format!("{provider}:{path}"))),
            format!("The portal is open to everybody in {path} and the groups below it."),
            Some(format!("Ask an owner of {path}, or of one of its groups, to add you.")),
        ),
    };
    let id = if index == 0 { "portal".to_owned() } else { format!("portal-{}", index + 1) };
    let remedy = remedy.map_or_else(String::new, |remedy| format!("@remedy({})\n", quoted(&remedy)));
    format!(
        "@id(\"{id}\")\n@reason({})\n{remedy}permit ({principal}, action, resource == Route::\"portal\");\n",
        quoted(&reason)
    )
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.escape_default())
}

const POLICIES_HEAD: &str = "\
// Who may do what. What no policy permits is refused; a `forbid` wins over every `permit`.
//
//     principal  who asks: `User in Group::\"…\"` is a member of that group, `User in Namespace::\"…\"` of it or any below
//     action     what they do: \"read\" is GET, HEAD and OPTIONS; \"write\" is everything else
//     resource   a route of the configuration, by its name
//
// The audit trail names a policy by its `@id`; who is refused reads its `@reason` and `@remedy`.
// `vestibule policy check` tells every mistake. After a change of `labels` in the configuration:
// `vestibule policy schema > policies/vestibule.cedarschema`
";

const POLICIES_GROUP: &str = "\
// What only one group may change: write `action in Action::\"read\"` in place of `action` above, and
//
// @id(\"portal-changes-by-platform\")
// @reason(\"Only the platform team changes things in the portal.\")
// permit (principal is User in Group::\"GROUP\", action in Action::\"write\", resource == Route::\"portal\");
//
";

const POLICIES_MORE: &str = "\
// Pages that anybody may read, signed in or not:
//
// @id(\"public-pages\")
// @reason(\"Everything below /public/ may be read by anybody.\")
// permit (principal, action in Action::\"read\", resource == Route::\"portal\")
// when { context.path like \"/public/*\" };
//
BY GROUP
// What nobody may do from elsewhere, whatever else is permitted:
//
// @id(\"admin-from-the-office\")
// @reason(\"Pages for administrators are open from the office network only.\")
// forbid (principal, action, resource == Route::\"portal\")
// when { context.path_folded == \"/admin\" || context.path_folded like \"/admin/*\" }
// unless { context.client_ip.isInRange(ip(\"10.0.0.0/8\")) };
";
