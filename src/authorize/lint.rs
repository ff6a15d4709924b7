//! What Cedar's validator cannot know: restrictions that would not restrict.

use super::{
    PolicyError, anonymous,
    compared::Comparisons,
    facts::Facts,
    mistake::Spot,
    nearest::{hint, nearest},
    never, policies, scopes,
    sources::Source,
    words::{Action, Attribute, Kind, Scope, Uid},
};
use crate::route::{BodyRule, Route};
use crate::{
    config::{ProviderKind, ProviderSettings, TokenIssuerSettings},
    group::{GroupPath, Role},
    guid::{self, Guid},
    principal::Name,
};
use cedar_policy::Policy;
use std::sync::Arc;

/// What is wrong, and what to do about it; that may be empty.
pub(super) type Told = (String, String);

/// The words near which it stands, and what is wrong with them.
pub(super) type Mistakes = Vec<(String, Told)>;

/// What policies may name.
#[derive(Clone, Copy)]
pub(super) struct Known<'a> {
    pub(super) routes: &'a [Route],
    pub(super) providers: &'a [Arc<ProviderSettings>],
    pub(super) issuers: &'a [Arc<TokenIssuerSettings>],
}

impl Known<'_> {
    /// Every mistake of one policy, which starts at `start` of `source`. `cedar` is what Cedar's validator says of it: where that is
    /// anything, nobody can say what the policy reads, and what only follows from a mistake that is told here is left out.
    pub(super) fn policy(
        &self,
        source: &Source,
        start: usize,
        (policy, facts): (&Policy, &Facts),
        mut cedar: Vec<PolicyError>,
    ) -> Vec<PolicyError> {
        let is_valid = cedar.is_empty();
        let mut mistakes = scopes::mistakes(policy);
        self.bodies(facts, &mut mistakes);
        cedar.retain(|error| mistakes.is_empty() || !follows(error, facts));
        open_scope(facts, &mut mistakes);
        self.names(facts, &mut mistakes);
        strangers(facts, &mut mistakes);
        self.unreadable(facts, &mut mistakes);
        if is_valid {
            self.paths(facts, &mut mistakes);
            mistakes.extend(never::mistakes(self, facts, &Comparisons::of(policy)));
        }
        self.lent(policy, facts, &mut mistakes);
        for (near, (message, help)) in mistakes {
            let span =
                found(&source.text[start..], &near).map_or(start..start, |at| start + at..start + at + near.len());
            let error = PolicyError::at(Spot::new(source, span), message).help(help);
            if !cedar.contains(&error) {
                cedar.push(error);
            }
        }
        cedar
    }

    /// Routes and providers that do not exist, and ids that are not `provider:path`.
    fn names(&self, facts: &Facts, mistakes: &mut Mistakes) {
        for uid in &facts.uids {
            let message = match uid.kind {
                Kind::Route => self.route(uid),
                Kind::User | Kind::Group | Kind::Role | Kind::Namespace | Kind::Project => self.provider_id(uid),
                Kind::Job | Kind::Service => self.issuer_id(uid),
                Kind::Anonymous | Kind::Console | Kind::Action => None,
            };
            mistakes.extend(message.map(|told| (written(uid), told)));
        }
    }

    fn route(&self, uid: &Uid) -> Option<Told> {
        let names = self.routes.iter().map(|route| route.name.as_str());
        let unknown = !names.clone().any(|name| name == &*uid.id);
        unknown.then(|| (format!("no route is named `{}`", uid.id), hint(&uid.id, names)))
    }

    fn provider_id(&self, uid: &Uid) -> Option<Told> {
        let kind = uid.kind.as_str();
        let Some((provider, rest)) = uid.id.split_once(':') else {
            let expected = format!("expected `{kind}::\"PROVIDER:…\"`");
            return Some((format!("`{}` has no provider", written(uid)), expected));
        };
        let names = self.namespaces(uid.kind);
        if !names.contains(&provider) {
            let what =
                if uid.kind == Kind::Project { "token issuer of CI jobs has projects of" } else { "provider is named" };
            return Some((format!("no {what} `{provider}`"), hint(provider, names)));
        }
        if let Some(tree) = rest.strip_suffix("/**") {
            let help = format!("here write `Namespace::\"{provider}:{tree}\"`");
            return Some((format!("`{}` is a pattern of `allow`", written(uid)), help));
        }
        let path = match uid.kind {
            Kind::Role => rest.split_once('#').map(|(path, _)| path)?, // without one it is told below
            _ => rest,
        };
        let settings = self.providers.iter().find(|known| known.name.as_str() == provider);
        if let Some(told) = settings.and_then(|settings| named_in_vain(settings, uid, path)) {
            return Some(told);
        }
        let plain = |message: String| (message, String::new());
        match (uid.kind, path.parse::<GroupPath>()) {
            (Kind::User, _) => rest.is_empty().then(|| plain(format!("`{}` names nobody", written(uid)))),
            (_, Ok(_)) => None,
            (_, Err(error)) => Some(plain(error.to_string())),
        }
    }

    /// Who can be the provider of a person, or of one behind a job.
    pub(super) fn vouching(&self) -> Vec<&str> {
        let issuers = self.issuers.iter().map(|issuer| issuer.namespace());
        self.providers.iter().map(|provider| &provider.name).chain(issuers).map(Name::as_str).collect()
    }

    /// What the ids of people, groups and projects may begin with.
    pub(super) fn namespaces(&self, kind: Kind) -> Vec<&str> {
        let issuers = self.issuers.iter().filter(|issuer| match kind {
            Kind::Project => issuer.has_jobs(),
            Kind::Namespace => true,
            _ => !issuer.has_jobs(),
        });
        let own = issuers.map(|issuer| if issuer.has_services() { &issuer.name } else { issuer.namespace() });
        // where nobody says that there are jobs, a policy about them can do no harm
        let any = kind != Kind::Project || !self.issuers.iter().any(|issuer| issuer.has_jobs());
        let providers = self.providers.iter().filter(|_| any).map(|provider| &provider.name);
        let mut names: Vec<&str> = providers.chain(own).map(Name::as_str).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Jobs and services of issuers that do not exist.
    fn issuer_id(&self, uid: &Uid) -> Option<Told> {
        let kind = uid.kind.as_str();
        let Some((issuer, _)) = uid.id.split_once(':').filter(|(_, rest)| !rest.is_empty()) else {
            let expected = format!("expected `{kind}::\"ISSUER:…\"`");
            return Some((format!("`{}` has no token issuer", written(uid)), expected));
        };
        let fits =
            |it: &&Arc<TokenIssuerSettings>| if uid.kind == Kind::Job { it.has_jobs() } else { it.has_services() };
        let names: Vec<&str> = self.issuers.iter().filter(fits).map(|it| it.name.as_str()).collect();
        let whom = if uid.kind == Kind::Job { "jobs" } else { "services" };
        (!names.contains(&issuer))
            .then(|| (format!("no token issuer of {whom} is named `{issuer}`"), hint(issuer, names)))
    }

    /// What only a reader of memberships with a token of ours can tell.
    fn unreadable(&self, facts: &Facts, mistakes: &mut Mistakes) {
        let roles = facts.uids.iter().filter(|uid| uid.kind == Kind::Role);
        mistakes.extend(roles.filter_map(|uid| Some((written(uid), self.role(uid)?))));
        self.behind_jobs(facts, mistakes);
        for uid in facts.uids.iter().filter(|uid| uid.kind.is_membership() && uid.kind != Kind::Role) {
            let Some(provider) = self.provider_of(uid).filter(|provider| provider.kind == ProviderKind::Gitlab) else {
                continue;
            };
            let hinges = facts.mentions(Kind::User, provider.name.as_str());
            mistakes.extend(unseen(facts, uid, provider).filter(|_| hinges).map(|told| (written(uid), told)));
        }
    }

    fn role(&self, uid: &Uid) -> Option<Told> {
        let provider = self.provider_of(uid)?;
        let role = uid.id.split_once('#').map(|(_, role)| role);
        if provider.kind != ProviderKind::Gitlab {
            let message = format!("`{}` has no roles, which are GitLab's", provider.name);
            return Some((message, "name a group instead".to_owned()));
        }
        if role.is_none_or(|role| role.parse::<Role>().is_err()) {
            let expected = format!("expected one of `{}` behind `#`", Role::ALL.map(Role::as_str).join("`, `"));
            let near = role.and_then(|role| nearest(role, Role::ALL.map(Role::as_str)));
            let near = near.map_or(expected, |near| format!("did you mean `{near}`?"));
            return Some((format!("`{}` names no role", written(uid)), near));
        }
        provider.api.is_none().then(|| {
            let message = format!("a role needs `membership.api` of provider `{}`", provider.name);
            (message, "configure it, or name a group instead".to_owned())
        })
    }

    /// What is asked about the person behind a job.
    fn behind_jobs(&self, facts: &Facts, mistakes: &mut Mistakes) {
        if facts.job_person && !self.providers.iter().any(|provider| provider.api.is_some()) {
            let message = "the person behind a job is read by `membership.api`, which no provider has";
            let help = "configure it, or name the project, ref or environment instead";
            mistakes.push((".user".into(), (message.into(), help.into())));
        }
        let has_jobs = self.issuers.iter().any(|it| it.has_jobs());
        for uid in facts.behind_jobs.iter().filter(|uid| uid.kind.is_membership() && has_jobs && !self.is_read(uid)) {
            let message = format!("nobody behind a job is ever known to be in `{}`", uid.id);
            let help = "an issuer of CI jobs needs that `provider`, and the provider `membership.api`";
            mistakes.push((written(uid), (message, help.to_owned())));
        }
        for uid in facts.behind_jobs.iter().filter(|uid| uid.kind == Kind::Namespace) {
            let message = "of the person behind a job only groups that policies name are read";
            let help = format!(
                "write `principal.user in Group::\"{0}\"` for the members of `{0}`, who are members of all groups below it",
                uid.id
            );
            mistakes.push((written(uid), (message.to_owned(), help)));
        }
    }

    /// Whether it is known who of those behind jobs is in this group.
    fn is_read(&self, uid: &Uid) -> bool {
        let own = self.issuers.iter().filter(|it| it.has_jobs()).map(|it| it.namespace());
        own.into_iter().any(|name| {
            let api = self.providers.iter().any(|provider| provider.name == *name && provider.api.is_some());
            api && uid.provider() == Some(name.as_str())
        })
    }

    fn provider_of(&self, uid: &Uid) -> Option<&ProviderSettings> {
        let name = uid.provider()?;
        self.providers.iter().find(|known| known.name.as_str() == name).map(Arc::as_ref)
    }

    /// Many upstreams do not tell `/Admin/` from `/admin`: a forbid must catch all spellings, a permit only one.
    fn paths(&self, facts: &Facts, mistakes: &mut Mistakes) {
        let Some(route) = self.routes.iter().find(|route| !route.exact && may_match(&facts.resource, route)) else {
            return;
        };
        let on = format!("on route `{}`, which is not `paths: exact`", route.name);
        let mut add = |near: &str, message: String, help: &str| mistakes.push((near.into(), (message, help.into())));
        if !facts.permits && facts.reads.contains(Attribute::Path) {
            let message = format!("a forbid {on}, tests `context.path`: another spelling gets past it");
            add("context.path", message, "test `context.path_folded`");
        }
        if facts.permits && facts.reads.contains(Attribute::PathFolded) {
            let message = format!("a permit {on}, tests `context.path_folded`: another spelling is let in");
            add("context.path_folded", message, "test `context.path`");
        }
        if facts.permits && facts.path_negated {
            let message = format!("a permit {on}, must not exclude a `context.path`");
            let help = "another spelling would get past it: write a forbid that tests `context.path_folded`";
            add("context.path", message, help);
        }
    }

    /// A field that no request of the policy's routes has is never there.
    fn bodies(&self, facts: &Facts, mistakes: &mut Mistakes) {
        let routes = || self.routes.iter().filter(|route| may_match(&facts.resource, route));
        let rules = || routes().flat_map(|route| &*route.body_fields).filter(|rule| may_name(facts, rule));
        let known = || rules().flat_map(|rule| &rule.fields).map(|known| &*known.name);
        for field in facts.body_fields.iter().filter(|field| !known().any(|known| known == &***field)) {
            let message = format!("`context.body.{field}` is never there");
            let declare = "declare it in a rule of `body_fields`, for a request that this policy is about";
            let near = nearest(field, known()).map(|near| format!("did you mean `{near}`?"));
            mistakes.push((field.to_string(), (message, near.unwrap_or_else(|| declare.to_owned()))));
        }
    }

    /// A secret of ours is for nobody whom we do not know.
    fn lent(&self, policy: &Policy, facts: &Facts, mistakes: &mut Mistakes) {
        let fits = |route: &&Route| route.secret().is_some() && may_match(&facts.resource, route);
        let mut routes = self.routes.iter().filter(fits);
        if let Some(route) = routes.find(|route| anonymous::may_be_permitted(policy, facts, route)) {
            let message = format!(
                "a permit that may be for `Anonymous`, on route `{}`, would let everybody act with the secret of its \
                 `credential`",
                route.name
            );
            let help = "write `principal is User`, or another type, in the scope";
            mistakes.push(("principal".into(), (message, help.into())));
        }
    }
}

/// Whether the policy is about what a rule of `body_fields` names, as far as the method tells.
pub(super) fn may_name(facts: &Facts, rule: &BodyRule) -> bool {
    Action::of(&rule.method).is_some_and(|action| facts.actions.contains(action))
}

/// A group at GitLab that keeps people out, but for some whose membership is not seen.
fn unseen(facts: &Facts, uid: &Uid, provider: &ProviderSettings) -> Option<Told> {
    let (name, bars) = (&provider.name, facts.barring.contains(uid));
    if provider.api.is_none() && (bars || !facts.permits) {
        let effect = if facts.permits { "permit" } else { "forbid" };
        let message = format!(
            "a {effect} that hinges on a group of `{name}` needs its `membership.api`, else people of invited groups get past it"
        );
        return Some((message, "configure it, or permit those who may instead".into()));
    }
    (uid.kind == Kind::Namespace && bars).then(|| {
        let message = format!(
            "people of a group that is invited to one below `{}` get past this: only invitations to groups that policies name \
             are read",
            uid.id
        );
        (message, format!("name the groups, as `Group::\"{name}:…\"`, or permit those who may instead"))
    })
}

/// A group that nobody of this provider is ever known to be in, or somebody whom it never names so.
fn named_in_vain(settings: &ProviderSettings, uid: &Uid, path: &str) -> Option<Told> {
    let provider = &settings.name;
    if uid.kind.is_membership() && settings.groups_claim.is_none() {
        let help = format!(
            "name people, as `User::\"{provider}:…\"`, or write the claim that lists their groups in `membership.claim`"
        );
        return Some((format!("`{provider}` does not say which groups its people are in"), help));
    }
    if settings.kind != ProviderKind::Entra {
        return None;
    }
    let (whose, lower) = match uid.kind {
        Kind::User => match guid::person(path) {
            Some(lower) => ("people", lower),
            None => {
                let help = format!("write `{provider}:TENANT.OBJECT`, the ids of tenant and person");
                return Some((format!("`{}` names nobody", written(uid)), help));
            }
        },
        _ => ("groups", path.parse::<Guid>().ok().filter(|_| uid.kind.is_membership())?.to_string()),
    };
    (lower != path).then(|| {
        let message = format!("{whose} of `{provider}` are compared in lower case");
        (message, format!("write `{provider}:{lower}`"))
    })
}

/// `principal in Group::…` leaves open whether a person's membership or a job's place is meant.
fn open_scope(facts: &Facts, mistakes: &mut Mistakes) {
    if let Scope::In(uid) = &facts.principal
        && (uid.kind.is_membership() || uid.kind == Kind::Project)
    {
        let kind = if uid.kind == Kind::Project { "Job" } else { "User" };
        let help = format!("write `principal is {kind} in {}`", written(uid));
        mistakes.push((written(uid), ("the scope names no principal type".into(), help)));
    }
}

/// Only the entities of the request are known; a question about any other is always answered no.
fn strangers(facts: &Facts, mistakes: &mut Mistakes) {
    for uid in &facts.strangers {
        let message = format!("nothing is known about `{}` but that it is named here", written(uid));
        mistakes.push((written(uid), (message, "ask about `principal`, `action` or `resource`".into())));
    }
}

/// Whether what Cedar says of a policy only follows from a mistake in its scope, or from a field of the body that is never there.
fn follows(error: &PolicyError, facts: &Facts) -> bool {
    let is_unknown = |field: &Arc<str>| error.message == format!("attribute `body.{field}` in context not found");
    policies::is_impossible(error) || facts.body_fields.iter().any(is_unknown)
}

/// Whether the resource scope fits the route.
pub(super) fn may_match(resource: &Scope, route: &Route) -> bool {
    match resource {
        Scope::Any => true,
        Scope::Is(kind) => *kind == Kind::Route,
        Scope::Eq(uid) | Scope::In(uid) | Scope::IsIn(_, uid) => {
            uid.kind == Kind::Route && *uid.id == *route.name.as_str()
        }
    }
}

/// The entity as its author wrote it, most likely.
fn written(uid: &Uid) -> String {
    uid.to_cedar().to_string()
}

/// Where `near` stands in `text` as a word of its own; nowhere if it is written in another way.
fn found(text: &str, near: &str) -> Option<usize> {
    let ends = |at: usize| {
        let after = text[at + near.len()..].chars().next();
        !after.is_some_and(|next| next == '_' || next.is_ascii_alphanumeric()) || near.ends_with('"')
    };
    text.match_indices(near).map(|(at, _)| at).find(|at| ends(*at))
}
