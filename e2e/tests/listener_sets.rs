//! ListenerSets: listeners that teams add to a Gateway, and what becomes of requests to them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use portolan_e2e::echo::cert::Authority;
use portolan_e2e::rig::manifest::{gateway, join, secret};
use portolan_e2e::rig::stream::whom;
use portolan_e2e::rig::{Ask, Shared, Status, Target, World, table};

static WORLD: Shared = Shared::new();

const OWN: &str = "{name: http, port: 80, protocol: HTTP, hostname: own.example}";

fn open_gateway() -> String {
    gateway("web", OWN).replace("spec:\n", "spec:\n  allowedListeners: {namespaces: {from: Same}}\n")
}

fn set(name: &str, year: u16, listeners: &str) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: ListenerSet
metadata: {{name: {name}, creationTimestamp: '{year}-01-01T00:00:00Z'}}
spec:
  parentRef: {{name: web}}
  listeners: [{listeners}]
"
    )
}

fn route(name: &str, parent: &str, backend: &str) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {name}}}
spec:
  parentRefs: [{{{parent}}}]
  rules: [{{backendRefs: [{{name: {backend}, port: 80}}]}}]
"
    )
}

async fn world() -> &'static World {
    WORLD
        .get(async || {
            let pair = Authority::new("test").unwrap().server(&["tls.example".to_owned()]).unwrap();
            let older = "{name: one, port: 80, protocol: HTTP, hostname: one.example},
                {name: wide, port: 80, protocol: HTTP, hostname: '*.example'},
                {name: own, port: 80, protocol: HTTP, hostname: own.example},
                {name: tls, port: 443, protocol: HTTPS, hostname: tls.example, tls: {certificateRefs: [{name: pair}]}},
                {name: next, port: 8080, protocol: HTTP}";
            World::plan()
                .backends(&["blue", "green", "red"])
                .manifest("web.yaml", &join([open_gateway(), secret("pair", &pair)]))
                .manifest("sets.yaml", &join([set("older", 2020, older), set("younger", 2021, "{name: one, port: 80, protocol: HTTP, hostname: one.example}, {name: two, port: 80, protocol: HTTP, hostname: two.example}")]))
                .manifest("routes.yaml", &join([
                    route("own", "name: web", "blue"),
                    route("older", "kind: ListenerSet, name: older", "green"),
                    route("younger", "kind: ListenerSet, name: younger", "red"),
                ]))
                .start()
                .await
        })
        .await
}

#[tokio::test]
async fn a_request_goes_to_the_routes_of_the_listener_that_has_its_host() {
    let world = world().await;
    let ask = |host| Ask::get(host, "/");
    table(
        &world.http("web", 80).await,
        [
            (ask("own.example"), "blue"),
            (ask("one.example"), "green"),
            (ask("other.example"), "green"),
            (ask("two.example"), "red"),
            (ask("elsewhere.org"), "404"),
        ],
    )
    .await;
    table(&world.http("web", 8080).await, [(ask("any.org"), "green")]).await;
    let tls = Target::https(world.bound("web", "443/tcp").await, "tls.example");
    assert_eq!(tls.ask(&ask("tls.example")).await.short(), "green");
}

#[tokio::test]
async fn who_comes_later_yields_and_says_to_whom() {
    let status = world().await.status().await;
    for (set, listener, winner) in
        [("older", "own", "listener http,"), ("younger", "one", "listener default/older/one,")]
    {
        let report = status.object(&format!("ListenerSet/default/{set}")).unwrap();
        let listeners = report["listeners"].as_array().unwrap();
        let one = listeners.iter().find(|one| one["name"] == listener).unwrap();
        let accepted = &one["conditions"][0];
        assert_eq!(accepted["reason"], "HostnameConflict", "{one}");
        assert!(accepted["message"].as_str().unwrap().contains(winner), "{one}");
    }
}

#[tokio::test]
async fn a_set_comes_and_goes_and_leaves_the_others_alone() {
    let world = world().await;
    let mut open = world.http("web", 80).await.connect().await.unwrap();
    let ask = Ask::get("own.example", "/");
    assert_eq!(open.ask(&ask).await.unwrap().short(), "blue");
    let added = [
        set(
            "new",
            2024,
            "{name: new, port: 80, protocol: HTTP, hostname: new.example}, {name: port, port: 8090, protocol: HTTP}",
        ),
        route("new", "kind: ListenerSet, name: new", "red"),
    ];
    world.write("new.yaml", &join(added));
    let done = |status: &Status| status.programmed("HTTPRoute/default/new") && status.settled();
    world.until("the set is served", done).await;
    assert_eq!(world.http("web", 80).await.ask(&Ask::get("new.example", "/")).await.short(), "red");
    let port = world.bound("web", "8090/tcp").await;
    assert_eq!(Target::http(port).ask(&Ask::get("any.org", "/")).await.short(), "red");
    let attached =
        |status: &Status| status.object("Gateway/default/web").unwrap()["attachedListenerSets"].clone();
    assert_eq!(attached(&world.status().await), 3);
    world.remove("new.yaml");
    let gone = |status: &Status| status.object("ListenerSet/default/new").is_none() && attached(status) == 2;
    world.until("the set is gone", gone).await;
    let started = std::time::Instant::now();
    while whom(port).await != "closed" {
        assert!(started.elapsed() < portolan_e2e::rig::DEADLINE, "its port is still open");
    }
    // What its host gets now is what the wider listener of another set says.
    assert_eq!(world.http("web", 80).await.ask(&Ask::get("new.example", "/")).await.short(), "green");
    assert_eq!(open.ask(&ask).await.unwrap().short(), "blue", "an open connection goes on");
}
