//! The JSON Schema as people and editors use it: every key with its description, its default and an example.

use super::{
    schema::{schema_type, shape},
    tree::{self, Node, Value},
};
use serde_json::{Map, Value as Json, json};

/// A configuration with every key of this version; a test demands it.
pub(super) const EXAMPLE: &str = include_str!("example.yaml");

/// A longer example says less.
const LONGEST: usize = 200;

/// The JSON Schema of the configuration (draft 2020-12). A default stands in `default` where it is one value, and in the
/// description in any case; `examples` are those of [`EXAMPLE`].
pub fn schema() -> Json {
    let mut schema = shape();
    let example = tree::parse(EXAMPLE).ok();
    describe(&mut schema, "", &Vec::from_iter(&example));
    schema
}

/// Goes through the shape and a configuration together, so that every key meets its example.
fn describe(root: &mut Json, at: &str, nodes: &[&Node]) {
    let Some(reference) = root.pointer(at).and_then(|it| it.get("$ref")).and_then(Json::as_str) else {
        return describe_here(root, at, nodes);
    };
    let target = reference.trim_start_matches('#').to_owned();
    describe_here(root, &target, nodes);
}

fn describe_here(root: &mut Json, at: &str, nodes: &[&Node]) {
    let Some(here) = root.pointer(at) else { return };
    let branches = here.get("anyOf").and_then(Json::as_array).map_or(0, Vec::len);
    let has_items = here.get("items").is_some();
    let here_is_named = here.get("additionalProperties").is_some_and(Json::is_object);
    let keys: Vec<String> =
        here.get("properties").and_then(Json::as_object).into_iter().flat_map(Map::keys).cloned().collect();
    for branch in 0..branches {
        describe(root, &format!("{at}/anyOf/{branch}"), nodes);
    }
    if has_items {
        let within: Vec<&Node> = nodes.iter().flat_map(|node| items(node)).collect();
        describe(root, &format!("{at}/items"), &within);
    }
    if here_is_named {
        let within: Vec<&Node> = nodes.iter().flat_map(|node| members(node)).collect();
        describe(root, &format!("{at}/additionalProperties"), &within);
    }
    for key in keys {
        let below_it: Vec<&Node> = nodes.iter().filter_map(|node| member(node, &key)).collect();
        let path = format!("{at}/properties/{key}");
        describe(root, &path, &below_it);
        let default = root.pointer(&path).and_then(|it| default(root, it));
        let examples: Vec<Json> =
            below_it.iter().filter_map(|node| root.pointer(&path).map(|it| typed(root, it, node))).collect();
        if let Some(Json::Object(property)) = root.pointer_mut(&path) {
            if let Some(default) = default {
                property.insert("default".to_owned(), default);
            }
            if let Some(example) = examples.into_iter().find(|it| it.to_string().len() <= LONGEST) {
                property.insert("examples".to_owned(), json!([example]));
            }
        }
    }
}

/// The default that a description names, where that is one value: "Default: `30m`."
fn default(root: &Json, property: &Json) -> Option<Json> {
    let described = property.get("description")?.as_str()?;
    let (_, named) = described.rsplit_once("Default: `")?;
    let value = named.strip_suffix("`.").filter(|value| !value.contains('`'))?;
    let node = tree::parse(value).ok()?;
    Some(typed(root, property, &node))
}

/// A written value as JSON of the type that the schema asks for.
fn typed(root: &Json, schema: &Json, node: &Node) -> Json {
    let schema = resolve(root, schema);
    if let Some(branches) = schema.get("anyOf").and_then(Json::as_array) {
        let wanted = match node.value {
            Value::Map(_) => "object",
            Value::List(_) => "array",
            Value::Scalar(_) | Value::Empty => "string",
        };
        let fits = branches.iter().map(|branch| resolve(root, branch)).find(|it| schema_type(it) == wanted);
        return fits.map_or(Json::Null, |branch| typed(root, branch, node));
    }
    match &node.value {
        Value::Empty => Json::Null,
        Value::List(nodes) => {
            let item = schema.get("items").unwrap_or(&Json::Null);
            nodes.iter().map(|node| typed(root, item, node)).collect()
        }
        Value::Map(entries) => {
            let of = |key: &str| schema.get("properties")?.get(key).or_else(|| schema.get("additionalProperties"));
            let each = entries.iter();
            each.map(|it| (it.key.clone(), typed(root, of(&it.key).unwrap_or(&Json::Null), &it.node))).collect()
        }
        Value::Scalar(scalar) => match schema_type(schema) {
            "integer" => scalar.text.parse::<u64>().map_or(Json::Null, Json::from),
            "boolean" => Json::from(scalar.text == "true"),
            _ => Json::from(scalar.text.as_str()),
        },
    }
}

pub(super) fn resolve<'s>(root: &'s Json, schema: &'s Json) -> &'s Json {
    let reference = schema.get("$ref").and_then(Json::as_str).and_then(|it| it.strip_prefix('#'));
    reference.and_then(|pointer| root.pointer(pointer)).unwrap_or(schema)
}

fn member<'n>(node: &'n Node, key: &str) -> Option<&'n Node> {
    match &node.value {
        Value::Map(entries) => entries.iter().find(|entry| entry.key == key).map(|entry| &entry.node),
        _ => None,
    }
}

/// The values of a mapping whose keys people name themselves.
fn members(node: &Node) -> Vec<&Node> {
    match &node.value {
        Value::Map(entries) => entries.iter().map(|entry| &entry.node).collect(),
        _ => Vec::new(),
    }
}

fn items(node: &Node) -> &[Node] {
    match &node.value {
        Value::List(nodes) => nodes,
        _ => &[],
    }
}
