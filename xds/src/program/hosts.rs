//! A route table with its virtual hosts, in pieces that outlive a change.
//!
//! Hosts are in order of their domains. A domain that its hash picks begins a run; a run's small hosts are one piece. So
//! a changed host costs its run, and where runs begin depends on nothing but the domains.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
};

use bytes::{Bytes, BytesMut};
use xxhash_rust::xxh3::xxh3_64;

use super::{
    admission::Admission,
    chunk::{ChunkKey, Part, ResourceKey},
    host::{Host, HostBytes, OriginChange},
};
use crate::{
    ir::{Origin, Route, RouteTable, RouteTableName, VirtualHost},
    lower::table,
    store::{Body, Piece, ResourceType},
};

/// One domain of so many begins a run, on average.
const HOSTS_PER_RUN: u64 = 32;

/// One RouteConfiguration. The head may come after its hosts inside a delta, so it is optional.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) head: Option<Arc<RouteTable>>,
    head_piece: Option<Piece>,
    hosts: BTreeMap<Arc<str>, Host>,
    /// Hosts to be encoded anew.
    stale: BTreeSet<Arc<str>>,
    /// The pieces of each run by the domain that begins it; the first run begins with the empty text.
    runs: BTreeMap<Arc<str>, Vec<Piece>>,
    /// Runs to be copied together anew.
    stale_runs: BTreeSet<Arc<str>>,
}

pub(super) fn resource(table: &RouteTableName) -> ResourceKey {
    ResourceKey { kind: ResourceType::RouteConfiguration, name: Arc::clone(table) }
}

pub(super) fn routes_key(table: &RouteTableName, domain: &Arc<str>, origin: &Origin) -> ChunkKey {
    let part = Part::Routes { domain: Arc::clone(domain), origin: origin.clone() };
    ChunkKey { resource: resource(table), part }
}

fn begins_run(domain: &str) -> bool {
    xxh3_64(domain.as_bytes()).is_multiple_of(HOSTS_PER_RUN)
}

impl Table {
    /// The head and the virtual hosts by domain, for people.
    pub(super) fn pieces(&self) -> serde_json::Value {
        let hosts: BTreeMap<_, _> =
            self.hosts.iter().map(|(domain, host)| (domain, host.desired())).collect();
        serde_json::json!({"head": self.head, "hosts": hosts})
    }

    /// Replaces the head. Redirects depend on it, so every host is encoded anew if it changed.
    pub(super) fn set_head(&mut self, head: Arc<RouteTable>) {
        if self.head.as_ref() == Some(&head) {
            return;
        }
        self.head_piece = Some(Piece::new(table::head(&head)));
        self.head = Some(head);
        for (domain, host) in &mut self.hosts {
            host.forget();
            self.stale.insert(Arc::clone(domain));
        }
    }

    /// Replaces a host, and says what that means per origin.
    pub(super) fn set_host(&mut self, domain: &Arc<str>, desired: Arc<VirtualHost>) -> Vec<OriginChange> {
        if !self.hosts.contains_key(domain) && begins_run(domain) {
            // The run that it was part of ends before it now.
            self.stale_runs.insert(self.run_of(domain));
            self.runs.insert(Arc::clone(domain), Vec::new());
        }
        self.stale.insert(Arc::clone(domain));
        self.hosts.entry(Arc::clone(domain)).or_default().set(desired)
    }

    /// Removes a host, and says which origins had routes in it.
    pub(super) fn remove_host(&mut self, domain: &Arc<str>) -> Vec<Origin> {
        self.stale.remove(domain);
        let Some(host) = self.hosts.remove(domain) else { return Vec::new() };
        if begins_run(domain) {
            self.runs.remove(domain);
            self.stale_runs.remove(domain);
        }
        self.stale_runs.insert(self.run_of(domain));
        host.origins()
    }

    /// The desired routes of an origin in a host.
    pub(super) fn routes_of(&self, domain: &str, origin: &Origin) -> Option<Vec<Arc<Route>>> {
        Some(self.hosts.get(domain)?.routes_of(origin))
    }

    /// Marks a host to be encoded anew.
    pub(super) fn touch(&mut self, domain: &Arc<str>) {
        self.stale.insert(Arc::clone(domain));
    }

    /// What to serve; encodes what is stale.
    pub(super) fn assemble(&mut self, admission: &Admission) -> Option<Body> {
        let head = self.head.clone()?;
        for domain in std::mem::take(&mut self.stale) {
            if let Some(host) = self.hosts.get_mut(&domain) {
                host.encode(&domain, &head, admission);
                self.stale_runs.insert(self.run_of(&domain));
            }
        }
        for run in std::mem::take(&mut self.stale_runs) {
            let pieces = self.join(&run);
            self.runs.insert(run, pieces);
        }
        Some(Body::new(self.head_piece.iter().chain(self.runs.values().flatten())))
    }

    /// The domain that begins the run of a domain.
    fn run_of(&self, domain: &Arc<str>) -> Arc<str> {
        let run = self.runs.range::<Arc<str>, _>(..=domain).next_back();
        run.map_or_else(|| Arc::from(""), |(run, _)| Arc::clone(run))
    }

    /// The pieces of a run: small hosts copied together, large ones as they are.
    fn join(&mut self, run: &Arc<str>) -> Vec<Piece> {
        let next = self.runs.range::<Arc<str>, _>((Bound::Excluded(run), Bound::Unbounded)).next();
        let end = next.map_or(Bound::Unbounded, |(next, _)| Bound::Excluded(next));
        let hosts = self.hosts.range_mut::<Arc<str>, _>((Bound::Included(run), end));
        let (mut pieces, mut small) = (Vec::new(), Vec::new());
        for (_, host) in hosts {
            match host.bytes() {
                HostBytes::Small(_) => small.push(host),
                HostBytes::Large(own) => {
                    pieces.extend(copy_together(&mut small));
                    pieces.extend(own.iter().cloned());
                }
            }
        }
        pieces.extend(copy_together(&mut small));
        pieces
    }
}

/// One piece of several small hosts, which then keep their bytes there.
fn copy_together(small: &mut Vec<&mut Host>) -> Option<Piece> {
    let own = |host: &Host| match host.bytes() {
        HostBytes::Small(bytes) => bytes.clone(),
        HostBytes::Large(_) => Bytes::new(),
    };
    let parts: Vec<Bytes> = small.iter().map(|host| own(host)).collect();
    if parts.is_empty() {
        return None;
    }
    let mut bytes = BytesMut::with_capacity(parts.iter().map(Bytes::len).sum());
    for part in &parts {
        bytes.extend_from_slice(part);
    }
    let (bytes, mut start) = (bytes.freeze(), 0);
    for (host, part) in small.drain(..).zip(parts) {
        let end = start + part.len();
        host.move_to(bytes.slice(start..end));
        start = end;
    }
    Some(Piece::new(bytes))
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;

    use portolan_xds_proto::envoy::config::route::v3::RouteConfiguration;
    use proptest::prelude::*;
    use prost::Message;

    use super::*;
    use crate::ir::{Action, HeaderEdits, PathMatch, RouteMatch, RouteRank, Target};

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
                target: Target::Answer { status: 418, body: "".into() },
            }),
        })
    }

    fn host(routes: impl IntoIterator<Item = Arc<Route>>, misdirected: bool) -> Arc<VirtualHost> {
        let mut routes: Vec<_> = routes.into_iter().collect();
        routes.sort_by(|one, other| one.rank.cmp(&other.rank));
        Arc::new(VirtualHost { routes, misdirected })
    }

    fn table() -> Table {
        let mut table = Table::default();
        table.set_head(Arc::new(RouteTable { name: TABLE.into(), port: 80, tls: false }));
        table
    }

    fn domain(index: usize) -> Arc<str> {
        format!("h{index}.test").into()
    }

    /// Domains with the paths of their routes, as Envoy would read them.
    fn decode(body: &Body) -> BTreeMap<String, Vec<String>> {
        use portolan_xds_proto::envoy::config::route::v3::route_match::PathSpecifier;
        let decoded = RouteConfiguration::decode(body.to_bytes()).unwrap();
        assert_eq!(decoded.name, TABLE);
        let path = |route: &portolan_xds_proto::envoy::config::route::v3::Route| match route
            .r#match
            .as_ref()
            .and_then(|matching| matching.path_specifier.clone())
        {
            Some(PathSpecifier::Path(path) | PathSpecifier::Prefix(path)) => path,
            other => panic!("{other:?}"),
        };
        decoded
            .virtual_hosts
            .iter()
            .map(|host| (host.name.clone(), host.routes.iter().map(path).collect()))
            .collect()
    }

    /// What a host should come out as.
    fn expected(host: &VirtualHost) -> Vec<String> {
        let paths = host.routes.iter().map(|route| match &route.matches.path {
            PathMatch::Exact(path) => path.to_string(),
            other => panic!("{other:?}"),
        });
        paths.chain(host.misdirected.then(|| "/".to_owned())).collect()
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
            for (edit, assemble) in edits {
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
                if assemble {
                    edited.assemble(&admission);
                }
            }
            let edited = edited.assemble(&admission).unwrap();
            let mut fresh = table();
            for (domain, host) in &hosts {
                fresh.set_host(domain, host.clone());
            }
            let fresh = fresh.assemble(&admission).unwrap();
            prop_assert!(edited == fresh, "history shows");
            let expected: BTreeMap<String, Vec<String>> =
                hosts.iter().map(|(domain, host)| (domain.to_string(), expected(host))).collect();
            prop_assert_eq!(decode(&edited), expected);
        }
    }

    /// How many bytes of `after` are not memory of `before`.
    fn copied(before: &Body, after: &Body) -> usize {
        let known: BTreeSet<*const u8> = before.pieces().iter().map(|piece| piece.as_ptr()).collect();
        let new = after.pieces().iter().filter(|piece| !known.contains(&piece.as_ptr()));
        new.map(Bytes::len).sum()
    }

    #[test]
    fn a_changed_route_copies_its_neighbourhood_and_not_the_table() {
        let admission = Admission::default();
        let mut many = table();
        for index in 0..5_000 {
            many.set_host(&domain(index), host([route(index, "/")], false));
        }
        let before = many.assemble(&admission).unwrap();
        for index in [0, 1_234, 4_999] {
            many.set_host(&domain(index), host([route(index, "/changed")], false));
            let after = many.assemble(&admission).unwrap();
            let copied = copied(&before, &after);
            assert!(copied * 10 < after.len(), "{copied} bytes of {}", after.len());
        }

        let routes: Vec<_> = (0..5_000).map(|index| route(index, "/")).collect();
        let mut one = table();
        one.set_host(&domain(0), host(routes.clone(), true));
        let before = one.assemble(&admission).unwrap();
        for index in [0, 1_234, 4_999] {
            let mut routes = routes.clone();
            routes[index] = route(index, "/changed");
            one.set_host(&domain(0), host(routes, true));
            let after = one.assemble(&admission).unwrap();
            let copied = copied(&before, &after);
            assert!(copied * 10 < after.len(), "{copied} bytes of {}", after.len());
        }
    }
}
