//! Where a person is sent back to: every trick against everything that carries a return address.

use super::{
    case::{Family, Place},
    client::{self, Heard},
    hall::Hall,
    judge::Breach,
    report::Row,
    table::{rows, spelled},
};
use crate::support::provider::Provider;
use futures_util::{StreamExt, stream};
use url::{Url, form_urlencoded::byte_serialize};

const RETURNS: &str = include_str!("../../corpus/returns.txt");
/// Every so many tricks go all the way through the provider.
const SAMPLED: usize = 20;

/// True if a browser that reads `location` stays on our host, or goes to the provider to sign in. What our own sign-in is
/// told to lead on to must stay, too.
///
/// Source: URL Standard, as the `url` crate reads it: backslashes are slashes, tabs and line breaks are taken out.
pub(super) fn stays(place: &Place, location: &str) -> bool {
    let base = Url::parse(&format!("http://{}/.vestibule/sign-in", place.host)).expect("a URL");
    let Ok(url) = base.join(location) else { return false };
    if url.as_str().starts_with(&format!("{}/oauth/authorize?", place.issuer)) {
        let back = format!("http://{}/.vestibule/callback/gitlab", place.host);
        return url.query_pairs().any(|(name, value)| name == "redirect_uri" && value == back);
    }
    let on = url.query_pairs().filter(|(name, _)| name == "to").all(|(_, to)| stays(place, &to));
    url.origin() == base.origin() && (on || !url.path().starts_with("/.vestibule/"))
}

/// All tricks: the rows, the rows behind a slash, and the rows percent-encoded once more.
fn tricks(place: &Place) -> Vec<Vec<u8>> {
    let own = rows(RETURNS).map(|row| spelled(&row.replace("portal.example.com", &place.host)));
    let all = own.flat_map(|trick| {
        let behind = [b"/".as_slice(), &trick].concat();
        let encoded = encode(&trick).into_bytes();
        [trick, behind, encoded]
    });
    let mut all: Vec<_> = all.collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn encode(bytes: &[u8]) -> String {
    byte_serialize(bytes).collect()
}

/// Runs them all at `hall`.
pub(super) async fn run(hall: &Hall, provider: &Provider) -> Row {
    let tricks = tricks(&hall.place);
    let mut row = Row::new(Family::Returns, tricks.len());
    let asked = stream::iter(&tricks).map(|trick| ask(&hall.place, hall.gateway.port, trick));
    for (runs, breaches) in asked.buffer_unordered(16).collect::<Vec<_>>().await {
        row.runs += runs;
        row.breaches.extend(breaches.into_iter().map(|breach| (breach, None)));
    }
    for trick in tricks.iter().step_by(SAMPLED) {
        row.runs += 1;
        row.breaches.extend(all_the_way(hall, provider, trick).await.map(|breach| (breach, None)));
    }
    row
}

/// One trick in everything that might carry a return address.
async fn ask(place: &Place, port: u16, trick: &[u8]) -> (usize, Vec<Breach>) {
    let to = encode(trick);
    let cookie = format!("Cookie: {}={}\r\n", place.session, place.handle);
    let page = "Accept: text/html\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n";
    let own = format!("Content-Length: 0\r\nOrigin: http://{}\r\n", place.host);
    let mut asked = vec![
        (format!("GET /.vestibule/sign-in?to={to}"), page),
        (format!("GET /.vestibule/sign-in?to={to}"), &cookie),
        (format!("GET /.vestibule/sign-in?to={to}&switch=1"), &cookie),
        (format!("GET /.vestibule/sign-in?to=/app/&to={to}"), &cookie),
        (format!("GET /.vestibule/sign-in?to=/app/&fragment={to}"), &cookie),
        (format!("GET /.vestibule/sign-in?fragment={to}&to={to}"), &cookie),
        (format!("GET /.vestibule/sign-in/gitlab?to={to}"), ""),
        (format!("GET /.vestibule/sign-in/gitlab?to={to}&redirect_uri={to}&rd={to}"), &cookie),
        (format!("GET /.vestibule/sign-out?to={to}&rd={to}&return_to={to}&post_logout_redirect_uri={to}"), &cookie),
        (format!("POST /.vestibule/sign-out?to={to}&rd={to}&return_to={to}&next={to}"), &own),
        (format!("GET /.vestibule/callback/gitlab?to={to}&state={to}&code=x&iss={to}"), page),
        (format!("GET /.vestibule/callback/gitlab?error={to}&error_description={to}&error_uri={to}"), page),
        (format!("GET /app/{to}"), page),
    ];
    if trick.iter().all(u8::is_ascii_graphic) {
        let plain = String::from_utf8_lossy(trick).into_owned();
        asked.push((format!("GET {plain}"), page));
        asked.push((format!("GET /.vestibule/sign-in?to={plain}"), &cookie));
        asked.push((format!("GET /app/?{plain}"), page));
    }
    let mut breaches = Vec::new();
    for (line, fields) in &asked {
        let request = format!("{line} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{fields}\r\n", place.host);
        let heard = client::ask(port, request.as_bytes()).await;
        breaches.extend(judge(place, &heard).map(|what| Breach {
            rule: "R6",
            run: None,
            what: format!("{what} by {line}"),
        }));
    }
    (asked.len(), breaches)
}

/// What is wrong with an answer of ours.
fn judge(place: &Place, heard: &Heard) -> Option<String> {
    let [answer] = &heard.answers[..] else { return Some(format!("`{}` was heard", heard.bytes().escape_ascii())) };
    if answer.status >= 500 || !heard.rest.is_empty() || heard.hung {
        return Some(format!("{} with `{}` behind it", answer.status, heard.rest.escape_ascii()));
    }
    let page = answer.text();
    let locations = answer.headers("location");
    let page_links: Vec<_> = links(&page).into_iter().filter(|link| *link != place.issuer).collect();
    let away = locations.iter().copied().chain(page_links.iter().map(String::as_str)).find(|link| !stays(place, link));
    let foreign = answer.headers("set-cookie").into_iter().find(|cookie| !cookie.starts_with(&place.session));
    match (away, foreign) {
        (Some(away), _) => Some(format!("led to {away}")),
        (None, Some(cookie)) => Some(format!("set the cookie {cookie}")),
        (None, None) => None,
    }
}

/// Everything in one of our pages that leads somewhere by itself or by a click; one of them may be the provider.
fn links(page: &str) -> Vec<String> {
    let mut links = Vec::new();
    for start in ["href=\"", "action=\"", "src=\"", "content=\"0;url="] {
        let values = page.split(start).skip(1).filter_map(|rest| rest.split('"').next());
        links.extend(values.map(|value| value.replace("&amp;", "&").replace("&quot;", "\"")));
    }
    links
}

/// Through the provider and back, where the callback leads on.
async fn all_the_way(hall: &Hall, provider: &Provider, trick: &[u8]) -> Option<Breach> {
    let breach = |what: String| Breach { rule: "R6", run: None, what: format!("{what} by {}", trick.escape_ascii()) };
    let text = String::from_utf8(trick.to_vec()).ok()?;
    let (url, binding) = hall.gateway.begin(&text, None).await;
    let callback = provider.authorize(&url, "alice").await;
    let answer = hall.gateway.come_back(&callback.url, &binding).await;
    let Some(location) = answer.header("location") else {
        return Some(breach(format!("the callback answered {}", answer.status)));
    };
    (!stays(&hall.place, location)).then(|| breach(format!("the callback led to {location}")))
}
