//! A route table with its virtual hosts.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    admission::Admission,
    chunk::{ChunkKey, Part, ResourceKey},
    host::{Host, OriginChange},
};
use crate::{
    ir::{Origin, Route, RouteTable, RouteTableName, VirtualHost},
    store::{Body, ResourceType, host_name},
};

/// The domain of what no other host serves. Every table has a virtual host for it, without routes if need be: Envoy holds
/// back a listener until its table has a virtual host, and what matches no route is a 404 with it as without it.
pub(super) const CATCH_ALL: &str = "*";

/// One RouteConfiguration. The head may come after its hosts inside a delta, so it is optional.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) head: Option<Arc<RouteTable>>,
    hosts: BTreeMap<Arc<str>, Host>,
}

pub(super) fn table_resource(table: &RouteTableName) -> ResourceKey {
    ResourceKey { kind: ResourceType::RouteConfiguration, name: Arc::clone(table) }
}

pub(super) fn host_resource(table: &RouteTableName, domain: &str) -> ResourceKey {
    ResourceKey { kind: ResourceType::VirtualHost, name: host_name(table, domain) }
}

pub(super) fn routes_key(host: &ResourceKey, origin: &Origin) -> ChunkKey {
    ChunkKey { resource: host.clone(), part: Part::Routes(origin.clone()) }
}

impl Table {
    /// The head and the virtual hosts by domain, for people.
    pub(super) fn pieces(&self) -> serde_json::Value {
        let hosts: BTreeMap<_, _> =
            self.hosts.iter().map(|(domain, host)| (domain, host.desired())).collect();
        serde_json::json!({"head": self.head, "hosts": hosts})
    }

    /// Replaces the head, and says whether it changed. Redirects depend on it, so every host is encoded anew then.
    pub(super) fn set_head(&mut self, head: Arc<RouteTable>) -> bool {
        if self.head.as_ref() == Some(&head) {
            return false;
        }
        self.head = Some(head);
        self.hosts.values_mut().for_each(Host::forget);
        true
    }

    /// The domains of all its virtual hosts.
    pub(super) fn domains(&self) -> impl Iterator<Item = &str> {
        let others = self.hosts.keys().map(|domain| &**domain).filter(|domain| *domain != CATCH_ALL);
        others.chain([CATCH_ALL])
    }

    /// The objects, beside those of routes, whose content a host has before and after it is replaced, where that changes. A host
    /// that is new came with a route, which is told.
    pub(super) fn owners_to_tell(&self, domain: &str, desired: &VirtualHost) -> Vec<Origin> {
        let Some(before) = self.hosts.get(domain).map(Host::desired) else { return Vec::new() };
        if (&before.auth, before.otherwise) == (&desired.auth, desired.otherwise) {
            return Vec::new();
        }
        before.origin.iter().chain(&desired.origin).cloned().collect()
    }

    /// Replaces a host, and says what that means per origin.
    pub(super) fn set_host(&mut self, domain: &Arc<str>, desired: Arc<VirtualHost>) -> Vec<OriginChange> {
        self.hosts.entry(Arc::clone(domain)).or_default().set(desired)
    }

    /// Removes a host, and says which origins had routes in it.
    pub(super) fn remove_host(&mut self, domain: &Arc<str>) -> Vec<Origin> {
        self.hosts.remove(domain).map(|host| host.origins()).unwrap_or_default()
    }

    /// The desired routes of an origin in a host.
    pub(super) fn routes_of(&self, domain: &str, origin: &Origin) -> Option<Vec<Arc<Route>>> {
        Some(self.hosts.get(domain)?.routes_of(origin))
    }

    /// What to serve of a host; encodes what is new.
    pub(super) fn host(&mut self, domain: &str, admission: &Admission) -> Option<Body> {
        let head = self.head.as_ref()?;
        match self.hosts.get_mut(domain) {
            Some(host) => Some(host.encode(domain, head, admission)),
            None if domain == CATCH_ALL => Some(Host::default().encode(domain, head, admission)),
            None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{cmp::Reverse, collections::BTreeSet};

    use portolan_xds_proto::envoy::config::route::v3::VirtualHost as ProtoHost;
    use proptest::prelude::*;
    use prost::Message;

    use bytes::Bytes;

    use super::*;
    use crate::ir::{Action, HeaderEdits, Otherwise, PathMatch, RouteMatch, RouteRank, Target};

    const TABLE: &str = "apps/public/80";

    fn route(index: usize, path: &str) -> Arc<Route> {
        // Three routes are of one object, and the order differs from that of names.
        let name = format!("apps/r{}", index / 3);
        let object = (Arc::from(name.as_str()), Arc::from("HTTPRoute"));
        Arc::new(Route {
            rank: RouteRank {
                path_length: Reverse(index % 7),
                object,
                rule: index % 3,
                ..RouteRank::default()
            },
            origin: Origin::new(format!("HTTPRoute/{name}")),
            name: format!("r{index}").into(),
            matches: RouteMatch {
                path: PathMatch::Exact(path.into()),
                method: None,
                headers: Vec::new(),
                query: Vec::new(),
                grpc: false,
            },
            action: Arc::new(Action {
                request_headers: HeaderEdits::default(),
                response_headers: HeaderEdits::default(),
                cors: None,
                auth: None,
                target: Target::Answer { status: 418, body: "".into() },
            }),
        })
    }

    fn host(routes: impl IntoIterator<Item = Arc<Route>>, misdirected: bool) -> Arc<VirtualHost> {
        let mut routes: Vec<_> = routes.into_iter().collect();
        routes.sort_by(|one, other| one.rank.cmp(&other.rank));
        let otherwise = if misdirected { Otherwise::Misdirected } else { Otherwise::NotFound };
        Arc::new(VirtualHost { routes, otherwise, ..VirtualHost::default() })
    }

    fn table() -> Table {
        let mut table = Table::default();
        table.set_head(Arc::new(RouteTable { name: TABLE.into(), port: 80, tls: false }));
        table
    }

    fn domain(index: usize) -> Arc<str> {
        format!("h{index}.test").into()
    }

    /// All that is served, by domain.
    fn served(table: &mut Table, admission: &Admission) -> BTreeMap<String, Body> {
        let domains: Vec<String> = table.domains().map(str::to_owned).collect();
        domains.into_iter().map(|domain| (domain.clone(), table.host(&domain, admission).unwrap())).collect()
    }

    /// The paths of a host's routes, as Envoy would read them.
    fn decode(domain: &str, body: &Body) -> Vec<String> {
        use portolan_xds_proto::envoy::config::route::v3::route_match::PathSpecifier;
        let decoded = ProtoHost::decode(body.to_bytes()).unwrap();
        assert_eq!(decoded.name, format!("{TABLE}/{domain}"));
        assert_eq!(decoded.domains, [domain]);
        let path = |route: &portolan_xds_proto::envoy::config::route::v3::Route| match route
            .r#match
            .as_ref()
            .and_then(|matching| matching.path_specifier.clone())
        {
            Some(PathSpecifier::Path(path) | PathSpecifier::Prefix(path)) => path,
            other => panic!("{other:?}"),
        };
        decoded.routes.iter().map(path).collect()
    }

    /// What a host should come out as.
    fn expected(host: &VirtualHost) -> Vec<String> {
        let paths = host.routes.iter().map(|route| match &route.matches.path {
            PathMatch::Exact(path) => path.to_string(),
            other => panic!("{other:?}"),
        });
        paths.chain((host.otherwise == Otherwise::Misdirected).then(|| "/".to_owned())).collect()
    }

    type Changes = Vec<(Origin, Option<Vec<Arc<Route>>>, Option<Vec<Arc<Route>>>)>;

    fn changes(told: Vec<OriginChange>) -> Changes {
        told.into_iter().map(|change| (change.origin, change.before, change.after)).collect()
    }

    fn naive_changes(old: &VirtualHost, new: &VirtualHost) -> Changes {
        let by_origin = |host: &VirtualHost| {
            let mut origins: BTreeMap<Origin, Vec<Arc<Route>>> = BTreeMap::new();
            for route in &host.routes {
                origins.entry(route.origin.clone()).or_default().push(route.clone());
            }
            origins
        };
        let (old, new) = (by_origin(old), by_origin(new));
        let origins: BTreeSet<&Origin> = old.keys().chain(new.keys()).collect();
        let changed = origins.into_iter().filter(|origin| old.get(*origin) != new.get(*origin));
        changed.map(|origin| (origin.clone(), old.get(origin).cloned(), new.get(origin).cloned())).collect()
    }

    #[derive(Debug, Clone)]
    enum Edit {
        Put { host: usize, routes: usize, changed: usize, misdirected: bool },
        Remove { host: usize },
    }

    fn edit() -> impl Strategy<Value = Edit> {
        let put = (0..60_usize, prop_oneof![0..4_usize, 100..300_usize], 0..300_usize, any::<bool>());
        prop_oneof![
            4 => put.prop_map(|(host, routes, changed, misdirected)| Edit::Put { host, routes, changed, misdirected }),
            1 => (0..60_usize).prop_map(|host| Edit::Remove { host }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn whatever_was_before_equal_hosts_give_equal_bytes_and_versions(
            edits in prop::collection::vec((edit(), any::<bool>()), 1..60),
        ) {
            let (mut edited, mut hosts) = (table(), BTreeMap::new());
            let admission = Admission::default();
            for (edit, encode) in edits {
                match edit {
                    Edit::Put { host: index, routes, changed, misdirected } => {
                        let routes = (0..routes)
                            .map(|each| route(each, &if each == changed { format!("/new/{each}") } else { format!("/{each}") }));
                        let new = host(routes, misdirected);
                        let told = edited.set_host(&domain(index), new.clone());
                        let old = hosts.insert(domain(index), new.clone()).unwrap_or_default();
                        prop_assert_eq!(changes(told), naive_changes(&old, &new));
                    }
                    Edit::Remove { host: index } => {
                        edited.remove_host(&domain(index));
                        hosts.remove(&domain(index));
                    }
                }
                if encode {
                    served(&mut edited, &admission);
                }
            }
            let edited = served(&mut edited, &admission);
            let mut fresh = table();
            for (domain, host) in &hosts {
                fresh.set_host(domain, host.clone());
            }
            prop_assert!(edited == served(&mut fresh, &admission), "history shows");
            hosts.entry(CATCH_ALL.into()).or_default();
            let expected: BTreeMap<String, Vec<String>> =
                hosts.iter().map(|(domain, host)| (domain.to_string(), expected(host))).collect();
            let decoded = edited.iter().map(|(domain, body)| (domain.clone(), decode(domain, body)));
            prop_assert_eq!(decoded.collect::<BTreeMap<_, _>>(), expected);
        }
    }

    /// How many bytes of `after` are not memory of `before`.
    fn copied(before: &Body, after: &Body) -> usize {
        let known: BTreeSet<*const u8> = before.pieces().iter().map(|piece| piece.as_ptr()).collect();
        let new = after.pieces().iter().filter(|piece| !known.contains(&piece.as_ptr()));
        new.map(Bytes::len).sum()
    }

    #[test]
    fn a_changed_route_of_a_large_host_copies_its_neighbourhood() {
        let admission = Admission::default();
        let routes: Vec<_> = (0..5_000).map(|index| route(index, "/")).collect();
        let mut table = table();
        table.set_host(&domain(0), host(routes.clone(), true));
        let before = table.host(&domain(0), &admission).unwrap();
        for index in [0, 1_234, 4_999] {
            let mut routes = routes.clone();
            routes[index] = route(index, "/changed");
            table.set_host(&domain(0), host(routes, true));
            let after = table.host(&domain(0), &admission).unwrap();
            let copied = copied(&before, &after);
            assert!(copied * 10 < after.len(), "{copied} bytes of {}", after.len());
        }
    }
}
