//! What a listener does with requests before a route is picked: `filters.requests` (GEP-5224).
//!
//! Every filter runs, in the order of the list, whatever the request's route will be. A filter that cannot be had closes the
//! listener's hosts: to leave it out would let requests in that it is there to keep out.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use portolan_xds::ir::ExternalAuth;

use super::{ClusterId, Fault, Protocol, RefFrom, auth, class::class_of, engine::State};
use crate::{
    model::{Filter, Kind, ListenerSpec, ObjectKey},
    world::View,
};

/// The filters of the listeners of a Gateway or of a ListenerSet.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PreRoutingOut {
    /// By listener name; listeners without filters are absent.
    pub listeners: BTreeMap<Arc<str>, Arc<PreRouting>>,
    /// Policies about the Services that they refer to, in force or not: their status tells of the Gateway.
    pub policies: BTreeSet<ObjectKey>,
}

/// The filters of one listener.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PreRouting {
    /// Who is asked, one after the other.
    pub servers: Vec<Arc<ExternalAuth>>,
    /// Their clusters.
    pub clusters: BTreeSet<ClusterId>,
    /// Whether nothing may pass, as one of them cannot be had.
    pub closed: bool,
    /// References that cannot be followed.
    pub faults: Vec<Fault>,
}

/// Resolves [`super::Unit::PreRouting`]; nothing where no listener has filters.
pub(super) fn pre_routing(view: &View<'_>, state: &State, key: &ObjectKey) -> Option<PreRoutingOut> {
    let listeners = if key.kind == Kind::ListenerSet {
        view.listener_set(key)?.listeners.clone()
    } else {
        let gateway = view.gateway(key)?;
        class_of(view, state, &gateway)?;
        gateway.listeners.clone()
    };
    let mut out = PreRoutingOut::default();
    for listener in &listeners {
        let filters = listener.filters.as_deref().unwrap_or_default();
        if !filters.is_empty() {
            out.listeners.insert(listener.name.clone(), Arc::new(of_listener(view, state, key, filters)));
        }
    }
    out.policies = view.policies_seen();
    (!out.listeners.is_empty()).then_some(out)
}

fn of_listener(view: &View<'_>, state: &State, owner: &ObjectKey, filters: &[Filter]) -> PreRouting {
    let mut out = PreRouting::default();
    for (position, filter) in filters.iter().enumerate() {
        let field = field(position);
        let fault = match filter {
            Filter::ExternalAuth { external_auth } => {
                let field = format!("{field}.externalAuth");
                match auth::external(view, state, &RefFrom::of(owner), external_auth, &field) {
                    Ok((server, cluster)) => {
                        out.servers.push(Arc::new(server));
                        out.clusters.insert(cluster);
                        continue;
                    }
                    Err(fault) => fault,
                }
            }
            Filter::ExtensionRef { extension_ref } => Some(Fault::new(
                "InvalidKind",
                format!("{field}.extensionRef {extension_ref}: no such filter"),
            )),
            // What it is is wrong, not what it refers to: see `check`.
            _ => None,
        };
        out.closed = true;
        out.faults.extend(fault.map(|fault| match fault.reason {
            "RefNotPermitted" => fault,
            _ => Fault::new("InvalidListenerFilterRef", fault.message),
        }));
    }
    out
}

/// What is wrong with the filters of a listener by themselves.
pub(super) fn check(spec: &ListenerSpec, protocol: Protocol) -> Result<(), Fault> {
    let invalid = |message: String| Fault::new("InvalidListenerFilter", message);
    let filters = spec.filters.as_ref().map_err(|message| invalid(message.clone()))?;
    if !filters.is_empty() && !matches!(protocol, Protocol::Http | Protocol::Https) {
        let message =
            format!("filters: a listener of protocol {protocol} has no requests; use HTTP or HTTPS");
        return Err(invalid(message));
    }
    for (position, filter) in filters.iter().enumerate() {
        let field = field(position);
        match filter {
            Filter::ExternalAuth { external_auth } => {
                let shape = auth::shape(external_auth, &format!("{field}.externalAuth"));
                shape.map_err(|fault| invalid(fault.message))?;
            }
            // It must not be passed over (GEP-5224, "No skipping").
            Filter::ExtensionRef { extension_ref } => {
                let message = format!("{field}: ExtensionRef {extension_ref}: Portolan has no such filter");
                return Err(Fault::unsupported(message));
            }
            _ => return Err(invalid(format!("{field}.type: expected ExternalAuth or ExtensionRef"))),
        }
    }
    Ok(())
}

fn field(position: usize) -> String {
    format!("filters.requests[{position}]")
}
