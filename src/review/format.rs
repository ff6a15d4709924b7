//! Policies as everybody writes them: the same indents and line breaks, every comment kept, and nothing that they mean changed.

use cedar_policy::{PolicySet, ffi::DetailedError};
use cedar_policy_formatter::{Config, policies_str_to_pretty};
use serde_json::Value as Json;
use std::ops::Range;

/// Columns of a line, where a line can be broken.
const WIDTH: usize = 120;

/// A text that still changes after so many rounds is left as it is.
const ROUNDS: usize = 4;

/// Why a text is left as it is.
#[derive(Debug, thiserror::Error)]
pub enum Unformatted {
    /// It does not parse. Places count from its first byte.
    #[error("it does not parse")]
    Broken(Vec<DetailedError>),
    /// It cannot be laid out, or not without a change of what it says.
    #[error("{0}: it is left as it is")]
    Left(&'static str),
}

/// Lays out policies, in a text without byte order mark. What is laid out so is not changed by doing it again.
///
/// Comments between policies keep their empty lines, so that one about a file stays apart from one about a policy.
///
/// # Errors
/// [`Unformatted`]: what does not parse, and what would not mean the same afterwards, is not laid out.
pub fn formatted(text: &str) -> Result<String, Unformatted> {
    let mut laid = text.to_owned();
    for _ in 0..ROUNDS {
        let next = laid_out(&laid)?;
        if next == laid {
            let same = meaning(text)? == meaning(&laid)? && comments(text) == comments(&laid);
            return if same { Ok(laid) } else { Err(Unformatted::Left("its layout would change what it says")) };
        }
        laid = next;
    }
    Err(Unformatted::Left("its layout does not settle"))
}

/// Each policy laid out by itself, with what stands between them.
fn laid_out(text: &str) -> Result<String, Unformatted> {
    let config = Config { line_width: WIDTH, indent_width: 2 };
    let (mut out, mut end) = (String::new(), 0);
    for (place, _) in policies(text)? {
        between(&mut out, &text[end..place.start]);
        let policy = policies_str_to_pretty(&text[place.clone()], &config);
        out.push_str(policy.map_err(|_| Unformatted::Left("the formatter cannot lay it out"))?.trim());
        end = place.end;
    }
    between(&mut out, &text[end..]);
    let whole = out.trim_end();
    Ok(if whole.is_empty() { String::new() } else { format!("{whole}\n") })
}

/// Adds the comments between two policies. One behind a policy stays there; several empty lines become one.
fn between(out: &mut String, text: &str) {
    let mut lines = text.trim_end_matches([' ', '\t']).lines().map(str::trim);
    if !out.is_empty() {
        let behind = lines.next().filter(|line| !line.is_empty());
        behind.into_iter().for_each(|comment| out.extend([" ", comment]));
        out.push_str("\n\n");
    }
    let mut lines = lines.skip_while(|line| line.is_empty()).peekable();
    while let Some(line) = lines.next() {
        if !line.is_empty() || lines.peek() != Some(&"") {
            out.extend([line, "\n"]);
        }
    }
}

/// What a text says, policy by policy.
fn meaning(text: &str) -> Result<Vec<Json>, Unformatted> {
    Ok(policies(text)?.into_iter().map(|(_, meaning)| meaning).collect())
}

/// Where each policy stands, annotations and semicolon included, and what it says, in the order of the text.
fn policies(text: &str) -> Result<Vec<(Range<usize>, Json)>, Unformatted> {
    let set: PolicySet = text
        .parse()
        .map_err(|errors: cedar_policy::ParseErrors| Unformatted::Broken(errors.iter().map(Into::into).collect()))?;
    let policies = set.policies().map(|it| Some((it.as_ref().loc()?, it.to_json().ok()?)));
    let templates = set.templates().map(|it| Some((it.as_ref().loc()?, it.to_json().ok()?)));
    let placed = policies.chain(templates).map(|it| it.map(|(loc, meaning)| (loc.start()..loc.end(), meaning)));
    let mut all: Vec<_> = placed.collect::<Option<_>>().ok_or(Unformatted::Left("it says what cannot be compared"))?;
    all.sort_by_key(|(place, _)| place.start);
    Ok(all)
}

/// Every comment, in the order of the text.
fn comments(text: &str) -> Vec<&str> {
    let (mut rest, mut comments) = (text, Vec::new());
    while let Some(at) = rest.find(['"', '/']) {
        rest = &rest[at..];
        let length = match rest.starts_with("//") {
            true => rest.find('\n').unwrap_or(rest.len()),
            false if rest.starts_with('"') => string(rest),
            false => 1,
        };
        let (token, behind) = rest.split_at(length);
        comments.extend(token.starts_with("//").then(|| token.trim()));
        rest = behind;
    }
    comments
}

/// The length of the string that a text begins with.
fn string(text: &str) -> usize {
    let mut escaped = false;
    let end = text.bytes().skip(1).position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    });
    end.map_or(text.len(), |end| end + 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::{fs, path::Path};

    fn ok(text: &str) -> String {
        formatted(text).unwrap_or_else(|error| panic!("{error:?}\n{text}"))
    }

    #[test]
    fn policies_have_one_shape_and_comments_stay_where_they_are() {
        let text = "// about the file\n\n\n// about a\n@id(\"a\")  @reason(\"// no comment\")\npermit(principal is User in \
                    Group::\"gitlab:a\",action,resource)when{context.path like \"/a/*\"}; // behind a\n  // about b\n  \
                    @id(\"b\")forbid(principal,action,resource);\n\n\n// the end";
        let expected = "// about the file\n\n// about a\n@id(\"a\")\n@reason(\"// no comment\")\npermit (\n  principal is User \
                        in Group::\"gitlab:a\",\n  action,\n  resource\n)\nwhen { context.path like \"/a/*\" }; // behind a\n\n\
                        // about b\n@id(\"b\")\nforbid (principal, action, resource);\n\n// the end\n";
        assert_eq!(ok(text), expected);
        assert_eq!(ok(expected), expected);
    }

    #[test]
    fn files_without_a_policy_are_laid_out_too() {
        for (text, expected) in [("", ""), ("\n\n", ""), ("//a \n\n\n//b", "//a\n\n//b\n")] {
            assert_eq!(ok(text), expected);
        }
    }

    #[test]
    fn comments_within_a_policy_are_kept() {
        let text = "@id(\"a\") // one\n// two\npermit (principal, // three\n action, resource) when { // four\n true // five\n};";
        let laid = ok(text);
        assert_eq!(comments(&laid), ["// one", "// two", "// three", "// four", "// five"], "{laid}");
    }

    #[test]
    fn what_does_not_parse_says_where() {
        let Err(Unformatted::Broken(errors)) = formatted("permit (principal, action resource);") else {
            panic!("it does not parse")
        };
        assert_eq!(errors[0].source_locations[0].loc.start, 26);
    }

    #[test]
    fn a_slash_in_a_string_begins_no_comment() {
        assert_eq!(comments(r#"a "\"//x" / "\\" //y"#), ["//y"]);
        assert_eq!(comments("\"//"), [""; 0]);
    }

    /// What people get from this project is laid out already.
    #[test]
    fn the_policies_of_this_project_are_laid_out() {
        for directory in ["policies", "docs/recipes", "docs/examples/policies"] {
            let files = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(directory)).expect("a directory");
            let files = files.map(|file| file.expect("an entry").path());
            for file in files.filter(|file| file.extension().is_some_and(|end| end == "cedar")) {
                let text = fs::read_to_string(&file).expect("text");
                assert_eq!(ok(&text), text, "{}", file.display());
            }
        }
    }

    proptest! {
        /// However it is broken into lines, and whatever comments stand between its words, it says the same and stays so.
        #[test]
        fn the_layout_does_not_hinge_on_spaces(gaps in prop::collection::vec("( |\n|\t|\n\n|// c\n){1,3}", 24)) {
            let words = ["@id(\"a\")", "permit", "(", "principal", "is", "User", ",", "action", "in", "Action::\"read\"", ",",
                "resource", ")", "when", "{", "context", ".", "path", "like", "\"/a//b/*\"", "&&", "principal has email", "}", ";"];
            let text: String = words.iter().zip(&gaps).flat_map(|(word, gap)| [*word, gap.as_str()]).collect();
            if let Ok(laid) = formatted(&text) {
                prop_assert_eq!(meaning(&text).expect("it parses"), meaning(&laid).expect("it parses"));
                prop_assert_eq!(comments(&text), comments(&laid));
                prop_assert_eq!(formatted(&laid).expect("it parses"), laid);
            } else {
                prop_assert!(!comments(&text).is_empty(), "{}", text);
            }
        }
    }
}
