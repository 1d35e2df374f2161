//! HTTPS listeners: which certificate a client sees, which listener a connection belongs to, and requests that do not belong.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fmt::Write as _;
use std::net::SocketAddr;

use portolan_e2e::echo::cert::{Authority, Pair};
use portolan_e2e::rig::manifest::{gateway, join, secret};
use portolan_e2e::rig::{Ask, Shared, Target, World};
use tokio::sync::OnceCell;

static WORLD: Shared = Shared::new();

/// Certificates are made once: two tests of one world must expect the same.
static CERTIFICATES: OnceCell<Certificates> = OnceCell::const_new();

struct Certificates {
    org: Pair,
    wildcard: Pair,
    special: Pair,
}

async fn certificates() -> &'static Certificates {
    CERTIFICATES
        .get_or_init(async || {
            let authority = Authority::new("test").unwrap();
            let pair = |hosts: &[&str]| {
                let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
                authority.server(&hosts).unwrap()
            };
            Certificates {
                org: pair(&["example.org", "second-example.org", "*.wildcard.org"]),
                wildcard: pair(&["*.several.example"]),
                special: pair(&["special.several.example"]),
            }
        })
        .await
}

async fn world() -> &'static World {
    WORLD
        .get(async || {
            let made = certificates().await;
            let secrets = [
                secret("org", &made.org),
                secret("wildcard", &made.wildcard),
                secret("special", &made.special),
            ];
            World::plan()
                .backends(&["blue", "green", "red"])
                .manifest("secrets.yaml", &join(secrets))
                .manifest("misdirected.yaml", &misdirected())
                .manifest("several.yaml", &several())
                .start()
                .await
        })
        .await
}

/// The suite's Gateway and routes of HTTPRouteHTTPSListenerDetectMisdirectedRequests.
fn misdirected() -> String {
    let tls = "tls: {certificateRefs: [{name: org}]}";
    let listeners = [
        format!("{{name: any, port: 443, protocol: HTTPS, {tls}}}"),
        format!("{{name: second, port: 443, protocol: HTTPS, hostname: second-example.org, {tls}}}"),
        format!("{{name: wild, port: 443, protocol: HTTPS, hostname: '*.wildcard.org', {tls}}}"),
        format!("{{name: fourth, port: 443, protocol: HTTPS, hostname: fourth-example.wildcard.org, {tls}}}"),
    ];
    let route = |name: &str, section: &str, hostnames: &str, backend: &str| {
        format!(
            "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {name}}}
spec:
  parentRefs: [{{name: web, sectionName: {section}}}]
  {hostnames}
  rules: [{{backendRefs: [{{name: {backend}, port: 80}}]}}]
"
        )
    };
    join([
        gateway("web", &listeners.join(", ")),
        route("first", "any", "hostnames: [example.org]", "blue"),
        route("second", "second", "", "green"),
        route("third", "wild", "", "red"),
        route("fourth", "fourth", "", "blue"),
    ])
}

/// One listener with several certificates.
fn several() -> String {
    let listeners = "{name: https, port: 443, protocol: HTTPS, hostname: '*.several.example',
        tls: {mode: Terminate, certificateRefs: [{name: wildcard}, {name: special}]}}";
    join([
        gateway("several", listeners),
        "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: several}
spec:
  parentRefs: [{name: several}]
  rules: [{backendRefs: [{name: blue, port: 80}]}]
"
        .to_owned(),
    ])
}

async fn address(gateway: &str) -> SocketAddr {
    world().await.http(gateway, 443).await.address()
}

#[tokio::test]
async fn a_listener_serves_https_over_both_versions_of_http() {
    let target = Target::https(address("web").await, "example.org");
    for target in [target.clone(), target.http2()] {
        assert_eq!(target.ask(&Ask::get("example.org", "/x")).await.short(), "blue", "{target:?}");
    }
}

#[tokio::test]
async fn of_several_certificates_the_one_for_the_server_name_is_shown() {
    let address = address("several").await;
    let made = certificates().await;
    for (name, expected) in
        [("special.several.example", &made.special), ("other.several.example", &made.wildcard)]
    {
        let mut open = Target::https(address, name).connect().await.unwrap();
        assert!(open.shows(&expected.certificate), "another certificate is shown for {name}");
        assert_eq!(open.ask(&Ask::get(name, "/")).await.unwrap().short(), "blue");
    }
}

#[tokio::test]
async fn a_server_name_of_no_listener_is_refused() {
    let address = address("several").await;
    for target in [Target::https(address, "unknown.example"), Target::https_without_name(address)] {
        let outcome = target.try_ask(&Ask::get("other.several.example", "/")).await;
        assert!(outcome.is_err(), "{target:?}: {}", outcome.unwrap());
    }
}

#[tokio::test]
async fn without_a_server_name_the_listener_for_any_host_answers() {
    let target = Target::https_without_name(address("web").await);
    assert_eq!(target.ask(&Ask::get("example.org", "/")).await.short(), "blue");
}

#[tokio::test]
async fn clear_text_on_an_https_listener_is_refused() {
    let outcome = Target::http(address("web").await).try_ask(&Ask::get("example.org", "/")).await;
    assert!(outcome.is_err(), "{}", outcome.unwrap());
}

/// Server name, host, expected (conformance: HTTPRouteHTTPSListenerDetectMisdirectedRequests, RFC 9110 §15.5.20).
const MISDIRECTED: [(&str, &str, &str); 16] = [
    ("example.org", "example.org", "blue"),
    ("example.org", "second-example.org", "421"),
    ("example.org", "unknown-example.org", "404"),
    ("second-example.org", "second-example.org", "green"),
    ("second-example.org", "example.org", "421"),
    ("second-example.org", "unknown-example.org", "421"),
    ("third-example.wildcard.org", "third-example.wildcard.org", "red"),
    ("third-example.wildcard.org", "fith-example.wildcard.org", "red"),
    ("third-example.wildcard.org", "fourth-example.wildcard.org", "421"),
    ("third-example.wildcard.org", "second-example.org", "421"),
    ("third-example.wildcard.org", "unknown-example.org", "421"),
    ("fourth-example.wildcard.org", "fourth-example.wildcard.org", "blue"),
    ("fourth-example.wildcard.org", "fith-example.wildcard.org", "421"),
    ("fourth-example.wildcard.org", "second-example.org", "421"),
    ("unknown-example.org", "example.org", "blue"),
    ("unknown-example.org", "unknown-example.org", "404"),
];

#[tokio::test]
async fn a_request_for_the_host_of_another_listener_is_misdirected() {
    let address = address("web").await;
    let mut wrong = String::new();
    for (server_name, host, expected) in MISDIRECTED {
        // Both: a client that reuses a connection for another host does so over HTTP/2, but may over HTTP/1.1, too.
        for target in [Target::https(address, server_name).http2(), Target::https(address, server_name)] {
            let seen = target.ask(&Ask::get(host, "/x")).await;
            if seen.short() != expected {
                writeln!(
                    wrong,
                    "SNI {server_name}, host {host}: expected {expected}, got {seen} by {target:?}"
                )
                .unwrap();
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[tokio::test]
async fn a_connection_may_be_reused_for_hosts_of_its_own_listener() {
    let target = Target::https(address("web").await, "third-example.wildcard.org").http2();
    let mut open = target.connect().await.unwrap();
    let hosts = [
        "third-example.wildcard.org",
        "other.wildcard.org",
        "fourth-example.wildcard.org",
        "a.b.wildcard.org",
    ];
    let mut seen = Vec::new();
    for host in hosts {
        seen.push(open.ask(&Ask::get(host, "/")).await.unwrap().short());
    }
    assert_eq!(seen, ["red", "red", "421", "red"], "after 421 the connection goes on");
}

#[tokio::test]
async fn overlapping_hostnames_are_told_on_the_listeners() {
    let status = world().await.status().await;
    for listener in ["any", "wild", "fourth", "second"] {
        let overlapping = status.listener_condition("default/web", listener, "OverlappingTLSConfig");
        assert!(overlapping.is_some_and(|one| one.is_true()), "{listener}: {status}");
    }
    assert_eq!(status.listener_condition("default/several", "https", "OverlappingTLSConfig"), None);
}
