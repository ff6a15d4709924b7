//! What is looked for in the trail.

use super::{
    json,
    told::{About, Field, Told},
};
use memchr::memmem::Finder;

/// What to look for; everything that is given must hold.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Query {
    /// A person's subject, login, or `provider:subject`.
    pub user: Option<String>,
    /// What the path begins with.
    pub path: Option<String>,
    /// The route's name.
    pub route: Option<String>,
    /// What was decided.
    pub verdict: Option<Verdict>,
    /// The `@id` of a policy that decided.
    pub policy: Option<String>,
    /// The request id.
    pub request: Option<String>,
    /// Only what the shadow policies would have decided otherwise.
    pub differs: bool,
    /// The number of a CI job.
    pub job: Option<u64>,
    /// The path of a CI job's project.
    pub project: Option<String>,
    /// The host that was asked for.
    pub host: Option<String>,
    /// The request's method.
    pub method: Option<String>,
    /// The digits that the answer's status begins with: all three, or the first for a class.
    pub status: Option<String>,
    /// The code of a refusal or a failure.
    pub reason: Option<String>,
    /// The hash of a session's handle.
    pub session: Option<String>,
    /// The client's address.
    pub client: Option<String>,
    /// What it is about.
    pub about: Option<About>,
    /// The number of an OCSF class.
    pub class: Option<u32>,
    /// Not before, in milliseconds since 1970.
    pub since: Option<u64>,
    /// Before, in milliseconds since 1970.
    pub until: Option<u64>,
    /// Only the last so many.
    pub limit: Option<usize>,
    /// Read every line instead of what the indexes lead to.
    pub no_index: bool,
}

/// What was decided.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// The request was allowed.
    Allowed,
    /// The request was denied.
    Denied,
    /// What a line says of it, such as `Blocked`.
    Said(&'static str),
}

/// A query as it is compared.
pub(super) struct Wanted {
    conditions: Vec<Condition>,
    /// Texts that every line that matches holds, as they are written there: most lines need not be parsed.
    needles: Vec<Finder<'static>>,
    since: u64,
    until: u64,
    beside: Beside,
}

/// Which of the journal's own records match in any case, if their time does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Beside {
    /// None.
    Nothing,
    /// Gaps, recoveries and removals, so that it is seen that something is missing.
    Gaps,
    /// Segments and heads too, by which the others are proved.
    All,
}

/// What there is to a line.
pub(super) enum Look<'a> {
    /// It is what is wanted.
    Match(Box<Told<'a>>),
    /// It is not.
    Other,
    /// Nobody can say: it is no record, or none that this version can read.
    Unread,
}

/// What one term of a record must be.
pub(super) struct Condition {
    pub(super) field: Field,
    pub(super) text: String,
    /// It need only begin so.
    pub(super) prefix: bool,
}

impl Condition {
    fn holds(&self, field: Field, text: &str) -> bool {
        self.field == field && if self.prefix { text.starts_with(&self.text) } else { text == self.text }
    }

    /// How it is written in a line, if that can be told.
    fn needle(&self) -> Option<Vec<u8>> {
        let mut quoted = Vec::new();
        json::write(&self.text, &mut quoted);
        match self.field {
            Field::Kind | Field::Differs => None,
            Field::Action | Field::Class | Field::Job | Field::Status => Some(self.text.clone().into_bytes()),
            _ if self.prefix => Some(quoted[..quoted.len() - 1].to_vec()),
            _ => Some(quoted),
        }
    }
}

impl Wanted {
    /// `beside`: what is wanted besides.
    pub(super) fn of(query: &Query, beside: Beside) -> Self {
        let conditions = query.conditions();
        let needles = conditions.iter().filter_map(Condition::needle).filter(|_| beside == Beside::Nothing);
        let needles = needles.map(|needle| Finder::new(&needle).into_owned()).collect();
        let (since, until) = (query.since.unwrap_or(0), query.until.unwrap_or(u64::MAX));
        Self { conditions, needles, since, until, beside }
    }

    /// What terms of the record must be; all of them.
    pub(super) fn conditions(&self) -> &[Condition] {
        &self.conditions
    }

    /// What is wanted besides.
    pub(super) fn beside(&self) -> Beside {
        self.beside
    }

    /// True if records between these times, both included, may match.
    pub(super) fn overlaps(&self, from: u64, to: u64) -> bool {
        self.since <= to && from < self.until
    }

    /// What there is to a line, without its line feed.
    pub(super) fn look<'a>(&self, line: &'a [u8]) -> Look<'a> {
        if !self.needles.iter().all(|needle| needle.find(line).is_some()) {
            return Look::Other;
        }
        match Told::read(line) {
            Some(told) if self.matches(&told) => Look::Match(Box::new(told)),
            Some(_) => Look::Other,
            None => Look::Unread,
        }
    }

    /// True if it is what is wanted.
    pub(super) fn matches(&self, told: &Told<'_>) -> bool {
        if !told.span().is_some_and(|(first, last)| self.overlaps(first, last)) {
            return false;
        }
        match (self.beside, told.event.is_some(), told.about()) {
            (Beside::All, false, _) | (Beside::Gaps, false, Some(_)) => return true,
            (Beside::Nothing | Beside::Gaps | Beside::All, ..) => {}
        }
        let mut met = vec![false; self.conditions.len()];
        told.terms(&mut |field, text| {
            for (met, condition) in met.iter_mut().zip(&self.conditions) {
                *met = *met || condition.holds(field, text);
            }
        });
        // Nobody who asks for no kind asks for the journal's own records.
        met.iter().all(|met| *met) && (told.event.is_some() || self.asks_for_kind())
    }

    /// True if some record may match that is no event.
    pub(super) fn wants_own(&self) -> bool {
        self.beside != Beside::Nothing || self.asks_for_kind()
    }

    fn asks_for_kind(&self) -> bool {
        self.conditions.iter().any(|condition| condition.field == Field::Kind)
    }
}

impl Query {
    /// True if it asks for nothing but a time.
    pub(super) fn is_whole(&self) -> bool {
        self.conditions().is_empty()
    }

    fn conditions(&self) -> Vec<Condition> {
        let text = |value: &Option<String>| value.clone();
        let (verdict, said) = match self.verdict {
            Some(Verdict::Allowed) => (Some("1".to_owned()), None),
            Some(Verdict::Denied) => (Some("2".to_owned()), None),
            Some(Verdict::Said(said)) => (None, Some(said.to_owned())),
            None => (None, None),
        };
        let all = [
            (Field::Request, text(&self.request)),
            (Field::Job, self.job.map(|job| job.to_string())),
            (Field::Session, text(&self.session)),
            (Field::User, text(&self.user)),
            (Field::Policy, text(&self.policy)),
            (Field::Project, text(&self.project)),
            (Field::Client, text(&self.client)),
            (Field::Reason, text(&self.reason)),
            (Field::Differs, self.differs.then(|| "yes".to_owned())),
            (Field::Kind, self.about.map(|about| about.as_str().to_owned())),
            (Field::Class, self.class.map(|class| class.to_string())),
            (Field::Disposition, said),
            (Field::Action, verdict),
            (Field::Status, text(&self.status)),
            (Field::Method, text(&self.method)),
            (Field::Host, text(&self.host)),
            (Field::Route, text(&self.route)),
            (Field::Path, text(&self.path)),
        ];
        let given = all.into_iter().filter_map(|(field, text)| Some((field, text?)));
        given
            .map(|(field, text)| Condition { field, text, prefix: matches!(field, Field::Path | Field::Status) })
            .collect()
    }
}
