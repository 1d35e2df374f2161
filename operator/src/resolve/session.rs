//! Session persistence (GEP-1619): what a client of a rule carries.

use std::sync::Arc;

use portolan_xds::ir::Session;

use super::{Fault, filters::is_token};
use crate::model::{ObjectKey, Rule, parse_duration};

/// The path of a cookie that names none (SessionPersistence `cookie.path`).
const ROOT: &str = "/";

/// Resolves a rule's session persistence. An error means that the rule cannot be expressed.
pub(super) fn session(route: &ObjectKey, rule: &Rule) -> Result<Option<Arc<Session>>, Fault> {
    let Some(spec) = &rule.session else { return Ok(None) };
    let wrong = |message: String| Fault::unsupported(message).at("sessionPersistence");
    // Envoy draws a backend first and looks for the endpoint in it, so that a client would lose it again and again.
    if rule.backends.iter().filter(|backend| backend.weight > 0).count() > 1 {
        return Err(wrong("is for rules with one backend of a weight above 0".into()));
    }
    if spec.idle_timeout.is_some() {
        return Err(wrong("idleTimeout is not supported".into()));
    }
    let lifetime = spec.absolute_timeout.as_deref().map(parse_duration).transpose();
    let lifetime = lifetime.map_err(|error| wrong(format!("absoluteTimeout: {error}")))?;
    let session = match spec.type_.as_deref() {
        None | Some("Cookie") => {
            let cookie = spec.cookie.as_ref();
            let permanent = cookie.and_then(|one| one.lifetime_type.as_deref()) == Some("Permanent");
            if permanent && lifetime.is_none() {
                return Err(wrong(
                    "absoluteTimeout must be given when cookie.lifetimeType is Permanent".into(),
                ));
            }
            let name = cookie.and_then(|one| one.name.as_ref()).or(spec.session_name.as_ref());
            let path = cookie.and_then(|one| one.path.clone()).unwrap_or_else(|| ROOT.into());
            if !path.starts_with('/') || path.contains(|one: char| !one.is_ascii_graphic() || one == ';') {
                return Err(wrong(format!(
                    "cookie.path {path:?}: expected a path of visible ASCII without ;"
                )));
            }
            Session::Cookie { name: name.cloned().unwrap_or_else(|| own_name(route, rule)), path, lifetime }
        }
        Some("Header") => {
            let name = spec.header.as_ref().map(|one| &one.name).or(spec.session_name.as_ref());
            let Some(name) = name else {
                return Err(wrong("header.name must be given for type Header".into()));
            };
            if lifetime.is_some() {
                return Err(wrong("absoluteTimeout is not supported for type Header".into()));
            }
            Session::Header { name: name.to_ascii_lowercase().into() }
        }
        Some(other) => return Err(wrong(format!("type {other:?}: expected Cookie or Header"))),
    };
    let (Session::Cookie { name, .. } | Session::Header { name }) = &session;
    if !is_token(name) {
        return Err(wrong(format!("{name:?} is not the name of a cookie or header")));
    }
    Ok(Some(Arc::new(session)))
}

/// A name that no other rule's cookie has, and that stays when rules change places: of the rule's name, else its matches.
fn own_name(route: &ObjectKey, rule: &Rule) -> Arc<str> {
    let identity = match &rule.name {
        Some(name) => format!("{route} name {name}"),
        None => format!("{route} matches {:?}", rule.matches),
    };
    let hash: String = blake3::hash(identity.as_bytes()).to_hex().chars().take(12).collect();
    format!("portolan-session-{hash}").into()
}
