//! Keeps our token at GitLab alive: renewed in time, the new one on disk before it is used, and never asked for twice.
//!
//! GitLab kills a token as it renews it, and the whole family of a token that is renewed again. So before the one request the
//! file says that it is under way; whatever comes of it, it is not repeated until the old token has proved to be alive.

use crate::{
    audit::{Audit, Event},
    control::Control,
    gitlab::{Api, ApiError, api::TokenAbout},
    moment::{at, day, parse_moment},
    principal::Name,
    session::ring::Purpose,
};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use std::{
    fs, io,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};
use tokio::time::sleep;
use zeroize::Zeroizing;

/// How often it is looked whether anything is to be done.
const LOOK: Duration = Duration::from_secs(60);
/// After a failure that may pass.
const AGAIN: Duration = Duration::from_secs(5);
/// GitLab gives no token for longer.
const LONGEST_DAYS: u64 = 365;
/// A token that ends sooner than this, and is not renewed, is warned of.
const SOON: Duration = Duration::from_secs(14 * 86_400);
/// Scopes with which a token may renew itself.
const MAY_ROTATE: [&str; 2] = ["self_rotate", "api"];

/// How it stands with a token, for operators.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TokenStatus {
    /// `YYYY-MM-DD`; absent: never, or not known yet.
    pub expires: Option<String>,
    /// What somebody has to do about it.
    pub alarm: Option<String>,
}

/// Keeps one token.
pub(super) struct Keeper {
    pub(super) api: Arc<Api>,
    provider: Name,
    file: PathBuf,
    control: Arc<Control>,
    audit: Audit,
    rotate: bool,
    status: Mutex<TokenStatus>,
}

/// What is on disk.
#[derive(Deserialize, Serialize)]
struct Kept {
    /// SHA-256 in hex of the token that the configuration named when this was written: another one there wins.
    configured: String,
    token: String,
    /// It was asked for another, and the answer is not known.
    under_way: bool,
}

/// What is to be done now.
#[derive(Debug, Eq, PartialEq)]
enum Due {
    Nothing,
    /// To be renewed, until this day.
    Rotate(String),
    /// It ends soon, or has ended, and cannot be renewed.
    Alarm(String),
}

impl Keeper {
    pub(super) fn new(
        api: Arc<Api>,
        provider: Name,
        state: &Path,
        rotate: bool,
        control: Arc<Control>,
        audit: Audit,
    ) -> Arc<Self> {
        let file = state.join("tokens").join(provider.as_str());
        Arc::new(Self { api, provider, file, control, audit, rotate, status: Mutex::default() })
    }

    pub(super) fn status(&self) -> TokenStatus {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn rotates(&self) -> bool {
        self.rotate
    }

    /// Takes the token that an earlier process got in place of the configured one.
    pub(super) fn recall(&self) {
        if let Some(kept) = self.kept() {
            self.api.use_token(kept.token.into());
        }
    }

    /// Looks after the token. Never returns.
    pub(super) async fn keep(self: Arc<Self>) {
        loop {
            sleep(self.look(SystemTime::now()).await).await;
        }
    }

    /// Does what is due; how long to wait then.
    async fn look(&self, now: SystemTime) -> Duration {
        let kept = self.kept();
        if let Some(kept) = &kept {
            self.reseal(kept);
        }
        let about = match self.api.about_token().await {
            Ok(about) => about,
            Err(error @ ApiError::Token(_)) => {
                let lost = kept.is_some_and(|kept| kept.under_way);
                let alarm = if lost {
                    "the token was being renewed when the answer got lost, and is dead now: make another at GitLab and give \
                     it to `membership.api.token`"
                        .to_owned()
                } else {
                    error.to_string()
                };
                self.alarm(alarm);
                return LOOK;
            }
            Err(error) => {
                tracing::debug!(provider = %self.provider, %error, "GitLab says nothing about our token");
                return AGAIN;
            }
        };
        self.note(|status| *status = TokenStatus { expires: about.expires_at.clone(), alarm: None });
        if kept.as_ref().is_some_and(|kept| kept.under_way) && !self.settle() {
            return AGAIN; // it was not renewed after all, and the file has to say so first
        }
        match due(&about, self.rotate, now) {
            Due::Nothing => LOOK,
            Due::Alarm(alarm) => {
                self.alarm(alarm);
                LOOK
            }
            Due::Rotate(until) => self.rotate(&until, now).await,
        }
    }

    async fn rotate(&self, until: &str, now: SystemTime) -> Duration {
        let token = self.api.token();
        if let Err(error) = self.write(&token, true) {
            self.alarm(format!(
                "the token is not renewed, because `{}` cannot be written: {error}",
                self.file.display()
            ));
            return AGAIN;
        }
        match self.api.rotate_token(until).await {
            Ok(rotated) => {
                while let Err(error) = self.write(&rotated.token, false) {
                    // the old one is dead: this is the only place that has the new one
                    self.alarm(format!("a renewed token cannot be kept in `{}`: {error}", self.file.display()));
                    self.api.use_token(rotated.token.clone());
                    sleep(Duration::from_secs(1)).await;
                }
                self.api.use_token(rotated.token);
                self.note(|status| *status = TokenStatus { expires: rotated.expires_at.clone(), alarm: None });
                let object = format!("token at {} until {until}", self.provider);
                let (by, sessions) = ("vestibule".to_owned(), Vec::new());
                let event =
                    Event::Administered { by, act: "token.rotate", kind: "token", object, reason: None, sessions };
                self.audit.record(event, now);
                tracing::info!(provider = %self.provider, until, "the token for GitLab's API is renewed");
                LOOK
            }
            Err(error @ (ApiError::Token(_) | ApiError::Missing | ApiError::Limited(_))) => {
                self.settle(); // it said no, so nothing was renewed
                self.alarm(format!("the token was not renewed: {error}"));
                LOOK
            }
            Err(error) => {
                tracing::warn!(provider = %self.provider, %error, "it is not known whether the token was renewed");
                AGAIN // what it is asked about first then is whether the old one is alive
            }
        }
    }

    /// The old token is alive, so nothing is under way.
    fn settle(&self) -> bool {
        let written = self.write(&self.api.token(), false);
        if let Err(error) = &written {
            self.alarm(format!("`{}` cannot be written: {error}", self.file.display()));
        }
        written.is_ok()
    }

    /// What is on disk, if it is of the token that is configured now.
    fn kept(&self) -> Option<Kept> {
        let sealed = fs::read(&self.file).ok()?;
        let opened =
            self.control.ring().open_sealed(Purpose::GitlabToken, self.provider.as_str().as_bytes(), b"", &sealed);
        let plain = match opened {
            Ok(plain) => Zeroizing::new(plain),
            Err(error) => {
                tracing::error!(file = %self.file.display(), %error, "a kept token cannot be opened");
                return None;
            }
        };
        let kept: Kept = serde_json::from_slice(&plain).ok()?;
        (kept.configured == self.api.configured()).then_some(kept)
    }

    /// A key of the ring that is to go must not be needed for this.
    fn reseal(&self, kept: &Kept) {
        let needs = fs::read(&self.file).ok().and_then(|sealed| sealed.first_chunk::<4>().copied());
        let seals = self.control.ring().about().iter().find(|key| key.seals).map(|key| key.id);
        if needs != seals
            && let Err(error) = self.write(&kept.token.clone().into(), kept.under_way)
        {
            tracing::warn!(file = %self.file.display(), %error, "a kept token is not sealed anew");
        }
    }

    fn write(&self, token: &SecretString, under_way: bool) -> io::Result<()> {
        let kept = Kept { configured: self.api.configured(), token: token.expose_secret().to_owned(), under_way };
        let plain = Zeroizing::new(serde_json::to_vec(&kept)?);
        let sealed = self.control.ring().seal(Purpose::GitlabToken, self.provider.as_str().as_bytes(), b"", &plain);
        durably(&self.file, &sealed)
    }

    fn note(&self, change: impl FnOnce(&mut TokenStatus)) {
        change(&mut self.status.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Says it once, not every minute.
    fn alarm(&self, text: String) {
        self.note(|status| {
            if status.alarm.as_ref() != Some(&text) {
                tracing::error!(provider = %self.provider, "the token for GitLab's API: {text}");
                status.alarm = Some(text);
            }
        });
    }
}

/// Replaces a file as a whole; it and its name are on the disk when this returns.
fn durably(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = file.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(directory)?;
    let draft = file.with_extension("new");
    let mut options = fs::OpenOptions::new();
    let mut written = options.write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    written.write_all(bytes)?;
    written.sync_all()?;
    fs::rename(&draft, file)?;
    fs::File::open(directory)?.sync_all()
}

/// What is to be done about a token at `now`: renewed at two thirds of its life, for as long a life again.
fn due(about: &TokenAbout, rotate: bool, now: SystemTime) -> Due {
    let Some(expires) = &about.expires_at else { return Due::Nothing };
    let moment = |text: &String| Some(at(parse_moment(text, now).ok()?));
    let Some(end) = moment(expires) else {
        return Due::Alarm(format!("GitLab says that the token ends at `{expires}`"));
    };
    let left = end.duration_since(now).unwrap_or_default();
    let may = about.scopes.iter().any(|scope| MAY_ROTATE.contains(&scope.as_str()));
    if !rotate || !may {
        let how = if rotate { "it lacks scope `self_rotate`" } else { "`membership.api.rotate` is not set" };
        let soon = left < SOON;
        return if soon {
            Due::Alarm(format!("the token ends on {expires}, and is not renewed: {how}"))
        } else {
            Due::Nothing
        };
    }
    let life = about.created_at.as_ref().and_then(moment).and_then(|made| end.duration_since(made).ok());
    let life = life.unwrap_or(left * 3);
    if left > life / 3 {
        return Due::Nothing;
    }
    let days = life.as_secs().div_ceil(86_400).clamp(1, LONGEST_DAYS);
    Due::Rotate(day(now + Duration::from_secs(days * 86_400)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SystemTime {
        crate::moment::at(parse_moment(text, SystemTime::now()).expect("a time"))
    }

    fn about(created: &str, expires: Option<&str>, scopes: &[&str]) -> TokenAbout {
        TokenAbout {
            id: 1,
            scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
            expires_at: expires.map(str::to_owned),
            created_at: Some(created.to_owned()),
        }
    }

    #[test]
    fn a_token_is_renewed_at_two_thirds_of_its_life_for_as_long_again() {
        let token = about("2026-01-01T09:00:00.000Z", Some("2026-04-01"), &["read_api", "self_rotate"]);
        assert_eq!(due(&token, true, at("2026-03-01T00:00:00Z")), Due::Nothing);
        assert_eq!(due(&token, true, at("2026-03-03T00:00:00Z")), Due::Rotate("2026-06-01".into()));
        assert_eq!(
            due(&token, true, at("2026-05-01T00:00:00Z")),
            Due::Rotate("2026-07-30".into()),
            "GitLab says no then"
        );
        let whole = about("2025-01-01", Some("2026-12-31"), &["api"]);
        assert_eq!(
            due(&whole, true, at("2026-12-01")),
            Due::Rotate("2027-12-01".into()),
            "no longer than GitLab gives"
        );
    }

    #[test]
    fn who_cannot_renew_is_told_in_time() {
        let token = |scopes: &[&str]| about("2026-01-01", Some("2026-04-01"), scopes);
        assert_eq!(due(&token(&["read_api"]), true, at("2026-03-10")), Due::Nothing);
        let alarm = |scopes: &[&str], rotate| match due(&token(scopes), rotate, at("2026-03-20")) {
            Due::Alarm(text) => text,
            other => panic!("{other:?}"),
        };
        assert!(alarm(&["read_api"], true).contains("`self_rotate`"));
        assert!(alarm(&["read_api", "self_rotate"], false).contains("`membership.api.rotate`"));
        assert_eq!(due(&about("2026-01-01", None, &[]), true, at("2036-01-01")), Due::Nothing, "one that never ends");
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_and_is_its_owners() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("tokens/gitlab");
        durably(&file, b"one").expect("written");
        durably(&file, b"two").expect("written");
        assert_eq!(fs::read(&file).expect("read"), b"two");
        assert_eq!(fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
    }
}
