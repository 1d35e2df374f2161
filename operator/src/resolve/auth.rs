//! External authorization (GEP-1494): whom to ask whether a request may pass.
//!
//! A reference that cannot be followed, or a setting that cannot be used, closes the rule. Dropping the rule as for other
//! filters would not do: a rule with a wider match could then take its requests, and pass them on unasked.

use std::sync::Arc;

use portolan_xds::ir::{AppProtocol, AuthProtocol, ExternalAuth, HeaderNames};

use super::{
    Fault, RefFrom,
    backend::{self, ClusterId},
    engine::State,
    filters::{OF_THE_CONNECTION, is_token},
};
use crate::{model::AuthFilter, world::View};

/// Why a rule is closed. Without a fault, it is the backend's policy that cannot be used, which its own status tells.
pub(super) type Closed = Option<Fault>;

/// What a filter says by itself, without what it refers to.
pub(super) struct Shape {
    grpc: bool,
    path: Arc<str>,
}

/// Reads what a filter says by itself; `field` is its place.
pub(super) fn shape(spec: &AuthFilter, field: &str) -> Result<Shape, Fault> {
    let grpc = match &*spec.protocol {
        "GRPC" => true,
        "HTTP" => false,
        other => {
            let message = format!("{field}.protocol {other:?}: expected GRPC or HTTP");
            return Err(Fault::new("UnsupportedProtocol", message));
        }
    };
    let path = if grpc { Ok("".into()) } else { path(&spec.http.path) };
    let path = path.map_err(|message| Fault::unsupported(message).at(format!("{field}.http.path")))?;
    Ok(Shape { grpc, path })
}

/// Resolves a filter; `field` is its place.
pub(super) fn external(
    view: &View<'_>,
    state: &State,
    from: &RefFrom<'_>,
    spec: &AuthFilter,
    field: &str,
) -> Result<(ExternalAuth, ClusterId), Closed> {
    let Shape { grpc, path } = shape(spec, field).map_err(Some)?;
    let speaks = grpc.then_some(AppProtocol::Http2);
    let cluster = backend::backend(view, state, from, &spec.backend_ref, speaks)
        .map_err(|fault| Some(fault.at(format!("{field}.backendRef"))))?
        .ok_or(None)?;
    let protocol = if grpc {
        let headers = spec.grpc.allowed_headers.as_slice();
        let headers = if headers.is_empty() { HeaderNames::All } else { HeaderNames::Only(names(headers)) };
        AuthProtocol::Grpc { authority: authority(&cluster), headers }
    } else {
        let copied: &[_] = &spec.http.allowed_response_headers;
        let response_headers = if copied.is_empty() {
            HeaderNames::All
        } else {
            let framing = |name: &str| name == "host" || OF_THE_CONNECTION.contains(&name);
            HeaderNames::Only(names(copied).into_iter().filter(|name| !framing(name)).collect())
        };
        AuthProtocol::Http { path, headers: names(&spec.http.allowed_headers), response_headers }
    };
    let body = spec.forward_body.max_size.filter(|most| *most > 0);
    Ok((ExternalAuth { cluster: cluster.name(), protocol, body }, cluster))
}

/// Names of headers, lower case. What no header can be called matches none.
fn names(list: &[Arc<str>]) -> Vec<Arc<str>> {
    let mut names: Vec<Arc<str>> =
        list.iter().filter(|name| is_token(name)).map(|name| name.to_ascii_lowercase().into()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// The server's name in a call: what its certificate says, else the Service's.
fn authority(cluster: &ClusterId) -> Arc<str> {
    match &cluster.tls {
        Some(tls) => tls.tls.server_name.clone(),
        None => format!("{}.{}:{}", cluster.service, cluster.namespace, cluster.port).into(),
    }
}

/// A path that others can be put behind. The field's documentation wants it sanitized: no query, and no way up.
fn path(text: &str) -> Result<Arc<str>, String> {
    let trimmed = text.trim_matches('/');
    if trimmed.is_empty() {
        return Ok("".into());
    }
    let wrong = |character: char| !character.is_ascii_graphic() || matches!(character, '?' | '#' | '\\');
    let up =
        |segment: &str| matches!(segment.to_ascii_lowercase().replace("%2e", ".").as_str(), "" | "." | "..");
    if trimmed.contains(wrong) || trimmed.split('/').any(up) {
        return Err(format!("{text:?} is not a path without query, fragment, empty or relative elements"));
    }
    Ok(format!("/{trimmed}").into())
}

#[cfg(test)]
mod tests {
    use super::path;

    #[test]
    fn paths_that_others_can_be_put_behind() {
        for (given, expected) in
            [("", ""), ("/", ""), ("check", "/check"), ("/check/", "/check"), ("/a/b", "/a/b")]
        {
            assert_eq!(path(given).unwrap().as_ref(), expected, "{given}");
        }
        for wrong in ["/a?b", "/a#b", "/../a", "/a/%2E./b", "/a//b", "/a b", "/ä"] {
            assert!(path(wrong).is_err(), "{wrong}");
        }
    }
}
