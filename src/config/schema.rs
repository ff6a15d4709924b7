//! The JSON Schema of the file, and a walk of the written tree against it that gathers every mistake of shape.

use super::{
    file::ConfigFile,
    mistake::{Mistake, Report, either, missing, nearest, quote},
    tree::{Entry, Kind, Node, Value, below},
    unsupported,
};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value as Json, json};

/// The JSON Schema of the file's shape (draft 2020-12), without defaults and examples.
pub(super) fn shape() -> Json {
    shape_of::<ConfigFile>()
}

/// The same for any file.
pub(super) fn shape_of<T: JsonSchema>() -> Json {
    let mut schema = schemars::schema_for!(T).to_value();
    without_null(&mut schema);
    schema
}

/// Checks `root` against the schema and returns what is left of it when all mistakes are taken out.
///
/// What is wrong is replaced by an empty value of the right type, so that places in lists stay; `report` knows the key,
/// and says nothing more about it.
///
/// There is nothing left of a document that is not a mapping.
pub(super) fn check(root: &Node, report: &mut Report<'_>) -> Option<ConfigFile> {
    check_as(root, &shape(), report)
}

/// The same for any file.
pub(super) fn check_as<T: DeserializeOwned>(root: &Node, schema: &Json, report: &mut Report<'_>) -> Option<T> {
    let nothing = Node { span: root.span.clone(), value: Value::Map(Vec::new()) };
    let root = if let Value::Empty = root.value { &nothing } else { root };
    let value = Walk { root: schema, report }.value(root, schema, "");
    // Whatever the schema lets pass, the types accept; if they did not, there would be a mistake and not a wrong setting.
    let read = serde_json::from_value(value);
    if let Err(error) = &read {
        report.add_at(None, Mistake::new("", format!("the file cannot be read: {error}")));
    }
    read.ok().filter(|_| matches!(root.value, Value::Map(_)))
}

/// A key that is written and left empty is a mistake, so nothing in the schema may be `null`.
fn without_null(schema: &mut Json) {
    match schema {
        Json::Object(object) => {
            if let Some(Json::Array(types)) = object.get_mut("type") {
                types.retain(|one| one != "null");
                if let [one] = types.as_slice() {
                    let one = one.clone();
                    object.insert("type".to_owned(), one);
                }
            }
            if let Some(Json::Array(branches)) = object.get_mut("anyOf") {
                branches.retain(|one| one != &json!({ "type": "null" }));
                if let [Json::Object(one)] = branches.as_slice() {
                    let one = one.clone();
                    object.remove("anyOf");
                    object.extend(one);
                }
            }
            object.values_mut().for_each(without_null);
        }
        Json::Array(list) => list.iter_mut().for_each(without_null),
        _ => {}
    }
}

struct Walk<'w, 'r> {
    root: &'w Json,
    report: &'w mut Report<'r>,
}

impl<'w> Walk<'w, '_> {
    /// Checks one value; what comes back fits the schema.
    fn value(&mut self, node: &Node, schema: &'w Json, path: &str) -> Json {
        let schema = self.resolve(schema);
        if let Value::Empty = node.value {
            self.report.add(
                Mistake::new(path, format!("{} has no value", quote(path)))
                    .at_key()
                    .expected(format!("expected {}", self.expectation(schema)))
                    .help("write a value, or remove the key".to_owned()),
            );
            return self.placeholder(schema);
        }
        if let Some(branches) = schema.get("anyOf").and_then(Json::as_array) {
            let fitting = branches.iter().map(|branch| self.resolve(branch)).find(|branch| fits(node, branch));
            return match fitting {
                Some(branch) => self.value(node, branch, path),
                None => self.wrong_type(node, schema, path),
            };
        }
        if !fits(node, schema) {
            return self.wrong_type(node, schema, path);
        }
        match &node.value {
            Value::Map(entries) => self.map(entries, schema, path),
            Value::List(nodes) => {
                let item = schema.get("items").unwrap_or(&Json::Null);
                let each = nodes.iter().enumerate();
                Json::Array(each.map(|(index, node)| self.value(node, item, &format!("{path}[{index}]"))).collect())
            }
            Value::Scalar(scalar) => match (schema_type(schema), scalar.kind) {
                ("boolean", Kind::Boolean(is)) => Json::Bool(is),
                ("integer", _) => self.integer(&scalar.text, schema, path),
                _ => self.text(&scalar.text, schema, path),
            },
            Value::Empty => Json::Null,
        }
    }

    fn map(&mut self, entries: &[Entry], schema: &'w Json, path: &str) -> Json {
        let properties = schema.get("properties").and_then(Json::as_object);
        let other = schema.get("additionalProperties").filter(|other| other.is_object());
        let mut found = Map::new();
        for entry in entries {
            let path = below(path, &entry.key);
            if found.contains_key(&entry.key) {
                self.doubled(entry, &path);
                continue;
            }
            let Some(schema) = properties.and_then(|known| known.get(&entry.key)).or(other) else {
                self.unknown(entry, properties, &path);
                continue;
            };
            let value = self.value(&entry.node, schema, &path);
            found.insert(entry.key.clone(), value);
        }
        let written: Vec<_> = entries.iter().map(|entry| entry.key.as_str()).collect();
        self.require(&written, schema, path);
        Json::Object(found)
    }

    fn require(&mut self, written: &[&str], schema: &Json, path: &str) {
        let required = schema.get("required").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str);
        for key in required.filter(|key| !written.contains(key)) {
            let about = schema.pointer(&format!("/properties/{key}/description")).and_then(Json::as_str);
            self.report.add(missing(path, key, about.unwrap_or_default()).at_key());
        }
    }

    fn doubled(&mut self, entry: &Entry, path: &str) {
        let line = self.report.line(path);
        self.report.add_at(
            Some(entry.key_span.clone()),
            Mistake::new("", format!("{} is written twice", quote(path)))
                .expected("second time")
                .help(format!("line {line} has it already: keep one of the two")),
        );
    }

    fn unknown(&mut self, entry: &Entry, properties: Option<&Map<String, Json>>, path: &str) {
        if let Some(secret) =
            path.strip_suffix(&entry.key).and_then(|above| above.strip_suffix('.')).filter(|it| is_secret(it))
        {
            // The key may be the secret itself, so it is not named.
            return self.report.add(
                Mistake::new(secret, format!("`{secret}` has a key that is not known"))
                    .at_key()
                    .expected("expected `{ file: PATH }` or `{ env: NAME }`"),
            );
        }
        let known: Vec<_> = properties.into_iter().flat_map(Map::keys).map(String::as_str).collect();
        let mistake = if let Some(instead) = unsupported::key(path) {
            Mistake::new(path, format!("{} is not supported by this version", quote(path)))
                .expected("not supported")
                .help(instead.to_owned())
        } else if let Some(near) = nearest(&entry.key, known.iter().copied()) {
            let above = path.len() - entry.key.len();
            self.report.meant(format!("{}{near}", &path[..above]));
            Mistake::new(path, format!("{} is not a known key", quote(path)))
                .expected(format!("did you mean `{near}`?"))
        } else {
            Mistake::new(path, format!("{} is not a known key", quote(path)))
                .expected("not known")
                .help(format!("known here: {}", listed(known)))
        };
        self.report.add_at(Some(entry.key_span.clone()), mistake);
    }

    fn wrong_type(&mut self, node: &Node, schema: &'w Json, path: &str) -> Json {
        let secret = is_secret(path);
        let scalar = match &node.value {
            Value::Scalar(scalar) => Some(scalar.text.as_str()),
            _ => None,
        };
        let found = match (&node.value, scalar) {
            (_, Some(_)) if secret => "a literal".to_owned(),
            (Value::List(_), _) => "a list".to_owned(),
            (Value::Map(_), _) => "a mapping".to_owned(),
            (_, Some(text)) => quote(text),
            _ => "empty".to_owned(),
        };
        let help = match scalar {
            Some(text) if secret => Some(secret_help(text)),
            Some(text) if schema_type(schema) == "boolean" => boolean_help(text),
            Some(_) if schema_type(schema) == "array" => Some("write a list, such as `[a, b]`".to_owned()),
            _ => None,
        };
        self.report.add(
            Mistake::new(path, format!("{} is {found}", subject(path)))
                .expected(format!("expected {}", self.expectation(schema)))
                .help(help),
        );
        self.placeholder(schema)
    }

    fn integer(&mut self, text: &str, schema: &'w Json, path: &str) -> Json {
        let bound = |name: &str| schema.get(name).and_then(Json::as_u64);
        let (least, most) = (bound("minimum").unwrap_or(0), bound("maximum").unwrap_or(u64::MAX));
        match text.parse::<u64>() {
            Ok(number) if (least..=most).contains(&number) => json!(number),
            _ => {
                self.report.add(
                    Mistake::new(path, format!("{} is {}", quote(path), quote(text)))
                        .expected(format!("expected a whole number from {least} to {most}")),
                );
                json!(least)
            }
        }
    }

    fn text(&mut self, text: &str, schema: &'w Json, path: &str) -> Json {
        if let Some(start) = text.find("${") {
            let help = "write the value itself; a secret can be `{ env: NAME }`".to_owned();
            self.report.add(
                Mistake::new(path, format!("{} contains {}", quote(path), quote(&text[start..])))
                    .expected("`${…}` is not replaced by anything")
                    .help(help),
            );
            return self.placeholder(schema);
        }
        let words = words(schema);
        if words.is_empty() || words.contains(&text) {
            return json!(text);
        }
        let mistake = Mistake::new(path, format!("{} is {}", quote(path), quote(text)))
            .expected(format!("expected {}", either(&words)))
            .help(nearest(text, words.iter().copied()).map(|near| format!("did you mean `{near}`?")));
        self.report.add(mistake);
        json!(words[0])
    }

    /// Follows `$ref`.
    fn resolve(&self, schema: &'w Json) -> &'w Json {
        let mut schema = schema;
        while let Some(reference) = schema.get("$ref").and_then(Json::as_str) {
            match reference.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer)) {
                Some(target) => schema = target,
                None => break,
            }
        }
        schema
    }

    /// The plainest value that the types accept.
    fn placeholder(&self, schema: &'w Json) -> Json {
        let schema = self.resolve(schema);
        if let Some(first) = schema.pointer("/anyOf/0") {
            return self.placeholder(first);
        }
        match schema_type(schema) {
            "object" => json!({}),
            "array" => json!([]),
            "boolean" => json!(false),
            "integer" => schema.get("minimum").cloned().unwrap_or(json!(0)),
            _ => json!(words(schema).first().unwrap_or(&"")),
        }
    }

    /// What a value of this schema is, in words.
    fn expectation(&self, schema: &'w Json) -> String {
        let schema = self.resolve(schema);
        if let Some(branches) = schema.get("anyOf").and_then(Json::as_array) {
            let each: Vec<_> = branches.iter().map(|branch| self.expectation(branch)).collect();
            return each.join(" or ");
        }
        match schema_type(schema) {
            "object" => {
                let keys = schema.get("properties").and_then(Json::as_object).into_iter().flat_map(Map::keys);
                let mut keys: Vec<_> = keys.collect();
                keys.sort_unstable();
                match keys.as_slice() {
                    [key] => format!("a mapping with the key `{key}`"),
                    [one, two] => format!("a mapping with the key `{one}` or `{two}`"),
                    _ => "a mapping".to_owned(),
                }
            }
            "array" => "a list".to_owned(),
            "boolean" => "`true` or `false`".to_owned(),
            "integer" => "a whole number".to_owned(),
            _ => match words(schema).as_slice() {
                [] => "text".to_owned(),
                words => either(words),
            },
        }
    }
}

/// True if the value has a type that the schema takes.
fn fits(node: &Node, schema: &Json) -> bool {
    match (&node.value, schema_type(schema)) {
        (Value::Map(_), kind) => kind == "object",
        (Value::List(_), kind) => kind == "array",
        (Value::Scalar(scalar), "boolean") => matches!(scalar.kind, Kind::Boolean(_)),
        (Value::Scalar(scalar), "integer") => scalar.kind == Kind::Number,
        (Value::Scalar(_), kind) => kind == "string",
        (Value::Empty, _) => false,
    }
}

pub(super) fn schema_type(schema: &Json) -> &str {
    match schema.get("type").and_then(Json::as_str) {
        Some(kind) => kind,
        None if schema.get("anyOf").is_some() => "any",
        None => "string",
    }
}

/// The words that a value may be, if it may not be any text.
fn words(schema: &Json) -> Vec<&str> {
    let listed = schema.get("enum").and_then(Json::as_array).into_iter().flatten();
    let single = schema.get("oneOf").and_then(Json::as_array).into_iter().flatten();
    listed.chain(single.filter_map(|one| one.get("const"))).filter_map(Json::as_str).collect()
}

fn listed(mut words: Vec<&str>) -> String {
    words.sort_unstable();
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

fn subject(path: &str) -> String {
    if path.is_empty() { "the document".to_owned() } else { quote(path) }
}

/// True for a key that says where a secret is.
fn is_secret(path: &str) -> bool {
    let key = path.rsplit('.').next().unwrap_or_default();
    ["client_secret", "token", "signing_key", "audit_token", "bearer", "password", "value"].contains(&key)
}

fn boolean_help(text: &str) -> Option<String> {
    match text.to_ascii_lowercase().as_str() {
        "yes" | "on" | "y" | "true" | "1" => Some("write `true`, without quotes".to_owned()),
        "no" | "off" | "n" | "false" | "0" => Some("write `false`, without quotes".to_owned()),
        _ => None,
    }
}

/// A secret is never a literal; the name in `${NAME}` is none.
fn secret_help(text: &str) -> String {
    let name = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')).filter(|name| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
    });
    match name {
        Some(name) => format!("`${{…}}` is not replaced by anything: write `{{ env: {name} }}`"),
        None => "a secret is never written here: put it into a file and write `{ file: PATH }`".to_owned(),
    }
}
