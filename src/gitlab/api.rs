//! Reads members, people and our own token by GitLab's REST API (version 4).

use crate::{
    credential::ApiToken,
    group::{GroupPath, Role},
    moment::{day, millis},
    oidc::http::{Http, HttpError, READ},
    text::sha256,
};
use arc_swap::ArcSwap;
use http::{HeaderMap, Request, StatusCode, header};
use openidconnect::HttpResponse;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, de::DeserializeOwned};
use std::{
    fmt::Write as _,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

/// Members in one answer; GitLab gives no more.
const PAGE: usize = 100;
/// A group with more pages of members than this is not read.
const PAGES: u32 = 1_000;
/// So often a list is read again that changed while it was read.
const TRIES: u32 = 3;
/// How long we wait where GitLab says that we ask too often, and not for how long.
const PAUSE: Duration = Duration::from_secs(30);
/// GitLab may tell us to wait; not for longer than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// The API of one GitLab, asked with one service token.
pub struct Api {
    http: Http,
    /// Up to and with `/api/v4`.
    base: String,
    token: ArcSwap<SecretString>,
    /// The same as routes send it on, if somebody asked for it.
    lent: Mutex<Option<Arc<ApiToken>>>,
    /// SHA-256 of the token that the configuration names.
    configured: ArcSwap<[u8; 32]>,
    /// Nobody asks before this, in milliseconds since 1970: GitLab said so.
    not_before: AtomicU64,
}

/// One member of a group, however they became one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Member {
    /// GitLab's number of the person: the `sub` of their ID tokens.
    pub id: u64,
    /// What they may do; nothing if they are blocked, or their membership is over.
    pub role: Option<Role>,
}

/// What GitLab says about the token that it is asked with.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct TokenAbout {
    /// Its number.
    pub id: u64,
    /// What it may do.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// `YYYY-MM-DD`; it ends at 00:00 UTC of that day. Absent: never.
    pub expires_at: Option<String>,
    /// When it was made, by RFC 3339.
    pub created_at: Option<String>,
}

/// A token in place of the one that it was asked for with, which is dead now.
#[derive(Debug, Deserialize)]
pub struct Rotated {
    /// The new token.
    pub token: SecretString,
    /// When it ends.
    pub expires_at: Option<String>,
}

/// Why the API gave no answer that is of use.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ApiError {
    /// Nobody answered, or not in time, or with 5xx.
    #[error("GitLab's API cannot be reached: {0}")]
    Unavailable(String),
    /// It said that we ask too often; nobody asks before it allows it.
    #[error("GitLab's API is asked too often, by its own word: it is left alone for {} s", .0.as_secs())]
    Limited(Duration),
    /// The token is not accepted.
    #[error(
        "GitLab's API does not accept the token ({0}): give `membership.api.token` another one with scope `read_api`"
    )]
    Token(StatusCode),
    /// There is no such thing, or none that the token may see.
    #[error("GitLab's API has nothing there, or nothing that the token may see")]
    Missing,
    /// An answer that cannot be understood.
    #[error("GitLab's API gave an answer that cannot be understood: {0}")]
    Invalid(String),
}

impl ApiError {
    /// GitLab may well answer later.
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Limited(_))
    }
}

impl From<HttpError> for ApiError {
    fn from(error: HttpError) -> Self {
        if error.is_outage() { Self::Unavailable(error.to_string()) } else { Self::Invalid(error.to_string()) }
    }
}

#[derive(Deserialize)]
struct MemberAnswer {
    id: u64,
    #[serde(default)]
    username: Option<String>,
    #[serde(default)]
    state: Option<String>,
    #[serde(default)]
    expires_at: Option<String>,
    access_level: u64,
}

#[derive(Deserialize)]
struct UserAnswer {
    state: String,
}

#[derive(Deserialize)]
struct JobAnswer {
    status: String,
}

#[derive(Deserialize)]
struct DescendantAnswer {
    full_path: String,
}

#[derive(Deserialize)]
struct GroupAnswer {
    id: u64,
}

impl Api {
    /// The API at `base`, such as `https://gitlab.example.com/api/v4`. It has no token yet.
    pub fn new(base: &str) -> Arc<Self> {
        Arc::new(Self {
            http: Http::new(base),
            base: base.trim_end_matches('/').to_owned(),
            token: ArcSwap::from_pointee(SecretString::default()),
            lent: Mutex::default(),
            configured: ArcSwap::default(),
            not_before: AtomicU64::new(0),
        })
    }

    /// Whether this is the API at `base`.
    pub fn is_at(&self, base: &str) -> bool {
        self.base == base.trim_end_matches('/')
    }

    /// Takes the token that the configuration names, unless it is the same as before: then one that was got in its place stays.
    /// True if it is another.
    pub fn configure(&self, token: &SecretString) -> bool {
        let hash = sha256(token.expose_secret().as_bytes());
        let other = self.configured.swap(Arc::new(hash)).as_slice() != hash;
        if other {
            self.use_token(token.clone());
        }
        other
    }

    /// SHA-256, in hex, of the token that the configuration names.
    pub fn configured(&self) -> String {
        crate::text::hex(&**self.configured.load())
    }

    /// The token that is asked with.
    pub fn token(&self) -> SecretString {
        (**self.token.load()).clone()
    }

    /// Asks with another token from now on.
    pub fn use_token(&self, token: SecretString) {
        let lent = self.lent();
        if let Some(lent) = &*lent {
            lent.replace(&token);
        }
        self.token.store(Arc::new(token));
    }

    /// Lends the token to routes: `lent` has the one in force from now on, and what had it before does not change any more.
    pub fn lend(&self, lent: &Arc<ApiToken>) {
        let mut now = self.lent();
        lent.replace(&self.token.load());
        *now = Some(lent.clone());
    }

    fn lent(&self) -> MutexGuard<'_, Option<Arc<ApiToken>>> {
        self.lent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everybody who is effectively a member of `group`: directly, by a group above it, or by a group that was invited.
    ///
    /// # Errors
    /// Any [`ApiError`].
    pub async fn members(&self, group: &GroupPath, now: SystemTime) -> Result<Vec<Member>, ApiError> {
        let path = format!("/groups/{}/members/all", encoded(group.as_str()));
        self.list(&path, |member: &MemberAnswer| member.as_of(now)).await
    }

    /// The same, with the login of each.
    ///
    /// # Errors
    /// Any [`ApiError`].
    pub async fn people(&self, group: &GroupPath, now: SystemTime) -> Result<Vec<(Member, String)>, ApiError> {
        let path = format!("/groups/{}/members/all", encoded(group.as_str()));
        let login = |member: &MemberAnswer| member.username.clone().unwrap_or_else(|| member.id.to_string());
        self.list(&path, |member: &MemberAnswer| (member.as_of(now), login(member))).await
    }

    /// Every group below `group`, at any depth.
    ///
    /// # Errors
    /// Any [`ApiError`].
    pub async fn below(&self, group: &GroupPath) -> Result<Vec<GroupPath>, ApiError> {
        let path = format!("/groups/{}/descendant_groups", encoded(group.as_str()));
        let paths = self.list(&path, |group: &DescendantAnswer| group.full_path.clone()).await?;
        let parsed = paths.iter().map(|path| path.parse().map_err(|error| ApiError::Invalid(format!("{error}"))));
        parsed.collect()
    }

    /// A list that has pages.
    async fn list<A: DeserializeOwned, T>(&self, path: &str, of: impl Fn(&A) -> T) -> Result<Vec<T>, ApiError> {
        for _ in 0..TRIES {
            if let Some(all) = self.pages(path, &of).await? {
                return Ok(all);
            }
        }
        Err(ApiError::Invalid(format!("`{path}` changed while it was read, {TRIES} times")))
    }

    /// All pages; nothing if how many entries there are changed meanwhile: when one leaves, the pages behind move up, and whoever
    /// moves to one that was read already is missed.
    async fn pages<A: DeserializeOwned, T>(
        &self,
        path: &str,
        of: impl Fn(&A) -> T,
    ) -> Result<Option<Vec<T>>, ApiError> {
        let (mut all, mut count) = (Vec::new(), None);
        for page in 1..=PAGES {
            let (answer, headers): (Vec<A>, _) = self.get(&format!("{path}?per_page={PAGE}&page={page}")).await?;
            let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
            let total = header("x-total").map(str::to_owned); // left out for more than 10,000
            if *count.get_or_insert_with(|| total.clone()) != total {
                return Ok(None);
            }
            let full = answer.len() >= PAGE;
            all.extend(answer.iter().map(&of));
            match header("x-next-page") {
                Some("") => return Ok(Some(all)),
                None if !full => return Ok(Some(all)), // a proxy in between may have taken the header away
                _ => {}
            }
        }
        Err(ApiError::Invalid(format!("`{path}` has more than {} entries", PAGES as usize * PAGE)))
    }

    /// One person as a member of `group`; `None`: they are none, or there is no such group.
    ///
    /// # Errors
    /// Any [`ApiError`] but `Missing`.
    pub async fn member(&self, group: &GroupPath, user: u64, now: SystemTime) -> Result<Option<Member>, ApiError> {
        let path = format!("/groups/{}/members/all/{user}", encoded(group.as_str()));
        match self.get::<MemberAnswer>(&path).await {
            Ok((member, _)) if member.id == user => Ok(Some(member.as_of(now))),
            Ok((member, _)) => Err(ApiError::Invalid(format!("asked for person {user}, it told of {}", member.id))),
            Err(ApiError::Missing) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether a person may use GitLab: they exist, and are neither blocked, banned, deactivated nor waiting for approval.
    ///
    /// # Errors
    /// Any [`ApiError`] but `Missing`.
    pub async fn is_active(&self, user: u64) -> Result<bool, ApiError> {
        match self.get::<UserAnswer>(&format!("/users/{user}")).await {
            Ok((user, _)) => Ok(user.state == "active"),
            Err(ApiError::Missing) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether a job runs now.
    ///
    /// # Errors
    /// Any [`ApiError`]; `Missing` where there is no such job, or none that our token may see.
    pub async fn job_runs(&self, project: u64, job: u64) -> Result<bool, ApiError> {
        Ok(self.get::<JobAnswer>(&format!("/projects/{project}/jobs/{job}")).await?.0.status == "running")
    }

    /// GitLab's number of a group.
    ///
    /// # Errors
    /// Any [`ApiError`].
    pub async fn group(&self, group: &GroupPath) -> Result<u64, ApiError> {
        let path = format!("/groups/{}?with_projects=false", encoded(group.as_str()));
        Ok(self.get::<GroupAnswer>(&path).await?.0.id)
    }

    /// What GitLab says about our token.
    ///
    /// # Errors
    /// Any [`ApiError`].
    pub async fn about_token(&self) -> Result<TokenAbout, ApiError> {
        Ok(self.get("/personal_access_tokens/self").await?.0)
    }

    /// Asks for a token in place of ours, good until `expires`, a day. Ours is dead as soon as GitLab has read this, whether
    /// its answer reaches us or not; asking again with it would kill the new one too. So this is asked once, never again.
    ///
    /// # Errors
    /// Any [`ApiError`]; after all but `Token` it is open whether our token is dead.
    pub async fn rotate_token(&self, expires: &str) -> Result<Rotated, ApiError> {
        let request = Request::post(format!("{}/personal_access_tokens/self/rotate", self.base))
            .header(header::CONTENT_TYPE, "application/json")
            .body(format!(r#"{{"expires_at":"{expires}"}}"#).into_bytes());
        let answer = self.send(request).await?;
        parsed(&answer)
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<(T, HeaderMap), ApiError> {
        let answer = self.send(Request::get(format!("{}{path}", self.base)).body(Vec::new())).await?;
        Ok((parsed(&answer)?, answer.into_parts().0.headers))
    }

    async fn send(&self, request: Result<Request<Vec<u8>>, http::Error>) -> Result<HttpResponse, ApiError> {
        let now = SystemTime::now();
        if let Some(pause) = self.pause(now) {
            return Err(ApiError::Limited(pause));
        }
        let mut request = request.map_err(|error| ApiError::Invalid(error.to_string()))?;
        let token = format!("Bearer {}", self.token.load().expose_secret());
        let mut token = http::HeaderValue::try_from(token)
            .map_err(|_| ApiError::Invalid("the token holds characters that no header may have".to_owned()))?;
        token.set_sensitive(true);
        request.headers_mut().insert(header::AUTHORIZATION, token);
        request.headers_mut().insert(header::ACCEPT, http::HeaderValue::from_static("application/json"));
        let answer = self.http.send(request, READ).await?;
        match answer.status() {
            StatusCode::OK | StatusCode::CREATED => Ok(answer),
            StatusCode::TOO_MANY_REQUESTS => Err(ApiError::Limited(self.leave_alone(answer.headers(), now))),
            StatusCode::NOT_FOUND => Err(ApiError::Missing),
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => Err(ApiError::Token(status)),
            status if status.is_server_error() => Err(ApiError::Unavailable(format!("it answered {status}"))),
            status => Err(ApiError::Invalid(format!("it answered {status}"))),
        }
    }

    fn pause(&self, now: SystemTime) -> Option<Duration> {
        let left = self.not_before.load(Ordering::Relaxed).saturating_sub(millis(now));
        (1..=LONGEST_PAUSE.as_millis()).contains(&u128::from(left)).then(|| Duration::from_millis(left))
    }

    /// Source: RFC 9110, section 10.2.3 (`Retry-After`); GitLab adds `RateLimit-Reset`, in seconds since 1970.
    fn leave_alone(&self, headers: &HeaderMap, now: SystemTime) -> Duration {
        let number = |name| headers.get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
        let reset =
            || Some(Duration::from_millis(number("ratelimit-reset")?.saturating_mul(1000).saturating_sub(millis(now))));
        let pause = number("retry-after").map(Duration::from_secs).or_else(reset).unwrap_or(PAUSE);
        let pause = pause.clamp(Duration::from_secs(1), LONGEST_PAUSE);
        self.not_before.store(millis(now + pause), Ordering::Relaxed);
        tracing::warn!(seconds = pause.as_secs(), "GitLab's API says that it is asked too often");
        pause
    }
}

impl MemberAnswer {
    fn as_of(&self, now: SystemTime) -> Member {
        let active = self.state.as_deref().is_none_or(|state| state == "active");
        let over = self.expires_at.as_deref().is_some_and(|last| last <= &*day(now));
        let role = Role::of_level(self.access_level).filter(|_| active && !over);
        Member { id: self.id, role }
    }
}

fn parsed<T: DeserializeOwned>(answer: &HttpResponse) -> Result<T, ApiError> {
    // the error of serde may show what was there, and that may be a token
    serde_json::from_slice(answer.body()).map_err(|error| {
        ApiError::Invalid(format!(
            "no JSON of the shape that was expected, at line {} column {}",
            error.line(),
            error.column()
        ))
    })
}

/// A path as GitLab wants it in place of a number: every byte that is not unreserved (RFC 3986, section 2.3) by its code.
fn encoded(path: &str) -> String {
    let mut text = String::with_capacity(path.len() + 8);
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn member(text: &str) -> Member {
        serde_json::from_str::<MemberAnswer>(text).expect("a member").as_of(at(1_789_000_000)) // 2026-09-10
    }

    #[test]
    fn a_blocked_or_former_member_has_no_role() {
        let owner = Some(Role::Owner);
        assert_eq!(
            member(r#"{"id":7,"state":"active","access_level":50,"expires_at":null}"#),
            Member { id: 7, role: owner }
        );
        assert_eq!(member(r#"{"id":7,"state":"active","access_level":60,"expires_at":"2026-09-11"}"#).role, owner);
        for text in [
            r#"{"id":7,"state":"blocked","access_level":50}"#,
            r#"{"id":7,"state":"deactivated","access_level":50}"#,
            r#"{"id":7,"state":"active","access_level":50,"expires_at":"2026-09-10"}"#,
            r#"{"id":7,"state":"active","access_level":50,"expires_at":"2025-12-31"}"#,
            r#"{"id":7,"state":"active","access_level":5}"#,
            r#"{"id":7,"state":"active","access_level":0}"#,
        ] {
            assert_eq!(member(text).role, None, "{text}");
        }
    }

    #[test]
    fn a_path_is_one_segment() {
        assert_eq!(encoded("acme/platform-x_y.z"), "acme%2Fplatform-x_y.z");
        assert_eq!(encoded("ä/../b?c"), "%C3%A4%2F..%2Fb%3Fc");
    }

    #[test]
    fn what_is_lent_is_the_token_in_force() {
        let api = Api::new("http://127.0.0.1:1/api/v4");
        let (before, now) = (ApiToken::new(&"configured".into()), ApiToken::new(&"configured".into()));
        let sent = |token: &Arc<ApiToken>| token.now().expect("a token").to_str().expect("ASCII").to_owned();
        assert!(api.configure(&"configured".into()));
        api.use_token("renewed".into());
        api.lend(&before);
        assert_eq!(sent(&before), "renewed", "not the dead one that the configuration names");
        api.lend(&now); // after a reload
        api.use_token("renewed again".into());
        assert_eq!((&*sent(&before), &*sent(&now)), ("renewed", "renewed again"));
    }

    #[test]
    fn who_asks_too_often_waits_as_long_as_it_is_told() {
        let api = Api::new("http://127.0.0.1:1/api/v4");
        let now = at(1_789_000_000);
        let headers = |name: &'static str, value: &str| {
            HeaderMap::from_iter([(http::HeaderName::from_static(name), value.parse().expect("a value"))])
        };
        for (headers, seconds) in [
            (headers("retry-after", "7"), 7),
            (headers("ratelimit-reset", "1789000012"), 12),
            (headers("ratelimit-reset", "1788999999"), 1),
            (headers("retry-after", "99999"), 300),
            (headers("retry-after", "soon"), 30),
            (HeaderMap::new(), 30),
        ] {
            assert_eq!(api.leave_alone(&headers, now), Duration::from_secs(seconds));
            assert_eq!(api.pause(now), Some(Duration::from_secs(seconds)));
            assert_eq!(api.pause(now + Duration::from_secs(seconds)), None);
        }
        assert_eq!(api.pause(now - Duration::from_secs(3600)), None, "a clock that was set back stops nobody for long");
    }
}
