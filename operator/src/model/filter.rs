//! Filters, one shape for every position and route kind.

use std::sync::Arc;

use serde::Deserialize;

use super::BackendRef;

/// A filter of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", rename_all_fields = "camelCase")]
pub enum Filter {
    /// Edits of request headers.
    RequestHeaderModifier {
        /// The edits.
        request_header_modifier: HeaderModifier,
    },
    /// Edits of response headers.
    ResponseHeaderModifier {
        /// The edits.
        response_header_modifier: HeaderModifier,
    },
    /// A copy of requests.
    RequestMirror {
        /// Where and how many.
        request_mirror: MirrorFilter,
    },
    /// An answer that sends the client elsewhere.
    RequestRedirect {
        /// Where.
        request_redirect: RedirectFilter,
    },
    /// A change of host and path.
    #[serde(rename = "URLRewrite")]
    UrlRewrite {
        /// To what.
        url_rewrite: RewriteFilter,
    },
    /// CORS.
    #[serde(rename = "CORS")]
    Cors {
        /// What is allowed.
        cors: CorsFilter,
    },
    /// A filter kind of some implementation; Portolan has none.
    ExtensionRef {
        /// Group, kind and name.
        extension_ref: serde_json::Value,
    },
    /// External authorization (GEP-1494, experimental).
    ExternalAuth {
        /// Who is asked, and how.
        external_auth: AuthFilter,
    },
}

/// A filter of a backendRef. The same shapes.
pub type BackendFilter = Filter;

/// HTTPHeaderFilter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct HeaderModifier {
    /// Overwrite.
    pub set: Vec<Header>,
    /// Append.
    pub add: Vec<Header>,
    /// Remove.
    pub remove: Vec<Arc<str>>,
}

/// A header.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Header {
    /// Name in any case.
    pub name: Arc<str>,
    /// Value.
    pub value: Arc<str>,
}

/// HTTPRequestMirrorFilter.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MirrorFilter {
    /// Where.
    pub backend_ref: BackendRef,
    /// Percent of requests.
    pub percent: Option<u32>,
    /// Fraction of requests.
    pub fraction: Option<FractionSpec>,
}

/// Fraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct FractionSpec {
    /// Above the line.
    pub numerator: u32,
    /// Below the line, 100 by default.
    #[serde(default = "hundred")]
    pub denominator: u32,
}

fn hundred() -> u32 {
    100
}

/// HTTPPathModifier.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", rename_all_fields = "camelCase")]
pub enum PathModifier {
    /// The whole path.
    ReplaceFullPath {
        /// The new one.
        replace_full_path: Arc<str>,
    },
    /// The matched prefix.
    ReplacePrefixMatch {
        /// The new one.
        replace_prefix_match: Arc<str>,
    },
}

/// HTTPRequestRedirectFilter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RedirectFilter {
    /// `http` or `https`.
    pub scheme: Option<Arc<str>>,
    /// New host.
    pub hostname: Option<Arc<str>>,
    /// New path.
    pub path: Option<PathModifier>,
    /// New port.
    pub port: Option<u16>,
    /// Status, 302 by default.
    pub status_code: Option<u16>,
}

/// HTTPURLRewriteFilter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct RewriteFilter {
    /// New host.
    pub hostname: Option<Arc<str>>,
    /// New path.
    pub path: Option<PathModifier>,
}

/// HTTPCORSFilter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CorsFilter {
    /// Origins.
    pub allow_origins: Vec<Arc<str>>,
    /// Credentials.
    pub allow_credentials: Option<bool>,
    /// Methods.
    pub allow_methods: Vec<Arc<str>>,
    /// Request headers.
    pub allow_headers: Vec<Arc<str>>,
    /// Response headers.
    pub expose_headers: Vec<Arc<str>>,
    /// Seconds, 5 by default.
    pub max_age: Option<u64>,
}

/// HTTPExternalAuthFilter.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthFilter {
    /// `GRPC` or `HTTP`.
    pub protocol: Arc<str>,
    /// Who is asked.
    pub backend_ref: BackendRef,
    /// How much of a body is sent along.
    #[serde(default)]
    pub forward_body: ForwardBody,
    /// For `GRPC`.
    #[serde(default)]
    pub grpc: GrpcAuth,
    /// For `HTTP`.
    #[serde(default)]
    pub http: HttpAuth,
}

/// ForwardBodyConfig.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ForwardBody {
    /// Bytes; 0 sends none.
    pub max_size: Option<u32>,
}

/// GRPCAuthConfig.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GrpcAuth {
    /// Request headers that are sent; empty means all.
    pub allowed_headers: Vec<Arc<str>>,
}

/// HTTPAuthConfig.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpAuth {
    /// What is put before the path.
    pub path: Arc<str>,
    /// Request headers that are sent, too.
    pub allowed_headers: Vec<Arc<str>>,
    /// Headers of the answer that the backend gets; empty means all.
    pub allowed_response_headers: Vec<Arc<str>>,
}
