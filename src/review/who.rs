//! Who may make one request: everybody of a cast, each decided, and by the policies' own text those whom they are about.

use super::{
    asking::Asking,
    cases::word,
    cast::Cast,
    told::{effect, ids, policy, short, table},
};
use crate::{
    authorize::{Authorize, Decision, Opening, Outcome},
    principal::Principal,
};
use serde_json::{Value, json};

/// So many are listed one by one of those who may not; JSON has everybody.
const LISTED: usize = 40;

/// Who may make one request.
pub struct Who<'a> {
    asking: &'a Asking,
    members: Vec<Member<'a>>,
    openings: Vec<Opening>,
}

struct Member<'a> {
    name: &'a str,
    /// The route takes such principals; where not, they are nobody there.
    is_taken: bool,
    decision: Decision,
}

impl<'a> Who<'a> {
    /// Of everybody in a cast.
    pub fn of(authorize: &Authorize, asking: &'a Asking, cast: &'a Cast) -> Self {
        let (judged, route, now) = (&asking.judged, &*asking.route, asking.now);
        let members = cast.iter().map(|(name, _)| {
            let whole = cast.at(name, now).unwrap_or(Principal::Anonymous);
            let principal = asking.seen(&whole);
            let is_taken = whole.is_anonymous() || !principal.is_anonymous();
            Member { name, is_taken, decision: authorize.decide(&principal, judged, route, now) }
        });
        Self { asking, members: members.collect(), openings: authorize.rights().openings(judged, route, now) }
    }

    /// How many of the cast may.
    pub fn permitted(&self) -> usize {
        self.members.iter().filter(|member| member.decision.permits()).count()
    }

    /// Two tables, for people.
    pub fn text(&self) -> String {
        let asked = &self.asking.judged.asked;
        let method = if asked.websocket { "connect" } else { asked.method.as_str() };
        let mut lines = vec![
            format!("{method} {}{}: route `{}`", asked.host, asked.target.path, self.asking.route.name),
            format!("of {} in the cast {} may:", self.members.len(), self.permitted()),
        ];
        let (may, may_not): (Vec<_>, Vec<_>) = self.members.iter().partition(|member| member.decision.permits());
        let shown = if may_not.len() <= LISTED { &may_not[..] } else { &[] };
        let rows: Vec<_> = may.into_iter().chain(shown.iter().copied()).map(Member::row).collect();
        lines.extend(table(&rows).into_iter().map(|row| format!("  {row}")));
        if shown.len() < may_not.len() {
            lines.push(format!("  {} others may not: `--json` has them", may_not.len()));
        }
        lines.push("by policy:".to_owned());
        lines.extend(self.by_policy());
        lines.join("\n")
    }

    fn by_policy(&self) -> Vec<String> {
        if !self.openings.iter().any(|opening| opening.policy.permits) {
            return vec!["  no policy permits this to anybody".to_owned()];
        }
        let rows = self.openings.iter().map(|opening| {
            let (policy, whom) = (&opening.policy, whom(opening));
            vec![effect(policy).to_owned(), policy.id.to_string(), policy.place.clone(), whom]
        });
        table(&rows.collect::<Vec<_>>()).into_iter().map(|row| format!("  {row}")).collect()
    }

    /// The same as one object.
    pub fn json(&self) -> Value {
        let asked = &self.asking.judged.asked;
        let openings = self.openings.iter().map(|opening| {
            let mut value = policy(&opening.policy);
            value["conditions"] = opening.conditions.clone().into();
            value
        });
        json!({
            "request": {
                "method": if asked.websocket { "connect" } else { asked.method.as_str() },
                "host": asked.host.to_string(),
                "path": &*asked.target.path,
            },
            "route": self.asking.route.name.as_str(),
            "permitted": self.permitted(),
            "cast": self.members.iter().map(Member::json).collect::<Vec<_>>(),
            "policies": openings.collect::<Vec<_>>(),
        })
    }
}

impl Member<'_> {
    fn row(&self) -> Vec<String> {
        let ids = self.decision.policies.join(", ");
        let taken = if self.is_taken { "" } else { " (as nobody: the route does not take them)" };
        let said = match self.decision.outcome {
            Outcome::NotPermitted => "no policy permits it".to_owned(),
            Outcome::MembershipUnknown => "hinges on groups that nobody knows".to_owned(),
            Outcome::Failed => format!("cannot be evaluated: {ids}"),
            Outcome::Permitted | Outcome::Forbidden => ids,
        };
        vec![self.name.to_owned(), word(self.decision.outcome).to_owned(), format!("{said}{taken}")]
    }

    fn json(&self) -> Value {
        json!({
            "name": self.name,
            "permitted": self.decision.permits(),
            "decision": word(self.decision.outcome),
            "policies": ids(&self.decision.policies),
            "taken": self.is_taken,
        })
    }
}

/// Whom a policy is about, in the policy's own words.
fn whom(opening: &Opening) -> String {
    match opening.conditions.is_empty() {
        true => "everybody".to_owned(),
        false => short(&opening.conditions.join(" && ")),
    }
}
