//! `step_up` of a route: from as written to as meant.

use super::{
    Allow, ProviderKind,
    file::StepUpFile,
    meaning::{MONTH, Meaning},
    mistake::Mistake,
    value::{Expected, duration, write_duration},
};
use crate::principal::{Name, StepUp};
use std::time::Duration;

/// Less would ask people to sign in again while they read.
const SHORTEST: Duration = Duration::from_secs(60);

/// What the route asks of people of `providers`, if each of these can give it.
pub(super) fn read(
    meaning: &mut Meaning<'_, '_>,
    key: &str,
    written: &StepUpFile,
    providers: &[&(Name, ProviderKind)],
    allow: &[Allow],
) -> Option<StepUp> {
    let (acr_key, age_key) = (format!("{key}.acr"), format!("{key}.max_age"));
    if written.acr.is_none() && written.max_age.is_none() {
        meaning.report.add(
            Mistake::new(key, format!("`{key}` asks for nothing"))
                .at_key()
                .expected("expected `acr`, `max_age` or both"),
        );
        return None;
    }
    if allow.contains(&Allow::Public) {
        meaning.report.add(
            Mistake::new(key, format!("`{key}` asks for a sign-in, and `allow` lets everybody in"))
                .at_key()
                .expected("expected a route without `public`")
                .help("remove one of the two, or give the public pages a route of their own".to_owned()),
        );
    }
    let acr = meaning.read(&acr_key, written.acr.as_deref(), |text| {
        let fits = !text.is_empty()
            && text.len() <= 256
            && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\');
        let expected = Expected::new("one class, such as `urn:okta:loa:2fa:any`: no spaces, quotes or `\\`");
        if fits { Ok(text.to_owned()) } else { Err(expected) }
    });
    let max_age = written.max_age.as_ref().and_then(|text| {
        meaning.read(&age_key, Some(&text.0), |text| {
            let age = duration(text)?;
            let (least, most) = (write_duration(SHORTEST), write_duration(MONTH));
            let expected = Expected::new(format!("a duration from `{least}` to `{most}`"));
            if (SHORTEST..=MONTH).contains(&age) { Ok(age) } else { Err(expected) }
        })
    });
    for (name, kind) in providers {
        if acr.is_some() && !kind.gives_acr() {
            let help = match kind {
                ProviderKind::Entra => {
                    "let Conditional Access ask for more where people sign in to this application, or write `max_age`"
                }
                ProviderKind::Gitlab => "write `max_age`, or leave the provider out of this route's `providers`",
                _ => "leave the provider out of this route's `providers`",
            };
            cannot(meaning, &acr_key, name, "acr", help);
        }
        if max_age.is_some() && !kind.gives_auth_time() {
            cannot(meaning, &age_key, name, "auth_time", "leave the provider out of this route's `providers`");
        }
    }
    // A mistake is reported where one of the two is written and not read.
    (acr.is_some() == written.acr.is_some() && max_age.is_some() == written.max_age.is_some())
        .then_some(StepUp { acr, max_age })
}

fn cannot(meaning: &mut Meaning<'_, '_>, key: &str, provider: &Name, claim: &str, help: &str) {
    meaning.report.add(
        Mistake::new(key, format!("`{key}` cannot be had of `{provider}`, whose people come here"))
            .at_key()
            .expected(format!("expected a provider that gives `{claim}`"))
            .help(help.to_owned()),
    );
}
