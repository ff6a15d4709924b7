//! Asks a provider for everything that a sign-in needs of it, without a person. Nothing is kept.

use super::{
    AuthorizationRequest, CodeGrant, Provider, ProviderError, Status,
    answer::{self, Told},
    cache::CacheFile,
    discovery::Document,
    graph::{Graph, NO_SUCH_PERSON},
    http::{Http, READ},
    jws::strict_object,
    keys::{KeySet, Keys},
};
use crate::{
    config::{ALGORITHMS, ProviderKind, ProviderSettings},
    finding::{Finding, Level},
    principal::StepUp,
};
use http::{Request, StatusCode, header};
use secrecy::SecretString;
use serde_json::{Map, Value};
use std::{
    collections::BTreeSet,
    future::Future,
    path::Path,
    sync::{Arc, Mutex},
    time::SystemTime,
};
use tokio::{sync::Notify, time::timeout};
use url::Url;

/// A difference of clocks above which nobody can sign in, in seconds.
const LEEWAY: i64 = 60;
/// A difference of clocks that is not worth a word, in seconds.
const TOLERABLE: i64 = 5;
/// A GUID that no directory gives to anybody.
const NOBODY: &str = "00000000-0000-0000-0000-000000000000";
/// What stands in for `state`, `nonce`, the code verifier and a code: long enough for every provider, and told apart in its log.
const MADE_UP: &str = "vestibule-check-live-vestibule-check-live-0000";

/// What is wanted of a provider, beyond that it signs people in.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Somebody asks which groups people are in.
    pub groups: bool,
    /// What routes ask of sign-ins.
    pub step_ups: Vec<Arc<StepUp>>,
}

/// Asks for discovery, keys, and what the provider thinks of our client, at most 5 s each. Keys of the findings are those of
/// the provider's entry.
///
/// No person is needed: the authorization request has `prompt=none`, and the token request a code that nobody gave.
pub async fn probe(settings: &Arc<ProviderSettings>, redirect_uri: &Url, wanted: &Wanted) -> Vec<Finding> {
    let provider = Provider::passing(settings);
    let (document, members) = match provider.discovered().await {
        Ok(read) => read,
        Err(error) => return vec![error.finding(settings)],
    };
    let mut found = vec![discovered(settings), flow(&members)];
    provider.adopt(document.clone());
    let (keys, client, secret, graph) = tokio::join!(
        provider.keys_found(&document, &members),
        provider.client_found(&document, redirect_uri),
        provider.secret_found(redirect_uri),
        provider.graph_found(),
    );
    found.extend([keys, client, secret]);
    found.push(scopes(settings, &members));
    found.extend(whose_people(settings));
    found.extend(wanted.groups.then(|| groups_claim(settings, &members)).flatten());
    found.extend(graph);
    found.extend(step_up(&wanted.step_ups, &members));
    found.extend(sign_out(redirect_uri, &members));
    found.extend(back_channel(settings, redirect_uri, &members));
    found.push(clock(provider.status().clock_ahead));
    found
}

impl Provider {
    /// One that keeps nothing on disk, as long as no key is read through it.
    fn passing(settings: &Arc<ProviderSettings>) -> Self {
        Self {
            http: Http::new(&settings.issuer),
            cache: CacheFile::new(Path::new(""), &settings.name),
            settings: settings.clone(),
            document: arc_swap::ArcSwapOption::empty(),
            keys: Keys::default(),
            graph: Graph::default(),
            status: Mutex::new(Status::default()),
            changed: Notify::new(),
            lists: Default::default(),
        }
    }

    /// The discovery document, and all its members.
    async fn discovered(&self) -> Result<(Document, Map<String, Value>), Undiscovered> {
        let url = Document::url(self.issuer()).map_err(|_| self.invalid("its issuer is no URL"))?;
        let answer = self.asked(&url).await?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Err(Undiscovered::NotThere(url));
        }
        let body = self.whole(&url, answer)?;
        let members = strict_object(&body).map_err(|cause| self.invalid(cause))?;
        let issuer = self.settings.published_issuer();
        let document = Document::parse(&body, &issuer).map_err(|cause| self.invalid(cause.to_string()))?;
        Ok((document, members))
    }

    async fn keys_found(&self, document: &Document, members: &Map<String, Value>) -> Finding {
        let finding = |level, said: String| Finding::new(level, "signing keys", "issuer", said);
        let read = self.published(&document.jwks_uri).await.and_then(|body| {
            strict_object(&body)
                .and_then(|published| KeySet::parse(published, SystemTime::now(), &self.settings.name))
                .map_err(|cause| self.invalid(cause))
        });
        let set = match read {
            Ok(set) => set,
            Err(error) => {
                return finding(Level::Fault, cause(&error))
                    .help(format!("nobody can sign in without keys: look at `{}`", document.jwks_uri));
            }
        };
        let announced = list(members, "id_token_signing_alg_values_supported").unwrap_or_default();
        if !announced.is_empty() && !announced.iter().any(|one| ALGORITHMS.contains(&one.as_str())) {
            let help = format!("let it sign with one of {}", ALGORITHMS.join(", "));
            return finding(Level::Fault, format!("it signs ID tokens with {} only", announced.join(", "))).help(help);
        }
        let usable = set.signing().count();
        let all = set.published.get("keys").and_then(Value::as_array).map_or(0, Vec::len);
        let words: BTreeSet<&str> = set.signing().filter_map(|key| key.get("alg")?.as_str()).collect();
        let words = if words.is_empty() { String::new() } else { format!(" ({})", Vec::from_iter(words).join(", ")) };
        finding(Level::Good, format!("{usable} of {all} can be used{words}"))
    }

    /// Whether the provider knows our client and its redirect URI.
    async fn client_found(&self, document: &Document, redirect_uri: &Url) -> Finding {
        let verifier = SecretString::from(MADE_UP);
        let asked = AuthorizationRequest {
            redirect_uri,
            state: MADE_UP,
            nonce: MADE_UP,
            verifier: &verifier,
            prompt: Some("none"),
            login_hint: None,
            step_up: None,
        };
        let finding = |level, said: String| Finding::new(level, "client id and redirect URI", "client_id", said);
        let url = match self.build_authorization_url(&asked) {
            Ok(url) => url,
            Err(error) => return finding(Level::Fault, cause(&error)),
        };
        let request = Request::get(url.as_str()).header(header::ACCEPT, "text/html, application/json");
        let Ok(request) = request.body(Vec::new()) else {
            return finding(Level::Fault, "its authorization endpoint is no URL".to_owned());
        };
        match self.http.send(request, READ).await {
            Err(error) => finding(Level::Fault, error.to_string()),
            Ok(answer) => judged(answer::told(&answer, &document.authorization_endpoint, redirect_uri), redirect_uri),
        }
    }

    /// Whether the provider accepts our secret: it looks at that before it looks at a code.
    async fn secret_found(&self, redirect_uri: &Url) -> Finding {
        let (code, verifier) = (SecretString::from(MADE_UP), SecretString::from(MADE_UP));
        let grant = CodeGrant { code: &code, redirect_uri, nonce: MADE_UP, verifier: &verifier, step_up: None };
        let finding = |level, said: String| Finding::new(level, "client secret", "client_secret", said);
        let untold = |said: String| {
            let said = format!("not told: {said}");
            finding(Level::Warning, said).help("a first sign-in will show it")
        };
        match within(self.redeem_code(&grant, SystemTime::now())).await {
            None => finding(Level::Fault, "the token endpoint gave no answer in 5 s".to_owned()),
            Some(Err(ProviderError::Rejected { .. })) => {
                finding(Level::Good, "accepted (a code that nobody gave is refused: `invalid_grant`)".to_owned())
            }
            Some(Err(ProviderError::Client { description, .. })) => {
                let said = format!("not accepted: {}", description.trim_end_matches([':', ' ']));
                finding(Level::Fault, said).help("copy the secret of this client id from the provider anew")
            }
            Some(Err(ProviderError::Unavailable { cause, .. })) => {
                finding(Level::Fault, format!("cannot be tried: {cause}"))
            }
            Some(Err(ProviderError::Invalid { cause, .. })) => untold(cause),
            Some(Err(
                error @ (ProviderError::AccessToken { .. }
                | ProviderError::TooManyGroups { .. }
                | ProviderError::Outsider { .. }
                | ProviderError::Insufficient { .. }),
            )) => untold(error.to_string()),
            Some(Ok(_)) => untold("it took a code that nobody gave".to_owned()),
        }
    }
}

impl Provider {
    /// Whether Graph would tell who is in which groups, in every tenant; somebody whom nobody knows is asked for.
    async fn graph_found(&self) -> Vec<Finding> {
        let mut found = Vec::new();
        for tenant in self.settings.tenants.iter().filter(|_| self.settings.graph.is_some()) {
            let finding = |level, said: &str| {
                Finding::new(level, "Graph", "membership.graph", format!("tenant `{tenant}`: {said}"))
            };
            found.push(match within(self.read_graph(&format!("{tenant}.{NOBODY}"))).await {
                None => finding(Level::Fault, "it gave no answer in 5 s"),
                Some(Err(ProviderError::Invalid { cause, .. })) if cause == NO_SUCH_PERSON => {
                    finding(Level::Good, "this application may read who is in which groups")
                }
                Some(Err(ProviderError::Client { description, .. })) => {
                    finding(Level::Fault, &format!("it gives this application no token: {description}"))
                        .help("an administrator of that tenant has to consent to this application")
                }
                Some(Err(error)) => finding(Level::Fault, &cause(&error)),
                Some(Ok(_)) => finding(Level::Warning, "not told: it knows somebody whom nobody knows"),
            });
        }
        found
    }
}

/// Whose people may sign in, where a provider has more than ours.
fn whose_people(settings: &ProviderSettings) -> Option<Finding> {
    match settings.kind {
        ProviderKind::Google if settings.hosted_domains.is_empty() => Some(
            Finding::new(Level::Warning, "hosted domains", "issuer", "everybody with a Google account can sign in")
                .help("list your domains in `hosted_domains`"),
        ),
        ProviderKind::Google => {
            let said = format!("only accounts of {}", settings.hosted_domains.join(", "));
            Some(Finding::new(Level::Good, "hosted domains", "hosted_domains", said))
        }
        ProviderKind::Entra => {
            let tenants: Vec<&str> = settings.tenants.iter().map(|tenant| tenant.as_str()).collect();
            let said = format!("only people of {}", tenants.join(", "));
            Some(Finding::new(Level::Good, "tenants", "issuer", said))
        }
        ProviderKind::Gitlab | ProviderKind::Okta | ProviderKind::Keycloak | ProviderKind::Oidc => None,
    }
}

/// Whether the provider says that it can do what routes ask of sign-ins.
fn step_up(asked: &[Arc<StepUp>], members: &Map<String, Value>) -> Vec<Finding> {
    let finding = |level, said: String| Finding::new(level, "step-up", "issuer", said);
    let mut found = Vec::new();
    let classes: BTreeSet<&str> = asked.iter().filter_map(|it| it.acr.as_deref()).collect();
    let offered = list(members, "acr_values_supported");
    for class in classes {
        found.push(match &offered {
            None => finding(Level::Skipped, format!("`{class}`: the provider does not say which `acr` it has")),
            Some(offered) if offered.iter().any(|one| one == class) => {
                finding(Level::Good, format!("`{class}` is offered"))
            }
            Some(offered) => finding(Level::Warning, format!("`{class}` is not among the `acr` that it names"))
                .help(format!("it names {}", offered.iter().take(8).cloned().collect::<Vec<_>>().join(", "))),
        });
    }
    let lacks =
        |claim: &str| list(members, "claims_supported").is_some_and(|claims| !claims.iter().any(|one| one == claim));
    if asked.iter().any(|it| it.max_age.is_some()) && lacks("auth_time") {
        found.push(
            finding(Level::Warning, "`auth_time` is not among the claims that it names".to_owned())
                .help("`max_age` of `step_up` needs it: let the provider send it in ID tokens"),
        );
    }
    found
}

async fn within<T>(future: impl Future<Output = T>) -> Option<T> {
    timeout(READ, future).await.ok()
}

/// Without the provider's name, which stands in front.
fn cause(error: &ProviderError) -> String {
    match error {
        ProviderError::Unavailable { cause, .. } | ProviderError::Invalid { cause, .. } => cause.clone(),
        ProviderError::Rejected { .. }
        | ProviderError::Client { .. }
        | ProviderError::AccessToken { .. }
        | ProviderError::TooManyGroups { .. }
        | ProviderError::Outsider { .. }
        | ProviderError::Insufficient { .. } => error.to_string(),
    }
}

/// Why there is no discovery document.
enum Undiscovered {
    /// Somebody answers, and there is none.
    NotThere(Url),
    /// Anything else.
    Other(ProviderError),
}

impl From<ProviderError> for Undiscovered {
    fn from(error: ProviderError) -> Self {
        Self::Other(error)
    }
}

impl Undiscovered {
    fn finding(&self, settings: &ProviderSettings) -> Finding {
        let finding = |said: String| Finding::new(Level::Fault, "discovery", "issuer", said);
        match self {
            Self::NotThere(url) => finding(format!("there is nothing at `{url}` (404)")).help("is `issuer` right?"),
            Self::Other(error @ ProviderError::Unavailable { .. }) => {
                let url = Document::url(&settings.issuer);
                let url = url.map_or_else(|_| settings.issuer.clone(), |url| url.to_string());
                finding(cause(error)).help(format!("this machine must be able to read `{url}`"))
            }
            Self::Other(error) => finding(cause(error)),
        }
    }
}

fn discovered(settings: &ProviderSettings) -> Finding {
    let said = format!("the document is for `{}`, and its endpoints can be used", settings.issuer);
    Finding::new(Level::Good, "discovery", "issuer", said)
}

/// The code flow with PKCE (RFC 7636), and whether answers say whose they are (RFC 9207).
fn flow(members: &Map<String, Value>) -> Finding {
    let finding = |level, said: String| Finding::new(level, "code flow", "issuer", said);
    if !list(members, "response_types_supported").is_some_and(|types| types.iter().any(|one| one == "code")) {
        return finding(Level::Fault, "its `response_types_supported` lacks `code`".to_owned())
            .help("allow the authorization code flow at the provider");
    }
    let issuer = if members.get("authorization_response_iss_parameter_supported") == Some(&Value::Bool(true)) {
        "answers carry `iss`"
    } else {
        "answers carry no `iss`, as at many providers"
    };
    match list(members, "code_challenge_methods_supported") {
        None => {
            finding(Level::Warning, format!("it does not say whether it checks PKCE, which we always send; {issuer}"))
        }
        Some(methods) if methods.iter().any(|one| one == "S256") => {
            finding(Level::Good, format!("with PKCE by S256; {issuer}"))
        }
        Some(_) => finding(Level::Fault, "its `code_challenge_methods_supported` lacks `S256`".to_owned())
            .help("allow PKCE with S256 at the provider"),
    }
}

fn judged(told: Told, redirect_uri: &Url) -> Finding {
    let what = "client id and redirect URI";
    let register = format!("register `{redirect_uri}` at the provider, character by character");
    match told {
        Told::Accepted(error) => {
            Finding::new(Level::Good, what, "client_id", format!("accepted (nobody is signed in: `{error}`)"))
        }
        Told::Scopes(said) => Finding::new(Level::Fault, "scopes", "scopes", format!("refused: {said}"))
            .help("allow them for this client at the provider, or remove them from `scopes`"),
        Told::Flow(said) => Finding::new(Level::Fault, what, "client_id", format!("it may not sign people in: {said}"))
            .help("allow the authorization code flow for this client at the provider"),
        Told::RedirectUri(said) => {
            Finding::new(Level::Fault, "redirect URI", "name", format!("not accepted: {said}")).help(register)
        }
        Told::Client(said) => Finding::new(Level::Fault, "client id", "client_id", format!("not accepted: {said}"))
            .help("copy the client id from the provider's page of this application"),
        Told::Refused(said) => Finding::new(Level::Fault, what, "client_id", format!("not accepted: {said}"))
            .help(format!("copy the client id from the provider, and {register}")),
        Told::Nothing(said) => Finding::new(Level::Warning, what, "client_id", format!("not told: {said}"))
            .help(format!("compare the client id, and {register}")),
        Told::Down(said) => Finding::new(Level::Fault, what, "client_id", format!("cannot be tried: {said}")),
    }
}

fn scopes(settings: &ProviderSettings, members: &Map<String, Value>) -> Finding {
    let finding = |level, said: String| Finding::new(level, "scopes", "scopes", said);
    let asked = settings.scopes.join(" ");
    let Some(offered) = list(members, "scopes_supported") else {
        return finding(Level::Skipped, format!("`{asked}`: the provider does not say which it offers"));
    };
    let missing: Vec<_> =
        settings.scopes.iter().filter(|one| !offered.contains(one)).map(|one| format!("`{one}`")).collect();
    if missing.is_empty() {
        return finding(Level::Good, format!("`{asked}` are offered"));
    }
    finding(Level::Warning, format!("{} is not among those it offers", missing.join(", ")))
        .help("allow it at the provider, or remove it from `scopes`")
}

fn groups_claim(settings: &ProviderSettings, members: &Map<String, Value>) -> Option<Finding> {
    let claim = settings.groups_claim.as_ref()?;
    let finding = |level, said: String| Finding::new(level, "groups claim", "membership.claim", said);
    if settings.kind == ProviderKind::Entra {
        let what = if claim == "roles" { "app roles" } else { "token configuration" };
        return Some(finding(Level::Skipped, format!("`{claim}`: Entra keeps that in the application's {what}")));
    }
    Some(match list(members, "claims_supported") {
        None => finding(Level::Skipped, format!("`{claim}`: the provider does not say which claims it has")),
        Some(claims) if claims.contains(claim) => finding(Level::Good, format!("`{claim}` is offered")),
        // theirs is a fixed list, whatever a client is sent
        Some(_) if matches!(settings.kind, ProviderKind::Keycloak | ProviderKind::Oidc) => {
            let mapper = match settings.kind {
                ProviderKind::Keycloak => ": the client needs a mapper `Group Membership` with that claim name",
                _ => "",
            };
            finding(Level::Skipped, format!("`{claim}` is not in its list of claims, which need not name all{mapper}"))
        }
        Some(_) => finding(Level::Warning, format!("`{claim}` is not among the claims that it names")).help(match settings.kind {
            ProviderKind::Okta => format!("add a groups claim `{claim}` to the application; not every issuer of Okta names it"),
            _ => {
                format!("let it send `{claim}` in the ID token or at userinfo, or write the claim's name in `membership.claim`")
            }
        }),
    })
}

/// Where the provider has a sign-out of its own, it leads back to registered places only (RP-Initiated Logout 1.0, section 3).
/// Nobody can ask it which those are without a person who signs out.
fn sign_out(redirect_uri: &Url, members: &Map<String, Value>) -> Option<Finding> {
    members.get("end_session_endpoint").filter(|endpoint| endpoint.is_string())?;
    let uri = redirect_uri.join("/.vestibule/sign-out").ok()?;
    let said = format!("offered: register `{uri}` there as post-logout redirect URI");
    Some(Finding::new(Level::Good, "sign-out", "name", said))
}

/// Where the provider can tell us who signed out there (Back-Channel Logout 1.0), nobody looks for it unasked.
fn back_channel(settings: &ProviderSettings, redirect_uri: &Url, members: &Map<String, Value>) -> Option<Finding> {
    let offered = members.get("backchannel_logout_supported") == Some(&Value::Bool(true));
    let uri = redirect_uri.join(&format!("/.vestibule/backchannel-logout/{}", settings.name)).ok()?;
    let said = format!("offered: register `{uri}` there, and who signs out there is out here");
    offered.then(|| Finding::new(Level::Good, "back-channel logout", "name", said))
}

fn clock(ahead: Option<i64>) -> Finding {
    let finding = |level, said: String| Finding::new(level, "clock", "issuer", said);
    let set = "set this machine's clock by NTP";
    match ahead {
        None => finding(Level::Skipped, "the provider does not tell the time".to_owned()),
        Some(seconds) if seconds.abs() <= TOLERABLE => finding(Level::Good, format!("{} s from ours", seconds.abs())),
        Some(seconds) => {
            let way = if seconds > 0 { "ahead of" } else { "behind" };
            let said = format!("{} s {way} ours ({LEEWAY} s are forgiven)", seconds.abs());
            finding(if seconds.abs() > LEEWAY { Level::Fault } else { Level::Warning }, said).help(set)
        }
    }
}

/// A list of texts, if the document has it.
fn list(members: &Map<String, Value>, name: &str) -> Option<Vec<String>> {
    let list = members.get(name)?.as_array()?;
    Some(list.iter().filter_map(Value::as_str).map(str::to_owned).collect())
}
