//! Route tables, and what a route does with a request.

use super::*;

#[test]
fn a_route_table_has_its_virtual_hosts_by_themselves() {
    golden("route-table", &table::head(&http()));
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

#[test]
fn composed_edits_do_what_both_would_do() {
    let first = edits(&[("a", "1"), ("b", "1")], &[("c", "1")], &["d"]);
    let second = edits(&[("a", "2")], &[("c", "2")], &["b"]);
    let both = filters::then(&first, &second);
    assert_eq!(both, edits(&[("a", "2")], &[("c", "1"), ("c", "2")], &["d", "b"]));
}
