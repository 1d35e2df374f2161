//! Where Gateways listen on this host: exact and other ports, one address for all, and ports that someone else has.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::TcpListener;

use portolan_e2e::rig::manifest::{gateway, http_gateway, join, route};
use portolan_e2e::rig::{Ask, Plan, Status, World, table};

fn hello(gateway: &str, backend: &str) -> String {
    let name = format!("hello-{gateway}");
    let yaml = route(&name, "hello.example", &format!("{{backendRefs: [{{name: {backend}, port: 80}}]}}"));
    yaml.replace("name: web", &format!("name: {gateway}"))
}

fn ask() -> Ask {
    Ask::get("hello.example", "/")
}

fn plan() -> Plan {
    World::plan()
        .backends(&["blue", "green"])
        .manifest("web.yaml", &http_gateway("web"))
        .manifest("hello.yaml", &hello("web", "blue"))
}

/// Whether a listener is refused for want of its port.
fn unavailable(status: &Status, gateway: &str, listener: &str) -> Option<String> {
    let accepted = status.listener_condition(gateway, listener, "Accepted")?;
    accepted.is_false("PortUnavailable").then_some(accepted.message)
}

#[tokio::test]
async fn a_port_in_use_is_told_and_taken_once_it_is_free() {
    let world = plan().start().await;
    let ip = world.http("web", 80).await.address().ip();
    let stranger = TcpListener::bind((ip, 8080)).unwrap();
    let listeners = "{name: http, port: 80, protocol: HTTP}, {name: taken, port: 8080, protocol: HTTP}";
    world.write("web.yaml", &gateway("web", listeners));
    let told = |status: &Status| unavailable(status, "default/web", "taken").is_some();
    let status = world.until("the port is told to be unavailable", told).await;
    let message = unavailable(&status, "default/web", "taken").unwrap();
    assert!(message.contains(&format!("{ip}:8080")), "{message}");
    let programmed = status.listener_condition("default/web", "taken", "Programmed").unwrap();
    assert_eq!(programmed.status, "False");
    // The other listener serves.
    let target = world.http("web", 80).await;
    table(&target, [(ask(), "blue")]).await;
    drop(stranger);
    let free = |status: &Status| {
        let programmed = status.listener_condition("default/web", "taken", "Programmed");
        programmed.is_some_and(|one| one.is_true()) && status.settled()
    };
    world.until("the port is taken once it is free", free).await;
    table(&world.http("web", 8080).await, [(ask(), "blue")]).await;
}

#[tokio::test]
async fn ports_that_a_user_may_not_bind_are_replaced_and_the_api_port_stays_in_redirects() {
    let redirect = "{filters: [{type: RequestRedirect, requestRedirect: {path: {type: ReplaceFullPath, replaceFullPath: /x}}}]}";
    let world = plan()
        .argument("--ports")
        .argument("auto")
        .manifest("redirect.yaml", &route("redirect", "redirect.example", redirect))
        .start()
        .await;
    let target = world.http("web", 80).await;
    assert!(target.address().port() >= 1024, "{target:?}");
    table(&target, [(ask(), "blue")]).await;
    // A browser names the port that it connects to; the listener's own is the API's.
    let answer = target.ask(&Ask::get("redirect.example", "/")).await;
    assert_eq!((answer.status, answer.line("location")), (302, Some("http://redirect.example/x")));
    // The same port again after a restart.
    let status = world.stop();
    assert!(status.success(), "{status}");
    world.run();
    world.settled().await;
    assert_eq!(world.http("web", 80).await.address(), target.address());
}

#[tokio::test]
async fn on_one_address_the_second_gateway_does_not_get_the_port_of_the_first() {
    let listeners = "{name: http, port: 80, protocol: HTTP}, {name: own, port: 8081, protocol: HTTP}";
    // An address that no other world uses.
    let world = plan()
        .argument("--bind")
        .argument("127.201.7.3")
        .manifest("zweb.yaml", &join([gateway("zweb", listeners), hello("zweb", "green")]))
        .prepare();
    world.run();
    let told = |status: &Status| unavailable(status, "default/zweb", "http").is_some() && status.settled();
    let status = world.until("the second is told that the port is taken", told).await;
    let message = unavailable(&status, "default/zweb", "http").unwrap();
    assert!(message.contains("127.201.7.3:80") && message.contains("default/web"), "{message}");
    table(&world.http("web", 80).await, [(ask(), "blue")]).await;
    table(&world.http("zweb", 8081).await, [(ask(), "green")]).await;
}
