//! Who may act with the credential of a route's upstream: asked before any policy, which can take away and never give.

use super::Route;
use crate::{
    canonical::Canonical,
    credential::Secret,
    principal::Principal,
    refusal::{Reason, Refusal},
};
use http::Method;

impl Route {
    /// The secret of ours that the upstream gets, if there is one.
    pub fn secret(&self) -> Option<&Secret> {
        self.credential.as_ref()?.secret()
    }

    /// Lends the upstream's credential to this request: a secret of ours is for nobody whom we do not know, and not for what
    /// would give it away.
    ///
    /// # Errors
    /// `NoSession` for `Anonymous`; `NotPermitted` for a request that makes, renews or revokes GitLab's tokens.
    pub fn lend(&self, principal: &Principal, asked: &Canonical) -> Result<(), Refusal> {
        let Some(secret) = self.secret() else { return Ok(()) };
        if matches!(principal, Principal::Anonymous) {
            return Err(Refusal::new(Reason::NoSession, "This needs a sign-in."));
        }
        if secret.is_gitlabs() && changes_tokens(&asked.method, &asked.target.folded) {
            let sentence = "Access tokens are not made, renewed or revoked through this address.";
            return Err(Refusal::new(Reason::NotPermitted, sentence));
        }
        Ok(())
    }
}

/// A token can renew itself: the answer has the new one, and the old one is dead. An encoded slash may be one to GitLab.
fn changes_tokens(method: &Method, folded: &str) -> bool {
    let reads = [Method::GET, Method::HEAD, Method::OPTIONS].contains(method);
    let words = || folded.split('/').flat_map(|segment| segment.split("%2f"));
    // a format may stand behind a dot
    let is_about_tokens = |word: &str| {
        let bare = word.split('.').next().unwrap_or_default();
        bare.ends_with("access_tokens") || bare == "impersonation_tokens"
    };
    !reads && words().any(is_about_tokens)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        canonical::testing::{https, parse},
        credential::{ApiToken, Credential, PRIVATE_TOKEN, Value},
        route::testing::route,
    };

    #[test]
    fn nobody_gets_at_the_token_itself() {
        for path in [
            "/api/v4/personal_access_tokens/self/rotate",
            "/api/v4/personal_access_tokens/self",
            "/api/v4/Projects/7/access_tokens",
            "/api/v4/groups/acme%2Fx/access_tokens/self/rotate",
            "/api/v4/personal_access_tokens%2Fself%2Frotate",
            "/api/v4/user/personal_access_tokens",
            "/api/v4/user/personal_access_tokens.json",
            "/api/v4/projects/7/access_tokens.json",
            "/api/v4/users/7/impersonation_tokens",
        ] {
            let folded = path.to_ascii_lowercase();
            assert!(changes_tokens(&Method::POST, &folded) && changes_tokens(&Method::DELETE, &folded), "{path}");
            assert!(!changes_tokens(&Method::GET, &folded), "{path}");
        }
        assert!(!changes_tokens(&Method::POST, "/api/v4/projects/access_tokens_of_mine/issues"));
    }

    #[test]
    fn a_secret_is_for_nobody_whom_we_do_not_know() {
        let lent = |credential| {
            let route = Route { credential, ..route("r") };
            route.lend(&Principal::Anonymous, &parse(https("GET", "app.test", "/"))).map_err(|refusal| refusal.reason)
        };
        let value = Value::GitlabApi(ApiToken::new(&"t".into()));
        let secret = Secret { name: PRIVATE_TOKEN, value, keep_cookies: true };
        assert_eq!(lent(Some(Credential::Secret(secret))), Err(Reason::NoSession));
        assert_eq!((lent(Some(Credential::Assertion)), lent(None)), (Ok(()), Ok(())));
    }
}
