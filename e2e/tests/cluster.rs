//! The shipped installation in a real cluster, with a real client on its node: the quickstart's manifests answer, and
//! nothing that happens to fleet or operator costs a request.
//!
//! Needs the cluster of $KUBECONFIG with Portolan in it (`hack/cluster up`, `hack/deploy`), and runs on its node; hence
//! the feature `cluster`.

// A failure of a test's own tools fails the test; clippy knows only the test functions themselves as tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    time::{Duration, Instant},
};

use portolan_e2e::{
    apiserver::{ApiServer, Objects, documents},
    echo::{Echo, EchoConfig},
    rig::{Answer, Ask, Load, Target},
};
use serde_json::{Value, json};

const SYSTEM: &str = "portolan-system";
/// How long pods may take to come and go.
const DEADLINE: Duration = Duration::from_mins(2);
/// From created to Programmed, with images that are on the node (issue 4).
const PROGRAMMED_WITHIN: Duration = Duration::from_secs(5);

/// A namespace with the quickstart's manifests, and backends on the node.
struct Town {
    objects: Objects,
    namespace: String,
    backends: Vec<Echo>,
}

impl Town {
    /// In a namespace that takes only pods of the profile `restricted`.
    async fn new() -> Self {
        let objects = ApiServer::shared().await.objects().await;
        let namespace = objects.namespace("town").await;
        let restricted = json!({"pod-security.kubernetes.io/enforce": "restricted"});
        objects.patch_labels("v1", "Namespace", "", &namespace, &restricted).await;
        let node = node_address(&objects).await;
        let mut backends = Vec::new();
        for name in ["blue", "green"] {
            let config = EchoConfig { http: Some(SocketAddr::new(node, 0)), ..EchoConfig::http(name) };
            backends.push(Echo::start(config).await.unwrap());
        }
        let town = Self { objects, namespace, backends };
        town.apply_backends(node).await;
        town
    }

    /// The sample's Services, at the backends of this process.
    async fn apply_backends(&self, node: IpAddr) {
        for (name, backend) in ["blue", "green"].into_iter().zip(&self.backends) {
            let port = backend.addresses().http.unwrap().port();
            let namespace = &self.namespace;
            let yaml = format!(
                "{{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: {namespace}}}, spec: {{ports: [{{port: 80}}]}}}}
---
{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4,
  metadata: {{name: {name}-1, namespace: {namespace}, labels: {{kubernetes.io/service-name: {name}}}}},
  ports: [{{port: {port}}}], endpoints: [{{addresses: [{node}]}}]}}
"
            );
            self.objects.apply(&yaml).await;
        }
    }

    /// A manifest of the quickstart, for here.
    fn sample(&self, file: &str) -> String {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/samples/quickstart");
        let text = std::fs::read_to_string(folder.join(file)).unwrap();
        text.replace("namespace: default", &format!("namespace: {}", self.namespace))
    }

    /// Applies a manifest of the quickstart here.
    async fn apply_sample(&self, file: &str) {
        self.objects.apply(&self.sample(file)).await;
    }

    /// Applies the quickstart's class, and its Gateway with the fleet of [`Town::configure`] in one write: a Gateway that is changed
    /// while its first pod starts has two of them to wait for.
    async fn apply_gateway(&self) {
        let parameters = json!({"group": "portolan.dev", "kind": "FleetConfig", "name": "web"});
        for mut object in documents(&self.sample("gateway.yaml")) {
            if object["kind"] == "Gateway" {
                object["spec"]["infrastructure"] = json!({"parametersRef": parameters});
            }
            self.objects.apply(&object.to_string()).await;
        }
    }

    /// The size and looks of the fleet.
    async fn configure(&self, replicas: u32, mark: &str) {
        let namespace = &self.namespace;
        let config = format!(
            "{{apiVersion: portolan.dev/v1alpha1, kind: FleetConfig, metadata: {{name: web, namespace: {namespace}}}, spec: {{replicas: {replicas}, annotations: {{mark: {mark}}}}}}}"
        );
        self.objects.apply(&config).await;
    }

    async fn gateway(&self) -> Option<Value> {
        self.objects.gateway_api("Gateway", &self.namespace, "web").await
    }

    async fn programmed(&self) -> Value {
        let programmed =
            |gateway: &Option<Value>| gateway.as_ref().is_some_and(|it| is(it, "Programmed", "True"));
        until("the Gateway is programmed", async || self.gateway().await, programmed).await.unwrap()
    }

    /// Waits until that many proxies serve, all of the newest template, and no other pod is left.
    async fn proxies(&self, count: u64) {
        let ask = async || {
            let deployment =
                self.objects.get(("apps/v1", "Deployment", &self.namespace, "web-portolan")).await;
            (deployment.unwrap_or_default(), self.objects.list("v1", "Pod", &self.namespace).await.len())
        };
        let good = |(deployment, pods): &(Value, usize)| {
            let status = &deployment["status"];
            let all = ["replicas", "readyReplicas", "updatedReplicas"];
            status["observedGeneration"] == deployment["metadata"]["generation"]
                && all.iter().all(|field| status[*field] == count)
                && u64::try_from(*pods) == Ok(count)
        };
        until(&format!("{count} proxies"), ask, good).await;
    }
}

async fn node_address(objects: &Objects) -> IpAddr {
    let nodes = objects.list_all("v1", "Node").await;
    assert_eq!(nodes.len(), 1, "this test runs on the one node of its cluster");
    let addresses = nodes[0]["status"]["addresses"].as_array().unwrap();
    let internal = addresses.iter().find(|one| one["type"] == "InternalIP").expect("an address of the node");
    internal["address"].as_str().unwrap().parse().unwrap()
}

/// Whether a condition has that status for the newest generation.
fn is(object: &Value, type_: &str, status: &str) -> bool {
    object["status"]["conditions"].as_array().is_some_and(|all| {
        all.iter().any(|one| {
            one["type"] == type_
                && one["status"] == status
                && one["observedGeneration"] == object["metadata"]["generation"]
        })
    })
}

/// Waits until a node forwards an address. Before, kube-proxy refuses it, and the kernel remembers the refused connection by its
/// ports for two minutes, without a translation: a later one from the same port would be refused, whatever is there by then. So
/// this asks from ports below those that the kernel gives to who asks for none.
async fn reachable(address: SocketAddr) {
    let mut ports = 20_000..30_000;
    let ask = async || {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        let port = ports.next().unwrap();
        let bound = socket.bind((std::net::Ipv4Addr::UNSPECIFIED, port).into());
        match bound {
            Ok(()) => socket.connect(address).await.map(drop).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        }
    };
    until("the address is forwarded", ask, Result::is_ok).await.unwrap();
}

async fn until<T: std::fmt::Debug>(
    what: &str,
    mut ask: impl AsyncFnMut() -> T,
    mut good: impl FnMut(&T) -> bool,
) -> T {
    let started = Instant::now();
    loop {
        let answer = ask().await;
        if good(&answer) {
            return answer;
        }
        assert!(started.elapsed() < DEADLINE, "{what}: not within {DEADLINE:?}; last: {answer:#?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn blue_or_green(answer: &Answer) -> Result<(), String> {
    match answer.instance() {
        Some("blue" | "green") => Ok(()),
        other => Err(format!("answered by {other:?}")),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_lives_and_no_request_is_lost() {
    let town = Town::new().await;
    town.configure(1, "first").await;
    let started = Instant::now();
    town.apply_gateway().await;
    town.apply_sample("routes.yaml").await;
    let gateway = town.programmed().await;
    let took = started.elapsed();
    assert!(took < PROGRAMMED_WITHIN, "from created to Programmed it took {took:?}");
    let address: IpAddr = gateway["status"]["addresses"][0]["value"].as_str().unwrap().parse().unwrap();
    reachable(SocketAddr::new(address, 80)).await;
    let target = Target::http(SocketAddr::new(address, 80));
    let shop = Ask::get("shop.example.com", "/");
    let served = async || target.try_ask(&shop).await.map(|answer| answer.status).ok();
    until("the shop answers", served, |status| *status == Some(200)).await;
    town.proxies(1).await;

    let load = Load::start(&target, &shop, blue_or_green);
    load.more(200).await;
    for (step, replicas, mark) in
        [("scaled to 3", 3, "first"), ("scaled to 1", 1, "first"), ("rolled", 1, "second")]
    {
        town.configure(replicas, mark).await;
        let marked = async || {
            let deployment =
                town.objects.get(("apps/v1", "Deployment", &town.namespace, "web-portolan")).await;
            deployment.map(|it| {
                (
                    it["spec"]["replicas"].clone(),
                    it["spec"]["template"]["metadata"]["annotations"]["mark"].clone(),
                )
            })
        };
        until(step, marked, |now| *now == Some((replicas.into(), mark.into()))).await;
        town.proxies(replicas.into()).await;
        load.more(200).await;
    }
    restart_the_operator(&town).await;
    load.more(200).await;
    let report = load.stop().await;
    report.assert_clean(200);
    assert!(is(&town.gateway().await.unwrap(), "Programmed", "True"));

    let gateway = format!(
        "{{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {{name: web, namespace: {}}}}}",
        town.namespace
    );
    town.objects.delete(&gateway).await;
    let left = async || {
        let mut left = Vec::new();
        for (version, kind) in [
            ("apps/v1", "Deployment"),
            ("v1", "Service"),
            ("v1", "Secret"),
            ("v1", "ServiceAccount"),
            ("v1", "Pod"),
            ("policy/v1", "PodDisruptionBudget"),
        ] {
            let all = town.objects.list(version, kind, &town.namespace).await;
            left.extend(
                all.iter().map(|one| format!("{kind}/{}", one["metadata"]["name"].as_str().unwrap())),
            );
        }
        left.retain(|name| {
            !["Service/blue", "Service/green", "ServiceAccount/default"].contains(&name.as_str())
        });
        left
    };
    until("nothing of the Gateway is left", left, Vec::is_empty).await;
    town.objects
        .delete(&format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {}}}}}", town.namespace))
        .await;
}

/// As `kubectl rollout restart` does, until the new replicas are ready and the old ones gone.
async fn restart_the_operator(town: &Town) {
    let now = jiff::Timestamp::now().to_string();
    let patch = json!({"spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": now}}}}});
    town.objects.patch("apps/v1", "Deployment", SYSTEM, "portolan", &patch).await;
    let ask = async || {
        // What was acknowledged is not taken back meanwhile.
        let gateway = town.gateway().await.unwrap();
        assert!(is(&gateway, "Programmed", "True"), "{gateway:#}");
        let deployment = town.objects.get(("apps/v1", "Deployment", SYSTEM, "portolan")).await.unwrap();
        (deployment, town.objects.list("v1", "Pod", SYSTEM).await.len())
    };
    let good = |(deployment, pods): &(Value, usize)| {
        let (status, wanted) = (&deployment["status"], &deployment["spec"]["replicas"]);
        status["observedGeneration"] == deployment["metadata"]["generation"]
            && ["replicas", "readyReplicas", "updatedReplicas"].iter().all(|field| status[*field] == *wanted)
            && u64::try_from(*pods).ok() == wanted.as_u64()
    };
    until("the operator has restarted", ask, good).await;
}
