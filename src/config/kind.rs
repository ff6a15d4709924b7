//! The kinds of provider, and what each is known to give.

/// Segments of an issuer of Entra that stand for many tenants.
pub(super) const SHARED: [&str; 2] = ["common", "organizations"];

/// The kinds of provider that differ in more than their names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ProviderKind {
    /// GitLab: groups from userinfo, refresh tokens without `offline_access`.
    Gitlab,
    /// Okta: groups from the ID token, then userinfo; scope `groups offline_access`.
    Okta,
    /// Microsoft Entra ID: people by tenant and object id, groups by GUID, from Graph where a token has no room for them.
    Entra,
    /// Keycloak: group paths with a leading slash.
    Keycloak,
    /// Google: people of hosted domains, no groups, refresh tokens by `access_type=offline`.
    Google,
    /// Any other OpenID provider.
    Oidc,
}

impl ProviderKind {
    /// The scopes to ask for, where none are configured.
    pub fn scopes(self) -> Vec<String> {
        let scopes = match self {
            Self::Okta => "openid profile email groups offline_access",
            Self::Entra => "openid profile email offline_access",
            Self::Gitlab | Self::Keycloak | Self::Google | Self::Oidc => "openid profile email",
        };
        scopes.split(' ').map(str::to_owned).collect()
    }

    /// The claim that lists groups, where none is configured.
    pub fn groups_claim(self) -> Option<&'static str> {
        match self {
            Self::Google => None,
            Self::Gitlab | Self::Okta | Self::Entra | Self::Keycloak | Self::Oidc => Some("groups"),
        }
    }

    /// It can be asked for an `acr` and says in a claim of that name which one was reached.
    pub fn gives_acr(self) -> bool {
        match self {
            Self::Okta | Self::Keycloak | Self::Oidc => true,
            Self::Gitlab | Self::Entra | Self::Google => false,
        }
    }

    /// It can be asked for a recent sign-in and says when that was (`auth_time`).
    pub fn gives_auth_time(self) -> bool {
        match self {
            Self::Gitlab | Self::Okta | Self::Entra | Self::Keycloak | Self::Oidc => true,
            Self::Google => false,
        }
    }
}
