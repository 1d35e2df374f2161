//! Filters of listeners (GEP-5224): real servers are asked before a route is picked, and what they make of a request picks it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::LazyLock;

use portolan_e2e::echo::cert::Authority;
use portolan_e2e::rig::backends::refusing;
use portolan_e2e::rig::load::LANES;
use portolan_e2e::rig::manifest::{gateway, join, route, secret, service};
use portolan_e2e::rig::{Answer, Ask, Authorizer, Load, Shared, Target, World, table};

static SERVERS: LazyLock<Authorizer> = LazyLock::new(Authorizer::start);
static WORLD: Shared = Shared::new();

const HOST: &str = "app.example";

/// A filter that asks by HTTP. The server sees what it needs to know what to say.
fn by_http(name: &str) -> String {
    let seen = "http: {allowedHeaders: [X-Auth, X-Auth-Status, X-Auth-Set]}";
    format!(
        "{{type: ExternalAuth, externalAuth: {{protocol: HTTP, backendRef: {{name: {name}, port: 80}}, {seen}}}}}"
    )
}

fn by_grpc(name: &str) -> String {
    format!(
        "{{type: ExternalAuth, externalAuth: {{protocol: GRPC, backendRef: {{name: {name}, port: 80}}, grpc: {{}}}}}}"
    )
}

/// A listener with these filters.
fn listener(name: &str, rest: &str, filters: &[String]) -> String {
    format!("{{name: {name}, {rest}, filters: {{requests: [{}]}}}}", filters.join(", "))
}

/// The rules of [`HOST`]: what is picked depends on what only the servers set.
fn rules() -> String {
    let to = |backend: &str| format!("backendRefs: [{{name: {backend}, port: 80}}]");
    let tenant = |name: &str| format!("matches: [{{headers: [{{name: x-tenant, value: {name}}}]}}]");
    let cors = "{type: CORS, cors: {allowOrigins: ['https://a.example']}}";
    [
        format!("{{{}, {}}}", tenant("green"), to("green")),
        format!("{{{}, filters: [{}], {}}}", tenant("asked"), by_grpc("by-grpc"), to("green")),
        format!("{{{}, filters: [{}], {}}}", tenant("nobody"), by_grpc("nobody"), to("green")),
        format!("{{{}, filters: [{cors}], {}}}", tenant("cors"), to("green")),
        format!(
            "{{{}, sessionPersistence: {{type: Cookie, cookie: {{name: kept}}}}, {}}}",
            tenant("kept"),
            to("green")
        ),
        format!("{{matches: [{{method: DELETE}}], {}}}", to("green")),
        format!("{{matches: [{{path: {{value: /moved}}}}], {}}}", to("green")),
        format!(
            "{{matches: [{{path: {{value: /strict}}}}], filters: [{}], {}}}",
            by_grpc("nobody"),
            to("blue")
        ),
        format!("{{matches: [{{path: {{value: /}}}}], {}}}", to("blue")),
    ]
    .join(", ")
}

async fn world() -> &'static World {
    WORLD
        .get(async || {
            let pair = Authority::new("tests").unwrap().server(&["tls.example".to_owned()]).unwrap();
            let http = "port: 80, protocol: HTTP";
            let both = [by_http("by-http"), by_grpc("by-grpc")];
            let listeners = [
                listener("all", http, &both),
                format!("{{name: open, {http}, hostname: open.example}}"),
                listener("closed", &format!("{http}, hostname: closed.example"), &[by_grpc("later")]),
                listener("dead", &format!("{http}, hostname: dead.example"), &[by_grpc("refusing")]),
                listener("alone", &format!("{http}, hostname: '*.alone.example'"), &[by_grpc("by-grpc")]),
                listener(
                    "tls",
                    "port: 443, protocol: HTTPS, hostname: tls.example, tls: {certificateRefs: [{name: pair}]}",
                    &[by_grpc("by-grpc")],
                ),
            ];
            let blue = "{backendRefs: [{name: blue, port: 80}]}";
            let all = ["open", "closed", "dead", "tls"];
            World::plan()
                .backends(&["blue", "green"])
                .manifest("web.yaml", &gateway("web", &listeners.join(", ")))
                .manifest("pair.yaml", &secret("pair", &pair))
                .manifest("by-grpc.yaml", &service("by-grpc", &[SERVERS.grpc]))
                .manifest("by-http.yaml", &service("by-http", &[SERVERS.http]))
                .manifest("refusing.yaml", &service("refusing", &[refusing()]))
                .manifest("app.yaml", &route("app", HOST, &rules()))
                .manifest(
                    "routes.yaml",
                    &join(all.map(|name| route(name, &format!("{name}.example"), blue))),
                )
                .start()
                .await
        })
        .await
}

async fn ask(ask: Ask) -> Answer {
    world().await.http("web", 80).await.ask(&ask).await
}

fn allowed(path: &str) -> Ask {
    Ask::get(HOST, path).header("X-Auth", "allow")
}

/// A request that passes, and for which the servers set these headers.
fn set(path: &str, what: &str) -> Ask {
    allowed(path).header("X-Auth-Set", what)
}

#[tokio::test]
async fn every_request_is_asked_about_whatever_its_route_would_be() {
    for (host, path) in [(HOST, "/one"), ("nobody.example", "/two"), ("x.alone.example", "/three")] {
        let answer = ask(Ask::get(host, path)).await;
        assert_eq!((answer.status, answer.instance()), (401, None), "{host}{path}: {answer}");
        assert!(SERVERS.question(path).is_some(), "{host}{path}");
    }
    assert_eq!(ask(allowed("/one/passes")).await.short(), "blue");
    for host in ["nobody.example", "x.alone.example"] {
        let answer = ask(Ask::get(host, "/").header("X-Auth", "allow")).await;
        assert_eq!((answer.status, answer.body.len()), (404, 0), "{host}: as without filters");
    }
}

#[tokio::test]
async fn one_that_refuses_ends_it_and_they_are_asked_in_order() {
    let answer = ask(Ask::get(HOST, "/order/refused").header("X-Auth-Status", "418")).await;
    assert_eq!((answer.status, answer.line("x-refused")), (418, Some("by HTTP")));
    assert_eq!(SERVERS.askers("/order/refused"), ["HTTP"]);
    let echoed = ask(allowed("/order/passes")).await.echoed();
    assert_eq!(SERVERS.askers("/order/passes"), ["HTTP", "gRPC"]);
    // What the first one said, the second one saw and replaced.
    let question = SERVERS.question("/order/passes").unwrap();
    assert_eq!((question.by, question.header("x-user")), ("gRPC", Some("known by HTTP")));
    assert_eq!(echoed.header("x-user"), ["known by gRPC"]);
}

#[tokio::test]
async fn what_they_make_of_a_request_picks_its_route() {
    table(
        &world().await.http("web", 80).await,
        [
            (allowed("/picked"), "blue"),
            (set("/picked", "x-tenant=green"), "green"),
            (set("/picked", ":path=/moved/there"), "green"),
            (set("/picked", ":method=DELETE"), "green"),
        ],
    )
    .await;
    let echoed = ask(set("/picked/path", ":path=/moved/away")).await.echoed();
    assert_eq!(echoed.path, "/moved/away");
    // The route that it had when it came is not the one that counts, nor are its filters.
    assert_eq!(ask(allowed("/strict")).await.status, 500);
    assert_eq!(ask(set("/strict", ":path=/moved")).await.short(), "green");
}

#[tokio::test]
async fn the_host_stays_what_the_client_said() {
    for change in ["host=open.example", ":authority=open.example", ":scheme=https"] {
        let echoed = ask(set("/host", &format!("{change},x-tenant=green"))).await.echoed();
        assert_eq!(echoed.host, HOST, "{change}");
        assert_eq!(echoed.header("x-tenant"), ["green"], "{change}: the rest of the answer counts");
    }
}

#[tokio::test]
async fn the_filters_of_the_picked_route_run_after_them() {
    assert_eq!(ask(set("/late/asked", "x-tenant=asked")).await.short(), "green");
    assert_eq!(SERVERS.askers("/late/asked"), ["HTTP", "gRPC", "gRPC"], "the rule asks once more");
    let answer = ask(set("/late", "x-tenant=nobody")).await;
    assert_eq!((answer.status, answer.instance()), (500, None), "the rule is closed: {answer}");
    let origin = set("/late", "x-tenant=cors").header("Origin", "https://a.example");
    let answer = ask(origin).await;
    assert_eq!(
        (answer.short().as_str(), answer.line("access-control-allow-origin")),
        ("green", Some("https://a.example"))
    );
    let answer = ask(set("/late", "x-tenant=kept")).await;
    let cookie = answer.line("set-cookie").unwrap_or_default();
    assert!(answer.short() == "green" && cookie.starts_with("kept="), "{answer}: {cookie}");
    assert_eq!(ask(allowed("/late")).await.line("set-cookie"), None);
}

#[tokio::test]
async fn a_listener_of_tls_has_its_own() {
    let target = Target::https(world().await.bound("web", "443/tcp").await, "tls.example");
    let request = |path: &str| Ask::get("tls.example", path);
    assert_eq!(target.ask(&request("/tls/refused")).await.status, 401);
    assert_eq!(target.ask(&request("/tls/passes").header("X-Auth", "allow")).await.short(), "blue");
    assert_eq!(SERVERS.askers("/tls/passes"), ["gRPC"]);
}

#[tokio::test]
async fn nothing_passes_where_nobody_can_be_asked_and_other_listeners_go_on() {
    let answer = ask(Ask::get("dead.example", "/").header("X-Auth", "allow")).await;
    assert_eq!((answer.status, answer.instance()), (503, None), "{answer}");
    assert_eq!(ask(Ask::get("open.example", "/open")).await.short(), "blue");
    assert!(SERVERS.askers("/open").is_empty());

    let closed = || Ask::get("closed.example", "/").header("X-Auth", "allow");
    let answer = ask(closed()).await;
    assert_eq!((answer.status, answer.instance()), (500, None), "{answer}");
    let world = world().await;
    let status = world.status().await;
    let condition = status.listener_condition("default/web", "closed", "ResolvedRefs").unwrap();
    assert!(condition.is_false("InvalidListenerFilterRef"), "{condition:?}");
    assert!(condition.message.contains("Service/default/later does not exist"), "{condition:?}");
    world.write("later.yaml", &service("later", &[SERVERS.grpc]));
    world
        .until("the listener opens", |status| {
            let condition = status.listener_condition("default/web", "closed", "ResolvedRefs");
            condition.is_some_and(|one| one.is_true()) && status.settled()
        })
        .await;
    table(&world.http("web", 80).await, [(closed(), "blue"), (Ask::get("closed.example", "/"), "401")]).await;
}

#[tokio::test]
async fn filters_come_and_go_without_a_failed_request() {
    let plain = "{name: http, port: 80, protocol: HTTP}".to_owned();
    let guarded = listener("http", "port: 80, protocol: HTTP", &[by_grpc("by-grpc")]);
    let world = World::plan()
        .backends(&["blue"])
        .manifest("web.yaml", &gateway("web", &plain))
        .manifest("by-grpc.yaml", &service("by-grpc", &[SERVERS.grpc]))
        .manifest("app.yaml", &route("app", HOST, "{backendRefs: [{name: blue, port: 80}]}"))
        .start()
        .await;
    let target = world.http("web", 80).await;
    let load = Load::on(&LANES, &target, &allowed("/load"), |_| Ok(()));
    for _ in 0..3 {
        world.edit("web.yaml", &gateway("web", &guarded)).await;
        table(&target, [(Ask::get(HOST, "/"), "401"), (allowed("/"), "blue")]).await;
        world.edit("web.yaml", &gateway("web", &plain)).await;
        table(&target, [(Ask::get(HOST, "/"), "blue")]).await;
    }
    load.more(90).await;
    load.stop().await.assert_clean(20);
}
