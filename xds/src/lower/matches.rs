//! When a route applies.

use portolan_xds_proto::envoy::config::route::v3::{
    HeaderMatcher, QueryParameterMatcher, RouteMatch as ProtoMatch,
    header_matcher::HeaderMatchSpecifier,
    query_parameter_matcher::QueryParameterMatchSpecifier,
    route_match::{GrpcRouteMatchOptions, PathSpecifier},
};
use portolan_xds_proto::envoy::r#type::matcher::v3::StringMatcher;

use super::wire;
use crate::ir::{PathMatch, RouteMatch, StringMatch};

/// Lowers a match. All its parts must match.
pub(super) fn route_match(matches: &RouteMatch) -> ProtoMatch {
    let method = matches.method.as_deref().map(|method| header(":method", wire::exact(method)));
    let headers = matches.headers.iter().map(|matching| header(&matching.name, string(&matching.value)));
    ProtoMatch {
        path_specifier: Some(path(&matches.path)),
        headers: method.into_iter().chain(headers).collect(),
        query_parameters: matches
            .query
            .iter()
            .map(|matching| QueryParameterMatcher {
                name: matching.name.to_string(),
                query_parameter_match_specifier: Some(QueryParameterMatchSpecifier::StringMatch(string(
                    &matching.value,
                ))),
            })
            .collect(),
        grpc: matches.grpc.then(GrpcRouteMatchOptions::default),
        ..ProtoMatch::default()
    }
}

/// One header.
pub(super) fn header(name: &str, value: StringMatcher) -> HeaderMatcher {
    HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(value)),
        ..HeaderMatcher::default()
    }
}

fn path(path: &PathMatch) -> PathSpecifier {
    match path {
        PathMatch::Exact(value) => PathSpecifier::Path(value.to_string()),
        PathMatch::Prefix(value) => match value.trim_end_matches('/') {
            "" => PathSpecifier::Prefix("/".to_owned()),
            prefix => PathSpecifier::PathSeparatedPrefix(prefix.to_owned()),
        },
        PathMatch::Regex(expression) => PathSpecifier::SafeRegex(wire::regex(&**expression)),
        PathMatch::Any => PathSpecifier::Prefix("/".to_owned()),
    }
}

fn string(value: &StringMatch) -> StringMatcher {
    match value {
        StringMatch::Exact(text) => wire::exact(text),
        StringMatch::Regex(expression) => wire::matching(&**expression),
    }
}
