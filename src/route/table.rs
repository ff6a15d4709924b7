//! All routes of one configuration, found by host and path. A look-up costs the same with any number of routes.

use super::{Destination, Endpoint, Redaction, Route, endpoint};
use crate::{
    canonical::{Canonical, Host, Target},
    principal::{Name, StepUp},
    refusal::{Reason, Refusal},
};
use std::{collections::HashMap, sync::Arc};

/// All routes of one configuration.
#[derive(Debug, Default)]
pub struct Routes {
    routes: Vec<Arc<Route>>,
    hosts: HashMap<Host, Paths>,
    public_host: Option<Host>,
    providers: Vec<Name>,
    redact: Option<Arc<Redaction>>,
}

/// The routes of one host, as positions in [`Routes::routes`]. Keys are paths without the slash at their end.
#[derive(Debug, Default)]
struct Paths {
    /// By path.
    sent: HashMap<Box<str>, usize>,
    /// By path in lower case.
    folded: HashMap<Box<str>, usize>,
    /// The most segments of a key.
    depth: usize,
    /// Origins whose pages may show one of these routes in a frame.
    frame: Vec<String>,
}

impl Routes {
    /// Sorts `routes` for look-up. `public_host` is the host of `public_url`; `providers` are all that people can sign in with.
    ///
    /// Of two routes with one host and path the first one counts; the configuration has refused them before.
    pub fn new(public_host: Host, routes: Vec<Arc<Route>>, providers: Vec<Name>) -> Self {
        let mut hosts: HashMap<Host, Paths> = HashMap::new();
        hosts.entry(public_host.clone()).or_default();
        for (position, route) in routes.iter().enumerate() {
            let paths = hosts.entry(route.host.clone()).or_default();
            paths.add(&route.path, position);
            paths.frame.extend(route.frame.iter().cloned());
        }
        let redact = Redaction::all(routes.iter().filter_map(|route| route.redact.as_ref()));
        Self { routes, hosts, public_host: Some(public_host), providers, redact }
    }

    /// What any route keeps out of paths: for a request of which nobody knows yet which route has it.
    pub fn redact(&self) -> Option<&Arc<Redaction>> {
        self.redact.as_ref()
    }

    /// All routes, in the order of the configuration.
    pub fn all(&self) -> &[Arc<Route>] {
        &self.routes
    }

    /// True for the host of `public_url`, where people sign in.
    pub fn is_public(&self, host: &Host) -> bool {
        self.public_host.as_ref() == Some(host)
    }

    /// True for the host of any route, and for that of `public_url`.
    pub fn serves(&self, host: &Host) -> bool {
        self.hosts.contains_key(host)
    }

    /// Origins whose pages may show pages of this host in a frame.
    pub fn frame(&self, host: &Host) -> &[String] {
        self.hosts.get(host).map_or(&[], |paths| &paths.frame)
    }

    /// The routes of a host.
    pub fn of(&self, host: &Host) -> impl Iterator<Item = &Arc<Route>> {
        let positions = self.hosts.get(host).into_iter().flat_map(|paths| paths.sent.values());
        positions.map(|position| &self.routes[*position])
    }

    /// Whose people the page at `target` is for; none if no route has it.
    pub fn providers_at(&self, host: &Host, target: &Target) -> &[Name] {
        let route = self.hosts.get(host).and_then(|paths| self.select(paths, target).ok());
        route.map_or(&[], |route| &route.providers)
    }

    /// What a sign-in for the page at `target` has to be.
    pub fn step_up_at(&self, host: &Host, target: &Target) -> Option<&Arc<StepUp>> {
        let route = self.hosts.get(host).and_then(|paths| self.select(paths, target).ok());
        route.and_then(|route| route.step_up.as_ref())
    }

    /// Where this request goes.
    ///
    /// # Errors
    /// `UnknownHost`, `NotFound`, or `BadRequest` where the path as sent and the folded path select different routes, or
    /// where the path has a `%2F` or `;` that the route does not take.
    pub fn find(&self, asked: &Canonical) -> Result<Destination<'_>, Refusal> {
        let Some(paths) = self.hosts.get(&asked.host) else {
            if let Some(asset @ Endpoint::Asset(_)) = Endpoint::at(&asked.target.path, false, &[]) {
                return Ok(Destination::Endpoint(asset)); // the page that says so needs its style
            }
            return Err(Refusal::new(Reason::UnknownHost, "Nothing is served under this host name."));
        };
        let target = &asked.target;
        if endpoint::is_reserved(&target.folded) {
            let public = self.public_host.as_ref() == Some(&asked.host);
            let endpoint = Endpoint::at(&target.path, public, &self.providers);
            return endpoint.map(Destination::Endpoint).ok_or_else(not_found);
        }
        if target.path.starts_with(endpoint::METADATA)
            && let Some(route) = self.of(&asked.host).find(|route| route.describes(&target.path))
        {
            return Ok(Destination::Endpoint(Endpoint::Resource(route.index)));
        }
        let route = self.select(paths, target)?;
        if target.reserved && !route.encoded_slash {
            return Err(Refusal::new(Reason::BadRequest, "The path has `%2F` or `;`, which this route does not take."));
        }
        Ok(Destination::Upstream(route))
    }

    /// The most specific route. An upstream may or may not tell upper from lower case, so both readings have to agree.
    fn select(&self, paths: &Paths, target: &Target) -> Result<&Arc<Route>, Refusal> {
        let by_path = paths.longest(&paths.sent, &target.path, |position, prefix| {
            !self.routes[position].exact || prefix.is_empty() || prefix.len() < target.path.len()
        });
        let by_folded = paths.longest(&paths.folded, &target.folded, |_, _| true);
        match (by_path.map(|at| &self.routes[at]), by_folded.map(|at| &self.routes[at])) {
            (Some(route), Some(folded)) if route.path.eq_ignore_ascii_case(&folded.path) => Ok(route),
            (None, Some(folded)) if !folded.exact => Ok(folded),
            (None, _) => Err(not_found()),
            (Some(_), _) => Err(Refusal::new(
                Reason::BadRequest,
                "The path selects one route as sent, and another in lower case or without a slash at its end.",
            )),
        }
    }
}

fn not_found() -> Refusal {
    Refusal::new(Reason::NotFound, "Nothing is served at this path.")
}

impl Paths {
    fn add(&mut self, path: &str, position: usize) {
        let key = path.strip_suffix('/').unwrap_or(path);
        self.depth = self.depth.max(key.matches('/').count());
        self.sent.entry(key.into()).or_insert(position);
        self.folded.entry(key.to_ascii_lowercase().into()).or_insert(position);
    }

    /// The position of the longest prefix of `path` that is a key of `map` and that `accepts` takes.
    fn longest(
        &self,
        map: &HashMap<Box<str>, usize>,
        path: &str,
        accepts: impl Fn(usize, &str) -> bool,
    ) -> Option<usize> {
        prefixes(path, self.depth)
            .find_map(|prefix| map.get(prefix).copied().filter(|position| accepts(*position, prefix)))
    }
}

/// The prefixes of `path` that end at the border of a segment, the longest first: for `/a/b/c` and depth 2 these are `/a/b`,
/// `/a` and the empty one.
fn prefixes(path: &str, depth: usize) -> impl Iterator<Item = &str> {
    let end = path.match_indices('/').nth(depth).map_or(path.len(), |(at, _)| at);
    std::iter::successors(Some(&path[..end]), |prefix| prefix.rfind('/').map(|at| &prefix[..at]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canonical::testing;
    use proptest::prelude::*;

    /// `host/path`, with `=` in front for `paths: exact` and `%` for `encoded_slash`.
    fn route(index: usize, text: &str) -> Arc<Route> {
        let (exact, rest) = text.strip_prefix('=').map_or((false, text), |rest| (true, rest));
        let (encoded_slash, rest) = rest.strip_prefix('%').map_or((false, rest), |rest| (true, rest));
        let (host, path) = rest.split_at(rest.find('/').expect("a path"));
        let (host, path) = (host.parse().expect("a host"), path.into());
        Arc::new(Route {
            index,
            host,
            path,
            exact,
            encoded_slash,
            ..crate::route::testing::route(&format!("r{index}"))
        })
    }

    fn routes<T: AsRef<str>>(texts: &[T]) -> Routes {
        let routes = texts.iter().enumerate().map(|(index, text)| route(index, text.as_ref())).collect();
        let providers = vec!["gitlab".parse().expect("a name")];
        Routes::new("portal.example.com".parse().expect("a host"), routes, providers)
    }

    fn found(routes: &Routes, host: &str, target: &str) -> Result<String, Reason> {
        let asked = testing::try_parse(testing::https("GET", host, target)).map_err(|refusal| refusal.reason)?;
        match routes.find(&asked).map_err(|refusal| refusal.reason)? {
            Destination::Endpoint(endpoint) => Ok(format!("{endpoint:?}")),
            Destination::Upstream(route) => Ok(format!("{}{}", route.host, route.path)),
        }
    }

    #[test]
    fn s29_prefixes_end_at_the_border_of_a_segment() {
        let routes = routes(&["a.test/public/", "a.test/public/deep/er/", "b.test/"]);
        for (target, expected) in [
            ("/public", Ok("a.test/public/")),
            ("/public/", Ok("a.test/public/")),
            ("/public/x", Ok("a.test/public/")),
            ("/public/deep", Ok("a.test/public/")),
            ("/public/deep/er", Ok("a.test/public/deep/er/")),
            ("/public/deep/er/x/y/z", Ok("a.test/public/deep/er/")),
            ("/public/deep/erx", Ok("a.test/public/")),
            ("/%70ublic/x", Ok("a.test/public/")),
            ("/PUBLIC/x", Ok("a.test/public/")),
            ("/publicx", Err(Reason::NotFound)),
            ("/publi", Err(Reason::NotFound)),
            ("/", Err(Reason::NotFound)),
            ("/x/public/", Err(Reason::NotFound)),
            ("/x?/public/", Err(Reason::NotFound)),
            ("/public%2Fx", Err(Reason::NotFound)),
            ("/public;x", Err(Reason::NotFound)),
        ] {
            assert_eq!(found(&routes, "a.test", target), expected.map(str::to_owned), "{target}");
        }
        assert_eq!(found(&routes, "b.test", "/public/x").as_deref(), Ok("b.test/"));
    }

    #[test]
    fn where_case_would_choose_another_route_nobody_is_served() {
        let routes = routes(&["a.test/", "a.test/api/", "a.test/Docs/"]);
        for (target, expected) in [
            ("/api/x", Ok("a.test/api/")),
            ("/API", Err(Reason::BadRequest)),
            ("/Api/x", Err(Reason::BadRequest)),
            ("/Docs/x", Ok("a.test/Docs/")),
            ("/docs/x", Err(Reason::BadRequest)),
            ("/x/API", Ok("a.test/")),
        ] {
            assert_eq!(found(&routes, "a.test", target), expected.map(str::to_owned), "{target}");
        }
    }

    #[test]
    fn s29_exact_routes_tell_case_and_a_slash() {
        let one = routes(&["=a.test/Api/"]);
        for (target, expected) in [
            ("/Api/x", Ok("a.test/Api/")),
            ("/Api/", Ok("a.test/Api/")),
            ("/Api", Err(Reason::NotFound)),
            ("/api/x", Err(Reason::NotFound)),
        ] {
            assert_eq!(found(&one, "a.test", target), expected.map(str::to_owned), "{target}");
        }
        let two = routes(&["=a.test/Api/", "=a.test/api/", "=b.test/", "=b.test/v1/"]);
        assert_eq!(found(&two, "a.test", "/Api/x").as_deref(), Ok("a.test/Api/"));
        assert_eq!(found(&two, "a.test", "/api/x").as_deref(), Ok("a.test/api/"));
        assert_eq!(found(&two, "b.test", "/").as_deref(), Ok("b.test/"));
        assert_eq!(found(&two, "b.test", "/x").as_deref(), Ok("b.test/"));
        assert_eq!(found(&two, "b.test", "/v1"), Err(Reason::BadRequest));
        assert_eq!(found(&two, "b.test", "/V1/x"), Err(Reason::BadRequest));
    }

    #[test]
    fn s27_an_encoded_slash_needs_the_routes_consent() {
        let routes = routes(&["a.test/", "%a.test/api/"]);
        assert_eq!(found(&routes, "a.test", "/api/acme%2fshop;v=1").as_deref(), Ok("a.test/api/"));
        for target in ["/acme%2Fshop", "/a;b", "/a%3Bb", "/api/a%2f..%2fb", "/api/..%2fb", "/api%2Fx"] {
            assert_eq!(found(&routes, "a.test", target), Err(Reason::BadRequest), "{target}");
        }
    }

    #[test]
    fn s32_an_unknown_host_gets_no_route() {
        let routes = routes(&["a.test/"]);
        assert_eq!(found(&routes, "A.test.:8443", "/").as_deref(), Ok("a.test/"));
        for host in ["b.test", "x.a.test", "a.test.evil", "127.0.0.1", "[::1]"] {
            assert_eq!(found(&routes, host, "/"), Err(Reason::UnknownHost), "{host}");
            assert_eq!(found(&routes, host, "/.vestibule/sign-in"), Err(Reason::UnknownHost), "{host}");
        }
        assert_eq!(found(&routes, "portal.example.com", "/"), Err(Reason::NotFound));
    }

    #[test]
    fn s36_nothing_under_our_prefix_is_forwarded() {
        let routes = routes(&["%a.test/", "portal.example.com/"]);
        for (host, target, expected) in [
            ("a.test", "/.vestibule/sign-in", Ok("SignIn")),
            ("a.test", "/%2evestibule/sign-in?x", Ok("SignIn")),
            ("portal.example.com", "/.vestibule/sign-in", Ok("SignIn")),
            ("portal.example.com", "/.vestibule/callback/gitlab?code=1", Ok("Callback(\"gitlab\")")),
            ("a.test", "/.vestibule/callback/gitlab", Err(Reason::NotFound)),
            ("a.test", "/.well-known/vestibule/jwks.json", Ok("Jwks")),
            ("a.test", "/.well-known/openid-configuration", Ok("a.test/")),
            ("a.test", "/.vestibule", Err(Reason::NotFound)),
            ("a.test", "/.vestibule/", Err(Reason::NotFound)),
            ("a.test", "/.vestibule/other", Err(Reason::NotFound)),
            ("a.test", "/.Vestibule/sign-in", Err(Reason::NotFound)),
            ("a.test", "/.VESTIBULE", Err(Reason::NotFound)),
            ("a.test", "/.vestibule%2fsign-in", Err(Reason::NotFound)),
            ("a.test", "/.vestibule;x/sign-in", Err(Reason::NotFound)),
            ("a.test", "/.vestibule/sign-in/../../admin", Err(Reason::BadRequest)),
            ("a.test", "/.vestibule/%2e%2e/admin", Err(Reason::BadRequest)),
            ("a.test", "//.vestibule/sign-in", Err(Reason::BadRequest)),
            ("a.test", "/.vestibules", Ok("a.test/")),
        ] {
            assert_eq!(found(&routes, host, target), expected.map(str::to_owned), "{host} {target}");
        }
    }

    /// The longest route whose segments begin the path's, found by looking at every route.
    fn by_hand(texts: &[String], path: &str) -> Option<String> {
        let segments = |path: &str| path.trim_matches('/').split('/').map(str::to_owned).collect::<Vec<_>>();
        let begins = |text: &&String| {
            let route = text.strip_prefix("a.test").expect("the host");
            route == "/" || segments(path).starts_with(&segments(route))
        };
        texts.iter().filter(begins).max_by_key(|text| text.len()).cloned()
    }

    proptest! {
        /// Look-up agrees with comparing segments, whatever the routes.
        #[test]
        fn s29_lookup_agrees_with_segments(
            paths in prop::collection::hash_set(prop::collection::vec("[ab]{1,2}", 0..4), 0..8),
            asked in prop::collection::vec("[ab]{1,2}", 0..6),
            slash in "/?",
        ) {
            let texts: Vec<_> = paths.iter().map(|path| match path.join("/") {
                path if path.is_empty() => "a.test/".to_owned(),
                path => format!("a.test/{path}/"),
            }).collect();
            let target = match asked.join("/") {
                path if path.is_empty() => "/".to_owned(),
                path => format!("/{path}{slash}"),
            };
            let expected = by_hand(&texts, &target).ok_or(if texts.is_empty() { Reason::UnknownHost } else { Reason::NotFound });
            prop_assert_eq!(found(&routes(&texts), "a.test", &target), expected);
        }
    }
}
