//! What is said of a token, as text and as JSON.

use super::{advice::advice, principal::Described, with_tokens};
use crate::{
    authorize::Seen,
    cli::clean,
    config::{Settings, TokenIssuerSettings},
    moment::to_the_second,
    oidc::{Check, Explanation, Good, Limit, Look, Outcome, Place, Shape, Source, TokenFault},
    route::Route,
    text::distance,
};
use serde_json::{Value, json};
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

/// The longest line, in characters; what is longer was written by others.
const LONGEST_LINE: usize = 2000;
/// So many groups are listed in a text.
const MOST_PARENTS: usize = 40;

/// What was found out about a token.
pub(super) struct Report<'s> {
    pub(super) settings: &'s Settings,
    pub(super) look: Look,
    /// There is white space in it.
    pub(super) broken: bool,
    /// The issuer that it claims to be of, or that it is held against.
    pub(super) issuer: Option<Arc<TokenIssuerSettings>>,
    pub(super) at: SystemTime,
    pub(super) offline: bool,
    /// What its checks say; none where it is of no issuer.
    pub(super) explanation: Option<Explanation>,
}

impl Report<'_> {
    /// It passes every check.
    pub(super) fn good(&self) -> bool {
        self.explanation.as_ref().is_some_and(|it| it.result.is_ok())
    }

    /// Why nobody can say whether it is good, if so.
    pub(super) fn unknown(&self) -> Option<&str> {
        match &self.explanation.as_ref()?.result {
            Err(TokenFault::Unavailable { cause, .. }) => Some(cause),
            Ok(_) | Err(TokenFault::Bad { .. }) => None,
        }
    }

    /// Everything, for people.
    pub(super) fn text(&self) -> String {
        let text = match (&self.issuer, &self.explanation) {
            (Some(issuer), Some(explanation)) => self.told(issuer, explanation),
            _ => self.of_nobody(),
        };
        text.lines().map(|line| clean(line, LONGEST_LINE)).collect::<Vec<_>>().join("\n")
    }

    fn told(&self, issuer: &TokenIssuerSettings, explanation: &Explanation) -> String {
        let key = self.look.key.as_ref().map_or_else(String::new, |key| format!(", key `{key}`"));
        let mut lines = vec![format!("token of `{}`, {}{key}", issuer.name, kind(issuer))];
        lines.extend(explanation.checks().iter().map(|(check, outcome)| line(*check, outcome)));
        lines.extend(explanation.keys.as_ref().map(|keys| format!("keys: {}", source(keys))));
        match &explanation.result {
            Ok(good) => lines.extend(self.principal(issuer, explanation, good)),
            Err(TokenFault::Bad { .. }) => lines.push(self.verdict("refused")),
            Err(TokenFault::Unavailable { .. }) => lines.push(self.verdict("nobody can say")),
        }
        lines.join("\n")
    }

    fn verdict(&self, word: &str) -> String {
        advice(self).map_or_else(|| word.to_owned(), |advice| format!("{word}: {advice}"))
    }

    fn of_nobody(&self) -> String {
        let whose = &self.look.whose;
        let said = match &self.look.shape {
            Shape::Opaque(cause) => {
                format!("it is no JWT ({cause}), and begins like the opaque tokens of no issuer that is known here")
            }
            _ if whose.issuer.is_empty() => "it does not say of which issuer it is: it has no `iss`".to_owned(),
            _ => {
                let (issuer, audiences) = (&whose.issuer, listed(&whose.audiences, "nobody"));
                format!("it is of no issuer that is known here: its `iss` is `{issuer}`, and it is for {audiences}")
            }
        };
        let mut lines = vec![said];
        let known: Vec<_> = self.nearest().into_iter().map(|it| format!("    `{}`: {}", it.name, kind(it))).collect();
        match known.is_empty() {
            true => lines.push("there is none in `token_issuers` that gives tokens".to_owned()),
            false => lines.push("there are:".to_owned()),
        }
        lines.extend(known);
        lines.push(self.verdict("refused"));
        lines.join("\n")
    }

    /// Issuers that give tokens, those first whose name is most like the one that the token has.
    fn nearest(&self) -> Vec<&TokenIssuerSettings> {
        let mut known: Vec<_> = with_tokens(self.settings).map(Arc::as_ref).collect();
        known.sort_by_key(|it| distance(&self.look.whose.issuer, it.issuer.as_deref().unwrap_or_default()));
        known
    }

    fn principal(&self, issuer: &TokenIssuerSettings, explanation: &Explanation, good: &Good) -> Vec<String> {
        let described = Described::of(self.settings, issuer, explanation.way, &good.bearer);
        let mut rows = vec![("over".to_owned(), self.over(good))];
        rows.extend(described.entities.first().into_iter().flat_map(|entity| of_entity(entity, "principal")));
        rows.extend(described.entities.get(1).into_iter().flat_map(|entity| of_entity(entity, "principal.user")));
        rows.extend(listed_below("routes", described.routes.iter().map(|route| of_route(route))));
        if described.routes.is_empty() {
            rows.push((
                "routes".to_owned(),
                format!("none takes it: write `{}` into a route's `token_issuers`", issuer.name),
            ));
        }
        rows.extend(listed_below("not known", described.unknown));
        let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
        let table = rows.into_iter().map(|(name, value)| format!("{name:<width$}  {value}"));
        std::iter::once("good".to_owned()).chain(table).collect()
    }

    fn over(&self, good: &Good) -> String {
        let (at, left) = (to_the_second(good.ends), good.ends.duration_since(self.at).unwrap_or_default());
        match good.limit {
            Limit::Expiry => format!("{at}, in {}, by `exp`, with a minute of clock difference", span(left)),
            Limit::MaxAge => format!("{at}, in {}, by `max_age`, with a minute of clock difference", span(left)),
            Limit::Asked => format!("its issuer is asked again after {}", span(left)),
        }
    }

    /// The same as one object.
    pub(super) fn json(&self) -> Value {
        let result = self.explanation.as_ref().map(|it| &it.result);
        let good = result.and_then(|result| result.as_ref().ok());
        let ok = if self.unknown().is_some() { Value::Null } else { self.good().into() };
        let checks = self.explanation.iter().flat_map(Explanation::checks).map(|(check, it)| check_json(check, &it));
        let keys = self.explanation.as_ref().and_then(|it| it.keys.as_ref());
        let mut json = json!({
            "ok": ok,
            "at": to_the_second(self.at),
            "offline": self.offline,
            "token": look_json(&self.look),
            "issuer": self.issuer.as_deref().map(issuer_json),
            "checks": checks.collect::<Vec<_>>(),
            "keys": keys.map(source_json),
            "advice": if good.is_some() { None } else { advice(self) },
            "over": good.map(|it| json!({ "at": to_the_second(it.ends), "by": by(it.limit) })),
        });
        if let (Some(issuer), Some(explanation), Some(good)) = (&self.issuer, &self.explanation, good) {
            let described = Described::of(self.settings, issuer, explanation.way, &good.bearer);
            json["principal"] = described.entities.first().map(seen_json).into();
            json["person"] = described.entities.get(1).map(seen_json).into();
            json["routes"] = described.routes.iter().map(|route| route_json(route)).collect();
            json["unknown"] = described.unknown.into();
        }
        if self.issuer.is_none() {
            json["issuers"] = self.nearest().into_iter().map(issuer_json).collect();
        }
        json
    }
}

/// What kind of issuer it is, whose tokens are its own, and for whom they have to be.
fn kind(issuer: &TokenIssuerSettings) -> String {
    let whose = issuer.issuer.as_ref().map(|it| format!(" `{it}`")).unwrap_or_default();
    let begins = issuer.prefix().map(|it| format!(", tokens that begin with `{it}`")).unwrap_or_default();
    format!("{}{whose}{begins}, for {}", issuer.kind.as_str(), listed(&issuer.audiences, "nobody"))
}

fn line(check: Check, outcome: &Outcome) -> String {
    let (word, said) = match outcome {
        Outcome::Passed => ("passed", passed(check)),
        Outcome::Failed(cause) => ("FAILED", &**cause),
        Outcome::Unknown(cause) => ("not made", &**cause),
        Outcome::NotReached => ("not reached", ""),
    };
    format!("{word:<12} {:<10} {said}", check.as_str()).trim_end().to_owned()
}

fn passed(check: Check) -> &'static str {
    match check {
        Check::Form => "it can be read in one way only",
        Check::Algorithm => "its algorithm is one of `algorithms`",
        Check::Issuer => "its `iss` is that of the issuer",
        Check::Class => "it is this kind of token and no other",
        Check::Audience => "it is for one of `audiences`",
        Check::Time => "its `exp`, `iat` and `nbf` allow it now",
        Check::Age => "it is not older than `max_age`",
        Check::Signature => "a key of the issuer made it",
        Check::Active => "its issuer says that it is good",
        Check::Claims => "it says who it is of",
    }
}

fn source(source: &Source) -> String {
    let old = || span(SystemTime::now().duration_since(source.read).unwrap_or_default());
    match &source.place {
        Place::Issuer => "read from the issuer just now".to_owned(),
        Place::Cache(file) => {
            format!("from `{}`, read {} ago, at {}", file.display(), old(), to_the_second(source.read))
        }
        Place::Configured => "from `jwks_file`".to_owned(),
    }
}

fn of_entity<'e>(entity: &'e Seen, name: &'e str) -> impl Iterator<Item = (String, String)> + 'e {
    let left = entity.parents.len().saturating_sub(MOST_PARENTS);
    let parents = entity.parents.iter().take(MOST_PARENTS).cloned();
    let more = (left > 0).then(|| format!("and {left} more: `--json` has all"));
    let parents = listed_below(&format!("{name} in"), parents.chain(more)).collect::<Vec<_>>();
    let attributes =
        entity.attributes.iter().map(move |(attribute, value)| (format!("{name}.{attribute}"), plain(value)));
    let own = (!name.contains('.')).then(|| (name.to_owned(), entity.id.clone()));
    own.into_iter().chain(parents).chain(attributes)
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

fn of_route(route: &Route) -> String {
    let once = route.tokens.one_time.then_some(", once");
    let running = route.tokens.running_job.then_some(", while the job runs");
    format!("`{}`{}{}", route.name, once.unwrap_or_default(), running.unwrap_or_default())
}

/// Rows of which only the first has the name.
fn listed_below(name: &str, values: impl IntoIterator<Item = String>) -> impl Iterator<Item = (String, String)> {
    let names = std::iter::once(name.to_owned()).chain(std::iter::repeat(String::new()));
    names.zip(values)
}

fn listed(texts: &[String], none: &str) -> String {
    let shown: Vec<_> = texts.iter().take(5).map(|text| format!("`{text}`")).collect();
    if shown.is_empty() { none.to_owned() } else { shown.join(", ") }
}

/// `59 s`, `12 min`, `2 h 5 min`, `3 d 4 h`.
fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    let two = |large: u64, unit: &str, small: u64, part: &str| match small {
        0 => format!("{large} {unit}"),
        _ => format!("{large} {unit} {small} {part}"),
    };
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => two(seconds / 3600, "h", seconds / 60 % 60, "min"),
        _ => two(seconds / 86_400, "d", seconds / 3600 % 24, "h"),
    }
}

fn by(limit: Limit) -> &'static str {
    match limit {
        Limit::Expiry => "exp",
        Limit::MaxAge => "max_age",
        Limit::Asked => "asked_again",
    }
}

fn check_json(check: Check, outcome: &Outcome) -> Value {
    let (word, cause) = match outcome {
        Outcome::Passed => ("passed", None),
        Outcome::Failed(cause) => ("failed", Some(cause)),
        Outcome::Unknown(cause) => ("unknown", Some(cause)),
        Outcome::NotReached => ("not_reached", None),
    };
    json!({ "check": check.as_str(), "result": word, "cause": cause })
}

fn look_json(look: &Look) -> Value {
    json!({
        "looks_like": look.shape.as_str(),
        "iss": Some(&look.whose.issuer).filter(|issuer| !issuer.is_empty()),
        "aud": look.whose.audiences,
        "alg": look.algorithm,
        "kid": look.key,
    })
}

fn issuer_json(issuer: &TokenIssuerSettings) -> Value {
    json!({
        "name": issuer.name.as_str(),
        "kind": issuer.kind.as_str(),
        "issuer": issuer.issuer,
        "prefix": issuer.prefix(),
        "audiences": issuer.audiences,
    })
}

fn source_json(source: &Source) -> Value {
    let (from, file) = match &source.place {
        Place::Issuer => ("issuer", None),
        Place::Cache(file) => ("cache", Some(file)),
        Place::Configured => ("jwks_file", None),
    };
    let age = SystemTime::now().duration_since(source.read).unwrap_or_default().as_secs();
    json!({ "from": from, "file": file, "read": to_the_second(source.read), "age": age })
}

fn seen_json(entity: &Seen) -> Value {
    json!({ "kind": entity.kind, "id": entity.id, "attributes": entity.attributes, "parents": entity.parents })
}

fn route_json(route: &Route) -> Value {
    json!({ "name": route.name.as_str(), "one_time": route.tokens.one_time, "running_job": route.tokens.running_job })
}
