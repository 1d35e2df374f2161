//! Endpoints pass by a core that is busy, and never go back.

use std::sync::mpsc;

use portolan_xds::store::ResourceType;

use super::*;

const LIMIT: Duration = Duration::from_secs(20);

fn slice(address: &str, port: &str) -> Vec<Change> {
    changes(&format!(
        "
kind: EndpointSlice
metadata: {{name: blue, labels: {{kubernetes.io/service-name: blue}}}}
ports: [{{name: '{port}', port: 8080}}]
endpoints: [{{addresses: [{address}]}}]
"
    ))
}

/// A control plane with an API server's objects, told as its source tells them.
async fn rig() -> Rig {
    let environment = Environment { provenance: Provenance::Kubernetes, ..Environment::default() };
    let rig = Rig::within(environment, &route("a", "one"), KeepInMemory::default()).await;
    rig.handle.lane().note(&changes(BASE), Instant::now());
    rig
}

impl Rig {
    /// The addresses that the proxies of the Gateway are told, as text of the assignment.
    fn told(&self, address: &str) -> bool {
        let store =
            portolan_xds::ads::Programs::store(&**self.handle.hub(), &GatewayKey::new("default", "web"));
        store.unwrap().read(|store| {
            let live = store.get(ResourceType::Endpoints, "default/blue/80").unwrap();
            let bytes = live.resource.body().to_bytes();
            bytes.windows(address.len()).any(|part| part == address.as_bytes())
        })
    }

    async fn comes_to_tell(&self, address: &str) {
        let until = Instant::now() + LIMIT;
        while !self.told(address) {
            assert!(Instant::now() < until, "{address} was never told");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Holds the core until what is returned is dropped.
    fn hold(&self) -> mpsc::Sender<()> {
        let (hold, end) = mpsc::channel::<()>();
        let handle = self.handle.clone();
        tokio::spawn(async move { handle.ask(move |_| _ = end.recv()).await });
        hold
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_pass_by_while_the_core_is_held() {
    let rig = rig().await;
    assert!(rig.told("10.0.0.1"));
    let hold = rig.hold();
    for turn in 2..10 {
        let address = format!("10.0.0.{turn}");
        rig.handle.lane().note(&slice(&address, ""), Instant::now());
        rig.comes_to_tell(&address).await;
    }
    rig.handle.lane().note(&[(slice("10.0.0.1", "")[0].0.clone(), None)], Instant::now());
    let until = Instant::now() + LIMIT;
    while rig.told("10.0.0.9") {
        assert!(Instant::now() < until, "the last endpoint is gone, and is still told");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    drop(hold);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_placeholder_of_a_service_without_pods_passes_by_as_well() {
    let rig = rig().await;
    assert!(rig.told("10.0.0.1"));
    let hold = rig.hold();
    // As the controller of EndpointSlices writes it, in place of the slice that the Service had.
    let placeholder = changes(
        "
kind: EndpointSlice
metadata: {name: blue, labels: {kubernetes.io/service-name: blue}}
ports: []
endpoints: []
",
    );
    rig.handle.lane().note(&placeholder, Instant::now());
    let until = Instant::now() + LIMIT;
    while rig.told("10.0.0.1") {
        assert!(Instant::now() < until, "the pods are gone, and are still told");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    drop(hold);
    // A core that is behind brings none of them back.
    rig.handle.changes(batch(slice("10.0.0.2", ""))).unwrap();
    rig.handle.ask(|_| ()).await.unwrap();
    assert!(!rig.told("10.0.0."));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_core_that_is_behind_a_renamed_port_brings_nothing_old_back() {
    let rig = rig().await;
    rig.handle.lane().note(&slice("10.0.0.2", ""), Instant::now());
    rig.comes_to_tell("10.0.0.2").await;
    let renamed = slice("10.0.0.3", "web");
    rig.handle.lane().note(&renamed, Instant::now());
    rig.handle.changes(batch(slice("10.0.0.9", ""))).unwrap();
    rig.handle.ask(|_| ()).await.unwrap();
    assert!(rig.told("10.0.0.2") && !rig.told("10.0.0.9"), "what the core planned is older");
    // It decides once it has read them: a Service that knows no such port has no endpoints.
    rig.handle.changes(batch(renamed)).unwrap();
    rig.handle.ask(|_| ()).await.unwrap();
    assert!(!rig.told("10.0.0."));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_core_that_is_behind_does_not_bring_old_endpoints_back() {
    let rig = rig().await;
    let hold = rig.hold();
    for address in ["10.0.0.2", "10.0.0.3"] {
        rig.handle.lane().note(&slice(address, ""), Instant::now());
    }
    rig.comes_to_tell("10.0.0.3").await;
    drop(hold);
    // The core hears of the older one only, and of a new route that makes it publish.
    rig.handle.changes(batch(slice("10.0.0.2", ""))).unwrap();
    rig.apply(&route("b", "two"));
    rig.handle.ask(|_| ()).await.unwrap();
    assert!(rig.told("10.0.0.3"), "it went back");
    rig.handle.changes(batch(slice("10.0.0.3", ""))).unwrap();
    rig.handle.ask(|_| ()).await.unwrap();
    assert!(rig.told("10.0.0.3"));
}

#[tokio::test(flavor = "multi_thread")]
async fn slices_of_another_version_of_the_service_wait_for_it() {
    let rig = rig().await;
    let renamed = slice("10.0.0.2", "web");
    rig.handle.lane().note(&renamed, Instant::now());
    // Nothing says that the lane looked and left it: if it were told at all, it would be at once.
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(rig.told("10.0.0.1"), "the Service that the core knows has no such port: what worked stays");
    let service = "kind: Service\nmetadata: {name: blue}\nspec: {ports: [{name: web, port: 80}]}";
    let mut both = changes(service);
    both.extend(renamed);
    rig.handle.changes(batch(both)).unwrap();
    rig.comes_to_tell("10.0.0.2").await;
}
