//! `vestibule init`: four questions, or flags, and a configuration that `check` finds well.

mod ask;
mod draft;
mod files;
mod guide;
mod hidden;
mod text;

use super::print;
use ask::Dialogue;
use clap::Args;
use draft::{Draft, FIELDS, Field};
use files::Plan;
use serde_json::json;
use std::{
    io::{self, IsTerminal},
    path::{Path, PathBuf},
};

/// What `init` is told by flags; it asks for the rest.
#[derive(Debug, Args)]
pub(super) struct InitArguments {
    /// The origin that people see, such as `https://portal.example.com`.
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
    /// What signs people in: `gitlab`, `okta`, `entra`, `keycloak`, `google`, or `oidc` for any other. Default: what `--allow` names groups of.
    #[arg(long)]
    kind: Option<String>,
    /// The provider's issuer, such as `https://gitlab.example.com`.
    #[arg(long, value_name = "URL")]
    issuer: Option<String>,
    /// The Workspace domain whose people may sign in, such as `example.com`; for Google only.
    #[arg(long, value_name = "DOMAIN")]
    hosted_domain: Option<String>,
    /// Our client id at the provider.
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
    /// The file with our client secret, or `-` to read it from standard input. Default: a file to fill in.
    #[arg(long, value_name = "FILE")]
    secret_file: Option<String>,
    /// Where requests go, such as `http://127.0.0.1:7007`.
    #[arg(long, value_name = "URL")]
    upstream: Option<String>,
    /// Who may come in: `gitlab:acme/**`, `gitlab:acme`, `signed-in` or `public`. Several by commas.
    #[arg(long, value_name = "WHO", value_delimiter = ',')]
    allow: Vec<String>,
    /// The directory to write into. It is made if it is not there.
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// Ask nothing.
    #[arg(long)]
    yes: bool,
}

/// Where our client secret comes from.
#[derive(Debug)]
enum Secret {
    /// A file that is there, as the configuration names it.
    File(String),
    /// What was read.
    Given(secrecy::SecretString),
    /// It is filled in later.
    Later,
}

/// Asks for what the flags leave open, writes all files or none, and prints what comes next.
///
/// # Errors
/// One line: a flag is wrong or missing, a file is in the way, the input ended, or nothing can be written.
pub(super) fn run(arguments: &InitArguments, json: bool) -> Result<bool, String> {
    files::nothing_in_the_way(&arguments.dir, &["vestibule.yaml", "policies"])?;
    let mut draft = arguments.draft()?;
    let secret = match &arguments.secret_file {
        Some(from) => Some(arguments.secret(from, &draft)?),
        None => None,
    };
    let asks = io::stdin().is_terminal() && io::stderr().is_terminal() && !arguments.yes && !json;
    let missing: Vec<&str> = draft.missing().map(Field::flag).collect();
    let (secret, asked) = if asks && (!missing.is_empty() || secret.is_none()) {
        let mut dialogue = Dialogue::new(io::stdin().lock(), io::stderr().lock(), hidden::line);
        let secret = dialogue.questions(&mut draft, secret)?;
        (secret, Some(dialogue))
    } else if missing.is_empty() {
        (secret.unwrap_or(Secret::Later), None)
    } else {
        let why = if arguments.yes || json {
            "with `--yes` or `--json` nothing is asked"
        } else {
            "nobody can be asked here: this is no terminal"
        };
        let told = |flag: &&&str| **flag != Field::Kind.flag() || !arguments.allow.is_empty(); // `--allow` may say it
        let missing: Vec<&str> = missing.iter().filter(told).copied().collect();
        return Err(format!("{why}, and flags are missing: {}", missing.join(", ")));
    };
    let plan = Plan::of(&arguments.dir, &draft, &secret)?;
    if let Some(mut dialogue) = asked
        && !dialogue.confirmed(&plan)?
    {
        return Err("nothing is written".to_owned());
    }
    plan.write()?;
    tell(&plan, &draft, &secret, &arguments.dir, json);
    Ok(true)
}

impl InitArguments {
    /// What the flags say, each checked as the configuration would check it.
    fn draft(&self) -> Result<Draft, String> {
        let mut draft = Draft::default();
        let allow = (!self.allow.is_empty()).then(|| self.allow.join(","));
        let kind = self.kind.clone().or_else(|| self.kind_of_groups());
        for field in FIELDS {
            let value = match field {
                Field::PublicUrl => &self.public_url,
                Field::Kind => &kind,
                Field::Issuer => &self.issuer,
                Field::Domain => &self.hosted_domain,
                Field::ClientId => &self.client_id,
                Field::Upstream => &self.upstream,
                Field::Allow => &allow,
            };
            if let Some(value) = value {
                draft.answer(field, value).map_err(|said| format!("{}: {}", field.flag(), said.join(": ")))?;
            }
        }
        Ok(draft)
    }

    /// `--allow gitlab:acme` says that GitLab signs people in.
    fn kind_of_groups(&self) -> Option<String> {
        let mut named = self.allow.iter().filter_map(|who| who.split_once(':')).map(|(provider, _)| provider.trim());
        named.find(|name| matches!(*name, "gitlab" | "okta" | "entra" | "keycloak")).map(str::to_owned)
    }

    /// The secret that `--secret-file` means.
    fn secret(&self, from: &str, draft: &Draft) -> Result<Secret, String> {
        if from == "-" {
            let line = hidden::line(&mut io::stdin().lock(), &mut io::stderr().lock(), "Client secret (not shown): ")?;
            let line = line.ok_or("--secret-file: standard input is empty, expected the client secret on one line")?;
            return ask::usable(&line).map(Secret::Given).map_err(|said| format!("--secret-file: {said}"));
        }
        let wrong = |error: io::Error| format!("--secret-file: {from}: {error}");
        let (path, dir) = (std::path::absolute(from).map_err(wrong)?, std::path::absolute(&self.dir).map_err(wrong)?);
        let path = path.strip_prefix(&dir).unwrap_or(&path).display().to_string();
        draft.secret_file(&path, &dir).map_err(|said| format!("--secret-file: {}", said.join(": ")))?;
        Ok(Secret::File(path))
    }
}

fn tell(plan: &Plan, draft: &Draft, secret: &Secret, dir: &Path, json: bool) {
    let next = guide::next(draft, secret, dir);
    if json {
        let files: Vec<_> = plan.files().map(|file| file.display().to_string()).collect();
        print(&format!("{:#}", json!({ "written": files, "redirect_uri": draft.redirect_uri(), "next": next })));
        return;
    }
    let files: Vec<_> = plan.files().map(|file| format!("  {}", file.display())).collect();
    print(&format!("Written:\n{}\n\nNext:\n{}", files.join("\n"), next.join("\n")));
}
