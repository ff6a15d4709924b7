//! `body_fields` of a route: from as written to as meant.

use super::{
    file::{BodyFieldFile, BodyRuleFile, ReadingFile, SizeText},
    meaning::Meaning,
    mistake::{Mistake, either, quote},
    value::{self, Expected},
};
use crate::{
    canonical::Target,
    route::{BodyField, BodyRule, Pointer, Reading},
};
use http::Method;
use std::{collections::BTreeMap, sync::Arc};

/// The largest body, where nothing is written.
const USUAL: u64 = 64 << 10;
/// The most that may be written: a quarter of what there is for all of them.
const MOST: u64 = 16 << 20;
/// Methods whose requests have bodies.
const METHODS: [Method; 4] = [Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

/// As what each field is read, and where that was written first: a name means one thing on all routes.
pub(super) type Named = BTreeMap<String, (Reading, String)>;

/// The rules of one route, whose path is `below`.
pub(super) fn read(
    meaning: &mut Meaning<'_, '_>,
    key: &str,
    written: &[BodyRuleFile],
    below: Option<&str>,
    named: &mut Named,
) -> Arc<[Arc<BodyRule>]> {
    let mut rules: Vec<Arc<BodyRule>> = Vec::new();
    for (index, written) in written.iter().enumerate() {
        let key = format!("{key}[{index}]");
        let Some(rule) = one(meaning, &key, written, below, named) else { continue };
        if rules.iter().any(|other| (&other.method, &other.path) == (&rule.method, &rule.path)) {
            let message = format!("`{key}` names `{} {}`, as a rule above does", rule.method, rule.path);
            meaning.report.add(
                Mistake::new(format!("{key}.path"), message).expected("overlaps").help(
                    "put all fields into one rule; upper and lower case, and a `/` at the end, are the same here"
                        .to_owned(),
                ),
            );
        }
        rules.push(Arc::new(rule));
    }
    rules.into()
}

fn one(
    meaning: &mut Meaning<'_, '_>,
    key: &str,
    written: &BodyRuleFile,
    below: Option<&str>,
    named: &mut Named,
) -> Option<BodyRule> {
    let method = meaning.read(&format!("{key}.method"), written.method.as_deref(), method);
    let path = meaning.read(&format!("{key}.path"), written.path.as_deref(), |text| path(text, below));
    let max = meaning.read(&format!("{key}.max"), written.max.as_ref().map(|SizeText(text)| text.as_str()), max);
    let fields = fields(meaning, &format!("{key}.fields"), written.fields.as_ref(), named);
    Some(BodyRule { method: method?, path: path?, max: max.unwrap_or(USUAL), fields })
}

fn method(text: &str) -> Result<Method, Expected> {
    let words = METHODS.map(|method| method.to_string());
    let expected = || Expected::new(either(&words));
    METHODS.into_iter().find(|method| method.as_str() == text).ok_or_else(|| {
        match METHODS.iter().find(|method| method.as_str().eq_ignore_ascii_case(text)) {
            Some(method) => expected().help(format!("methods are written in capitals: `{method}`")),
            None => expected().help("these are the methods whose requests have bodies"),
        }
    })
}

/// One whole path, folded.
fn path(text: &str, below: Option<&str>) -> Result<Arc<str>, Expected> {
    let expected = || Expected::new("a whole path, such as `/api/scaffolder/v2/tasks`");
    if text.contains('*') {
        return Err(expected().help("each rule is for one path: there is no `*` here"));
    }
    let target = Target::parse(text).map_err(|error| expected().help(error.to_string()))?;
    if target.query.is_some() || *target.path != *text {
        return Err(expected().help(format!("write `{}`", target.path)));
    }
    let folded = |path: &str| path.trim_end_matches('/').to_ascii_lowercase();
    let prefix = folded(below.unwrap_or("/"));
    let inside = target.folded.strip_prefix(&*prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if inside {
        Ok(target.folded)
    } else {
        Err(expected().help(format!("this route is for what is below `{prefix}/`")))
    }
}

fn max(text: &str) -> Result<u64, Expected> {
    let size = value::size(text)?;
    (1..=MOST).contains(&size).then_some(size).ok_or_else(|| Expected::new("a size from `1B` to `16MiB`"))
}

fn fields(
    meaning: &mut Meaning<'_, '_>,
    key: &str,
    written: Option<&BTreeMap<String, BodyFieldFile>>,
    named: &mut Named,
) -> Vec<BodyField> {
    if written.is_some_and(BTreeMap::is_empty) {
        meaning.report.add(
            Mistake::new(key, format!("`{key}` is empty"))
                .expected("expected at least one field")
                .help("write what policies read, such as `template_ref: { pointer: /templateRef }`".to_owned()),
        );
    }
    let mut fields: Vec<BodyField> = Vec::new();
    for (name, written) in written.into_iter().flatten() {
        let key = format!("{key}.{name}");
        names_an_attribute(meaning, &key, name);
        let pointer = meaning.read(&format!("{key}.pointer"), written.pointer.as_deref(), pointer);
        let reading = match written.reading.unwrap_or_default() {
            ReadingFile::String => Reading::String,
            ReadingFile::BackstageRef => Reading::BackstageRef,
        };
        means_one_thing(meaning, &key, name, reading, named);
        let Some(pointer) = pointer else { continue };
        if let Some(other) = fields.iter().find(|other| contradict(&other.pointer, &pointer)) {
            let message = format!("`{key}.pointer` is `{pointer}`, and `{}` is at `{}`", other.name, other.pointer);
            let help = "a string has nothing below it".to_owned();
            meaning.report.add(Mistake::new(format!("{key}.pointer"), message).expected("never both there").help(help));
        }
        let optional = written.optional.unwrap_or(false);
        fields.push(BodyField { name: name.as_str().into(), pointer, reading, optional });
    }
    fields
}

fn pointer(text: &str) -> Result<Pointer, Expected> {
    let expected = || Expected::new("a JSON pointer (RFC 6901), such as `/templateRef` or `/values/owner`");
    Pointer::parse(text).ok_or_else(|| match text.starts_with('/') {
        true => expected().help("a `~` is written `~0`, and a `/` in a name `~1`"),
        false if text.is_empty() => expected().help("a field is not the body as a whole"),
        false => {
            expected().help(format!("did you mean `/{}`?", text.trim_start_matches(['$', '.', '#']).replace('.', "/")))
        }
    })
}

/// The one is on the way to the other.
fn contradict(one: &Pointer, other: &Pointer) -> bool {
    let (one, other) = (one.steps(), other.steps());
    one != other && (one.starts_with(other) || other.starts_with(one))
}

fn names_an_attribute(meaning: &mut Meaning<'_, '_>, key: &str, name: &str) {
    let fits = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !fits {
        meaning.report.add(
            Mistake::new(key, format!("{} is no name of a field", quote(name)))
                .at_key()
                .expected("expected a letter or `_`, then letters, digits and `_`")
                .help("policies name it as an attribute of `context.body`".to_owned()),
        );
    }
}

/// Policies say `context.body.NAME` whatever the route.
fn means_one_thing(meaning: &mut Meaning<'_, '_>, key: &str, name: &str, reading: Reading, named: &mut Named) {
    let (first, place) = named.entry(name.to_owned()).or_insert_with(|| (reading, key.to_owned()));
    if *first != reading {
        let message = format!("`{key}.as` is `{}`, and `{place}` is read as `{}`", reading.as_str(), first.as_str());
        meaning.report.add(
            Mistake::new(format!("{key}.as"), message)
                .expected(format!("expected `{}`", first.as_str()))
                .help("a name means one thing in policies: give this field another".to_owned()),
        );
    }
}
