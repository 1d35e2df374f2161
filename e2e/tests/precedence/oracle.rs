//! What the API says a request reaches. Written to be read beside its text, not to be fast.
//!
//! HTTPRouteSpec.hostnames, HTTPRouteRule.matches and GatewaySpec.listeners decide. Where these leave a choice, ours is meant:
//! an expression comes after exact paths and before prefixes, and a request belongs to one virtual host
//! (docs/decisions/0005).

use std::cmp::Reverse;

/// Everything on one port.
#[derive(Debug)]
pub(crate) struct Set {
    pub(crate) listeners: Vec<Listener>,
    pub(crate) routes: Vec<Route>,
}

#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) name: String,
    /// `*` is any host.
    pub(crate) hostname: &'static str,
}

#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) name: String,
    /// Years after 2000; without one it is the oldest of all.
    pub(crate) created: Option<u32>,
    /// A listener, or all.
    pub(crate) section: Option<String>,
    pub(crate) hostnames: Vec<&'static str>,
    /// Each a list of matches, of which any is enough.
    pub(crate) rules: Vec<Vec<Match>>,
}

#[derive(Debug)]
pub(crate) struct Match {
    pub(crate) path: Path,
    pub(crate) method: Option<&'static str>,
    pub(crate) headers: Vec<Value>,
    pub(crate) query: Vec<Value>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Path {
    Exact(&'static str),
    Prefix(&'static str),
    /// An expression, and the same as code.
    Expression(&'static str, fn(&str) -> bool),
}

/// A name and its value, or any value of one letter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Value {
    pub(crate) name: &'static str,
    pub(crate) value: Option<&'static str>,
}

#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) host: &'static str,
    pub(crate) path: &'static str,
    pub(crate) method: &'static str,
    pub(crate) headers: Vec<(&'static str, &'static str)>,
    pub(crate) query: Vec<(&'static str, &'static str)>,
}

/// A hostname that is every one.
pub(crate) const ANY: &str = "*";

/// The rule that answers, as `<route>/<place>`; nothing where the answer is 404.
pub(crate) fn answer(set: &Set, request: &Request) -> Option<String> {
    let host = request.host.split(':').next().unwrap_or_default();
    // The most specific listener alone (listener isolation).
    let listener = set
        .listeners
        .iter()
        .filter(|listener| covers(listener.hostname, host))
        .max_by_key(|listener| specific(listener.hostname))?;

    // The hosts that routes serve there: where their hostnames meet the listener's.
    let served = |route: &Route| -> Vec<(&'static str, &'static str)> {
        if route.section.as_ref().is_some_and(|section| *section != listener.name) {
            return Vec::new();
        }
        let any = [ANY];
        let hostnames = if route.hostnames.is_empty() { &any[..] } else { &route.hostnames };
        let met = hostnames.iter().filter_map(|own| Some((meet(listener.hostname, own)?, *own)));
        met.filter(|(met, _)| covers(met, host)).collect()
    };
    let virtual_host =
        set.routes.iter().flat_map(served).map(|(met, _)| met).max_by_key(|met| specific(met))?;

    let mut candidates = Vec::new();
    for route in &set.routes {
        // The hostname that the route names decides, not where it meets the listener's.
        let own =
            served(route).into_iter().filter(|(met, _)| *met == virtual_host).map(|(_, own)| specific(own));
        let Some(own) = own.max() else { continue };
        for (place, rule) in route.rules.iter().enumerate() {
            for one in rule.iter().filter(|one| matches(one, request)) {
                let (kind, length) = match one.path {
                    Path::Exact(path) => (2, path.len()),
                    Path::Expression(path, _) => (1, path.len()),
                    Path::Prefix(path) => (0, path.len()),
                };
                let precedence =
                    (own, kind, length, one.method.is_some(), one.headers.len(), one.query.len());
                let tie = (route.created, route.name.clone(), place);
                candidates.push((Reverse(precedence), tie));
            }
        }
    }
    let (_, (_, name, place)) = candidates.into_iter().min()?;
    Some(format!("{name}/{place}"))
}

/// Whether a hostname, which may begin with a wildcard, covers a host: `*.` stands for one or more labels.
fn covers(name: &str, host: &str) -> bool {
    match name.strip_prefix('*') {
        Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
        None => name == host,
    }
}

/// Characters of a name without wildcard count most, then characters.
fn specific(name: &str) -> (bool, usize) {
    (!name.starts_with('*'), name.len())
}

/// The narrower of two hostnames, if one lies in the other.
fn meet(listener: &'static str, route: &'static str) -> Option<&'static str> {
    let inside = |inner: &str, outer: &str| {
        inner == outer || (outer.starts_with('*') && covers(outer, &inner.replace('*', "label")))
    };
    if inside(route, listener) {
        Some(route)
    } else if inside(listener, route) {
        Some(listener)
    } else {
        None
    }
}

fn matches(one: &Match, request: &Request) -> bool {
    let value = |wanted: &Value, given: &[(&str, &str)]| {
        let found = given.iter().find(|(name, _)| *name == wanted.name);
        found.is_some_and(|(_, value)| wanted.value.map_or(value.len() == 1, |wanted| wanted == *value))
    };
    let path = match one.path {
        Path::Exact(path) => request.path == path,
        Path::Prefix("/") => true,
        Path::Prefix(prefix) => {
            request.path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
        Path::Expression(_, matches) => matches(request.path),
    };
    path && one.method.is_none_or(|method| method == request.method)
        && one.headers.iter().all(|wanted| value(wanted, &request.headers))
        && one.query.iter().all(|wanted| value(wanted, &request.query))
}
