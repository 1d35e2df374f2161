//! A parentRef's port: a route serves the listeners of that port and no other (ParentReference `port`, which the feature
//! HTTPRouteDestinationPortMatching is about).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use portolan_e2e::rig::manifest::{gateway, join};
use portolan_e2e::rig::{Ask, Shared, World};

static WORLD: Shared = Shared::new();

fn route(name: &str, parent: &str, hostname: &str, backend: &str) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {name}}}
spec:
  parentRefs: [{{name: web{parent}}}]
  hostnames: ['{hostname}']
  rules: [{{backendRefs: [{{name: {backend}, port: 80}}]}}]
"
    )
}

async fn world() -> &'static World {
    WORLD
        .get(async || {
            let listeners = "{name: one, port: 80, protocol: HTTP}, {name: two, port: 8080, protocol: HTTP}";
            let routes = join([
                route("anywhere", "", "anywhere.example", "blue"),
                route("on-80", ", port: 80", "split.example", "blue"),
                route("on-8080", ", port: 8080", "split.example", "green"),
                route("only-8080", ", port: 8080", "only.example", "green"),
                route("nowhere", ", port: 8090", "nowhere.example", "blue"),
                route("other", ", sectionName: one, port: 8080", "other.example", "blue"),
            ]);
            World::plan()
                .backends(&["blue", "green"])
                .manifest("web.yaml", &gateway("web", listeners))
                .manifest("routes.yaml", &routes)
                .start()
                .await
        })
        .await
}

async fn on(port: u16, host: &str) -> String {
    world().await.http("web", port).await.ask(&Ask::get(host, "/")).await.short()
}

#[tokio::test]
async fn a_route_serves_the_port_that_it_names() {
    for (host, on_80, on_8080) in [
        ("anywhere.example", "blue", "blue"),
        ("split.example", "blue", "green"),
        ("only.example", "404", "green"),
        ("nowhere.example", "404", "404"),
        ("other.example", "404", "404"),
    ] {
        assert_eq!((on(80, host).await.as_str(), on(8080, host).await.as_str()), (on_80, on_8080), "{host}");
    }
}

#[tokio::test]
async fn a_port_that_no_listener_has_is_no_parent() {
    for name in ["nowhere", "other"] {
        let key = format!("HTTPRoute/default/{name}");
        let refused = |status: &portolan_e2e::rig::Status| {
            let accepted = status.parent_condition(&key, 0, "Accepted");
            accepted.is_some_and(|accepted| accepted.is_false("NoMatchingParent"))
        };
        world().await.until(&format!("{key} has no parent"), refused).await;
    }
}
