//! Results as JUnit writes them, for those who show them: CI servers.

use std::fmt::Write;

/// Results that belong together.
pub struct TestSuite {
    /// The file that they are of, or what they are about.
    pub name: String,
    /// Each of them.
    pub cases: Vec<TestCase>,
}

/// One result.
pub struct TestCase {
    /// What it shows.
    pub name: String,
    /// The file that it stands in.
    pub file: String,
    /// Why it is not as it should be: one line, and all that is known.
    pub failure: Option<(String, String)>,
}

/// The whole document.
pub fn document(suites: &[TestSuite]) -> String {
    let count = |suite: &TestSuite| (suite.cases.len(), suite.cases.iter().filter(|it| it.failure.is_some()).count());
    let (tests, failures) =
        suites.iter().map(count).fold((0, 0), |(tests, failures), (more, failed)| (tests + more, failures + failed));
    let mut text = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n".to_owned();
    open(&mut text, 0, "testsuites", "vestibule policy test", (tests, failures));
    for suite in suites {
        open(&mut text, 2, "testsuite", &suite.name, count(suite));
        suite.cases.iter().for_each(|case| one(&mut text, case));
        text.push_str("  </testsuite>\n");
    }
    text.push_str("</testsuites>\n");
    text
}

fn open(text: &mut String, indent: usize, element: &str, name: &str, (tests, failures): (usize, usize)) {
    let _ = writeln!(
        text,
        "{:indent$}<{element} name=\"{}\" tests=\"{tests}\" failures=\"{failures}\" errors=\"0\" time=\"0\">",
        "",
        escaped(name)
    ); // a String takes everything
}

fn one(text: &mut String, case: &TestCase) {
    let (name, file) = (escaped(&case.name), escaped(&case.file));
    let head = format!("    <testcase name=\"{name}\" classname=\"{file}\" file=\"{file}\" time=\"0\"");
    match &case.failure {
        None => text.push_str(&format!("{head}/>\n")),
        Some((message, all)) => text.push_str(&format!(
            "{head}>\n      <failure message=\"{}\" type=\"decision\">{}</failure>\n    </testcase>\n",
            escaped(message),
            escaped(all)
        )),
    }
}

/// Text as XML has it, inside quotes too. What XML 1.0 has no way to write is replaced.
///
/// Source: Extensible Markup Language 1.0, sections 2.2, 2.4 and 3.3.3.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push_str("&#10;"),
            '\t' => out.push_str("&#9;"),
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            letter if letter.is_control() => out.push('\u{fffd}'),
            letter => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_escapes_what_it_is_given() {
        let case = |name: &str, failure: Option<&str>| TestCase {
            name: name.into(),
            file: "a&b.yaml".into(),
            failure: failure.map(|text| (text.into(), text.into())),
        };
        let cases = vec![case("\"<one>\"", None), case("two\u{1b}[1m", Some("a\nb]]>"))];
        let suites = [TestSuite { name: "a&b.yaml".into(), cases }, TestSuite { name: "none".into(), cases: vec![] }];
        let expected = r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="vestibule policy test" tests="2" failures="1" errors="0" time="0">
  <testsuite name="a&amp;b.yaml" tests="2" failures="1" errors="0" time="0">
    <testcase name="&quot;&lt;one&gt;&quot;" classname="a&amp;b.yaml" file="a&amp;b.yaml" time="0"/>
    <testcase name="two�[1m" classname="a&amp;b.yaml" file="a&amp;b.yaml" time="0">
      <failure message="a&#10;b]]&gt;" type="decision">a&#10;b]]&gt;</failure>
    </testcase>
  </testsuite>
  <testsuite name="none" tests="0" failures="0" errors="0" time="0">
  </testsuite>
</testsuites>
"#;
        assert_eq!(document(&suites), expected);
    }
}
