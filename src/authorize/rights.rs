//! What one principal may do on a route, and who may make one request: read from the policies that the engine would use.

use super::{
    Authorize, Matching,
    asking::Asking,
    conditions::{Bench, Holds, Part, Written},
    reach::is_about,
    words::Action,
};
use crate::{
    canonical::Judged,
    principal::{Asker, Principal},
    route::Route,
};
use std::{cell::OnceCell, time::SystemTime};

/// Said of a forbid by which a job is refused as long as nobody can say in which project it runs.
const NOWHERE: &str = "nobody can say in which project the job runs";

/// A policy that matters for one principal on one route.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Right {
    /// Which one.
    pub policy: Written,
    /// The methods that it is about, and `connect` for upgrades.
    pub methods: Vec<&'static str>,
    /// Conditions that hinge on the request, as Cedar text; what holds whatever is asked is left out.
    pub conditions: Vec<String>,
    /// Some condition cannot be evaluated for this principal. A request that comes to it is refused.
    pub fails: bool,
}

/// A policy that matters for one request, whoever makes it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Opening {
    /// Which one.
    pub policy: Written,
    /// Whom it is about: its principal scope, and conditions that hinge on the principal or on what no URL tells, as Cedar text.
    pub conditions: Vec<String>,
}

/// Every policy's conditions, taken apart once for many questions.
pub struct Rights<'a> {
    authorize: &'a Authorize,
    parts: Vec<OnceCell<Vec<Part>>>,
}

impl Authorize {
    /// To ask who may do what.
    pub fn rights(&self) -> Rights<'_> {
        Rights { authorize: self, parts: self.book.policies.iter().map(|_| OnceCell::new()).collect() }
    }
}

impl Rights<'_> {
    /// The policies of the slice by which this principal's requests to the route are decided, but those that never apply; in order.
    pub fn of(&self, principal: &Principal, route: &Route) -> Vec<Right> {
        let matching = self.authorize.matching(&Asker::of(principal), principal.membership(), route);
        let asking = Asking::new(self.authorize, principal, route, &matching);
        let bench = Bench::of(&asking, principal, None);
        let mut rights: Vec<_> = matching.candidates.iter().filter_map(|number| self.right(*number, &bench)).collect();
        rights.extend(self.displacing(&matching));
        rights
    }

    /// The policies about this request that apply to somebody, in order.
    pub fn openings(&self, judged: &Judged, route: &Route, now: SystemTime) -> Vec<Opening> {
        let Some(action) = Action::asked(&judged.asked) else { return Vec::new() };
        let matching = self.authorize.matching(&Asker::Nobody, None, route);
        let asking = Asking::new(self.authorize, &Principal::Anonymous, route, &matching);
        let bench = Bench::of(&asking, &Principal::Anonymous, Some((judged, now)));
        let about = |number: &u32| {
            let facts = &self.authorize.book.get(*number).facts;
            facts.actions.contains(action) && is_about(facts, route)
        };
        let all = (0..).take(self.parts.len()).filter(about);
        all.filter_map(|number| self.opening(number, &bench)).collect()
    }

    fn right(&self, number: u32, bench: &Bench<'_>) -> Option<Right> {
        let (mut conditions, mut fails) = (Vec::new(), false);
        for part in self.parts(number) {
            match part.is_settled().then(|| bench.holds(part)) {
                Some(Holds::Yes) => {}
                Some(Holds::No) if !fails => return None, // what fails first is never asked further
                Some(Holds::Error) => {
                    fails = true;
                    conditions.push(part.text.clone());
                }
                Some(Holds::No | Holds::Unknown) | None => conditions.push(part.text.clone()),
            }
        }
        Some(Right { conditions, fails, ..self.bare(number) })
    }

    fn bare(&self, number: u32) -> Right {
        let loaded = self.authorize.book.get(number);
        Right {
            policy: Written::of(loaded),
            methods: loaded.facts.actions.names(),
            conditions: Vec::new(),
            fails: false,
        }
    }

    fn displacing<'a>(&'a self, matching: &'a Matching) -> impl Iterator<Item = Right> + 'a {
        let right = |number: &u32| Right { conditions: vec![NOWHERE.to_owned()], ..self.bare(*number) };
        matching.places.iter().map(right)
    }

    fn opening(&self, number: u32, bench: &Bench<'_>) -> Option<Opening> {
        let mut conditions = Vec::new();
        for part in self.parts(number) {
            match part.is_of_the_request().then(|| bench.holds(part)) {
                Some(Holds::Yes) => {}
                Some(Holds::No) => return None,
                Some(Holds::Unknown | Holds::Error) | None => conditions.push(part.text.clone()),
            }
        }
        Some(Opening { policy: Written::of(self.authorize.book.get(number)), conditions })
    }

    fn parts(&self, number: u32) -> &[Part] {
        self.parts[number as usize].get_or_init(|| Part::all(&self.authorize.book.get(number).policy))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authorize::testing::{asked, load, oidc, placed, route, user};
    use std::time::UNIX_EPOCH;

    fn authorize(text: &str) -> Authorize {
        let mut exact = route("r");
        exact.exact = true;
        let policies = load(text, &[exact], &[oidc("gitlab")]).expect("the policies are good");
        Authorize::new(policies).expect("policies make a step")
    }

    fn told(rights: Vec<Right>) -> Vec<(String, usize, String)> {
        rights.iter().map(|it| (it.policy.id.to_string(), it.methods.len(), it.conditions.join(" && "))).collect()
    }

    #[test]
    fn rights_are_the_slice_without_what_never_applies() {
        let authorize = authorize(
            r#"@id("a") permit (principal is User in Group::"gitlab:a", action in Action::"read", resource)
               when { principal.login == "1" && context.path like "/a/*" };
               @id("b") permit (principal is User, action, resource) when { principal in Group::"gitlab:b" };
               @id("c") permit (principal is User in Group::"gitlab:c", action, resource);
               @id("d") forbid (principal, action == Action::"DELETE", resource) unless { principal in Group::"gitlab:b" };
               @id("e") forbid (principal, action, resource) unless { context.path like "/x/*" || (principal is User && principal.login == "1") };"#,
        );
        let rights = authorize.rights();
        let route = placed(0, &route("r"));
        let of = |groups: &[&str], version| told(rights.of(&user("1", groups, version), &route));
        let line = |id: &str, methods, text: &str| (id.to_owned(), methods, text.to_owned());
        assert_eq!(of(&["a"], 1), [line("a", 3, r#"context.path like "/a/*""#), line("d", 1, "")]);
        assert_eq!(of(&["b", "c"], 2), [line("b", 8, ""), line("c", 8, "")]);
        assert_eq!(told(rights.of(&Principal::Anonymous, &route)).len(), 2, "both forbids");
    }

    #[test]
    fn what_is_guarded_is_not_asked() {
        let authorize = authorize(
            r#"@id("a") permit (principal is User, action, resource) when { principal.subject like "*" };
               @id("b") permit (principal is User, action, resource) when { principal has email && principal.email like "*@a" };"#,
        );
        let rights = authorize.rights().of(&user("1", &[], 1), &placed(0, &route("r")));
        assert_eq!(told(rights), [("a".to_owned(), 8, String::new())], "what guards comes first");
    }

    #[test]
    fn openings_are_whom_a_url_is_open_to() {
        let authorize = authorize(
            r#"@id("a") permit (principal is User in Namespace::"gitlab:a", action in Action::"read", resource)
               when { context.path like "/a/*" };
               @id("b") permit (principal, action, resource) when { context.path like "/b/*" };
               @id("c") permit (principal is User, action, resource)
               when { context.path like "/a/*" && context.client_ip.isInRange(ip("10.0.0.0/8")) };"#,
        );
        let rights = authorize.rights();
        let open = |method, target| {
            let judged = Judged::from(asked(method, target));
            let openings = rights.openings(&judged, &placed(0, &route("r")), UNIX_EPOCH);
            let told = openings.into_iter().map(|it| format!("{}: {}", it.policy.id, it.conditions.join(" && ")));
            told.collect::<Vec<_>>()
        };
        let network = r#"c: principal is User && context.client_ip.isInRange(ip("10.0.0.0/8"))"#;
        assert_eq!(open("GET", "/a/x"), [r#"a: principal is User in Namespace::"gitlab:a""#, network]);
        assert_eq!(open("PUT", "/a/x"), [network]);
        assert_eq!(open("GET", "/b/x"), ["b: "]);
    }
}
