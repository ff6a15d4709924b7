//! The text of what `init` writes.

use super::draft::{Draft, Field, scalar};
use crate::{
    config::Allow,
    group::Role,
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
    let id = id(index);
    let remedy = remedy.map_or_else(String::new, |remedy| format!("@remedy({})\n", quoted(&remedy)));
    format!(
        "@id(\"{id}\")\n@reason({})\n{remedy}permit (\n  {principal},\n  action,\n  resource == Route::\"portal\"\n);\n",
        quoted(&reason)
    )
}

/// The id of the permit that stands for the answer at `index`.
fn id(index: usize) -> String {
    if index == 0 { "portal".to_owned() } else { format!("portal-{}", index + 1) }
}

/// `policies/tests/portal.yaml`: somebody for everything that was answered, and those whom nothing lets in.
pub(super) fn cases(routes: &[Route]) -> String {
    let allowed: Vec<&Allow> = routes.iter().flat_map(|route| &route.allow).collect();
    let insider = |(index, allow): (usize, &&Allow)| {
        let member = member(allow)?;
        let name = if index == 0 { "insider".to_owned() } else { format!("insider-{}", index + 1) };
        Some((name, member))
    };
    let insiders: Vec<_> = allowed.iter().enumerate().filter_map(insider).collect();
    let people = insiders.iter().map(|(name, member)| format!("  {name}: {{ {} }}\n", member.written()));
    let asked = insiders.iter().map(|(name, member)| (name.as_str(), Some(member)));
    let stranger = Member::default();
    let asked = asked.chain([("stranger", Some(&stranger)), ("anonymous", None)]);
    let cases = asked.map(|(name, member)| {
        let by = allowed.iter().enumerate().filter(|(_, allow)| lets_in(allow, member));
        let by: Vec<_> = by.map(|(index, _)| id(index)).collect();
        let decided = match by.as_slice() {
            [] => "deny".to_owned(),
            by => format!("permit, by: [{}]", by.join(", ")),
        };
        format!("  - {{ as: {name}, request: GET /, expect: {decided} }}\n")
    });
    CASES.replace("PEOPLE\n", &people.collect::<String>()).replace("CASES\n", &cases.collect::<String>())
}

/// What somebody is a member of.
#[derive(Default)]
struct Member {
    group: Option<String>,
    role: Option<&'static str>,
}

impl Member {
    /// As a case file has it.
    fn written(&self) -> String {
        match (&self.group, self.role) {
            (None, _) => "groups: []".to_owned(),
            (Some(group), None) => format!("groups: [{}]", scalar(group)),
            (Some(group), Some(role)) => format!("roles: {{ {}: {role} }}", scalar(group)),
        }
    }
}

/// Somebody whom this answer lets in and who is in no other group; none where everybody is let in.
fn member(allow: &Allow) -> Option<Member> {
    match allow {
        Allow::Public | Allow::SignedIn => None,
        Allow::Groups(GroupPattern::Group(_, path) | GroupPattern::Tree(_, path)) => {
            Some(Member { group: Some(path.to_string()), role: None })
        }
        Allow::Role(_, path, role) => Some(Member { group: Some(path.to_string()), role: Some(role.as_str()) }),
    }
}

/// Whether this answer lets somebody in; nobody is signed in where there is no member.
fn lets_in(allow: &Allow, member: Option<&Member>) -> bool {
    let group = member.and_then(|member| member.group.as_deref());
    match allow {
        Allow::Public => true,
        Allow::SignedIn => member.is_some(),
        Allow::Groups(GroupPattern::Group(_, path)) => group == Some(path.as_str()),
        Allow::Groups(GroupPattern::Tree(_, path)) => {
            group.and_then(|group| group.parse().ok()).is_some_and(|group| path.contains(&group))
        }
        Allow::Role(_, path, role) => {
            let held = member.and_then(|member| member.role).and_then(|held| held.parse::<Role>().ok());
            group == Some(path.as_str()) && held.is_some_and(|held| held >= *role)
        }
    }
}

const CASES: &str = "\
# What the policies have to decide: who asks for what, and what comes of it.
#
#   vestibule policy test            runs this, and says which policies decide nothing here
#   vestibule policy test --mutate   says which changes of a policy nobody would notice
#
# `groups` are those that the provider would list. `anonymous` is whoever is not signed in.
people:
PEOPLE
  stranger: { groups: [] }
cases:
CASES
";

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
// `vestibule policy check` tells every mistake; `vestibule policy fmt` lays policies out. After a change of `labels`
// in the configuration:
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
