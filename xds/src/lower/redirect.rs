//! Redirects (`HTTPRequestRedirectFilter`).

use portolan_xds_proto::envoy::config::route::v3::{
    RedirectAction, Route,
    redirect_action::{PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier},
    route,
};

use super::{
    filters::{self, NewPath},
    matches, wire,
};
use crate::ir::{Redirect, RedirectScheme, RouteTable};

/// Lowers a redirect onto `base`, a route that has everything but its action.
///
/// The API's port rule: the given port; else the well-known port of the given scheme; else the listener's port. A
/// well-known port is left out of `Location`. Envoy keeps the port of the Host header when it is told none, so a
/// request that names a port in it gets a route of its own that says the port, also a well-known one.
pub(super) fn routes(base: Route, redirect: &Redirect, table: &RouteTable) -> Vec<Route> {
    let own_scheme = if table.tls { RedirectScheme::Https } else { RedirectScheme::Http };
    let scheme = redirect.scheme.unwrap_or(own_scheme);
    let port = redirect.port.unwrap_or(match redirect.scheme {
        Some(scheme) => well_known(scheme),
        None => table.port,
    });
    let implied = port == well_known(scheme);
    let action = |port: u16| RedirectAction {
        host_redirect: redirect.hostname.as_deref().unwrap_or_default().to_owned(),
        port_redirect: port.into(),
        response_code: code(redirect.status).into(),
        scheme_rewrite_specifier: redirect
            .scheme
            .map(|scheme| SchemeRewriteSpecifier::SchemeRedirect(name(scheme).to_owned())),
        path_rewrite_specifier: redirect.path.as_ref().and_then(path),
        ..RedirectAction::default()
    };
    let route = |base: Route, port| Route { action: Some(route::Action::Redirect(action(port))), ..base };
    if !implied {
        return vec![route(base, port)];
    }
    if redirect.hostname.is_some() {
        return vec![route(base, 0)];
    }
    let mut host_with_port = base.clone();
    if let Some(matching) = &mut host_with_port.r#match {
        matching.headers.push(matches::header(":authority", wire::matching(".*:[0-9]+")));
    }
    vec![route(host_with_port, port), route(base, 0)]
}

const fn well_known(scheme: RedirectScheme) -> u16 {
    match scheme {
        RedirectScheme::Http => 80,
        RedirectScheme::Https => 443,
    }
}

const fn name(scheme: RedirectScheme) -> &'static str {
    match scheme {
        RedirectScheme::Http => "http",
        RedirectScheme::Https => "https",
    }
}

const fn code(status: u16) -> RedirectResponseCode {
    match status {
        301 => RedirectResponseCode::MovedPermanently,
        303 => RedirectResponseCode::SeeOther,
        307 => RedirectResponseCode::TemporaryRedirect,
        308 => RedirectResponseCode::PermanentRedirect,
        _ => RedirectResponseCode::Found,
    }
}

fn path(rewrite: &crate::ir::PathRewrite) -> Option<PathRewriteSpecifier> {
    match filters::new_path(rewrite) {
        NewPath::Keep => None,
        NewPath::Prefix(prefix) => Some(PathRewriteSpecifier::PrefixRewrite(prefix)),
        NewPath::Regex(substitution) => Some(PathRewriteSpecifier::RegexRewrite(substitution)),
        NewPath::Full(path) => Some(PathRewriteSpecifier::PathRedirect(path)),
    }
}
