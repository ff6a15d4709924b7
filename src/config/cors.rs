//! `cors` of a route: from as written to as meant.

use super::{file::CorsFile, meaning::Meaning, mistake::Mistake, route::origins, value::Expected};
use crate::route::Cors;
use http::{HeaderName, Method};
use std::time::Duration;

/// The methods that a page may always use (Fetch, section 2.2.1).
const USUAL: [&str; 3] = ["GET", "HEAD", "POST"];

pub(super) fn read(meaning: &mut Meaning<'_, '_>, key: &str, written: &CorsFile) -> Option<Cors> {
    let origins_key = format!("{key}.origins");
    let listed = written.origins.as_deref().unwrap_or_default();
    if let Some(any) = listed.iter().position(|origin| origin == "*") {
        let help = "with `*` every page could read what this route answers: list the origins";
        meaning.refuse(
            &format!("{origins_key}[{any}]"),
            "*",
            Expected::new("an origin, such as `https://app.example.com`").help(help),
        );
        return None;
    }
    if listed.is_empty() && written.origins.is_some() {
        meaning.report.add(
            Mistake::new(&origins_key, format!("`{origins_key}` is empty"))
                .expected("expected at least one origin")
                .help("remove `cors` where no other origin may call".to_owned()),
        );
    }
    let origins = origins(meaning, &origins_key, listed);
    let methods = methods(meaning, &format!("{key}.methods"), written.methods.as_deref());
    let headers = names(meaning, &format!("{key}.headers"), written.headers.as_deref().unwrap_or_default());
    let expose = names(meaning, &format!("{key}.expose"), written.expose.as_deref().unwrap_or_default());
    let minute = Duration::from_secs(60);
    let max_age = meaning.duration(
        &format!("{key}.max_age"),
        written.max_age.as_ref(),
        10 * minute,
        Duration::ZERO..=1440 * minute,
    );
    Some(Cors {
        origins: origins.into(),
        methods: methods?,
        headers: headers?,
        expose: expose?,
        credentials: written.credentials.unwrap_or(false),
        max_age,
    })
}

fn methods(meaning: &mut Meaning<'_, '_>, key: &str, written: Option<&[String]>) -> Option<Vec<Method>> {
    let usual = || USUAL.map(str::to_owned).to_vec();
    let listed = written.map_or_else(usual, <[_]>::to_vec);
    let known = [Method::GET, Method::HEAD, Method::OPTIONS, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
    let each = listed.iter().enumerate().map(|(index, text)| {
        meaning.read(&format!("{key}[{index}]"), Some(text), |text| {
            let found = known.iter().find(|method| method.as_str() == text).cloned();
            let help = known.iter().find(|method| method.as_str().eq_ignore_ascii_case(text));
            let expected = || Expected::new("a method, such as `PUT`");
            found.ok_or_else(|| match help {
                Some(upper) => expected().help(format!("methods are written in capitals: `{upper}`")),
                None => expected(),
            })
        })
    });
    each.collect()
}

/// Names of header fields.
fn names(meaning: &mut Meaning<'_, '_>, key: &str, written: &[String]) -> Option<Vec<HeaderName>> {
    let each = written.iter().enumerate().map(|(index, text)| {
        meaning.read(&format!("{key}[{index}]"), Some(text), |text| {
            let expected = || Expected::new("the name of a header field, such as `X-Requested-With`");
            if text == "*" {
                return Err(expected().help("list the fields"));
            }
            HeaderName::from_bytes(text.as_bytes()).map_err(|_| expected())
        })
    });
    each.collect()
}
