//! Virtual hosts: the rules of all routes that share a hostname, in the API's precedence.

use std::{collections::BTreeSet, sync::Arc};

use portolan_xds::ir::{self, Origin, RouteRank, VirtualHost, VirtualHostKey};

use super::{ClusterId, Unit, engine::State, slot::Slot};
use crate::world::{Read, View};

/// A virtual host and the backends it needs.
#[derive(Clone, Debug, PartialEq)]
pub struct HostOut {
    pub(super) host: Arc<VirtualHost>,
    pub(super) clusters: BTreeSet<ClusterId>,
}

/// Resolves [`Unit::Host`].
pub(super) fn host(view: &View<'_>, state: &State, key: &VirtualHostKey) -> Option<HostOut> {
    let slot = Slot::Host(key.clone());
    view.record(Read::MembersOf(slot.clone()));
    let members = state.slots.members(&slot)?;
    let mut routes = Vec::new();
    let mut clusters = BTreeSet::new();
    for (object, hostname) in &members.routes {
        view.record(Read::Output(Unit::Route(object.clone())));
        let Some(route) = state.route(object) else { continue };
        clusters.extend(route.clusters.iter().cloned());
        let origin = Origin::new(object.to_string());
        let identity: (Arc<str>, Arc<str>) =
            (format!("{}/{}", object.namespace, object.name).into(), object.kind.as_str().into());
        for rule in &route.rules {
            for (matching, (matches, precedence, action)) in rule.matches.iter().enumerate() {
                routes.push(Arc::new(ir::Route {
                    rank: RouteRank {
                        hostname: *hostname,
                        path_kind: precedence.path_kind,
                        path_length: precedence.path_length,
                        method: precedence.method,
                        headers: precedence.headers,
                        query: precedence.query,
                        created: route.created,
                        object: identity.clone(),
                        rule: rule.index,
                        matching,
                    },
                    origin: origin.clone(),
                    name: rule.name.clone(),
                    matches: matches.clone(),
                    action: action.clone(),
                }));
            }
        }
    }
    routes.sort_by(|a, b| a.rank.cmp(&b.rank));
    if routes.is_empty() && members.structural.is_none() {
        return None;
    }
    let misdirected = members.structural.unwrap_or(false);
    Some(HostOut { host: Arc::new(VirtualHost { routes, misdirected }), clusters })
}
