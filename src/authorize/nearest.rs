//! The nearest of some known words, for messages about words that nobody knows.

use crate::text::distance;
use std::cmp::min;

/// The word of `known` that differs from `word` by the fewest edits, if by few enough to be meant. Upper and lower case count only
/// where nothing else tells two of them apart.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (word.chars().count() / 3).clamp(1, 3);
    let edits = |candidate: &str| {
        let exact = distance(word, candidate);
        (min(exact, distance(&word.to_lowercase(), &candidate.to_lowercase())), exact)
    };
    known
        .into_iter()
        .map(|candidate| (edits(candidate), candidate))
        .filter(|((edits, _), _)| *edits <= allowed)
        .min()
        .map(|(_, candidate)| candidate)
}

/// `did you mean …?` where a known word is near, else what is known; empty where nothing is.
pub(super) fn hint<'a>(word: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> String {
    if let Some(near) = nearest(word, known.clone()) {
        return format!("did you mean `{near}`?");
    }
    let all: Vec<_> = known.into_iter().take(8).map(|name| format!("`{name}`")).collect();
    if all.is_empty() { String::new() } else { format!("expected one of {}", all.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_word_that_was_meant() {
        assert_eq!(nearest("portl", ["api", "portal"]), Some("portal"));
        assert_eq!(nearest("github", ["okta", "gitlab"]), Some("gitlab"));
        assert_eq!(nearest("x", ["okta", "gitlab"]), None);
        assert_eq!(nearest("get", ["PUT", "GET"]), Some("GET"));
        assert_eq!(nearest("GTE", ["PUT", "GET"]), Some("GET"));
        assert_eq!(nearest("Portal", ["PORTAL", "portal"]), Some("portal"));
    }
}
