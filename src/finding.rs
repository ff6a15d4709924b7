//! What a check found out about one thing, in words for an operator.

/// How it stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Level {
    /// As it should be.
    Good,
    /// Odd, or not to be told for sure.
    Warning,
    /// It will not work.
    Fault,
    /// Nobody can tell, or nobody needs to.
    Skipped,
}

impl Level {
    /// The word for it, as it begins a line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Warning => "warning",
            Self::Fault => "FAIL",
            Self::Skipped => "skipped",
        }
    }
}

/// What a check found out about one thing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Finding {
    /// How it stands.
    pub level: Level,
    /// What was looked at, such as `client secret`.
    pub what: String,
    /// The configuration key it rests on, such as `providers[0].client_secret`; whoever asks may put something in front.
    pub key: String,
    /// What was found. No secret.
    pub said: String,
    /// What to do.
    pub help: Option<String>,
}

impl Finding {
    /// What was found about `what`.
    pub fn new(level: Level, what: impl Into<String>, key: impl Into<String>, said: impl Into<String>) -> Self {
        Self { level, what: what.into(), key: key.into(), said: said.into(), help: None }
    }

    /// The same, with what to do.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}
