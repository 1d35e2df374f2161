//! Routes of every kind in one shape.

use std::sync::Arc;

use serde::Deserialize;

use super::{BackendRef, Filter, GrpcMethod, Hostname, HttpMatch, InvalidHostname, Meta, ParentRef};

/// A route.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Metadata, with the kind.
    pub meta: Meta,
    /// spec.parentRefs.
    pub parents: Vec<ParentRef>,
    /// spec.hostnames; empty stands for every host of the listener.
    pub hostnames: Vec<Result<Hostname, InvalidHostname>>,
    /// spec.rules, or why one does not parse.
    pub rules: Vec<Result<Rule, String>>,
}

/// A rule of a route.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Its name.
    pub name: Option<Arc<str>>,
    /// Its matches; never empty.
    pub matches: RouteMatches,
    /// Its filters.
    pub filters: Vec<Filter>,
    /// Its backends.
    pub backends: Vec<WeightedRef>,
    /// timeouts.request.
    pub request_timeout: Option<Arc<str>>,
    /// timeouts.backendRequest.
    pub backend_timeout: Option<Arc<str>>,
    /// retry.
    pub retry: Option<RuleRetry>,
    /// sessionPersistence (GEP-1619, experimental).
    pub session: Option<SessionPersistence>,
}

/// The matches of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteMatches {
    /// HTTPRoute.
    Http(Vec<HttpMatch>),
    /// GRPCRoute.
    Grpc(Vec<GrpcMethod>),
    /// TLSRoute, TCPRoute and UDPRoute: everything that reaches the rule.
    Everything,
}

/// A backendRef of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct WeightedRef {
    /// What.
    #[serde(flatten)]
    pub reference: BackendRef,
    /// Its share.
    #[serde(default = "one")]
    pub weight: u32,
    /// Its own filters.
    #[serde(default)]
    pub filters: Vec<Filter>,
}

fn one() -> u32 {
    1
}

/// HTTPRouteRetry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct RuleRetry {
    /// Codes.
    pub codes: Vec<u16>,
    /// Extra tries, 1 by default.
    pub attempts: Option<u32>,
    /// Least time between tries.
    pub backoff: Option<Arc<str>>,
}

/// SessionPersistence. Releases before 1.7 have `sessionName` and `cookieConfig`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SessionPersistence {
    /// `Cookie`, the default, or `Header`.
    #[serde(rename = "type")]
    pub type_: Option<Arc<str>>,
    /// The name of the cookie or header.
    pub session_name: Option<Arc<str>>,
    /// How long a session lasts.
    pub absolute_timeout: Option<Arc<str>>,
    /// How long it lasts without requests.
    pub idle_timeout: Option<Arc<str>>,
    /// For `Cookie`.
    #[serde(alias = "cookieConfig")]
    pub cookie: Option<SessionCookie>,
    /// For `Header`.
    pub header: Option<SessionHeader>,
}

/// CookieConfig.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SessionCookie {
    /// Its name; one is made without it.
    pub name: Option<Arc<str>>,
    /// Its path, `/` by default.
    pub path: Option<Arc<str>>,
    /// `Session`, the default, or `Permanent`.
    pub lifetime_type: Option<Arc<str>>,
}

/// HeaderConfig.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct SessionHeader {
    /// Its name.
    pub name: Arc<str>,
}

/// A rule's JSON, before matches are told apart by kind.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawRule<M> {
    pub(super) name: Option<Arc<str>>,
    #[serde(default = "Vec::new")]
    pub(super) matches: Vec<M>,
    #[serde(default)]
    pub(super) filters: Vec<Filter>,
    #[serde(default)]
    pub(super) backend_refs: Vec<WeightedRef>,
    #[serde(default)]
    pub(super) timeouts: RawTimeouts,
    pub(super) retry: Option<RuleRetry>,
    pub(super) session_persistence: Option<SessionPersistence>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct RawTimeouts {
    pub(super) request: Option<Arc<str>>,
    pub(super) backend_request: Option<Arc<str>>,
}
