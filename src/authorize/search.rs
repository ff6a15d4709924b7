//! Finds the smallest change of membership that permits what is refused, by deciding anew as if it had been made.
//!
//! Nothing here knows what policies mean: a change counts if [`Authorize`] decides `Permitted` with it, both where membership is of
//! one group alone and where it flows down to those below.

use super::{
    Authorize, Decision, Inquiry, Outcome,
    change::{MembershipChange, Step, Way, after},
    context::Inputs,
    facts::Facts,
    reach::is_about,
    slice::Slice,
    words::{Kind, Uid},
};
use crate::{
    canonical::Judged,
    principal::{Asker, Groups, Membership, Principal},
    route::Route,
};
use std::{collections::HashSet, sync::Arc, time::SystemTime};

/// Decisions that are made for one refusal, at most.
pub(super) const FOR_ONE_REFUSAL: usize = 16;

/// Different refusals of one slice for which the nearest policy is looked for; those after them tell policies in their usual order
/// until the slice ends, after ten minutes or with the next change of membership. So nobody can have us decide without end by
/// being refused.
pub(super) const FOR_ONE_SLICE: usize = 32;

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Search {
    /// The smallest changes: all of one step, or where none suffices all of two.
    pub changes: Vec<MembershipChange>,
    /// Decisions that were made.
    pub decisions: usize,
    /// True if there were more changes to try than were allowed.
    pub cut: bool,
}

/// One request of somebody whose groups are known, to be decided with other groups.
struct Trial<'a> {
    authorize: &'a Authorize,
    asker: Asker,
    kind: Kind,
    provider: String,
    groups: &'a Groups,
    inquiry: Inquiry<'a>,
    left: usize,
    cut: bool,
}

/// A policy that may matter, and the memberships that it names.
struct Naming<'a> {
    facts: &'a Facts,
    id: &'a Arc<str>,
    uids: Vec<&'a Uid>,
}

impl Authorize {
    /// The smallest changes of membership by which a refused request would be permitted, found with at most so many decisions.
    /// Nothing for a request that is permitted, for nobody known, and while it is unknown who is in which groups.
    pub fn changes(
        &self,
        principal: &Principal,
        judged: &Judged,
        route: &Route,
        now: SystemTime,
        decisions: usize,
    ) -> Search {
        let first = self.decide(principal, judged, route, now);
        let inquiry = Inquiry::of(principal, judged, route, now);
        let Some(mut trial) = inquiry.and_then(|inquiry| Trial::of(self, principal, inquiry, decisions)) else {
            return Search::default();
        };
        let policies = trial.policies();
        let changes = trial.search(&first, &policies);
        Search { changes, decisions: decisions - trial.left, cut: trial.cut }
    }

    /// The same refusal, telling first of the policy that one change of membership would make permit this, if there is one.
    pub(super) fn nearest_first(
        &self,
        decision: Decision,
        slice: &Slice,
        principal: &Principal,
        inquiry: Inquiry<'_>,
    ) -> Decision {
        if decision.outcome != Outcome::NotPermitted || decision.notes.len() < 2 {
            return decision;
        }
        let Some(mut trial) = Trial::of(self, principal, inquiry, FOR_ONE_REFUSAL) else { return decision };
        let Inquiry { action, judged, strength, route, .. } = trial.inquiry;
        let mut telling = self.book.telling(slice, route, action);
        telling.truncate(FOR_ONE_REFUSAL); // each takes a decision at least
        let mut reads = slice.subset.reads;
        telling.iter().for_each(|number| reads.add(self.book.get(*number).facts.reads));
        // that it was another time of the day does not make it another refusal
        let inputs = Inputs::of(reads.without_time(), action, judged, strength);
        let find = || trial.nearest(telling);
        match inputs.and_then(|inputs| slice.nearest(&inputs, FOR_ONE_SLICE, find)) {
            Some(number) => self.book.telling_first(decision, number),
            None => decision,
        }
    }
}

impl<'a> Trial<'a> {
    /// None where there is no membership that could change, or none is known.
    fn of(authorize: &'a Authorize, principal: &'a Principal, inquiry: Inquiry<'a>, left: usize) -> Option<Self> {
        let asker = Asker::of(principal);
        let provider = asker.provider()?.to_owned();
        let Some(Membership::Known(groups)) = principal.membership() else { return None };
        let kind = Kind::asking(&asker);
        Some(Self { authorize, asker, kind, provider, groups, inquiry, left, cut: false })
    }

    /// Every policy about this route, this action and such principals.
    fn policies(&self) -> Vec<Naming<'a>> {
        let authorize = self.authorize;
        let all = authorize.book.policies.iter().map(|loaded| (&loaded.id, &loaded.facts));
        let about = all.filter(|(_, facts)| {
            let is_meant = facts.principal.kind().is_none_or(|kind| kind == self.kind);
            is_meant && facts.actions.contains(self.inquiry.action) && is_about(facts, self.inquiry.route)
        });
        about.map(|(id, facts)| Naming { facts, id, uids: self.named_in(facts) }).collect()
    }

    /// The memberships that a policy names and that whoever asks may have; for a job those of the person behind it.
    fn named_in(&self, facts: &'a Facts) -> Vec<&'a Uid> {
        let uids = if self.kind == Kind::Job { &facts.behind_jobs } else { &facts.uids };
        let may_have = |uid: &&Uid| uid.kind.is_membership() && uid.provider() == Some(&*self.provider);
        uids.iter().filter(may_have).collect()
    }

    /// The first of these policies that one change of membership makes permit the request, as far as decisions are left.
    fn nearest(&mut self, policies: Vec<u32>) -> Option<u32> {
        let held = self.held_after(None);
        policies.into_iter().find(|number| self.left > 0 && self.is_near(*number, &held))
    }

    /// True if one change of membership makes this policy permit the request of somebody who is in what they have `held`.
    fn is_near(&mut self, number: u32, held: &[HashSet<Uid>]) -> bool {
        let loaded = self.authorize.book.get(number);
        let is_held = |uid: &Uid| held.iter().any(|held| held.contains(uid));
        let missing: Vec<_> = self.named_in(&loaded.facts).into_iter().filter(|uid| !is_held(uid)).collect();
        missing.into_iter().any(|uid| {
            let decision = self.decide(&[&Step::join(uid)]);
            decision.is_some_and(|decision| decision.permits() && decision.policies.contains(&loaded.id))
        })
    }

    fn search(&mut self, first: &Decision, policies: &[Naming<'a>]) -> Vec<MembershipChange> {
        if first.permits() {
            return Vec::new();
        }
        let mut tried = Vec::new();
        for step in self.next(first, None, false, policies) {
            let Some(decision) = self.decide(&[&step]) else { break };
            tried.push((step, decision));
        }
        let permitting = tried.iter().filter(|(_, decision)| decision.permits());
        let single: Vec<_> = permitting
            .map(|(step, it)| MembershipChange { steps: vec![step.clone()], policies: it.policies.clone() })
            .collect();
        if single.is_empty() { smallest(self.pairs(first, &tried, policies)) } else { smallest(single) }
    }

    /// Every two steps that permit it together. The second is one that may matter once the first is made.
    fn pairs(
        &mut self,
        first: &Decision,
        tried: &[(Step, Decision)],
        policies: &[Naming<'a>],
    ) -> Vec<MembershipChange> {
        let (mut found, mut seen) = (Vec::new(), HashSet::new());
        for (one, decision) in tried {
            let alone = first.outcome == Outcome::NotPermitted && decision.outcome == Outcome::NotPermitted;
            for other in self.next(decision, Some(one), alone, policies) {
                let known = seen.contains(&(other.clone(), one.clone())) || one.includes(&other) || other.includes(one);
                if known || !seen.insert((one.clone(), other.clone())) {
                    continue;
                }
                let Some(decision) = self.decide(&[one, &other]) else { return found };
                if decision.permits() {
                    found.push(MembershipChange { steps: vec![one.clone(), other], policies: decision.policies });
                }
            }
        }
        found
    }

    /// The steps that may change this decision: those that touch the first forbid that applies, since that has to go; else those
    /// that touch a permit; `alone`: one that the step before touches too, since that has changed nothing by itself.
    fn next(&self, decision: &Decision, made: Option<&Step>, alone: bool, policies: &[Naming<'a>]) -> Vec<Step> {
        let touched: Vec<&Uid> = match decision.outcome {
            Outcome::Permitted | Outcome::MembershipUnknown | Outcome::Failed => return Vec::new(),
            Outcome::Forbidden => {
                let forbid = policies.iter().find(|policy| decision.policies.first() == Some(policy.id));
                forbid.map(|policy| policy.uids.clone()).unwrap_or_default()
            }
            Outcome::NotPermitted => {
                let names = |policy: &&Naming<'_>| match made.filter(|_| alone) {
                    Some(step) => policy.uids.iter().any(|uid| step.touches(uid)),
                    None => true,
                };
                let permits = policies.iter().filter(|policy| policy.facts.permits).filter(names);
                permits.flat_map(|policy| policy.uids.iter().copied()).collect()
            }
        };
        self.steps(&touched, made, policies)
    }

    /// To join what they are not in, and to leave what they are in, once `made` is made, where that touches one of these.
    fn steps(&self, touched: &[&Uid], made: Option<&Step>, policies: &[Naming<'a>]) -> Vec<Step> {
        let (touched, mut seen): (HashSet<&Uid>, _) = (touched.iter().copied().collect(), HashSet::new());
        let named = policies.iter().flat_map(|policy| policy.uids.iter().copied()).filter(|uid| seen.insert(*uid));
        let named: Vec<&Uid> = named.collect();
        let held = self.held_after(made);
        let missing = named.iter().filter(|uid| held.iter().any(|held| !held.contains(**uid)));
        let kept = named.iter().filter(|uid| held.iter().any(|held| held.contains(**uid)));
        let steps = missing.map(|uid| Step::join(uid)).chain(kept.map(|uid| Step::leave(uid)));
        steps.filter(|step| touched.contains(step.uid()) || touched.iter().any(|uid| step.touches(uid))).collect()
    }

    /// What they are in once this step is made, for each way in which it may be.
    fn held_after(&self, made: Option<&Step>) -> Vec<HashSet<Uid>> {
        let named = &self.authorize.named;
        let parents =
            |groups: &Groups| named.parents(&self.provider, &groups.paths, &groups.roles).into_iter().collect();
        match made {
            None => vec![parents(self.groups)],
            Some(step) => [Way::Alone, Way::Down].map(|way| parents(&after(self.groups, &[step], way, named))).to_vec(),
        }
    }

    /// The decision with these changes; `None` if no more may be made. A permit that needs membership to be of one group alone, or
    /// to flow down, is none.
    fn decide(&mut self, steps: &[&Step]) -> Option<Decision> {
        let alone = after(self.groups, steps, Way::Alone, &self.authorize.named);
        let decision = self.decide_with(alone.clone())?;
        if !decision.permits() {
            return Some(decision);
        }
        let down = after(self.groups, steps, Way::Down, &self.authorize.named);
        if alone == down { Some(decision) } else { self.decide_with(down) }
    }

    /// The engine's decision for these groups. Nothing of it is kept: who is refused must not drive out what others need.
    fn decide_with(&mut self, groups: Groups) -> Option<Decision> {
        let Some(left) = self.left.checked_sub(1) else {
            self.cut = true;
            return None;
        };
        self.left = left;
        let (authorize, asker, membership) = (self.authorize, self.asker.clone(), Membership::Known(groups));
        let subset = |members| Arc::new(authorize.collect(members));
        let slice = authorize.build(asker, Some(&membership), self.inquiry.route, subset);
        Some(match self.inquiry.judged.is_unread() {
            true => authorize
                .refused(&slice, &self.inquiry)
                .unwrap_or_else(|| authorize.book.may_permit(&slice, self.inquiry.action)),
            false => authorize.whole(&slice, &self.inquiry),
        })
    }
}

/// Those that ask for no more than is needed: who can be a member of any group below must not be told to be one of a certain group.
fn smallest(changes: Vec<MembershipChange>) -> Vec<MembershipChange> {
    let exceeds = |change: &MembershipChange| changes.iter().any(|other| change.exceeds(other));
    changes.iter().filter(|change| !exceeds(change)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        authorize::testing::{asked, gitlab_with_api, job, jobs, load_with, member, person, placed, route, user},
        group::Role,
        principal::Unknown,
    };
    use proptest::{prelude::*, sample::select};
    use std::time::UNIX_EPOCH;

    fn authorize(text: &str) -> Authorize {
        let mut exact = route("r");
        exact.exact = true;
        let policies = load_with(text, &[exact], &[gitlab_with_api("gitlab")], &[jobs("ci", "gitlab")]);
        let policies = policies.unwrap_or_else(|errors| panic!("{errors:?}"));
        Authorize::new(policies).expect("policies make a step")
    }

    fn search_at(authorize: &Authorize, principal: &Principal, target: &str, most: usize) -> Search {
        let judged = Judged::from(asked("GET", target));
        authorize.changes(principal, &judged, &placed(0, &route("r")), UNIX_EPOCH, most)
    }

    /// The changes found, as people read them, each with the policies that permit then.
    fn told(authorize: &Authorize, principal: &Principal) -> Vec<String> {
        let search = search_at(authorize, principal, "/", 10_000);
        assert!(!search.cut);
        let line = |change: &MembershipChange| {
            let steps: Vec<_> = change.steps.iter().map(ToString::to_string).collect();
            format!("{}: {}", steps.join(" and "), change.policies.join(" "))
        };
        search.changes.iter().map(line).collect()
    }

    #[test]
    fn one_more_membership_is_the_smallest_change() {
        let authorize = authorize(
            r#"@id("a") permit (principal is User in Namespace::"gitlab:acme", action, resource);
               @id("b") permit (principal is User in Group::"gitlab:acme/infra", action, resource);
               @id("c") permit (principal is User in Role::"gitlab:ops#maintainer", action, resource);
               @id("d") permit (principal is User in Group::"gitlab:x", action, resource) when { context.path like "/x/*" };
               @id("e") permit (principal is Job in Namespace::"gitlab:jobs", action, resource);"#,
        );
        let expected = ["join `gitlab:acme` or a group below it: a", "be maintainer of `gitlab:ops`, or more: c"];
        assert_eq!(told(&authorize, &user("1", &["other"], 1)), expected);
        let developer = member("1", &[("ops", Role::Developer)], &[], 2);
        assert_eq!(told(&authorize, &developer), expected, "a role that is raised is one change");
        assert_eq!(told(&authorize, &user("1", &["acme"], 3)), [""; 0], "it is permitted");
        assert_eq!(told(&authorize, &Principal::Anonymous), [""; 0]);
    }

    #[test]
    fn a_forbid_goes_by_leaving_what_it_keeps_out() {
        let authorize = authorize(
            r#"@id("a") permit (principal is User in Group::"gitlab:acme", action, resource);
               @id("b") forbid (principal is User in Group::"gitlab:contractors", action, resource);"#,
        );
        assert_eq!(told(&authorize, &user("1", &["acme", "contractors"], 1)), ["leave `gitlab:contractors`: a"]);
        let both = ["leave `gitlab:contractors` and join `gitlab:acme`: a"];
        assert_eq!(told(&authorize, &user("1", &["contractors"], 2)), both);
    }

    #[test]
    fn a_forbid_goes_by_the_role_that_it_excepts() {
        let authorize = authorize(
            r#"@id("a") permit (principal is User in Namespace::"gitlab:acme", action, resource);
               @id("b") forbid (principal, action, resource) unless { principal in Role::"gitlab:acme/platform#maintainer" };"#,
        );
        // whoever is maintainer of acme/platform is below acme too
        let one = ["be maintainer of `gitlab:acme/platform`, or more: a"];
        assert_eq!(told(&authorize, &user("1", &[], 1)), one);
        assert_eq!(told(&authorize, &user("1", &["acme"], 2)), one);
    }

    #[test]
    fn where_none_suffices_two_are_looked_for() {
        let authorize = authorize(
            r#"@id("a") permit (principal is User in Group::"gitlab:a", action, resource) when { principal in Group::"gitlab:b" };
               @id("c") permit (principal is User in Group::"gitlab:a", action, resource)
               when { principal in Group::"gitlab:c" && principal in Group::"gitlab:d" };"#,
        );
        assert_eq!(told(&authorize, &user("1", &[], 1)), ["join `gitlab:b` and join `gitlab:a`: a"]);
    }

    #[test]
    fn what_no_membership_gives_is_not_told() {
        let forbidden = authorize(
            r#"@id("a") permit (principal is User in Group::"gitlab:a", action, resource);
               @id("b") forbid (principal, action, resource) when { context.now < datetime("1980-01-01") };"#,
        );
        assert_eq!(told(&forbidden, &user("1", &["a"], 1)), [""; 0]);
        assert_eq!(told(&forbidden, &user("1", &[], 2)), [""; 0]);
        let network = authorize(
            r#"@id("a") permit (principal is User in Group::"gitlab:a", action, resource)
               when { context.client_ip.isInRange(ip("10.0.0.0/8")) };"#,
        );
        assert_eq!(told(&network, &user("1", &[], 1)), [""; 0]);
    }

    /// At GitLab a member of a group is a member of those below it. A change that only helps where that is not so is not told.
    #[test]
    fn a_membership_that_flows_down_into_a_forbid_is_no_change_that_helps() {
        let authorize = authorize(
            r#"@id("a") permit (principal is User in Group::"gitlab:a", action, resource);
               @id("b") forbid (principal is User in Group::"gitlab:a/b", action, resource);"#,
        );
        assert_eq!(told(&authorize, &user("1", &[], 1)), [""; 0]);
    }

    #[test]
    fn of_a_job_it_is_the_person_who_has_to_join() {
        let authorize = authorize(
            r#"@id("a") permit (principal is Job in Namespace::"gitlab:g", action, resource)
               when { principal.user in Group::"gitlab:release" };
               @id("b") permit (principal is User in Group::"gitlab:people", action, resource);"#,
        );
        let job = |project| Principal::Job {
            job: Arc::new(job(1, Some(project), person("gitlab", "7"), true)),
            membership: user("7", &[], 1).membership().expect("a membership").clone(),
        };
        assert_eq!(told(&authorize, &job("g/p")), ["join `gitlab:release`: a"]);
        assert_eq!(told(&authorize, &job("h/p")), [""; 0], "where a job runs is no membership");
    }

    #[test]
    fn while_groups_are_unknown_nothing_is_told_to_be_missing() {
        let authorize = authorize(r#"@id("a") permit (principal is User in Group::"gitlab:a", action, resource);"#);
        let Principal::User { person, strength, .. } = user("1", &[], 1) else { unreachable!("it is a person") };
        let membership = Membership::Unknown(Unknown::NeverRead);
        assert_eq!(told(&authorize, &Principal::User { person, strength, membership }), [""; 0]);
        let unread = member("1", &[], &["a"], 2);
        assert_eq!(told(&authorize, &unread), [""; 0], "it hinges on a group of which nobody knows");
    }

    #[test]
    fn a_search_ends_where_it_is_told_to() {
        let many: String = (0..50).map(|number| many(number, "")).collect();
        let search = search_at(&authorize(&many), &user("1", &[], 1), "/", 10);
        assert_eq!((search.decisions, search.cut, search.changes.len()), (10, true, 10));
    }

    fn many(number: usize, more: &str) -> String {
        format!(
            "@id(\"p{number}\") @reason(\"For {number}.\")\n\
             permit (principal is User in Group::\"gitlab:g{number}\", action, resource) {more};\n"
        )
    }

    /// P57: what would let them in stands first, and whatever else the authors say after it.
    #[test]
    fn p57_the_policy_that_one_membership_would_satisfy_is_told_first() {
        let text: String =
            (0..8).map(|number| many(number, &format!("when {{ context.path == \"/{number}\" }}"))).collect();
        let authorize = authorize(&text);
        let told = |target: &str| {
            let judged = Judged::from(asked("GET", target));
            let decision = authorize.decide(&user("1", &[], 1), &judged, &placed(0, &route("r")), UNIX_EPOCH);
            decision.notes.iter().map(|note| note.policy.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(told("/0"), ["p0", "p1", "p2", "p3", "p4"]);
        assert_eq!(told("/7"), ["p7", "p0", "p1", "p2", "p3"]);
        assert_eq!(told("/other"), ["p0", "p1", "p2", "p3", "p4"]);
    }

    /// Nobody can have us decide without end by being refused, and a request that is permitted costs nothing more.
    #[test]
    fn refusals_cost_a_bounded_number_of_decisions() {
        let text: String = (0..40).map(|number| many(number, "when { context.path == \"/x\" }")).collect();
        let authorize =
            authorize(&(text + "@id(\"all\") permit (principal, action, resource) when { context.path == \"/\" };"));
        let ask = |target: &str| {
            let judged = Judged::from(asked("GET", target));
            authorize.decide(&user("1", &[], 1), &judged, &placed(0, &route("r")), UNIX_EPOCH).permits()
        };
        assert!(ask("/"));
        assert_eq!(authorize.evaluations(), 1, "no more than the request itself");
        assert!(!ask("/0"));
        assert_eq!(authorize.evaluations(), 2 + FOR_ONE_REFUSAL as u64);
        assert!(!ask("/0"));
        assert_eq!(authorize.evaluations(), 2 + FOR_ONE_REFUSAL as u64, "an equal refusal costs nothing");
        (1..1000).for_each(|number| assert!(!ask(&format!("/{number}"))));
        let searched = (FOR_ONE_SLICE * FOR_ONE_REFUSAL) as u64;
        assert_eq!(authorize.evaluations(), 1 + 1000 + searched);
    }

    const WHOM: &[&str] = &[
        "principal",
        "principal is User",
        r#"principal is User in Group::"gitlab:a""#,
        r#"principal is User in Group::"gitlab:a/b""#,
        r#"principal is User in Group::"gitlab:c""#,
        r#"principal is User in Namespace::"gitlab:a""#,
        r#"principal is User in Role::"gitlab:a#developer""#,
        r#"principal is User in Role::"gitlab:c#maintainer""#,
    ];
    const WHEN: &[&str] = &[
        "",
        "",
        r#"when { principal in Group::"gitlab:c" }"#,
        r#"unless { principal in Group::"gitlab:a" }"#,
        r#"unless { principal in Role::"gitlab:c#developer" }"#,
        r#"when { principal in Namespace::"gitlab:a" || principal in Group::"gitlab:d" }"#,
        r#"when { principal in Group::"gitlab:d" && principal in Group::"gitlab:a/b" }"#,
        r#"when { context.path == "/x" }"#,
        r#"unless { principal in Group::"gitlab:d" }"#,
    ];
    const HELD: &[(&str, Role)] = &[
        ("a", Role::Guest),
        ("a", Role::Maintainer),
        ("a/b", Role::Developer),
        ("c", Role::Reporter),
        ("c", Role::Owner),
        ("d", Role::Guest),
        ("z", Role::Owner),
    ];

    prop_compose! {
        fn policy()(effect in select(&["permit", "permit", "forbid"][..]), whom in select(WHOM), when in select(WHEN)) -> String {
            format!("{effect} ({whom}, action, resource) {when};")
        }
    }

    /// Every membership that these policies name.
    fn every_step() -> Vec<Step> {
        let uid = |kind, id: &str| Uid::new(kind, format!("gitlab:{id}"));
        let groups = ["a", "a/b", "c", "d"].map(|path| uid(Kind::Group, path));
        let roles = ["a#developer", "c#developer", "c#maintainer"].map(|path| uid(Kind::Role, path));
        let all = groups.into_iter().chain(roles).chain([uid(Kind::Namespace, "a")]);
        all.flat_map(|uid| [Step::join(&uid), Step::leave(&uid)]).collect()
    }

    proptest! {
        #![proptest_config(proptest::test_runner::Config::with_cases(192))]

        /// What is told gives a permit; and where any one or two changes would, something is told, and no more than is needed.
        #[test]
        fn the_smallest_change_is_found_and_works(
            policies in prop::collection::vec(policy(), 1..6),
            held in prop::sample::subsequence(HELD, 0..3),
        ) {
            let text: Vec<_> = policies.iter().enumerate().map(|(at, it)| format!("@id(\"p{at}\") {it}")).collect();
            let mut exact = route("r");
            exact.exact = true;
            let checked = load_with(&text.join("\n"), &[exact], &[gitlab_with_api("gitlab")], &[]);
            prop_assume!(checked.is_ok());
            let authorize = Authorize::new(checked.expect("it was looked at")).expect("policies make a step");
            let mut held = held;
            held.dedup_by_key(|(path, _)| *path);
            let principal = member("1", &held, &[], 1);
            let (judged, route) = (Judged::from(asked("GET", "/")), placed(0, &route("r")));
            let first = authorize.decide(&principal, &judged, &route, UNIX_EPOCH);
            let search = authorize.changes(&principal, &judged, &route, UNIX_EPOCH, 100_000);
            let inquiry = Inquiry::of(&principal, &judged, &route, UNIX_EPOCH).expect("a method that policies name");
            let mut trial = Trial::of(&authorize, &principal, inquiry, 100_000).expect("groups are known");
            let mut permits = |steps: &[&Step]| trial.decide(steps).is_some_and(|decision| decision.permits());
            for change in &search.changes {
                prop_assert!(permits(&change.steps.iter().collect::<Vec<_>>()), "{change:?}");
            }
            let is_named = |step: &Step| authorize.book.policies.iter().any(|it| it.facts.uids.contains(step.uid()));
            let all: Vec<Step> = every_step().into_iter().filter(is_named).collect();
            let single = all.iter().any(|step| permits(&[step]));
            let pair = all.iter().any(|one| all.iter().any(|other| permits(&[one, other])));
            let told = search.changes.first().map(|change| change.steps.len());
            let expected = if first.permits() { None } else if single { Some(1) } else { pair.then_some(2) };
            prop_assert_eq!(told, expected, "{:?}", search.changes);
        }
    }
}
