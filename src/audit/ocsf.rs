//! The shapes of OCSF 1.6 that we write. Names, numbers and nesting are the schema's.
//!
//! 1.6 is the first version that has all of what we record: PATCH and Unlock as activities, an HTTP event without an answer (a
//! decision, or a client that left), and one whose request could not be read. `tests/audit/events.py` holds every event against it.

use super::{
    field::{Personal, Public, Whole, record},
    lens::public,
};
use crate::canonical::RequestId;
use serde::{Serialize, Serializer};
use std::{borrow::Cow, net::IpAddr};

/// The schema's version that we write.
const SCHEMA: &str = "1.6.0";

/// A text that is about a person, or may be.
pub(super) type Text<'a> = Personal<Cow<'a, str>>;
/// A word of ours.
pub(super) type Word = Public<&'static str>;

record! {
    /// One OCSF event. Absent fields are not written.
    Ocsf<'a> {
        /// About the record.
        metadata: Metadata,
        /// Category, class and activity.
        class as "": ClassOf<'a>,
        /// When it happened or, where it took time, ended; milliseconds since 1970.
        time: Public<u64>,
        /// For how many like it an event stands; absent: for one.
        count: Option<Public<u64>>,
        /// When a request's head was read.
        start_time: Option<Public<u64>>,
        /// When a request ended.
        end_time: Option<Public<u64>>,
        /// How many milliseconds that took.
        duration: Option<Public<u64>>,
        /// 1, or 2 for what failed.
        severity_id: Public<u8>,
        /// The name of `severity_id`.
        severity: Word,
        /// 1 where it went well, 2 where it failed, 99 where the client left before the answer.
        status_id: Public<u8>,
        /// The name of `status_id`.
        status: Word,
        /// The reason code of a refusal, as in docs/refusals.md.
        status_code: Option<Public<&'a str>>,
        /// Why it failed.
        status_detail: Option<Text<'a>>,
        /// What we did about a request (profile Security Control).
        control as "": Option<Control>,
        /// The policies that decided.
        authorizations: Vec<Authorization<'a>>,
        /// Who acted.
        actor: Option<Actor<'a>>,
        /// Whom it is about.
        user: Option<User<'a>>,
        /// Which session it is about.
        session: Option<Session<'a>>,
        /// The client's end.
        src_endpoint: Option<Source>,
        /// The host that was asked for.
        dst_endpoint: Option<Destination<'a>>,
        /// The provider, in events of sign-in.
        service: Option<Service<'a>>,
        /// What was asked.
        http_request: Option<HttpRequest<'a>>,
        /// What was answered.
        http_response: Option<HttpResponse>,
        /// `OpenID`, in events of sign-in.
        auth_protocol: Option<Word>,
        /// The number of `auth_protocol`.
        auth_protocol_id: Option<Public<u8>>,
        /// True in events of sign-in.
        is_remote: Option<Public<bool>>,
        /// The groups that somebody got or lost.
        privileges: Option<Whole<Text<'a>>>,
        /// What was changed.
        entity: Option<Entity<'a>>,
        /// Ourselves, where we start or stop.
        app: Option<Product>,
        /// What OCSF has no place for.
        unmapped: Unmapped<'a>,
    }
}

record! {
    Metadata {
        /// The version of OCSF.
        version: Word,
        /// Ourselves.
        product: Product,
        /// `security_control` where it is about a request.
        profiles: Vec<Word>,
        /// The request id, in all records of a request.
        correlation_uid: Option<Public<Hex>>,
    }
}

record! {
    #[derive(Clone, Copy)]
    /// Ourselves.
    Product {
        /// `Vestibule`.
        name: Word,
        /// `Vestibule`.
        vendor_name: Word,
        /// The version that wrote the record.
        version: Word,
    }
}

/// 128 bits in 32 hexadecimal digits.
#[derive(Clone, Copy)]
pub(super) struct Hex(pub(super) u128);

record! {
    /// Category, class and activity.
    ClassOf<'a> {
        /// The number of the category.
        category_uid: Public<u32>,
        /// Its name.
        category_name: Word,
        /// The number of the class.
        class_uid: Public<u32>,
        /// Its name.
        class_name: Word,
        /// The number of the activity; of a request, the method is that.
        activity_id: Public<u32>,
        /// Its name; the method, where OCSF does not know it.
        activity_name: Public<&'a str>,
        /// Class and activity in one number.
        type_uid: Public<u32>,
    }
}

type Class = ((u32, &'static str), (u32, &'static str));
pub(super) const HTTP: Class = ((4, "Network Activity"), (4002, "HTTP Activity"));
pub(super) const ACCOUNT: Class = ((3, IAM), (3001, "Account Change"));
pub(super) const AUTHENTICATION: Class = ((3, IAM), (3002, "Authentication"));
pub(super) const ENTITY: Class = ((3, IAM), (3004, "Entity Management"));
pub(super) const USER_ACCESS: Class = ((3, IAM), (3005, "User Access Management"));
pub(super) const LIFECYCLE: Class = ((6, "Application Activity"), (6002, "Application Lifecycle"));
const IAM: &str = "Identity & Access Management";

record! {
    #[derive(Clone, Copy)]
    /// The Security Control profile: what we did about a request.
    Control {
        /// 1 where it was allowed, 2 where it was denied, 0 where the client left before that.
        action_id: Public<u8>,
        /// The name of `action_id`.
        action: Word,
        /// The number of what came of it.
        disposition_id: Public<u8>,
        /// `Allowed`, `Blocked`, `Unauthorized`, `Rejected`, `Access Revoked` or `Error`; `Unknown` where the client left first.
        disposition: Word,
    }
}

record! {
    Authorization<'a> {
        /// `Allowed` or `Denied`.
        decision: Word,
        /// One policy that decided.
        policy: Policy<'a>,
    }
}

record! {
    Policy<'a> {
        /// Its `@id`.
        uid: Public<&'a str>,
    }
}

record! {
    Actor<'a> {
        /// The person, the person behind a job, or the service; `anonymous` for nobody known.
        user: User<'a>,
        /// Who vouches for them.
        idp: Option<Idp<'a>>,
        /// The session they came with.
        session: Option<Session<'a>>,
    }
}

record! {
    User<'a> {
        /// The provider's subject.
        uid: Option<Text<'a>>,
        /// Our id, `provider:subject`.
        uid_alt: Option<Text<'a>>,
        /// The login, which may change.
        name: Option<Text<'a>>,
        /// The name of `type_id`.
        kind as "type": Option<Word>,
        /// 1 for a person, 2 for an operator, 3 for a service, 99 for nobody known, 0 where it is not known who.
        type_id: Public<u8>,
    }
}

record! {
    /// Who vouches for somebody.
    Idp<'a> {
        /// The provider's or the token issuer's name here.
        name: Public<&'a str>,
        /// Its issuer.
        uid: Option<Public<&'a str>>,
    }
}

record! {
    Service<'a> {
        /// The provider's name.
        name: Public<&'a str>,
    }
}

record! {
    Session<'a> {
        /// The first 16 hex digits of the SHA-256 of the session's handle.
        uid: Text<'a>,
        /// The issuer it was begun at.
        issuer: Option<Public<&'a str>>,
    }
}

record! {
    Source {
        /// The client's address.
        ip: Option<Personal<IpAddr>>,
        /// A pseudonym in its place, where `audit.pseudonyms` has `address`.
        uid: Option<Text<'static>>,
    }
}

record! {
    Destination<'a> {
        /// The host that was asked for.
        hostname: Public<&'a str>,
    }
}

record! {
    HttpRequest<'a> {
        /// The request id.
        uid: Public<Hex>,
        /// The method, where OCSF knows it.
        http_method: Option<Public<&'a str>>,
        /// Bytes of the request's body.
        length: Option<Public<u64>>,
        /// What was asked for, without its query.
        url: Option<Url<'a>>,
    }
}

record! {
    Url<'a> {
        /// `https` or `http`.
        scheme: Word,
        /// The host.
        hostname: Public<&'a str>,
        /// The port, where one was named.
        port: Option<Public<u16>>,
        /// The canonical path, without what `redact_paths` keeps out.
        path: Text<'a>,
    }
}

record! {
    HttpResponse {
        /// The status.
        code: Public<u16>,
        /// Bytes of the answer's body.
        length: Public<u64>,
    }
}

record! {
    Entity<'a> {
        /// What it is called.
        name: Text<'a>,
        /// What it is: `membership`, `configuration`, `key`, `token`, `session`, `lock` or `socket`.
        kind as "type": Word,
        /// The digest of what was loaded.
        version: Option<Public<&'a str>>,
    }
}

record! {
    #[derive(Default)]
    /// What OCSF has no place for.
    Unmapped<'a> {
        /// The subject of the client's certificate, where a listener asks for one.
        certificate: Option<Text<'a>>,
        /// Which of a request's records it is: `request`, `decision`, `completion`, `stream_opened` or `stream_ended`.
        phase: Option<Word>,
        /// The route.
        route: Option<Public<&'a str>>,
        /// The class of the request, such as `navigation`.
        class: Option<Word>,
        /// The trace id of a `traceparent`.
        trace_id: Option<Public<Hex>>,
        /// `anonymous`, `user`, `job` or `service`.
        principal: Option<Word>,
        /// What a CI job says of itself.
        job: Option<JobOf<'a>>,
        /// The token or certificate that somebody came with.
        credential: Option<Credential<'a>>,
        /// `two_session_cookies` where a client sent our cookie more than once: it counts as none.
        cookies: Option<Word>,
        /// What the policies say: `permitted`, `forbidden`, `not_permitted`, `membership_unknown` or `failed`.
        outcome: Option<Word>,
        /// The digest of the policies that were asked.
        policy_digest: Option<Public<&'a str>>,
        /// What the shadow policies say, which nobody obeys.
        shadow: Option<ShadowOf<'a>>,
        /// The number of the record of the decision, where that has one of its own.
        decision_seq: Option<Public<u64>>,
        /// What is known of groups.
        membership: Option<MembershipOf>,
        /// What is behind a refusal, for the operator.
        cause: Option<Text<'a>>,
        /// The limit that a request went beyond.
        limit: Option<LimitOf>,
        /// Why we ended a stream.
        cut: Option<Word>,
        /// Why a session ended, or what an operator or GitLab did.
        why: Option<Text<'a>>,
        /// Where groups were read.
        source: Option<Word>,
        /// Why an operator did it, in their words.
        reason: Option<Text<'a>>,
        /// Hashes of the sessions that it hit.
        sessions: Option<List<'a>>,
        /// Keys of the configuration and policies that mean something else now.
        changed: Option<List<'a>>,
        /// Groups or policies that are new.
        added: Option<List<'a>>,
        /// Groups or policies that are gone.
        removed: Option<List<'a>>,
        /// The digest of the configuration at the start.
        digest: Option<Public<&'a str>>,
    }
}

record! {
    Credential<'a> {
        /// Who vouches for it.
        name: Public<&'a str>,
        /// What it is called.
        uid: Option<Text<'a>>,
    }
}

record! {
    /// What a second set of policies says, and how that differs from what is in force.
    ShadowOf<'a> {
        /// As `unmapped.outcome`; `body_unread` where they would need a body that nobody read.
        outcome: Word,
        /// The policies that would decide.
        policies: Whole<Public<&'a str>>,
        /// Their digest.
        policy_digest: Public<&'a str>,
        /// What would change, if anything: `would_permit`, `would_refuse` or `may_permit`.
        differs: Option<Word>,
    }
}

record! {
    /// A CI job.
    JobOf<'a> {
        /// Its number.
        id: Public<u64>,
        /// Its pipeline's.
        pipeline: Public<u64>,
        /// What started the pipeline.
        source: Public<&'a str>,
        /// Its project's path, which may have a person's name.
        project: Text<'a>,
        /// Its project's number.
        project_id: Public<u64>,
        /// The number of the project that it runs in, where the token says so.
        runs_in: Option<Public<u64>>,
        /// Whether it counted as one of its project.
        in_project: Public<bool>,
        /// True if its path is configured with the id of another project.
        renamed: Option<Public<bool>>,
        /// Its branch or tag.
        git_ref as "ref": Text<'a>,
        /// Whether that is protected.
        ref_protected: Public<bool>,
        /// Its environment.
        environment: Option<Text<'a>>,
        /// Its runner's number.
        runner: Public<u64>,
    }
}

record! {
    MembershipOf {
        /// Where groups were read.
        source: Option<Word>,
        /// How long before the request.
        age_seconds: Option<Public<u64>>,
        /// Whether they are used only because they cannot be read again.
        stale: Option<Public<bool>>,
        /// Why they are not known.
        unknown: Option<Word>,
    }
}

record! {
    LimitOf {
        /// Whose limit it is.
        whom: Word,
        /// What is limited.
        measure: Word,
    }
}

record! {
    List<'a> {
        /// How many there are.
        count: Public<usize>,
        /// The first 500.
        items: Vec<Text<'a>>,
    }
}

impl Product {
    pub(super) const OURS: Self = Self {
        name: Public("Vestibule"),
        vendor_name: Public("Vestibule"),
        version: Public(env!("CARGO_PKG_VERSION")),
    };
}

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&RequestId(self.0).hex())
    }
}

impl<'a> Ocsf<'a> {
    /// An event that went well, with nothing in it yet.
    pub(super) fn new(
        ((category_uid, category_name), (class_uid, class_name)): Class,
        (activity_id, activity_name): (u32, &'a str),
        time: u64,
    ) -> Self {
        Self {
            metadata: Metadata {
                version: Public(SCHEMA),
                product: Product::OURS,
                profiles: Vec::new(),
                correlation_uid: None,
            },
            class: ClassOf {
                category_uid: Public(category_uid),
                category_name: Public(category_name),
                class_uid: Public(class_uid),
                class_name: Public(class_name),
                activity_id: Public(activity_id),
                activity_name: Public(activity_name),
                type_uid: Public(class_uid * 100 + activity_id),
            },
            time: Public(time),
            count: None,
            start_time: None,
            end_time: None,
            duration: None,
            severity_id: Public(1),
            severity: Public("Informational"),
            status_id: Public(1),
            status: Public("Success"),
            status_code: None,
            status_detail: None,
            control: None,
            authorizations: Vec::new(),
            actor: None,
            user: None,
            session: None,
            src_endpoint: None,
            dst_endpoint: None,
            service: None,
            http_request: None,
            http_response: None,
            auth_protocol: None,
            auth_protocol_id: None,
            is_remote: None,
            privileges: None,
            entity: None,
            app: None,
            unmapped: Unmapped::default(),
        }
    }
}

impl Control {
    /// Nothing was decided.
    pub(super) const UNDECIDED: Self = Self::of_action((0, "Unknown"), 0, "Unknown");

    pub(super) const fn allowed(disposition_id: u8, disposition: &'static str) -> Self {
        Self::of_action((1, "Allowed"), disposition_id, disposition)
    }

    pub(super) const fn denied(disposition_id: u8, disposition: &'static str) -> Self {
        Self::of_action((2, "Denied"), disposition_id, disposition)
    }

    const fn of_action((id, action): (u8, &'static str), disposition_id: u8, disposition: &'static str) -> Self {
        Self {
            action_id: Public(id),
            action: Public(action),
            disposition_id: Public(disposition_id),
            disposition: Public(disposition),
        }
    }
}

impl<'a> Service<'a> {
    pub(super) fn of(provider: &'a str) -> Self {
        Self { name: public(provider) }
    }
}
