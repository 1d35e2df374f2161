//! CORS (GEP-1767).
//!
//! A method or header list that is exactly `*` makes Envoy echo what the preflight asked for, which is right with and
//! without credentials (seen in Envoy 1.40).

use std::sync::Arc;

use portolan_xds_proto::envoy::extensions::filters::http::cors::v3::CorsPolicy;
use portolan_xds_proto::envoy::r#type::matcher::v3::StringMatcher;

use super::wire;
use crate::ir::{Cors, CorsOrigin};

/// The name of the filter, and the key of its per-route configuration.
pub(super) const FILTER: &str = "envoy.filters.http.cors";

/// Lowers a policy. Preflights of other origins are answered without permission, and never reach the backend.
pub(super) fn policy(cors: &Cors) -> CorsPolicy {
    CorsPolicy {
        allow_origin_string_match: cors.allow_origins.iter().map(origin).collect(),
        allow_methods: list(&cors.allow_methods),
        allow_headers: list(&cors.allow_headers),
        expose_headers: list(&cors.expose_headers),
        max_age: (cors.max_age.0 / 1000).to_string(),
        allow_credentials: if cors.allow_credentials { wire::yes() } else { wire::no() },
        forward_not_matching_preflights: wire::no(),
        ..CorsPolicy::default()
    }
}

fn list(values: &[Arc<str>]) -> String {
    if values.iter().any(|value| **value == *"*") {
        return "*".to_owned();
    }
    values.join(", ")
}

fn origin(origin: &CorsOrigin) -> StringMatcher {
    match origin {
        CorsOrigin::Any => wire::matching(".*"),
        CorsOrigin::Exact(value) => StringMatcher { ignore_case: true, ..wire::exact(value) },
        CorsOrigin::Wildcard(pattern) => {
            let parts: Vec<String> = pattern.split('*').map(wire::quote).collect();
            wire::matching(format!("(?i){}", parts.join("[^/]+")))
        }
    }
}
