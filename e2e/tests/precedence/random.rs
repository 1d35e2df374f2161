//! Random sets and requests from small pools, so that much overlaps; and both in the form that the rig takes.

use std::fmt::Write as _;

use portolan_e2e::rig::Ask;

use crate::oracle::{ANY, Listener, Match, Path, Request, Route, Set, Value};

/// A sequence of numbers that a seed decides (SplitMix64).
pub(crate) struct Random(u64);

const LISTENERS: [&str; 5] = [ANY, "*.example.com", "*.a.example.com", "x.a.example.com", "y.example.com"];
const HOSTNAMES: [&str; 7] =
    ["*.com", "*.example.com", "*.a.example.com", "x.a.example.com", "y.example.com", "other.org", "*.org"];
const HOSTS: [&str; 9] = [
    "x.a.example.com",
    "x.a.example.com:8080",
    "z.a.example.com",
    "y.example.com",
    "w.example.com",
    "v.w.example.com",
    "example.com",
    "other.org",
    "nothing.net",
];
const PATHS: [Path; 9] = [
    Path::Prefix("/"),
    Path::Prefix("/a"),
    Path::Prefix("/a/b"),
    Path::Prefix("/ab"),
    Path::Exact("/a"),
    Path::Exact("/a/b"),
    Path::Exact("/"),
    Path::Expression("/a/[a-z]", |path| {
        path.len() == 4 && path.starts_with("/a/") && path.as_bytes()[3].is_ascii_lowercase()
    }),
    Path::Expression("/a.*", |path| path.starts_with("/a")),
];
const ASKED: [&str; 10] = ["/", "/a", "/a/", "/a/b", "/a/b/", "/a/b/c", "/a/x", "/ab", "/abc", "/A"];
const METHODS: [&str; 3] = ["GET", "POST", "PUT"];
const NAMES: [&str; 3] = ["one", "two", "three"];
const VALUES: [Option<&str>; 3] = [Some("1"), Some("2"), None];

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).expect("it is below a usize")
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// Up to that many of a pool, each once, in the pool's order.
    fn some<T: Copy>(&mut self, of: &[T], most: usize) -> Vec<T> {
        let count = self.below(most + 1).min(of.len());
        let mut left: Vec<usize> = (0..of.len()).collect();
        let mut chosen: Vec<usize> = (0..count).map(|_| left.swap_remove(self.below(left.len()))).collect();
        chosen.sort_unstable();
        chosen.into_iter().map(|index| of[index]).collect()
    }

    pub(crate) fn set(&mut self) -> Set {
        let mut hostnames = self.some(&LISTENERS, 3);
        if hostnames.is_empty() {
            hostnames.push(self.one(&LISTENERS));
        }
        let listeners: Vec<Listener> = hostnames
            .into_iter()
            .enumerate()
            .map(|(index, hostname)| Listener { name: format!("l{index}"), hostname })
            .collect();
        let count = 1 + self.below(6);
        let routes = (0..count).map(|index| self.route(index, &listeners)).collect();
        Set { listeners, routes }
    }

    fn route(&mut self, index: usize, listeners: &[Listener]) -> Route {
        let section = self.chance(40).then(|| listeners[self.below(listeners.len())].name.clone());
        let created = self.chance(60).then(|| 1 + u32::try_from(self.below(3)).expect("small"));
        let rules = 1 + self.below(4);
        Route {
            // Names whose order is not that of the file.
            name: format!("r{}", (index * 5 + 3) % 7),
            created,
            section,
            hostnames: self.some(&HOSTNAMES, 3),
            rules: (0..rules).map(|_| self.rule()).collect(),
        }
    }

    fn rule(&mut self) -> Vec<Match> {
        (0..=self.below(2)).map(|_| self.one_match()).collect()
    }

    fn one_match(&mut self) -> Match {
        Match {
            path: self.one(&PATHS),
            method: self.chance(30).then(|| self.one(&METHODS)),
            headers: self.values(),
            query: self.values(),
        }
    }

    fn values(&mut self) -> Vec<Value> {
        let most = if self.chance(50) { 0 } else { 2 };
        self.some(&NAMES, most).into_iter().map(|name| Value { name, value: self.one(&VALUES) }).collect()
    }

    pub(crate) fn request(&mut self) -> Request {
        let values = |random: &mut Self| -> Vec<(&'static str, &'static str)> {
            random
                .some(&NAMES, 3)
                .into_iter()
                .map(|name| (name, random.one(&["1", "2", "3", "long"])))
                .collect()
        };
        Request {
            host: self.one(&HOSTS),
            path: self.one(&ASKED),
            method: self.one(&METHODS),
            headers: values(self),
            query: values(self),
        }
    }
}

impl Request {
    pub(crate) fn ask(&self) -> Ask {
        let query: Vec<String> = self.query.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mark = if query.is_empty() { "" } else { "?" };
        let ask = Ask::get(self.host, &format!("{}{mark}{}", self.path, query.join("&")));
        ask.method(self.method).headers(&self.headers)
    }
}

impl Set {
    /// The Gateway and its routes. A listener that no request asks for makes each set's Gateway another one, so that it
    /// can be seen when the set is in force.
    pub(crate) fn yaml(&self, number: u64) -> String {
        let listener = |one: &Listener| {
            let hostname =
                if one.hostname == ANY { String::new() } else { format!(", hostname: '{}'", one.hostname) };
            format!("{{name: {}, port: 80, protocol: HTTP{hostname}}}", one.name)
        };
        let mut listeners: Vec<String> = self.listeners.iter().map(listener).collect();
        listeners.push(format!("{{name: mark, port: 80, protocol: HTTP, hostname: set-{number}.test}}"));
        let mut yaml = portolan_e2e::rig::manifest::gateway("web", &listeners.join(", "));
        for route in &self.routes {
            yaml.push_str(&route.yaml());
        }
        yaml
    }
}

impl Route {
    pub(crate) fn key(&self) -> String {
        format!("HTTPRoute/default/{}", self.name)
    }

    fn yaml(&self) -> String {
        let created = self.created.map(|year| format!(", creationTimestamp: '200{year}-01-01T00:00:00Z'"));
        let section = self.section.as_ref().map(|name| format!(", sectionName: {name}"));
        let hostnames: Vec<String> = self.hostnames.iter().map(|name| format!("'{name}'")).collect();
        let mut yaml = format!(
            "---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {}{}}}
spec:
  parentRefs: [{{name: web{}}}]
  hostnames: [{}]
  rules:
",
            self.name,
            created.unwrap_or_default(),
            section.unwrap_or_default(),
            hostnames.join(", ")
        );
        for (place, rule) in self.rules.iter().enumerate() {
            let matches: Vec<String> = rule.iter().map(Match::yaml).collect();
            let set = format!("set: [{{name: X-Rule, value: {}/{place}}}]", self.name);
            writeln!(
                yaml,
                "  - matches: [{}]
    filters: [{{type: RequestHeaderModifier, requestHeaderModifier: {{{set}}}}}]
    backendRefs: [{{name: blue, port: 80}}]",
                matches.join(", ")
            )
            .expect("a text takes everything");
        }
        yaml
    }
}

impl Match {
    fn yaml(&self) -> String {
        let (kind, path) = match self.path {
            Path::Exact(path) => ("Exact", path),
            Path::Prefix(path) => ("PathPrefix", path),
            Path::Expression(path, _) => ("RegularExpression", path),
        };
        let method = self.method.map(|method| format!(", method: {method}")).unwrap_or_default();
        let values = |all: &[Value]| {
            let value = |one: &Value| match one.value {
                Some(value) => format!("{{name: {}, value: '{value}'}}", one.name),
                None => format!("{{type: RegularExpression, name: {}, value: '.'}}", one.name),
            };
            all.iter().map(value).collect::<Vec<_>>().join(", ")
        };
        format!(
            "{{path: {{type: {kind}, value: '{path}'}}{method}, headers: [{}], queryParams: [{}]}}",
            values(&self.headers),
            values(&self.query)
        )
    }
}
