//! The shapes of OCSF 1.3 that we write. Names, numbers and nesting are the schema's.

use crate::canonical::RequestId;
use serde::{Serialize, Serializer, ser::SerializeStruct};
use std::net::IpAddr;

/// The schema's version that we write.
const SCHEMA: &str = "1.3.0";
/// One OCSF event. Absent fields are not written.
#[derive(Serialize)]
pub(super) struct Ocsf<'a> {
    pub(super) metadata: Metadata,
    #[serde(flatten)]
    pub(super) class: ClassOf,
    pub(super) time: u64,
    /// For how many like it an event stands; absent: for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) start_time: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) end_time: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) duration: Option<u64>,
    pub(super) severity_id: u8,
    pub(super) severity: &'static str,
    pub(super) status_id: u8,
    pub(super) status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) status_code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) status_detail: Option<&'a str>,
    #[serde(flatten)]
    pub(super) control: Option<Control>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) authorizations: Vec<Authorization<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) actor: Option<Actor<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<User<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) session: Option<Session<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) src_endpoint: Option<Source>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) dst_endpoint: Option<Destination<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) service: Option<Named<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) http_request: Option<HttpRequest<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) http_response: Option<HttpResponse>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) auth_protocol: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) auth_protocol_id: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) is_remote: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) privileges: Option<Vec<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) entity: Option<Entity<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) app: Option<Product>,
    pub(super) unmapped: Unmapped<'a>,
}

#[derive(Serialize)]
pub(super) struct Metadata {
    pub(super) version: &'static str,
    pub(super) product: Product,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) profiles: Option<[&'static str; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) correlation_uid: Option<Hex>,
}

/// Ourselves.
#[derive(Clone, Copy)]
pub(super) struct Product;

/// 128 bits in 32 hexadecimal digits.
#[derive(Clone, Copy)]
pub(super) struct Hex(pub(super) u128);

/// Category, class and activity. Order and names as in the schema.
pub(super) struct ClassOf {
    pub(super) category: (u32, &'static str),
    pub(super) class: (u32, &'static str),
    pub(super) activity: (u32, &'static str),
}

pub(super) const HTTP: ((u32, &str), (u32, &str)) = ((4, "Network Activity"), (4002, "HTTP Activity"));
pub(super) const AUTHENTICATION: ((u32, &str), (u32, &str)) =
    ((3, "Identity & Access Management"), (3002, "Authentication"));
pub(super) const ENTITY: ((u32, &str), (u32, &str)) =
    ((3, "Identity & Access Management"), (3004, "Entity Management"));
pub(super) const USER_ACCESS: ((u32, &str), (u32, &str)) =
    ((3, "Identity & Access Management"), (3005, "User Access Management"));
pub(super) const LIFECYCLE: ((u32, &str), (u32, &str)) = ((6, "Application Activity"), (6002, "Application Lifecycle"));

/// The Security Control profile: what we did about a request.
#[derive(Clone, Copy, Serialize)]
pub(super) struct Control {
    pub(super) action_id: u8,
    pub(super) action: &'static str,
    pub(super) disposition_id: u8,
    pub(super) disposition: &'static str,
}

#[derive(Serialize)]
pub(super) struct Authorization<'a> {
    pub(super) decision: &'static str,
    pub(super) policy: Policy<'a>,
}

#[derive(Serialize)]
pub(super) struct Policy<'a> {
    pub(super) uid: &'a str,
}

#[derive(Serialize)]
pub(super) struct Actor<'a> {
    pub(super) user: User<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) idp: Option<Named<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) session: Option<Session<'a>>,
}

/// `uid` is the provider's subject, `uid_alt` our id of the person, `name` the login, which may change.
#[derive(Serialize)]
pub(super) struct User<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) uid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) uid_alt: Option<String>,
    pub(super) name: &'a str,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub(super) kind: Option<&'static str>,
    pub(super) type_id: u8,
}

#[derive(Serialize)]
pub(super) struct Named<'a> {
    pub(super) name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) uid: Option<&'a str>,
}

#[derive(Serialize)]
pub(super) struct Session<'a> {
    pub(super) uid: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) issuer: Option<&'a str>,
}

#[derive(Serialize)]
pub(super) struct Source {
    pub(super) ip: IpAddr,
}

#[derive(Serialize)]
pub(super) struct Destination<'a> {
    pub(super) hostname: &'a str,
}

#[derive(Serialize)]
pub(super) struct HttpRequest<'a> {
    pub(super) uid: Hex,
    pub(super) http_method: &'a str,
    pub(super) length: u64,
    pub(super) url: Url<'a>,
}

#[derive(Serialize)]
pub(super) struct Url<'a> {
    pub(super) scheme: &'static str,
    pub(super) hostname: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) port: Option<u16>,
    pub(super) path: &'a str,
}

#[derive(Serialize)]
pub(super) struct HttpResponse {
    pub(super) code: u16,
    pub(super) length: u64,
}

#[derive(Serialize)]
pub(super) struct Entity<'a> {
    pub(super) name: &'a str,
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) version: &'a str,
}

/// What OCSF has no place for.
#[derive(Default, Serialize)]
pub(super) struct Unmapped<'a> {
    /// The subject of the client's certificate, where a listener asks for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) certificate: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) phase: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) route: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) class: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) trace_id: Option<Hex>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) principal: Option<&'static str>,
    /// What a CI job says of itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) job: Option<JobOf<'a>>,
    /// The token or certificate: who vouches for it, and what it is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) credential: Option<Named<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) outcome: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) policy_digest: Option<&'a str>,
    /// What the shadow policies say, which nobody obeys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) shadow: Option<ShadowOf<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) decision_seq: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) membership: Option<MembershipOf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cause: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) limit: Option<LimitOf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cut: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) why: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) source: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sessions: Option<List<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) changed: Option<List<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) added: Option<List<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) removed: Option<List<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) digest: Option<&'a str>,
}

/// What a second set of policies says, and how that differs from what is in force.
#[derive(Serialize)]
pub(super) struct ShadowOf<'a> {
    pub(super) outcome: &'static str,
    pub(super) policies: Vec<&'a str>,
    pub(super) policy_digest: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) differs: Option<&'static str>,
}

/// A CI job. `in_project` says whether it counted as one of its project.
#[derive(Serialize)]
pub(super) struct JobOf<'a> {
    pub(super) id: u64,
    pub(super) pipeline: u64,
    pub(super) source: &'a str,
    pub(super) project: &'a str,
    pub(super) project_id: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) runs_in: Option<u64>,
    pub(super) in_project: bool,
    /// Its path is configured with the id of another project.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) renamed: bool,
    #[serde(rename = "ref")]
    pub(super) git_ref: &'a str,
    pub(super) ref_protected: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) environment: Option<&'a str>,
    pub(super) runner: u64,
}

#[derive(Serialize)]
pub(super) struct MembershipOf {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) source: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) age_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) stale: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) unknown: Option<&'static str>,
}

/// The limit that a request went beyond.
#[derive(Serialize)]
pub(super) struct LimitOf {
    pub(super) whom: &'static str,
    pub(super) measure: &'static str,
}

/// A list, and its true length.
#[derive(Serialize)]
pub(super) struct List<'a> {
    pub(super) count: usize,
    pub(super) items: Vec<&'a str>,
}

impl Serialize for Product {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut product = serializer.serialize_struct("Product", 3)?;
        product.serialize_field("name", "Vestibule")?;
        product.serialize_field("vendor_name", "Vestibule")?;
        product.serialize_field("version", env!("CARGO_PKG_VERSION"))?;
        product.end()
    }
}

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&RequestId(self.0).hex())
    }
}

impl Serialize for ClassOf {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut class = serializer.serialize_struct("ClassOf", 7)?;
        class.serialize_field("category_uid", &self.category.0)?;
        class.serialize_field("category_name", self.category.1)?;
        class.serialize_field("class_uid", &self.class.0)?;
        class.serialize_field("class_name", self.class.1)?;
        class.serialize_field("activity_id", &self.activity.0)?;
        class.serialize_field("activity_name", self.activity.1)?;
        class.serialize_field("type_uid", &(self.class.0 * 100 + self.activity.0))?;
        class.end()
    }
}

impl Ocsf<'_> {
    /// An event that went well, with nothing in it yet.
    pub(super) fn new(
        class: ((u32, &'static str), (u32, &'static str)),
        activity: (u32, &'static str),
        time: u64,
    ) -> Self {
        Self {
            metadata: Metadata { version: SCHEMA, product: Product, profiles: None, correlation_uid: None },
            class: ClassOf { category: class.0, class: class.1, activity },
            time,
            count: None,
            start_time: None,
            end_time: None,
            duration: None,
            severity_id: 1,
            severity: "Informational",
            status_id: 1,
            status: "Success",
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
    pub(super) const fn allowed(disposition_id: u8, disposition: &'static str) -> Self {
        Self { action_id: 1, action: "Allowed", disposition_id, disposition }
    }

    pub(super) const fn denied(disposition_id: u8, disposition: &'static str) -> Self {
        Self { action_id: 2, action: "Denied", disposition_id, disposition }
    }
}

impl User<'_> {
    pub(super) const ANONYMOUS: Self = Self { uid: None, uid_alt: None, name: "anonymous", kind: None, type_id: 99 };
    pub(super) const UNKNOWN: Self = Self { uid: None, uid_alt: None, name: "unknown", kind: None, type_id: 0 };
}
