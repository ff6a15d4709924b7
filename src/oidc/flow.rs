//! The messages that a sign-in and a session exchange with the provider.

use super::{
    Access, AuthorizationRequest, CodeGrant, LogoutToken, Provider, ProviderError, Refreshed, SignedIn, Tokens,
    claims::{self, Claims, printable},
    discovery::Document,
    http::{HttpError, REDEEM, REFRESH},
    id_token::{self, Rules, TokenError},
    jws, logout_token,
    rp::{self, TokenAnswer, TokenErrorBody},
};
use crate::{
    config::ProviderKind,
    principal::{Lack, StepUp, Strength},
};
use http::{StatusCode, header};
use openidconnect::{
    AsyncHttpClient, AuthenticationFlow, AuthorizationCode, CsrfToken, ErrorResponseType, HttpRequest, Nonce,
    OAuth2TokenResponse, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, RefreshToken, RequestTokenError,
    core::{CoreAuthPrompt, CoreErrorResponseType, CoreResponseType},
};
use secrecy::{ExposeSecret, SecretString};
use std::time::{Duration, Instant, SystemTime};
use url::{Url, form_urlencoded};

/// The life of an access token whose answer does not say it.
const USUAL_LIFE: Duration = Duration::from_secs(3600);
const LONGEST_LIFE: Duration = Duration::from_secs(366 * 24 * 3600);

const LONGEST_DESCRIPTION: usize = 200;

/// The longest ID token that is sent along in an address: many servers take 8 KiB in all. The client id names us too.
const LONGEST_HINT: usize = 6 * 1024;

/// The values of `error` with which a provider says that it cannot answer now.
const OUTAGES: [&str; 3] = ["temporarily_unavailable", "server_error", "slow_down"];

/// Why an ID token was not verified.
enum Unverified {
    /// It breaks a rule, or none of the provider's keys of now made its signature.
    Bad(ProviderError),
    /// Newer keys may have made its signature, and could not be read or may not be read again yet.
    NoKeys(ProviderError),
}

impl Unverified {
    fn into_error(self) -> ProviderError {
        match self {
            Self::Bad(error) | Self::NoKeys(error) => error,
        }
    }
}

impl Provider {
    pub(super) fn build_authorization_url(&self, request: &AuthorizationRequest<'_>) -> Result<Url, ProviderError> {
        let client = self.client(&*self.document()?)?;
        let verifier = request.verifier.expose_secret();
        if !(43..=128).contains(&verifier.len()) {
            return Err(self.invalid("our code verifier is not of 43 to 128 characters"));
        }
        let challenge = PkceCodeChallenge::from_code_verifier_sha256(&PkceCodeVerifier::new(verifier.to_owned()));
        let (state, nonce) = (request.state.to_owned(), request.nonce.to_owned());
        let client = client.set_redirect_uri(RedirectUrl::from_url(request.redirect_uri.clone()));
        let mut asked = client
            .authorize_url(
                AuthenticationFlow::<CoreResponseType>::AuthorizationCode,
                move || CsrfToken::new(state),
                move || Nonce::new(nonce),
            )
            .set_pkce_challenge(challenge)
            .add_scopes(rp::scopes(&self.settings));
        if let Some(prompt) = request.prompt {
            asked = asked.add_prompt(CoreAuthPrompt::Extension(prompt.to_owned()));
        }
        for (name, value) in self.more_parameters(request) {
            asked = asked.add_extra_param(name, value);
        }
        Ok(asked.url().0)
    }

    /// What one request, or one kind of provider, is asked besides.
    fn more_parameters(&self, request: &AuthorizationRequest<'_>) -> Vec<(&'static str, String)> {
        let mut more = Vec::new();
        let step_up = request.step_up;
        more.extend(step_up.and_then(|asked| Some(("acr_values", asked.acr.clone()?))));
        more.extend(step_up.and_then(|asked| Some(("max_age", asked.max_age?.as_secs().to_string()))));
        more.extend(request.login_hint.map(|hint| ("login_hint", hint.to_owned())));
        if self.settings.kind == ProviderKind::Google {
            more.push(("access_type", "offline".to_owned())); // or there would be no refresh token, ever
            match &self.settings.hosted_domains[..] {
                [] => {}
                [only] => more.push(("hd", only.clone())), // a hint: the claim is what counts
                _ => more.push(("hd", "*".to_owned())),
            }
        }
        more
    }

    pub(super) async fn redeem_code(&self, grant: &CodeGrant<'_>, now: SystemTime) -> Result<SignedIn, ProviderError> {
        let document = self.document()?;
        let client = self.client(&document)?.set_redirect_uri(RedirectUrl::from_url(grant.redirect_uri.clone()));
        let answer = client
            .exchange_code(AuthorizationCode::new(grant.code.expose_secret().to_owned()))
            .set_pkce_verifier(PkceCodeVerifier::new(grant.verifier.expose_secret().to_owned()))
            .request_async(&self.http.patient(REDEEM))
            .await
            .map_err(|cause| self.grant_error(cause))?;
        let token = answer.id_token.as_deref().ok_or_else(|| self.invalid("its token response has no ID token"))?;
        let id_token = self.verified(token, &Rules::sign_in(grant, answer.access_token(), now)).await;
        let id_token = id_token.map_err(Unverified::into_error)?;
        let tokens = self.tokens(&answer, None, now)?;
        let subject = id_token::subject(&id_token).to_owned();
        let userinfo = match &document.userinfo_endpoint {
            Some(endpoint) if self.needs_userinfo(&id_token) => {
                Some(self.userinfo(endpoint, &tokens.access.token, &subject).await?)
            }
            _ => None,
        };
        let mut signed_in = self.signed_in(&id_token, userinfo.as_ref(), tokens)?;
        if let Some(asked) = grant.step_up {
            self.check_strength(asked, &signed_in.strength, now)?;
        }
        if signed_in.groups.is_none() && self.reads_graph(&id_token) {
            signed_in.groups = self.graph_at_sign_in(&signed_in.person.id.subject).await;
        }
        Ok(signed_in)
    }

    /// What came has to be what was asked for; a provider may do less than it is asked to.
    ///
    /// Source: OpenID Connect Core 1.0, section 3.1.3.7, items 12 and 13.
    fn check_strength(&self, asked: &StepUp, strength: &Strength, now: SystemTime) -> Result<(), ProviderError> {
        let Some(lack) = asked.lacking(strength, now) else { return Ok(()) };
        let cause = match lack {
            Lack::Acr => {
                let found = strength.acr.as_deref().map_or_else(|| "none".to_owned(), |acr| format!("`{acr}`"));
                format!("its `acr` is {found}, expected `{}`", asked.acr.as_deref().unwrap_or_default())
            }
            Lack::Untimed => "it has no `auth_time`, and `max_age` was sent".to_owned(),
            Lack::Old => {
                let age = strength.auth_time.and_then(|proved| now.duration_since(proved).ok()).unwrap_or_default();
                let allowed = asked.max_age.unwrap_or_default().as_secs();
                format!("its `auth_time` is {} s ago, {allowed} s are allowed", age.as_secs())
            }
        };
        Err(ProviderError::Insufficient { provider: self.name(), lack, cause })
    }

    pub(super) async fn refresh_tokens(
        &self,
        before: &Tokens,
        subject: &str,
        now: SystemTime,
    ) -> Result<Refreshed, ProviderError> {
        let client = self.client(&*self.document()?)?;
        let current = before.refresh.as_ref().ok_or_else(|| self.invalid("it gave no refresh token"))?;
        let current = RefreshToken::new(current.expose_secret().to_owned());
        let asked = Instant::now();
        let answer = client
            .exchange_refresh_token(&current)
            .request_async(&self.http.patient(REFRESH))
            .await
            .map_err(|cause| self.grant_error(cause))?;
        let mut tokens = self.tokens(&answer, Some(before), now)?; // good for no longer than if they were given at once
        let Some(token) = answer.id_token.as_deref() else { return Ok(Refreshed { tokens, groups: None }) };
        let rules = Rules::refresh(before.id.as_ref(), subject, answer.access_token(), now + asked.elapsed());
        let groups = match self.verified(token, &rules).await {
            Ok(id_token) => self.groups_of_id_token(&id_token, &tokens.access),
            Err(Unverified::Bad(error)) => return Err(error),
            Err(Unverified::NoKeys(error)) => {
                // The refresh token of before is used up: without the new one the session would end.
                tracing::warn!(%error, "a refreshed ID token cannot be checked and is not used");
                tokens.id.clone_from(&before.id);
                None
            }
        };
        Ok(Refreshed { tokens, groups })
    }

    pub(super) async fn revoke_token(&self, token: &SecretString) -> Result<(), ProviderError> {
        let document = self.document()?;
        let Some(endpoint) = &document.revocation_endpoint else { return Ok(()) };
        let request = self.revocation(endpoint, document.secret_in_body(), token)?;
        let answer = self.http.patient(REDEEM).call(request).await;
        let answer = answer.map_err(|cause| self.http_error(&cause))?;
        if answer.status() == StatusCode::OK {
            return Ok(());
        }
        match serde_json::from_slice::<TokenErrorBody>(answer.body()) {
            Ok(body) => Err(self.oauth_error(&body)),
            Err(_) => Err(self.invalid(format!("its revocation endpoint answered {}", answer.status()))),
        }
    }

    pub(super) fn build_end_session_url(
        &self,
        id_token: Option<&SecretString>,
        back: &Url,
        state: &str,
    ) -> Option<Url> {
        let mut url = self.document().ok()?.end_session_endpoint.clone()?;
        let mut query = url.query_pairs_mut();
        if let Some(hint) = id_token.and_then(|token| self.logout_hint(token)) {
            query.append_pair("logout_hint", &hint); // Entra asks nobody which account is meant then
        } else if let Some(token) =
            id_token.map(ExposeSecret::expose_secret).filter(|token| token.len() <= LONGEST_HINT)
        {
            query.append_pair("id_token_hint", token);
        }
        query.append_pair("client_id", &self.settings.client_id);
        query.append_pair("post_logout_redirect_uri", back.as_str());
        query.append_pair("state", state);
        drop(query);
        Some(url)
    }

    /// What Entra wants to be told at sign-out, if it sends that: the claim `login_hint` of the ID token.
    fn logout_hint(&self, id_token: &SecretString) -> Option<String> {
        let claims = (self.settings.kind == ProviderKind::Entra)
            .then(|| jws::read(id_token.expose_secret(), id_token::LONGEST).ok())??
            .claims;
        Some(printable(claims.get("login_hint")?.as_str()?, 1024)).filter(|hint| !hint.is_empty())
    }

    fn client(&self, document: &Document) -> Result<rp::Rp, ProviderError> {
        rp::client(&self.settings, document).map_err(|cause| self.invalid(cause))
    }

    /// Verifies an ID token. A key that we do not know, or a wrong signature, causes one read of newer keys (at most
    /// every 30 s) and a second try.
    async fn verified(&self, token: &str, rules: &Rules<'_>) -> Result<Claims, Unverified> {
        let bad = |cause: TokenError| Unverified::Bad(self.token_error(cause));
        let keys = self.usable_keys(SystemTime::now()).map_err(Unverified::NoKeys)?;
        let unknown = match id_token::verify(&self.settings, token, &keys, rules) {
            Ok(claims) => return Ok(claims),
            Err(cause @ (TokenError::Rule(_) | TokenError::Outsider { .. })) => return Err(bad(cause)),
            Err(cause @ TokenError::Key(_)) => cause,
        };
        match self.keys.newer(&keys, self.read_keys()).await.map_err(Unverified::NoKeys)? {
            None => Err(Unverified::NoKeys(self.invalid(unknown.to_string()))),
            Some(newer) => id_token::verify(&self.settings, token, &newer, rules).map_err(bad),
        }
    }

    /// Verifies a logout token, with newer keys where it names one that we do not know.
    pub(super) async fn verified_logout(&self, token: &str, now: SystemTime) -> Result<LogoutToken, ProviderError> {
        let bad = |cause: TokenError| self.invalid(cause.to_string().replace("ID token", "logout token"));
        let keys = self.usable_keys(SystemTime::now())?;
        let unknown = match logout_token::verify(&self.settings, token, &keys, now) {
            Ok(said) => return Ok(said),
            Err(cause @ (TokenError::Rule(_) | TokenError::Outsider { .. })) => return Err(bad(cause)),
            Err(cause @ TokenError::Key(_)) => cause,
        };
        match self.keys.newer(&keys, self.read_keys()).await? {
            None => Err(bad(unknown)),
            Some(newer) => logout_token::verify(&self.settings, token, &newer, now).map_err(bad),
        }
    }

    fn token_error(&self, error: TokenError) -> ProviderError {
        match error {
            TokenError::Key(_) | TokenError::Rule(_) => self.invalid(error.to_string()),
            TokenError::Outsider { cause, sentence } => {
                ProviderError::Outsider { provider: self.name(), cause, sentence }
            }
        }
    }

    /// The tokens of an answer, completed by those of before: a provider may keep refresh and ID token as they are.
    fn tokens(&self, answer: &TokenAnswer, before: Option<&Tokens>, now: SystemTime) -> Result<Tokens, ProviderError> {
        let access = answer.access_token().secret();
        if access.is_empty() || !access.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(self.invalid("its access token is not visible ASCII"));
        }
        let narrowed = answer.is_narrowed(&self.settings);
        let narrowed = narrowed.unwrap_or_else(|| before.is_some_and(|tokens| tokens.access.narrowed));
        let refresh = answer.refresh_token().map(|token| SecretString::from(token.secret().as_str()));
        let id = answer.id_token.as_deref().map(SecretString::from);
        Ok(Tokens {
            access: Access { token: SecretString::from(access.as_str()), narrowed },
            access_expires: now + answer.expires_in().unwrap_or(USUAL_LIFE).min(LONGEST_LIFE),
            issued: now,
            refresh: refresh.or_else(|| before.and_then(|tokens| tokens.refresh.clone())),
            id: id.or_else(|| before.and_then(|tokens| tokens.id.clone())),
        })
    }

    fn signed_in(
        &self,
        id_token: &Claims,
        userinfo: Option<&Claims>,
        tokens: Tokens,
    ) -> Result<SignedIn, ProviderError> {
        let text = |claim: &str| id_token.get(claim)?.as_str().map(|text| printable(text, 255));
        let access = &tokens.access;
        let of_userinfo = || self.groups_of_userinfo(id_token, userinfo?, access);
        let groups = self.groups_of_id_token(id_token, access).or_else(of_userinfo);
        let subject = id_token::person(&self.settings, id_token).map_err(|cause| self.token_error(cause))?;
        Ok(SignedIn {
            person: claims::person(&self.settings, &subject, id_token, userinfo),
            tokens,
            sid: text("sid"),
            strength: Strength {
                auth_time: id_token::time(id_token, "auth_time").map_err(|cause| self.token_error(cause))?,
                ..claims::strength(id_token)
            },
            groups,
        })
    }

    /// RFC 7009, section 2.1. Without `token_type_hint`, because the provider finds either kind.
    fn revocation(&self, endpoint: &Url, in_body: bool, token: &SecretString) -> Result<HttpRequest, ProviderError> {
        let (id, secret) = (self.settings.client_id.as_str(), self.settings.client_secret.expose_secret());
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("token", token.expose_secret());
        let mut request = http::Request::post(endpoint.as_str())
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        if in_body {
            form.append_pair("client_id", id).append_pair("client_secret", secret);
        } else {
            request = request.header(header::AUTHORIZATION, basic(id, secret));
        }
        request.body(form.finish().into_bytes()).map_err(|_| self.invalid("its revocation endpoint is no URL"))
    }

    /// What cannot be read says nothing of the grant: a maintenance page, whatever its status, is an outage.
    fn grant_error(&self, error: RequestTokenError<HttpError, TokenErrorBody>) -> ProviderError {
        match error {
            RequestTokenError::ServerResponse(body) => self.oauth_error(&body),
            RequestTokenError::Request(cause) => self.unavailable(cause.to_string()),
            RequestTokenError::Parse(cause, body) => {
                // Only where: the message itself would repeat a value, perhaps a token.
                let cause = format!("its token response cannot be read at `{}`", cause.path());
                if is_oauth(&body) { self.invalid(cause) } else { self.unavailable(cause) }
            }
            RequestTokenError::Other(_) => self.unavailable("its token response is empty or no JSON"),
        }
    }

    /// By the parsed field `error`, never by text (RFC 6749, sections 4.1.2.1 and 5.2; RFC 8628, section 3.5).
    /// But Okta has no word of its own for too many groups.
    pub(super) fn oauth_error(&self, body: &TokenErrorBody) -> ProviderError {
        let provider = self.name();
        let said = printable(body.error_description().map_or("", String::as_str), LONGEST_DESCRIPTION);
        if self.says_too_many_groups(&said) {
            return ProviderError::TooManyGroups { provider, description: said };
        }
        match body.error() {
            CoreErrorResponseType::InvalidGrant => ProviderError::Rejected { provider, description: said },
            error @ (CoreErrorResponseType::InvalidClient | CoreErrorResponseType::UnauthorizedClient) => {
                ProviderError::Client { provider, description: format!("{}: {said}", word(error)) }
            }
            CoreErrorResponseType::Extension(error) if OUTAGES.contains(&error.as_str()) => {
                ProviderError::Unavailable { provider, cause: format!("it answered `{error}`: {said}") }
            }
            error @ (CoreErrorResponseType::InvalidRequest
            | CoreErrorResponseType::InvalidScope
            | CoreErrorResponseType::UnsupportedGrantType
            | CoreErrorResponseType::Extension(_)) => {
                let word = printable(word(error), 64);
                ProviderError::Invalid { provider, cause: format!("it answered `{word}`: {said}") }
            }
        }
    }
}

impl Provider {
    /// An authorization server of Okta fails where the filter of its groups claim matches more than 100 groups.
    pub fn says_too_many_groups(&self, description: &str) -> bool {
        self.settings.kind == ProviderKind::Okta && description.to_ascii_lowercase().contains("too many groups")
    }
}

/// The body is of the token endpoint itself, if a wrong one, and not of something that stands in for it.
fn is_oauth(body: &[u8]) -> bool {
    let body = serde_json::from_slice::<Claims>(body).unwrap_or_default();
    match body.get("error").and_then(|error| error.as_str()) {
        Some(error) => !OUTAGES.contains(&error),
        None => body.contains_key("access_token"),
    }
}

fn word<E: ErrorResponseType + AsRef<str>>(error: &E) -> &str {
    error.as_ref()
}

/// RFC 6749, section 2.3.1: both halves are form-encoded first.
pub(super) fn basic(id: &str, secret: &str) -> String {
    use base64::{Engine, prelude::BASE64_STANDARD};
    let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    format!("Basic {}", BASE64_STANDARD.encode(format!("{}:{}", encoded(id), encoded(secret))))
}
