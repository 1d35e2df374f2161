//! Virtual hosts and routes.

use std::{cmp::Reverse, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{
    ClusterName, Cors, ExternalAuth, HeaderEdits, Millis, Mirror, Origin, Redirect, RouteTableName, Session,
    UrlRewrite,
};

/// Which virtual host: the table and its single domain.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct VirtualHostKey {
    /// The RouteConfiguration.
    pub table: RouteTableName,
    /// `*`, `*.suffix` or an exact host, lower case.
    pub domain: Arc<str>,
}

/// All routes of one hostname in one table. Without routes it answers 404: listener isolation needs such hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VirtualHost {
    /// Sorted by rank.
    pub routes: Vec<Arc<Route>>,
    /// Who is asked about every request, one after the other, before a route is picked: the filters of the host's listener
    /// (GEP-5224). What they make of a request decides its route.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub auth: Vec<Arc<ExternalAuth>>,
    /// What becomes of requests that match no route.
    pub otherwise: Otherwise,
    /// The object that asks for these two, where it is not how every host begins: its content is in force when they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

/// The answer to requests that match no route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Otherwise {
    /// 404.
    #[default]
    NotFound,
    /// 421: the hostname is another listener's (RFC 9110 §15.5.20).
    Misdirected,
    /// 500: the listener has a filter that cannot be had, and lets nothing pass.
    Closed,
}

/// The precedence of a route inside a virtual host; the smallest is tried first.
///
/// Gateway API `HTTPRouteRule.matches`: the most specific hostname of the route (as the user wrote it), exact path,
/// longest prefix, method, most headers, most query parameters; then the oldest route, namespace/name, rule order.
/// The field order of this struct is that rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RouteRank {
    /// An exact original hostname before a wildcard, longer before shorter, none last.
    pub hostname: Reverse<(bool, usize)>,
    /// 0 exact, 1 regular expression, 2 prefix, 3 gRPC method without a service, 4 any. The API leaves the place of
    /// expressions open: behind prefixes, a rule for `/` would hide them all.
    pub path_kind: u8,
    /// Characters of the path.
    pub path_length: Reverse<usize>,
    /// A method match comes first.
    pub method: Reverse<bool>,
    /// Number of header matches.
    pub headers: Reverse<usize>,
    /// Number of query parameter matches.
    pub query: Reverse<usize>,
    /// Seconds since the epoch.
    pub created: i64,
    /// `namespace/name`, and the kind to tell two kinds of one name apart.
    pub object: (Arc<str>, Arc<str>),
    /// The rule's position in the object.
    pub rule: usize,
    /// The match's position in the rule.
    pub matching: usize,
}

/// One way to match and what to do then. A rule with several matches becomes several routes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Its precedence; unique in its virtual host.
    pub rank: RouteRank,
    /// The object that it came from.
    pub origin: Origin,
    /// The rule's name in the API, for people: shown in access logs and dumps.
    pub name: Arc<str>,
    /// When it applies.
    pub matches: RouteMatch,
    /// What happens.
    pub action: Arc<Action>,
}

/// When a route applies: all parts must match.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteMatch {
    /// The path.
    pub path: PathMatch,
    /// The method, as written on the wire.
    pub method: Option<Arc<str>>,
    /// Header matches; names lower case and distinct.
    pub headers: Vec<HeaderMatch>,
    /// Query parameter matches; names distinct, case-sensitive.
    pub query: Vec<QueryMatch>,
    /// Only gRPC requests (`content-type: application/grpc…`).
    pub grpc: bool,
}

/// A path match.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PathMatch {
    /// The whole path, case-sensitive.
    Exact(Arc<str>),
    /// By path element: `/abc` matches `/abc` and `/abc/d`, not `/abcd`. No trailing slash unless it is `/`.
    Prefix(Arc<str>),
    /// RE2, on the whole path.
    Regex(Arc<str>),
    /// Every path.
    Any,
}

/// How a string is matched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StringMatch {
    /// Equal.
    Exact(Arc<str>),
    /// RE2, on the whole value.
    Regex(Arc<str>),
}

/// A header match.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderMatch {
    /// Lower case.
    pub name: Arc<str>,
    /// The value.
    pub value: StringMatch,
}

/// A query parameter match.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryMatch {
    /// Case-sensitive.
    pub name: Arc<str>,
    /// The value.
    pub value: StringMatch,
}

/// What a route does, shared by all matches of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    /// Edits of every request of the rule.
    pub request_headers: HeaderEdits,
    /// Edits of every response of the rule, of redirects and direct answers, too.
    pub response_headers: HeaderEdits,
    /// CORS.
    pub cors: Option<Cors>,
    /// Who is asked whether a request may pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Arc<ExternalAuth>>,
    /// Where requests go.
    pub target: Target,
}

/// Where requests of a rule go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// A redirect.
    Redirect(Redirect),
    /// A fixed answer: 500 for rules without any valid backend. gRPC clients see it as a gRPC status.
    Answer {
        /// The HTTP status.
        status: u16,
        /// Why, for people: the body of the answer.
        body: Arc<str>,
    },
    /// One of several backends.
    Forward {
        /// Chosen by weight; weights are not all 0.
        arms: Vec<Arm>,
        /// The rule's rewrite.
        rewrite: UrlRewrite,
        /// The rule's mirrors.
        mirrors: Vec<Mirror>,
        /// The rule's timeouts.
        timeouts: Timeouts,
        /// The rule's retries.
        retry: Option<Retry>,
        /// What keeps a client with its endpoint. Only where there is one arm: Envoy draws among several first.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        session: Option<Arc<Session>>,
    },
}

/// One weighted backend of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arm {
    /// 1 to 1,000,000: arms of weight 0 are left out by the resolver.
    pub weight: u32,
    /// What gets the share.
    pub backend: Backend,
    /// Edits of the requests of this backend only, after the rule's.
    pub request_headers: HeaderEdits,
    /// Edits of the responses of this backend only, before the rule's.
    pub response_headers: HeaderEdits,
    /// A rewrite of this backend only: it replaces the rule's.
    pub rewrite: Option<UrlRewrite>,
    /// Mirrors of this backend only.
    pub mirrors: Vec<Mirror>,
    /// CORS of this backend only: it replaces the rule's.
    pub cors: Option<Cors>,
    /// Who is asked about requests of this backend only, after the rule's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Arc<ExternalAuth>>,
    /// A redirect of this backend's share.
    pub redirect: Option<Redirect>,
}

/// What gets the share of an arm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Backend {
    /// A cluster.
    Cluster(ClusterName),
    /// Nothing valid: its share is answered with 500 (HTTPRouteSpec `backendRefs`).
    Invalid,
}

/// Timeouts of a rule (GEP-1742). None means no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeouts {
    /// The whole request with all tries; 0 disables.
    pub request: Option<Millis>,
    /// One try; 0 disables.
    pub backend_request: Option<Millis>,
}

/// Retries of a rule (GEP-1731).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// Extra tries; 0 disables.
    pub attempts: u32,
    /// Status codes to retry. Connection errors are always retried.
    pub codes: Vec<u16>,
    /// The least time between tries.
    pub backoff: Option<Millis>,
}
