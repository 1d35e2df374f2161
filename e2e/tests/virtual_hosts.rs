//! Virtual hosts are resources of their own (docs/decisions/0008): they are there when their listener opens, and each time that
//! it comes back.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, Instant};

use portolan_e2e::rig::manifest::{gateway, http_gateway, join, route};
use portolan_e2e::rig::{Ask, DEADLINE, Status, World, table};
use rustix::process::Signal;

fn blue(name: &str) -> String {
    route(name, &format!("{name}.example"), "{backendRefs: [{name: blue, port: 80}]}")
}

#[tokio::test]
async fn a_listener_that_opens_knows_every_host() {
    let routes: Vec<String> = (0..3_000).map(|index| blue(&format!("r{index:04}"))).collect();
    let world = World::plan()
        .backend("blue")
        .manifest("web.yaml", &http_gateway("web"))
        .manifest("routes.yaml", &join(&routes))
        .start()
        .await;
    let target = world.http("web", 80).await;
    for _ in 0..3 {
        let envoy = world.proxies().remove(0).envoy.unwrap();
        envoy.signal(Signal::KILL).unwrap();
        let started = Instant::now();
        // The first that is answered at all is answered by its route: of the first host, of the last, of one between.
        for host in ["r2999.example", "r0000.example", "r1500.example"] {
            let answer = loop {
                match target.try_ask(&Ask::get(host, "/")).await {
                    Ok(answer) => break answer,
                    Err(error) => assert!(started.elapsed() < DEADLINE, "{error}"),
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            };
            assert_eq!(answer.short(), "blue", "{host}");
        }
        let back = |status: &Status| status.proxy_ready("default/web") && status.settled();
        world.until("Envoy is back", back).await;
    }
}

#[tokio::test]
async fn a_listener_that_is_removed_and_comes_back_has_its_hosts() {
    let one = "{name: http, port: 80, protocol: HTTP}";
    let two = "{name: http, port: 80, protocol: HTTP}, {name: other, port: 8080, protocol: HTTP}";
    let world = World::plan()
        .backend("blue")
        .manifest("web.yaml", &gateway("web", two))
        .manifest("a.yaml", &blue("a"))
        .start()
        .await;
    table(&world.http("web", 8080).await, [(Ask::get("a.example", "/"), "blue")]).await;
    // Before and after the time for which removals are held.
    for pause in [Duration::ZERO, Duration::from_secs(12)] {
        world.edit("web.yaml", &gateway("web", one)).await;
        tokio::time::sleep(pause).await;
        world.write("b.yaml", &blue("b"));
        world.edit("web.yaml", &gateway("web", two)).await;
        world.settled().await;
        let target = world.http("web", 8080).await;
        table(&target, [(Ask::get("a.example", "/"), "blue"), (Ask::get("b.example", "/"), "blue")]).await;
        world.remove("b.yaml");
        let started = Instant::now();
        while target.ask(&Ask::get("b.example", "/")).await.short() == "blue" {
            assert!(started.elapsed() < DEADLINE, "a removed host is served");
        }
        table(&target, [(Ask::get("a.example", "/"), "blue")]).await;
    }
}

#[tokio::test]
async fn a_listener_without_routes_opens_and_takes_the_first() {
    let world = World::plan().backend("blue").manifest("web.yaml", &http_gateway("web")).start().await;
    assert!(world.status().await.programmed("Gateway/default/web"));
    let target = world.http("web", 80).await;
    assert_eq!(target.ask(&Ask::get("a.example", "/")).await.status, 404);
    world.edit("a.yaml", &blue("a")).await;
    table(&target, [(Ask::get("a.example", "/"), "blue"), (Ask::get("b.example", "/"), "404")]).await;
    world.remove("a.yaml");
    let started = Instant::now();
    while target.ask(&Ask::get("a.example", "/")).await.short() == "blue" {
        assert!(started.elapsed() < DEADLINE, "a removed host is served");
    }
}
