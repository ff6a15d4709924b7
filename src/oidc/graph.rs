//! Microsoft Graph: the groups of people who are in too many for a token of Entra.
//!
//! Both addresses are ours: that of Graph is configured, that of tokens follows from the issuer. Whatever a token says of where
//! its groups are is not looked at, because it may lead anywhere.

use super::{
    GroupList, Provider, ProviderError,
    claims::{self, printable},
    http::{HttpError, REDEEM},
    jws::strict_object,
    rp::TokenErrorBody,
};
use crate::{config::ProviderKind, guid::Guid, principal::MembershipSource};
use http::{Request, StatusCode, header};
use openidconnect::{AsyncHttpClient, HttpRequest, HttpResponse};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};
use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};
use tokio::sync::Mutex;
use url::{Url, form_urlencoded};

/// A token that ends sooner is not used any more.
const MARGIN: Duration = Duration::from_secs(60);
/// A token is used no longer, whatever is said of it.
const LONGEST: Duration = Duration::from_secs(3600);
/// Graph lists no more; who is in more is in an unknown number.
const MOST_GROUPS: usize = 11_000;

/// That Graph looked for somebody, and so let us ask.
pub(super) const NO_SUCH_PERSON: &str = "Graph knows no such person";

/// The application's own tokens for Graph, by tenant.
#[derive(Default)]
pub(super) struct Graph {
    tokens: Mutex<HashMap<Guid, AppToken>>,
}

#[derive(Clone)]
struct AppToken {
    secret: SecretString,
    until: SystemTime,
}

impl Provider {
    /// The groups of `subject`, which is `TENANT.OBJECT`. `None`: Graph is not configured, or cannot list them all.
    ///
    /// # Errors
    /// Any [`ProviderError`].
    ///
    /// Source: Microsoft Graph, `directoryObject: getMemberObjects`.
    pub(super) async fn read_graph(&self, subject: &str) -> Result<Option<GroupList>, ProviderError> {
        let Some(graph) = &self.settings.graph else { return Ok(None) };
        let Some((tenant, person)) = self.known_as(subject) else {
            return Err(self.invalid("the subject is not of the form `TENANT.OBJECT`"));
        };
        let mut token = self.app_token(graph, &tenant).await?;
        let mut answer = self.member_objects(graph, &person, &token).await?;
        if answer.status() == StatusCode::UNAUTHORIZED {
            self.graph.tokens.lock().await.remove(&tenant); // it was revoked: once more with another
            token = self.app_token(graph, &tenant).await?;
            answer = self.member_objects(graph, &person, &token).await?;
        }
        match answer.status() {
            StatusCode::OK => self.member_list(answer.body()).map(Some),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(self.invalid(
                "Graph does not let this application read who is in which groups: give it `GroupMember.Read.All` and \
                 `User.Read.All` as application permissions, with the consent of an administrator",
            )),
            StatusCode::NOT_FOUND => Err(self.invalid(NO_SUCH_PERSON)),
            status => Err(self.invalid(format!("Graph answered {status}"))),
        }
    }

    fn known_as(&self, subject: &str) -> Option<(Guid, Guid)> {
        let (tenant, person) = subject.split_once('.')?;
        let tenant = tenant.parse().ok().filter(|tenant| self.settings.tenants.contains(tenant))?;
        Some((tenant, person.parse().ok()?))
    }

    async fn member_objects(
        &self,
        graph: &Url,
        person: &Guid,
        token: &SecretString,
    ) -> Result<HttpResponse, ProviderError> {
        let url = format!("{}/v1.0/users/{person}/getMemberObjects", graph.origin().ascii_serialization());
        let request = Request::post(url)
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::AUTHORIZATION, format!("Bearer {}", token.expose_secret()))
            .body(br#"{"securityEnabledOnly":false}"#.to_vec())
            .map_err(|_| self.invalid("Graph's address is no URL"))?;
        self.ask(request).await
    }

    fn member_list(&self, body: &[u8]) -> Result<GroupList, ProviderError> {
        let unreadable = |cause: &str| self.invalid(format!("Graph: {cause}"));
        let answer = strict_object(body).map_err(|cause| unreadable(&cause))?;
        let ids = answer.get("value").and_then(Value::as_array).ok_or_else(|| unreadable("no array `value`"))?;
        if ids.len() > MOST_GROUPS || answer.contains_key("@odata.nextLink") {
            return Err(unreadable("it lists a part of the groups only"));
        }
        let paths = claims::list(ProviderKind::Entra, ids).map_err(|cause| unreadable(&cause))?;
        Ok(GroupList { paths, source: MembershipSource::Graph })
    }

    /// A token of our application itself, for Graph in `tenant`. While it is fetched, whoever else needs one waits.
    pub(super) async fn app_token(&self, graph: &Url, tenant: &Guid) -> Result<SecretString, ProviderError> {
        let mut tokens = self.graph.tokens.lock().await;
        let now = SystemTime::now();
        if let Some(token) = tokens.get(tenant).filter(|token| now + MARGIN < token.until) {
            return Ok(token.secret.clone());
        }
        let answer = self.ask(self.app_token_request(graph, tenant)?).await?;
        if answer.status() != StatusCode::OK {
            return Err(match serde_json::from_slice::<TokenErrorBody>(answer.body()) {
                Ok(body) => self.oauth_error(&body),
                Err(_) => {
                    self.invalid(format!("tenant `{tenant}` gives no token for Graph: it answered {}", answer.status()))
                }
            });
        }
        let answer = strict_object(answer.body()).map_err(|cause| self.invalid(format!("token for Graph: {cause}")))?;
        let token = self.app_token_of(&answer, now)?;
        tokens.insert(tenant.clone(), token.clone());
        Ok(token.secret)
    }

    /// Source: RFC 6749, section 4.4.
    fn app_token_request(&self, graph: &Url, tenant: &Guid) -> Result<HttpRequest, ProviderError> {
        let issuer = self.settings.issuer_of(tenant);
        let authority = issuer.strip_suffix("/v2.0").unwrap_or(&issuer);
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "client_credentials")
            .append_pair("client_id", &self.settings.client_id)
            .append_pair("client_secret", self.settings.client_secret.expose_secret())
            .append_pair("scope", &format!("{}/.default", graph.origin().ascii_serialization()))
            .finish();
        Request::post(format!("{authority}/oauth2/v2.0/token"))
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form.into_bytes())
            .map_err(|_| self.invalid("its issuer is no URL"))
    }

    fn app_token_of(&self, answer: &Map<String, Value>, now: SystemTime) -> Result<AppToken, ProviderError> {
        let secret = answer.get("access_token").and_then(Value::as_str).unwrap_or_default();
        if secret.is_empty() || !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(self.invalid("its token for Graph is not visible ASCII"));
        }
        let life = match answer.get("expires_in") {
            Some(Value::Number(seconds)) => seconds.as_u64(),
            Some(Value::String(seconds)) => seconds.parse().ok(),
            _ => None,
        };
        let life = Duration::from_secs(life.unwrap_or_default()).min(LONGEST);
        Ok(AppToken { secret: SecretString::from(secret), until: now + life })
    }

    async fn ask(&self, request: HttpRequest) -> Result<HttpResponse, ProviderError> {
        let asked: Result<_, HttpError> = self.http.patient(REDEEM).call(request).await;
        asked.map_err(|cause| match cause.is_outage() {
            true => self.unavailable(printable(&cause.to_string(), 300)),
            false => self.invalid(printable(&cause.to_string(), 300)),
        })
    }
}
