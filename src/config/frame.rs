//! `frame` of a route: from as written to as meant.

use super::{file::FrameFile, meaning::Meaning, mistake::Mistake, route::origins, value::Expected};

pub(super) fn read(meaning: &mut Meaning<'_, '_>, key: &str, written: &FrameFile, https: bool) -> Vec<String> {
    let origins_key = format!("{key}.ancestors");
    let listed = written.ancestors.as_deref().unwrap_or_default();
    if let Some(any) = listed.iter().position(|origin| origin == "*") {
        let help = "with `*` every page could show this route's and lead a person's clicks: list the origins";
        let expected = Expected::new("an origin, such as `https://intranet.example.com`").help(help);
        meaning.refuse(&format!("{origins_key}[{any}]"), "*", expected);
        return Vec::new();
    }
    if listed.is_empty() && written.ancestors.is_some() {
        meaning.report.add(
            Mistake::new(&origins_key, format!("`{origins_key}` is empty"))
                .expected("expected at least one origin")
                .help("remove `frame` where no other page shows this route's".to_owned()),
        );
    }
    if !https {
        meaning.report.add(
            Mistake::new(key, format!("`{key}` needs https, and `public_url` is plain http"))
                .expected("expected no such key")
                .help("browsers keep the cookies of a frame over https only".to_owned()),
        );
    }
    origins(meaning, &origins_key, listed)
}
