//! What is taken back is gone within a second: traffic that a ReferenceGrant or allowedRoutes let through, and secrets.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, Instant};

use portolan_e2e::echo::cert::Authority;
use portolan_e2e::rig::manifest::{gateway, join, secret, service};
use portolan_e2e::rig::{Ask, DEADLINE, Shared, Target, World, table};

static WORLD: Shared = Shared::new();

/// The promise: from the write to the last moment at which anything gets through.
const PROMISED: Duration = Duration::from_secs(1);

/// The same objects in another namespace.
fn in_namespace(namespace: &str, yaml: &str) -> String {
    yaml.replace("metadata: {", &format!("metadata: {{namespace: {namespace}, "))
}

fn grant(namespace: &str, from: &str, to: &str) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: ReferenceGrant
metadata: {{name: to-{}, namespace: {namespace}}}
spec:
  from: [{{group: gateway.networking.k8s.io, kind: {from}, namespace: default}}]
  to: [{{group: '', kind: {to}}}]
",
        to.to_lowercase()
    )
}

fn namespace(name: &str, team: &str) -> String {
    format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {{team: {team}}}}}\n")
}

/// A Gateway that takes routes from namespaces whose label says that they are of team `a`, and from its own.
fn web(also: &str) -> String {
    let selector = "{from: Selector, selector: {matchLabels: {team: a}}}";
    gateway(
        "web",
        &format!(
            "{{name: own, port: 80, protocol: HTTP}}, {{name: one, port: 81, protocol: HTTP, allowedRoutes: {{namespaces: {selector}}}}}, {{name: two, port: 82, protocol: HTTP, allowedRoutes: {{namespaces: {{from: {also}}}}}}}"
        ),
    )
}

fn route(namespace: &str, parent: &str, backend: &str) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {parent}, namespace: {namespace}}}
spec:
  parentRefs: [{{name: {parent}, namespace: default}}]
  rules: [{{backendRefs: [{backend}]}}]
"
    )
    .replacen("parentRefs: [{name: web-", "parentRefs: [{name: web, sectionName: ", 1)
}

async fn world() -> &'static World {
    WORLD
        .get(async || {
            let (authority, clients) = (Authority::new("test").unwrap(), Authority::new("clients").unwrap());
            let pair = authority.server(&["secure.example".to_owned()]).unwrap();
            let ca = serde_json::to_string(clients.certificate()).unwrap();
            let https = |certificate: &str| {
                format!("{{name: https, port: 443, protocol: HTTPS, tls: {{certificateRefs: [{{{certificate}}}]}}}}")
            };
            let reference = "{group: '', kind: ConfigMap, name: clients, namespace: authorities}";
            let frontend = format!(
                "tls: {{frontend: {{default: {{validation: {{mode: AllowInsecureFallback, caCertificateRefs: [{reference}]}}}}}}}}"
            );
            let blue = "{name: blue, port: 80}";
            let plan = World::plan()
                .backends(&["blue"])
                .manifest("web.yaml", &web("All"))
                .manifest("secure.yaml", &gateway("secure", &https("name: pair, namespace: certificates")))
                .manifest(
                    "guarded.yaml",
                    &gateway("guarded", &https("name: pair"))
                        .replace("spec:\n", &format!("spec:\n  {frontend}\n")),
                )
                .manifest("pair.yaml", &secret("pair", &pair))
                .manifest("pair-elsewhere.yaml", &in_namespace("certificates", &secret("pair", &pair)))
                .manifest(
                    "clients.yaml",
                    &format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: clients, namespace: authorities}}\ndata: {{ca.crt: {ca}}}\n"),
                )
                .manifest("team.yaml", &namespace("team", "a"))
                .manifest("grant-backend.yaml", &grant("elsewhere", "HTTPRoute", "Service"))
                .manifest("grant-secret.yaml", &grant("certificates", "Gateway", "Secret"))
                .manifest("grant-authorities.yaml", &grant("authorities", "Gateway", "ConfigMap"))
                .manifest(
                    "routes.yaml",
                    &join([
                        route("default", "web-own", "{name: blue, namespace: elsewhere, port: 80}"),
                        route("team", "web-one", blue),
                        route("team", "web-two", blue),
                        route("default", "secure", blue),
                        route("default", "guarded", blue),
                    ]),
                );
            let world = plan.prepare();
            let address = world.backends.get("blue").addresses().http.unwrap();
            for namespace in ["elsewhere", "team"] {
                let there = in_namespace(namespace, &service("blue", &[address]));
                world.write(&format!("blue-{namespace}.yaml"), &there);
            }
            world.run();
            world.settled().await;
            world
        })
        .await
}

/// Takes something back, and holds that within a second nothing gets through any more, and then never again.
async fn is_gone_in_time(what: &str, take_back: impl FnOnce(), gone: impl AsyncFn() -> bool) {
    assert!(!gone().await, "{what}: it is gone before anything was taken back");
    let started = Instant::now();
    take_back();
    while !gone().await {
        assert!(started.elapsed() < DEADLINE, "{what}: it is still there after {DEADLINE:?}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let took = started.elapsed();
    assert!(
        took <= PROMISED,
        "{what}: gone {} ms after the write; promised are {} ms",
        took.as_millis(),
        PROMISED.as_millis()
    );
    for _ in 0..20 {
        assert!(gone().await, "{what}: it came back");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Whether the proxies of a Gateway are given a secret.
async fn is_given(world: &World, gateway: &str, secret: &str) -> bool {
    let resources = world.json(&format!("/debug/xds?gateway=default/{gateway}")).await;
    resources.to_string().contains(&format!("\"{secret}\""))
}

#[tokio::test]
async fn a_backend_in_another_namespace_whose_grant_is_deleted() {
    let world = world().await;
    let target = world.http("web", 80).await;
    let ask = Ask::get("own.example", "/");
    table(&target, [(ask.clone(), "blue")]).await;
    let gone = async || target.ask(&ask).await.short() == "500";
    is_gone_in_time("the backend", || world.remove("grant-backend.yaml"), gone).await;
}

#[tokio::test]
async fn a_certificate_in_another_namespace_whose_grant_is_deleted() {
    let world = world().await;
    let target = Target::https(world.bound("secure", "443/tcp").await, "secure.example");
    let ask = Ask::get("secure.example", "/");
    assert_eq!(target.ask(&ask).await.short(), "blue");
    assert!(is_given(world, "secure", "certificates/pair").await);
    // No new connection, and no proxy that gets the key again. Connections that are open are told to go with their next
    // answer; for them the Envoy that had the key keeps it until they are drained.
    let gone =
        async || target.try_ask(&ask).await.is_err() && !is_given(world, "secure", "certificates/pair").await;
    is_gone_in_time("the listener and its key", || world.remove("grant-secret.yaml"), gone).await;
}

#[tokio::test]
async fn authorities_in_another_namespace_whose_grant_is_deleted() {
    let world = world().await;
    let target = Target::https(world.bound("guarded", "443/tcp").await, "secure.example");
    let ask = Ask::get("secure.example", "/");
    assert_eq!(target.ask(&ask).await.short(), "blue");
    let gone = async || target.try_ask(&ask).await.is_err();
    is_gone_in_time("the listener", || world.remove("grant-authorities.yaml"), gone).await;
}

#[tokio::test]
async fn a_namespace_that_allowed_routes_select_no_more() {
    let world = world().await;
    let target = world.http("web", 81).await;
    let ask = Ask::get("one.example", "/");
    table(&target, [(ask.clone(), "blue")]).await;
    let gone = async || target.ask(&ask).await.short() == "404";
    is_gone_in_time("the route", || world.write("team.yaml", &namespace("team", "b")), gone).await;
}

#[tokio::test]
async fn a_listener_that_allows_its_own_namespace_alone_from_now_on() {
    let world = world().await;
    let target = world.http("web", 82).await;
    let ask = Ask::get("two.example", "/");
    table(&target, [(ask.clone(), "blue")]).await;
    let gone = async || target.ask(&ask).await.short() == "404";
    is_gone_in_time("the route", || world.write("web.yaml", &web("Same")), gone).await;
}
