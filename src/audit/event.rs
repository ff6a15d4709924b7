//! Events as OCSF 1.6 knows them, one JSON object each.
//!
//! | What happened | Class | Why this one |
//! |---|---|---|
//! | a request | HTTP Activity (4002), profile Security Control | the activity is the method; the profile has what we decided |
//! | sign-in, sign-out, a refresh put off | Authentication (3002) | a session of a person begins, ends or is renewed |
//! | a person is locked out, or let in again | Account Change (3001) | Lock and Unlock are activities of it |
//! | groups changed | User Access Management (3005) | groups are what policies grant by; Group Management (3006) is about one group, not one person |
//! | GitLab told of a change, or somebody in its name | Entity Management (3004) | what is kept of a managed entity is out of date |
//! | policies or configuration loaded | Entity Management (3004) | an update of a managed entity; Device Config State Change is about hosts |
//! | what an operator does, or may not do, to keys, sessions and locks on groups and providers | Entity Management (3004) | the same, and the actor is an administrator |
//! | start, stop | Application Lifecycle (6002) | exactly that |
//!
//! What OCSF has no place for stands under `unmapped`. There is no field for a header, a query, a cookie or a token. What may
//! tell of a person comes by the [`Lens`].

use super::{
    Event,
    crossing::{Asked, Draft, Phase, Refused, Standing, Who},
    field::{Public, Whole},
    lens::{Lens, public},
    ocsf::{
        ACCOUNT, AUTHENTICATION, Actor, Authorization, Control, Credential, Destination, ENTITY, Entity, HTTP, Hex,
        HttpRequest, HttpResponse, Idp, JobOf, LIFECYCLE, LimitOf, List, MembershipOf, Ocsf, Policy, Product, Service,
        Session, ShadowOf, Text, USER_ACCESS, Unmapped, Url, User,
    },
    time::millis,
};
use crate::{
    authorize::{Aside, Decision, Difference},
    fairness::{Measure, Whom},
    principal::{Job, Person, Service as Machine},
    refusal::{Reason, table::Kind},
};
use std::{net::IpAddr, sync::Arc, time::SystemTime};

/// Longer lists than this are cut; their length is recorded beside them.
const LIST: usize = 500;

impl<'a> Ocsf<'a> {
    fn failed(mut self, code: &'a str, detail: Text<'a>) -> Self {
        (self.severity_id, self.severity) = (Public(2), Public("Low"));
        (self.status_id, self.status) = (Public(2), Public("Failure"));
        self.status_code = Some(Public(code));
        self.status_detail = Some(detail);
        self
    }

    /// One record of a request.
    pub(super) fn request(draft: &'a Draft, lens: &Lens) -> Self {
        let (start, duration) = (millis(draft.start), u64::try_from(draft.duration.as_millis()).unwrap_or(u64::MAX));
        let activity = draft.asked.as_ref().map_or((0, "Unknown"), |asked| activity(&asked.method));
        let mut event = Self::new(HTTP, activity, start.saturating_add(duration));
        if let Some(Refused { reason, detail, .. }) = &draft.refusal {
            event = event.failed(reason.code(), lens.said(detail, draft));
        } else if let Some(why) = draft.cut {
            event = event.failed(why.code(), lens.text("we ended the stream"));
        } else if draft.status.is_none() && !matches!(draft.phase, Phase::Decision | Phase::StreamOpened) {
            (event.status_id, event.status) = (Public(99), Public("Other"));
            event.status_detail = Some(lens.text("the client left before the answer"));
        }
        event.metadata.profiles = vec![Public("security_control")];
        event.start_time = Some(Public(start));
        if !matches!(draft.phase, Phase::Decision | Phase::StreamOpened) {
            event.end_time = Some(Public(start.saturating_add(duration)));
            event.duration = Some(Public(duration));
        }
        event.control = Some(Control::of(draft));
        event.authorizations = authorizations(draft.decision.as_ref());
        event.actor = draft.who.as_ref().map(|who| Actor::of(who, draft.session.as_deref(), lens));
        event.http_response = draft.status.map(|code| HttpResponse { code: Public(code), length: Public(draft.sent) });
        event.unmapped = Unmapped::of(draft, lens);
        if let Some((id, peer)) = draft.unread {
            event.metadata.correlation_uid = Some(Public(Hex(id.0)));
            event.src_endpoint = Some(lens.source(peer));
            event.http_request = Some(HttpRequest::unread(id));
        }
        match &draft.asked {
            Some(asked) => event.asked(asked, draft, lens),
            None => event,
        }
    }

    fn asked(mut self, asked: &'a Asked, draft: &Draft, lens: &Lens) -> Self {
        let (hostname, port) = split(&asked.authority);
        let scheme = if asked.https { "https" } else { "http" };
        self.metadata.correlation_uid = Some(Public(Hex(asked.id.0)));
        self.src_endpoint = Some(lens.source(asked.client));
        self.dst_endpoint = Some(Destination { hostname: Public(hostname) });
        self.http_request = Some(HttpRequest {
            uid: Public(Hex(asked.id.0)),
            http_method: (activity(&asked.method).0 != 99).then_some(Public(asked.method.as_str())),
            length: Some(Public(draft.received)),
            url: Some(Url {
                scheme: Public(scheme),
                hostname: Public(hostname),
                port: port.map(Public),
                path: lens.path(&asked.path, draft),
            }),
        });
        self
    }

    /// What is no request.
    pub(super) fn other(event: &'a Event, now: SystemTime, lens: &Lens) -> Self {
        let time = millis(now);
        match event {
            Event::SignedIn { person, session, client } => {
                Self::authentication((1, "Logon"), person, session, time, lens).from(*client, lens)
            }
            Event::Arrived { person, session, host, client } => {
                let mut event = Self::authentication((1, "Logon"), person, session, time, lens).from(*client, lens);
                event.dst_endpoint = Some(Destination { hostname: public(host) });
                event
            }
            Event::SignInFailed { provider, reason, detail, client } => {
                Self::unknown((1, "Logon"), (reason.code(), detail), provider, time, (*client, lens))
            }
            Event::SignOutRefused { provider, detail, client, count } => {
                let refused = ("sign_out_refused", detail.as_str());
                let mut event = Self::unknown((2, "Logoff"), refused, provider, time, (*client, lens));
                event.count = (*count > 1).then_some(Public(*count));
                event
            }
            Event::SessionEnded { person, session, why } => {
                let mut event = Self::authentication((2, "Logoff"), person, session, time, lens);
                event.unmapped.why = Some(lens.text(why));
                event
            }
            Event::RefreshDeferred { person, session, cause } => {
                Self::authentication((99, "Refresh deferred"), person, session, time, lens)
                    .failed("refresh_deferred", lens.text(cause))
            }
            Event::GroupsChanged { person, added, removed, source } => {
                Self::groups(person, added, removed, time, lens).read_at(source)
            }
            Event::HookTaken { object, event, groups, client } => {
                let mut taken = Self::changed((object, "membership"), time, lens).from(*client, lens);
                taken.unmapped.why = Some(lens.text(event));
                taken.unmapped.changed = List::of(groups, lens);
                taken
            }
            Event::HookRefused { provider, detail, client, count } => {
                let mut refused = Self::changed((provider, "membership"), time, lens)
                    .failed("hook_refused", lens.told(detail, *client))
                    .from(*client, lens);
                refused.count = (*count > 1).then_some(Public(*count));
                refused
            }
            Event::Reloaded { what, digest, changed, added, removed, error } => {
                let mut event = Self::changed((what, "configuration"), time, lens);
                event.entity = event
                    .entity
                    .map(|entity| Entity { version: (!digest.is_empty()).then(|| public(digest)), ..entity });
                event.unmapped.changed = List::of(changed, lens);
                event.unmapped.added = List::of(added, lens);
                event.unmapped.removed = List::of(removed, lens);
                match error {
                    Some(error) => event.failed("reload_refused", lens.text(error)),
                    None => event,
                }
            }
            Event::Administered { by, act, kind, object, reason, sessions } => {
                let mut event = Self::administered((act, kind, object), time, lens).by(by, lens);
                event.unmapped.why = Some(lens.text(act));
                event.unmapped.reason = reason.as_deref().map(|reason| lens.words(reason));
                event.unmapped.sessions = List::of(sessions, lens);
                event
            }
            Event::StrangerRefused { by } => {
                let detail = lens.text("only the owner of the process and root are heard at the operators' socket");
                Self::changed(("admin.sock", "socket"), time, lens).failed("operator_refused", detail).by(by, lens)
            }
            Event::Started { digest } => {
                let mut event = Self::new(LIFECYCLE, (3, "Start"), time);
                event.app = Some(Product::OURS);
                event.unmapped.digest = Some(public(digest));
                event
            }
            Event::Stopped => {
                let mut event = Self::new(LIFECYCLE, (4, "Stop"), time);
                event.app = Some(Product::OURS);
                event
            }
        }
    }

    fn authentication(
        activity: (u32, &'static str),
        person: &'a Person,
        session: &'a str,
        time: u64,
        lens: &Lens,
    ) -> Self {
        let mut event = Self::new(AUTHENTICATION, activity, time).openid(person.id.provider.as_str());
        event.user = Some(User::of(person, lens));
        event.session = Some(Session { uid: lens.text(session), issuer: Some(Public(&person.issuer)) });
        event
    }

    /// What somebody tried of whom nothing is known but where they are.
    fn unknown(
        activity: (u32, &'static str),
        (code, detail): (&'a str, &'a str),
        provider: &'a str,
        time: u64,
        (client, lens): (IpAddr, &Lens),
    ) -> Self {
        let event = Self::new(AUTHENTICATION, activity, time).failed(code, lens.told(detail, client));
        let mut event = event.openid(provider).from(client, lens);
        event.user = Some(User::nobody("unknown", "Unknown", 0, lens));
        event
    }

    fn openid(mut self, provider: &'a str) -> Self {
        (self.auth_protocol_id, self.auth_protocol) = (Some(Public(4)), Some(Public("OpenID")));
        self.is_remote = Some(Public(true));
        self.service = Some(Service::of(provider));
        self
    }

    fn from(mut self, client: IpAddr, lens: &Lens) -> Self {
        self.src_endpoint = Some(lens.source(client));
        self
    }

    fn read_at(mut self, source: &'static str) -> Self {
        self.unmapped.source = Some(Public(source));
        self
    }

    fn by(mut self, operator: &'a str, lens: &Lens) -> Self {
        self.actor = Some(Actor { user: User::nobody(operator, "Admin", 2, lens), idp: None, session: None });
        self
    }

    /// Something of ours is another now.
    fn changed((name, kind): (&'a str, &'static str), time: u64, lens: &Lens) -> Self {
        Self::managed((3, "Update"), (name, kind), time, lens)
    }

    fn managed(activity: (u32, &'static str), (name, kind): (&'a str, &'static str), time: u64, lens: &Lens) -> Self {
        let mut event = Self::new(ENTITY, activity, time);
        event.entity = Some(Entity { name: lens.text(name), kind: Public(kind), version: None });
        event
    }

    /// A lock on a person changes their account; one on a group or a provider switches that off.
    fn administered((act, kind, object): (&str, &'static str, &'a str), time: u64, lens: &Lens) -> Self {
        let person = object.strip_prefix("user ").filter(|_| kind == "lock");
        let activity = match act {
            "sessions.lock" if person.is_some() => (9, "Lock"),
            "sessions.unlock" if person.is_some() => (12, "Unlock"),
            "sessions.lock" => (9, "Disable"),
            "sessions.unlock" => (8, "Enable"),
            "sessions.revoke" => (4, "Delete"),
            _ => (3, "Update"),
        };
        let Some(person) = person else { return Self::managed(activity, (object, kind), time, lens) };
        let mut event = Self::new(ACCOUNT, activity, time);
        event.user = Some(User {
            uid: person.split_once(':').map(|(_, subject)| lens.identity(subject)),
            uid_alt: Some(
                person.split_once(':').map_or_else(|| lens.text(person), |(at, who)| lens.identity_at(at, who)),
            ),
            name: None,
            kind: Some(Public("User")),
            type_id: Public(1),
        });
        event
    }

    fn groups(person: &'a Person, added: &'a [String], removed: &'a [String], time: u64, lens: &Lens) -> Self {
        let (activity, changed) = match (added, removed) {
            (added, []) => ((1, "Assign Privileges"), Some(added)),
            ([], removed) => ((2, "Revoke Privileges"), Some(removed)),
            _ => ((99, "Assign and Revoke Privileges"), None),
        };
        let mut event = Self::new(USER_ACCESS, activity, time);
        event.user = Some(User::of(person, lens));
        event.privileges = Some(Whole(match changed {
            Some(groups) => items(groups, lens).collect(),
            None => items(added, lens).chain(items(removed, lens)).collect(),
        }));
        event.unmapped.added = List::of(added, lens);
        event.unmapped.removed = List::of(removed, lens);
        event
    }
}

impl HttpRequest<'_> {
    /// One that could not be read has no more than an id.
    fn unread(id: crate::canonical::RequestId) -> Self {
        Self { uid: Public(Hex(id.0)), http_method: None, length: None, url: None }
    }
}

/// The activity of HTTP Activity that a method is.
fn activity(method: &http::Method) -> (u32, &str) {
    match method.as_str() {
        "CONNECT" => (1, "Connect"),
        "DELETE" => (2, "Delete"),
        "GET" => (3, "Get"),
        "HEAD" => (4, "Head"),
        "OPTIONS" => (5, "Options"),
        "POST" => (6, "Post"),
        "PUT" => (7, "Put"),
        "TRACE" => (8, "Trace"),
        "PATCH" => (9, "Patch"),
        other => (99, other),
    }
}

fn authorizations(decision: Option<&Decision>) -> Vec<Authorization<'_>> {
    let Some(decision) = decision else { return Vec::new() };
    let word = if decision.permits() { "Allowed" } else { "Denied" };
    let each = decision.policies.iter();
    each.map(|uid| Authorization { decision: Public(word), policy: Policy { uid: Public(uid) } }).collect()
}

impl Control {
    /// A request that a policy permits stays allowed where its upstream fails; one that never reached a policy was denied
    /// by whoever refused it. Where the client left before either, nothing was decided.
    fn of(draft: &Draft) -> Self {
        let permitted = draft.decision.as_ref().is_some_and(Decision::permits);
        match (&draft.refusal, draft.cut) {
            (Some(refused), _) if permitted && refused.reason != Reason::AuditUnavailable => Self::allowed(27, "Error"),
            (Some(refused), _) => Self::refused(refused.reason),
            (None, Some(why)) if matches!(Self::refused(why).disposition_id.0, 2 | 26) => {
                Self::denied(24, "Access Revoked")
            }
            (None, Some(_)) => Self::allowed(27, "Error"),
            (None, None) if draft.decision.is_some() && !permitted => Self::denied(2, "Blocked"),
            (None, None) if draft.decision.is_none() && draft.status.is_none() => Self::UNDECIDED,
            (None, None) => Self::allowed(1, "Allowed"),
        }
    }

    fn refused(reason: Reason) -> Self {
        match reason.row().kind {
            Kind::Blocked => Self::denied(2, "Blocked"),
            Kind::Unauthorized => Self::denied(26, "Unauthorized"),
            Kind::Rejected => Self::denied(25, "Rejected"),
            Kind::Error => Self::denied(27, "Error"),
        }
    }
}

impl<'a> Actor<'a> {
    fn of(who: &'a Who, session: Option<&'a str>, lens: &Lens) -> Self {
        let session = |issuer| session.map(|uid| Session { uid: lens.text(uid), issuer });
        let (user, name, issuer, session) = match who {
            Who::Anonymous => {
                let user = User::nobody("anonymous", "Anonymous", 99, lens);
                return Self { user, idp: None, session: session(None) };
            }
            Who::Person(person, _) => {
                let issuer = &*person.issuer;
                (User::of(person, lens), &person.id.provider, issuer, session(Some(Public(issuer))))
            }
            Who::Job(job, _) => (User::of(&job.person, lens), &job.namespace, &*job.person.issuer, session(None)),
            Who::Service(service, _) => {
                (User::of_service(service, lens), &service.id.provider, &*service.issuer, session(None))
            }
        };
        Self { user, idp: Some(Idp { name: Public(name.as_str()), uid: Some(Public(issuer)) }), session }
    }
}

impl<'a> User<'a> {
    fn of(person: &'a Person, lens: &Lens) -> Self {
        Self {
            uid: Some(lens.identity(&person.id.subject)),
            uid_alt: Some(lens.identity_at(person.id.provider.as_str(), &person.id.subject)),
            name: Some(lens.identity(&person.login)),
            kind: Some(Public("User")),
            type_id: Public(1),
        }
    }

    fn of_service(service: &'a Machine, lens: &Lens) -> Self {
        Self {
            uid: Some(lens.identity(&service.id.subject)),
            uid_alt: Some(lens.identity_at(service.id.provider.as_str(), &service.id.subject)),
            name: Some(lens.identity(&service.client_id)),
            kind: Some(Public("System")),
            type_id: Public(3),
        }
    }

    /// Somebody who has no account here.
    fn nobody(name: &'a str, kind: &'static str, type_id: u8, lens: &Lens) -> Self {
        let name = Some(lens.text(name));
        Self { uid: None, uid_alt: None, name, kind: Some(Public(kind)), type_id: Public(type_id) }
    }
}

impl<'a> JobOf<'a> {
    fn of(job: &'a Job, lens: &Lens) -> Self {
        Self {
            id: Public(job.job_id),
            pipeline: Public(job.pipeline_id),
            source: public(&job.pipeline_source),
            project: lens.text(&job.project_path),
            project_id: Public(job.project_id),
            runs_in: job.job_project_id.map(Public),
            in_project: Public(job.project.is_some()),
            renamed: job.renamed.then_some(Public(true)),
            git_ref: lens.text(&job.git_ref),
            ref_protected: Public(job.ref_protected),
            environment: job.environment.as_deref().map(|environment| lens.text(environment)),
            runner: Public(job.runner_id),
        }
    }
}

impl<'a> Unmapped<'a> {
    fn of(draft: &'a Draft, lens: &Lens) -> Self {
        let (asked, decision, refusal) = (draft.asked.as_ref(), draft.decision.as_ref(), draft.refusal.as_ref());
        Self {
            phase: Some(Public(draft.phase.as_str())),
            route: draft.route.as_ref().map(|route| Public(route.as_str())),
            class: asked.map(|asked| Public(asked.class.as_str())),
            certificate: asked
                .and_then(|asked| asked.certificate.as_ref())
                .map(|certificate| lens.text(&certificate.subject)),
            trace_id: asked.and_then(|asked| asked.trace).map(|trace| Public(Hex(trace))),
            principal: draft.who.as_ref().map(|who| Public(principal(who))),
            job: match &draft.who {
                Some(Who::Job(job, _)) => Some(JobOf::of(job, lens)),
                Some(Who::Anonymous | Who::Person(..) | Who::Service(..)) | None => None,
            },
            credential: draft
                .credential
                .as_ref()
                .map(|it| Credential { name: Public(it.issuer.as_str()), uid: Some(lens.text(&it.name)) }),
            cookies: asked.filter(|asked| asked.tossed).map(|_| Public("two_session_cookies")),
            outcome: decision.map(|decision| Public(outcome(decision))),
            policy_digest: decision.map(|decision| Public(&*decision.digest)),
            shadow: draft.shadow.as_ref().map(|shadow| ShadowOf::of(shadow, decision)),
            decision_seq: draft.recorded.map(Public),
            membership: draft.who.as_ref().and_then(|who| MembershipOf::of(who, draft.start)),
            cause: refusal.and_then(|refused| refused.cause.as_deref()).map(|cause| lens.said(cause, draft)),
            limit: refusal.and_then(|refused| refused.limit).map(LimitOf::of),
            cut: draft.cut.map(|why| Public(why.code())),
            ..Self::default()
        }
    }
}

fn principal(who: &Who) -> &'static str {
    match who {
        Who::Anonymous => "anonymous",
        Who::Person(..) => "user",
        Who::Job(..) => "job",
        Who::Service(..) => "service",
    }
}

impl<'a> ShadowOf<'a> {
    fn of(shadow: &'a Aside, decision: Option<&Decision>) -> Self {
        let differs = decision.and_then(|decision| decision.otherwise(shadow));
        Self {
            outcome: Public(if shadow.unread { "body_unread" } else { outcome(&shadow.decision) }),
            policies: Whole(shadow.decision.policies.iter().map(|id| Public(&**id)).collect()),
            policy_digest: Public(&shadow.decision.digest),
            differs: differs.map(|differs| Public(Difference::as_str(differs))),
        }
    }
}

fn outcome(decision: &Decision) -> &'static str {
    use crate::authorize::Outcome;
    match decision.outcome {
        Outcome::Permitted => "permitted",
        Outcome::Forbidden => "forbidden",
        Outcome::NotPermitted => "not_permitted",
        Outcome::MembershipUnknown => "membership_unknown",
        Outcome::Failed => "failed",
    }
}

impl MembershipOf {
    fn of(who: &Who, now: SystemTime) -> Option<Self> {
        let standing = match who {
            Who::Anonymous => return None,
            Who::Person(_, standing) | Who::Job(_, standing) | Who::Service(_, standing) => standing,
        };
        match standing {
            Standing::Known { source, read, stale } => Some(Self {
                source: Some(Public(source.as_str())),
                age_seconds: Some(Public(now.duration_since(*read).map_or(0, |age| age.as_secs()))),
                stale: Some(Public(*stale)),
                unknown: None,
            }),
            Standing::Unknown(why) => {
                Some(Self { source: None, age_seconds: None, stale: None, unknown: Some(Public(why.as_str())) })
            }
        }
    }
}

impl LimitOf {
    fn of((whom, measure): (Whom, Measure)) -> Self {
        Self { whom: Public(whom.as_str()), measure: Public(measure.as_str()) }
    }
}

impl<'a> List<'a> {
    fn of(items: &'a [String], lens: &Lens) -> Option<Self> {
        let listed = || Self { count: Public(items.len()), items: self::items(items, lens).collect() };
        (!items.is_empty()).then(listed)
    }
}

fn items<'a>(list: &'a [String], lens: &Lens) -> impl Iterator<Item = Text<'a>> {
    list.iter().take(LIST).map(|item| lens.text(item))
}

/// Host and port of an authority; brackets of an IPv6 address stay.
fn split(authority: &Arc<str>) -> (&str, Option<u16>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => match port.parse() {
            Ok(port) => (host, Some(port)),
            Err(_) => (authority, None),
        },
        _ => (authority, None),
    }
}
