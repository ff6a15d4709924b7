//! Who asks, as the command line says it: a name of a cast, a person with groups, or whoever has a token.

use crate::{
    authorize::PolicyError,
    cli::token,
    config::Settings,
    group::{GroupPath, Role},
    membership::is_read,
    principal::{
        Bearer, Groups, Membership, MembershipSource, Name, Person, Principal, Strength, Unknown, UserId, next_version,
    },
    review::{
        cases::DIRECTORY,
        cast::{ANONYMOUS, Cast, misnamed},
    },
    text::distance,
};
use clap::Args;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::SystemTime,
};

/// Whose names are known.
#[derive(Args, Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct CastArguments {
    /// A file with people, jobs and services; may be repeated. Default: those in `tests` below the policies.
    #[arg(long, value_name = "FILE")]
    cast: Vec<PathBuf>,
}

/// Who asks, if it is no name of a cast.
#[derive(Args, Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct AskerArguments {
    #[command(flatten)]
    pub(super) cast: CastArguments,
    /// A person: provider and subject, such as `gitlab:907`.
    #[arg(long, value_name = "PROVIDER:SUBJECT", conflicts_with = "token")]
    user: Option<String>,
    /// A group that they are in, those below one that they are in among them; may be repeated.
    #[arg(long, value_name = "PATH")]
    group: Vec<String>,
    /// A role in a group, such as `acme/platform#maintainer`; may be repeated. Who has one is in that group.
    #[arg(long, value_name = "PATH#ROLE")]
    role: Vec<String>,
    /// Whoever the token on standard input is of; it is checked, and never written anywhere.
    #[arg(long)]
    token: bool,
    /// With `--token`: ask nobody; keys are those of `jwks_file`, or those that a running process has kept below `state`.
    #[arg(long, requires = "token")]
    offline: bool,
}

impl CastArguments {
    /// Everybody who has a name.
    pub(super) fn read(&self, settings: &Settings) -> Result<Cast, String> {
        let lines = |errors: Vec<PolicyError>| super::mistakes(&errors);
        if !self.cast.is_empty() {
            return Cast::of_files(&self.cast, settings).map_err(lines);
        }
        let tests = settings.policies.as_deref().map(|policies| policies.join(DIRECTORY));
        match tests.filter(|tests| tests.is_dir()) {
            Some(tests) => Cast::of_directory(&tests, settings).map_err(lines),
            None => Ok(Cast::default()),
        }
    }
}

impl AskerArguments {
    /// True if a token is read, which its issuer may have to be asked about.
    pub(super) fn has_token(&self) -> bool {
        self.token
    }

    /// Who asks: whoever has this `name`, if there is one.
    pub(super) fn principal(
        &self,
        name: Option<&str>,
        settings: &Settings,
        now: SystemTime,
    ) -> Result<Principal, String> {
        let ways = usize::from(name.is_some()) + usize::from(self.user.is_some()) + usize::from(self.token);
        if ways != 1 {
            return Err(match ways {
                0 => "say who asks: `--as NAME`, `--user PROVIDER:SUBJECT` or `--token`",
                _ => "who asks is said in one way: by a name of a cast, by `--user`, or by `--token`",
            }
            .to_owned());
        }
        let groups = self.groups(settings)?;
        if let Some(user) = &self.user {
            let person = person(user, settings)?;
            let membership = Membership::Known(groups.unwrap_or_else(|| known(BTreeSet::new(), BTreeMap::new())));
            return Ok(Principal::User {
                person: Arc::new(person),
                membership,
                strength: Arc::new(Strength::default()),
            });
        }
        if self.token {
            let bearer = token::verified(settings, self.offline)?;
            let own = membership(&bearer, settings);
            return Ok(bearer.principal(groups.map_or(own, Membership::Known)));
        }
        if groups.is_some() {
            return Err(
                "`--group` and `--role` are for `--user` and `--token`: who has a name in a cast has the groups \
                        that stand there"
                    .to_owned(),
            );
        }
        let name = name.unwrap_or(ANONYMOUS);
        let cast = self.cast.read(settings)?;
        cast.at(name, now).ok_or_else(|| unknown(name, &cast))
    }

    fn groups(&self, settings: &Settings) -> Result<Option<Groups>, String> {
        let mut paths = BTreeSet::new();
        let mut roles: BTreeMap<GroupPath, Role> = BTreeMap::new();
        for text in &self.group {
            paths.insert(group("--group", text, settings)?);
        }
        for text in &self.role {
            let (path, role) = role(text, settings)?;
            paths.insert(path.clone());
            let held = roles.entry(path).or_insert(role);
            *held = role.max(*held);
        }
        Ok((!paths.is_empty()).then(|| known(paths, roles)))
    }
}

fn group(option: &str, text: &str, settings: &Settings) -> Result<GroupPath, String> {
    match misnamed(text, settings) {
        Some((message, expected)) => Err(format!("`{option}`: {message}; {expected}")),
        None => text.parse().map_err(|error| format!("`{option}`: {error}")),
    }
}

fn role(text: &str, settings: &Settings) -> Result<(GroupPath, Role), String> {
    let expected =
        || format!("`--role`: `{text}` is no role in a group, expected one such as `acme/platform#maintainer`");
    let (path, role) = text.rsplit_once('#').ok_or_else(expected)?;
    Ok((group("--role", path, settings)?, role.parse().map_err(|()| expected())?))
}

fn known(paths: BTreeSet<GroupPath>, roles: BTreeMap<GroupPath, Role>) -> Groups {
    Groups {
        paths: paths.into_iter().collect(),
        roles: roles.into_iter().collect(),
        unread: [].into(),
        source: MembershipSource::Api,
        read: SystemTime::UNIX_EPOCH,
        version: next_version(),
        stale: false,
        aside: None,
    }
}

fn person(user: &str, settings: &Settings) -> Result<Person, String> {
    let expected = || format!("`--user`: `{user}` is no person, expected provider and subject, such as `gitlab:907`");
    let (provider, subject) = user.split_once(':').filter(|(_, subject)| !subject.is_empty()).ok_or_else(expected)?;
    let found = settings.providers.iter().find(|known| known.name.as_str() == provider);
    let found = found.ok_or_else(|| {
        let names: Vec<_> = settings.providers.iter().map(|known| known.name.as_str()).collect();
        format!("`--user`: no provider is named `{provider}`: there is `{}`", names.join("`, `"))
    })?;
    let provider: Name = found.name.clone();
    Ok(Person {
        id: UserId { provider, subject: subject.into() },
        issuer: found.issuer.as_str().into(),
        login: subject.into(),
        email: None,
        name: None,
    })
}

/// What a token says of groups, unless they are read at the provider when it comes.
fn membership(bearer: &Bearer, settings: &Settings) -> Membership {
    let person = bearer.holder.person();
    let is_read_there = person.is_some_and(|person| {
        let provider = settings.providers.iter().find(|provider| provider.name == person.id.provider);
        provider.is_some_and(|provider| is_read(provider, &person.id))
    });
    if is_read_there { Membership::Unknown(Unknown::NeverRead) } else { bearer.membership.clone() }
}

fn unknown(name: &str, cast: &Cast) -> String {
    let files = cast.files_of(name);
    if !files.is_empty() {
        let known = cast.iter().map(|(known, _)| known).filter(|known| known.ends_with(&format!("/{name}")));
        let known = known.collect::<Vec<_>>().join("` or `");
        return format!(
            "`{name}` is somebody else in each of `{}`: say `{known}`, or name one file with `--cast FILE`",
            files.join("`, `")
        );
    }
    let mut names: Vec<_> = cast.iter().map(|(known, _)| known).collect();
    names.sort_by_key(|known| distance(name, known));
    let near: Vec<_> = names.iter().take(5).copied().collect();
    format!("nobody in the cast is named `{name}`: there is `{}`", near.join("`, `"))
}
