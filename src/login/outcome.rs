//! What people read when a provider did not sign them in as it should, and what they can do.

use super::sign_in::unavailable;
use crate::{
    canonical::RequestId,
    oidc::{Provider, ProviderError},
    principal::Lack,
    refusal::{Quoted, Reason, Refusal},
};
use std::sync::Arc;

/// Why a code brought no session.
pub(super) fn unfinished(provider: &Arc<Provider>, error: ProviderError, request_id: RequestId) -> Refusal {
    let title = &provider.settings.title;
    match error {
        ProviderError::Unavailable { .. } => unavailable(provider, error),
        ProviderError::TooManyGroups { description, .. } => {
            let quoted =
                Quoted { who: title.clone(), error: "too many groups".to_owned(), description: Some(description) };
            too_many_groups(provider, quoted)
        }
        ProviderError::Outsider { sentence, cause, .. } => Refusal::new(Reason::SignInRefused, sentence).because(cause),
        ProviderError::Insufficient { lack, cause, .. } => {
            let what = match lack {
                Lack::Acr => "not as strongly as this page asks for",
                Lack::Untimed => "and did not say when you last proved who you are, which this page asks for",
                Lack::Old => "and did not ask you to prove anew who you are, which this page asks for",
            };
            let sentence = format!(
                "{title} signed you in, {what}. Other pages may be open to you. Should it happen again, tell whoever \
                 runs this site: {title} does not do what `step_up` of this page wants."
            );
            tracing::warn!(provider = %provider.settings.name, "a step-up failed: {cause}");
            Refusal::new(Reason::StepUpFailed, sentence).because(cause)
        }
        ProviderError::Rejected { .. }
        | ProviderError::Client { .. }
        | ProviderError::AccessToken { .. }
        | ProviderError::Invalid { .. } => invalid(provider, &error, request_id),
    }
}

/// What to do is an administrator's: nobody can sign in with fewer groups by themselves (P70).
fn too_many_groups(provider: &Provider, quoted: Quoted) -> Refusal {
    let title = &provider.settings.title;
    let sentence = format!(
        "{title} cannot list your groups: too many groups match the filter of its groups claim. Tell whoever runs {title}: \
         an authorization server lists at most 100 groups of a person, so narrow the filter of that claim to those that \
         count here, or let the claim name them by `getFilteredGroups`."
    );
    tracing::warn!(provider = %provider.settings.name, "a sign-in failed: {}", quoted.text());
    Refusal::new(Reason::SignInRefused, sentence).because(quoted.text()).quoting(quoted)
}

pub(super) fn invalid(provider: &Provider, error: &ProviderError, request_id: RequestId) -> Refusal {
    let (name, title) = (&provider.settings.name, &provider.settings.title);
    let sentence = if let ProviderError::Client { .. } = error {
        let help = "`client_id` and `client_secret` do not fit: `vestibule check --live` tests them";
        tracing::error!(provider = %name, %error, %request_id, "nobody can sign in: {help}");
        format!("{title} does not accept this site's own credentials. Tell whoever runs this site.")
    } else {
        tracing::warn!(provider = %name, %error, %request_id, "a sign-in failed: `vestibule check --live` tests the provider");
        format!("{title} answered in a way that we cannot accept.")
    };
    Refusal::new(Reason::SignInInvalid, sentence).because(error)
}

/// What a provider's error code means for the person (RFC 6749, section 4.1.2.1; OpenID Connect Core 1.0, section 3.1.2.6).
pub(super) fn refused(provider: &Provider, error: &str, description: Option<&str>) -> Refusal {
    let title = &provider.settings.title;
    let operator = "Tell whoever runs this site:";
    let sentence = match error {
        "access_denied" => format!(
            "{title} did not let you in: you cancelled, or your account there is not assigned to this application."
        ),
        "login_required" | "interaction_required" | "account_selection_required" => {
            format!("{title} wants you to sign in there first. Start again and follow what it asks.")
        }
        "consent_required" => {
            format!("{title} wants your consent before it tells who you are. Start again and give it.")
        }
        "unmet_authentication_requirements" => {
            format!("{title} cannot sign you in as this page asks for. {operator} `step_up` of this page wants more.")
        }
        "temporarily_unavailable" | "server_error" => format!("{title} has a problem. Try again in a moment."),
        "invalid_scope" => {
            format!("{title} does not grant what is asked for. {operator} the application there lacks a scope.")
        }
        "unauthorized_client" => {
            format!("{title} does not let this application sign people in. {operator} it is not allowed to at {title}.")
        }
        "unsupported_response_type"
        | "invalid_request"
        | "request_not_supported"
        | "request_uri_not_supported"
        | "invalid_request_uri"
        | "invalid_request_object"
        | "registration_not_supported" => {
            format!("{title} does not understand this application. {operator} its registration there does not fit.")
        }
        "invalid_client" | "invalid_grant" => {
            format!("{title} does not know this application any more. {operator} compare `client_id` with {title}.")
        }
        _ => format!("{title} refused the sign-in."),
    };
    let cut = |text: &str| text.chars().filter(|c| !c.is_control()).take(200).collect::<String>();
    let description = description.map(cut).filter(|text| !text.trim().is_empty());
    let quoted = Quoted { who: title.clone(), error: cut(error), description };
    if provider.says_too_many_groups(quoted.description.as_deref().unwrap_or_default()) {
        return too_many_groups(provider, quoted);
    }
    // OpenID Connect Core Unmet Authentication Requirements 1.0, section 2
    let reason =
        if error == "unmet_authentication_requirements" { Reason::StepUpFailed } else { Reason::SignInRefused };
    let cause = quoted.text();
    Refusal::new(reason, sentence).because(cause).quoting(quoted)
}
