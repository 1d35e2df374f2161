//! Session persistence (GEP-1619): a client stays with its endpoint among three, and goes on when that is gone.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;

use portolan_e2e::rig::manifest::{http_gateway, join, route, service};
use portolan_e2e::rig::{Answer, Ask, Plan, Target, World};

const ENDPOINTS: [&str; 3] = ["blue", "green", "red"];

/// A world with one Service, `all`, of three endpoints.
fn plan(rules: &str) -> Plan {
    let plan = World::plan().backends(&ENDPOINTS).manifest("web.yaml", &http_gateway("web"));
    plan.manifest("routes.yaml", &join([route("sessions", "stay.example", rules)]))
}

async fn start(rules: &str) -> (World, Target) {
    let world = plan(rules).prepare();
    let all = ENDPOINTS.map(|name| world.backends.address(name));
    world.write("all.yaml", &service("all", &all));
    world.run();
    world.settled().await;
    let target = world.http("web", 80).await;
    (world, target)
}

fn rule(path: &str, session: &str) -> String {
    format!(
        "{{matches: [{{path: {{value: {path}}}}}], sessionPersistence: {session}, backendRefs: [{{name: all, port: 80}}]}}"
    )
}

/// The cookie that an answer sets: `name=value`, and its attributes.
fn cookie(answer: &Answer) -> (String, Vec<String>) {
    let line = answer.line("set-cookie").unwrap_or_else(|| panic!("no cookie: {answer}"));
    let mut parts = line.split(';').map(|part| part.trim().to_owned());
    (parts.next().unwrap().replace('"', ""), parts.collect())
}

/// Where many requests go.
async fn spread(target: &Target, ask: &Ask) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    for _ in 0..24 {
        seen.insert(target.ask(ask).await.short());
    }
    seen
}

#[tokio::test]
async fn a_client_stays_with_its_endpoint_as_long_as_that_is_there() {
    let rules = [
        rule("/cookie", "{type: Cookie, cookie: {name: stay}}"),
        rule("/header", "{type: Header, header: {name: X-Session}}"),
    ];
    let (world, target) = start(&rules.join(", ")).await;
    let plain = |path: &str| Ask::get("stay.example", path);
    assert_eq!(
        spread(&target, &plain("/cookie")).await,
        ENDPOINTS.map(str::to_owned).into(),
        "without a session"
    );

    let first = target.ask(&plain("/cookie")).await;
    let (pair, attributes) = cookie(&first);
    assert!(pair.starts_with("stay="), "{pair}");
    assert!(!attributes.iter().any(|one| one.to_ascii_lowercase().starts_with("max-age")), "{attributes:?}");
    let with_cookie = plain("/cookie").header("Cookie", &pair);
    assert_eq!(spread(&target, &with_cookie).await, [first.short()].into());

    let other = target.ask(&plain("/header")).await;
    let with_header = plain("/header").header("X-Session", other.line("x-session").expect("a session"));
    assert_eq!(spread(&target, &with_header).await, [other.short()].into());

    // The endpoint goes: its clients get another one, and stay with that.
    let left: Vec<_> = ENDPOINTS.iter().filter(|name| **name != first.short()).collect();
    let addresses: Vec<_> = left.iter().map(|name| world.backends.address(name)).collect();
    world.write("all.yaml", &service("all", &addresses));
    let gone = tokio::time::timeout(portolan_e2e::rig::DEADLINE, async {
        while target.ask(&with_cookie).await.short() == first.short() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    });
    gone.await.expect("requests leave an endpoint that is gone");
    let next = target.ask(&with_cookie).await;
    assert!(left.iter().any(|name| **name == next.short()), "{next}");
    let (pair, _) = cookie(&next);
    let again = plain("/cookie").header("Cookie", &pair);
    assert_eq!(spread(&target, &again).await, [next.short()].into());
}

#[tokio::test]
async fn a_cookie_says_how_long_and_where_it_holds() {
    let rules = [
        rule("/long", "{type: Cookie, absoluteTimeout: 1h, cookie: {name: long, lifetimeType: Permanent}}"),
        rule(
            "/short",
            "{type: Cookie, absoluteTimeout: 2s, cookie: {name: short, lifetimeType: Permanent, path: /short}}",
        ),
        rule("/unnamed", "{type: Cookie, cookie: {}}"),
    ];
    let (_world, target) = start(&rules.join(", ")).await;
    let plain = |path: &str| Ask::get("stay.example", path);
    let has =
        |attributes: &[String], wanted: &str| attributes.iter().any(|one| one.eq_ignore_ascii_case(wanted));
    let (_, attributes) = cookie(&target.ask(&plain("/long")).await);
    assert!(has(&attributes, "Max-Age=3600") && has(&attributes, "Path=/"), "{attributes:?}");
    let (pair, _) = cookie(&target.ask(&plain("/unnamed")).await);
    assert!(pair.starts_with("portolan-session-"), "{pair}");

    let first = target.ask(&plain("/short")).await;
    let (pair, attributes) = cookie(&first);
    assert!(has(&attributes, "Max-Age=2") && has(&attributes, "Path=/short"), "{attributes:?}");
    let stays = plain("/short").header("Cookie", &pair);
    // A client that keeps it longer is not believed: in the end it is sent where any other is, with a new cookie.
    let renewed = tokio::time::timeout(portolan_e2e::rig::DEADLINE, async {
        while target.ask(&stays).await.line("set-cookie").is_none() {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    });
    renewed.await.expect("a cookie ends when its time is over");
}
