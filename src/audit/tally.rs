//! Adds up what a range of the journal says: who used what, by which policies, and what happened beside requests.
//!
//! Memory is bounded by people times routes, not by records; of what happened beside requests the last are kept.

pub use super::act::Act;
use super::{
    query::{Beside, Query, Wanted},
    segment::Segment,
    told::{About, Event, Told},
    walk::ahead,
};
use crate::route::is_reserved;
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::ControlFlow::Continue,
    path::Path,
};

/// So many changes of groups are told by person.
pub const CHANGES: usize = 20;

/// So many acts, gaps and the like are told one by one.
pub const TOLD: usize = 1_000;

/// What is added up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Range {
    /// Not before, in milliseconds since 1970.
    pub from: u64,
    /// Before.
    pub to: u64,
    /// What was used since then counts as used, whether that is before `from` or after.
    pub used_since: u64,
}

/// Who asked: a person, a job of a project and the person behind it, a service, or nobody known.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Who {
    /// `provider:subject`; empty for nobody known.
    pub id: String,
    /// `user`, `job`, `service` or `anonymous`.
    pub principal: String,
    /// The project of a job; else empty.
    pub project: String,
}

/// A count, with its first and last moment in milliseconds since 1970.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Count {
    /// How many.
    pub count: u64,
    /// When the first was.
    pub first: u64,
    /// When the last was.
    pub last: u64,
}

/// What somebody did on a route.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Use {
    /// The login, as it was last.
    pub name: String,
    named: u64,
    /// Requests that were allowed.
    pub allowed: Count,
    /// Requests that were refused.
    pub refused: Count,
    /// Connections that were ended because the right ended.
    pub ended: Count,
    /// Refusals by their codes.
    pub reasons: BTreeMap<String, u64>,
    /// The policies that decided.
    pub policies: BTreeMap<String, Relied>,
}

/// How a policy was relied on by somebody on a route.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Relied {
    /// Requests that it decided, in the range.
    pub decided: Count,
    /// Of them, those that were allowed.
    pub allowed: u64,
    /// When a request was last allowed by it, for reading, for writing, for upgrades, as far back as the journal goes; in milliseconds
    /// since 1970, 0 for never.
    pub used: [u64; 3],
    /// It decided anything since [`Range::used_since`].
    pub since: bool,
}

/// Sign-ins and sessions of somebody.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Signing {
    /// The login, as it was last.
    pub name: String,
    named: u64,
    /// Sign-ins.
    pub signed_in: Count,
    /// Sessions that ended, by why.
    pub ended: BTreeMap<String, u64>,
    /// Refreshes that were put off.
    pub deferred: u64,
    /// Groups that were added.
    pub added: Count,
    /// Groups that were taken away.
    pub removed: Count,
    /// The last of both.
    pub changes: BTreeSet<Change>,
}

/// A group that somebody got or lost.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Change {
    /// When, in milliseconds since 1970.
    pub time: u64,
    /// They got it.
    pub added: bool,
    /// Which.
    pub group: String,
}

/// The sum.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Tally {
    /// Who did what on which route.
    pub uses: HashMap<(Who, String), Use>,
    /// Sign-ins and sessions by person.
    pub people: BTreeMap<String, Signing>,
    /// Sign-ins that failed, by code.
    pub failed: BTreeMap<String, u64>,
    /// The last of what happened beside requests, by time, epoch and number.
    pub acts: BTreeMap<(u64, u32, u64), Act>,
    /// How many there are of each kind.
    pub kinds: BTreeMap<About, u64>,
    /// Events that were lost in gaps.
    pub lost: u64,
    /// How often nobody had closed the journal: what was not written by then is lost.
    pub unclosed: u64,
    /// Gaps and recoveries since [`Range::used_since`]: what was used in them is not known.
    pub blind: u64,
    /// Records in the range.
    pub records: u64,
    /// When the journal begins, in milliseconds since 1970; `None` if it does not say.
    pub begins: Option<u64>,
    /// Lines that nobody can read.
    pub unread: u64,
}

impl Count {
    fn add(&mut self, time: u64, count: u64) {
        self.join(Self { count, first: time, last: time });
    }

    /// Adds another count.
    pub fn join(&mut self, other: Self) {
        *self = match (self.count, other.count) {
            (_, 0) => return,
            (0, _) => other,
            _ => Self {
                count: self.count + other.count,
                first: self.first.min(other.first),
                last: self.last.max(other.last),
            },
        };
    }
}

/// The number of the group that a method is in: reading, writing, upgrades.
pub fn group(method: &str, class: &str) -> usize {
    match (method, class) {
        (_, "websocket") | ("connect" | "CONNECT", _) => 2,
        ("GET" | "HEAD" | "OPTIONS", _) => 0,
        _ => 1,
    }
}

/// The route of a request or, in words that no route can have as its name, why it has none.
fn place<'a>(event: &'a Event<'_>) -> &'a str {
    let path = event.http_request.as_ref().map_or("", |request| &request.url.path);
    match (&*event.unmapped.route, path) {
        ("", "") => "(unread)",
        ("", _) if is_reserved(&path.to_ascii_lowercase()) || event.action_id == Some(1) => "(vestibule)",
        ("", _) => "(no route)",
        (route, _) => route,
    }
}

/// Adds up the journal in `directory`.
///
/// # Errors
/// If it cannot be read.
pub fn tally(directory: &Path, range: Range) -> Result<Tally, String> {
    let segments = Segment::some(directory)?;
    let query = Query { until: Some(range.to), ..Query::default() };
    let wanted = Wanted::of(&query, Beside::Gaps);
    let mut all = Tally::default();
    if let Some(opening) = segments.first().map(Segment::opening).transpose()?.flatten() {
        all.begins = Some(opening.time);
    }
    ahead(
        &segments,
        |segment| Tally::of(segment, range, &wanted),
        |segment, tally| match tally {
            Ok(tally) => {
                all.join(tally);
                Ok(Continue(()))
            }
            Err(_) if !segment.path.exists() => Ok(Continue(())), // its time was over while this went on
            Err(error) => Err(error),
        },
    )?;
    Ok(all)
}

impl Tally {
    fn of(segment: &Segment, range: Range, wanted: &Wanted) -> Result<Self, String> {
        let mut tally = Self::default();
        let mut lines = segment.lines()?;
        while let Some(bytes) = lines.next()? {
            let Some(line) = bytes.whole() else { break };
            match Told::read(line) {
                Some(told) if wanted.matches(&told) => tally.add(&told, range),
                Some(_) => {}
                None => tally.unread += 1,
            }
        }
        Ok(tally)
    }

    fn add(&mut self, told: &Told<'_>, range: Range) {
        let (Some(about), Some((_, last))) = (told.about(), told.span()) else { return };
        let within = last >= range.from;
        if within {
            self.records += 1;
            *self.kinds.entry(about).or_default() += 1;
        }
        self.blind += u64::from(last >= range.used_since && (told.gap.is_some() || told.recovery.is_some()));
        if let Some(event) = &told.event {
            if about == About::Request {
                self.request(event, range, within);
            } else if within {
                self.beside(event, about);
            }
        }
        if let Some(gap) = told.gap.as_ref().filter(|_| within) {
            self.lost += gap.count;
        }
        self.unclosed += u64::from(within && told.recovery.as_ref().is_some_and(|recovery| recovery.unclosed));
        if within && let Some(act) = Act::of(told, about) {
            self.acts.insert((last, told.epoch, told.seq), act);
            self.cut();
        }
    }

    fn cut(&mut self) {
        while self.acts.len() > TOLD {
            self.acts.pop_first();
        }
    }

    fn request(&mut self, event: &Event<'_>, range: Range, within: bool) {
        let (unmapped, user) = (&event.unmapped, event.person());
        // One record of each request says what was decided; the others are its stages.
        let decides = match &*unmapped.phase {
            "decision" | "request" => !matches!(event.action_id, None | Some(0)), // nobody decided about who left at once
            "stream_opened" => unmapped.decision_seq.is_none(),
            _ => false,
        };
        let ended = unmapped.phase == "stream_ended" && !unmapped.cut.is_empty();
        if !decides && !ended {
            return;
        }
        let who = Who {
            id: if user.uid_alt.is_empty() { String::new() } else { user.uid_alt.clone().into_owned() },
            principal: if unmapped.principal.is_empty() { "anonymous" } else { &unmapped.principal }.to_owned(),
            project: unmapped.job.as_ref().map(|job| job.project.clone().into_owned()).unwrap_or_default(),
        };
        let used = self.uses.entry((who, place(event).to_owned())).or_default();
        if event.time >= used.named {
            (used.named, used.name) = (event.time, user.name.clone().into_owned());
        }
        if ended {
            if within {
                used.ended.add(event.time, 1);
                *used.reasons.entry(unmapped.cut.clone().into_owned()).or_default() += 1;
            }
            return;
        }
        let allowed = event.action_id == Some(1);
        if within {
            if allowed { &mut used.allowed } else { &mut used.refused }.add(event.time, 1);
            if !allowed && !event.status_code.is_empty() {
                *used.reasons.entry(event.status_code.clone().into_owned()).or_default() += 1;
            }
        }
        let method = event.method();
        for authorization in &event.authorizations {
            let relied = used.policies.entry(authorization.policy.uid.clone().into_owned()).or_default();
            if within {
                relied.decided.add(event.time, 1);
                relied.allowed += u64::from(allowed);
            }
            relied.since |= event.time >= range.used_since;
            if allowed {
                let used = &mut relied.used[group(method, &unmapped.class)];
                *used = event.time.max(*used);
            }
        }
    }

    fn beside(&mut self, event: &Event<'_>, about: About) {
        let user = event.person();
        if about == About::SignIn && !event.status_code.is_empty() {
            *self.failed.entry(event.status_code.clone().into_owned()).or_default() += event.count.unwrap_or(1);
            return;
        }
        if !matches!(about, About::SignIn | About::SignOut | About::Refresh | About::Groups) || user.uid_alt.is_empty()
        {
            return;
        }
        let signing = self.people.entry(user.uid_alt.clone().into_owned()).or_default();
        if event.time >= signing.named {
            (signing.named, signing.name) = (event.time, user.name.clone().into_owned());
        }
        match about {
            // Who is signed in already and comes to a further host has not signed in again.
            About::SignIn if event.dst_endpoint.hostname.is_empty() => signing.signed_in.add(event.time, 1),
            About::SignOut => *signing.ended.entry(event.unmapped.why.clone().into_owned()).or_default() += 1,
            About::Refresh => signing.deferred += 1,
            About::Groups => {
                signing.added.add(event.time, event.unmapped.added.count);
                signing.removed.add(event.time, event.unmapped.removed.count);
                for (added, list) in [(true, &event.unmapped.added), (false, &event.unmapped.removed)] {
                    let change =
                        |group: &Cow<'_, str>| Change { time: event.time, added, group: group.clone().into_owned() };
                    signing.changes.extend(list.items.iter().map(change));
                }
                signing.cut();
            }
            _ => {}
        }
    }

    fn join(&mut self, other: Self) {
        for (key, use_) in other.uses {
            self.uses.entry(key).or_default().join(use_);
        }
        for (id, signing) in other.people {
            self.people.entry(id).or_default().join(signing);
        }
        sum(&mut self.failed, other.failed);
        sum(&mut self.kinds, other.kinds);
        self.acts.extend(other.acts);
        self.cut();
        self.lost += other.lost;
        self.unclosed += other.unclosed;
        self.blind += other.blind;
        self.records += other.records;
        self.unread += other.unread;
    }
}

fn sum<K: Ord>(all: &mut BTreeMap<K, u64>, more: BTreeMap<K, u64>) {
    for (key, count) in more {
        *all.entry(key).or_default() += count;
    }
}

impl Use {
    /// All that is counted, in the range.
    pub fn all(&self) -> Count {
        let mut all = self.allowed;
        all.join(self.refused);
        all.join(self.ended);
        all
    }

    fn join(&mut self, other: Self) {
        if other.named >= self.named {
            (self.named, self.name) = (other.named, other.name);
        }
        self.allowed.join(other.allowed);
        self.refused.join(other.refused);
        self.ended.join(other.ended);
        sum(&mut self.reasons, other.reasons);
        for (id, more) in other.policies {
            let relied = self.policies.entry(id).or_default();
            relied.decided.join(more.decided);
            relied.allowed += more.allowed;
            relied.since |= more.since;
            for (used, more) in relied.used.iter_mut().zip(more.used) {
                *used = more.max(*used);
            }
        }
    }
}

impl Signing {
    fn join(&mut self, other: Self) {
        if other.named >= self.named {
            (self.named, self.name) = (other.named, other.name);
        }
        self.signed_in.join(other.signed_in);
        sum(&mut self.ended, other.ended);
        self.deferred += other.deferred;
        self.added.join(other.added);
        self.removed.join(other.removed);
        self.changes.extend(other.changes);
        self.cut();
    }

    fn cut(&mut self) {
        while self.changes.len() > CHANGES {
            self.changes.pop_first();
        }
    }
}
