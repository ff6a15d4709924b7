//! Why a request of somebody is permitted or refused, and the smallest change of membership by which it would be permitted.
//!
//! Both are decisions of the engine that serves. Nothing here knows what policies mean.

#[cfg(test)]
mod tests;

use super::{
    asking::Asking,
    cases::word,
    told::{entity, ids, policy, short},
};
use crate::{
    authorize::{
        About, Authorize, Decision, Holds, MembershipChange, Outcome, Reading, Search, Seen, Step, Written, seen,
    },
    moment::to_the_second,
    principal::{Membership, Principal},
};
use serde_json::{Value, json};
use std::cmp::Reverse;

/// Decisions that are made for one explanation, at most.
pub const DECISIONS: usize = 20_000;

/// Changes, and policies that are near, in a text; JSON has all.
const SHOWN: usize = 5;

/// One request of somebody, decided.
pub struct Explanation<'a> {
    asking: &'a Asking,
    /// What they are called in a cast, if they are from one.
    name: Option<&'a str>,
    /// Who asks, as the gateway sees them here.
    principal: Principal,
    /// They are somebody else, but the route does not take them.
    is_taken: bool,
    decision: Decision,
    deciding: Vec<Written>,
    search: Search,
    /// Every policy about this route, method and such principals.
    readings: Vec<Reading>,
}

impl<'a> Explanation<'a> {
    /// Decides and looks for what would change it.
    pub fn of(authorize: &Authorize, asking: &'a Asking, name: Option<&'a str>, whole: &Principal) -> Self {
        let (judged, route, now) = (&asking.judged, &*asking.route, asking.now);
        let principal = asking.seen(whole);
        let decision = authorize.decide(&principal, judged, route, now);
        let search = match decision.permits() {
            true => Search::default(),
            false => authorize.changes(&principal, judged, route, now, DECISIONS),
        };
        Self {
            is_taken: whole.is_anonymous() || !principal.is_anonymous(),
            deciding: decision.policies.iter().filter_map(|id| authorize.written(id)).collect(),
            readings: authorize.readings(&principal, judged, route, now),
            search,
            decision,
            principal,
            name,
            asking,
        }
    }

    /// True if it is permitted.
    pub fn permits(&self) -> bool {
        self.decision.permits()
    }

    /// Everything, for people.
    pub fn text(&self) -> String {
        let mut lines = vec![self.request()];
        lines.extend(self.who());
        lines.push(String::new());
        lines.push(self.verdict());
        lines.extend(self.deciding.iter().flat_map(|written| self.decided_by(written)));
        if !self.permits() {
            lines.extend(self.remedies());
            lines.extend(self.near());
        }
        lines.join("\n")
    }

    fn request(&self) -> String {
        let (asked, route) = (&self.asking.judged.asked, &self.asking.route.name);
        let query = asked.target.query.as_deref().map(|query| format!("?{query}")).unwrap_or_default();
        format!("{} {}{}{query}: route `{route}`", self.method(), asked.host, asked.target.path)
    }

    fn method(&self) -> &str {
        match self.asking.judged.asked.websocket {
            true => "connect",
            false => self.asking.judged.asked.method.as_str(),
        }
    }

    fn who(&self) -> Vec<String> {
        let name = self.name.map(|name| format!(" (`{name}`)")).unwrap_or_default();
        let entities = seen(&self.principal);
        let mut lines = Vec::new();
        for (entity, word) in entities.iter().zip(["principal", "principal.user"]) {
            let name = if word == "principal" { &*name } else { "" };
            lines.push(format!("{word} {}{name}", entity.id));
            lines.extend(attributes(entity).map(|line| format!("    {line}")));
        }
        if !self.is_taken {
            lines.push(format!(
                "    somebody else, whom route `{}` does not take: neither their provider nor an issuer of their tokens is \
                 listed there, so they are nobody here",
                self.asking.route.name
            ));
        }
        if self.groups_unknown() {
            lines.push("    nobody can say which groups they are in".to_owned());
        }
        if let Some(step_up) = &self.asking.route.step_up {
            let acr = step_up.acr.as_ref().map(|acr| format!(" of class `{acr}`")).unwrap_or_default();
            lines.push(format!("    whatever policies say, the route asks for a sign-in{acr} first (`step_up`)"));
        }
        lines
    }

    fn groups_unknown(&self) -> bool {
        matches!(self.principal.membership(), Some(Membership::Unknown(_)))
    }

    fn verdict(&self) -> String {
        match self.decision.outcome {
            Outcome::Permitted => "PERMITTED by",
            Outcome::Forbidden => "REFUSED: forbidden by",
            Outcome::NotPermitted => "REFUSED: no policy permits this",
            Outcome::MembershipUnknown => {
                "REFUSED for now: this hinges on groups, and nobody can say which ones they are in"
            }
            Outcome::Failed => "REFUSED: what cannot be evaluated permits nothing; look at",
        }
        .to_owned()
    }

    /// One policy, its author's words, and for a refusal the conditions by which it applies.
    fn decided_by(&self, written: &Written) -> Vec<String> {
        let mut lines = vec![format!("    `{}` ({})", written.id, written.place)];
        lines.extend(words(written).map(|line| format!("        {line}")));
        let reading = self.readings.iter().find(|reading| reading.policy.id == written.id);
        let conditions = reading.filter(|_| !self.permits()).map(|reading| &*reading.conditions).unwrap_or_default();
        let holding = conditions.iter().filter(|condition| condition.holds == Holds::Yes);
        lines.extend(holding.map(|condition| format!("        holds: {}", short(&condition.text))));
        lines
    }

    /// What would have to change, or that no change of membership would do.
    fn remedies(&self) -> Vec<String> {
        let mut lines = vec![String::new()];
        if self.search.changes.is_empty() {
            lines.extend(
                self.why_no_change().into_iter().map(|why| format!("no change of membership permits it: {why}")),
            );
            return lines;
        }
        lines.push(format!("permitted if {} would", self.whose()));
        let shown = self.changes().into_iter().take(SHOWN);
        for (number, change) in shown.enumerate() {
            let or = if number == 0 { "" } else { "or " };
            let steps: Vec<_> = change.steps.iter().map(Step::to_string).collect();
            lines.push(format!("    {or}{}, by `{}`", steps.join(", and "), change.policies.join("`, `")));
        }
        let more = self.search.changes.len().saturating_sub(SHOWN);
        lines.extend((more > 0).then(|| format!("    and {more} more: `--json` has all")));
        lines
    }

    /// Those first whose policies' authors say something.
    fn changes(&self) -> Vec<&MembershipChange> {
        let says = |id: &str| self.readings.iter().any(|it| &*it.policy.id == id && it.policy.reason.is_some());
        let mut changes: Vec<_> = self.search.changes.iter().collect();
        changes.sort_by_key(|change| Reverse(change.policies.iter().any(|id| says(id))));
        changes
    }

    fn whose(&self) -> String {
        match &self.principal {
            Principal::Anonymous => "nobody".to_owned(),
            Principal::User { person, .. } => format!("`{}`", person.login),
            Principal::Job { job, .. } => format!("`{}`, the person behind the job,", job.person.login),
            Principal::Service { service, .. } => format!("`{}`", service.client_id),
        }
    }

    /// Why no change of membership permits it; one sentence each.
    pub fn why_no_change(&self) -> Vec<String> {
        if self.permits() || !self.search.changes.is_empty() {
            return Vec::new();
        }
        let route = &self.asking.route.name;
        if !self.is_taken {
            return vec![format!("route `{route}` takes nobody of their provider or token issuer")];
        }
        if self.principal.is_anonymous() {
            return vec!["nobody is signed in, so there is none to change; `policy who` says who may".to_owned()];
        }
        if self.decision.outcome == Outcome::MembershipUnknown || self.groups_unknown() {
            return vec!["their groups have to be known first".to_owned()];
        }
        if self.decision.outcome == Outcome::Failed {
            return vec!["a policy that cannot be evaluated refuses whoever it is".to_owned()];
        }
        let mut why: Vec<_> = self.forbids().map(barred).collect();
        if why.is_empty() {
            why.extend(self.unpermitted());
        }
        if self.search.cut {
            why.push(format!("none was found with {} decisions, and there are more to try", self.search.decisions));
        }
        why
    }

    /// The forbids that applied and ask for no membership.
    fn forbids(&self) -> impl Iterator<Item = &Reading> {
        let applied = |reading: &&Reading| self.decision.policies.contains(&reading.policy.id);
        let asks = |reading: &Reading| reading.conditions.iter().any(|it| it.about.contains(&About::Membership));
        let forbids = self.readings.iter().filter(|reading| !reading.policy.permits).filter(applied);
        forbids.filter(move |reading| !asks(reading))
    }

    fn unpermitted(&self) -> Vec<String> {
        let permits: Vec<_> = self.nearest();
        if permits.is_empty() {
            let kind = match &self.principal {
                Principal::Anonymous => "nobody known",
                Principal::User { .. } => "a person",
                Principal::Job { .. } => "a job",
                Principal::Service { .. } => "a service",
            };
            return vec![format!("no policy permits {} on `{}` to {kind}", self.method(), self.asking.route.name)];
        }
        let others: Vec<_> = permits.iter().filter_map(|reading| lacks_else(reading)).take(SHOWN).collect();
        match others.is_empty() {
            true => vec!["it would take more than two at once; what each policy needs is below".to_owned()],
            false => others,
        }
    }

    /// Permits that do not apply, those first of which the fewest conditions are missing.
    fn nearest(&self) -> Vec<&Reading> {
        let mut permits: Vec<_> = self
            .readings
            .iter()
            .filter(|reading| reading.policy.permits && reading.lacking().next().is_some() && !reading.is_elsewhere())
            .collect();
        permits.sort_by_key(|reading| reading.lacking().count());
        permits
    }

    fn near(&self) -> Vec<String> {
        let nearest = self.nearest();
        if nearest.is_empty() {
            return Vec::new();
        }
        let mut lines = vec![String::new(), "what permits of this route and method need:".to_owned()];
        for reading in nearest.iter().take(SHOWN) {
            lines.push(format!("    `{}` ({})", reading.policy.id, reading.policy.place));
            lines.extend(reading.lacking().map(|it| format!("        {} {}", mark(it.holds), short(&it.text))));
        }
        let more = nearest.len().saturating_sub(SHOWN);
        lines.extend((more > 0).then(|| format!("    and {more} more: `--json` has all")));
        lines
    }

    /// The same as one object.
    pub fn json(&self) -> Value {
        let asked = &self.asking.judged.asked;
        let entities: Vec<_> = seen(&self.principal).iter().map(entity).collect();
        json!({
            "permitted": self.permits(),
            "decision": word(self.decision.outcome),
            "request": {
                "method": self.method(),
                "host": asked.host.to_string(),
                "path": &*asked.target.path,
                "query": asked.target.query.as_deref(),
                "class": asked.class.as_str(),
                "client_ip": asked.client.to_string(),
                "at": to_the_second(self.asking.now),
            },
            "route": self.asking.route.name.as_str(),
            "name": self.name,
            "taken": self.is_taken,
            "groups_known": !self.groups_unknown(),
            "principal": entities.first(),
            "person_behind": entities.get(1),
            "policies": self.deciding.iter().map(|written| self.deciding_json(written)).collect::<Vec<_>>(),
            "changes": self.changes().into_iter().map(change).collect::<Vec<_>>(),
            "no_change": self.why_no_change(),
            "tried": { "decisions": self.search.decisions, "all": !self.search.cut },
            "near": if self.permits() { Vec::new() } else { self.nearest().into_iter().map(reading).collect() },
        })
    }

    fn deciding_json(&self, written: &Written) -> Value {
        let found = self.readings.iter().find(|reading| reading.policy.id == written.id);
        found.map_or_else(|| policy(written), reading)
    }
}

fn attributes(entity: &Seen) -> impl Iterator<Item = String> + '_ {
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let attributes = entity.attributes.iter().map(move |(name, value)| format!("{name}: {}", plain(value)));
    let parents = (!entity.parents.is_empty()).then(|| format!("in {}", listed(&entity.parents)));
    attributes.chain(parents)
}

/// Some of many names.
fn listed(names: &[String]) -> String {
    const MOST: usize = 20;
    let more = names.len().saturating_sub(MOST);
    let shown = names.iter().take(MOST).cloned().collect::<Vec<_>>().join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}

fn words(written: &Written) -> impl Iterator<Item = String> + '_ {
    [&written.reason, &written.remedy].into_iter().flatten().map(|words| format!("\"{words}\""))
}

fn mark(holds: Holds) -> &'static str {
    match holds {
        Holds::Yes => "holds:",
        Holds::No => "needs:",
        Holds::Unknown => "unknown:",
        Holds::Error => "cannot be evaluated:",
    }
}

/// A forbid that no membership lifts, and what it asks about.
fn barred(reading: &Reading) -> String {
    let mut about: Vec<&str> = reading.conditions.iter().flat_map(|it| &it.about).map(|it| about_words(*it)).collect();
    about.dedup();
    match about.is_empty() {
        true => format!("`{}` forbids it to everybody", reading.policy.id),
        false => format!("`{}` forbids it by {}, whoever is in which group", reading.policy.id, about.join(" and ")),
    }
}

/// What a permit needs that no membership gives.
fn lacks_else(reading: &Reading) -> Option<String> {
    let others = reading.lacking().filter(|it| it.holds != Holds::Error && it.about != [About::Membership]);
    let needs: Vec<_> = others.map(|it| format!("`{}`", short(&it.text))).collect();
    (!needs.is_empty()).then(|| format!("`{}` needs {}", reading.policy.id, needs.join(" and ")))
}

fn about_words(about: About) -> &'static str {
    match about {
        About::Membership => "membership",
        About::Place => "where the job runs",
        About::Claims => "who or what it is",
        About::SignIn => "how and when they signed in",
        About::Time => "the time",
        About::Network => "where the request comes from",
        About::Request => "what is asked for",
        About::Route => "the route",
    }
}

fn change(change: &MembershipChange) -> Value {
    let steps = change.steps.iter().map(|step| {
        json!({ "do": if step.joins() { "join" } else { "leave" }, "entity": step.entity(), "text": step.to_string() })
    });
    json!({ "steps": steps.collect::<Vec<_>>(), "policies": ids(&change.policies) })
}

fn reading(reading: &Reading) -> Value {
    let conditions = reading.conditions.iter().map(|condition| {
        let about: Vec<_> = condition.about.iter().map(|about| about.as_str()).collect();
        json!({ "text": condition.text, "holds": condition.holds.as_str(), "about": about })
    });
    let mut value = policy(&reading.policy);
    value["conditions"] = conditions.collect();
    value
}
