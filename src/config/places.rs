//! On which line of the file every key stands, for what is found out after the file was read.

use super::tree::Place;
use std::collections::HashMap;

/// The lines of the keys of one configuration, from 1.
#[derive(Clone, Debug, Default)]
pub struct Places(HashMap<String, usize>);

impl Places {
    pub(super) fn new(text: &str, places: &HashMap<String, Place>) -> Self {
        let ends: Vec<usize> = text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at).collect();
        let line = |place: &Place| ends.partition_point(|end| *end < place.key.start) + 1;
        Self(places.iter().map(|(key, place)| (key.clone(), line(place))).collect())
    }

    /// The line of `key`, such as `routes[0].upstream`, or of the nearest key above it that is written.
    pub fn line(&self, key: &str) -> usize {
        let mut path = key;
        loop {
            if let Some(line) = self.0.get(path) {
                return *line;
            }
            if path.is_empty() {
                return 1;
            }
            path = &path[..path.rfind(['.', '[']).unwrap_or(0)];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tree;

    #[test]
    fn a_key_that_is_not_written_is_where_the_one_above_it_is() {
        let text = "a: 1\nb:\n  - c: 2\n    d: { e: 3 }\n";
        let root = tree::parse(text).unwrap_or_else(|broken| panic!("{}", broken.message));
        let places = Places::new(text, &tree::places(&root));
        let lines = ["a", "b", "b[0].c", "b[0].d.e", "b[0].d.x.y", "b[0].z", "x"].map(|key| places.line(key));
        assert_eq!(lines, [1, 2, 3, 4, 4, 3, 1]);
    }
}
