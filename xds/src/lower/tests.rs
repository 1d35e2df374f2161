//! One golden file per feature in `testdata/`: what an IR piece becomes. `e2e/tests/validate.rs` gives each to Envoy.

use std::{cmp::Reverse, sync::Arc};

use prost::{Message, Name};
use serde_json::Value;

use std::collections::BTreeMap;

use super::*;
use crate::ir::*;

fn golden<M: Message + Name>(feature: &str, message: &M) {
    let json =
        portolan_xds_proto::dump::to_json(&portolan_xds_proto::type_url::<M>(), &message.encode_to_vec())
            .unwrap();
    write(feature, &json);
}

fn write(feature: &str, json: &Value) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../../testdata");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(feature, format!("{json:#}")));
}

/// The virtual host with these routes.
fn golden_routes(feature: &str, table: &RouteTable, routes: impl IntoIterator<Item = Route>) {
    golden_host(feature, table, routes, &VirtualHost::default());
}

/// The virtual host with these routes and whatever else `host` has.
fn golden_host(
    feature: &str,
    table: &RouteTable,
    routes: impl IntoIterator<Item = Route>,
    host: &VirtualHost,
) {
    let chunks: Vec<_> = routes.into_iter().map(|route| table::route_chunk(&route, table)).collect();
    let end = table::virtual_host_end(host);
    let start = table::virtual_host_start(&table.name, "app.test", host);
    let bytes = [&[start], chunks.as_slice(), &[end]].concat().concat();
    let json = portolan_xds_proto::dump::to_json(crate::store::ResourceType::VirtualHost.type_url(), &bytes)
        .unwrap();
    write(feature, &json);
}

#[test]
fn a_route_table_has_its_virtual_hosts_by_themselves() {
    golden("route-table", &table::head(&http()));
}

fn http() -> RouteTable {
    RouteTable { name: "apps/public/80".into(), port: 80, tls: false }
}

fn text(value: &str) -> Arc<str> {
    value.into()
}

fn prefix(path: &str) -> RouteMatch {
    RouteMatch {
        path: PathMatch::Prefix(path.into()),
        method: None,
        headers: vec![],
        query: vec![],
        grpc: false,
    }
}

fn routed(matches: RouteMatch, target: Target) -> Route {
    acting(
        matches,
        Action {
            request_headers: HeaderEdits::default(),
            response_headers: HeaderEdits::default(),
            cors: None,
            auth: None,
            target,
        },
    )
}

fn acting(matches: RouteMatch, action: Action) -> Route {
    Route {
        rank: RouteRank { hostname: Reverse((true, 8)), ..RouteRank::default() },
        origin: Origin::new("HTTPRoute/apps/r"),
        name: "rule".into(),
        matches,
        action: Arc::new(action),
    }
}

fn arm(name: &str, weight: u32) -> Arm {
    Arm {
        weight,
        backend: Backend::Cluster(name.into()),
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
        rewrite: None,
        mirrors: vec![],
        cors: None,
        auth: None,
        redirect: None,
    }
}

fn invalid(weight: u32) -> Arm {
    Arm { backend: Backend::Invalid, ..arm("", weight) }
}

fn to(arms: Vec<Arm>) -> Target {
    forward(arms, UrlRewrite::default(), vec![], Timeouts::default(), None)
}

fn forward(
    arms: Vec<Arm>,
    rewrite: UrlRewrite,
    mirrors: Vec<Mirror>,
    timeouts: Timeouts,
    retry: Option<Retry>,
) -> Target {
    Target::Forward { arms, rewrite, mirrors, timeouts, retry, session: None }
}

fn one() -> Vec<Arm> {
    vec![arm("apps/one/80", 1)]
}

fn edits(set: &[(&str, &str)], add: &[(&str, &str)], remove: &[&str]) -> HeaderEdits {
    let list = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(name, value)| HeaderEdit { name: text(name), value: text(value) }).collect()
    };
    HeaderEdits { set: list(set), add: list(add), remove: remove.iter().map(|name| text(name)).collect() }
}

fn rewritten(matched: &str, replacement: &str) -> Route {
    let path = PathRewrite::Prefix { matched: matched.into(), replacement: replacement.into() };
    let rewrite = UrlRewrite { hostname: None, path: Some(path) };
    routed(prefix(matched), forward(one(), rewrite, vec![], Timeouts::default(), None))
}

fn redirect() -> Redirect {
    Redirect { scheme: None, hostname: None, port: None, path: None, status: 302 }
}

fn redirected(redirect: Redirect) -> Route {
    routed(prefix("/"), Target::Redirect(redirect))
}

fn cors() -> Cors {
    Cors {
        allow_origins: vec![
            CorsOrigin::Exact("https://www.foo.com".into()),
            CorsOrigin::Wildcard("https://*.bar.com".into()),
        ],
        allow_methods: vec!["GET".into(), "OPTIONS".into()],
        allow_headers: vec!["x-header-1".into()],
        expose_headers: vec!["x-header-3".into()],
        allow_credentials: true,
        max_age: Millis(3_600_000),
    }
}

#[test]
fn matches() {
    let with = |path| RouteMatch { path, ..prefix("/") };
    golden_routes(
        "matches",
        &http(),
        vec![
            routed(with(PathMatch::Exact("/exact".into())), to(one())),
            routed(prefix("/prefix/"), to(one())),
            routed(with(PathMatch::Regex("/a+".into())), to(one())),
            routed(
                RouteMatch {
                    path: PathMatch::Any,
                    method: Some("GET".into()),
                    headers: vec![
                        HeaderMatch { name: "version".into(), value: StringMatch::Exact("two".into()) },
                        HeaderMatch { name: "color".into(), value: StringMatch::Regex("re.*".into()) },
                    ],
                    query: vec![QueryMatch {
                        name: "Animal".into(),
                        value: StringMatch::Exact("cat".into()),
                    }],
                    grpc: false,
                },
                to(one()),
            ),
            routed(RouteMatch { grpc: true, ..prefix("/") }, to(one())),
        ],
    );
}

#[test]
fn an_empty_host_answers_404_a_misdirected_one_421_and_a_closed_one_500() {
    golden_routes("isolated", &http(), vec![]);
    for (feature, otherwise) in [("misdirected", Otherwise::Misdirected), ("closed", Otherwise::Closed)] {
        golden_host(feature, &http(), vec![], &VirtualHost { otherwise, ..VirtualHost::default() });
    }
}

#[test]
fn weights() {
    golden_routes(
        "weights",
        &http(),
        vec![
            routed(prefix("/"), to(vec![arm("apps/one/80", 70), arm("apps/two/80", 20), invalid(10)])),
            routed(RouteMatch { grpc: true, ..prefix("/g") }, to(vec![arm("apps/one/80", 1), invalid(1)])),
            routed(prefix("/none"), to(vec![invalid(1), invalid(2)])),
        ],
    );
}

#[test]
fn header_edits() {
    let action = |arms| Action {
        request_headers: edits(&[("x-set", "100%"), ("host", "other.test")], &[("x-add", "a")], &["x-gone"]),
        response_headers: edits(&[("x-reply", "rule")], &[], &["server"]),
        cors: None,
        auth: None,
        target: to(arms),
    };
    let own = Arm {
        request_headers: edits(&[("x-set", "arm")], &[("x-add", "b")], &[]),
        response_headers: edits(&[("x-reply", "arm")], &[("x-more", "arm")], &[]),
        ..arm("apps/two/80", 1)
    };
    golden_routes(
        "header-edits",
        &http(),
        vec![
            acting(prefix("/rule"), action(one())),
            acting(prefix("/arms"), action(vec![arm("apps/one/80", 1), own])),
        ],
    );
}

#[test]
fn rewrites() {
    let full =
        UrlRewrite { hostname: Some("backend.test".into()), path: Some(PathRewrite::Full(r"/one\1".into())) };
    golden_routes(
        "rewrites",
        &http(),
        vec![
            rewritten("/prefix/one", "/one"),
            rewritten("/strip.prefix", "/"),
            rewritten("/strip-prefix", ""),
            rewritten("/foo", "/xyz/"),
            rewritten("/", "/api"),
            rewritten("/", "/"),
            routed(prefix("/full"), forward(one(), full, vec![], Timeouts::default(), None)),
        ],
    );
}

#[test]
fn redirects() {
    let path = |replacement: &str| {
        Some(PathRewrite::Prefix { matched: "/old".into(), replacement: replacement.into() })
    };
    let https = Some(RedirectScheme::Https);
    golden_routes(
        "redirects",
        &http(),
        vec![
            redirected(Redirect { scheme: https, hostname: Some("e.org".into()), status: 301, ..redirect() }),
            redirected(Redirect { scheme: https, ..redirect() }),
            redirected(Redirect { port: Some(8443), scheme: https, status: 308, ..redirect() }),
            redirected(Redirect { path: path("/new"), status: 303, ..redirect() }),
            redirected(Redirect { path: path("/"), status: 307, ..redirect() }),
            redirected(Redirect { path: Some(PathRewrite::Full("/all".into())), ..redirect() }),
        ],
    );
}

#[test]
fn redirects_keep_the_port_of_the_listener() {
    let table = RouteTable { name: "apps/public/8080".into(), port: 8080, tls: false };
    golden_routes(
        "redirects-8080",
        &table,
        vec![
            redirected(redirect()),
            redirected(Redirect { scheme: Some(RedirectScheme::Http), ..redirect() }),
            redirected(Redirect { port: Some(80), hostname: Some("e.org".into()), ..redirect() }),
        ],
    );
    let tls = RouteTable { name: "apps/public/443/a".into(), port: 443, tls: true };
    golden_routes("redirects-tls", &tls, vec![redirected(redirect())]);
}

#[test]
fn mirrors() {
    let mirror = |name: &str, fraction| Mirror { cluster: name.into(), fraction };
    let share = |numerator, denominator| Some(Fraction { numerator, denominator });
    let mirrors = vec![
        mirror("apps/all/80", None),
        mirror("apps/percent/80", share(20, 100)),
        mirror("apps/third/80", share(1, 3)),
    ];
    let target = forward(one(), UrlRewrite::default(), mirrors, Timeouts::default(), None);
    golden_routes("mirrors", &http(), vec![routed(prefix("/"), target)]);
}

#[test]
fn timeouts_and_retries() {
    let target = |request: Option<u64>, backend_request: Option<u64>, retry| {
        let timeouts =
            Timeouts { request: request.map(Millis), backend_request: backend_request.map(Millis) };
        forward(one(), UrlRewrite::default(), vec![], timeouts, retry)
    };
    let retry = |attempts, codes: &[u16], backoff: Option<u64>| {
        Some(Retry { attempts, codes: codes.to_vec(), backoff: backoff.map(Millis) })
    };
    golden_routes(
        "timeouts-retries",
        &http(),
        vec![
            routed(prefix("/request"), target(Some(500), None, None)),
            routed(prefix("/off"), target(Some(0), Some(0), None)),
            routed(prefix("/long"), target(Some(600_000), None, None)),
            routed(prefix("/try"), target(None, Some(500), None)),
            routed(prefix("/retry"), target(Some(15_000), Some(500), retry(3, &[503, 500], Some(100)))),
            routed(prefix("/connection"), target(None, None, retry(100, &[], None))),
            routed(prefix("/zero"), target(None, None, retry(0, &[500], None))),
        ],
    );
}

#[test]
fn cors_policies() {
    let any = Cors {
        allow_origins: vec![CorsOrigin::Any],
        allow_methods: vec!["*".into()],
        allow_headers: vec!["*".into()],
        expose_headers: vec![],
        allow_credentials: false,
        max_age: Millis(5000),
    };
    let with = |path: &str, cors| {
        let route = routed(prefix(path), to(one()));
        let action = Action { cors: Some(cors), ..Action::clone(&route.action) };
        Route { action: Arc::new(action), ..route }
    };
    golden_routes("cors", &http(), vec![with("/some", cors()), with("/any", any)]);
}

fn with_auth(path: &str, protocol: AuthProtocol, body: Option<u32>) -> Route {
    let route = routed(prefix(path), to(one()));
    let auth = ExternalAuth { cluster: "apps/auth/9000".into(), protocol, body };
    Route { action: Arc::new(Action { auth: Some(Arc::new(auth)), ..Action::clone(&route.action) }), ..route }
}

#[test]
fn external_authorization() {
    let grpc = |headers| AuthProtocol::Grpc { authority: "auth.apps".into(), headers };
    let http = |path: &str, headers: &[&str], response_headers| AuthProtocol::Http {
        path: path.into(),
        headers: headers.iter().map(|name| text(name)).collect(),
        response_headers,
    };
    let only = |names: &[&str]| HeaderNames::Only(names.iter().map(|name| text(name)).collect());
    golden_routes(
        "external-auth",
        &self::http(),
        vec![
            with_auth("/grpc", grpc(HeaderNames::All), None),
            with_auth("/grpc-some", grpc(only(&["x-a", "x-b"])), Some(1024)),
            with_auth("/http", http("", &[], HeaderNames::All), None),
            with_auth("/http-some", http("/check", &["x-a"], only(&["x-user"])), Some(1024)),
            with_auth("/http-none", http("/check", &[], only(&[])), None),
        ],
    );
}

#[test]
fn servers_of_a_listener_are_asked_before_a_route_is_picked() {
    let server = |cluster: &str, protocol| {
        Arc::new(ExternalAuth { cluster: cluster.into(), protocol, body: Some(1024) })
    };
    let grpc = AuthProtocol::Grpc { authority: "auth.apps".into(), headers: HeaderNames::All };
    let http = AuthProtocol::Http {
        path: "/check".into(),
        headers: vec!["x-a".into()],
        response_headers: HeaderNames::All,
    };
    let host = VirtualHost {
        auth: vec![server("apps/first/9000", grpc), server("apps/second/9000", http)],
        ..VirtualHost::default()
    };
    golden_host("listener-auth", &self::http(), vec![routed(prefix("/a"), to(one()))], &host);
}

#[test]
fn both_the_rule_and_the_arm_are_asked() {
    let ask = |cluster: &str| {
        let protocol = AuthProtocol::Grpc { authority: "auth.apps".into(), headers: HeaderNames::All };
        Arc::new(ExternalAuth { cluster: cluster.into(), protocol, body: None })
    };
    let guarded = Arm { auth: Some(ask("apps/arm/9000")), ..arm("apps/two/80", 1) };
    let route = routed(prefix("/"), to(vec![arm("apps/one/80", 1), guarded]));
    let action = Action { auth: Some(ask("apps/rule/9000")), ..Action::clone(&route.action) };
    golden_routes("external-auth-arms", &http(), vec![Route { action: Arc::new(action), ..route }]);
}

#[test]
fn sessions() {
    let with = |path: &str, session: Session| {
        let mut target = to(one());
        if let Target::Forward { session: place, .. } = &mut target {
            *place = Some(Arc::new(session));
        }
        routed(prefix(path), target)
    };
    let cookie = |path: &str, lifetime: Option<u64>| Session::Cookie {
        name: "stay".into(),
        path: path.into(),
        lifetime: lifetime.map(Millis),
    };
    golden_routes(
        "sessions",
        &http(),
        vec![
            with("/cookie", cookie("/", None)),
            with("/permanent", cookie("/permanent", Some(3_600_000))),
            with("/header", Session::Header { name: "x-session".into() }),
        ],
    );
}

#[test]
fn arms_with_filters_of_their_own_share_one_draw() {
    let path = PathRewrite::Full("/b".into());
    let rewrite = Some(UrlRewrite { hostname: None, path: Some(path) });
    let mirror = Mirror { cluster: "apps/copy/80".into(), fraction: None };
    golden_routes(
        "split",
        &http(),
        vec![routed(
            prefix("/"),
            to(vec![
                arm("apps/a/80", 1),
                Arm { rewrite, ..arm("apps/b/80", 1) },
                Arm { mirrors: vec![mirror], ..arm("apps/c/80", 1) },
                Arm { cors: Some(cors()), ..arm("apps/d/80", 1) },
                Arm { redirect: Some(Redirect { port: Some(81), ..redirect() }), ..arm("apps/e/80", 1) },
                invalid(1),
            ]),
        )],
    );
}

#[test]
fn a_fixed_answer() {
    golden_routes(
        "answer",
        &http(),
        vec![routed(prefix("/"), Target::Answer { status: 500, body: "no valid backend".into() })],
    );
}

fn plain_cluster(protocol: AppProtocol) -> Cluster {
    Cluster {
        name: "apps/one/80".into(),
        protocol,
        tls: None,
        sockets: BTreeMap::new(),
        connect_timeout: Millis(5000),
        origin: Origin::new("Service/apps/one"),
    }
}

#[test]
fn clusters() {
    golden("cluster-http1", &cluster(&plain_cluster(AppProtocol::Http1)));
    golden("cluster-h2c", &cluster(&plain_cluster(AppProtocol::Http2)));
    golden("cluster-opaque", &cluster(&plain_cluster(AppProtocol::Opaque)));
    let tls = UpstreamTls {
        server_name: "backend.test".into(),
        trust: UpstreamTrust::Authorities("apps/ca".into()),
        subject_alt_names: vec!["other.test".into(), "spiffe://cluster.local/ns/apps/sa/one".into()],
        client_certificate: Some("apps/client".into()),
    };
    let system = UpstreamTls {
        trust: UpstreamTrust::System,
        subject_alt_names: vec![],
        client_certificate: None,
        ..tls.clone()
    };
    let several = Cluster {
        sockets: [("one".into(), tls.clone()), ("two".into(), system.clone())].into(),
        ..plain_cluster(AppProtocol::Opaque)
    };
    golden("cluster-sockets", &cluster(&several));
    golden("cluster-tls", &cluster(&Cluster { tls: Some(tls), ..plain_cluster(AppProtocol::Http2) }));
    golden(
        "cluster-tls-system",
        &cluster(&Cluster { tls: Some(system), ..plain_cluster(AppProtocol::Http1) }),
    );
}

#[test]
fn endpoints_by_zone() {
    let at = |address: &str, zone: Option<&str>| Endpoint {
        address: address.parse().unwrap(),
        zone: zone.map(text),
        weight: 1,
        socket: None,
    };
    let some = Endpoints {
        endpoints: vec![at("10.0.0.2:80", Some("b")), at("10.0.0.1:80", Some("a")), at("[fd00::1]:80", None)],
        nowhere: 0,
    };
    golden("endpoints", &endpoints("apps/one/80", &some, [].into_iter()));
    let weighted = Endpoints {
        endpoints: vec![
            Endpoint { weight: 70, ..at("10.0.0.1:80", None) },
            Endpoint { weight: 20, socket: Some("one".into()), ..at("10.0.0.2:80", None) },
        ],
        nowhere: 10,
    };
    golden("endpoints-weighted", &endpoints("apps/public/9000/tcp", &weighted, [].into_iter()));
    let nothing = Endpoints { nowhere: 10, ..Endpoints::default() };
    assert_eq!(
        endpoints("x", &nothing, [].into_iter()),
        endpoints("x", &Endpoints::default(), [].into_iter()),
        "an empty cluster fails by itself"
    );
    golden("endpoints-empty", &endpoints("apps/one/80", &Endpoints::default(), [].into_iter()));
}

#[test]
fn secrets_are_redacted() {
    let body = SecretBody::Certificate { chain: "chain".into(), key: "the key".into() };
    golden("secret-certificate", &secret(&Secret { name: "apps/tls".into(), body }));
    let body = SecretBody::Authorities { bundle: "bundle".into() };
    golden("secret-authorities", &secret(&Secret { name: "apps/ca".into(), body }));
}

fn chain(name: &str, server_name: Option<&str>, tls: Option<DownstreamTls>) -> Arc<FilterChain> {
    Arc::new(FilterChain {
        name: name.into(),
        server_name: server_name.map(text),
        tls,
        traffic: ChainTraffic::Http { routes: format!("apps/public/443/{name}").into() },
        origin: Origin::new("Gateway/apps/public"),
    })
}

fn listens(chains: Vec<Arc<FilterChain>>) -> Listener {
    Listener {
        name: "apps/public/443".into(),
        port: 443,
        transport: Transport::Tcp,
        bind: vec!["0.0.0.0:443".parse().unwrap(), "[::1]:443".parse().unwrap()],
        access_log: None,
        chains,
    }
}

#[test]
fn listeners() {
    golden("listener-http", &listener(&listens(vec![chain("http", None, None)])));
    let tls = |client_validation| {
        Some(DownstreamTls { certificates: vec!["apps/rsa".into(), "apps/ecdsa".into()], client_validation })
    };
    let validate =
        |insecure_fallback| Some(ClientValidation { authorities: "apps/ca".into(), insecure_fallback });
    let chains = vec![
        chain("wildcard", Some("*.app.test"), tls(validate(true))),
        chain("exact", Some("a.app.test"), tls(validate(false))),
        chain("any", None, tls(None)),
        Arc::new(FilterChain {
            traffic: ChainTraffic::Closed,
            ..FilterChain::clone(&chain("closed", Some("closed.app.test"), None))
        }),
    ];
    let one = listener(&listens(chains.clone()));
    let other = listener(&listens(chains.into_iter().rev().collect()));
    assert_eq!(one, other, "the order of chains must not show");
    golden("listener-tls", &one);
}

#[test]
fn access_logs() {
    let log = AccessLog {
        members: vec![
            (text("path"), AccessValue::Path),
            (text("responseCode"), AccessValue::ResponseCode),
            (text("upstreamDurationMs"), AccessValue::UpstreamDuration),
        ],
        // The second is no header's name: it would be text for Envoy to expand.
        request_headers: vec![text("X-Team"), text("a)%%START_TIME")],
        response_headers: vec![],
    };
    let http = listens(vec![chain("http", None, None)]);
    golden("access-log", &listener(&Listener { access_log: Some(Arc::new(log)), ..http }));
}

#[test]
fn connections_and_datagrams_name_a_cluster_and_nothing_of_its_routes() {
    let chain = |name: &str, server_name: Option<&str>, tls, traffic| {
        Arc::new(FilterChain { traffic, ..FilterChain::clone(&chain(name, server_name, tls)) })
    };
    let tcp = |cluster: &str| ChainTraffic::Tcp { cluster: cluster.into() };
    let one = listens(vec![chain("tcp", None, None, tcp("apps/public/9000/tcp"))]);
    golden("listener-tcp", &listener(&one));
    let udp = ChainTraffic::Udp { cluster: "apps/public/9000/udp".into() };
    golden(
        "listener-udp",
        &listener(&Listener { transport: Transport::Udp, ..listens(vec![chain("udp", None, None, udp)]) }),
    );
    let tls = DownstreamTls { certificates: vec!["apps/tls".into()], client_validation: None };
    golden(
        "listener-tls-streams",
        &listener(&listens(vec![
            chain("pass", Some("pass.app.test"), None, tcp("apps/public/443/tls/pass.app.test")),
            chain("end", Some("*.end.test"), Some(tls), tcp("apps/public/443/tls/*.end.test")),
        ])),
    );
}

#[test]
fn a_secret_has_the_same_source_bytes_everywhere() {
    assert_eq!(secret::reference("a/b").sds_config, Some(wire::ads()));
    assert_eq!(wire::ads().encode_to_vec(), [0x1a, 0, 0x30, 2], "Envoy takes other bytes for another secret");
}

#[test]
fn composed_edits_do_what_both_would_do() {
    let first = edits(&[("a", "1"), ("b", "1")], &[("c", "1")], &["d"]);
    let second = edits(&[("a", "2")], &[("c", "2")], &["b"]);
    let both = filters::then(&first, &second);
    assert_eq!(both, edits(&[("a", "2")], &[("c", "1"), ("c", "2")], &["d", "b"]));
}

#[test]
fn re2_quoting() {
    assert_eq!(wire::quote("/a.b-c_1é"), r"\/a\.b\-c_1é");
}
