//! A record as `search`, `export` and `report` read it, and the terms by which it is found.
//!
//! The same terms go into the index and are compared when a line is looked at, so that both find the same records.

use super::record::{Gap, Recovery, Removal};
use serde::Deserialize;
use std::borrow::Cow;

/// One line, as far as it is looked for or told. What is absent is empty.
#[derive(Debug, Deserialize)]
pub(super) struct Told<'a> {
    #[serde(default)]
    pub(super) seq: u64,
    #[serde(default)]
    pub(super) epoch: u32,
    #[serde(borrow)]
    pub(super) event: Option<Box<Event<'a>>>,
    pub(super) gap: Option<Gap>,
    pub(super) recovery: Option<Recovery>,
    pub(super) removal: Option<Removal>,
    head: Option<Timed>,
    segment: Option<Timed>,
    close: Option<Timed>,
}

/// A head, or where a segment begins or a process ends.
#[derive(Debug, Deserialize)]
struct Timed {
    time: u64,
}

/// An event.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Event<'a> {
    pub(super) time: u64,
    pub(super) count: Option<u64>,
    pub(super) class_uid: u32,
    pub(super) activity_id: u32,
    pub(super) action_id: Option<u8>,
    #[serde(borrow)]
    pub(super) class_name: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) activity_name: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) disposition: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) status: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) status_code: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) status_detail: Cow<'a, str>,
    pub(super) duration: Option<u64>,
    #[serde(borrow)]
    pub(super) metadata: Metadata<'a>,
    #[serde(borrow)]
    pub(super) authorizations: Vec<Authorization<'a>>,
    #[serde(borrow)]
    pub(super) actor: Actor<'a>,
    #[serde(borrow)]
    pub(super) user: Option<User<'a>>,
    #[serde(borrow)]
    pub(super) session: Named<'a>,
    #[serde(borrow)]
    pub(super) src_endpoint: Source<'a>,
    #[serde(borrow)]
    pub(super) dst_endpoint: Destination<'a>,
    #[serde(borrow)]
    pub(super) http_request: Option<HttpRequest<'a>>,
    pub(super) http_response: Option<HttpResponse>,
    #[serde(borrow)]
    pub(super) entity: Entity<'a>,
    #[serde(borrow)]
    pub(super) unmapped: Unmapped<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Metadata<'a> {
    #[serde(borrow)]
    pub(super) correlation_uid: Cow<'a, str>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Authorization<'a> {
    #[serde(borrow)]
    pub(super) policy: Named<'a>,
}

/// What has a name, an id, or both.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Named<'a> {
    #[serde(borrow)]
    pub(super) uid: Cow<'a, str>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Actor<'a> {
    #[serde(borrow)]
    pub(super) user: User<'a>,
    #[serde(borrow)]
    pub(super) session: Named<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct User<'a> {
    #[serde(borrow)]
    pub(super) uid: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) uid_alt: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) name: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) email_addr: Cow<'a, str>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Source<'a> {
    #[serde(borrow)]
    pub(super) ip: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) uid: Cow<'a, str>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Destination<'a> {
    #[serde(borrow)]
    pub(super) hostname: Cow<'a, str>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct HttpRequest<'a> {
    #[serde(borrow)]
    pub(super) http_method: Cow<'a, str>,
    pub(super) length: u64,
    #[serde(borrow)]
    pub(super) url: Url<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Url<'a> {
    #[serde(borrow)]
    pub(super) hostname: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) path: Cow<'a, str>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct HttpResponse {
    pub(super) code: u16,
    pub(super) length: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Entity<'a> {
    #[serde(borrow)]
    pub(super) name: Cow<'a, str>,
    #[serde(rename = "type", borrow)]
    pub(super) kind: Cow<'a, str>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Unmapped<'a> {
    #[serde(borrow)]
    pub(super) phase: Cow<'a, str>,
    /// The kind of request, such as `websocket`.
    #[serde(borrow)]
    pub(super) class: Cow<'a, str>,
    /// The number of the record with the decision, where that has one of its own.
    pub(super) decision_seq: Option<u64>,
    #[serde(borrow)]
    pub(super) route: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) principal: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) job: Option<Job<'a>>,
    #[serde(borrow)]
    pub(super) outcome: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) policy_digest: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) shadow: Shadow<'a>,
    #[serde(borrow)]
    pub(super) cause: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) cut: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) why: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) reason: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) credential: Credential<'a>,
    #[serde(borrow)]
    pub(super) changed: Counted<'a>,
    #[serde(borrow)]
    pub(super) added: Counted<'a>,
    #[serde(borrow)]
    pub(super) removed: Counted<'a>,
    #[serde(borrow)]
    pub(super) sessions: Counted<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Job<'a> {
    pub(super) id: u64,
    pub(super) pipeline: Option<u64>,
    #[serde(borrow)]
    pub(super) project: Cow<'a, str>,
    #[serde(rename = "ref", borrow)]
    pub(super) git_ref: Cow<'a, str>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Shadow<'a> {
    #[serde(borrow)]
    pub(super) differs: Cow<'a, str>,
}

/// The token or certificate of a request.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Credential<'a> {
    #[serde(borrow)]
    pub(super) name: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) uid: Cow<'a, str>,
}

/// A list, of which the first are told.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Counted<'a> {
    pub(super) count: u64,
    #[serde(borrow)]
    pub(super) items: Vec<Cow<'a, str>>,
}

impl Counted<'_> {
    /// The first `most` of it, and how many more there are; empty where it is empty.
    pub(super) fn told(&self, most: usize) -> String {
        let mut words: Vec<_> = self.items.iter().take(most).map(|item| item.clone().into_owned()).collect();
        let left = self.count.saturating_sub(words.len() as u64);
        if left > 0 {
            words.push(format!("and {left} more"));
        }
        words.join(", ")
    }
}

/// By what a record is found.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) enum Field {
    Action,
    Class,
    Client,
    Differs,
    Disposition,
    Host,
    Job,
    Kind,
    Method,
    Path,
    Policy,
    Project,
    Reason,
    Request,
    Route,
    Session,
    Status,
    User,
}

impl Field {
    /// The letter before a term of this field in an index.
    pub(super) fn letter(self) -> char {
        match self {
            Self::Action => 'a',
            Self::Class => 'c',
            Self::Client => 'i',
            Self::Differs => 'x',
            Self::Disposition => 'd',
            Self::Host => 'h',
            Self::Job => 'j',
            Self::Kind => 'k',
            Self::Method => 'm',
            Self::Path => 'p',
            Self::Policy => 'y',
            Self::Project => 'o',
            Self::Reason => 'e',
            Self::Request => 'q',
            Self::Route => 'r',
            Self::Session => 's',
            Self::Status => 't',
            Self::User => 'u',
        }
    }
}

/// What a record is about, in the words of `--kind`.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, clap::ValueEnum)]
pub enum About {
    /// A request, or a stage of one.
    Request,
    /// A sign-in, or a failed one.
    SignIn,
    /// A session ended, or somebody tried to end one.
    SignOut,
    /// A session's refresh was put off.
    Refresh,
    /// Somebody's groups changed.
    Groups,
    /// GitLab told of a change, or somebody in its name.
    Hook,
    /// Policies or configuration were loaded, or a load was refused.
    Reload,
    /// An operator did something.
    Admin,
    /// The proxy started.
    Start,
    /// The proxy stopped.
    Stop,
    /// Something else happened.
    Other,
    /// Events were lost.
    Gap,
    /// The end of the journal was not whole when it was opened.
    Recovery,
    /// Retention removed a segment.
    Removal,
}

impl About {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::SignIn => "sign-in",
            Self::SignOut => "sign-out",
            Self::Refresh => "refresh",
            Self::Groups => "groups",
            Self::Hook => "hook",
            Self::Reload => "reload",
            Self::Admin => "admin",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Other => "other",
            Self::Gap => "gap",
            Self::Recovery => "recovery",
            Self::Removal => "removal",
        }
    }
}

impl<'a> Told<'a> {
    /// Reads a line, without its line feed. `None` if it is no record, or none that this version can read.
    pub(super) fn read(line: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(line).ok()
    }

    /// When it happened, in milliseconds since 1970: first and last moment, which differ for a gap, and for what retention
    /// removed: whoever asks for a time that it had records of must see it.
    pub(super) fn span(&self) -> Option<(u64, u64)> {
        let at = |time| (time, time);
        let event = self.event.as_ref().map(|event| at(event.time));
        let gap = || self.gap.as_ref().map(|gap| (gap.first.min(gap.last), gap.last));
        let recovery = || self.recovery.as_ref().map(|recovery| at(recovery.time));
        let removal = || self.removal.as_ref().map(|removal| (removal.from.min(removal.time), removal.time));
        let own = || [&self.head, &self.segment, &self.close].into_iter().flatten().next().map(|own| at(own.time));
        event.or_else(gap).or_else(recovery).or_else(removal).or_else(own)
    }

    /// What it is about; `None` for the journal's own segments and heads.
    pub(super) fn about(&self) -> Option<About> {
        let event = self.event.as_ref().map(|event| event.about());
        let gap = self.gap.as_ref().map(|_| About::Gap);
        let recovery = self.recovery.as_ref().map(|_| About::Recovery);
        event.or(gap).or(recovery).or(self.removal.as_ref().map(|_| About::Removal))
    }

    /// Hands over every term by which it is found. None is empty.
    pub(super) fn terms(&self, put: &mut dyn FnMut(Field, &str)) {
        let mut put = |field, text: &str| {
            if !text.is_empty() {
                put(field, text);
            }
        };
        if let Some(about) = self.about() {
            put(Field::Kind, about.as_str());
        }
        if let Some(event) = &self.event {
            event.terms(&mut put);
        }
    }
}

impl Event<'_> {
    /// What it is about.
    pub(super) fn about(&self) -> About {
        match (self.class_uid, self.activity_id, &*self.entity.kind) {
            (4002, ..) => About::Request,
            (3002, 1, _) => About::SignIn,
            (3002, 2, _) => About::SignOut,
            (3002, ..) => About::Refresh,
            (3001, ..) => About::Admin,
            (3005, ..) => About::Groups,
            (3004, _, "membership") => About::Hook,
            (3004, _, "configuration") => About::Reload,
            (3004, ..) => About::Admin,
            (6002, 3, _) => About::Start,
            (6002, 4, _) => About::Stop,
            _ => About::Other,
        }
    }

    /// The person of an event: who asked, or who it is about.
    pub(super) fn person(&self) -> &User<'_> {
        self.user.as_ref().unwrap_or(&self.actor.user)
    }

    /// Hash of the session's handle; empty if there is none.
    pub(super) fn session(&self) -> &str {
        if self.session.uid.is_empty() { &self.actor.session.uid } else { &self.session.uid }
    }

    /// The client's address, or what stands for it.
    pub(super) fn client(&self) -> &str {
        if self.src_endpoint.ip.is_empty() { &self.src_endpoint.uid } else { &self.src_endpoint.ip }
    }

    /// The request's method, also where OCSF has no name for it.
    pub(super) fn method(&self) -> &str {
        match &self.http_request {
            Some(request) if request.http_method.is_empty() => &self.activity_name,
            Some(request) => &request.http_method,
            None => "",
        }
    }

    /// The host that was asked for.
    pub(super) fn host(&self) -> &str {
        match &self.http_request {
            Some(request) if !request.url.hostname.is_empty() => &request.url.hostname,
            _ => &self.dst_endpoint.hostname,
        }
    }

    /// The names of whoever's sessions an operator ended.
    fn revoked(&self) -> impl Iterator<Item = &str> {
        let of_sessions = self.entity.kind == "session";
        let named = |part| str::strip_prefix(part, "user ").or(str::strip_prefix(part, "login "));
        let names = self.entity.name.split(", ").filter(move |_| of_sessions).filter_map(named);
        names.flat_map(|name| [Some(name), name.split_once(':').map(|(_, subject)| subject)]).flatten()
    }

    fn terms(&self, put: &mut dyn FnMut(Field, &str)) {
        self.person().names().for_each(|name| put(Field::User, name));
        self.revoked().for_each(|name| put(Field::User, name));
        if self.class_uid > 0 {
            put(Field::Class, &self.class_uid.to_string());
        }
        if let Some(action) = self.action_id {
            put(Field::Action, &action.to_string());
        }
        if let Some(response) = &self.http_response {
            put(Field::Status, &response.code.to_string());
        }
        if let Some(request) = &self.http_request {
            put(Field::Method, self.method());
            put(Field::Path, &request.url.path);
        }
        if let Some(job) = &self.unmapped.job {
            put(Field::Job, &job.id.to_string());
            put(Field::Project, &job.project);
        }
        self.authorizations.iter().for_each(|it| put(Field::Policy, &it.policy.uid));
        for (field, text) in [
            (Field::Disposition, &*self.disposition),
            (Field::Reason, &*self.status_code),
            (Field::Request, &*self.metadata.correlation_uid),
            (Field::Client, self.client()),
            (Field::Host, self.host()),
            (Field::Session, self.session()),
            (Field::Route, &*self.unmapped.route),
            (Field::Differs, if self.unmapped.shadow.differs.is_empty() { "" } else { "yes" }),
        ] {
            put(field, text);
        }
    }
}

impl User<'_> {
    /// The texts that name this person: whoever looks for one of them means this one.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        [&*self.uid_alt, &*self.uid, &*self.name, &*self.email_addr].into_iter().filter(|name| !name.is_empty())
    }
}
