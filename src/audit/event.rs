//! Events as OCSF 1.3 knows them, one JSON object each.
//!
//! | What happened | Class | Why this one |
//! |---|---|---|
//! | a request | HTTP Activity (4002), profile Security Control | the activity is the method; the profile has what we decided |
//! | sign-in, sign-out, a refresh put off | Authentication (3002) | a session of a person begins, ends or is renewed |
//! | groups changed | User Access Management (3005) | groups are what policies grant by; Group Management (3006) is about one group, not one person |
//! | GitLab told of a change, or somebody in its name | Entity Management (3004) | what is kept of a managed entity is out of date |
//! | policies or configuration loaded | Entity Management (3004) | an update of a managed entity; Device Config State Change is about hosts |
//! | what an operator does to keys, sessions and locks | Entity Management (3004) | the same, and the actor is an administrator |
//! | start, stop | Application Lifecycle (6002) | exactly that |
//!
//! What OCSF has no place for stands under `unmapped`. There is no field for a header, a query, a cookie or a token.

use super::{
    Event,
    crossing::{Asked, Draft, Phase, Refused, Standing, Who},
    json::clip,
    ocsf::{
        AUTHENTICATION, Actor, Authorization, Control, Destination, ENTITY, Entity, HTTP, Hex, HttpRequest,
        HttpResponse, JobOf, LIFECYCLE, LimitOf, List, MembershipOf, Named, Ocsf, Policy, Product, Session, ShadowOf,
        Source, USER_ACCESS, Unmapped, Url, User,
    },
    time::millis,
};
use crate::{
    authorize::{Aside, Decision, Difference},
    fairness::{Measure, Whom},
    principal::{Job, Person, Service},
    refusal::{Reason, table::Kind},
};
use std::{net::IpAddr, sync::Arc, time::SystemTime};

/// Longer texts than this are cut: a record stays one line of a sensible length.
const TEXT: usize = 1024;
/// Longer lists than this are cut; their length is recorded beside them.
const LIST: usize = 500;

impl<'a> Ocsf<'a> {
    fn failed(mut self, code: &'a str, detail: &'a str) -> Self {
        (self.severity_id, self.severity) = (2, "Low");
        (self.status_id, self.status) = (2, "Failure");
        self.status_code = Some(code);
        self.status_detail = Some(clip(detail, TEXT));
        self
    }

    /// One record of a request.
    pub(super) fn request(draft: &'a Draft) -> Self {
        let (start, duration) = (millis(draft.start), u64::try_from(draft.duration.as_millis()).unwrap_or(u64::MAX));
        let activity = draft.asked.as_ref().map_or((0, "Unknown"), |asked| activity(&asked.method));
        let mut event = Self::new(HTTP, activity, start.saturating_add(duration));
        if let Some(Refused { reason, detail, .. }) = &draft.refusal {
            event = event.failed(reason.code(), detail);
        } else if let Some(why) = draft.cut {
            event = event.failed(why.code(), "we ended the stream");
        } else if draft.status.is_none() && !matches!(draft.phase, Phase::Decision | Phase::StreamOpened) {
            (event.status_id, event.status) = (99, "Other");
            event.status_detail = Some("the client left before the answer");
        }
        event.metadata.profiles = Some(["security_control"]);
        event.start_time = Some(start);
        if !matches!(draft.phase, Phase::Decision | Phase::StreamOpened) {
            (event.end_time, event.duration) = (Some(start.saturating_add(duration)), Some(duration));
        }
        event.control = Some(Control::of(draft));
        event.authorizations = authorizations(draft.decision.as_ref());
        event.actor = draft.who.as_ref().map(|who| Actor::of(who, draft.session.as_deref()));
        event.http_response = draft.status.map(|code| HttpResponse { code, length: draft.sent });
        event.unmapped = Unmapped::of(draft);
        if let Some((id, peer)) = draft.unread {
            event.metadata.correlation_uid = Some(Hex(id.0));
            event.src_endpoint = Some(Source { ip: peer });
        }
        match &draft.asked {
            Some(asked) => event.asked(asked, draft.received),
            None => event,
        }
    }

    fn asked(mut self, asked: &'a Asked, received: u64) -> Self {
        let (hostname, port) = split(&asked.authority);
        let scheme = if asked.https { "https" } else { "http" };
        self.metadata.correlation_uid = Some(Hex(asked.id.0));
        self.src_endpoint = Some(Source { ip: asked.client });
        self.dst_endpoint = Some(Destination { hostname });
        self.http_request = Some(HttpRequest {
            uid: Hex(asked.id.0),
            http_method: asked.method.as_str(),
            length: received,
            url: Url { scheme, hostname, port, path: &asked.path },
        });
        self
    }

    /// What is no request.
    pub(super) fn other(event: &'a Event, now: SystemTime) -> Self {
        let time = millis(now);
        match event {
            Event::SignedIn { person, session, client } => {
                Self::authentication((1, "Logon"), person, session, time).from(*client)
            }
            Event::Arrived { person, session, host, client } => {
                let mut event = Self::authentication((1, "Logon"), person, session, time).from(*client);
                event.dst_endpoint = Some(Destination { hostname: host });
                event
            }
            Event::SignInFailed { provider, reason, detail, client } => {
                let mut event =
                    Self::new(AUTHENTICATION, (1, "Logon"), time).failed(reason.code(), detail).openid(provider);
                event.user = Some(User::UNKNOWN);
                event.from(*client)
            }
            Event::SignOutRefused { provider, detail, client, count } => {
                let mut event =
                    Self::new(AUTHENTICATION, (2, "Logoff"), time).failed("sign_out_refused", detail).openid(provider);
                event.user = Some(User::UNKNOWN);
                event.count = (*count > 1).then_some(*count);
                event.from(*client)
            }
            Event::SessionEnded { person, session, why } => {
                let mut event = Self::authentication((2, "Logoff"), person, session, time);
                event.unmapped.why = Some(why);
                event
            }
            Event::RefreshDeferred { person, session, cause } => {
                Self::authentication((99, "Refresh deferred"), person, session, time).failed("refresh_deferred", cause)
            }
            Event::GroupsChanged { person, added, removed, source } => {
                Self::groups(person, added, removed, source, time)
            }
            Event::HookTaken { object, event, client } => {
                let mut taken = Self::new(ENTITY, (3, "Update"), time).from(*client);
                taken.entity = Some(Entity { name: object, kind: "membership", version: "" });
                taken.unmapped.why = Some(clip(event, TEXT));
                taken
            }
            Event::HookRefused { provider, detail, client, count } => {
                let mut refused = Self::new(ENTITY, (3, "Update"), time).failed("hook_refused", detail).from(*client);
                refused.entity = Some(Entity { name: provider, kind: "membership", version: "" });
                refused.count = (*count > 1).then_some(*count);
                refused
            }
            Event::Reloaded { what, digest, changed, added, removed, error } => {
                let mut event = Self::new(ENTITY, (3, "Update"), time);
                event.entity = Some(Entity { name: what, kind: "configuration", version: digest });
                event.unmapped.changed = List::of(changed);
                event.unmapped.added = List::of(added);
                event.unmapped.removed = List::of(removed);
                match error {
                    Some(error) => event.failed("reload_refused", error),
                    None => event,
                }
            }
            Event::Administered { by, act, kind, object, reason, sessions } => {
                let mut event = Self::new(ENTITY, (3, "Update"), time);
                event.entity = Some(Entity { name: object, kind, version: "" });
                let user = User { uid: None, uid_alt: None, name: by, kind: Some("Admin"), type_id: 2 };
                event.actor = Some(Actor { user, idp: None, session: None });
                event.unmapped.why = Some(act);
                event.unmapped.reason = reason.as_deref().map(|reason| clip(reason, TEXT));
                event.unmapped.sessions = List::of(sessions);
                event
            }
            Event::Started { digest } => {
                let mut event = Self::new(LIFECYCLE, (3, "Start"), time);
                event.app = Some(Product);
                event.unmapped.digest = Some(digest);
                event
            }
            Event::Stopped => {
                let mut event = Self::new(LIFECYCLE, (4, "Stop"), time);
                event.app = Some(Product);
                event
            }
        }
    }

    fn authentication(activity: (u32, &'static str), person: &'a Person, session: &'a str, time: u64) -> Self {
        let mut event = Self::new(AUTHENTICATION, activity, time).openid(person.id.provider.as_str());
        event.user = Some(User::of(person));
        event.session = Some(Session { uid: session, issuer: Some(&person.issuer) });
        event
    }

    fn openid(mut self, provider: &'a str) -> Self {
        (self.auth_protocol_id, self.auth_protocol) = (Some(4), Some("OpenID"));
        self.is_remote = Some(true);
        self.service = Some(Named { name: clip(provider, TEXT), uid: None });
        self
    }

    fn from(mut self, client: IpAddr) -> Self {
        self.src_endpoint = Some(Source { ip: client });
        self
    }

    fn groups(person: &'a Person, added: &'a [String], removed: &'a [String], source: &'static str, time: u64) -> Self {
        let (activity, changed) = match (added, removed) {
            (added, []) => ((1, "Assign Privileges"), Some(added)),
            ([], removed) => ((2, "Revoke Privileges"), Some(removed)),
            _ => ((99, "Assign and Revoke Privileges"), None),
        };
        let mut event = Self::new(USER_ACCESS, activity, time);
        event.user = Some(User::of(person));
        event.privileges = Some(match changed {
            Some(groups) => items(groups).collect(),
            None => items(added).chain(items(removed)).collect(),
        });
        event.unmapped.added = List::of(added);
        event.unmapped.removed = List::of(removed);
        event.unmapped.source = Some(source);
        event
    }
}

/// The activity of HTTP Activity that a method is. 1.3 has none for PATCH.
fn activity(method: &http::Method) -> (u32, &'static str) {
    match method.as_str() {
        "CONNECT" => (1, "Connect"),
        "DELETE" => (2, "Delete"),
        "GET" => (3, "Get"),
        "HEAD" => (4, "Head"),
        "OPTIONS" => (5, "Options"),
        "POST" => (6, "Post"),
        "PUT" => (7, "Put"),
        "TRACE" => (8, "Trace"),
        "PATCH" => (99, "Patch"),
        _ => (99, "Other"),
    }
}

fn authorizations(decision: Option<&Decision>) -> Vec<Authorization<'_>> {
    let Some(decision) = decision else { return Vec::new() };
    let word = if decision.permits() { "Allowed" } else { "Denied" };
    decision.policies.iter().map(|uid| Authorization { decision: word, policy: Policy { uid } }).collect()
}

impl Control {
    /// A request that a policy permits stays allowed where its upstream fails; one that never reached a policy was denied
    /// by whoever refused it.
    fn of(draft: &Draft) -> Self {
        let permitted = draft.decision.as_ref().is_some_and(Decision::permits);
        match (&draft.refusal, draft.cut) {
            (Some(refused), _) if permitted && refused.reason != Reason::AuditUnavailable => Self::allowed(27, "Error"),
            (Some(refused), _) => Self::refused(refused.reason),
            (None, Some(why)) if matches!(Self::refused(why).disposition_id, 2 | 26) => {
                Self::denied(24, "Access Revoked")
            }
            (None, Some(_)) => Self::allowed(27, "Error"),
            (None, None) if draft.decision.is_some() && !permitted => Self::denied(2, "Blocked"),
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
    fn of(who: &'a Who, session: Option<&'a str>) -> Self {
        let session = |issuer| session.map(|uid| Session { uid, issuer });
        match who {
            Who::Anonymous => Self { user: User::ANONYMOUS, idp: None, session: session(None) },
            Who::Person(person, _) => Self {
                user: User::of(person),
                idp: Some(Named { name: person.id.provider.as_str(), uid: Some(&person.issuer) }),
                session: session(Some(&*person.issuer)),
            },
            Who::Job(job, _) => Self {
                user: User::of(&job.person),
                idp: Some(Named { name: job.namespace.as_str(), uid: Some(&job.person.issuer) }),
                session: session(None),
            },
            Who::Service(service, _) => Self {
                user: User::of_service(service),
                idp: Some(Named { name: service.id.provider.as_str(), uid: Some(&service.issuer) }),
                session: session(None),
            },
        }
    }
}

impl<'a> User<'a> {
    fn of(person: &'a Person) -> Self {
        Self {
            uid: Some(clip(&person.id.subject, TEXT)),
            uid_alt: Some(format!("{}:{}", person.id.provider, clip(&person.id.subject, TEXT))),
            name: clip(&person.login, TEXT),
            kind: Some("User"),
            type_id: 1,
        }
    }

    fn of_service(service: &'a Service) -> Self {
        Self {
            uid: Some(clip(&service.id.subject, TEXT)),
            uid_alt: Some(format!("{}:{}", service.id.provider, clip(&service.id.subject, TEXT))),
            name: clip(&service.client_id, TEXT),
            kind: Some("System"),
            type_id: 3,
        }
    }
}

impl<'a> JobOf<'a> {
    fn of(job: &'a Job) -> Self {
        Self {
            id: job.job_id,
            pipeline: job.pipeline_id,
            source: clip(&job.pipeline_source, TEXT),
            project: clip(&job.project_path, TEXT),
            project_id: job.project_id,
            runs_in: job.job_project_id,
            in_project: job.project.is_some(),
            renamed: job.renamed,
            git_ref: clip(&job.git_ref, TEXT),
            ref_protected: job.ref_protected,
            environment: job.environment.as_deref().map(|environment| clip(environment, TEXT)),
            runner: job.runner_id,
        }
    }
}

impl<'a> Unmapped<'a> {
    fn of(draft: &'a Draft) -> Self {
        let decision = draft.decision.as_ref();
        Self {
            phase: Some(draft.phase.as_str()),
            route: draft.route.as_ref().map(|route| route.as_str()),
            class: draft.asked.as_ref().map(|asked| asked.class.as_str()),
            certificate: draft
                .asked
                .as_ref()
                .and_then(|asked| asked.certificate.as_ref())
                .map(|certificate| clip(&certificate.subject, TEXT)),
            trace_id: draft.asked.as_ref().and_then(|asked| asked.trace).map(Hex),
            principal: draft.who.as_ref().map(|who| match who {
                Who::Anonymous => "anonymous",
                Who::Person(..) => "user",
                Who::Job(..) => "job",
                Who::Service(..) => "service",
            }),
            job: match &draft.who {
                Some(Who::Job(job, _)) => Some(JobOf::of(job)),
                Some(Who::Anonymous | Who::Person(..) | Who::Service(..)) | None => None,
            },
            credential: draft.credential.as_ref().map(|it| Named { name: it.issuer.as_str(), uid: Some(&it.name) }),
            outcome: decision.map(outcome),
            policy_digest: decision.map(|decision| &*decision.digest),
            shadow: draft.shadow.as_ref().map(|shadow| ShadowOf::of(shadow, decision)),
            decision_seq: draft.recorded,
            membership: draft.who.as_ref().and_then(|who| MembershipOf::of(who, draft.start)),
            cause: draft.refusal.as_ref().and_then(|refused| refused.cause.as_deref()).map(|cause| clip(cause, TEXT)),
            limit: draft.refusal.as_ref().and_then(|refused| refused.limit).map(LimitOf::of),
            cut: draft.cut.map(Reason::code),
            ..Self::default()
        }
    }
}

impl<'a> ShadowOf<'a> {
    fn of(shadow: &'a Aside, decision: Option<&Decision>) -> Self {
        Self {
            outcome: if shadow.unread { "body_unread" } else { outcome(&shadow.decision) },
            policies: shadow.decision.policies.iter().map(|id| &**id).collect(),
            policy_digest: &shadow.decision.digest,
            differs: decision.and_then(|decision| decision.otherwise(shadow)).map(Difference::as_str),
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
                source: Some(source.as_str()),
                age_seconds: Some(now.duration_since(*read).map_or(0, |age| age.as_secs())),
                stale: Some(*stale),
                unknown: None,
            }),
            Standing::Unknown(why) => {
                Some(Self { source: None, age_seconds: None, stale: None, unknown: Some(why.as_str()) })
            }
        }
    }
}

impl LimitOf {
    fn of((whom, measure): (Whom, Measure)) -> Self {
        Self { whom: whom.as_str(), measure: measure.as_str() }
    }
}

impl<'a> List<'a> {
    fn of(items: &'a [String]) -> Option<Self> {
        (!items.is_empty()).then(|| Self { count: items.len(), items: self::items(items).collect() })
    }
}

fn items(list: &[String]) -> impl Iterator<Item = &str> {
    list.iter().take(LIST).map(|item| clip(item, TEXT))
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
