//! Who is counted, what is counted, and how much of it is allowed.

use std::fmt;

/// Who is counted.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Whom {
    /// An address, or one /64 network of IPv6, whoever it is.
    Address,
    /// A person.
    User,
    /// A CI job.
    Job,
    /// All CI jobs of one project together.
    Project,
    /// A service.
    Service,
}

impl Whom {
    /// Everybody who is counted.
    pub const ALL: [Self; 5] = [Self::Address, Self::User, Self::Job, Self::Project, Self::Service];

    /// The word in configuration, audit events and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::User => "user",
            Self::Job => "job",
            Self::Project => "project",
            Self::Service => "service",
        }
    }

    /// How a sentence about it begins.
    pub(super) fn subject(self) -> &'static str {
        match self {
            Self::Address => "Your network",
            Self::User => "You",
            Self::Job => "This job",
            Self::Project => "All jobs of this project together",
            Self::Service => "This service",
        }
    }
}

/// What is counted.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Measure {
    /// Requests in a time.
    Requests,
    /// Requests that are under way at once.
    Concurrent,
}

impl Measure {
    /// All that is counted.
    pub const ALL: [Self; 2] = [Self::Requests, Self::Concurrent];

    /// The word in configuration, audit events and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Concurrent => "concurrent",
        }
    }
}

/// How much one may ask.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Limit {
    /// How many requests in what time.
    pub rate: Option<Rate>,
    /// How many may be under way at once.
    pub concurrent: Option<u32>,
}

/// How many requests in what time.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rate {
    /// So many, from 1 to 1,000,000.
    pub requests: u32,
    /// In this time.
    pub every: Every,
    /// So many of them may come at once after a pause, from 1 to 1,000,000.
    pub burst: u32,
}

/// A time in which requests are counted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Every {
    /// `/s`.
    Second,
    /// `/m`.
    Minute,
    /// `/h`.
    Hour,
}

impl Rate {
    /// How many units of a bucket come back each nanosecond.
    pub(super) fn units(&self) -> u64 {
        let in_an_hour = match self.every {
            Every::Second => 3600,
            Every::Minute => 60,
            Every::Hour => 1,
        };
        u64::from(self.requests) * in_an_hour
    }

    /// In words, such as `20 requests a second, 40 at once`.
    pub(super) fn told(&self) -> String {
        let every = match self.every {
            Every::Second => "a second",
            Every::Minute => "a minute",
            Every::Hour => "an hour",
        };
        let told = format!("{} {every}", requests(self.requests));
        if self.burst == self.requests { told } else { format!("{told}, {} at once", self.burst) }
    }
}

/// Writes `20/s`, as the configuration has it.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let every = match self.every {
            Every::Second => 's',
            Every::Minute => 'm',
            Every::Hour => 'h',
        };
        write!(f, "{}/{every}", self.requests)
    }
}

/// So many requests, in words.
pub(super) fn requests(number: u32) -> String {
    if number == 1 { "1 request".to_owned() } else { format!("{number} requests") }
}
