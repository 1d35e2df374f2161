//! Client certificates of HTTPS listeners (GEP-91): who is let in, by authorities of a ConfigMap and of a ClusterTrustBundle.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use portolan_e2e::echo::cert::{Authority, Pair};
use portolan_e2e::rig::manifest::{authorities, gateway, join, secret, trust_bundle};
use portolan_e2e::rig::{Ask, Shared, Target, World, until};
use tokio::sync::OnceCell;

static WORLD: Shared = Shared::new();
static CLIENTS: OnceCell<Clients> = OnceCell::const_new();

/// Certificates of clients, by who signed them.
struct Clients {
    of_map: Pair,
    of_bundle: Pair,
    of_strangers: Pair,
    map: String,
    bundle: String,
    next: Pair,
    next_bundle: String,
}

async fn clients() -> &'static Clients {
    let make = async || {
        let [map, bundle, next, strangers] =
            ["map", "bundle", "next", "strangers"].map(|name| Authority::new(name).unwrap());
        let client = |authority: &Authority| authority.client("client.example").unwrap();
        Clients {
            of_map: client(&map),
            of_bundle: client(&bundle),
            of_strangers: client(&strangers),
            map: map.certificate().to_owned(),
            bundle: bundle.certificate().to_owned(),
            next: client(&next),
            next_bundle: next.certificate().to_owned(),
        }
    };
    CLIENTS.get_or_init(make).await
}

const MAP: &str = "{group: '', kind: ConfigMap, name: clients}";
const BUNDLE: &str =
    "{group: certificates.k8s.io, kind: ClusterTrustBundle, name: 'example.com:clients:one'}";
const CHANGING: &str =
    "{group: certificates.k8s.io, kind: ClusterTrustBundle, name: 'example.com:clients:changing'}";

fn guarded(name: &str, mode: &str, references: &str) -> String {
    let https = "{name: https, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: pair}]}}";
    let validation = format!("{{mode: {mode}, caCertificateRefs: [{references}]}}");
    let frontend = format!("tls: {{frontend: {{default: {{validation: {validation}}}}}}}");
    gateway(name, https).replace("spec:\n", &format!("spec:\n  {frontend}\n"))
}

const NAMES: [&str; 5] = ["by-map", "by-bundle", "by-both", "open", "changing"];

async fn world() -> &'static World {
    WORLD
        .get(async || {
            let clients = clients().await;
            let pair = Authority::new("servers").unwrap().server(&["secure.example".to_owned()]).unwrap();
            let gateways = [
                guarded("by-map", "AllowValidOnly", MAP),
                guarded("by-bundle", "AllowValidOnly", BUNDLE),
                guarded("by-both", "AllowValidOnly", &format!("{MAP}, {BUNDLE}")),
                guarded("open", "AllowInsecureFallback", BUNDLE),
                guarded("changing", "AllowValidOnly", CHANGING),
            ];
            let parents = NAMES.map(|name| format!("{{name: {name}}}")).join(", ");
            let route = format!(
                "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: all}}
spec:
  parentRefs: [{parents}]
  rules: [{{backendRefs: [{{name: blue, port: 80}}]}}]
"
            );
            World::plan()
                .backends(&["blue"])
                .manifest("gateways.yaml", &join(gateways))
                .manifest("pair.yaml", &secret("pair", &pair))
                .manifest("map.yaml", &authorities("clients", &clients.map))
                .manifest("bundle.yaml", &trust_bundle("clients", "one", &clients.bundle))
                .manifest("changing.yaml", &trust_bundle("clients", "changing", &clients.bundle))
                .manifest("all.yaml", &route)
                .start()
                .await
        })
        .await
}

async fn target(name: &str, own: Option<&Pair>) -> Target {
    let address = world().await.bound(name, "443/tcp").await;
    let target = Target::https(address, "secure.example");
    own.map_or(target.clone(), |own| target.showing(own))
}

async fn is_let_in(name: &str, own: Option<&Pair>) -> bool {
    let answer = target(name, own).await.try_ask(&Ask::get("secure.example", "/")).await;
    answer.is_ok_and(|answer| answer.short() == "blue")
}

#[tokio::test]
async fn who_is_let_in() {
    world().await;
    let clients = clients().await;
    let (of_map, of_bundle, strangers) =
        (Some(&clients.of_map), Some(&clients.of_bundle), Some(&clients.of_strangers));
    // Without a certificate, with one of the map's authority, of the bundle's, of nobody's.
    for (gateway, expected) in [
        ("by-map", [false, true, false, false]),
        ("by-bundle", [false, false, true, false]),
        ("by-both", [false, true, true, false]),
        ("open", [true, true, true, true]),
    ] {
        for (own, expected) in [None, of_map, of_bundle, strangers].into_iter().zip(expected) {
            let who = own.map(|own| &own.certificate);
            assert_eq!(is_let_in(gateway, own).await, expected, "{gateway}: {who:?}");
        }
    }
}

#[tokio::test]
async fn a_bundle_that_changes_is_the_one_that_counts() {
    let (world, clients) = (world().await, clients().await);
    assert!(is_let_in("changing", Some(&clients.of_bundle)).await);
    assert!(!is_let_in("changing", Some(&clients.next)).await);
    world.write("changing.yaml", &trust_bundle("clients", "changing", &clients.next_bundle));
    until("the new bundle counts", async || is_let_in("changing", Some(&clients.next)).await).await;
    until("the old one does not", async || !is_let_in("changing", Some(&clients.of_bundle)).await).await;
    // Whom nobody can be checked by lets nobody in.
    world.remove("changing.yaml");
    until("the bundle is gone", async || !is_let_in("changing", Some(&clients.next)).await).await;
}
