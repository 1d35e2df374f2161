//! Virtual hosts: the rules of all routes that share a hostname, in the API's precedence.
//!
//! A host can have ten thousand routes. Then what did not change is taken over from the last output, pointers included:
//! a change costs a walk over pointers, here and wherever they are compared.

use std::{collections::BTreeSet, sync::Arc};

use portolan_xds::ir::{self, Origin, Otherwise, RouteRank, VirtualHost, VirtualHostKey};

use super::{
    ClusterId, RouteOut,
    engine::State,
    slot::{Members, Rank, Slot, Structural},
};
use crate::{
    model::ObjectKey,
    world::{Read, View},
};

/// From so many routes on, the parts of a host are kept for the next time.
const WORTH_KEEPING: usize = 8;

/// A virtual host and the backends it needs.
#[derive(Clone, Debug)]
pub struct HostOut {
    pub(super) host: Arc<VirtualHost>,
    pub(super) clusters: Arc<BTreeSet<ClusterId>>,
    /// What it was made of, in the order of members; nothing for hosts of few routes.
    parts: Vec<Arc<Part>>,
}

impl PartialEq for HostOut {
    // Parts are how, not what.
    fn eq(&self, other: &Self) -> bool {
        self.host == other.host && self.clusters == other.clusters
    }
}

/// What one route brings to a host.
#[derive(Debug)]
struct Part {
    object: ObjectKey,
    rank: Rank,
    rules: Arc<RouteOut>,
    routes: Vec<Arc<ir::Route>>,
}

/// Resolves [`super::Unit::Host`]. `before` is its last output.
pub(super) fn host(
    view: &View<'_>,
    state: &State,
    gateway: &ObjectKey,
    key: &VirtualHostKey,
    before: Option<&HostOut>,
) -> Option<HostOut> {
    let slot = Slot::Host(key.clone());
    view.record(Read::MembersOf(slot.clone()));
    let members = state.slots.members(&slot)?;
    let holder = members.holder();
    let gateway = || Some(Origin::new(gateway.to_string()));
    let filters = holder.and_then(|one| state.pre_routing(&one.owner)?.listeners.get(&one.listener).cloned());
    if filters.as_ref().is_some_and(|filters| filters.closed) {
        let host = VirtualHost { otherwise: Otherwise::Closed, origin: gateway(), ..VirtualHost::default() };
        return Some(HostOut { host: Arc::new(host), clusters: Arc::default(), parts: Vec::new() });
    }
    let filters = filters.unwrap_or_default();
    let before = before.filter(|before| !before.parts.is_empty());
    let (parts, difference) = parts(members, before.map_or(&[], |before| &before.parts));
    let routes = match before {
        Some(before) if difference.is_small(&before.host) => difference.apply(&before.host.routes),
        _ => sorted(parts.iter().flat_map(|part| part.routes.iter().cloned()).collect()),
    };
    if routes.is_empty() && members.structural.is_none() {
        return None;
    }
    let same_filters = |before: &&HostOut| before.host.auth == filters.servers;
    let clusters = match (before.filter(same_filters), parts.as_slice()) {
        (_, [only]) if filters.clusters.is_empty() => Arc::clone(&only.rules.clusters),
        (Some(before), _) if difference.keeps_clusters() => Arc::clone(&before.clusters),
        _ => {
            let of_routes = parts.iter().flat_map(|part| part.rules.clusters.iter());
            Arc::new(of_routes.chain(&filters.clusters).cloned().collect())
        }
    };
    let otherwise = match members.structural {
        Some(Structural::Misdirected) => Otherwise::Misdirected,
        _ => Otherwise::NotFound,
    };
    let parts = if parts.len() < WORTH_KEEPING { Vec::new() } else { parts };
    let origin = if filters.servers.is_empty() { None } else { gateway() };
    let host = VirtualHost { routes, auth: filters.servers.clone(), otherwise, origin };
    Some(HostOut { host: Arc::new(host), clusters, parts })
}

/// The parts that differ from those of the last output.
#[derive(Debug, Default)]
struct Difference<'a> {
    gone: Vec<&'a Arc<Part>>,
    new: Vec<Arc<Part>>,
}

/// The parts of all members. Those of before that are still right are used again.
fn parts<'a>(members: &Members, before: &'a [Arc<Part>]) -> (Vec<Arc<Part>>, Difference<'a>) {
    let mut difference = Difference::default();
    let mut before = before.iter().peekable();
    let mut parts = Vec::with_capacity(members.routes.len());
    for (object, member) in &members.routes {
        let Some(rules) = &member.rules else { continue };
        // Both are in order of objects. Most are equal, which the pointers of names tell.
        let mut old = before.next_if(|old| same(&old.object, object));
        while old.is_none()
            && let Some(gone) = before.next_if(|old| old.object < *object)
        {
            difference.gone.push(gone);
            old = before.next_if(|old| same(&old.object, object));
        }
        if let Some(old) = old {
            if Arc::ptr_eq(&old.rules, rules) && old.rank == member.place.rank {
                parts.push(Arc::clone(old));
                continue;
            }
            difference.gone.push(old);
        }
        let new = Arc::new(part(object, member.place.rank, rules));
        difference.new.push(Arc::clone(&new));
        parts.push(new);
    }
    difference.gone.extend(before);
    (parts, difference)
}

/// Whether two keys are equal; clones of one key are without a look at their texts.
fn same(one: &ObjectKey, other: &ObjectKey) -> bool {
    let clones = Arc::ptr_eq(&one.name, &other.name) && Arc::ptr_eq(&one.namespace, &other.namespace);
    one.kind == other.kind && (clones || one == other)
}

impl Difference<'_> {
    /// Whether applying it is cheaper than sorting everything.
    fn is_small(&self, host: &VirtualHost) -> bool {
        let routes = |part: &Part| part.routes.len();
        let gone: usize = self.gone.iter().map(|part| routes(part)).sum();
        let new: usize = self.new.iter().map(|part| routes(part)).sum();
        (gone + new) * 64 < host.routes.len()
    }

    fn apply(&self, before: &[Arc<ir::Route>]) -> Vec<Arc<ir::Route>> {
        let mut routes =
            Vec::with_capacity(before.len() + self.new.iter().map(|part| part.routes.len()).sum::<usize>());
        routes.extend(before.iter().cloned());
        for route in self.gone.iter().flat_map(|part| &part.routes) {
            if let Ok(place) = routes.binary_search_by(|each| each.rank.cmp(&route.rank)) {
                routes.remove(place);
            }
        }
        for route in self.new.iter().flat_map(|part| &part.routes) {
            let place = routes.partition_point(|each| each.rank < route.rank);
            routes.insert(place, Arc::clone(route));
        }
        routes
    }

    fn keeps_clusters(&self) -> bool {
        let of = |part: &'_ Arc<Part>| BTreeSet::clone(&part.rules.clusters);
        let gone: BTreeSet<ClusterId> = self.gone.iter().copied().flat_map(of).collect();
        gone == self.new.iter().flat_map(of).collect()
    }
}

fn part(object: &ObjectKey, rank: Rank, rules: &Arc<RouteOut>) -> Part {
    let origin = Origin::new(object.to_string());
    let identity: (Arc<str>, Arc<str>) =
        (format!("{}/{}", object.namespace, object.name).into(), object.kind.as_str().into());
    let mut routes = Vec::with_capacity(rules.rules.iter().map(|rule| rule.matches.len()).sum());
    for rule in &rules.rules {
        for (matching, (matches, precedence, action)) in rule.matches.iter().enumerate() {
            routes.push(Arc::new(ir::Route {
                rank: RouteRank {
                    hostname: rank,
                    path_kind: precedence.path_kind,
                    path_length: precedence.path_length,
                    method: precedence.method,
                    headers: precedence.headers,
                    query: precedence.query,
                    created: rules.created,
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
    Part { object: object.clone(), rank, rules: Arc::clone(rules), routes }
}

fn sorted(mut routes: Vec<Arc<ir::Route>>) -> Vec<Arc<ir::Route>> {
    routes.sort_by(|one, other| one.rank.cmp(&other.rank));
    routes
}
