//! `vestibule policy explain`, `access` and `who`: what the policies say of one request, one principal, one URL.

use super::asker::{AskerArguments, CastArguments};
use crate::{
    authorize::Authorize,
    cli::{clean, print},
    config::Settings,
    moment,
    review::{
        access::Access,
        asking::{Asking, More, Site},
        explain::Explanation,
        who::Who,
    },
};
use clap::Args;
use serde_json::Value;
use std::{net::IpAddr, time::SystemTime};

/// The longest line, in characters; what is longer was written by others.
const LONGEST_LINE: usize = 2000;

/// What people most often write in lower case.
const METHODS: [&str; 7] = ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"];

/// How a request comes, beside its method and URL.
#[derive(Args, Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct HowArguments {
    /// Where it comes from. Default: `127.0.0.1`.
    #[arg(long, value_name = "ADDRESS")]
    client_ip: Option<IpAddr>,
    /// When, such as `2026-11-23T06:38:14Z`, or how long ago, such as `1h`. Default: now.
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// It opens a WebSocket.
    #[arg(long)]
    websocket: bool,
    /// Its body, in JSON, where a rule of `body_fields` names the request.
    #[arg(long, value_name = "JSON")]
    body: Option<String>,
}

/// Which request of whom.
#[derive(Args, Clone, Debug, Eq, PartialEq)]
pub struct ExplainArguments {
    /// Such as `GET`.
    method: String,
    /// Such as `https://portal.example.com/docs/`; a path alone is below `public_url`.
    url: String,
    /// A name of a cast, or `anonymous`.
    #[arg(long = "as", value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    pub(super) asker: AskerArguments,
    #[command(flatten)]
    how: HowArguments,
}

/// Whose policy.
#[derive(Args, Clone, Debug, Eq, PartialEq)]
pub struct AccessArguments {
    /// A name of a cast, or `anonymous`.
    #[arg(value_name = "WHO")]
    name: Option<String>,
    /// The same, as `policy explain` has it.
    #[arg(long = "as", value_name = "NAME", conflicts_with = "name")]
    named: Option<String>,
    #[command(flatten)]
    pub(super) asker: AskerArguments,
}

/// Who may do what.
#[derive(Args, Clone, Debug, Eq, PartialEq)]
pub struct WhoArguments {
    /// Such as `https://portal.example.com/docs/`; a path alone is below `public_url`. A method may stand before it.
    #[arg(required = true, num_args = 1..=2, value_names = ["URL"])]
    request: Vec<String>,
    /// What is done there. Default: `GET`.
    #[arg(long, value_name = "METHOD")]
    method: Option<String>,
    #[command(flatten)]
    cast: CastArguments,
    #[command(flatten)]
    how: HowArguments,
}

impl HowArguments {
    fn ask(&self, method: &str, url: &str, settings: &Settings) -> Result<Asking, String> {
        let now = SystemTime::now();
        let at = self.at.as_ref().map(|text| moment::parse_moment(text, now).map(moment::at)).transpose();
        let at = at.map_err(|cause| format!("`--at`: {cause}"))?;
        let more = More {
            client_ip: self.client_ip,
            at: Some(at.unwrap_or(now)),
            websocket: self.websocket,
            body: self.body.clone(),
            ..More::default()
        };
        known_method(method)?;
        let asking = Asking::of(method, url, more, settings)?;
        match asking.missing_body() {
            Some(example) => Err(format!(
                "a rule of `body_fields` of route `{}` reads this request's body: say it with `--body`, such as `--body '{example}'`",
                asking.route.name
            )),
            None => Ok(asking),
        }
    }
}

/// Methods are in upper case. Of those in lower case policies would know nothing.
fn known_method(method: &str) -> Result<(), String> {
    let upper = method.to_ascii_uppercase();
    match method != upper && METHODS.contains(&&*upper) {
        true => Err(format!("`{method}` is no method that policies know: write `{upper}`")),
        false => Ok(()),
    }
}

impl ExplainArguments {
    /// Says why it is permitted or refused. False: it is refused.
    pub(super) fn run(&self, settings: &Settings, json: bool) -> Result<bool, String> {
        let asking = self.how.ask(&self.method, &self.url, settings)?;
        let principal = self.asker.principal(self.name.as_deref(), settings, asking.now)?;
        let authorize = load(settings)?;
        let explanation = Explanation::of(&authorize, &asking, self.name.as_deref(), &principal);
        say(json, || explanation.json(), || explanation.text());
        Ok(explanation.permits())
    }
}

impl AccessArguments {
    /// Lists what they may do. False: nothing.
    pub(super) fn run(&self, settings: &Settings, json: bool) -> Result<bool, String> {
        let now = SystemTime::now();
        let name = self.name.as_deref().or(self.named.as_deref());
        let principal = self.asker.principal(name, settings, now)?;
        let (authorize, site) = (load(settings)?, Site::of(settings));
        let access = Access::of(&authorize.rights(), &site, settings, name, &principal);
        say(json, || access.json(), || access.text());
        Ok(access.permits_something())
    }
}

impl WhoArguments {
    /// Lists who may. False: nobody of the cast.
    pub(super) fn run(&self, settings: &Settings, json: bool) -> Result<bool, String> {
        let (method, url) = match (&*self.request, self.method.as_deref()) {
            ([url], method) => (method.unwrap_or("GET"), url),
            ([method, url], None) => (&**method, url),
            _ => return Err("the method is said in one way: before the URL, or by `--method`".to_owned()),
        };
        let asking = self.how.ask(method, url, settings)?;
        let cast = self.cast.read(settings)?;
        let authorize = load(settings)?;
        let who = Who::of(&authorize, &asking, &cast);
        say(json, || who.json(), || who.text());
        Ok(who.permitted() > 0)
    }
}

fn load(settings: &Settings) -> Result<Authorize, String> {
    super::load(settings).map_err(|errors| super::mistakes(&errors))
}

/// Names, claims and addresses are of others, and stand on a terminal.
fn say(json: bool, object: impl FnOnce() -> Value, text: impl FnOnce() -> String) {
    match json {
        true => print(&format!("{:#}", object())),
        false => print(&text().lines().map(|line| clean(line, LONGEST_LINE)).collect::<Vec<_>>().join("\n")),
    }
}
