//! Session persistence (GEP-1619): the address of the endpoint travels with the client, and is no more than a wish.
//!
//! An endpoint that is gone, or a value that names none of the backend's, makes the request go where any other would, and
//! the answer carries the new address.

use portolan_xds_proto::envoy::config::core::v3::TypedExtensionConfig;
use portolan_xds_proto::envoy::extensions::filters::http::stateful_session::v3::{
    StatefulSession, StatefulSessionPerRoute, stateful_session_per_route::Override,
};
use portolan_xds_proto::envoy::extensions::http::stateful_session::{
    cookie::v3::CookieBasedSessionState, header::v3::HeaderBasedSessionState,
};
use portolan_xds_proto::envoy::r#type::http::v3::Cookie;

use super::wire;
use crate::ir::Session;

/// The name of the filter, and the key of its per-route configuration.
pub(super) const FILTER: &str = "envoy.filters.http.stateful_session";

/// Lowers what a client carries.
pub(super) fn per_route(session: &Session) -> StatefulSessionPerRoute {
    let (name, state) = match session {
        Session::Cookie { name, path, lifetime } => {
            let cookie = Cookie {
                name: name.to_string(),
                ttl: lifetime.map(wire::duration),
                path: path.to_string(),
                ..Cookie::default()
            };
            let state = CookieBasedSessionState { cookie: Some(cookie) };
            ("envoy.http.stateful_session.cookie", portolan_xds_proto::any(&state))
        }
        Session::Header { name } => {
            let state = HeaderBasedSessionState { name: name.to_string() };
            ("envoy.http.stateful_session.header", portolan_xds_proto::any(&state))
        }
    };
    StatefulSessionPerRoute {
        r#override: Some(Override::StatefulSession(StatefulSession {
            session_state: Some(TypedExtensionConfig { name: name.to_owned(), typed_config: Some(state) }),
            ..StatefulSession::default()
        })),
    }
}

/// No session, but a place for one: see [`super::auth::before_routes`].
pub(super) fn none() -> StatefulSessionPerRoute {
    StatefulSessionPerRoute { r#override: Some(Override::Disabled(true)) }
}
