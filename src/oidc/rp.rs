//! Our side of the protocol in the words of `openidconnect`: its message types with our own token response.

use super::discovery::Document;
use crate::config::ProviderSettings;
use openidconnect::{
    AccessToken, AuthType, AuthUrl, Client, ClientId, ClientSecret, EmptyAdditionalClaims, EndpointNotSet, EndpointSet,
    IdToken, IssuerUrl, JsonWebKeySet, OAuth2TokenResponse, RefreshToken, Scope, StandardErrorResponse, TokenResponse,
    TokenUrl,
    core::{
        CoreAuthDisplay, CoreAuthPrompt, CoreErrorResponseType, CoreGenderClaim, CoreJsonWebKey,
        CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm, CoreRevocableToken, CoreRevocationErrorResponse,
        CoreTokenIntrospectionResponse, CoreTokenType,
    },
};
use secrecy::ExposeSecret;
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::Value;
use std::{fmt, time::Duration};

/// The error body of RFC 6749, section 5.2.
pub(super) type TokenErrorBody = StandardErrorResponse<CoreErrorResponseType>;

/// Our client at one provider.
pub(super) type Rp = Client<
    EmptyAdditionalClaims,
    CoreAuthDisplay,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJsonWebKey,
    CoreAuthPrompt,
    TokenErrorBody,
    TokenAnswer,
    CoreTokenIntrospectionResponse,
    CoreRevocableToken,
    CoreRevocationErrorResponse,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointSet,
    EndpointNotSet,
>;

/// Our client, as `settings` and the discovery document describe it. It holds no keys.
///
/// # Errors
/// The issuer is no URL.
pub(super) fn client(settings: &ProviderSettings, document: &Document) -> Result<Rp, String> {
    let issuer = IssuerUrl::new(settings.issuer.clone()).map_err(|_| "its issuer is no URL".to_owned())?;
    let auth_type = if document.secret_in_body() { AuthType::RequestBody } else { AuthType::BasicAuth };
    Ok(Client::new(ClientId::new(settings.client_id.clone()), issuer, JsonWebKeySet::default())
        .set_client_secret(ClientSecret::new(settings.client_secret.expose_secret().to_owned()))
        .set_auth_type(auth_type)
        .set_auth_uri(AuthUrl::from_url(document.authorization_endpoint.clone()))
        .set_token_uri(TokenUrl::from_url(document.token_endpoint.clone())))
}

/// The scopes to ask for. `openid` is left out because the crate adds it.
pub(super) fn scopes(settings: &ProviderSettings) -> impl Iterator<Item = Scope> {
    settings.scopes.iter().filter(|scope| *scope != "openid").cloned().map(Scope::new)
}

/// A token response. The ID token is still text, so that our checks of its form come before any other parser.
#[derive(Deserialize, Serialize)]
pub(super) struct TokenAnswer {
    access_token: AccessToken,
    #[serde(default = "bearer", deserialize_with = "only_bearer")]
    token_type: CoreTokenType,
    /// Seconds. Some providers send them as a string.
    #[serde(default, deserialize_with = "seconds")]
    expires_in: Option<u64>,
    #[serde(default)]
    refresh_token: Option<RefreshToken>,
    #[serde(default)]
    pub(super) id_token: Option<String>,
    #[serde(default, deserialize_with = "granted")]
    scope: Option<String>,
}

impl TokenAnswer {
    /// Whether some of the scopes that `settings` asks for were not granted; `None`: the answer does not say it, so nothing has
    /// changed. That `openid` was granted shows by the ID token.
    ///
    /// Source: RFC 6749, section 5.1.
    pub(super) fn is_narrowed(&self, settings: &ProviderSettings) -> Option<bool> {
        let granted: Vec<_> = self.scope.as_deref()?.split_ascii_whitespace().collect();
        Some(scopes(settings).any(|asked| !granted.contains(&asked.as_str())))
    }
}

/// Shows no token.
impl fmt::Debug for TokenAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenAnswer(..)")
    }
}

impl OAuth2TokenResponse for TokenAnswer {
    type TokenType = CoreTokenType;

    fn access_token(&self) -> &AccessToken {
        &self.access_token
    }

    fn token_type(&self) -> &CoreTokenType {
        &self.token_type
    }

    fn expires_in(&self) -> Option<Duration> {
        self.expires_in.map(Duration::from_secs)
    }

    fn refresh_token(&self) -> Option<&RefreshToken> {
        self.refresh_token.as_ref().filter(|token| !token.secret().is_empty())
    }

    fn scopes(&self) -> Option<&Vec<Scope>> {
        None
    }
}

impl TokenResponse<EmptyAdditionalClaims, CoreGenderClaim, CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm>
    for TokenAnswer
{
    /// None: the ID token is read by [`super::id_token::verify`] alone.
    fn id_token(
        &self,
    ) -> Option<
        &IdToken<EmptyAdditionalClaims, CoreGenderClaim, CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm>,
    > {
        None
    }
}

fn bearer() -> CoreTokenType {
    CoreTokenType::Bearer
}

fn only_bearer<'de, D: Deserializer<'de>>(deserializer: D) -> Result<CoreTokenType, D::Error> {
    let found = String::deserialize(deserializer)?;
    if found.eq_ignore_ascii_case("bearer") { Ok(bearer()) } else { Err(de::Error::custom("not `Bearer`")) }
}

/// Something else than a text grants nothing that could be read.
fn granted<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::Null => None,
        Value::String(text) => Some(text),
        _ => Some(String::new()),
    })
}

fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(None),
        Value::Number(number) if number.is_u64() => Ok(number.as_u64()),
        Value::String(text) => text.parse().map(Some).map_err(|_| de::Error::custom("not a number of seconds")),
        _ => Err(de::Error::custom("not a number of seconds")),
    }
}
