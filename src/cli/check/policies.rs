//! `vestibule policy check`: every mistake in the policies, and what is odd about them.

use super::{Known, closed, count, load};
use crate::{
    authorize::{Authorize, Open, PolicyError, show_errors, show_warnings},
    cli::{policy::open, print},
    config::{self, ConfigErrors, Places, Settings},
};
use serde_json::{Value as Json, json};
use std::{io::IsTerminal, path::Path};

/// Prints all mistakes and warnings, or how many policies are good; false if there is a mistake.
///
/// # Errors
/// A configuration that cannot be read.
pub(in crate::cli) fn run(file: &Path, json: bool) -> Result<bool, ConfigErrors> {
    let (settings, places) = config::load_for_review_with_places(file)?;
    let report = Report::of(load(settings.policies.as_deref(), &settings), &settings, &places);
    if json {
        print(&format!("{:#}", report.json()));
    } else {
        print(&report.text(std::io::stdout().is_terminal()));
    }
    Ok(report.errors.is_empty())
}

/// What is found.
struct Report {
    policies: usize,
    digest: Option<String>,
    errors: Vec<PolicyError>,
    warnings: Vec<PolicyError>,
    /// What is open to those who are not signed in; none where the policies cannot be read.
    open: Option<Vec<Open>>,
    /// What is open to everybody who is signed in.
    signed_in: Vec<Open>,
}

impl Report {
    fn of(loaded: Result<Authorize, Vec<PolicyError>>, settings: &Settings, places: &Places) -> Self {
        let policies = match loaded {
            Ok(policies) => policies,
            Err(errors) => {
                let (warnings, signed_in) = (Vec::new(), Vec::new());
                return Self { policies: 0, digest: None, errors, warnings, open: None, signed_in };
            }
        };
        let mut known = Known::of(&policies, settings);
        known.beside(settings);
        let routes = known.closed.into_iter().map(|index| closed(settings, places, index));
        Self {
            policies: policies.ids().len(),
            digest: Some(policies.digest().to_string()),
            errors: known.wrong,
            warnings: known.odd.into_iter().chain(routes).collect(),
            open: Some(known.open),
            signed_in: known.signed_in,
        }
    }

    fn text(&self, colour: bool) -> String {
        let errors = (!self.errors.is_empty()).then(|| show_errors(&self.errors, colour) + "\n");
        let warnings = (!self.warnings.is_empty()).then(|| show_warnings(&self.warnings, colour) + "\n");
        let open = self.open.iter().flat_map(|open| match open.is_empty() {
            true => vec!["nothing is open to those who are not signed in".to_owned()],
            false => open::text(open::STRANGERS, open),
        });
        let open = open.chain(open::text(open::SIGNED_IN, &self.signed_in));
        errors.into_iter().chain(warnings).chain([self.summary()]).chain(open).collect::<Vec<_>>().join("\n")
    }

    fn summary(&self) -> String {
        let policies = self.digest.as_ref().map(|_| count(self.policies, "policy", "policies"));
        let mistakes = match self.errors.len() {
            0 => "no mistake".to_owned(),
            several => count(several, "mistake", "mistakes"),
        };
        let warnings = (!self.warnings.is_empty()).then(|| count(self.warnings.len(), "warning", "warnings"));
        policies.into_iter().chain([mistakes]).chain(warnings).collect::<Vec<_>>().join(", ")
    }

    fn json(&self) -> Json {
        json!({
            "ok": self.errors.is_empty(),
            "policies": self.policies,
            "digest": self.digest,
            "errors": self.errors.iter().map(PolicyError::json).collect::<Vec<_>>(),
            "warnings": self.warnings.iter().map(PolicyError::json).collect::<Vec<_>>(),
            "open": self.open.as_deref().map(open::json),
            "open_to_signed_in": self.open.as_ref().map(|_| open::json(&self.signed_in)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A configuration with two routes and these policies.
    fn report(policies: &str) -> Report {
        let directory = tempfile::tempdir().expect("a directory");
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).expect("written");
        fs::create_dir(directory.path().join("policies")).expect("made");
        write("secret", "hunter2");
        write("policies/a.cedar", policies);
        write(
            "vestibule.yaml",
            "public_url: http://localhost:8080\nlisten: 127.0.0.1:8080\nproviders:\n  - { name: sso, kind: oidc, issuer: \
             https://sso.example.com, client_id: a, client_secret: { file: secret } }\nroutes:\n  - { name: portal, host: localhost, \
             upstream: \"http://127.0.0.1:7007\" }\n  - { name: api, host: localhost, path: /api/, upstream: \"http://127.0.0.1:7008\" }\n\
             policies: ./policies\n",
        );
        let (settings, places) =
            config::load_with_places(&directory.path().join("vestibule.yaml")).expect("a valid configuration");
        Report::of(load(settings.policies.as_deref(), &settings), &settings, &places)
    }

    #[test]
    fn good_policies_are_counted() {
        let good = report("@id(\"all\") permit (principal is User, action, resource);");
        let text = "1 policy, no mistake\nnothing is open to those who are not signed in\nopen to everybody who is signed in:\n  \
                    portal  read, write  every path  by `all`\n  api     read, write  every path  by `all`";
        assert_eq!((good.text(false).as_str(), good.errors.len()), (text, 0));
        let json = good.json();
        assert_eq!((&json["ok"], &json["policies"], &json["open"]), (&json!(true), &json!(1), &json!([])));
        assert_eq!(json["open_to_signed_in"][1]["route"], "api");
    }

    #[test]
    fn a_mistake_has_its_line_and_what_to_do() {
        let wrong = report("@id(\"all\")\npermit (principal is User, action, resource == Route::\"portl\");");
        let text = wrong.text(false);
        assert!(text.starts_with("error: no route is named `portl`\n"), "{text}");
        assert!(text.contains("a.cedar:2:48\n") && text.contains("  = help: did you mean `portal`?\n"), "{text}");
        assert!(text.ends_with("\n1 mistake"), "{text}");
        let error = &wrong.json()["errors"][0];
        assert_eq!(
            (&error["line"], &error["column"], &error["help"]),
            (&json!(2), &json!(48), &json!("did you mean `portal`?"))
        );
    }

    /// What never applies is a mistake, what is only odd a warning: both name both places.
    #[test]
    fn policies_that_change_nothing_are_told_with_both_places() {
        let found = report(
            "@id(\"wide\")\npermit (principal is User, action, resource == Route::\"portal\");\n\
             @id(\"narrow\")\npermit (principal == User::\"sso:7\", action, resource == Route::\"portal\");\n\
             @id(\"api\")\npermit (principal is User, action, resource == Route::\"api\");\n\
             @id(\"closed\")\nforbid (principal, action, resource == Route::\"api\");\n",
        );
        let text = found.text(false);
        assert!(text.contains("error: the permit `api` never applies: `closed` forbids all of it\n"), "{text}");
        assert!(text.contains("note: the forbid is here\n"), "{text}");
        assert!(
            text.contains("warning: the permit `narrow` changes nothing: `wide` permits all of it already\n"),
            "{text}"
        );
        assert!(text.contains("\n4 policies, 1 mistake, 1 warning\n"), "{text}");
        let warning = &found.json()["warnings"][0];
        assert!(warning["other"]["place"].as_str().is_some_and(|place| place.ends_with("a.cedar:1:1")), "{warning}");
    }

    #[test]
    fn a_route_that_nobody_may_reach_is_told() {
        let found = report("@id(\"all\") permit (principal is User, action, resource == Route::\"portal\");");
        let text = found.text(false);
        assert!(text.contains("vestibule.yaml:7: nobody may reach the route `api`"), "{text}");
        assert!(text.contains("\n1 policy, no mistake, 1 warning\n"), "{text}");
    }
}
