//! Path and query in canonical form.

use std::sync::Arc;

/// Path and query, parsed once. Parsing the text of a target again gives the same target.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Target {
    /// The path: unreserved letters decoded, nothing ambiguous left.
    pub path: Arc<str>,
    /// The path in ASCII lower case, without one trailing slash: many upstreams do not tell these apart.
    pub folded: Arc<str>,
    /// The query without `?`, byte for byte as sent; `None` if there was no `?`.
    pub query: Option<Arc<str>>,
}
