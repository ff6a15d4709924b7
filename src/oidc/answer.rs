//! What a provider's answer to an authorization request says of our client, where nobody is signed in.

use super::claims::printable;
use http::{StatusCode, header};
use openidconnect::HttpResponse;
use serde_json::Value;
use url::Url;

/// No text of a provider is shown longer, in bytes.
const LONGEST: usize = 200;

/// What an answer says of our client. The texts are the provider's, cut and on one line.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Told {
    /// It came back to our redirect URI, with an error that only says that nobody is signed in.
    Accepted(String),
    /// The scopes are refused.
    Scopes(String),
    /// The client may not use the code flow.
    Flow(String),
    /// The redirect URI is not registered.
    RedirectUri(String),
    /// There is no such client.
    Client(String),
    /// One of both.
    Refused(String),
    /// Its own page came first, so nobody can tell.
    Nothing(String),
    /// It is out of order.
    Down(String),
}

/// Reads an answer of the authorization endpoint. Only what comes back to `redirect_uri` is the protocol (RFC 6749, section
/// 4.1.2.1); everything else is a page for people, whose words are shown.
pub(super) fn told(answer: &HttpResponse, endpoint: &Url, redirect_uri: &Url) -> Told {
    let status = answer.status();
    if status.is_redirection() {
        let location = answer.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
        return match location.and_then(|location| endpoint.join(location).ok()) {
            Some(to) => redirected(&to, redirect_uri),
            None => Told::Nothing(format!("it answered {status} without a place to go")),
        };
    }
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        return Told::Down(format!("the authorization endpoint answered {status}"));
    }
    let said = words(answer.body());
    let lower = said.to_lowercase();
    if ["redirect_uri", "redirect uri", "redirect url", "callback url"].iter().any(|word| lower.contains(word)) {
        return Told::RedirectUri(said);
    }
    if status.is_success() {
        let wrong = ["invalid_client", "unknown client", "client not found"].iter().any(|word| lower.contains(word));
        let page = || "it shows a page of its own before it looks at the client".to_owned();
        return if wrong { Told::Client(said) } else { Told::Nothing(page()) };
    }
    let said = if said.is_empty() { format!("it answered {status}") } else { said };
    if lower.contains("client") { Told::Client(said) } else { Told::Refused(said) }
}

fn redirected(to: &Url, ours: &Url) -> Told {
    let find = |name: &str| to.query_pairs().find(|(key, _)| key == name).map(|(_, value)| printable(&value, LONGEST));
    let place = |url: &Url| (url.origin(), url.path().to_owned());
    if place(to) != place(ours) {
        let shown = format!("{}{}", to.origin().ascii_serialization(), to.path());
        let lower = to.as_str().to_lowercase();
        return match find("error_description").or_else(|| find("error")) {
            Some(said) if said.to_lowercase().contains("redirect") => Told::RedirectUri(said),
            Some(said) => Told::Refused(said),
            None if lower.contains("error") => Told::Refused(format!("it leads to its page `{shown}`")),
            None => Told::Nothing(format!("it leads to its sign-in, `{shown}`, before it looks at the client")),
        };
    }
    let Some(error) = find("error") else { return Told::Accepted("no error".to_owned()) };
    let said = match find("error_description") {
        Some(more) => format!("`{error}`: {more}"),
        None => format!("`{error}`"),
    };
    match error.as_str() {
        "invalid_scope" => Told::Scopes(said),
        "unauthorized_client" | "unsupported_response_type" => Told::Flow(said),
        "server_error" | "temporarily_unavailable" => Told::Down(said),
        "invalid_request" | "request_not_supported" => Told::Nothing(said),
        _ => Told::Accepted(error),
    }
}

/// The words of a page or of JSON, on one line.
fn words(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    if let Ok(Value::Object(members)) = serde_json::from_str::<Value>(&text) {
        let member = |name: &str| members.get(name).and_then(Value::as_str);
        let said: Vec<&str> = ["error", "error_description"].into_iter().filter_map(member).collect();
        return printable(&said.join(": "), LONGEST);
    }
    let page = text.find("<body").map_or(&*text, |at| &text[at..]);
    let mut shown = String::new();
    let mut rest = page;
    while let Some(open) = rest.find('<') {
        shown.push_str(&rest[..open]);
        shown.push(' ');
        let tag = &rest[open..];
        let skipped = ["script", "style"].into_iter().find(|name| tag[1..].starts_with(name));
        let end = match skipped {
            Some(name) => tag.find(&format!("</{name}")).map(|at| at + 2 + name.len()),
            None => Some(0),
        };
        rest = end.and_then(|at| Some(&tag[at + tag[at..].find('>')? + 1..])).unwrap_or_default();
    }
    shown.push_str(rest);
    printable(&shown.split_whitespace().collect::<Vec<_>>().join(" "), LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Response;

    const OURS: &str = "https://portal.example.com/.vestibule/callback/sso";

    fn answer(status: u16, location: Option<&str>, body: &str) -> Told {
        let mut builder = Response::builder().status(status);
        if let Some(location) = location {
            builder = builder.header("location", location);
        }
        let answer = builder.body(body.as_bytes().to_vec()).expect("an answer");
        let url = |text: &str| Url::parse(text).expect("a URL");
        told(&answer, &url("https://sso.example.com/auth"), &url(OURS))
    }

    #[test]
    fn what_comes_back_to_us_is_read_by_its_error() {
        let back = |query: &str| answer(302, Some(&format!("{OURS}?{query}")), "");
        assert_eq!(back("error=login_required&state=x"), Told::Accepted("login_required".into()));
        assert_eq!(back("error=consent_required"), Told::Accepted("consent_required".into()));
        assert_eq!(
            back("error=invalid_scope&error_description=no+groups"),
            Told::Scopes("`invalid_scope`: no groups".into())
        );
        assert_eq!(back("error=unauthorized_client"), Told::Flow("`unauthorized_client`".into()));
        assert_eq!(back("error=server_error"), Told::Down("`server_error`".into()));
        assert_eq!(back("error=invalid_request"), Told::Nothing("`invalid_request`".into()));
    }

    #[test]
    fn pages_of_providers_are_read_by_their_words() {
        let page = |status, text: &str| {
            answer(
                status,
                None,
                &format!(
                    "<html><head><title>x</title><style>a client</style></head><body><script>var client</script><h1>Sorry</h1>\n<p>{text}</p></body></html>"
                ),
            )
        };
        for uri in [
            "The redirect URI included is not valid.",
            "Invalid parameter: redirect_uri",
            "The 'redirect_uri' parameter must be a Login redirect URI",
        ] {
            assert_eq!(page(400, uri), Told::RedirectUri(format!("Sorry {uri}")));
        }
        assert_eq!(
            page(401, "Client authentication failed due to unknown client."),
            Told::Client("Sorry Client authentication failed due to unknown client.".into())
        );
        assert_eq!(
            page(200, "AADSTS50011: The redirect URI does not match"),
            Told::RedirectUri("Sorry AADSTS50011: The redirect URI does not match".into())
        );
        assert!(matches!(page(200, "Sign in"), Told::Nothing(_)));
        assert_eq!(answer(400, None, ""), Told::Refused("it answered 400 Bad Request".into()));
        assert!(matches!(answer(503, None, "client"), Told::Down(_)));
        let json = r#"{"error":"invalid_client","error_description":"client is invalid"}"#;
        assert_eq!(answer(400, None, json), Told::Client("invalid_client: client is invalid".into()));
    }

    #[test]
    fn a_sign_in_page_first_tells_nothing() {
        assert!(
            matches!(answer(302, Some("/users/sign_in"), ""), Told::Nothing(said) if said.contains("https://sso.example.com/users/sign_in"))
        );
        assert!(matches!(answer(302, Some("/signin/oauth/error?authError=Cg"), ""), Told::Refused(_)));
        let elsewhere = answer(302, Some("https://portal.example.com/other?error=login_required"), "");
        assert_eq!(elsewhere, Told::Refused("login_required".into()));
        assert!(matches!(answer(302, None, ""), Told::Nothing(_)));
    }

    #[test]
    fn a_page_that_breaks_off_breaks_nothing() {
        for body in ["<", "<script", "<body", "a<b", "<script>x</script", "\u{fffd}<style>", "</"] {
            let _ = words(body.as_bytes());
        }
        assert_eq!(words(b"a<script>x"), "a");
        assert_eq!(words(b"a<script>x</script>b<i>c"), "a b c");
    }
}
