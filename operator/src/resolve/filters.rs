//! Filters: from the API to the IR.

use std::sync::Arc;

use portolan_xds::ir::{
    Cors, CorsOrigin, ExternalAuth, Fraction, HeaderEdit, HeaderEdits, Millis, Mirror, PathMatch,
    PathRewrite, Redirect, RedirectScheme, UrlRewrite,
};

use super::{
    Fault, RefFrom, auth,
    backend::{self, ClusterId},
    engine::State,
};
use crate::{
    model::{CorsFilter, Filter, HeaderModifier, MirrorFilter, PathModifier, RedirectFilter, RewriteFilter},
    world::View,
};

/// The filters of one position, put together.
#[derive(Clone, Debug, Default)]
pub(super) struct Filters {
    pub(super) request_headers: HeaderEdits,
    pub(super) response_headers: HeaderEdits,
    pub(super) cors: Option<Cors>,
    pub(super) auth: Option<Arc<ExternalAuth>>,
    pub(super) redirect: Option<RedirectFilter>,
    pub(super) rewrite: Option<RewriteFilter>,
    pub(super) mirrors: Vec<Mirror>,
    pub(super) clusters: Vec<ClusterId>,
    /// References of filters that cannot be followed.
    pub(super) faults: Vec<Fault>,
    /// Why nothing may pass: the rule answers 500. A filter that Portolan does not have must not be skipped
    /// (HTTPRouteFilter.extensionRef), and one that cannot ask for authorization fails closed (GEP-1494).
    pub(super) closed: Option<&'static str>,
}

/// Reads the filters of one position. An error means that the rule cannot be expressed.
pub(super) fn collect(
    view: &View<'_>,
    state: &State,
    from: &RefFrom<'_>,
    filters: &[Filter],
) -> Result<Filters, Fault> {
    let mut out = Filters::default();
    for (position, filter) in filters.iter().enumerate() {
        let field = format!("filters[{position}]");
        match filter {
            Filter::RequestHeaderModifier { request_header_modifier } => {
                out.request_headers = edits("requestHeaderModifier", request_header_modifier)
                    .map_err(|fault| fault.at(&field))?;
            }
            Filter::ResponseHeaderModifier { response_header_modifier } => {
                out.response_headers = edits("responseHeaderModifier", response_header_modifier)
                    .map_err(|fault| fault.at(&field))?;
            }
            Filter::RequestMirror { request_mirror } => {
                match backend::backend(view, state, from, &request_mirror.backend_ref, None) {
                    Ok(None) => {}
                    Ok(Some(cluster)) => {
                        out.mirrors
                            .push(Mirror { cluster: cluster.name(), fraction: fraction(request_mirror) });
                        out.clusters.push(cluster);
                    }
                    Err(fault) => {
                        out.faults.push(fault.at(format!("{field}.requestMirror.backendRef")));
                    }
                }
            }
            Filter::RequestRedirect { request_redirect } => out.redirect = Some(request_redirect.clone()),
            Filter::UrlRewrite { url_rewrite } => out.rewrite = Some(url_rewrite.clone()),
            Filter::Cors { cors } => out.cors = Some(self::cors(cors)),
            Filter::ExtensionRef { extension_ref } => {
                out.closed = Some("the rule has a filter that does not exist");
                let fault =
                    Fault::new("InvalidKind", format!("extensionRef {extension_ref}: no such filter"));
                out.faults.push(fault.at(&field));
            }
            Filter::ExternalAuth { external_auth } => {
                let field = format!("{field}.externalAuth");
                let twice =
                    || Fault::unsupported("is there twice: expected at most one in a list").at(&field);
                let resolved = match auth::external(view, state, from, external_auth, &field) {
                    Ok(_) if out.auth.is_some() => Err(Some(twice())),
                    resolved => resolved,
                };
                match resolved {
                    Ok((server, cluster)) => {
                        out.auth = Some(Arc::new(server));
                        out.clusters.push(cluster);
                    }
                    Err(fault) => {
                        out.closed = Some("nobody can be asked whether the request may pass");
                        out.faults.extend(fault);
                    }
                }
            }
        }
    }
    if out.redirect.is_some() && out.rewrite.is_some() {
        return Err(Fault::new(
            "IncompatibleFilters",
            "RequestRedirect and URLRewrite cannot be used together",
        ));
    }
    Ok(out)
}

/// Headers that frame a message or steer its connection (RFC 9110 §7.6.1, RFC 9112 §6). A length that does not fit its body
/// would make the next request's bytes, of whichever route, part of this one.
pub(super) const OF_THE_CONNECTION: [&str; 8] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Edits that Envoy can carry out. It rejects whole configurations for names and values that no header can have, and
/// edits a request's host only by replacing it.
fn edits(field: &str, spec: &HeaderModifier) -> Result<HeaderEdits, Fault> {
    let unsupported = |what: String| Fault::new("UnsupportedValue", what).at(field);
    let name = |list: &str, name: &str| -> Result<Arc<str>, Fault> {
        let lower = name.to_ascii_lowercase();
        let replaces_host = field == "requestHeaderModifier" && list == "set";
        if !is_token(name) {
            Err(unsupported(format!("{list}: {name:?} is not the name of a header")))
        } else if OF_THE_CONNECTION.contains(&&*lower) {
            Err(unsupported(format!(
                "{list}: {name} belongs to the connection, which other routes share; it cannot be changed"
            )))
        } else if lower == "host" && !replaces_host {
            Err(unsupported(format!("{list}: host can only be set, and only in a request")))
        } else {
            Ok(lower.into())
        }
    };
    let list = |list: &str, headers: &[crate::model::Header]| -> Result<Vec<HeaderEdit>, Fault> {
        let edit = |one: &crate::model::Header| {
            if one.value.chars().any(|character| character.is_control() && character != '\t') {
                let message = format!("{list}: the value of {} holds a control character", one.name);
                return Err(unsupported(message));
            }
            Ok(HeaderEdit { name: name(list, &one.name)?, value: one.value.clone() })
        };
        headers.iter().map(edit).collect()
    };
    Ok(HeaderEdits {
        set: list("set", &spec.set)?,
        add: list("add", &spec.add)?,
        remove: spec.remove.iter().map(|one| name("remove", one)).collect::<Result<_, _>>()?,
    })
}

/// RFC 9110 §5.6.2.
pub(super) fn is_token(text: &str) -> bool {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(token)
}

fn fraction(spec: &MirrorFilter) -> Option<Fraction> {
    match (spec.percent, spec.fraction) {
        (Some(percent), _) => Some(Fraction { numerator: percent.min(100), denominator: 100 }),
        (None, Some(share)) => {
            let denominator = share.denominator.max(1);
            Some(Fraction { numerator: share.numerator.min(denominator), denominator })
        }
        (None, None) => None,
    }
}

/// Whether a rewrite or redirect depends on the prefix of the match.
pub(super) fn needs_prefix(filters: &Filters) -> bool {
    let prefix = |path: Option<&PathModifier>| matches!(path, Some(PathModifier::ReplacePrefixMatch { .. }));
    prefix(filters.rewrite.as_ref().and_then(|one| one.path.as_ref()))
        || prefix(filters.redirect.as_ref().and_then(|one| one.path.as_ref()))
}

fn path(spec: Option<&PathModifier>, matched: &PathMatch) -> Result<Option<PathRewrite>, Fault> {
    Ok(match (spec, matched) {
        (None, _) => None,
        (Some(PathModifier::ReplaceFullPath { replace_full_path }), _) => {
            Some(PathRewrite::Full(replace_full_path.clone()))
        }
        (Some(PathModifier::ReplacePrefixMatch { replace_prefix_match }), PathMatch::Prefix(prefix)) => {
            Some(PathRewrite::Prefix { matched: prefix.clone(), replacement: replace_prefix_match.clone() })
        }
        (Some(PathModifier::ReplacePrefixMatch { .. }), _) => {
            return Err(Fault::new(
                "UnsupportedValue",
                "ReplacePrefixMatch needs a match of type PathPrefix",
            ));
        }
    })
}

/// A rewrite for one match.
pub(super) fn rewrite(spec: Option<&RewriteFilter>, matched: &PathMatch) -> Result<UrlRewrite, Fault> {
    let Some(spec) = spec else { return Ok(UrlRewrite::default()) };
    Ok(UrlRewrite { hostname: spec.hostname.clone(), path: path(spec.path.as_ref(), matched)? })
}

/// A redirect for one match.
pub(super) fn redirect(spec: &RedirectFilter, matched: &PathMatch) -> Result<Redirect, Fault> {
    let scheme = match spec.scheme.as_deref() {
        None => None,
        Some("http") => Some(RedirectScheme::Http),
        Some("https") => Some(RedirectScheme::Https),
        Some(other) => {
            return Err(Fault::new(
                "UnsupportedValue",
                format!("requestRedirect.scheme {other:?}: expected http or https"),
            ));
        }
    };
    let status = spec.status_code.unwrap_or(302);
    if !matches!(status, 301 | 302 | 303 | 307 | 308) {
        return Err(Fault::new(
            "UnsupportedValue",
            format!("requestRedirect.statusCode {status}: expected 301, 302, 303, 307 or 308"),
        ));
    }
    Ok(Redirect {
        scheme,
        hostname: spec.hostname.clone(),
        port: spec.port,
        path: path(spec.path.as_ref(), matched)?,
        status,
    })
}

fn cors(spec: &CorsFilter) -> Cors {
    let origin = |text: &Arc<str>| match &**text {
        "*" => CorsOrigin::Any,
        wildcard if wildcard.contains('*') => CorsOrigin::Wildcard(text.clone()),
        _ => CorsOrigin::Exact(text.clone()),
    };
    Cors {
        allow_origins: spec.allow_origins.iter().map(origin).collect(),
        allow_methods: spec.allow_methods.clone(),
        allow_headers: spec.allow_headers.clone(),
        expose_headers: spec.expose_headers.clone(),
        allow_credentials: spec.allow_credentials.unwrap_or(false),
        max_age: Millis(spec.max_age.unwrap_or(5).saturating_mul(1_000)),
    }
}
