//! Requests with the decisions that are expected of the policies, and what the policies decide.

use super::{
    asking::{Asking, More, Site, class, usual},
    cast::{ANONYMOUS, Cast, SHARED, files, text},
    file::{AcceptedFile, CaseFile, CastFile, ExpectFile},
    placed,
};
use crate::{
    authorize::{Authorize, Decision, Outcome, PolicyError},
    canonical::{Class, ClientCertificate},
    config::{Document, Settings},
    moment,
    principal::Principal,
    text::distance,
};
use std::{
    collections::BTreeSet,
    fmt,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The directory of case files, below that of the policies.
pub const DIRECTORY: &str = "tests";

/// Ids that a message about an unknown one shows.
const NEAREST: usize = 5;

/// Cases, and everybody whom they name.
pub struct Suite {
    /// In the order of the files.
    pub cases: Vec<Case>,
    /// Everybody in them, by their names.
    pub cast: Cast,
    /// Changes of policies that no case has to notice.
    pub accepted: Vec<Accepted>,
    /// What is served.
    pub site: Site,
    /// Those of each file.
    casts: Vec<(String, Cast)>,
}

/// One request, and how it should be decided.
pub struct Case {
    /// The file.
    pub file: Arc<str>,
    /// The line, from 1.
    pub line: usize,
    /// What it shows.
    pub name: String,
    /// Who asks, by the name in the file.
    pub who: String,
    /// Method and URL as written.
    pub request: String,
    /// Who asks, as they are described.
    pub known: Principal,
    /// Who asks, as the gateway sees them there.
    pub principal: Principal,
    /// They are nobody there: the route takes no people of their provider, or no tokens of their issuer.
    pub stranger: bool,
    /// The request.
    pub asking: Asking,
    /// How it should be decided.
    pub expect: Expect,
}

/// A change of a policy that no case has to notice.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Accepted {
    /// Where that is said: `FILE:LINE`.
    pub place: String,
    /// The policy's `@id`.
    pub policy: String,
    /// The change, as [`crate::authorize::Change`] writes it.
    pub change: String,
    /// Why.
    pub because: String,
}

/// How a request should be decided.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Expect {
    /// What the decision says.
    pub outcome: Outcome,
    /// Exactly the policies that determine it; none: any.
    pub by: Option<BTreeSet<String>>,
}

/// What the policies decide in one case.
pub struct Verdict<'s> {
    /// The case.
    pub case: &'s Case,
    /// The decision.
    pub decision: Decision,
}

impl Suite {
    /// Reads case files. Each knows the people of `cast.yaml` beside it too. `ids` are those of the policies.
    ///
    /// # Errors
    /// Every mistake of every file, each with its place.
    pub fn read(files: &[PathBuf], settings: &Settings, ids: &BTreeSet<Arc<str>>) -> Result<Self, Vec<PolicyError>> {
        let mut suite = Self::empty(settings);
        let mut errors = Vec::new();
        for file in files {
            let read = Cast::shared(file, settings)
                .and_then(|cast| suite.add(&text(file)?, &file.display().to_string(), &cast, settings, ids));
            errors.extend(read.err().unwrap_or_default());
        }
        if errors.is_empty() { Ok(suite.whole()) } else { Err(errors) }
    }

    /// Reads cases from a text that stands in the file `name`.
    ///
    /// # Errors
    /// Every mistake, each with its place.
    pub fn of(text: &str, name: &str, settings: &Settings, ids: &BTreeSet<Arc<str>>) -> Result<Self, Vec<PolicyError>> {
        let mut suite = Self::empty(settings);
        suite.add(text, name, &Cast::default(), settings, ids)?;
        Ok(suite.whole())
    }

    fn whole(mut self) -> Self {
        self.cast = Cast::joined(std::mem::take(&mut self.casts));
        self
    }

    /// What these policies decide in each case.
    pub fn run(&self, authorize: &Authorize) -> Vec<Verdict<'_>> {
        self.cases.iter().map(|case| case.decide(authorize)).collect()
    }

    fn empty(settings: &Settings) -> Self {
        Self {
            cases: Vec::new(),
            cast: Cast::default(),
            accepted: Vec::new(),
            site: Site::of(settings),
            casts: Vec::new(),
        }
    }

    fn add(
        &mut self,
        text: &str,
        name: &str,
        shared: &Cast,
        settings: &Settings,
        ids: &BTreeSet<Arc<str>>,
    ) -> Result<(), Vec<PolicyError>> {
        let failed = |errors| placed(name, &errors);
        let (written, mut document) = Document::read::<CastFile>(text, Path::new(name)).map_err(failed)?;
        let mut cast = Cast::written(&written, &mut document, settings, shared);
        for (own, _) in shared.iter().filter(|(own, _)| *own != ANONYMOUS && cast.get(own).is_some()) {
            let key = ["people", "jobs", "services"].map(|list| format!("{list}.{own}"));
            let there = [written.people.contains_key(own), written.jobs.contains_key(own), true];
            let key = key.iter().zip(there).find(|(_, there)| *there).map_or("", |(key, _)| key);
            document.refuse(key, format!("`{own}` is in `{SHARED}` too"), "expected a name of its own");
        }
        cast.add(shared.clone());
        let mut reader = Reader {
            written: &written,
            document: &mut document,
            site: &self.site,
            cast: &cast,
            ids,
            file: name.into(),
        };
        let each = written.cases.iter().enumerate();
        let cases: Vec<_> = each.filter_map(|(index, case)| reader.case(index, case)).collect();
        let each = written.accepted.iter().enumerate();
        let accepted: Vec<_> = each.filter_map(|(index, written)| reader.accepted(index, written)).collect();
        document.finish().map_err(failed)?;
        self.cases.extend(cases);
        self.accepted.extend(accepted);
        self.casts.push((name.to_owned(), cast));
        Ok(())
    }
}

/// The case files of a directory: all that are YAML or JSON.
///
/// # Errors
/// The directory cannot be read.
pub fn below(policies: &Path) -> Result<Vec<PathBuf>, Vec<PolicyError>> {
    files(&policies.join(DIRECTORY))
}

impl Case {
    /// What these policies decide.
    pub fn decide(&self, authorize: &Authorize) -> Verdict<'_> {
        let Asking { route, judged, now, .. } = &self.asking;
        Verdict { case: self, decision: authorize.decide(&self.principal, judged, route, *now) }
    }

    /// Where it stands: `FILE:LINE`.
    pub fn place(&self) -> String {
        format!("{}:{}", self.file, self.line)
    }

    /// How the request comes where it is not as usual, such as ` (websocket, from 192.0.2.7)`.
    pub fn how(&self) -> String {
        let asked = &self.asking.judged.asked;
        let socket = asked.websocket.then(|| "websocket".to_owned());
        let from = (asked.client != Ipv4Addr::LOCALHOST).then(|| format!("from {}", asked.client));
        let at = (self.asking.now != usual()).then(|| format!("at {}", moment::to_the_second(self.asking.now)));
        let all: Vec<_> = [socket, from, at].into_iter().flatten().collect();
        if all.is_empty() { String::new() } else { format!(" ({})", all.join(", ")) }
    }
}

impl Verdict<'_> {
    /// It is decided as it should be.
    pub fn passed(&self) -> bool {
        let Expect { outcome, by } = &self.case.expect;
        let found: BTreeSet<&str> = self.decision.policies.iter().map(|id| &**id).collect();
        let same = |by: &BTreeSet<String>| by.iter().map(String::as_str).eq(found.iter().copied());
        *outcome == self.decision.outcome && by.as_ref().is_none_or(same)
    }

    /// What was decided, and by which policies.
    pub fn found(&self) -> Expect {
        let by = self.decision.policies.iter().map(ToString::to_string).collect();
        Expect { outcome: self.decision.outcome, by: Some(by) }
    }
}

/// `permit by portal-read, public-pages`; `deny`.
impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(word(self.outcome))?;
        match &self.by {
            None => Ok(()),
            Some(by) if by.is_empty() => Ok(()),
            Some(by) => write!(f, " by {}", by.iter().map(String::as_str).collect::<Vec<_>>().join(", ")),
        }
    }
}

/// The word of case files for an outcome.
pub fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Permitted => "permit",
        Outcome::NotPermitted => "deny",
        Outcome::Forbidden => "forbid",
        Outcome::MembershipUnknown => "unknown",
        Outcome::Failed => "error",
    }
}

impl From<ExpectFile> for Outcome {
    fn from(word: ExpectFile) -> Self {
        match word {
            ExpectFile::Permit => Self::Permitted,
            ExpectFile::Deny => Self::NotPermitted,
            ExpectFile::Forbid => Self::Forbidden,
            ExpectFile::Unknown => Self::MembershipUnknown,
            ExpectFile::Error => Self::Failed,
        }
    }
}

/// Makes cases of what is written; what is wrong goes to the document.
struct Reader<'r, 'd, 't> {
    written: &'r CastFile,
    document: &'d mut Document<'t>,
    site: &'r Site,
    cast: &'r Cast,
    ids: &'r BTreeSet<Arc<str>>,
    file: Arc<str>,
}

impl Reader<'_, '_, '_> {
    fn case(&mut self, index: usize, written: &CaseFile) -> Option<Case> {
        let key = |name: &str| format!("cases[{index}].{name}");
        let more = self.more(&key, written);
        let by = self.by(&key("by"), written.by.as_deref());
        let (who, request) = (written.who.as_deref()?, written.request.as_deref()?);
        let CastFile { people, jobs, services, .. } = self.written;
        let broken = people.contains_key(who) || jobs.contains_key(who) || services.contains_key(who);
        if self.cast.get(who).is_none() && !broken {
            let known = self.cast.iter().map(|(name, _)| name);
            self.document.unknown(&key("as"), format!("`{who}` is nobody who is described here"), who, known);
        }
        let asking = self.asking(&key("request"), request, more)?;
        let principal = self.cast.at(who, asking.now)?;
        let seen = asking.seen(&principal);
        Some(Case {
            file: self.file.clone(),
            line: self.document.line(&format!("cases[{index}]")),
            name: written.name.clone().unwrap_or_else(|| format!("{who}: {request}")),
            who: who.to_owned(),
            request: request.to_owned(),
            stranger: seen.is_anonymous() && !principal.is_anonymous(),
            known: principal,
            principal: seen,
            asking,
            expect: Expect { outcome: written.expect?.into(), by },
        })
    }

    fn accepted(&mut self, index: usize, written: &AcceptedFile) -> Option<Accepted> {
        let key = format!("accepted[{index}]");
        let policy = written.policy.as_ref()?;
        self.id(&format!("{key}.policy"), policy);
        if written.because.as_ref().is_some_and(|because| because.trim().is_empty()) {
            self.document.refuse(&format!("{key}.because"), format!("`{key}.because` is empty"), "expected a reason");
        }
        Some(Accepted {
            place: format!("{}:{}", self.file, self.document.line(&key)),
            policy: policy.clone(),
            change: written.change.clone()?,
            because: written.because.clone()?,
        })
    }

    fn asking(&mut self, key: &str, request: &str, more: Option<More>) -> Option<Asking> {
        let expected = "expected a method and a URL, such as `GET https://portal.example.com/docs/`";
        let Some((method, url)) = request.split_once(' ') else {
            self.document.refuse(key, format!("`{request}` is no request"), expected);
            return None;
        };
        match self.site.ask(method, url.trim(), more?) {
            Ok(asking) => Some(asking),
            Err(message) => {
                self.document.refuse(key, message.trim_end_matches('.'), "");
                None
            }
        }
    }

    fn more(&mut self, key: &impl Fn(&str) -> String, written: &CaseFile) -> Option<More> {
        let client_ip =
            self.read(&key("client_ip"), written.client_ip.as_deref(), "an address such as `192.0.2.7`", |text| {
                text.parse().ok()
            });
        let at =
            self.read(&key("at"), written.at.as_deref(), "a point in time such as `2026-01-01T12:00:00Z`", |text| {
                moment::parse_time(text).map(moment::at)
            });
        let class = written.class.as_deref().map(|word| {
            class(word).ok_or_else(|| {
                let message = format!("`{word}` is no class of requests");
                self.document.unknown(&key("class"), message, word, Class::ALL.map(Class::as_str));
            })
        });
        let text = |text: &Option<String>| text.as_deref().unwrap_or_default().into();
        let certificate = written.certificate.as_ref().map(|written| {
            Arc::new(ClientCertificate {
                subject: text(&written.subject),
                issuer: text(&written.issuer),
                spiffe_id: written.spiffe_id.as_deref().map(Arc::from),
            })
        });
        Some(More {
            client_ip: client_ip.ok()?,
            at: at.ok()?,
            websocket: written.websocket.unwrap_or(false),
            class: class.transpose().ok()?,
            certificate,
            body: written.body.clone(),
        })
    }

    /// Reads a value, if it is there; an error is said already.
    fn read<T>(
        &mut self,
        key: &str,
        text: Option<&str>,
        what: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, ()> {
        let Some(text) = text else { return Ok(None) };
        let found = parse(text);
        if found.is_none() {
            self.document.refuse(key, format!("`{key}` is `{text}`"), format!("expected {what}"));
        }
        found.map(Some).ok_or(())
    }

    fn by(&mut self, key: &str, written: Option<&[String]>) -> Option<BTreeSet<String>> {
        let written = written?;
        written.iter().enumerate().for_each(|(index, id)| self.id(&format!("{key}[{index}]"), id));
        Some(written.iter().cloned().collect())
    }

    /// Says that no policy has this id, if so.
    fn id(&mut self, key: &str, id: &str) {
        if !self.ids.contains(id) {
            let mut known: Vec<&str> = self.ids.iter().map(|id| &**id).collect();
            known.sort_by_key(|known| distance(id, known));
            known.truncate(NEAREST);
            self.document.unknown(key, format!("no policy has the id `{id}`"), id, known);
        }
    }
}
