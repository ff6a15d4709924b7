//! Which entity of Backstage's catalog a person is.

use crate::principal::Person;
use std::fmt;

/// The longest name of an entity.
const LONGEST: usize = 63;

/// A template for the User entity of a person, such as `user:default/{login}`.
///
/// Source: Backstage, "Descriptor Format of Catalog Entities", `metadata.name` and `metadata.namespace`; references are compared
/// without case.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UserTemplate {
    namespace: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Part {
    Text(String),
    Login,
    Subject,
    EmailLocal,
}

impl UserTemplate {
    /// Reads a template.
    ///
    /// # Errors
    /// What is wrong with it, and how it should be written.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let rest = text.strip_prefix("user:").ok_or("it begins with `user:`")?;
        let (namespace, mut name) =
            rest.split_once('/').ok_or("a namespace stands before the name: `user:default/{login}`")?;
        if !is_name(&namespace.to_ascii_lowercase()) {
            return Err("a namespace is letters and digits, with `-`, `_` and `.` between them");
        }
        let mut parts = Vec::new();
        while let Some((before, behind)) = name.split_once('{') {
            let (word, after) = behind.split_once('}').ok_or("a `{` has no `}`")?;
            parts.extend(text_part(before)?);
            parts.push(match word {
                "login" => Part::Login,
                "subject" => Part::Subject,
                "email_local" => Part::EmailLocal,
                _ => return Err("known are `{login}`, `{subject}` and `{email_local}`"),
            });
            name = after;
        }
        if parts.is_empty() {
            return Err("without `{login}`, `{subject}` or `{email_local}` everybody would be the same entity");
        }
        parts.extend(text_part(name)?);
        Ok(Self { namespace: namespace.to_ascii_lowercase(), parts })
    }

    /// The entity's reference. `None`: what the person is called makes no name of an entity.
    pub fn of(&self, person: &Person) -> Option<String> {
        let mut name = String::new();
        for part in &self.parts {
            name.push_str(match part {
                Part::Text(text) => text,
                Part::Login => &person.login,
                Part::Subject => &person.id.subject,
                Part::EmailLocal => person.email.as_deref()?.split_once('@')?.0,
            });
        }
        let name = name.to_ascii_lowercase();
        is_name(&name).then(|| format!("user:{}/{name}", self.namespace))
    }
}

fn text_part(text: &str) -> Result<Option<Part>, &'static str> {
    if text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
        return Ok((!text.is_empty()).then(|| Part::Text(text.to_owned())));
    }
    Err("beside placeholders a name is letters, digits, `-`, `_` and `.`")
}

/// Letters and digits, with `-`, `_` and `.` between them, at most 63.
fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    (1..=LONGEST).contains(&bytes.len())
        && bytes.iter().all(|byte| plain(*byte) || b"-_.".contains(byte))
        && [bytes.first(), bytes.last()].into_iter().flatten().all(|byte| plain(*byte))
}

impl fmt::Display for UserTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "user:{}/", self.namespace)?;
        for part in &self.parts {
            f.write_str(match part {
                Part::Text(text) => text,
                Part::Login => "{login}",
                Part::Subject => "{subject}",
                Part::EmailLocal => "{email_local}",
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::principal::UserId;

    fn person(login: &str, email: Option<&str>) -> Person {
        Person {
            id: UserId { provider: "gitlab".parse().expect("a name"), subject: "907".into() },
            issuer: "https://gitlab.example.com".into(),
            login: login.into(),
            email: email.map(Into::into),
            name: None,
        }
    }

    /// P67: the entity is what Backstage's own GitLab provider makes of a user, or there is none.
    #[test]
    fn p67_a_person_is_one_entity_or_none() {
        let long = "a".repeat(64);
        for (template, login, email, expected) in [
            ("user:default/{login}", "iokafor", None, Some("user:default/iokafor")),
            ("user:default/{login}", "IOkafor", None, Some("user:default/iokafor")),
            ("user:Acme/gl-{subject}", "x", None, Some("user:acme/gl-907")),
            ("user:default/{email_local}", "x", Some("Ines.Okafor@example.com"), Some("user:default/ines.okafor")),
            ("user:default/{email_local}", "x", None, None),
            ("user:default/{login}", "Inés", None, None),
            ("user:default/{login}", "a b", None, None),
            ("user:default/{login}", "-a", None, None),
            ("user:default/{login}", "a/../b", None, None),
            ("user:default/{login}", "a\r\nx: y", None, None),
            ("user:default/{login}", &long, None, None),
        ] {
            let read = UserTemplate::parse(template).expect(template);
            assert_eq!(read.of(&person(login, email)).as_deref(), expected, "{template} {login}");
            assert_eq!(UserTemplate::parse(&read.to_string()).as_ref(), Ok(&read));
        }
    }

    #[test]
    fn what_is_no_template_is_refused() {
        for bad in [
            "",
            "{login}",
            "user:{login}",
            "user:default/",
            "user:default/x",
            "user:/{login}",
            "user:default/{name}",
            "user:default/{login",
            "group:default/{login}",
            "user:default/a b{login}",
        ] {
            assert!(UserTemplate::parse(bad).is_err(), "{bad}");
        }
    }
}
