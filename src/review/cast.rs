//! Principals as a file describes them: people, CI jobs and services, by the names that it gives them.

use super::{
    asking::usual,
    file::{CastFile, ClaimsFile, GroupsFile, JobFile, PersonFile, ServiceFile},
    placed,
};
use crate::{
    authorize::{PolicyError, sources},
    config::{Document, Settings, TokenIssuerSettings, TokenKind},
    group::{GroupPath, Role},
    moment, oidc,
    principal::{
        Asker, Groups, Membership, MembershipSource, Name, Person, Principal, Service, Strength, Unknown, UserId,
        next_version,
    },
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

/// The name of nobody, who is in every cast.
pub const ANONYMOUS: &str = "anonymous";

/// Principals for all files of its directory.
pub const SHARED: &str = "cast.yaml";

/// No cast is longer, in bytes.
const LONGEST: u64 = 64 << 20;

/// Principals by the names that a file gives them.
#[derive(Clone, Debug)]
pub struct Cast {
    members: BTreeMap<String, Member>,
    /// Names that somebody else has in each of several files, and these files.
    shared: BTreeMap<String, Vec<String>>,
}

#[derive(Clone, Debug)]
struct Member {
    /// As they are at [`usual`].
    principal: Principal,
    signed_in: Option<When>,
    proved: Option<When>,
}

/// A point in time, or a span before the request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum When {
    At(SystemTime),
    Before(Duration),
}

impl Default for Cast {
    fn default() -> Self {
        let nobody = Member { principal: Principal::Anonymous, signed_in: None, proved: None };
        Self { members: BTreeMap::from([(ANONYMOUS.to_owned(), nobody)]), shared: BTreeMap::new() }
    }
}

impl Cast {
    /// Reads a YAML or JSON file, whose jobs may be those of people in `cast.yaml` beside it. `settings` has the providers and token
    /// issuers that it may name.
    ///
    /// # Errors
    /// Every mistake, each with its place.
    pub fn read(file: &Path, settings: &Settings) -> Result<Self, Vec<PolicyError>> {
        Self::beside(&text(file)?, &file.display().to_string(), settings, &Self::shared(file, settings)?)
    }

    /// The same of a text that stands in the file `name`. Its cases are left out.
    ///
    /// # Errors
    /// Every mistake, each with its place.
    pub fn of(text: &str, name: &str, settings: &Settings) -> Result<Self, Vec<PolicyError>> {
        Self::beside(text, name, settings, &Self::default())
    }

    fn beside(text: &str, name: &str, settings: &Settings, others: &Self) -> Result<Self, Vec<PolicyError>> {
        let (written, mut document) =
            Document::read::<CastFile>(text, Path::new(name)).map_err(|errors| placed(name, &errors))?;
        let cast = Self::written(&written, &mut document, settings, others);
        document.finish().map_err(|errors| placed(name, &errors))?;
        Ok(cast)
    }

    /// Everybody in the files of a directory whose names end in `.yaml`, `.yml` or `.json`.
    ///
    /// # Errors
    /// Every mistake, each with its place.
    pub fn of_directory(directory: &Path, settings: &Settings) -> Result<Self, Vec<PolicyError>> {
        Self::of_files(&files(directory)?, settings)
    }

    /// Everybody in these files.
    ///
    /// # Errors
    /// Every mistake, each with its place.
    pub fn of_files(files: &[PathBuf], settings: &Settings) -> Result<Self, Vec<PolicyError>> {
        let read = |file: &PathBuf| Ok((file.display().to_string(), Self::read(file, settings)?));
        files.iter().map(read).collect::<Result<Vec<_>, _>>().map(Self::joined)
    }

    /// Everybody in these casts, each with the name of its file. Whose name is that of somebody else in another file is called
    /// `FILE/NAME`.
    pub fn joined(casts: Vec<(String, Self)>) -> Self {
        let mut named: BTreeMap<String, Vec<(String, Member)>> = BTreeMap::new();
        for (file, cast) in casts {
            for (name, member) in cast.members {
                let known = named.entry(name).or_default();
                if !known.iter().any(|(_, other)| other.is(&member)) {
                    known.push((file.clone(), member));
                }
            }
        }
        let mut joined = Self::default();
        for (name, members) in named {
            if let [(_, only)] = &members[..] {
                joined.members.insert(name, only.clone());
                continue;
            }
            joined.shared.insert(name.clone(), members.iter().map(|(file, _)| file.clone()).collect());
            let stems: Vec<String> = members.iter().map(|(file, _)| stem(file)).collect();
            for (index, (file, member)) in members.into_iter().enumerate() {
                let is_alone = stems.iter().filter(|stem| **stem == stems[index]).count() == 1;
                let file = if is_alone { &stems[index] } else { &file };
                joined.members.insert(format!("{file}/{name}"), member);
            }
        }
        joined
    }

    /// The files in each of which somebody else has this name.
    pub fn files_of(&self, name: &str) -> &[String] {
        self.shared.get(name).map_or(&[], Vec::as_slice)
    }

    /// The people of `cast.yaml` beside a file, which may be that file itself.
    pub(super) fn shared(file: &Path, settings: &Settings) -> Result<Self, Vec<PolicyError>> {
        let beside = file.with_file_name(SHARED);
        let is_there = beside.is_file() && !file.ends_with(SHARED);
        if is_there { Self::read(&beside, settings) } else { Ok(Self::default()) }
    }

    /// Adds those of `other` whose names nobody has.
    pub fn add(&mut self, other: Self) {
        for (name, member) in other.members {
            self.members.entry(name).or_insert(member);
        }
    }

    /// Who has this name.
    pub fn get(&self, name: &str) -> Option<&Principal> {
        self.members.get(name).map(|member| &member.principal)
    }

    /// Who has this name, as they are at `now`: some of what is known of their sign-in is written as a span before that.
    pub fn at(&self, name: &str, now: SystemTime) -> Option<Principal> {
        self.members.get(name).map(|member| member.at(now))
    }

    /// Everybody with their names, sorted.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Principal)> {
        self.members.iter().map(|(name, member)| (name.as_str(), &member.principal))
    }

    /// Who is described in `written`, whose jobs may be those of people in `others`; what is wrong goes to `document`, and is left
    /// out.
    pub(super) fn written(written: &CastFile, document: &mut Document<'_>, settings: &Settings, others: &Self) -> Self {
        let mut cast = Self::default();
        let mut casting = Casting { document, settings, cast: &mut cast, others };
        written.people.iter().for_each(|(name, person)| casting.person(name, person));
        written.jobs.iter().for_each(|(name, job)| casting.job(name, job));
        written.services.iter().for_each(|(name, service)| casting.service(name, service));
        cast
    }
}

/// The name of a file without its directory and ending.
fn stem(file: &str) -> String {
    Path::new(file).file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// The text of a file that is not too long.
pub(super) fn text(file: &Path) -> Result<String, Vec<PolicyError>> {
    let fault = |message: String| vec![PolicyError::new(file.display().to_string(), message)];
    let length = std::fs::metadata(file).map_err(|error| fault(format!("cannot read: {error}")))?.len();
    if length > LONGEST {
        return Err(fault(format!("has {length} bytes, at most {LONGEST} are read")));
    }
    std::fs::read_to_string(file).map_err(|error| fault(format!("cannot read: {error}")))
}

/// The files of a directory that may be casts, sorted. Names with a leading dot are skipped.
pub(super) fn files(directory: &Path) -> Result<Vec<PathBuf>, Vec<PolicyError>> {
    let place = || directory.display().to_string();
    let fault = |error| vec![PolicyError::new(place(), format!("cannot read: {error}"))];
    let entries = std::fs::read_dir(directory).and_then(Iterator::collect::<std::io::Result<Vec<_>>>).map_err(fault)?;
    let is_cast = |path: &PathBuf| {
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        !hidden && path.extension().is_some_and(|end| ["yaml", "yml", "json"].iter().any(|known| end == *known))
    };
    let mut files: Vec<_> = entries.into_iter().map(|entry| sources::tidy(&entry.path())).filter(is_cast).collect();
    files.sort();
    Ok(files)
}

impl Member {
    /// True if both are the same in all that is known of them.
    fn is(&self, other: &Self) -> bool {
        let (one, theirs) = (&self.principal, &other.principal);
        let membership = match (one.membership(), theirs.membership()) {
            (Some(Membership::Known(own)), Some(Membership::Known(groups))) => {
                (&own.paths, &own.roles, &own.unread) == (&groups.paths, &groups.roles, &groups.unread)
            }
            (own, groups) => own == groups,
        };
        membership
            && Asker::of(one).is(&Asker::of(theirs))
            && (one.strength(), self.signed_in, self.proved) == (theirs.strength(), other.signed_in, other.proved)
    }

    fn at(&self, now: SystemTime) -> Principal {
        match &self.principal {
            Principal::User { person, membership, strength } => {
                let at = |when: Option<When>| when.and_then(|when| when.at(now));
                let (created, auth_time) = (at(self.signed_in), at(self.proved));
                let strength = Strength { created, auth_time, ..Strength::clone(strength) };
                Principal::User { person: person.clone(), membership: membership.clone(), strength: Arc::new(strength) }
            }
            other => other.clone(),
        }
    }
}

impl When {
    fn at(self, now: SystemTime) -> Option<SystemTime> {
        match self {
            Self::At(time) => Some(time),
            Self::Before(span) => now.checked_sub(span),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let span = moment::parse_span(text).map(Self::Before);
        span.or_else(|| moment::parse_time(text).map(moment::at).map(Self::At))
    }
}

/// Makes principals of what is written.
struct Casting<'c, 'd, 't> {
    document: &'d mut Document<'t>,
    settings: &'c Settings,
    cast: &'d mut Cast,
    others: &'c Cast,
}

impl Casting<'_, '_, '_> {
    fn person(&mut self, name: &str, written: &PersonFile) {
        let key = format!("people.{name}");
        let source = self.source(&format!("{key}.provider"), written.provider.as_deref());
        let membership = self.membership(&key, written.groups.as_ref(), &written.roles, &written.unread);
        let signed_in = self.when(&format!("{key}.signed_in"), Some(written.signed_in.as_deref().unwrap_or("1m")));
        let proved = self.when(&format!("{key}.auth_time"), written.auth_time.as_deref());
        let Some((provider, issuer)) = source else { return };
        let text = |text: &Option<String>| text.as_deref().map(Arc::from);
        let person = Person {
            id: UserId { provider, subject: text(&written.subject).unwrap_or_else(|| name.into()) },
            issuer,
            login: text(&written.login).unwrap_or_else(|| name.into()),
            email: text(&written.email),
            name: text(&written.name),
        };
        let strength = Strength { amr: written.amr.clone().into(), acr: text(&written.acr), ..Strength::default() };
        let principal = Principal::User { person: Arc::new(person), membership, strength: Arc::new(strength) };
        self.add(&key, name, principal, signed_in, proved);
    }

    fn job(&mut self, name: &str, written: &JobFile) {
        let key = format!("jobs.{name}");
        let issuer = self.issuer(&key, written.issuer.as_deref(), "gitlab_ci", TokenIssuerSettings::has_jobs);
        let (Some(issuer), Some(user), Some(claims)) = (issuer, &written.user, &written.claims) else { return };
        let user_key = format!("{key}.user");
        let found = self.cast.get(user).or_else(|| self.others.get(user)).cloned();
        let Some(Principal::User { person, membership, .. }) = found else {
            let people = self.cast.iter().chain(self.others.iter()).filter(|(_, one)| one.person().is_some());
            let known: Vec<_> = people.map(|(name, _)| name.to_owned()).collect();
            let message = format!("`{user}` is no name of `people`");
            return self.document.unknown(&user_key, message, user, known.iter().map(String::as_str));
        };
        if person.id.provider != *issuer.namespace() {
            let (theirs, its) = (&person.id.provider, issuer.namespace());
            let message = format!(
                "`{user}` is a person of `{theirs}`, and jobs of `{}` are started by people of `{its}`",
                issuer.name
            );
            return self.document.refuse(&user_key, message, format!("expected a person of `{its}`"));
        }
        match job_of(&issuer, claims) {
            Ok(job) => {
                let job = crate::principal::Job { person, ..job };
                self.add(&key, name, Principal::Job { job: Arc::new(job), membership }, None, None);
            }
            Err(message) => {
                self.document.refuse(&format!("{key}.claims"), message, "expected what GitLab says of a job")
            }
        }
    }

    fn service(&mut self, name: &str, written: &ServiceFile) {
        let key = format!("services.{name}");
        let issuer = self.issuer(&key, written.issuer.as_deref(), "services", TokenIssuerSettings::has_services);
        let membership = self.membership(&key, written.groups.as_ref(), &BTreeMap::new(), &[]);
        let Some(issuer) = issuer else { return };
        let subject: Arc<str> = written.subject.as_deref().unwrap_or(name).into();
        let service = Service {
            client_id: written.client_id.as_deref().map_or_else(|| subject.clone(), Arc::from),
            id: UserId { provider: issuer.name.clone(), subject },
            issuer: issuer.issuer.as_deref().unwrap_or_default().into(),
            scopes: written.scopes.clone().into(),
        };
        self.add(&key, name, Principal::Service { service: Arc::new(service), membership }, None, None);
    }

    fn add(&mut self, key: &str, name: &str, principal: Principal, signed_in: Option<When>, proved: Option<When>) {
        if self.cast.members.contains_key(name) {
            let message = format!("`{name}` is the name of somebody else");
            return self.document.refuse(key, message, "expected a name of its own");
        }
        let member = Member { principal, signed_in, proved };
        let principal = member.at(usual());
        self.cast.members.insert(name.to_owned(), Member { principal, ..member });
    }

    /// Whose people these are, and the issuer that says so.
    fn source(&mut self, key: &str, written: Option<&str>) -> Option<(Name, Arc<str>)> {
        let settings = self.settings;
        let providers = settings.providers.iter().map(|it| (it.name.clone(), Arc::from(it.issuer.as_str())));
        let gives_people = |it: &&Arc<TokenIssuerSettings>| it.has_people() && it.provider.is_none();
        let issuers = settings.token_issuers.iter().filter(gives_people);
        let issuers = issuers.map(|it| (it.name.clone(), Arc::from(it.issuer.as_deref().unwrap_or_default())));
        let known: Vec<(Name, Arc<str>)> = providers.chain(issuers).collect();
        self.choose(key, written, &known, |(name, _)| name.as_str(), "a provider")
    }

    fn issuer(
        &mut self,
        key: &str,
        written: Option<&str>,
        what: &str,
        is: impl Fn(&TokenIssuerSettings) -> bool,
    ) -> Option<Arc<TokenIssuerSettings>> {
        let known: Vec<_> = self.settings.token_issuers.iter().filter(|issuer| is(issuer)).cloned().collect();
        let what = format!("a token issuer of {what}");
        self.choose(&format!("{key}.issuer"), written, &known, |issuer| issuer.name.as_str(), &what)
    }

    /// The one of `known` with this name, or the only one.
    fn choose<T: Clone>(
        &mut self,
        key: &str,
        written: Option<&str>,
        known: &[T],
        name: impl Fn(&T) -> &str,
        what: &str,
    ) -> Option<T> {
        let found = match (written, known) {
            (None, [only]) => Some(only),
            (None, _) => None,
            (Some(written), _) => known.iter().find(|one| name(one) == written),
        };
        if found.is_none() {
            let message = match written {
                Some(written) => format!("`{written}` is not {what} of the configuration"),
                None => format!("`{key}` is missing, and the configuration has {} that it could be", known.len()),
            };
            self.document.unknown(key, message, written.unwrap_or_default(), known.iter().map(name));
        }
        found.cloned()
    }

    fn membership(
        &mut self,
        key: &str,
        groups: Option<&GroupsFile>,
        roles: &BTreeMap<String, crate::review::file::RoleFile>,
        unread: &[String],
    ) -> Membership {
        let listed = match groups {
            Some(GroupsFile::Word(word)) if word == "unknown" => return Membership::Unknown(Unknown::NeverRead),
            Some(GroupsFile::Word(word)) => {
                let message = format!("`{key}.groups` is `{word}`");
                self.document.refuse(
                    &format!("{key}.groups"),
                    message,
                    "expected a list such as `[acme]`, or `unknown`",
                );
                &[][..]
            }
            Some(GroupsFile::List(listed)) => listed,
            None => &[],
        };
        let mut paths = self.paths(&format!("{key}.groups"), listed);
        let mut held: Vec<(GroupPath, Role)> = Vec::new();
        for (path, role) in roles {
            let path = self.path(&format!("{key}.roles.{path}"), path);
            held.extend(path.map(|path| (path, (*role).into())));
        }
        paths.extend(held.iter().map(|(path, _)| path.clone()));
        paths.sort();
        paths.dedup();
        let mut unread = self.paths(&format!("{key}.unread"), unread);
        unread.sort();
        Membership::Known(Groups {
            paths: paths.into(),
            roles: held.into(),
            unread: unread.into(),
            source: MembershipSource::Api,
            read: usual(),
            version: next_version(),
            stale: false,
            aside: None,
        })
    }

    fn paths(&mut self, key: &str, written: &[String]) -> Vec<GroupPath> {
        let each = written.iter().enumerate();
        each.filter_map(|(index, path)| self.path(&format!("{key}[{index}]"), path)).collect()
    }

    fn path(&mut self, key: &str, path: &str) -> Option<GroupPath> {
        if let Some((message, expected)) = misnamed(path, self.settings) {
            self.document.refuse(key, message, expected);
            return None;
        }
        let parsed = path.parse();
        parsed
            .map_err(|error: crate::group::GroupPathError| {
                self.document.refuse(key, error.to_string(), "expected a path such as `acme/platform`")
            })
            .ok()
    }

    fn when(&mut self, key: &str, text: Option<&str>) -> Option<When> {
        let text = text?;
        let when = When::parse(text);
        if when.is_none() {
            let expected =
                "expected a point in time such as `2026-01-01T11:00:00Z`, or a span before the request such as `1h`";
            self.document.refuse(key, format!("`{key}` is `{text}`"), expected);
        }
        when
    }
}

/// Why a path of a group is none, and what to write: it names a provider, as policies do, or it is a pattern, as those of `allow` are.
pub fn misnamed(path: &str, settings: &Settings) -> Option<(String, String)> {
    let providers = settings.providers.iter().map(|provider| &provider.name);
    let issuers = settings.token_issuers.iter().flat_map(|issuer| [&issuer.name, issuer.namespace()]);
    let own = path.split_once(':').filter(|(begin, _)| providers.chain(issuers).any(|name| name.as_str() == *begin));
    let plain = own.map_or(path, |(_, path)| path);
    if let Some(tree) = plain.strip_suffix("/**") {
        let message = format!("`{path}` is a pattern, and nobody is in a pattern");
        return Some((message, format!("write each group that they are in, such as `{tree}`")));
    }
    own.map(|(_, group)| {
        let expected = format!("write `{group}`: the provider is that of the person");
        (format!("`{path}` names a provider"), expected)
    })
}

/// The job of a token of `issuer` with these claims, as it is made of a real one.
pub(super) fn job_of(issuer: &TokenIssuerSettings, written: &ClaimsFile) -> Result<crate::principal::Job, String> {
    let mut claims = written.clone();
    let pinned = || match &issuer.kind {
        TokenKind::GitlabCi(ci) => {
            let path: GroupPath = written.project_path.as_deref()?.parse().ok()?;
            ci.projects.get(&path).copied()
        }
        TokenKind::Jwt(_) | TokenKind::Introspection(_) | TokenKind::Certificate => None,
    };
    let id = *claims.project_id.get_or_insert_with(|| pinned().unwrap_or(1));
    claims.job_project_id.get_or_insert(id);
    claims.ref_protected.get_or_insert(false);
    for (claim, usual) in [
        (&mut claims.git_ref, "main"),
        (&mut claims.ref_type, "branch"),
        (&mut claims.pipeline_source, "push"),
        (&mut claims.runner_environment, "self-hosted"),
        (&mut claims.sha, "0000000000000000000000000000000000000000"),
    ] {
        claim.get_or_insert_with(|| usual.to_owned());
    }
    for number in [&mut claims.pipeline_id, &mut claims.job_id, &mut claims.runner_id] {
        number.get_or_insert(1);
    }
    match serde_json::to_value(claims) {
        Ok(serde_json::Value::Object(claims)) => oidc::described_job(issuer, &claims),
        Ok(_) | Err(_) => Err("the claims cannot be read".to_owned()),
    }
}
