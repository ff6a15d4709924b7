//! Which answer of a provider lists a person's groups, and reading it.

use super::{
    Access, GroupList, Provider, ProviderError,
    claims::{self, Claimed, Claims},
    id_token,
    jws::strict_object,
};
use crate::{config::ProviderKind, principal::MembershipSource};
use http::{StatusCode, header};
use secrecy::{ExposeSecret, SecretString};
use std::sync::atomic::{AtomicBool, Ordering};
use url::Url;

/// Which answers of a provider have had the groups claim.
///
/// Keycloak leaves the claim out for a person who is in no group. So where its answers are known to have the claim, an answer
/// without it says that there is no group any more; where they are not, it may be that nobody has made Keycloak send it, and
/// then nothing is known. Nor is it where Keycloak granted fewer scopes than were asked for: the one that brings the claim may be
/// missing.
#[derive(Default)]
pub(super) struct Lists {
    id_token: AtomicBool,
    userinfo: AtomicBool,
}

impl Lists {
    fn of(&self, source: MembershipSource) -> Option<&AtomicBool> {
        match source {
            MembershipSource::IdToken => Some(&self.id_token),
            MembershipSource::Userinfo => Some(&self.userinfo),
            MembershipSource::Api | MembershipSource::Graph | MembershipSource::Token => None,
        }
    }

    fn note(&self, source: MembershipSource) {
        if let Some(has) = self.of(source) {
            has.store(true, Ordering::Release);
        }
    }

    fn has(&self, source: MembershipSource) -> bool {
        self.of(source).is_some_and(|has| has.load(Ordering::Acquire))
    }
}

impl Provider {
    pub(super) async fn read_groups(&self, access: &Access, subject: &str) -> Result<Option<GroupList>, ProviderError> {
        if self.settings.groups_claim.is_none() {
            return Ok(None);
        }
        if self.settings.kind == ProviderKind::Entra {
            return self.read_graph(subject).await; // its userinfo has no groups
        }
        let document = self.document()?;
        let Some(endpoint) = &document.userinfo_endpoint else { return Ok(None) };
        let userinfo = self.userinfo(endpoint, &access.token, subject).await?;
        Ok(self.listed(claims::groups(&self.settings, &userinfo), MembershipSource::Userinfo, access))
    }

    /// Who is signed in without their groups can at least be told so.
    pub(super) async fn graph_at_sign_in(&self, subject: &str) -> Option<GroupList> {
        let read = self.read_graph(subject).await;
        read.inspect_err(|error| tracing::warn!(%error, "groups were not read")).ok().flatten()
    }

    /// GitLab lists inherited groups at userinfo only, and older versions the username too. Entra and Google say nothing there
    /// that the ID token does not, but for a claim that somebody made Google send.
    pub(super) fn needs_userinfo(&self, id_token: &Claims) -> bool {
        let settings = &self.settings;
        let no_groups = || settings.groups_claim.is_some() && claims::groups(settings, id_token) == Claimed::Absent;
        let no_login = || !id_token.contains_key(settings.claims.login.as_deref().unwrap_or("preferred_username"));
        match settings.kind {
            ProviderKind::Gitlab => true,
            ProviderKind::Entra => false,
            ProviderKind::Google => no_groups(),
            ProviderKind::Okta | ProviderKind::Keycloak | ProviderKind::Oidc => no_groups() || no_login(),
        }
    }

    /// The ID token has no list, and Graph may be asked for it.
    pub(super) fn reads_graph(&self, id_token: &Claims) -> bool {
        let claimed = claims::groups(&self.settings, id_token);
        self.settings.graph.is_some() && matches!(claimed, Claimed::Absent | Claimed::Elsewhere)
    }

    /// Reads userinfo and makes sure that it is about `subject`.
    pub(super) async fn userinfo(
        &self,
        endpoint: &Url,
        access: &SecretString,
        subject: &str,
    ) -> Result<Claims, ProviderError> {
        let answer = self.http.get(endpoint, Some(access.expose_secret())).await;
        let answer = answer.map_err(|cause| self.http_error(&cause))?;
        match answer.status() {
            StatusCode::OK => {}
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                return Err(ProviderError::AccessToken { provider: self.name(), status });
            }
            status => return Err(self.invalid(format!("its userinfo endpoint answered {status}"))),
        }
        if answer
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|value| value.as_bytes().starts_with(b"application/jwt"))
        {
            return Err(self.invalid("its userinfo answer is signed, which is not supported"));
        }
        let userinfo = strict_object(answer.body()).map_err(|cause| self.invalid(format!("userinfo: {cause}")))?;
        if id_token::subject(&userinfo) != subject {
            return Err(self.invalid("the `sub` of its userinfo answer is another person's"));
        }
        Ok(userinfo)
    }

    /// None for GitLab, whose ID token lists direct memberships at most.
    pub(super) fn groups_of_id_token(&self, id_token: &Claims, access: &Access) -> Option<GroupList> {
        if self.settings.kind == ProviderKind::Gitlab {
            return None;
        }
        self.listed(claims::groups(&self.settings, id_token), MembershipSource::IdToken, access)
    }

    /// Userinfo speaks where the ID token has no such claim; where the ID token has one that cannot be read, the list
    /// is unknown.
    pub(super) fn groups_of_userinfo(
        &self,
        id_token: &Claims,
        userinfo: &Claims,
        access: &Access,
    ) -> Option<GroupList> {
        let is_asked =
            self.settings.kind == ProviderKind::Gitlab || claims::groups(&self.settings, id_token) == Claimed::Absent;
        let claimed = is_asked.then(|| claims::groups(&self.settings, userinfo))?;
        self.listed(claimed, MembershipSource::Userinfo, access)
    }

    fn listed(&self, claimed: Claimed, source: MembershipSource, access: &Access) -> Option<GroupList> {
        match claimed {
            Claimed::Listed(paths) => {
                self.lists.note(source);
                Some(GroupList { paths, source })
            }
            Claimed::Absent if self.settings.kind != ProviderKind::Keycloak || !self.lists.has(source) => None,
            Claimed::Absent if access.narrowed => {
                self.groups_unknown(source, "it granted fewer scopes than were asked for, and the claim is not there")
            }
            Claimed::Absent => Some(GroupList { paths: Vec::new(), source }),
            Claimed::Elsewhere if self.settings.graph.is_some() => None, // it is read there
            Claimed::Elsewhere => {
                let help = match self.settings.kind {
                    ProviderKind::Entra => {
                        ", which `membership.graph` reads; or give roles, and write `membership.claim: roles`"
                    }
                    _ => "",
                };
                self.groups_unknown(source, &format!("the provider keeps the list elsewhere{help}"))
            }
            Claimed::Unreadable(cause) => self.groups_unknown(source, &cause),
        }
    }

    fn groups_unknown(&self, source: MembershipSource, cause: &str) -> Option<GroupList> {
        tracing::warn!(provider = %self.settings.name, claim = self.settings.groups_claim, source = source.as_str(),
            "groups are unknown: {cause}");
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::ProviderSettings, oidc::rp::TokenAnswer};
    use std::sync::Arc;

    fn access(narrowed: bool) -> Access {
        Access { token: "access".to_owned().into(), narrowed }
    }

    fn provider(kind: ProviderKind) -> Arc<Provider> {
        let (name, secret) = ("idp".parse().expect("a name"), SecretString::from("secret"));
        let settings = ProviderSettings::new(name, kind, "https://id.example.com", "client", secret);
        Provider::new(Arc::new(settings), &std::env::temp_dir())
    }

    /// P16, P18: Keycloak leaves the claim out for somebody who is in no group any more. That says so where the same answers have
    /// the claim for others, and nothing where nobody has seen it.
    #[test]
    fn p16_keycloak_says_no_groups_by_leaving_the_claim_out() {
        let some = || Claimed::Listed(vec!["acme".parse().expect("a path")]);
        let (whole, less) = (access(false), access(true));
        let told = |provider: &Provider, source, access: &Access| {
            provider.listed(Claimed::Absent, source, access).map(|list| list.paths.len())
        };
        let (userinfo, id_token) = (MembershipSource::Userinfo, MembershipSource::IdToken);
        let keycloak = provider(ProviderKind::Keycloak);
        assert_eq!(told(&keycloak, userinfo, &whole), None, "perhaps nobody has made it send them");
        keycloak.listed(some(), id_token, &whole);
        let both = (told(&keycloak, userinfo, &whole), told(&keycloak, id_token, &whole));
        assert_eq!(both, (None, Some(0)), "of that answer alone");
        assert_eq!(told(&keycloak, id_token, &less), None, "the scope that brings them may not have been granted");
        let cut = Claimed::Unreadable("cut".into());
        assert_eq!(keycloak.listed(cut, id_token, &whole), None, "what is cut stays unknown");
        let other = provider(ProviderKind::Oidc);
        other.listed(some(), userinfo, &whole);
        assert_eq!(told(&other, userinfo, &whole), None);
    }

    /// RFC 6749, section 5.1: an answer without `scope` grants what was asked for; one that has fewer of them does not.
    #[test]
    fn an_answer_says_whether_all_scopes_were_granted() {
        let settings = &provider(ProviderKind::Keycloak).settings; // it asks for `openid profile email`
        let narrowed = |scope: &str| {
            let text = format!("{{\"access_token\":\"a\",\"token_type\":\"Bearer\"{scope}}}");
            serde_json::from_str::<TokenAnswer>(&text).expect("an answer").is_narrowed(settings)
        };
        assert_eq!((narrowed(""), narrowed(",\"scope\":null")), (None, None));
        assert_eq!(narrowed(",\"scope\":\"email more profile openid\""), Some(false));
        for less in ["\"\"", "\"openid email\"", "\"openid email profiles\"", "[\"profile\",\"email\"]"] {
            assert_eq!(narrowed(&format!(",\"scope\":{less}")), Some(true), "{less}");
        }
    }
}
