//! Listeners and their filter chains, for requests, connections and datagrams.

use super::*;

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
