//! The writer against an API server in memory: one write per change, by the leader, over what others write.

use std::time::Duration;

use portolan_xds::{
    GatewayKey,
    ads::{Event, Programs as _, StreamId},
    store::Seq,
};
use serde_json::{Value, json};

use crate::{
    fleet::cluster::Installation,
    model::{Kind, ObjectKey},
    operator::{Operator, Options},
    source::kubernetes::SecretAccess,
    twin::Twin,
};

async fn replica(twin: &Twin, name: &str) -> Operator {
    let options = Options {
        namespace: "portolan-system".into(),
        identity: name.into(),
        secrets: SecretAccess::Referenced,
        admin: "127.0.0.1:0".parse().unwrap(),
        xds: "127.0.0.1:0".parse().unwrap(),
        // What one knows of its proxies is its own affair in these tests.
        peer_address: None,
        installation: Installation {
            namespace: "portolan-system".into(),
            proxy_image: "example.com/proxy".into(),
            xds_host: "localhost".into(),
            xds_port: 18_000,
        },
    };
    Operator::start(twin.client(), "twin", options, &tokio::runtime::Handle::current()).await.unwrap()
}

async fn until<T: std::fmt::Debug>(
    what: &str,
    mut ask: impl AsyncFnMut() -> T,
    mut good: impl FnMut(&T) -> bool,
) -> T {
    for _ in 0..1_000 {
        let answer = ask().await;
        if good(&answer) {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{what}: {:#?}", ask().await);
}

/// Long enough for whatever would be written wrongly.
async fn quiet() {
    tokio::time::sleep(Duration::from_millis(900)).await;
}

fn twin() -> Twin {
    let twin = Twin::new();
    twin.install_crds();
    twin.put(json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": "portolan"},
        "spec": {"controllerName": "portolan.dev/gateway-controller"},
    }));
    twin.put(json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "web", "namespace": "apps"},
        "spec": {"gatewayClassName": "portolan", "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]},
    }));
    twin
}

fn route(hostname: &str) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "shop", "namespace": "apps"},
        "spec": {"hostnames": [hostname], "parentRefs": [
            {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "web"},
        ]},
    })
}

/// The conditions of an entry, as `Type=Status Reason`.
fn conditions(of: &Value) -> Vec<String> {
    let conditions = of["conditions"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    conditions
        .iter()
        .map(|one| format!("{}={} {}", text(&one["type"]), text(&one["status"]), text(&one["reason"])))
        .collect()
}

fn status_of(twin: &Twin, kind: Kind, name: &str) -> Value {
    let namespace = if kind.cluster_scoped() { "" } else { "apps" };
    twin.get(kind, namespace, name).map(|object| object["status"].clone()).unwrap_or_default()
}

async fn has(twin: &Twin, kind: Kind, name: &str, condition: &str) -> Value {
    let ask = async || status_of(twin, kind, name);
    until(condition, ask, |status| {
        let parents = status["parents"].as_array().cloned().unwrap_or_default();
        parents.iter().chain([status]).any(|one| conditions(one).iter().any(|it| it == condition))
    })
    .await
}

/// A proxy that acknowledges everything up to an edit.
fn acknowledge(replica: &Operator, seq: u64) {
    let gateway = GatewayKey::new("apps", "web");
    replica.handle().hub().on_event(&gateway, StreamId(1), Event::Opened);
    replica.handle().hub().on_event(&gateway, StreamId(1), Event::Progress { acked_through: Seq(seq) });
}

#[tokio::test]
async fn the_leader_writes_what_the_core_reports() {
    let twin = twin();
    twin.put(route("shop.example.com"));
    let _replica = replica(&twin, "a").await;
    has(&twin, Kind::GatewayClass, "portolan", "Accepted=True Accepted").await;
    let gateway = has(&twin, Kind::Gateway, "web", "Programmed=False Pending").await;
    assert_eq!(gateway["listeners"][0]["attachedRoutes"], 1);
    let route = has(&twin, Kind::HttpRoute, "shop", "portolan.dev/Programmed=False Pending").await;
    assert_eq!(route["parents"][0]["controllerName"], "portolan.dev/gateway-controller");
    assert_eq!(route["parents"][0]["parentRef"]["name"], "web");
    let class = twin.get(Kind::GatewayClass, "", "portolan").unwrap();
    assert_eq!(
        class["metadata"]["finalizers"],
        json!(["gateway-exists-finalizer.gateway.networking.k8s.io"])
    );
    // The class is let go with its last Gateway.
    twin.delete(Kind::Gateway, "apps", "web");
    let finalizers =
        async || twin.get(Kind::GatewayClass, "", "portolan").unwrap()["metadata"]["finalizers"].clone();
    until("no finalizer", finalizers, |list| *list == json!([])).await;
}

#[tokio::test]
async fn the_answer_of_a_proxy_within_half_a_second_makes_it_one_write() {
    let twin = twin();
    let replica = replica(&twin, "a").await;
    has(&twin, Kind::Gateway, "web", "Programmed=False Pending").await;
    acknowledge(&replica, 1_000);
    has(&twin, Kind::Gateway, "web", "Programmed=True Programmed").await;
    quiet().await;
    let before = twin.requests("PATCH").len();
    // The proxy answers an edit that is newer than all it has seen, soon after it was made.
    twin.put(route("shop.example.com"));
    let key = ObjectKey::new(Kind::HttpRoute, "apps", "shop");
    let known = async || {
        let key = key.clone();
        replica.handle().ask(move |core| core.status(&key)).await.unwrap()
    };
    until("the route is resolved", known, Option::is_some).await;
    acknowledge(&replica, 100_000);
    has(&twin, Kind::HttpRoute, "shop", "portolan.dev/Programmed=True Programmed").await;
    quiet().await;
    let writes = twin.requests("PATCH");
    let routes = writes[before..].iter().filter(|it| it.contains("httproutes")).count();
    assert_eq!(routes, 1, "{:?}", &writes[before..]);
}

#[tokio::test]
async fn what_is_as_it_should_be_is_not_written() {
    let twin = twin();
    twin.put(route("shop.example.com"));
    let first = replica(&twin, "a").await;
    has(&twin, Kind::HttpRoute, "shop", "portolan.dev/Programmed=False Pending").await;
    has(&twin, Kind::Gateway, "web", "Programmed=False Pending").await;
    quiet().await;
    first.end().await;
    // Its Lease is given back: the next one leads at once, and finds nothing to write.
    let statuses = || {
        [Kind::Gateway, Kind::HttpRoute].map(|kind| {
            let name = if kind == Kind::Gateway { "web" } else { "shop" };
            twin.get(kind, "apps", name).unwrap()["metadata"]["resourceVersion"].clone()
        })
    };
    let before = statuses();
    let next = replica(&twin, "b").await;
    until("it leads", async || next.leadership().holds(), |leads| *leads).await;
    quiet().await;
    assert_eq!(statuses(), before);
}

#[tokio::test]
async fn what_others_write_stays_and_what_they_break_is_mended() {
    let twin = twin();
    twin.put(route("shop.example.com"));
    let _replica = replica(&twin, "a").await;
    has(&twin, Kind::HttpRoute, "shop", "portolan.dev/Programmed=False Pending").await;
    let foreign = json!({
        "parentRef": {"name": "other"}, "controllerName": "example.com/other", "conditions": [{"type": "x", "status": "True"}],
    });
    let mut object = twin.get(Kind::HttpRoute, "apps", "shop").unwrap();
    object["status"] = json!({"parents": [foreign]});
    twin.put(object);
    let status = has(&twin, Kind::HttpRoute, "shop", "Accepted=True Accepted").await;
    assert_eq!(status["parents"][0].to_string(), foreign.to_string());
    assert_eq!(status["parents"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_write_over_what_somebody_just_wrote_reads_again() {
    let twin = twin();
    let _replica = replica(&twin, "a").await;
    has(&twin, Kind::Gateway, "web", "Programmed=False Pending").await;
    // The watch is cut off: what the leader knows of the Gateway is out of date.
    twin.refuse("gateways?", 503);
    twin.refuse("httproutes?", 0);
    twin.cut();
    let mut object = twin.get(Kind::Gateway, "apps", "web").unwrap();
    object["status"]["conditions"].as_array_mut().unwrap().push(json!({"type": "foreign", "status": "True"}));
    twin.put(object);
    twin.put(route("shop.example.com"));
    let attached = async || status_of(&twin, Kind::Gateway, "web");
    let status =
        until("attachedRoutes", attached, |status| status["listeners"][0]["attachedRoutes"] == 1).await;
    assert!(status["conditions"].as_array().unwrap().iter().any(|it| it["type"] == "foreign"), "{status}");
}

#[tokio::test]
async fn a_follower_writes_nothing_and_takes_over_when_the_leader_ends() {
    let twin = twin();
    let first = replica(&twin, "a").await;
    until("a leads", async || first.leadership().holds(), |leads| *leads).await;
    let second = replica(&twin, "b").await;
    has(&twin, Kind::Gateway, "web", "Programmed=False Pending").await;
    let key = ObjectKey::new(Kind::Gateway, "apps", "web");
    let known = async || {
        let key = key.clone();
        second.handle().ask(move |core| core.status(&key)).await.unwrap()
    };
    until("b knows the Gateway", known, Option::is_some).await;
    // The follower has a proxy that the leader does not know: what it thinks is its own affair.
    acknowledge(&second, 1_000);
    quiet().await;
    assert!(!second.leadership().holds());
    has(&twin, Kind::Gateway, "web", "Programmed=False Pending").await;
    first.end().await;
    has(&twin, Kind::Gateway, "web", "Programmed=True Programmed").await;
    assert!(second.leadership().holds());
}

#[tokio::test]
async fn a_route_that_leaves_loses_our_entry_alone() {
    let twin = twin();
    twin.put(route("shop.example.com"));
    let _replica = replica(&twin, "a").await;
    has(&twin, Kind::HttpRoute, "shop", "Accepted=True Accepted").await;
    let mut object = twin.get(Kind::HttpRoute, "apps", "shop").unwrap();
    let foreign =
        json!({"parentRef": {"name": "o"}, "controllerName": "example.com/other", "conditions": []});
    object["status"]["parents"].as_array_mut().unwrap().push(foreign.clone());
    object["spec"]["parentRefs"] = json!([]);
    twin.put(object);
    let status = async || status_of(&twin, Kind::HttpRoute, "shop");
    until("our entry is gone", status, |status| status["parents"] == json!([foreign])).await;
}

/// What is not known yet must not be taken for gone: statuses would lose our entries at each restart.
#[tokio::test]
async fn a_replica_that_has_not_read_everything_writes_nothing() {
    let twin = twin();
    twin.put(route("shop.example.com"));
    let first = replica(&twin, "a").await;
    has(&twin, Kind::HttpRoute, "shop", "portolan.dev/Programmed=False Pending").await;
    first.end().await;
    let before = twin.get(Kind::HttpRoute, "apps", "shop").unwrap();
    twin.refuse("/gateways?", 500);
    let second = replica(&twin, "b").await;
    let known = async || second.handle().ask(|core| core.engine().world().keys().len()).await.unwrap();
    until("the route is known", known, |count| *count >= 2).await;
    quiet().await;
    assert!(!second.leadership().holds());
    assert_eq!(twin.get(Kind::HttpRoute, "apps", "shop").unwrap(), before);
}
