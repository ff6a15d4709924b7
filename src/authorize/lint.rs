//! What Cedar's validator cannot know: restrictions that would not restrict.

use super::{
    PolicyError,
    facts::Facts,
    nearest::hint,
    sources::Source,
    words::{Attribute, Kind, Scope, Uid},
};
use crate::route::Route;
use crate::{
    config::{ProviderKind, ProviderSettings},
    group::GroupPath,
};
use std::sync::Arc;

/// What policies may name.
pub(super) struct Lint<'a> {
    pub(super) routes: &'a [Route],
    pub(super) providers: &'a [Arc<ProviderSettings>],
}

impl Lint<'_> {
    /// Adds every mistake of one policy, which starts at `start` of `source`.
    pub(super) fn policy(&self, source: &Source, start: usize, facts: &Facts, errors: &mut Vec<PolicyError>) {
        let mut mistakes: Vec<(String, String)> = Vec::new();
        open_scope(facts, &mut mistakes);
        self.names(facts, &mut mistakes);
        strangers(facts, &mut mistakes);
        self.unreadable(facts, &mut mistakes);
        self.paths(facts, &mut mistakes);
        unfolded(facts, &mut mistakes);
        for (near, message) in mistakes {
            let place = source.place(start + offset(&source.text[start..], &near));
            let error = PolicyError { place, message };
            if !errors.contains(&error) {
                errors.push(error);
            }
        }
    }

    /// Routes and providers that do not exist, and ids that are not `provider:path`.
    fn names(&self, facts: &Facts, mistakes: &mut Vec<(String, String)>) {
        for uid in &facts.uids {
            let message = match uid.kind {
                Kind::Route => self.route(uid),
                Kind::User | Kind::Group | Kind::Role | Kind::Namespace | Kind::Project => self.provider_id(uid),
                Kind::Anonymous | Kind::Job | Kind::Service | Kind::Console | Kind::Action => None,
            };
            mistakes.extend(message.map(|message| (written(uid), message)));
        }
    }

    fn route(&self, uid: &Uid) -> Option<String> {
        let names = self.routes.iter().map(|route| route.name.as_str());
        let unknown = !names.clone().any(|name| name == &*uid.id);
        unknown.then(|| format!("no route is named `{}`{}", uid.id, hint(&uid.id, names)))
    }

    fn provider_id(&self, uid: &Uid) -> Option<String> {
        let kind = uid.kind.as_str();
        let Some((provider, rest)) = uid.id.split_once(':') else {
            return Some(format!("`{}` has no provider, expected `{kind}::\"PROVIDER:…\"`", written(uid)));
        };
        let names = self.providers.iter().map(|provider| provider.name.as_str());
        if !names.clone().any(|name| name == provider) {
            return Some(format!("no provider is named `{provider}`{}", hint(provider, names)));
        }
        if let Some(tree) = rest.strip_suffix("/**") {
            return Some(format!(
                "`{}` is a pattern of `allow`: here write `Namespace::\"{provider}:{tree}\"`",
                written(uid)
            ));
        }
        let path = if uid.kind == Kind::Role { rest.split_once('#').map_or("", |(path, _)| path) } else { rest };
        match (uid.kind, path.parse::<GroupPath>()) {
            (Kind::User, _) => rest.is_empty().then(|| format!("`{}` names nobody", written(uid))),
            (_, Ok(_)) => None,
            (_, Err(error)) => Some(error.to_string()),
        }
    }

    /// What would need a reader of memberships that this version does not have.
    fn unreadable(&self, facts: &Facts, mistakes: &mut Vec<(String, String)>) {
        for uid in facts.uids.iter().filter(|uid| uid.kind == Kind::Role) {
            let message = "roles are read by `membership.api`, which this version does not have: name a group instead";
            mistakes.push((written(uid), message.into()));
        }
        if facts.job_person {
            let message = "the person behind a job is read by `membership.api`, which this version does not have: \
                           name the project, ref or environment instead";
            mistakes.push((".user".into(), message.into()));
        }
        for uid in facts.uids.iter().filter(|uid| uid.kind.is_membership() && uid.kind != Kind::Role) {
            let Some(provider) = uid.provider().filter(|provider| !facts.permits && facts.mentions(provider)) else {
                continue;
            };
            if self.providers.iter().any(|known| known.name.as_str() == provider && known.kind == ProviderKind::Gitlab)
            {
                let message = format!(
                    "a forbid that hinges on a group of `{provider}` needs `membership.api`, which this version does not \
                     have: permit those who may instead"
                );
                mistakes.push((written(uid), message));
            }
        }
    }

    /// Many upstreams do not tell `/Admin/` from `/admin`: a forbid must catch all spellings, a permit only one.
    fn paths(&self, facts: &Facts, mistakes: &mut Vec<(String, String)>) {
        let Some(route) = self.routes.iter().find(|route| !route.exact && may_match(&facts.resource, route)) else {
            return;
        };
        let on = format!("on route `{}`, which is not `paths: exact`", route.name);
        if !facts.permits && facts.reads.contains(Attribute::Path) {
            let message =
                format!("a forbid {on}, must test `context.path_folded`, so that no other spelling gets past it");
            mistakes.push(("context.path".into(), message));
        }
        if facts.permits && facts.reads.contains(Attribute::PathFolded) {
            let message = format!("a permit {on}, must test `context.path`, so that no other spelling is let in");
            mistakes.push(("context.path_folded".into(), message));
        }
        if facts.permits && facts.path_negated {
            let message = format!(
                "a permit {on}, must not exclude a `context.path`: another spelling would get past it; write a forbid \
                 that tests `context.path_folded`"
            );
            mistakes.push(("context.path".into(), message));
        }
    }
}

/// `principal in Group::…` leaves open whether a person's membership or a job's place is meant.
fn open_scope(facts: &Facts, mistakes: &mut Vec<(String, String)>) {
    if let Scope::In(uid) = &facts.principal
        && (uid.kind.is_membership() || uid.kind == Kind::Project)
    {
        let kind = if uid.kind == Kind::Project { "Job" } else { "User" };
        let message = format!("the scope names no principal type: write `principal is {kind} in {}`", written(uid));
        mistakes.push((written(uid), message));
    }
}

/// Only the entities of the request are known; a question about any other is always answered no.
fn strangers(facts: &Facts, mistakes: &mut Vec<(String, String)>) {
    for uid in &facts.strangers {
        let message = format!(
            "nothing is known about `{}` but that it is named here: ask about `principal`, `action` or `resource`",
            written(uid)
        );
        mistakes.push((written(uid), message));
    }
}

/// What is compared with a folded path has to be folded too, or it never fits.
fn unfolded(facts: &Facts, mistakes: &mut Vec<(String, String)>) {
    for text in &facts.unfolded {
        let message = format!(
            "`context.path_folded` begins with `/`, is in lower case and has no slash at its end, so it never fits `{text}`"
        );
        mistakes.push((format!("\"{text}\""), message));
    }
}

fn may_match(resource: &Scope, route: &Route) -> bool {
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

/// Where `near` stands in `text` as a word of its own; 0 if it is written in another way.
fn offset(text: &str, near: &str) -> usize {
    let ends = |at: usize| {
        let after = text[at + near.len()..].chars().next();
        !after.is_some_and(|next| next == '_' || next.is_ascii_alphanumeric()) || near.ends_with('"')
    };
    text.match_indices(near).map(|(at, _)| at).find(|at| ends(*at)).unwrap_or(0)
}
