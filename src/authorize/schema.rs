//! The Cedar schema, generated from the configuration.

use crate::route::Route;
use cedar_policy::Schema;
use std::collections::BTreeSet;

/// Words that Cedar does not accept as a bare attribute name.
const RESERVED: [&str; 11] = ["true", "false", "if", "then", "else", "in", "is", "like", "has", "__cedar", "null"];

/// The schema as Cedar text. The same routes give the same text, in whatever order they stand.
pub(super) fn text(routes: &[Route]) -> String {
    let labels: BTreeSet<&str> = routes.iter().flat_map(|route| route.labels.keys().map(String::as_str)).collect();
    let labels: Vec<_> = labels.into_iter().map(|label| format!("{}?: String", attribute(label))).collect();
    let labels = if labels.is_empty() { String::new() } else { format!(" = {{ {} }}", labels.join(", ")) };
    SCHEMA.replace(" = LABELS", &labels).replace("BODY", &body(routes))
}

/// The declared fields of the bodies of all routes.
fn body(routes: &[Route]) -> String {
    let rules = routes.iter().flat_map(|route| &*route.body_fields);
    let names: BTreeSet<&str> = rules.flat_map(|rule| &rule.fields).map(|field| &*field.name).collect();
    let fields: Vec<_> = names.into_iter().map(|name| format!("{}?: String", attribute(name))).collect();
    if fields.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", fields.join(", ")) }
}

/// The same where the context has these truth values too.
pub(super) fn with_flags(routes: &[Route], flags: &BTreeSet<String>) -> Result<Schema, String> {
    let flags: String = flags.iter().map(|flag| format!("  {}: Bool,\n", attribute(flag))).collect();
    let text = text(routes).replacen("  body: ", &format!("{flags}  body: "), 1);
    let (schema, _) = Schema::from_cedarschema_str(&text).map_err(|error| error.to_string())?;
    Ok(schema)
}

/// The schema as Cedar uses it.
pub(super) fn schema(routes: &[Route]) -> Result<Schema, String> {
    let (schema, _) = Schema::from_cedarschema_str(&text(routes)).map_err(|error| error.to_string())?;
    Ok(schema)
}

/// A name as the schema writes it: bare where it can be.
fn attribute(name: &str) -> String {
    let bare = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !RESERVED.contains(&name);
    if bare { name.to_owned() } else { format!("\"{}\"", name.escape_debug()) }
}

const SCHEMA: &str = r#"// What policies can be written about. Generated from the configuration; do not edit:
//
//     vestibule policy schema > policies/vestibule.cedarschema

// Nobody known: no credential, or a session that is over.
entity Anonymous;

// A person. `email` is present only if the provider has verified it.
entity User in [Group, Role, Namespace] = {
  provider: String,
  subject: String,
  login: String,
  email?: String,
  name?: String,
};

// A CI job. `user` is the person who started it; all other names are GitLab's.
entity Job in [Project] = {
  user: User,
  ref: String,
  ref_type: String,
  ref_protected: Bool,
  pipeline_source: String,
  runner_id: Long,
  runner_environment: String,
  project_id: Long,
  job_id: Long,
  sha: String,
  environment?: String,
  environment_protected?: Bool,
  deployment_tier?: String,
  environment_action?: String,
  ci_config_ref_uri?: String,
  source_project?: String,
};

// A machine with a token of its own.
entity Service in [Group] = { issuer: String, client_id: String, scopes: Set<String> };

// Effective membership of one group: direct, inherited from above, or invited. `Group::"gitlab:acme/platform"`.
entity Group;

// At least this level in this group. `Role::"gitlab:acme/platform#maintainer"`.
entity Role in [Role];

// Anywhere at or below this group. `Namespace::"gitlab:acme"`.
entity Namespace in [Namespace];

// One project. `Project::"gitlab:acme/shop/api"`.
entity Project in [Namespace];

// What is asked for: a route of the configuration, with its labels.
entity Route = LABELS;

// The operators' own pages.
entity Console;

// The request. `path` is as sent; `path_folded` is in lower case without one trailing slash.
// `session_age` is in seconds. `tls_subject` and `tls_spiffe_id` are those of the client's certificate, where a listener asks for one.
type Request = {
  host: String,
  path: String,
  path_folded: String,
  query: String,
  client_ip: ipaddr,
  now: datetime,
  session_age?: Long,
  amr: Set<String>,
  acr?: String,
  auth_time?: datetime,
  class: String,
  tls_subject?: String,
  tls_spiffe_id?: String,
  body: BODY,
};

action read;
action write;

action GET, HEAD, OPTIONS in [read] appliesTo {
  principal: [Anonymous, User, Job, Service],
  resource: [Route, Console],
  context: Request,
};

// `connect` is an upgrade, such as a WebSocket.
action POST, PUT, PATCH, DELETE, connect in [write] appliesTo {
  principal: [Anonymous, User, Job, Service],
  resource: [Route, Console],
  context: Request,
};
"#;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authorize::testing::{route, with_body};

    #[test]
    fn labels_of_all_routes_become_optional_attributes_in_one_order() {
        let mut routes = [route("a"), route("b")];
        routes[0].labels.insert("tier".into(), "production".into());
        routes[1].labels.insert("owner team".into(), "x".into());
        routes[1].labels.insert("in".into(), "x".into());
        let schema = text(&routes);
        assert!(
            schema.contains(r#"entity Route = { "in"?: String, "owner team"?: String, tier?: String };"#),
            "{schema}"
        );
        routes.reverse();
        assert_eq!(text(&routes), schema);
        assert!(Schema::from_cedarschema_str(&schema).is_ok());
    }

    /// Each declared field is an attribute that may be absent; without any, `body` is there and has none.
    #[test]
    fn declared_fields_of_all_routes_become_optional_attributes() {
        let mut routes =
            [with_body(route("a"), &["template_ref", "in"]), with_body(route("b"), &["template_ref", "owner"])];
        let schema = text(&routes);
        assert!(schema.contains(r#"  body: { "in"?: String, owner?: String, template_ref?: String },"#), "{schema}");
        routes.reverse();
        assert_eq!(text(&routes), schema);
        assert!(Schema::from_cedarschema_str(&schema).is_ok());
        assert!(text(&[route("a")]).contains("  body: {},\n"));
    }

    #[test]
    fn routes_without_labels_make_a_schema_too() {
        let schema = text(&[route("a")]);
        assert!(schema.contains("entity Route;"), "{schema}");
        let (_, warnings) = Schema::from_cedarschema_str(&schema).expect("the schema parses");
        assert_eq!(warnings.count(), 0);
    }
}
