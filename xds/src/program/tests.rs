//! Applying deltas, and finding what a model of Envoy rejects.

use std::time::Duration;

use portolan_xds_proto::envoy::config::route::v3::VirtualHost as ProtoHost;
use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::ir::{
    Action, AppProtocol, Arm, Backend, ChainTraffic, FilterChain, HeaderEdits, Millis, PathMatch, Route,
    RouteMatch, RouteRank, RouteTable, Target, Timeouts, Transport, UrlRewrite, VirtualHost,
};
use crate::store::host_name;

pub(super) const TABLE: &str = "apps/public/80";

pub(super) fn origin(index: usize) -> Origin {
    Origin::new(format!("HTTPRoute/apps/r{index:05}"))
}

fn route(index: usize, path: &str) -> Arc<Route> {
    let rank = RouteRank {
        hostname: std::cmp::Reverse((true, 1)),
        path_kind: 1,
        path_length: std::cmp::Reverse(path.len()),
        method: std::cmp::Reverse(false),
        headers: std::cmp::Reverse(0),
        query: std::cmp::Reverse(0),
        created: 0,
        object: (format!("apps/r{index:05}").into(), "HTTPRoute".into()),
        rule: 0,
        matching: 0,
    };
    let action = Action {
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
        cors: None,
        auth: None,
        target: Target::Forward {
            arms: vec![Arm {
                weight: 1,
                backend: Backend::Cluster("apps/b/80".into()),
                request_headers: HeaderEdits::default(),
                response_headers: HeaderEdits::default(),
                rewrite: None,
                mirrors: vec![],
                cors: None,
                auth: None,
                redirect: None,
            }],
            rewrite: UrlRewrite::default(),
            mirrors: vec![],
            timeouts: Timeouts::default(),
            retry: None,
            session: None,
        },
    };
    Arc::new(Route {
        rank,
        origin: origin(index),
        name: "".into(),
        matches: RouteMatch {
            path: PathMatch::Exact(path.into()),
            method: None,
            headers: vec![],
            query: vec![],
            grpc: false,
        },
        action: Arc::new(action),
    })
}

fn host(routes: Vec<Arc<Route>>) -> Arc<VirtualHost> {
    let mut routes = routes;
    routes.sort_by(|one, other| one.rank.cmp(&other.rank));
    Arc::new(VirtualHost { routes, ..VirtualHost::default() })
}

fn key(domain: &str) -> VirtualHostKey {
    VirtualHostKey { table: TABLE.into(), domain: domain.into() }
}

fn table() -> Arc<RouteTable> {
    Arc::new(RouteTable { name: TABLE.into(), port: 80, tls: false })
}

/// Routes of all indices, the path of each from `path`, in one virtual host per ten.
pub(super) fn delta(indices: impl Iterator<Item = usize>, path: &dyn Fn(usize) -> String) -> Delta {
    let mut hosts: BTreeMap<usize, Vec<Arc<Route>>> = BTreeMap::new();
    for index in indices {
        hosts.entry(index / 10).or_default().push(route(index, &path(index)));
    }
    let virtual_hosts =
        hosts.into_iter().map(|(at, routes)| (key(&format!("h{at}.test")), Some(host(routes)))).collect();
    Delta { tables: [(TABLE.into(), Some(table()))].into(), virtual_hosts, ..Delta::default() }
}

/// An Envoy that rejects every response with a path that contains `bad`.
pub(super) struct Model {
    pub(super) program: Program,
    pub(super) store: Store,
    pub(super) now: Instant,
    /// The accepted paths, by host.
    hosts: BTreeMap<Arc<str>, BTreeSet<String>>,
    seen: Seq,
    rounds: usize,
}

impl Model {
    pub(super) fn new() -> Self {
        Self {
            program: Program::new(GatewayKey::new("apps", "public")),
            store: Store::default(),
            now: Instant::now(),
            hosts: BTreeMap::new(),
            seen: Seq(0),
            rounds: 0,
        }
    }

    pub(super) fn apply(&mut self, delta: Delta) {
        self.program.apply(delta, &mut self.store, self.now);
    }

    /// What is in the store of the hosts that changed after an edit: name, version, paths.
    fn changed(&self, since: Seq) -> Vec<(Arc<str>, Version, BTreeSet<String>)> {
        let hosts = self.store.iter(ResourceType::VirtualHost).filter(|live| live.seq > since);
        let all = hosts.map(|live| {
            let host = ProtoHost::decode(live.resource.body().to_bytes()).unwrap();
            (Arc::clone(live.resource.name()), live.resource.version(), paths(&host))
        });
        all.collect()
    }

    /// Answers once. Returns whether there was anything to answer.
    fn answer(&mut self) -> bool {
        let kind = ResourceType::VirtualHost;
        let sent = self.changed(self.seen);
        self.seen = self.store.seq();
        let built = self.seen;
        if sent.is_empty() {
            return false;
        }
        self.rounds += 1;
        let resources: Vec<_> = sent.iter().map(|(name, version, _)| (Arc::clone(name), *version)).collect();
        if sent.iter().any(|(_, _, paths)| paths.iter().any(|path| path.contains("bad"))) {
            self.program.on_nack(kind, &resources, built, "no", &mut self.store, self.now);
        } else {
            self.hosts.extend(sent.into_iter().map(|(name, _, paths)| (name, paths)));
            self.program.on_ack(kind, &resources, &mut self.store, self.now);
        }
        true
    }

    fn settle(&mut self) {
        for _ in 0..10_000 {
            if !self.answer() {
                return;
            }
        }
        panic!("no end of answers");
    }

    /// The accepted paths.
    fn live(&self) -> BTreeSet<String> {
        self.hosts.values().flatten().cloned().collect()
    }

    fn blamed(&self) -> BTreeSet<Origin> {
        self.program.rejections().into_iter().map(|rejection| rejection.origin).collect()
    }
}

pub(super) fn paths(host: &ProtoHost) -> BTreeSet<String> {
    use portolan_xds_proto::envoy::config::route::v3::route_match::PathSpecifier;
    let path = |route: &portolan_xds_proto::envoy::config::route::v3::Route| match route
        .r#match
        .as_ref()
        .and_then(|matching| matching.path_specifier.clone())
    {
        Some(PathSpecifier::Path(path)) => path,
        other => panic!("{other:?}"),
    };
    host.routes.iter().map(path).collect()
}

/// The versions of all that is served.
fn served(model: &Model) -> Vec<(Arc<str>, Version)> {
    model.changed(Seq(0)).into_iter().map(|(name, version, _)| (name, version)).collect()
}

/// The version of what is served at the first domain.
fn first(model: &Model) -> (Arc<str>, Version) {
    let name = host_name(TABLE, "h0.test");
    let version = model.store.get(ResourceType::VirtualHost, &name).unwrap().resource.version();
    (name, version)
}

pub(super) fn good(index: usize) -> String {
    format!("/v1/{index}")
}

#[test]
fn what_is_assembled_from_chunks_is_what_would_be_encoded_at_once() {
    let mut model = Model::new();
    model.apply(delta(0..25, &good));
    let all = model.changed(Seq(0));
    assert_eq!(all.len(), 4, "three hosts, and one for what none of them serves");
    assert_eq!(all.iter().map(|(_, _, paths)| paths.len()).sum::<usize>(), 25);
    let mut again = Model::new();
    again.apply(delta(0..12, &good));
    again.apply(delta(0..25, &|_| "/other".to_owned()));
    again.apply(delta(0..25, &good));
    assert_eq!(served(&again), served(&model), "history must not show");
}

#[test]
fn one_bad_route_among_many_freezes_itself_alone() {
    let mut model = Model::new();
    model.apply(delta(0..1000, &good));
    model.settle();
    assert_eq!(model.live().len(), 1000);
    model.rounds = 0;
    model.apply(delta(0..1000, &|index| {
        if index == 613 { "/bad".into() } else { format!("/v2/{index}") }
    }));
    model.settle();
    assert_eq!(model.blamed(), [origin(613)].into());
    assert!(model.live().contains("/v1/613"), "its accepted version is still served");
    assert!(model.live().contains("/v2/612") && model.live().len() == 1000);
    assert!(model.program.origins_pending().is_empty());
    assert!(model.rounds <= 25, "{} rounds", model.rounds);
}

#[test]
fn a_blamed_origin_is_tried_again_when_it_changes() {
    let mut model = Model::new();
    model.apply(delta(0..3, &|index| if index == 1 { "/bad".into() } else { good(index) }));
    model.settle();
    assert_eq!(model.blamed(), [origin(1)].into());
    assert_eq!(model.live().len(), 2);
    model.apply(delta(0..3, &good));
    model.settle();
    assert!(model.blamed().is_empty());
    assert_eq!(model.live().len(), 3);
    assert!(model.program.origin_seq(&origin(1)) > model.program.origin_seq(&origin(0)));
}

#[test]
fn a_change_is_served_while_others_are_on_trial() {
    let mut model = Model::new();
    model.apply(delta(0..10, &good));
    model.settle();
    model.apply(delta(0..30, &|index| if index == 25 { "/bad".into() } else { good(index) }));
    model.answer();
    model.apply(delta(0..10, &|index| format!("/v2/{index}")));
    model.settle();
    assert!(model.live().contains("/v2/3"));
    assert_eq!(model.blamed(), [origin(25)].into());
}

#[test]
fn a_removed_route_is_never_put_back() {
    let mut model = Model::new();
    model.apply(delta(0..10, &good));
    model.settle();
    let routes = (0..9).map(|index| route(index, if index == 0 { "/bad" } else { "/x" })).collect();
    let hosts = [(key("h0.test"), Some(host(routes)))].into();
    model.apply(Delta { virtual_hosts: hosts, ..Delta::default() });
    for _ in 0..20 {
        model.answer();
        assert!(model.changed(Seq(0)).iter().all(|(_, _, paths)| !paths.contains(&good(9))));
    }
    assert_eq!(model.blamed(), [origin(0)].into());
}

#[test]
fn late_and_repeated_rejections_blame_nobody_else() {
    let mut model = Model::new();
    model.apply(delta(0..2, &|index| if index == 0 { "/bad".into() } else { good(index) }));
    let (first, built) = (first(&model), model.store.seq());
    model.settle();
    for _ in 0..3 {
        model.program.on_nack(
            ResourceType::VirtualHost,
            std::slice::from_ref(&first),
            built,
            "late",
            &mut model.store,
            model.now,
        );
    }
    model.settle();
    assert_eq!(model.blamed(), [origin(0)].into());
    assert_eq!(model.live(), [good(1)].into());
    assert!(model.program.unattributed().is_empty());
}

#[test]
fn a_rejection_of_accepted_content_is_reported_without_blame() {
    let mut model = Model::new();
    model.apply(delta(0..1, &good));
    model.settle();
    let (host, built) = (first(&model), model.store.seq());
    model.program.on_nack(ResourceType::VirtualHost, &[host], built, "taken", &mut model.store, model.now);
    assert!(model.blamed().is_empty());
    assert_eq!(model.program.unattributed().len(), 1);
}

#[test]
fn what_is_frozen_survives_a_restart_until_it_changes() {
    let bad = |index| if index == 4 { "/bad".into() } else { good(index) };
    let mut model = Model::new();
    model.apply(delta(0..10, &good));
    model.settle();
    model.apply(delta(0..10, &bad));
    model.settle();
    let kept = serde_json::to_string(&model.program.frozen()).unwrap();
    let before = served(&model);

    let mut restarted = Model::new();
    restarted.program.restore(serde_json::from_str(&kept).unwrap());
    restarted.apply(delta(0..10, &bad));
    assert_eq!(before, served(&restarted), "a restart serves the same bytes");
    restarted.settle();
    assert_eq!(restarted.rounds, 1);
    assert_eq!(restarted.blamed(), [origin(4)].into());
    restarted.apply(delta(0..10, &|index| format!("/v3/{index}")));
    restarted.settle();
    assert!(restarted.blamed().is_empty() && restarted.live().contains("/v3/4"));
}

/// Two replicas with the same objects; the proxies of one of them reject a route.
#[test]
fn what_another_replica_has_put_back_is_put_back_here_and_the_same_is_served_instead() {
    let bad = |index| if index == 4 { "/bad".into() } else { good(index) };
    let (mut here, mut there) = (Model::new(), Model::new());
    for model in [&mut here, &mut there] {
        model.apply(delta(0..10, &good));
    }
    // No proxy of this one has ever accepted anything.
    there.settle();
    there.apply(delta(0..10, &bad));
    there.settle();
    here.apply(delta(0..10, &bad));
    assert_ne!(served(&here), served(&there));
    here.program.heed(there.program.frozen(), false, &mut here.store, here.now);
    assert_eq!(here.blamed(), [origin(4)].into());
    assert_eq!(served(&here), served(&there));
    // Told again, it changes nothing; corrected, it is tried.
    assert!(here.program.heed(there.program.frozen(), false, &mut here.store, here.now).changed.is_empty());
    for model in [&mut here, &mut there] {
        model.apply(delta(0..10, &good));
    }
    assert!(here.blamed().is_empty());
    assert_eq!(served(&here), served(&there));
    // Back to what is known to be bad, which is told before it comes: no proxy of this one is asked.
    here.apply(delta(0..10, &bad));
    assert_eq!(here.blamed(), [origin(4)].into());
}

/// Both have put it back, and one of them does not know any more what was good.
#[test]
fn of_two_that_have_put_back_the_same_the_one_that_decides_says_what_is_served() {
    let bad = |index| if index == 4 { "/bad".into() } else { good(index) };
    let (mut leader, mut follower) = (Model::new(), Model::new());
    leader.apply(delta(0..10, &good));
    leader.settle();
    for model in [&mut leader, &mut follower] {
        model.apply(delta(0..10, &bad));
        model.settle();
    }
    assert_ne!(served(&leader), served(&follower));
    let told = follower.program.frozen();
    assert!(leader.program.heed(told, false, &mut leader.store, leader.now).changed.is_empty());
    follower.program.heed(leader.program.frozen(), true, &mut follower.store, follower.now);
    assert_eq!(served(&leader), served(&follower));
}

#[test]
fn a_trial_without_answer_does_not_hold_back_the_next() {
    let mut model = Model::new();
    model.apply(delta(0..4, &|index| if index == 0 { "/bad".into() } else { good(index) }));
    model.answer();
    let deadline = model.program.deadline().unwrap();
    assert_eq!(model.program.tick(&mut model.store, model.now).changed.len(), 0);
    model.now = deadline + Duration::from_millis(1);
    assert_eq!(model.program.tick(&mut model.store, model.now).changed.len(), 1);
}

pub(super) fn cluster(name: &str, origin: Origin) -> Arc<Cluster> {
    Arc::new(Cluster {
        name: name.into(),
        protocol: AppProtocol::Http1,
        tls: None,
        sockets: BTreeMap::new(),
        connect_timeout: Millis(5000),
        origin,
    })
}

#[test]
fn a_cluster_always_has_endpoints_and_takes_them_with_it() {
    let mut model = Model::new();
    let name: Arc<str> = "apps/b/80".into();
    let clusters = [(name.clone(), Some(cluster(&name, origin(0))))].into();
    model.apply(Delta { clusters, ..Delta::default() });
    assert!(model.store.get(ResourceType::Endpoints, &name).is_some());
    let live = model.store.get(ResourceType::Cluster, &name).unwrap();
    assert_eq!(live.resource.children(), [(ResourceType::Endpoints, name.clone())]);
    model.apply(Delta { clusters: [(name.clone(), None)].into(), ..Delta::default() });
    assert!(model.store.is_empty());
}

#[test]
fn one_bad_cluster_in_a_response_of_many_is_found() {
    let mut model = Model::new();
    let kind = ResourceType::Cluster;
    let name = |index: usize| -> Arc<str> { format!("apps/b{index:03}/80").into() };
    let clusters = (0..100).map(|index| (name(index), Some(cluster(&name(index), origin(index))))).collect();
    model.apply(Delta { clusters, ..Delta::default() });
    let mut since = Seq(0);
    for _ in 0..40 {
        let sent: Vec<_> = model
            .store
            .iter(kind)
            .filter(|live| live.seq > since)
            .map(|live| (live.resource.name().clone(), live.resource.version()))
            .collect();
        since = model.store.seq();
        if sent.is_empty() {
            break;
        }
        if sent.iter().any(|(sent, _)| *sent == name(42) || *sent == name(7)) {
            model.program.on_nack(kind, &sent, since, "no", &mut model.store, model.now);
        } else {
            model.program.on_ack(kind, &sent, &mut model.store, model.now);
        }
    }
    assert_eq!(model.blamed(), [origin(7), origin(42)].into());
    assert_eq!(model.store.len(kind), 98);
}

#[test]
fn a_listener_whose_chains_are_all_put_back_is_absent() {
    let mut model = Model::new();
    let chain = Arc::new(FilterChain {
        name: "http".into(),
        server_name: None,
        tls: None,
        traffic: ChainTraffic::Http { routes: TABLE.into() },
        origin: origin(0),
    });
    let listener = Arc::new(Listener {
        name: TABLE.into(),
        port: 80,
        transport: Transport::Tcp,
        bind: vec!["127.0.0.1:80".parse().unwrap()],
        access_log: None,
        chains: vec![chain],
    });
    model.apply(Delta { listeners: [(TABLE.into(), Some(listener))].into(), ..Delta::default() });
    let kind = ResourceType::Listener;
    let version = model.store.get(kind, TABLE).unwrap().resource.version();
    let built = model.store.seq();
    model.program.on_nack(kind, &[(TABLE.into(), version)], built, "no", &mut model.store, model.now);
    assert!(model.store.get(kind, TABLE).is_none());
    assert_eq!(model.blamed(), [origin(0)].into());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever is changed, and whenever Envoy answers: in the end exactly the bad are blamed, the good are live, and
    /// of the bad the last accepted version is served.
    #[test]
    fn exactly_the_bad_are_blamed(
        steps in prop::collection::vec(
            (prop::collection::btree_map(0usize..60, prop::bool::weighted(0.2), 0..40), 0usize..4),
            1..6,
        ),
    ) {
        let mut model = Model::new();
        model.apply(delta(0..60, &|index| format!("/v0/{index}")));
        model.settle();
        let mut desired: BTreeMap<usize, String> = (0..60).map(|index| (index, format!("/v0/{index}"))).collect();
        for (step, (changes, answers)) in steps.into_iter().enumerate() {
            for (index, bad) in changes {
                let path = if bad { format!("/bad{step}/{index}") } else { format!("/v{}/{index}", step + 1) };
                desired.insert(index, path);
            }
            model.apply(delta(0..60, &|index| desired[&index].clone()));
            for _ in 0..answers {
                model.answer();
            }
        }
        model.settle();
        let bad: BTreeSet<Origin> =
            desired.iter().filter(|(_, path)| path.contains("bad")).map(|(index, _)| origin(*index)).collect();
        prop_assert_eq!(model.blamed(), bad.clone());
        prop_assert!(model.program.origins_pending().is_empty());
        for (index, path) in &desired {
            if path.contains("bad") {
                let suffix = format!("/{index}");
                prop_assert!(model.live().iter().any(|live| live.ends_with(&suffix)), "{index} is not served");
            } else {
                prop_assert!(model.live().contains(path), "{path} is not live");
            }
        }
        prop_assert!(model.rounds <= 10 + (bad.len() + 30) * 14, "{} rounds", model.rounds);
    }
}
