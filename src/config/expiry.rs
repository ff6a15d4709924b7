//! `idle` and `grace` of a route, and `contact`: from as written to as meant.

use super::{
    Contact,
    file::{ContactFile, GraceFile, IdleFile},
    meaning::Meaning,
    mistake::Mistake,
    value::Expected,
};
use crate::route::{Activity, Grace, PathMask, PathPattern, Redaction};
use std::{sync::Arc, time::Duration};
use url::Url;

const DAY: Duration = Duration::from_secs(24 * 3600);

pub(super) fn idle(meaning: &mut Meaning<'_, '_>, key: &str, written: Option<&IdleFile>) -> Activity {
    match written {
        None => Activity::Navigations,
        Some(IdleFile::One(word)) => {
            let read = meaning.read(key, Some(word), |word| match word {
                "navigations" => Ok(Activity::Navigations),
                "any" => Ok(Activity::Any),
                _ => {
                    let help = "a path that counts beside navigations stands in a list: `[\"/api/activity\"]`";
                    Err(Expected::new("`navigations`, `any` or a list of paths").help(help))
                }
            });
            read.unwrap_or_default()
        }
        Some(IdleFile::Many(paths)) => Activity::Paths(patterns(meaning, key, paths).into()),
    }
}

pub(super) fn grace(meaning: &mut Meaning<'_, '_>, key: &str, written: &GraceFile) -> Grace {
    let paths_key = format!("{key}.paths");
    let paths = written.paths.as_deref().unwrap_or_default();
    if paths.is_empty() && written.paths.is_some() {
        meaning.report.add(
            Mistake::new(&paths_key, format!("`{paths_key}` is empty"))
                .expected("expected at least one path")
                .help("remove `grace` where nothing is served after a session's end".to_owned()),
        );
    }
    Grace {
        paths: patterns(meaning, &paths_key, paths).into(),
        life: meaning.duration(&format!("{key}.for"), written.life.as_ref(), DAY, Duration::from_secs(1)..=7 * DAY),
    }
}

fn patterns(meaning: &mut Meaning<'_, '_>, key: &str, written: &[String]) -> Vec<PathPattern> {
    let each = written.iter().enumerate().filter_map(|(index, text)| {
        meaning.read(&format!("{key}[{index}]"), Some(text), |text| {
            PathPattern::parse(text).ok_or_else(|| {
                Expected::new("a path, such as `/api/activity`, or `/static/*` for all below")
                    .help("it begins with `/`, and `*` stands for all that follows")
            })
        })
    });
    each.collect()
}

/// `redact_paths`: one that no path of its route fits would keep nothing out.
pub(super) fn redact(
    meaning: &mut Meaning<'_, '_>,
    key: &str,
    written: &[String],
    path: Option<&str>,
) -> Option<Arc<Redaction>> {
    let each = written.iter().enumerate().filter_map(|(index, text)| {
        meaning.read(&format!("{key}[{index}]"), Some(text), |text| {
            let expected = || Expected::new("a path with stars, such as `/users/*/records/*` or `/files/**`");
            let help = "it begins with `/`, a `*` stands for a whole segment, and `**` at the end for all that follow";
            let mask = PathMask::parse(text).ok_or_else(|| expected().help(help))?;
            match path.filter(|path| !mask.reaches(path)) {
                Some(path) => {
                    Err(expected().help(format!("no path of this route fits: all of them begin with `{path}`")))
                }
                None => Ok(mask),
            }
        })
    });
    Redaction::of(each.collect())
}

pub(super) fn contact(meaning: &mut Meaning<'_, '_>, written: &ContactFile) -> Option<Contact> {
    let url = meaning.read("contact.url", written.url.as_deref(), |text| {
        let fits = |url: &Url| matches!(url.scheme(), "https" | "http" | "mailto");
        Url::parse(text).ok().filter(fits).ok_or_else(|| {
            Expected::new("a URL, such as `https://chat.example.com/help` or `mailto:help@example.com`")
                .help("write it whole, with `https://` or `mailto:` in front")
        })
    });
    let name = meaning.text("contact.name", written.name.as_deref());
    Some(Contact { name: name?, url: url? })
}
