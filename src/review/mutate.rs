//! Whether the cases notice when a policy changes: every policy is dropped, flipped and widened, and each time a case has to fail.

use super::{
    asking::{Asking, More, usual},
    cases::{Accepted, Suite, word},
};
use crate::{
    authorize::{Authorize, Decision, Mutant, Mutants},
    config::Settings,
    principal::Principal,
};
use std::collections::BTreeSet;

/// Methods that are tried to tell two sets of policies apart; the last opens a WebSocket.
const METHODS: [(&str, bool); 7] = [
    ("GET", false),
    ("POST", false),
    ("PUT", false),
    ("PATCH", false),
    ("DELETE", false),
    ("OPTIONS", false),
    ("GET", true),
];

/// What became of all changes.
#[derive(Default)]
pub struct Mutation {
    /// How many changes made some case fail.
    pub noticed: usize,
    /// Changes that no case noticed.
    pub survivors: Vec<Survivor>,
    /// Changes that no case noticed and that a file accepts, each with its reason.
    pub accepted: Vec<(Mutant, String)>,
    /// What files accept in vain: there is no such change, or a case notices it.
    pub vain: Vec<Accepted>,
    /// Changes that are not valid by the schema, each with the first reason.
    pub refused: Vec<(Mutant, String)>,
    /// Changes that no request can tell, each with the reason.
    pub equivalent: Vec<(Mutant, &'static str)>,
}

/// A change that no case noticed.
pub struct Survivor {
    /// The policy and the change.
    pub mutant: Mutant,
    /// A case that would notice, as case files have it, if one was found.
    pub missing: Option<String>,
}

impl Mutation {
    /// Tries every change. All cases have to pass without one.
    ///
    /// # Errors
    /// The schema of the routes cannot be made.
    pub fn of(suite: &Suite, authorize: &Authorize, settings: &Settings) -> Result<Self, String> {
        let mutants = authorize.mutants(&settings.routes, &settings.providers, &settings.token_issuers)?;
        let mut mutation = Self::default();
        for mutant in mutants.all() {
            mutation.try_one(mutant, suite, authorize, &mutants);
        }
        let used = |accepted: &Accepted| mutation.accepted.iter().any(|(mutant, _)| is(accepted, mutant));
        mutation.vain = suite.accepted.iter().filter(|accepted| !used(accepted)).cloned().collect();
        Ok(mutation)
    }

    /// How many changes count.
    pub fn counted(&self) -> usize {
        self.noticed + self.survivors.len()
    }

    /// A case notices every change that counts, and nothing else is accepted.
    pub fn good(&self) -> bool {
        self.survivors.is_empty() && self.vain.is_empty()
    }

    fn try_one(&mut self, mutant: Mutant, suite: &Suite, authorize: &Authorize, mutants: &Mutants<'_>) {
        let changed = match mutants.apply(&mutant) {
            Ok(changed) => changed,
            Err(errors) => {
                let first = errors.into_iter().next().map(|error| error.message).unwrap_or_default();
                return self.refused.push((mutant, first));
            }
        };
        if suite.cases.iter().any(|case| !case.decide(&changed).passed()) {
            self.noticed += 1;
        } else if let Some(reason) = mutants.equivalent(&mutant) {
            self.equivalent.push((mutant, reason));
        } else if let Some(accepted) = suite.accepted.iter().find(|accepted| is(accepted, &mutant)) {
            self.accepted.push((mutant, accepted.because.clone()));
        } else {
            let missing = telling(suite, authorize, &changed, mutants);
            self.survivors.push(Survivor { mutant, missing });
        }
    }
}

fn is(accepted: &Accepted, mutant: &Mutant) -> bool {
    accepted.policy == *mutant.policy && accepted.change == mutant.change.to_string()
}

/// A case that tells two sets of policies apart: somebody of the cast asks for a path that cases, policies or routes name.
fn telling(suite: &Suite, before: &Authorize, after: &Authorize, mutants: &Mutants<'_>) -> Option<String> {
    let urls = urls(suite, mutants);
    for (method, websocket) in METHODS {
        for url in &urls {
            let more = More { websocket, ..More::default() };
            let Ok(asking) = suite.site.ask(method, url, more) else { continue };
            for (name, _) in suite.cast.iter() {
                let Some(principal) = suite.cast.at(name, usual()) else { continue };
                let seen = asking.seen(&principal);
                if seen.is_anonymous() && !principal.is_anonymous() {
                    continue; // nobody says it better
                }
                let [was, is] = [before, after].map(|policies| decide(policies, &seen, &asking));
                if was.outcome != is.outcome || was.policies != is.policies {
                    return Some(case(name, method, url, websocket, &was));
                }
            }
        }
    }
    None
}

fn decide(policies: &Authorize, principal: &Principal, asking: &Asking) -> Decision {
    policies.decide(principal, &asking.judged, &asking.route, asking.now)
}

fn urls(suite: &Suite, mutants: &Mutants<'_>) -> BTreeSet<String> {
    let cases = suite.cases.iter().filter_map(|case| case.request.split_once(' '));
    let mut urls: BTreeSet<String> = cases.map(|(_, url)| url.trim().to_owned()).collect();
    let paths = mutants.paths();
    for route in suite.site.routes().all() {
        let origin = suite.site.origin(route);
        urls.extend([format!("{origin}{}", route.path), format!("{origin}{}x", route.path)]);
        urls.extend(paths.iter().map(|path| format!("{origin}{path}")));
    }
    urls
}

fn case(who: &str, method: &str, url: &str, websocket: bool, decision: &Decision) -> String {
    let socket = if websocket { ", websocket: true" } else { "" };
    let by: Vec<&str> = decision.policies.iter().map(|id| &**id).collect();
    let by = if by.is_empty() { String::new() } else { format!(", by: [{}]", by.join(", ")) };
    format!("- {{ as: {who}, request: {method} {url}{socket}, expect: {}{by} }}", word(decision.outcome))
}
