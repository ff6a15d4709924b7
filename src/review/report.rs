//! A difference between two versions of policies, as a reviewer reads it: in a terminal, in a merge request, or as JSON.

use super::{
    diff::{Change, Difference, Right, Texts, Way},
    prove::{Example, Proof},
    served::Setting,
};
use serde_json::{Value, json};
use std::{collections::BTreeSet, fmt::Write as _, sync::Arc};

/// Names that one line shows.
const NAMES: usize = 5;

/// Changes, and names of one change, that a merge request shows.
const SHOWN: usize = 50;

/// How a comment begins, by which the next one finds it.
const MARK: &str = "<!-- vestibule policy diff -->";

/// How one side decides a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ruling {
    /// `permit`, `deny`, `forbid`, `unknown` or `error`; `unread` if the request leads nowhere there.
    pub word: &'static str,
    /// The policies that it rests on.
    pub policies: Vec<Arc<str>>,
}

/// One request of a test that is not decided alike.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Who asks.
    pub who: String,
    /// Method and URL.
    pub request: String,
    /// How it was decided.
    pub before: Ruling,
    /// How it is decided now.
    pub after: Ruling,
}

/// All that is told.
#[derive(Debug)]
pub struct Report<'a> {
    /// Rights and texts.
    pub difference: &'a Difference,
    /// How many are in the population.
    pub population: usize,
    /// Requests of tests that are not decided alike.
    pub samples: &'a [Sample],
    /// How many requests of tests there were.
    pub tried: usize,
    /// What is proved, if that was asked for: or why nothing is.
    pub proof: Option<&'a Result<Proof, String>>,
}

impl Report<'_> {
    /// True if nothing that was asked about differs in what it lets anybody do, and all that was asked has an answer.
    pub fn is_equal(&self) -> bool {
        let answered = match self.proof {
            Some(Ok(proof)) => proof.is_whole(),
            Some(Err(_)) => false,
            None => !self.difference.is_open(),
        };
        self.difference.is_nothing() && self.samples.is_empty() && answered
    }

    /// True if it is shown for everybody that nothing differs.
    fn is_proved(&self) -> bool {
        self.proof.is_some_and(|proof| proof.as_ref().is_ok_and(Proof::is_whole))
    }

    /// For a terminal.
    pub fn text(&self) -> String {
        let mut lines: Vec<String> = self.difference.changes.iter().flat_map(told).collect();
        lines.extend(self.difference.settings.iter().map(|setting| format!("config  {setting}")));
        lines.extend(self.samples.iter().map(|Sample { who, request, before, after }| {
            format!("request {request} as {who}: {} → {}", ruling(before), ruling(after))
        }));
        lines.extend(self.proof.into_iter().flat_map(proved));
        lines.extend(self.notes());
        lines.iter().map(|line| printable(line) + "\n").collect()
    }

    /// Lines that stand below the changes.
    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let Texts { added, removed, changed } = &self.difference.texts;
        let told = [("added", added), ("removed", removed), ("changed", changed)];
        let told = told.into_iter().filter(|(_, ids)| !ids.is_empty());
        let told: Vec<_> = told.map(|(word, ids)| format!("{} {word} ({})", ids.len(), cut(ids, NAMES))).collect();
        if !told.is_empty() {
            notes.push(format!("policies: {}", told.join(", ")));
        }
        if self.tried > 0 {
            notes.push(format!("requests of tests: {} of {} are decided otherwise", self.samples.len(), self.tried));
        }
        let Difference { strangers, untold, unmet, .. } = self.difference;
        if !strangers.is_empty() {
            notes.push(format!(
                "warning: nobody in the population is in {}, so that no line tells who gains there",
                cut(strangers, NAMES)
            ));
        }
        if !untold.is_empty() && !self.is_proved() {
            notes.push(format!(
                "warning: nobody in the population shows what {} changes, so that no line tells who gains or loses by it",
                cut(untold, NAMES)
            ));
        }
        if (!untold.is_empty() || !unmet.is_empty()) && self.proof.is_none() {
            notes.push(
                "warning: not all can be told: take a population that has them, or ask with `--prove`".to_owned(),
            );
        }
        notes.push(format!("{}, over {}", self.tally(), count(self.population, "principal", "principals")));
        notes
    }

    /// `2 gains, 1 change, 1 loss`.
    fn tally(&self) -> String {
        let of = |way| self.difference.changes.iter().filter(|change| change.way == way).count();
        let words = [(Way::Gain, "gain", "gains"), (Way::Change, "change", "changes"), (Way::Loss, "loss", "losses")];
        let told = words.into_iter().map(|(way, one, more)| count(of(way), one, more)).collect::<Vec<_>>();
        let told = match (self.difference.changes.is_empty(), self.difference.is_open() && !self.is_proved()) {
            (false, _) => told.join(", "),
            (true, false) => "no right differs".to_owned(),
            (true, true) => "no right of the population differs".to_owned(),
        };
        match self.difference.settings.len() {
            0 => told,
            number => format!("{told}, {} otherwise", count(number, "setting", "settings")),
        }
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let Texts { added, removed, changed } = &self.difference.texts;
        json!({
            "equal": self.is_equal(),
            "population": self.population,
            "changes": self.difference.changes.iter().map(change_json).collect::<Vec<_>>(),
            "policies": { "added": added, "removed": removed, "changed": changed },
            "requests": { "tried": self.tried, "different": self.samples.iter().map(sample_json).collect::<Vec<_>>() },
            "settings": self.difference.settings.iter().map(Setting::json).collect::<Vec<_>>(),
            "groups_without_members": self.difference.strangers,
            "policies_about_nobody": self.difference.untold,
            "proof": self.proof.map(proof_json),
        })
    }

    /// For a merge request. What others wrote stands in `<code>`, where nothing in it mentions anybody, links, or orders.
    pub fn markdown(&self) -> String {
        let mut text = format!("{MARK}\n<b>{}</b>\n", escaped(&format!("Policies: {}", self.tally())));
        for change in self.difference.changes.iter().take(SHOWN) {
            let (way, actions) = (change.way.as_str(), code(&change.actions.to_string()));
            let _ = write!(text, "<details><summary><b>{way}</b> {actions} on {}: ", code(&routes(change)));
            let _ = writeln!(text, "{}</summary>", code(&whom(change)));
            let _ = writeln!(text, "<ul>");
            for line in conditions(&change.before, &change.after) {
                let _ = writeln!(text, "<li>{}</li>", code(&line));
            }
            for line in causes(change) {
                let _ = writeln!(text, "<li>{}</li>", code(&line));
            }
            let _ = writeln!(text, "<li>{}</li>\n</ul></details>", code(&names(change, SHOWN)));
        }
        if let Some(more) = self.difference.changes.len().checked_sub(SHOWN).filter(|more| *more > 0) {
            let _ = writeln!(text, "<p>and {} that are not shown here</p>", count(more, "change", "changes"));
        }
        for setting in &self.difference.settings {
            let _ = writeln!(text, "<p><b>config</b> {}</p>", code(&setting.to_string()));
        }
        if !self.samples.is_empty() {
            let _ = writeln!(text, "<details><summary>Requests of tests that are decided otherwise</summary>\n<ul>");
            for Sample { who, request, before, after } in self.samples.iter().take(SHOWN) {
                let (before, after) = (code(&ruling(before)), code(&ruling(after)));
                let _ = writeln!(text, "<li>{} as {}: {before} → {after}</li>", code(request), code(who));
            }
            let _ = writeln!(text, "</ul></details>");
        }
        if let Some(proof) = self.proof {
            let _ = writeln!(
                text,
                "<details><summary>Proof</summary>\n<pre>{}</pre></details>",
                escaped(&proved(proof).join("\n"))
            );
        }
        let notes: Vec<_> = self.notes().iter().map(|note| code(note)).collect();
        text + &format!("<p>{}</p>\n", notes.join("<br>\n"))
    }
}

/// One change, on several lines.
fn told(change: &Change) -> Vec<String> {
    let names = names(change, NAMES);
    let whom = match &own(change)[..] {
        "" => anybody(change),
        own if *own == names => with_anybody(change, names),
        own => with_anybody(change, format!("{own}: {names}")),
    };
    let mut lines = vec![format!("{:<7} {} on {}: {whom}", change.way.as_str(), change.actions, routes(change))];
    lines.extend(conditions(&change.before, &change.after).iter().map(|line| format!("        {line}")));
    lines.extend(causes(change).iter().map(|line| format!("        {line}")));
    lines
}

/// Whom a change concerns, without names: `all 3 of acme/platform, and anybody of gitlab`.
fn whom(change: &Change) -> String {
    match own(change) {
        own if own.is_empty() => anybody(change),
        own => with_anybody(change, own),
    }
}

fn with_anybody(change: &Change, own: String) -> String {
    if change.anybody.is_empty() { own } else { format!("{own}, and {}", anybody(change)) }
}

fn anybody(change: &Change) -> String {
    cut(&change.anybody, NAMES)
}

/// Whom of the population a change concerns.
fn own(change: &Change) -> String {
    let (all, people) = (change.names.len(), change.people);
    match (&change.group, &change.names[..]) {
        (_, []) => String::new(),
        (_, [only]) => only.clone(),
        (Some((group, true)), _) => format!("all {all} of {group}"),
        (Some((group, false)), _) => format!("{all} people of {group}"),
        (None, _) if all == people => format!("{all} people"),
        (None, _) if people == 0 => format!("{all} jobs, services or strangers"),
        (None, _) => format!("{} and {}", count(people, "person", "people"), count(all - people, "other", "others")),
    }
}

fn names(change: &Change, most: usize) -> String {
    cut(&change.names, most)
}

fn routes(change: &Change) -> String {
    cut(&change.routes.iter().map(ToString::to_string).collect::<Vec<_>>(), NAMES)
}

/// By which policies, a line for those that permit and one for those that forbid.
fn causes(change: &Change) -> Vec<String> {
    let of = |forbids: bool| change.policies.iter().filter(move |it| it.forbids == forbids).map(|it| it.id.clone());
    let [permits, forbids] = [false, true].map(|forbids| cut(&Vec::from_iter(of(forbids)), NAMES));
    let way = match change.way {
        Way::Gain => "no longer forbidden by",
        Way::Change => "forbidden otherwise by",
        Way::Loss => "forbidden by",
    };
    let told = [("by", permits), (way, forbids)].into_iter().filter(|(_, ids)| !ids.is_empty());
    let told: Vec<_> = told.map(|(word, ids)| format!("{word} {ids}")).collect();
    if told.is_empty() {
        vec!["by the configuration of the route, or by groups that nobody knows".to_owned()]
    } else {
        told
    }
}

/// The first of them, and how many more there are.
fn cut<T: AsRef<str>>(all: &[T], most: usize) -> String {
    let shown: Vec<_> = all.iter().take(most).map(AsRef::as_ref).collect();
    let more = all.len() - shown.len();
    let shown = shown.join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

fn count(number: usize, one: &str, more: &str) -> String {
    crate::text::counted(number as u64, one, more)
}

/// In which conditions two rights differ, a line each; no line where there is nothing but a right that was not there before, or
/// is not any more, without a condition.
fn conditions(before: &Right, after: &Right) -> Vec<String> {
    let mut lines = Vec::new();
    match (before.is_nothing(), after.is_nothing()) {
        (true, _) | (_, true) => {
            let right = if before.is_nothing() { after } else { before };
            lines.extend(right.permits.iter().filter(|it| !it.is_empty()).map(ToString::to_string));
            lines.extend(right.forbids.iter().map(|it| format!("but forbidden {}", spoken(it))));
        }
        (false, false) => {
            lines.extend(moved(&before.permits, &after.permits, ["also", "no longer", ""]));
            lines.extend(moved(
                &before.forbids,
                &after.forbids,
                ["forbidden now", "no longer forbidden", "forbidden "],
            ));
        }
    }
    lines
}

fn moved(before: &BTreeSet<Arc<str>>, after: &BTreeSet<Arc<str>>, words: [&str; 3]) -> Option<String> {
    let told = |own: &BTreeSet<Arc<str>>, other: &BTreeSet<Arc<str>>| {
        own.difference(other).map(|it| spoken(it)).collect::<Vec<_>>().join(" or ")
    };
    let (gone, new) = (told(before, after), told(after, before));
    let [also, no_longer, both] = words;
    match (gone.is_empty(), new.is_empty()) {
        (true, true) => None,
        (true, false) => Some(format!("{also} {new}")),
        (false, true) => Some(format!("{no_longer} {gone}")),
        (false, false) => Some(format!("{both}{gone} → {new}")),
    }
}

/// A condition as part of a sentence.
fn spoken(condition: &str) -> String {
    match condition.strip_prefix("unless ") {
        _ if condition.is_empty() => "always".to_owned(),
        Some(but) if !but.contains(" unless {") && !but.contains(" when {") => format!("outside {but}"),
        Some(_) | None => condition.to_owned(),
    }
}

fn ruling(ruling: &Ruling) -> String {
    match &ruling.policies[..] {
        [] => ruling.word.to_owned(),
        policies => format!("{} by {}", ruling.word, cut(policies, NAMES)),
    }
}

fn proved(proof: &Result<Proof, String>) -> Vec<String> {
    let proof = match proof {
        Ok(proof) => proof,
        Err(message) => return vec![format!("proof: none: {message}")],
    };
    let mut lines = Vec::new();
    for environment in &proof.environments {
        let (principal, actions, verdict) = (environment.principal, environment.actions, &environment.verdict);
        lines.push(format!("proof   {principal}, {actions}: {}", verdict.as_str()));
        let (looser, stricter) = verdict.examples();
        for (word, example) in [("permitted only after", looser), ("permitted only before", stricter)] {
            let Some(example) = example else { continue };
            lines.push(format!("        {word}, such as:"));
            lines.extend(example.lines().iter().map(|line| format!("          {line}")));
        }
        lines.extend(verdict.reasons().iter().map(|reason| format!("        {reason}")));
    }
    lines
}

fn change_json(change: &Change) -> Value {
    let right = |right: &Right| json!({ "permits": right.permits, "forbids": right.forbids });
    json!({
        "way": change.way.as_str(),
        "routes": change.routes.iter().map(|route| route.as_str()).collect::<Vec<_>>(),
        "actions": change.actions.names(),
        "before": right(&change.before),
        "after": right(&change.after),
        "policies": change.policies.iter().map(|it| &it.id).collect::<BTreeSet<_>>(),
        "principals": change.names,
        "anybody": change.anybody,
        "group": change.group.as_ref().map(|(group, _)| group),
        "whole_group": change.group.as_ref().map(|(_, whole)| whole),
    })
}

fn sample_json(sample: &Sample) -> Value {
    let ruling = |ruling: &Ruling| json!({ "decision": ruling.word, "policies": ruling.policies });
    json!({
        "request": sample.request,
        "as": sample.who,
        "before": ruling(&sample.before),
        "after": ruling(&sample.after),
    })
}

fn proof_json(proof: &Result<Proof, String>) -> Value {
    let proof = match proof {
        Ok(proof) => proof,
        Err(message) => return json!({ "error": message }),
    };
    let example = |example: Option<&Example>| example.map(Example::json);
    let environment = |it: &super::prove::Environment| {
        let (looser, stricter) = it.verdict.examples();
        json!({
            "principal": it.principal,
            "actions": it.actions.names(),
            "verdict": it.verdict.as_str(),
            "why": it.verdict.reasons(),
            "permitted_only_after": example(looser),
            "permitted_only_before": example(stricter),
        })
    };
    json!({ "environments": proof.environments.iter().map(environment).collect::<Vec<_>>() })
}

/// What others wrote cannot act on a terminal, begin a line, nor change the order of letters.
fn printable(line: &str) -> String {
    line.chars().map(|letter| if is_odd(letter) { '?' } else { letter }).collect()
}

fn is_odd(letter: char) -> bool {
    letter.is_control() || matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Every sign that Markdown or HTML could take for its own, by its number.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for letter in text.chars() {
        match letter {
            '\n' => escaped.push('\n'),
            letter if is_odd(letter) => escaped.push('?'),
            ' ' | ',' => escaped.push(letter),
            letter if letter.is_ascii_punctuation() => {
                let _ = write!(escaped, "&#{};", u32::from(letter));
            }
            letter => escaped.push(letter),
        }
    }
    escaped
}

fn code(text: &str) -> String {
    format!("<code>{}</code>", escaped(&text.replace('\n', " ")))
}
