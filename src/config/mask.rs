//! Keeps secrets out of messages: whoever writes one into the configuration by mistake should not find it in a log too.

/// Ends of key names whose literal values are secret.
const SECRET: [&str; 7] = ["secret", "token", "password", "passphrase", "signing_key", "bearer", "value"];

/// Ends of key names whose values are words or mappings, unless somebody wrote a secret there.
const STRUCTURE: &str = "credential";

/// The words that they may be.
const WORDS: [&str; 3] = ["assertion", "true", "false"];

/// The text with every value that may be a secret replaced by `*`, byte for byte, so that all positions stay.
///
/// Works on lines, not on the document, so that it holds for broken YAML too.
pub(super) fn secrets(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut below: Option<usize> = None; // indentation of a secret key whose value may go on in further lines
    let mut within: Option<usize> = None; // the same of a key whose value is a mapping in further lines, or should be
    for line in text.split_inclusive('\n') {
        let indent = line.len() - line.trim_start().len();
        let blank = line.trim().is_empty();
        let goes_on = |outer: &usize| blank || indent > *outer;
        (below, within) = (below.filter(goes_on), within.filter(goes_on));
        if (below.is_some() && !is_source(line.trim())) || (within.is_some() && !line.contains(':')) {
            masked.push_str(&stars(line));
        } else if mask_line(line, &mut masked) {
            below = Some(indent);
        } else if line.trim_end().strip_suffix(':').is_some_and(|key| key.ends_with(STRUCTURE)) {
            within = Some(indent);
        }
    }
    user_information_in_place(&masked)
}

/// Writes one line without its secrets. True if the value of a secret key may go on in the next lines.
fn mask_line(line: &str, masked: &mut String) -> bool {
    let mut rest = line;
    let mut secret = false;
    while let Some(at) = secret_value(rest) {
        secret = true;
        let (key, value) = rest.split_at(at);
        masked.push_str(key);
        let shown = source_length(value);
        if shown == 0 {
            masked.push_str(&stars(value));
            return true;
        }
        masked.push_str(&value[..shown]);
        rest = &value[shown..];
    }
    masked.push_str(rest);
    secret
}

/// The text without the user information of URLs.
pub(super) fn user_information(text: &str) -> String {
    replace_user_information(text, |_| "***".to_owned())
}

fn user_information_in_place(text: &str) -> String {
    replace_user_information(text, stars)
}

fn replace_user_information(text: &str, by: impl Fn(&str) -> String) -> String {
    let mut parts = text.split("://");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str("://");
        let authority = part.find(['/', '?', '#', '\n', ' ', ',']).unwrap_or(part.len());
        match part[..authority].rfind('@') {
            Some(at) => {
                out.push_str(&by(&part[..at]));
                out.push_str(&part[at..]);
            }
            None => out.push_str(part),
        }
    }
    out
}

/// Where the value of a secret key begins in this line.
fn secret_value(line: &str) -> Option<usize> {
    let mut from = 0;
    while let Some(colon) = line[from..].find(':').map(|at| from + at) {
        let key = line[..colon].trim_end().trim_end_matches(['"', '\'']);
        let ends = |end: &&str| {
            key.len().checked_sub(end.len()).is_some_and(|at| key.as_bytes()[at..].eq_ignore_ascii_case(end.as_bytes()))
        };
        if SECRET.iter().any(ends) || (ends(&STRUCTURE) && is_literal(&line[colon + 1..])) {
            return Some(colon + 1);
        }
        from = colon + 1;
    }
    None
}

/// True for a value that is neither a mapping nor one of our words.
fn is_literal(value: &str) -> bool {
    let value = value.trim_start();
    let word = value.split([',', '}', ' ', '\r', '\n']).next().unwrap_or_default();
    !word.is_empty() && !value.starts_with(['{', '#']) && !WORDS.contains(&word)
}

/// How many bytes of a value are `{ file: … }`, `{ env: … }` or nothing, and may be shown.
fn source_length(value: &str) -> usize {
    let trimmed = value.trim_start();
    let offset = value.len() - trimmed.len();
    if trimmed.is_empty() || trimmed.starts_with('#') {
        return value.len();
    }
    let Some(inner) = trimmed.strip_prefix('{') else { return 0 };
    let Some(end) = inner.find('}') else { return 0 };
    let inside = inner[..end].trim();
    let single = (inside.is_empty() || is_source(inside)) && !inside.contains([',', '{', '\n']);
    if single { offset + end + 2 } else { 0 }
}

fn is_source(text: &str) -> bool {
    let Some((key, value)) = text.split_once(':') else { return text.starts_with('#') };
    match key.trim() {
        "file" => true,
        "env" => is_variable(value.trim().trim_matches(['"', '\''])),
        _ => text.starts_with('#'),
    }
}

/// True if `name` may name an environment variable: letters, digits and `_`.
pub(super) fn is_variable(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// As many stars as bytes; white space and what holds a line together stay.
fn stars(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            std::iter::repeat_n(
                if c.is_whitespace() { c } else { '*' },
                if c.is_whitespace() { 1 } else { c.len_utf8() },
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn masks_literal_secrets_wherever_they_stand() {
        for text in [
            "client_secret: hunter2\n",
            "client_secret : \"hunter2\"\n",
            "\"client_secret\": hunter2, hunter2\n",
            "- { name: a, client_secret: hunter2, kind: oidc }\n",
            "client_secret: { value: hunter2 }\n",
            "client_secret: { file: a, value: hunter2 }\n",
            "client_secret: { env: \"hunter2!\" }\n",
            "client_secret:\n  env: hunter2 + 1\n",
            "client_secret:\n  value: hunter2\n  other:\n    - hunter2\n",
            "client_secret: |\n  hunter2\n\n  hunter2\n",
            "a: https://me:hunter2@host/\n",
            "hook: { token: hunter2 }\n",
            "- { credential: hunter2, allow: [a] }\n",
            "credential: { bearer: hunter2 }\n",
            "credential: { basic: { user: a, password: hunter2 } }\n",
            "credential:\n  header: X-Api-Key\n  value: hunter2\n",
            "credential:\n  hunter2\n",
            "credential: >\n  hunter2\n",
        ] {
            let masked = secrets(text);
            assert!(!masked.contains("hunter2"), "{masked}");
            assert_eq!(masked.len(), text.len());
        }
    }

    #[test]
    fn shows_where_a_secret_comes_from() {
        for text in [
            "client_secret: { file: secrets/gitlab }\n",
            "client_secret: { env: GITLAB_SECRET }, scopes: [openid]\n",
            "client_secret:\n  file: secrets/gitlab\nkeys: ./keys\n",
            "- { credential: assertion, allow: [a] }\n  credential: assertion\n",
            "- { credential: { gitlab_api: gitlab }, allow: [a] }\n",
            "- { credential: { basic: { user: a, password: { file: b } }, keep_cookies: true }, allow: [a] }\n",
            "credential:\n  header: X-Api-Key\n  value: { env: API_KEY }\nkeys: ./keys\n",
            "forward_credential: true\n",
        ] {
            assert_eq!(secrets(text), text);
        }
    }

    proptest! {
        #[test]
        fn keeps_every_position(text in "(secret: |token:|[a-z\u{e9}{}:@/\n ,]){0,40}") {
            let masked = secrets(&text);
            prop_assert_eq!(masked.len(), text.len());
            prop_assert_eq!(masked.matches('\n').count(), text.matches('\n').count());
        }
    }
}
