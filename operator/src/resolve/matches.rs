//! Matches: from the API to the IR, with the precedence that the API gives them.

use std::{cmp::Reverse, collections::BTreeMap, sync::Arc};

use portolan_xds::ir::{HeaderMatch, PathMatch, QueryMatch, RouteMatch, StringMatch};

use super::expression;
use crate::model::{GrpcMethod, GrpcName, HttpMatch, Path, PathKind, RegexOrExact, Values};

/// The place of a gRPC method without a service, between prefixes and matches of any path.
const METHOD_ONLY: u8 = 3;

/// The part of a rank that a match decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Precedence {
    pub(super) path_kind: u8,
    pub(super) path_length: Reverse<usize>,
    pub(super) method: Reverse<bool>,
    pub(super) headers: Reverse<usize>,
    pub(super) query: Reverse<usize>,
}

/// An HTTPRouteMatch.
pub(super) fn http(spec: &HttpMatch) -> Result<(RouteMatch, Precedence), String> {
    let path = path(&spec.path)?;
    let headers = headers(&spec.headers)?;
    let query = distinct(&spec.query_params, str::to_owned)
        .into_iter()
        .map(|(name, values)| Ok(QueryMatch { name, value: string(values, "query parameter")? }))
        .collect::<Result<Vec<_>, String>>()?;
    let matches = RouteMatch { path, method: spec.method.clone(), headers, query, grpc: false };
    let precedence = precedence(&matches);
    Ok((matches, precedence))
}

/// A GRPCRouteMatch: gRPC puts service and method into the path (`/service/method`).
pub(super) fn grpc(spec: &GrpcMethod) -> Result<(RouteMatch, Precedence), String> {
    let headers = headers(&spec.headers)?;
    let path = spec.method.as_ref().map_or(Ok(PathMatch::Any), grpc_path)?;
    let matches = RouteMatch { path, method: None, headers, query: Vec::new(), grpc: true };
    let mut precedence = precedence(&matches);
    // GRPCRouteRule.matches: characters of the service decide before characters of the method, so that a method without
    // a service comes behind every service, though it is an expression on the wire.
    if let Some(GrpcName { comparison: RegexOrExact::Exact, service: None, method: Some(method) }) =
        &spec.method
    {
        precedence.path_kind = METHOD_ONLY;
        precedence.path_length = Reverse(method.len());
    }
    Ok((matches, precedence))
}

fn grpc_path(name: &GrpcName) -> Result<PathMatch, String> {
    let service = name.service.as_deref().filter(|text| !text.is_empty());
    let method = name.method.as_deref().filter(|text| !text.is_empty());
    let any = "[^/]+";
    Ok(match (name.comparison, service, method) {
        (_, None, None) => PathMatch::Any,
        (RegexOrExact::Exact, Some(service), Some(method)) => {
            PathMatch::Exact(format!("/{service}/{method}").into())
        }
        (RegexOrExact::Exact, Some(service), None) => PathMatch::Prefix(format!("/{service}").into()),
        (RegexOrExact::Exact, None, Some(method)) => {
            PathMatch::Regex(format!("/{any}/{}", regex_syntax::escape(method)).into())
        }
        (RegexOrExact::RegularExpression, service, method) => {
            let text = format!("/(?:{})/(?:{})", service.unwrap_or(any), method.unwrap_or(any));
            PathMatch::Regex(checked(&text, "method")?)
        }
    })
}

fn precedence(matches: &RouteMatch) -> Precedence {
    let (path_kind, path_length) = match &matches.path {
        PathMatch::Exact(path) => (0, path.len()),
        PathMatch::Regex(path) => (1, path.len()),
        PathMatch::Prefix(path) => (2, path.len()),
        PathMatch::Any => (4, 0),
    };
    Precedence {
        path_kind,
        path_length: Reverse(path_length),
        method: Reverse(matches.method.is_some()),
        headers: Reverse(matches.headers.len()),
        query: Reverse(matches.query.len()),
    }
}

fn path(spec: &Path) -> Result<PathMatch, String> {
    Ok(match spec.kind {
        PathKind::Exact => PathMatch::Exact(spec.value.clone()),
        PathKind::PathPrefix => {
            // A trailing slash makes no difference to a prefix by path element.
            let trimmed = spec.value.trim_end_matches('/');
            PathMatch::Prefix(if trimmed.is_empty() { "/".into() } else { trimmed.into() })
        }
        PathKind::RegularExpression => PathMatch::Regex(checked(&spec.value, "path")?),
    })
}

fn headers(specs: &[Values]) -> Result<Vec<HeaderMatch>, String> {
    distinct(specs, str::to_ascii_lowercase)
        .into_iter()
        .map(|(name, values)| Ok(HeaderMatch { name, value: string(values, "header")? }))
        .collect()
}

/// Several entries of one name: only the first counts (HTTPRouteMatch.headers).
fn distinct(specs: &[Values], normal: impl Fn(&str) -> String) -> BTreeMap<Arc<str>, &Values> {
    let mut out = BTreeMap::new();
    for spec in specs {
        out.entry(Arc::from(normal(&spec.name))).or_insert(spec);
    }
    out
}

fn string(values: &Values, what: &str) -> Result<StringMatch, String> {
    Ok(match values.comparison {
        RegexOrExact::Exact => StringMatch::Exact(values.value.clone()),
        RegexOrExact::RegularExpression => {
            StringMatch::Regex(checked(&values.value, &format!("{what} {}", values.name))?)
        }
    })
}

fn checked(text: &str, what: &str) -> Result<Arc<str>, String> {
    expression::check(text).map(|()| text.into()).map_err(|reason| {
        let shown: String = text.chars().take(80).collect();
        format!("{what}: {shown:?} is not a usable regular expression: {reason}")
    })
}
