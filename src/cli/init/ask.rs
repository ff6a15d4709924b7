//! The questions, to whoever sits at the terminal.

use super::{
    Secret,
    draft::{Draft, FIELDS, Field},
    files::Plan,
    guide,
};
use secrecy::SecretString;
use std::io::{BufRead, Write};

/// Reads a line that nobody sees, after a prompt; nothing at the end of the input.
pub(super) type Hidden<R, W> = fn(&mut R, &mut W, &str) -> Result<Option<String>, String>;

/// Somebody who answers.
pub(super) struct Dialogue<R, W> {
    input: R,
    output: W,
    hidden: Hidden<R, W>,
}

impl<R: BufRead, W: Write> Dialogue<R, W> {
    pub(super) fn new(input: R, output: W, hidden: Hidden<R, W>) -> Self {
        Self { input, output, hidden }
    }

    /// Asks for everything that is not known yet. Each answer is checked at once; one that is wrong is asked for again.
    ///
    /// # Errors
    /// One line, when the input has ended.
    pub(super) fn questions(&mut self, draft: &mut Draft, secret: Option<Secret>) -> Result<Secret, String> {
        self.say("Four questions. Nothing is written before the last; Ctrl-C ends this.");
        let mut secret = secret;
        for field in FIELDS {
            if draft.missing().any(|missing| missing == field) {
                self.say(&question(field, draft));
                self.ask(field, draft)?;
            }
            if field == Field::ClientId && secret.is_none() {
                secret = Some(self.secret(draft)?);
            }
        }
        Ok(secret.unwrap_or(Secret::Later))
    }

    /// Whether the files may be written.
    ///
    /// # Errors
    /// One line, when the input has ended.
    pub(super) fn confirmed(&mut self, plan: &Plan) -> Result<bool, String> {
        let files: Vec<_> = plan.files().map(|file| format!("     {}", file.display())).collect();
        self.say(&format!("\nThese files will be written:\n{}", files.join("\n")));
        loop {
            match self.line("Write them? [Y/n] ")?.to_ascii_lowercase().as_str() {
                "" | "y" | "yes" => return Ok(true),
                "n" | "no" => return Ok(false),
                _ => self.say("     answer `y` or `n`"),
            }
        }
    }

    fn ask(&mut self, field: Field, draft: &mut Draft) -> Result<(), String> {
        let usual = if field == Field::Kind { Some("gitlab") } else { None };
        let prompt = usual.map_or_else(|| "   > ".to_owned(), |usual| format!("   [{usual}] > "));
        loop {
            let line = self.line(&prompt)?;
            let answer = if line.is_empty() { usual.unwrap_or_default() } else { &line };
            match draft.answer(field, answer) {
                Ok(()) => return Ok(()),
                Err(said) => said.iter().for_each(|line| self.say(&format!("     {line}"))),
            }
        }
    }

    fn secret(&mut self, draft: &Draft) -> Result<Secret, String> {
        let prompt =
            format!("   Client secret (not shown; Enter to put it into `secrets/{}` later) > ", draft.provider());
        loop {
            let line = (self.hidden)(&mut self.input, &mut self.output, &prompt)?.ok_or_else(ended)?;
            if line.is_empty() {
                return Ok(Secret::Later);
            }
            match usable(&line) {
                Ok(secret) => return Ok(Secret::Given(secret)),
                Err(said) => self.say(&format!("     {said}")),
            }
        }
    }

    fn line(&mut self, prompt: &str) -> Result<String, String> {
        self.put(prompt);
        let mut line = String::new();
        match self.input.read_line(&mut line) {
            Ok(0) => Err(ended()),
            Ok(_) => Ok(line.trim().to_owned()),
            Err(error) => Err(format!("cannot read the answer: {error}: nothing is written")),
        }
    }

    fn say(&mut self, text: &str) {
        self.put(&format!("{text}\n"));
    }

    fn put(&mut self, text: &str) {
        // Whoever closed the other end is not asked any more; reading the answer says so.
        let _ = self.output.write_all(text.as_bytes()).and_then(|()| self.output.flush());
    }
}

fn ended() -> String {
    "the input ended before the last question: nothing is written".to_owned()
}

/// A secret as a file can hold it.
pub(super) fn usable(line: &str) -> Result<SecretString, &'static str> {
    let fits = !line.trim().is_empty() && line.len() <= 4096 && !line.chars().any(char::is_control);
    if fits {
        Ok(SecretString::from(line.trim()))
    } else {
        Err("a secret is one line of visible text, at most 4096 bytes")
    }
}

fn question(field: Field, draft: &Draft) -> String {
    let provider = draft.provider();
    match field {
        Field::PublicUrl => {
            "\n1. What will people type into their browser? Such as `https://portal.example.com`, or\n   \
             `http://localhost:8080` to try things out."
                .to_owned()
        }
        Field::Kind => "\n2. Who signs people in: `gitlab`, `okta`, `entra` (Microsoft), `keycloak`, `google`, or `oidc` for any other?".to_owned(),
        Field::Issuer => format!("   Its issuer, such as `{}`:", guide::issuer(draft)),
        Field::Domain => "   The domain whose people may sign in, such as `example.com`:".to_owned(),
        Field::ClientId => {
            let steps: Vec<_> = guide::register(draft).iter().map(|line| format!("   {line}")).collect();
            format!("\n3. Register us there, if that is not done:\n{}\n   Client id:", steps.join("\n"))
        }
        Field::Upstream => "\n4. Where do requests go? Such as `http://127.0.0.1:7007`.".to_owned(),
        Field::Allow if draft.get(Field::Kind) == "google" => {
            "   Who may come in: `signed-in` for everybody whom Google signs in, or `public` for everybody? Google says nobody's groups:".to_owned()
        }
        Field::Allow if draft.get(Field::Kind) == "entra" => {
            "   Who may come in: `entra:GROUP-ID` for a group by its object id, or `signed-in` for everybody whom Microsoft signs\n   \
             in? Several by commas:"
                .to_owned()
        }
        Field::Allow => format!(
            "   Who may come in: `{provider}:acme/**` for a group and all below it, `{provider}:acme` for one group, or\n   \
             `signed-in` for everybody whom the provider signs in? Several by commas:"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    fn plain(input: &mut &[u8], output: &mut Vec<u8>, prompt: &str) -> Result<Option<String>, String> {
        output.extend_from_slice(prompt.as_bytes());
        let mut line = String::new();
        let read = input.read_line(&mut line).map_err(|error| error.to_string())?;
        Ok((read > 0).then(|| line.trim_end_matches('\n').to_owned()))
    }

    fn talk(answers: &str, draft: &mut Draft, secret: Option<Secret>) -> (Result<Secret, String>, String) {
        let mut dialogue = Dialogue::new(answers.as_bytes(), Vec::new(), plain);
        let secret = dialogue.questions(draft, secret);
        (secret, String::from_utf8(dialogue.output).expect("UTF-8"))
    }

    #[test]
    fn four_questions_are_enough() {
        let mut draft = Draft::default();
        let answers = "https://portal.example.com\n\nhttps://gitlab.example.com\n0f2c6a\nhunter2\nhttp://127.0.0.1:7007\ngitlab:acme/**\n";
        let (secret, said) = talk(answers, &mut draft, None);
        assert!(matches!(secret, Ok(Secret::Given(secret)) if secret.expose_secret() == "hunter2"), "{said}");
        assert_eq!(draft.missing().count(), 0);
        assert_eq!(draft.get(Field::Kind), "gitlab");
        assert!(said.contains("https://portal.example.com/.vestibule/callback/gitlab"), "{said}");
        assert!(!said.contains("hunter2"));
    }

    #[test]
    fn a_wrong_answer_says_what_to_do_and_is_asked_for_again() {
        let mut draft = Draft::default();
        let answers = "portal\nhttps://portal.example.com\ngithub\nokta\nacme.okta.com\nhttps://acme.okta.com\nid\n\nhttp://10.0.0.7\nokta:eng\n";
        let (secret, said) = talk(answers, &mut draft, None);
        assert!(matches!(secret, Ok(Secret::Later)), "{said}");
        for line in [
            "     `public_url` is `portal`, expected an origin, such as `https://portal.example.com`\n     it begins with `https://` or `http://`\n",
            "     `kind` is `github`, expected `gitlab`, `okta`, `entra`, `keycloak`, `google` or `oidc`\n",
            "     `issuer` is `acme.okta.com`, expected the issuer's URL, such as `https://gitlab.example.com`\n",
        ] {
            assert!(said.contains(line), "{line}\n---\n{said}");
        }
        assert_eq!((draft.get(Field::Issuer), draft.get(Field::Allow)), ("https://acme.okta.com", "okta:eng"));
    }

    /// Google's issuer is known, and what it knows of groups too; Entra wants the tenant's id.
    #[test]
    fn every_kind_is_asked_what_it_needs() {
        let mut google = Draft::default();
        let answers =
            "https://portal.example.com\ngoogle\nexample\nexample.com\nid\n\nhttp://10.0.0.7\ngoogle:eng\nsigned-in\n";
        let (secret, said) = talk(answers, &mut google, None);
        assert!(matches!(secret, Ok(Secret::Later)), "{said}");
        assert_eq!(
            (google.get(Field::Issuer), google.get(Field::Domain)),
            ("https://accounts.google.com", "example.com")
        );
        assert!(!said.contains("Its issuer") && said.contains("expected a domain, such as `example.com`"), "{said}");
        assert!(said.contains("expected no group of `google`, which says nobody's groups"), "{said}");
        let mut entra = Draft::default();
        let tenant = "https://login.microsoftonline.com/72f988bf-86f1-41af-91ab-2d7cd011db47/v2.0";
        let answers = format!(
            "https://portal.example.com\nentra\nhttps://login.microsoftonline.com/common/v2.0\n{tenant}\nid\n\nhttp://10.0.0.7\nsigned-in\n"
        );
        let (secret, said) = talk(&answers, &mut entra, None);
        assert!(matches!(secret, Ok(Secret::Later)), "{said}");
        assert!(said.contains("`tenants` is missing, and `issuer` signs in people of every tenant"), "{said}");
        assert_eq!(entra.get(Field::Issuer), tenant);
        assert_eq!(entra.settings().expect("well").providers[0].tenants.len(), 1);
    }

    #[test]
    fn the_end_of_the_input_is_an_error_wherever_it_comes() {
        let lines =
            ["https://portal.example.com", "gitlab", "https://gitlab.example.com", "id", "secret", "http://10.0.0.7"];
        for count in 0..=lines.len() {
            let answers: String = lines[..count].iter().map(|line| format!("{line}\n")).collect();
            let (secret, said) = talk(&answers, &mut Draft::default(), None);
            assert_eq!(
                secret.err().as_deref(),
                Some("the input ended before the last question: nothing is written"),
                "{said}"
            );
        }
    }

    #[test]
    fn what_flags_said_is_not_asked() {
        let mut draft = Draft::default();
        for (field, text) in [
            (Field::PublicUrl, "https://a.example.com"),
            (Field::Kind, "oidc"),
            (Field::Issuer, "https://sso.example.com"),
            (Field::ClientId, "id"),
            (Field::Upstream, "http://10.0.0.7"),
        ] {
            draft.answer(field, text).expect("well");
        }
        let (secret, said) = talk("signed-in\n", &mut draft, Some(Secret::File("secrets/sso".into())));
        assert!(matches!(secret, Ok(Secret::File(_))), "{said}");
        assert!(!said.contains("1. ") && said.contains("Who may come in"), "{said}");
    }
}
