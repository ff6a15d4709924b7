//! A person's browser: cookies by host, redirects followed, the provider's form filled in.

use super::{gateway::Gateway, http1::Answer, provider::Provider};
use std::collections::BTreeMap;
use url::{Position, Url};

/// What a browser sends when a person goes to a page.
pub(crate) const NAVIGATION: &[&str] =
    &["Accept: text/html", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document", "Sec-Fetch-Site: none"];

/// A browser.
#[derive(Clone, Default)]
pub(crate) struct Person {
    /// By host and name.
    pub(crate) jar: BTreeMap<(String, String), String>,
    /// Every `Set-Cookie` that came.
    pub(crate) set: Vec<String>,
    /// Cookies with such a name are lost on their way.
    pub(crate) loses: Option<String>,
}

/// Where a way ended.
pub(crate) struct Arrival {
    pub(crate) url: Url,
    pub(crate) answer: Answer,
    /// Every address on the way.
    pub(crate) way: Vec<Url>,
}

impl Person {
    /// One request, with the cookies of its host.
    pub(crate) async fn send(&mut self, gateway: &Gateway, method: &str, url: &Url, lines: &[&str]) -> Answer {
        let host = url.host_str().expect("a host").to_owned();
        let mine = self.jar.iter().filter(|((at, _), _)| *at == host);
        let cookies: Vec<_> = mine.map(|((_, name), value)| format!("{name}={value}")).collect();
        let mut text = format!(
            "{method} {} HTTP/1.1\r\nHost: {host}:{}\r\n",
            &url[Position::BeforePath..Position::AfterQuery],
            gateway.port
        );
        if !cookies.is_empty() {
            text.push_str(&format!("Cookie: {}\r\n", cookies.join("; ")));
        }
        if method != "GET" {
            text.push_str("Content-Length: 0\r\n");
        }
        for line in lines {
            text.push_str(&format!("{line}\r\n"));
        }
        let answer = gateway.raw(text + "\r\n").await;
        for cookie in answer.headers("set-cookie") {
            self.set.push(cookie.to_owned());
            let (name, value) = cookie.split(';').next().and_then(|pair| pair.split_once('=')).expect("a cookie");
            let lost = self.loses.as_deref() == Some(name);
            match value {
                _ if lost => None,
                "" => self.jar.remove(&(host.clone(), name.to_owned())),
                _ => self.jar.insert((host.clone(), name.to_owned()), value.to_owned()),
            };
        }
        answer
    }

    /// Goes to a page and on through redirects and pages that lead on, to the provider's form and back, at most 20 steps.
    pub(crate) async fn go(&mut self, gateway: &Gateway, provider: &Provider, url: &str, user: &str) -> Arrival {
        let mut url = Url::parse(&url.replace("PORT", &gateway.port.to_string())).expect("a URL");
        let mut way = Vec::new();
        for _ in 0..20 {
            way.push(url.clone());
            if url.as_str().starts_with(&provider.issuer) {
                url = provider.authorize(&url, user).await.url;
                continue;
            }
            let answer = self.send(gateway, "GET", &url, NAVIGATION).await;
            let on = answer.header("location").map(str::to_owned).or_else(|| leads_on(&answer, url.fragment()));
            match on {
                Some(on) => {
                    let fragment = url.fragment().map(str::to_owned);
                    url = url.join(&on).expect("a URL");
                    if url.fragment().is_none() {
                        url.set_fragment(fragment.as_deref()); // browsers keep it through a redirect
                    }
                }
                None => return Arrival { url, answer, way },
            }
        }
        panic!("no end of redirects: {way:#?}\n{}", gateway.log());
    }

    /// The value of the session cookie on `host`.
    pub(crate) fn session(&self, gateway: &Gateway, host: &str) -> Option<&str> {
        self.jar.get(&(host.to_owned(), gateway.session_cookie())).map(String::as_str)
    }
}

/// What the script of the page that keeps the fragment does.
fn leads_on(answer: &Answer, fragment: Option<&str>) -> Option<String> {
    let text = answer.text();
    let tag = text.split('<').find(|tag| tag.contains("data-go"))?;
    let href = tag.split("href=\"").nth(1)?.split('"').next()?.replace("&amp;", "&");
    let kept = fragment.map(|fragment| {
        let value: String = url::form_urlencoded::byte_serialize(format!("#{fragment}").as_bytes()).collect();
        format!("&fragment={value}")
    });
    Some(href + &kept.unwrap_or_default())
}
