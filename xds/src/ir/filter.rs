//! What happens to a request or a response on its way.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{ClusterName, Millis};

/// One header and its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderEdit {
    /// Lower case.
    pub name: Arc<str>,
    /// Taken literally: lowering escapes what Envoy would expand (`%`).
    pub value: Arc<str>,
}

/// `RequestHeaderModifier` or `ResponseHeaderModifier`: set overwrites, add appends, remove removes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderEdits {
    /// Overwrite or create.
    pub set: Vec<HeaderEdit>,
    /// Append.
    pub add: Vec<HeaderEdit>,
    /// Remove; lower case.
    pub remove: Vec<Arc<str>>,
}

impl HeaderEdits {
    /// Whether nothing is edited.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_empty()
    }
}

/// How a path is replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PathRewrite {
    /// The whole path; the query is kept.
    Full(Arc<str>),
    /// The matched prefix. `matched` is the rule's PathPrefix value, without a trailing slash unless it is `/`.
    Prefix {
        /// What is replaced.
        matched: Arc<str>,
        /// What it becomes.
        replacement: Arc<str>,
    },
}

/// `URLRewrite`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UrlRewrite {
    /// The Host header that the backend sees.
    pub hostname: Option<Arc<str>>,
    /// The path that the backend sees.
    pub path: Option<PathRewrite>,
}

/// The scheme of a redirect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RedirectScheme {
    /// `http`
    Http,
    /// `https`
    Https,
}

/// `RequestRedirect`. What is absent is kept from the request; the port rule is in [`Redirect::port`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redirect {
    /// New scheme.
    pub scheme: Option<RedirectScheme>,
    /// New host.
    pub hostname: Option<Arc<str>>,
    /// New port. Without one: the scheme's well-known port if a scheme is given, else the listener's port. 80 with
    /// http and 443 with https are left out of `Location`.
    pub port: Option<u16>,
    /// New path.
    pub path: Option<PathRewrite>,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
}

/// A share of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fraction {
    /// At most `denominator`.
    pub numerator: u32,
    /// Not 0.
    pub denominator: u32,
}

/// `RequestMirror`: a copy whose answer is thrown away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mirror {
    /// Where the copy goes.
    pub cluster: ClusterName,
    /// Which share is copied; none means all.
    pub fraction: Option<Fraction>,
}

/// One allowed origin of a CORS filter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CorsOrigin {
    /// `*`
    Any,
    /// `scheme://host[:port]`
    Exact(Arc<str>),
    /// `scheme://*.suffix[:port]`: the wildcard is greedy to the left.
    Wildcard(Arc<str>),
}

/// `CORS` (GEP-1767).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cors {
    /// Who may ask.
    pub allow_origins: Vec<CorsOrigin>,
    /// `*` alone means all; with credentials the requested method is echoed.
    pub allow_methods: Vec<Arc<str>>,
    /// `*` alone means all; with credentials the requested headers are echoed.
    pub allow_headers: Vec<Arc<str>>,
    /// Headers that scripts may read.
    pub expose_headers: Vec<Arc<str>>,
    /// Whether credentials may be sent.
    pub allow_credentials: bool,
    /// How long a preflight answer may be cached. The API's default is 5 s.
    pub max_age: Millis,
}
