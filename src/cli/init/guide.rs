//! What is to be done at the provider, in the words of its own pages, and what comes after `init`.

use super::{
    Secret,
    draft::{Draft, Field},
};
use std::path::Path;

/// What the issuer of this kind looks like.
pub(super) fn issuer(draft: &Draft) -> &'static str {
    match draft.get(Field::Kind) {
        "gitlab" => "https://gitlab.example.com",
        "okta" => "https://acme.okta.com",
        "entra" => "https://login.microsoftonline.com/TENANT-ID/v2.0",
        "keycloak" => "https://keycloak.example.com/realms/acme",
        "google" => "https://accounts.google.com",
        _ => "https://sso.example.com",
    }
}

/// How we are registered at the provider.
pub(super) fn register(draft: &Draft) -> Vec<String> {
    let [uri, sign_out, back_channel] =
        [draft.redirect_uri(), draft.ours("sign-out"), draft.ours(&format!("backchannel-logout/{}", draft.provider()))];
    let lines: &[&str] = match draft.get(Field::Kind) {
        "gitlab" => &[
            "At GitLab: Settings of your group, or the Admin area, then Applications, Add new application",
            "  Redirect URI   HERE",
            "  Confidential   yes",
            "  Scopes         openid, profile, email",
        ],
        "okta" => &[
            "At Okta: Applications, Create App Integration, OIDC - OpenID Connect, Web Application",
            "  Grant types             Authorization Code, Refresh Token",
            "  Sign-in redirect URIs   HERE",
            "  Sign-out redirect URIs  SIGN_OUT",
            "  Then in Sign On, OpenID Connect ID Token: a groups claim `groups` with a filter that matches your groups",
        ],
        "entra" => &[
            "At Microsoft Entra: Identity, Applications, App registrations, New registration, of this directory only",
            "  Redirect URI, Web     HERE",
            "  Then in Certificates & secrets: New client secret, whose value is the client secret",
            "  Then in Token configuration: Add groups claim, Groups assigned to the application; Add optional claim, ID, `email` and `xms_edov`",
        ],
        "google" => &[
            "At Google Cloud: APIs & Services, Credentials, Create credentials, OAuth client ID, Web application",
            "  Authorized redirect URIs   HERE",
            "  Then in the consent screen (Audience): Internal, and nobody of another organization is asked",
        ],
        "keycloak" => &[
            "At Keycloak: your realm, Clients, Create client, OpenID Connect",
            "  Client authentication             On",
            "  Authentication flow               Standard flow",
            "  Valid redirect URIs               HERE",
            "  Valid post logout redirect URIs   SIGN_OUT",
            "  Backchannel logout URL            BACK_CHANNEL",
            "  Front channel logout              Off",
            "  Then in Client scopes, the dedicated scope: Add mapper, Group Membership, claim `groups`, Full group path on",
        ],
        _ => &[
            "At the provider: a confidential web client for the authorization code flow with PKCE",
            "  Redirect URI               HERE",
            "  Post-logout redirect URI   SIGN_OUT (if it has one)",
            "  Scopes                     openid, profile, email",
            "  Groups                     in a claim `groups` of the ID token or of userinfo",
        ],
    };
    let filled =
        |line: &&str| line.replace("HERE", &uri).replace("SIGN_OUT", &sign_out).replace("BACK_CHANNEL", &back_channel);
    lines.iter().map(filled).collect()
}

/// What comes next, a line each.
pub(super) fn next(draft: &Draft, secret: &Secret, dir: &Path) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut step = 0;
    let mut add = |text: String, more: Vec<String>| {
        step += 1;
        lines.push(format!("  {step}. {text}"));
        lines.extend(more.into_iter().map(|line| format!("     {line}")));
    };
    let mut steps = register(draft).into_iter();
    add(steps.next().unwrap_or_default(), steps.collect());
    if let Secret::Later = secret {
        add(
            format!(
                "Put the client secret into `{}`, on one line",
                dir.join("secrets").join(draft.provider()).display()
            )
            .replace("`./", "`"),
            Vec::new(),
        );
    }
    if draft.is_behind() {
        let more = vec![format!("or let TLS end here: the comments in `vestibule.yaml` say how")];
        add(format!("Let what ends TLS for {} pass on to {}", draft.get(Field::PublicUrl), draft.listen()), more);
    }
    let file =
        if dir == Path::new(".") { String::new() } else { format!(" -c {}", dir.join("vestibule.yaml").display()) };
    add(format!("vestibule check --live{file}"), Vec::new());
    add(format!("vestibule run{file}"), Vec::new());
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(kind: &str) -> Draft {
        let mut draft = Draft::default();
        draft.answer(Field::PublicUrl, "https://portal.example.com").expect("well");
        draft.answer(Field::Kind, kind).expect("well");
        draft
    }

    #[test]
    fn every_kind_is_told_its_redirect_uri() {
        for kind in ["gitlab", "okta", "entra", "keycloak", "google", "oidc"] {
            let name = if kind == "oidc" { "sso" } else { kind };
            let lines = register(&draft(kind)).join("\n");
            let uri = format!(" https://portal.example.com/.vestibule/callback/{name}");
            assert_eq!(lines.matches(&uri).count(), 1, "{lines}");
        }
    }

    /// Who signs out would end on an error of the provider's, if this were not registered.
    #[test]
    fn every_kind_with_a_sign_out_is_told_its_redirect_uri() {
        for (kind, expected) in [
            ("gitlab", ""),
            ("okta", "  Sign-out redirect URIs  https://portal.example.com/.vestibule/sign-out"),
            ("keycloak", "  Valid post logout redirect URIs   https://portal.example.com/.vestibule/sign-out"),
            ("oidc", "  Post-logout redirect URI   https://portal.example.com/.vestibule/sign-out (if it has one)"),
        ] {
            let lines = register(&draft(kind));
            let said: Vec<_> = lines.iter().filter(|line| line.contains("/.vestibule/sign-out")).collect();
            assert_eq!(said, Vec::from_iter(Some(expected).filter(|line| !line.is_empty())), "{kind}");
        }
        let lines = register(&draft("keycloak")).join("\n");
        assert!(lines.contains(" https://portal.example.com/.vestibule/backchannel-logout/keycloak\n"), "{lines}");
    }

    #[test]
    fn the_next_steps_are_those_that_are_left() {
        let expected =
            "  1. At GitLab: Settings of your group, or the Admin area, then Applications, Add new application
       Redirect URI   https://portal.example.com/.vestibule/callback/gitlab
       Confidential   yes
       Scopes         openid, profile, email
  2. Put the client secret into `secrets/gitlab`, on one line
  3. Let what ends TLS for https://portal.example.com pass on to 127.0.0.1:8080
     or let TLS end here: the comments in `vestibule.yaml` say how
  4. vestibule check --live
  5. vestibule run";
        assert_eq!(next(&draft("gitlab"), &Secret::Later, Path::new(".")).join("\n"), expected);
        let given = next(&draft("gitlab"), &Secret::File("s".into()), Path::new("/etc/v")).join("\n");
        assert!(
            given.ends_with(
                "  3. vestibule check --live -c /etc/v/vestibule.yaml\n  4. vestibule run -c /etc/v/vestibule.yaml"
            ),
            "{given}"
        );
    }
}
