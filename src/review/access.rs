//! The policy of one principal: every route, what they may do there, and on which condition.
//!
//! Read from the slices that the engine decides by, one for each route.

use super::{
    asking::Site,
    told::{effect, entity, methods, policy, short, table},
};
use crate::{
    authorize::{Right, Rights, Seen, seen},
    config::Settings,
    principal::{Membership, Principal},
    route::Route,
};
use serde_json::{Value, json};

/// What one principal may do, route by route.
pub struct Access<'a> {
    name: Option<&'a str>,
    entity: Seen,
    groups_unknown: bool,
    routes: Vec<OnRoute<'a>>,
}

struct OnRoute<'a> {
    route: &'a Route,
    /// The route takes such principals; where not, they are nobody there.
    is_taken: bool,
    rights: Vec<Right>,
}

impl<'a> Access<'a> {
    /// Of one principal on every route of these settings.
    pub fn of(
        rights: &Rights<'_>,
        site: &Site,
        settings: &'a Settings,
        name: Option<&'a str>,
        whole: &Principal,
    ) -> Self {
        let on_route = |route: &'a Route| {
            let principal = site.seen(route, whole);
            let is_taken = whole.is_anonymous() || !principal.is_anonymous();
            OnRoute { route, is_taken, rights: rights.of(&principal, route) }
        };
        Self {
            name,
            entity: seen(whole).swap_remove(0),
            groups_unknown: matches!(whole.membership(), Some(Membership::Unknown(_))),
            routes: settings.routes.iter().map(on_route).collect(),
        }
    }

    /// True if something is permitted somewhere.
    pub fn permits_something(&self) -> bool {
        self.routes.iter().any(|route| route.rights.iter().any(|right| !route.effective(right).is_empty()))
    }

    /// True if nobody can say which groups they are in: then more may be permitted.
    pub fn groups_unknown(&self) -> bool {
        self.groups_unknown
    }

    /// Every permit on a route that takes them, with the methods that no forbid takes away whatever is asked.
    pub fn permits(&self) -> impl Iterator<Item = (&Route, &Right, Vec<&'static str>)> {
        let taken = self.routes.iter().filter(|on| on.is_taken);
        let all = taken.flat_map(|on| on.rights.iter().map(|right| (on.route, right, on.effective(right))));
        all.filter(|(_, _, methods)| !methods.is_empty())
    }

    /// A table, for people.
    pub fn text(&self) -> String {
        let name = self.name.map(|name| format!(" (`{name}`)")).unwrap_or_default();
        let mut lines = vec![format!("{}{name}", self.entity.id)];
        if self.groups_unknown {
            lines.push(
                "nobody can say which groups they are in: permits that ask for groups are left out, and what hinges on a \
                 forbid that does is refused"
                    .to_owned(),
            );
        }
        let head = ["ROUTE", "METHODS", "EFFECT", "POLICY", "WHEN"].map(str::to_owned).to_vec();
        let rows = std::iter::once(head).chain(self.routes.iter().flat_map(OnRoute::rows));
        lines.extend(table(&rows.collect::<Vec<_>>()));
        lines.join("\n")
    }

    /// The same as one object, with policies that other ones leave without effect.
    pub fn json(&self) -> Value {
        json!({
            "name": self.name,
            "principal": entity(&self.entity),
            "groups_known": !self.groups_unknown,
            "routes": self.routes.iter().map(OnRoute::json).collect::<Vec<_>>(),
        })
    }
}

impl OnRoute<'_> {
    /// Methods of a permit that no forbid takes away whatever is asked; all methods of a forbid count.
    fn effective(&self, right: &Right) -> Vec<&'static str> {
        if !right.policy.permits {
            return Vec::new();
        }
        let always = self.rights.iter().filter(|it| !it.policy.permits && it.conditions.is_empty());
        let barred: Vec<_> = always.flat_map(|forbid| &forbid.methods).collect();
        right.methods.iter().copied().filter(|method| !barred.contains(&method)).collect()
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let mut rows: Vec<_> = self.rights.iter().filter_map(|right| self.row(right)).collect();
        if rows.iter().all(|row| row[2] == "forbid") {
            rows = vec![vec![self.name(), "-".to_owned(), "nothing".to_owned()]];
        }
        for row in rows.iter_mut().skip(1) {
            row[0].clear(); // one name for all of a route
        }
        rows
    }

    fn name(&self) -> String {
        let note = if self.is_taken { "" } else { " (as nobody)" };
        format!("{}{note}", self.route.name)
    }

    fn row(&self, right: &Right) -> Option<Vec<String>> {
        let held = if right.policy.permits { self.effective(right) } else { right.methods.clone() };
        if held.is_empty() {
            return None;
        }
        let id = right.policy.id.to_string();
        Some(vec![self.name(), methods(&held), effect(&right.policy).to_owned(), id, when(right)])
    }

    fn json(&self) -> Value {
        let rights = self.rights.iter().map(|right| {
            let mut value = policy(&right.policy);
            value["methods"] = right.methods.clone().into();
            value["effective"] = right.policy.permits.then(|| self.effective(right)).into();
            value["always"] = right.conditions.is_empty().into();
            value["conditions"] = right.conditions.clone().into();
            value["fails"] = right.fails.into();
            value
        });
        let route = self.route;
        json!({
            "route": route.name.as_str(),
            "host": route.host.to_string(),
            "path": &*route.path,
            "taken": self.is_taken,
            "policies": rights.collect::<Vec<_>>(),
        })
    }
}

fn when(right: &Right) -> String {
    let fails = if right.fails { " (cannot be evaluated, and refuses)" } else { "" };
    match right.conditions.is_empty() {
        true => "always".to_owned(),
        false => format!("{}{fails}", short(&right.conditions.join(" && "))),
    }
}
