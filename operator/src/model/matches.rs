//! Matches of HTTPRoute and GRPCRoute rules, as written.

use std::sync::Arc;

use serde::Deserialize;

/// How a value is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum RegexOrExact {
    /// Equal.
    #[default]
    Exact,
    /// A regular expression.
    RegularExpression,
}

/// A header or query parameter match.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Values {
    /// How to compare.
    #[serde(rename = "type", default)]
    pub comparison: RegexOrExact,
    /// The name.
    pub name: Arc<str>,
    /// The value or expression.
    pub value: Arc<str>,
}

/// A path match.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Path {
    /// How.
    #[serde(rename = "type")]
    pub kind: PathKind,
    /// The path, prefix or expression.
    pub value: Arc<str>,
}

impl Default for Path {
    fn default() -> Self {
        Self { kind: PathKind::PathPrefix, value: "/".into() }
    }
}

/// HTTPPathMatch.type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum PathKind {
    /// The whole path.
    Exact,
    /// By path element.
    PathPrefix,
    /// RE2.
    RegularExpression,
}

/// HTTPRouteMatch. Absent means a prefix of `/`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpMatch {
    /// The path.
    pub path: Path,
    /// Header matches.
    pub headers: Vec<Values>,
    /// Query parameter matches.
    pub query_params: Vec<Values>,
    /// The method.
    pub method: Option<Arc<str>>,
}

/// GRPCRouteMatch.method and headers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct GrpcMethod {
    /// Service and method.
    pub method: Option<GrpcName>,
    /// Header matches.
    pub headers: Vec<Values>,
}

/// GRPCMethodMatch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct GrpcName {
    /// How.
    #[serde(rename = "type")]
    pub comparison: RegexOrExact,
    /// The gRPC service.
    pub service: Option<Arc<str>>,
    /// The gRPC method.
    pub method: Option<Arc<str>>,
}
