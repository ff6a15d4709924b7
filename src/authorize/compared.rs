//! What the conditions of a policy compare with texts that are written out.

use super::words::Attribute;
use cedar_policy::{
    Policy,
    pst::{BinaryOp, Clause, Expr, Literal, PatternElem, UnaryOp, Var},
};
use std::sync::Arc;

/// What is compared.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Subject {
    /// An attribute of the context.
    Context(Attribute),
    /// A declared field of the body.
    Body(Arc<str>),
    /// A label of the route.
    Label(Arc<str>),
    /// The provider of the person who asks, or who is behind a job.
    Provider,
}

/// One comparison with a text or a pattern.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Compared {
    pub(super) subject: Subject,
    pub(super) pattern: Vec<PatternElem>,
    /// It is a pattern, in which `*` stands for any text.
    pub(super) is_like: bool,
    /// That it fits makes the policy apply to more; `None` where that depends.
    pub(super) widens: Option<bool>,
}

/// Two texts of which one thing would have to be both.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Contradiction {
    pub(super) subject: Subject,
    pub(super) texts: [String; 2],
}

/// Everything that a policy compares with texts.
#[derive(Clone, Debug, Default)]
pub(super) struct Comparisons {
    pub(super) all: Vec<Compared>,
    pub(super) contradictions: Vec<Contradiction>,
}

impl Comparisons {
    /// Those of one policy; none where its syntax is beyond what the schema allows.
    pub(super) fn of(policy: &Policy) -> Self {
        let mut found = Self::default();
        let Ok(policy) = policy.to_pst() else { return found };
        let mut together = Vec::new();
        for clause in policy.body().clauses() {
            match clause {
                Clause::When(expr) => {
                    found.walk(expr, Some(true));
                    parts(expr, BinaryOp::And, &mut together);
                }
                Clause::Unless(expr) => found.walk(expr, Some(false)),
            }
        }
        found.contradict(&together);
        found
    }

    fn walk(&mut self, expr: &Expr, widens: Option<bool>) {
        match expr {
            Expr::Like { expr, pattern } => {
                if let Some(subject) = subject(expr) {
                    self.all.push(Compared { subject, pattern: pattern.clone(), is_like: true, widens });
                }
                self.walk(expr, None);
            }
            Expr::UnaryOp { op, expr } => {
                self.walk(expr, widens.filter(|_| *op == UnaryOp::Not).map(|widens| !widens));
            }
            Expr::BinaryOp { op, left, right } => self.pair(*op, [left, right], widens),
            Expr::IfThenElse { cond, then_expr, else_expr } => {
                self.walk(cond, None);
                self.walk(then_expr, widens);
                self.walk(else_expr, widens);
            }
            Expr::GetAttr { expr, .. } | Expr::HasAttr { expr, .. } => self.walk(expr, None),
            Expr::Is { expr, in_expr, .. } => std::iter::once(expr).chain(in_expr).for_each(|it| self.walk(it, None)),
            Expr::Set(items) => items.iter().for_each(|item| self.walk(item, None)),
            Expr::Record(fields) => fields.values().for_each(|field| self.walk(field, None)),
            _ => {}
        }
    }

    fn pair(&mut self, op: BinaryOp, sides: [&Arc<Expr>; 2], widens: Option<bool>) {
        let [left, right] = sides;
        if matches!(op, BinaryOp::And | BinaryOp::Or) {
            return sides.into_iter().for_each(|side| self.walk(side, widens));
        }
        let fits = if op == BinaryOp::NotEq { widens.map(|widens| !widens) } else { widens };
        self.texts(left, right, fits);
        self.texts(right, left, fits);
        sides.into_iter().for_each(|side| self.walk(side, None));
    }

    /// Notes the texts among `other`.
    fn texts(&mut self, what: &Expr, other: &Expr, widens: Option<bool>) {
        match other {
            Expr::Literal(Literal::String(text)) => {
                let pattern = text.chars().map(PatternElem::Char).collect();
                let compared = |subject| Compared { subject, pattern, is_like: false, widens };
                self.all.extend(subject(what).map(compared));
            }
            Expr::Set(items) => items.iter().for_each(|item| self.texts(what, item, widens)),
            _ => {}
        }
    }

    /// Notes what conditions that hold together say of one thing, and cannot both be.
    fn contradict(&mut self, together: &[Arc<Expr>]) {
        let said: Vec<Compared> = together.iter().filter_map(|part| whole(part)).collect();
        for (place, one) in said.iter().enumerate().filter(|(_, one)| !one.is_like) {
            let text = one.text();
            let other = said.iter().enumerate().find(|(at, other)| {
                *at != place && (other.is_like || *at > place) && other.subject == one.subject && !other.fits(&text)
            });
            if let Some((_, other)) = other {
                let subject = one.subject.clone();
                self.contradictions.push(Contradiction { subject, texts: [text, other.text()] });
            }
        }
    }
}

impl Compared {
    /// The text or pattern as policies write it, without its quotes; a star that stands for itself has a backslash.
    pub(super) fn text(&self) -> String {
        let letter = |part: &PatternElem| match part {
            PatternElem::Char('*') if self.is_like => "\\*".to_owned(),
            PatternElem::Char(letter) => letter.to_string(),
            PatternElem::Wildcard => "*".to_owned(),
        };
        self.pattern.iter().map(letter).collect()
    }

    /// Whether a text is what is asked for.
    pub(super) fn fits(&self, text: &str) -> bool {
        fits(&self.pattern, text)
    }

    /// What stands before a star at the end, if that is the only one.
    pub(super) fn beginning(&self) -> Option<String> {
        let (PatternElem::Wildcard, before) = self.pattern.split_last()? else { return None };
        let letter = |part: &PatternElem| match part {
            PatternElem::Char(letter) => Some(*letter),
            PatternElem::Wildcard => None,
        };
        before.iter().map(letter).collect()
    }
}

/// Whether a text is like a pattern. Where it is not, only the last star before is tried with more: what an earlier one takes could
/// not help.
fn fits(pattern: &[PatternElem], text: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    let (mut place, mut at, mut star) = (0, 0, None);
    while at < text.len() {
        match pattern.get(place) {
            Some(PatternElem::Wildcard) => {
                place += 1;
                star = Some((place, at));
            }
            Some(PatternElem::Char(letter)) if *letter == text[at] => (place, at) = (place + 1, at + 1),
            _ => {
                let Some((behind, taken)) = star else { return false };
                (place, at) = (behind, taken + 1);
                star = Some((behind, taken + 1));
            }
        }
    }
    pattern[place..].iter().all(|part| matches!(part, PatternElem::Wildcard))
}

/// The comparison that a condition is, if it is nothing else.
fn whole(condition: &Expr) -> Option<Compared> {
    let mut found = Comparisons::default();
    match condition {
        Expr::Like { .. } => found.walk(condition, Some(true)),
        Expr::BinaryOp { op: BinaryOp::Eq, left, right } => {
            found.texts(left, right, Some(true));
            found.texts(right, left, Some(true));
        }
        _ => {}
    }
    let [only] = <[Compared; 1]>::try_from(found.all).ok()?;
    Some(only)
}

/// The conditions that `by` joins.
pub(super) fn parts(expr: &Arc<Expr>, by: BinaryOp, into: &mut Vec<Arc<Expr>>) {
    match &**expr {
        Expr::BinaryOp { op, left, right } if *op == by => {
            parts(left, by, into);
            parts(right, by, into);
        }
        _ => into.push(expr.clone()),
    }
}

fn subject(expr: &Expr) -> Option<Subject> {
    let Expr::GetAttr { expr, attr } = expr else { return None };
    match &**expr {
        Expr::Var(Var::Context) => {
            let known = Attribute::ALL.into_iter().find(|attribute| *attr == attribute.as_str());
            known.map(Subject::Context)
        }
        Expr::Var(Var::Resource) => Some(Subject::Label(attr.as_str().into())),
        Expr::GetAttr { expr, attr: body } if **expr == Expr::Var(Var::Context) => {
            (*body == Attribute::Body.as_str()).then(|| Subject::Body(attr.as_str().into()))
        }
        _ => (*attr == "provider").then_some(Subject::Provider),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(conditions: &str) -> Comparisons {
        let text = format!("permit (principal, action, resource) {conditions};");
        Comparisons::of(&Policy::parse(None, text).expect("the policy parses"))
    }

    /// What is merged by others is looked at when it is loaded: it costs no more than its length, and no stack.
    #[test]
    fn patterns_are_compared_in_the_time_of_their_length() {
        let stars = |text: &str| -> Vec<PatternElem> {
            text.chars().map(|c| if c == '*' { PatternElem::Wildcard } else { PatternElem::Char(c) }).collect()
        };
        for (pattern, text, expected) in [
            ("", "", true),
            ("*", "", true),
            ("a*b*c", "aXbbYc", true),
            ("a*b*c", "aXcYb", false),
            ("*ab", "aab", true),
            ("/x/*", "/x", false),
            ("a", "ab", false),
            ("**a**", "ba", true),
        ] {
            assert_eq!(fits(&stars(pattern), text), expected, "{pattern} {text}");
        }
        assert!(!fits(&stars(&("/".to_owned() + &"*a".repeat(40) + "b")), &("/".to_owned() + &"a".repeat(4_000))));
        let long = "a".repeat(500_000);
        assert!(fits(&stars(&format!("{long}*")), &long));
    }

    #[test]
    fn texts_are_found_wherever_they_stand() {
        let found = found(
            r#"when { context.path like "/a\*/*" && !(context.class == "grpc" || "x" != resource.tier) }
               unless { ["a", "b"].contains(context.body.user) || principal.user.provider == "gitlab" }"#,
        );
        let told: Vec<_> = found.all.iter().map(|it| (it.text(), it.widens)).collect();
        let expected = [("/a\\*/*", true), ("grpc", false), ("x", true), ("a", false), ("b", false), ("gitlab", false)];
        assert_eq!(told, expected.map(|(text, widens)| (text.to_owned(), Some(widens))));
        assert_eq!(found.all[3].subject, Subject::Body("user".into()));
    }

    #[test]
    fn what_cannot_be_both_is_found() {
        for (conditions, contradicts) in [
            (r#"when { context.path == "/a" && context.path == "/b" }"#, true),
            (r#"when { context.path == "/a" } when { "/b" == context.path }"#, true),
            (r#"when { context.path like "/b/*" && context.path == "/a" }"#, true),
            (r#"when { context.path == "/a" || context.path == "/b" }"#, false),
            (r#"when { context.path == "/a" && context.path like "/*" }"#, false),
            (r#"when { context.path == "/a" && context.path_folded == "/b" }"#, false),
            (r#"unless { context.path == "/a" } unless { context.path == "/b" }"#, false),
        ] {
            assert_eq!(!found(conditions).contradictions.is_empty(), contradicts, "{conditions}");
        }
    }

    #[test]
    fn a_pattern_fits_as_cedar_says() {
        let like = |pattern: &str| found(&format!("when {{ context.path like \"{pattern}\" }}")).all[0].clone();
        for (pattern, text, fits) in [
            ("/a/*", "/a/", true),
            ("/a/*", "/a", false),
            ("*/a*c", "/a/a/c", true),
            ("*/a*c", "/b/c", false),
            ("", "", true),
            ("*", "", true),
            (r"/\*", "/*", true),
            (r"/\*", "/x", false),
        ] {
            assert_eq!(like(pattern).fits(text), fits, "{pattern} {text}");
        }
        assert_eq!(like("/a/*").beginning().as_deref(), Some("/a/"));
        assert_eq!(like("/a/*/b*").beginning(), None);
    }
}
