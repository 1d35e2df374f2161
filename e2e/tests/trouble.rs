//! What goes wrong in a cluster, and what a person sees of it: each ends in a condition, an event or a log line that says what
//! to do, and another Gateway goes on.
//!
//! No controller runs beside the operator: what a Deployment or a load balancer would do, a test does or leaves undone.

// A failure of a test's own tools fails the test; clippy knows only the test functions themselves as tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{path::Path, time::Duration};

use portolan::fleet::cluster::fleet_name;
use portolan_e2e::apiserver::{ApiServer, Objects, Replica, Turn, until};
use serde_json::{Value, json};

/// An API server, a namespace, and a class of ours that is named like it.
struct Scene {
    server: &'static ApiServer,
    objects: Objects,
    namespace: String,
    _turn: Turn,
}

impl Scene {
    async fn open() -> Self {
        let (turn, server) = (Turn::take().await, ApiServer::shared().await);
        let objects = server.objects().await;
        objects.install(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/crd/portolan")).await;
        let namespace = objects.namespace("trouble").await;
        objects
            .apply(&format!(
                "{{apiVersion: gateway.networking.k8s.io/v1, kind: GatewayClass, metadata: {{name: {namespace}}}, spec: {{controllerName: portolan.dev/gateway-controller}}}}"
            ))
            .await;
        Self { server, objects, namespace, _turn: turn }
    }

    async fn operator(&self) -> Replica {
        Replica::ready(&self.server.configuration(), &self.namespace, "a").await
    }

    async fn gateway_in(&self, namespace: &str, name: &str) {
        let listener = json!({"name": "http", "port": 80, "protocol": "HTTP"});
        self.gateway_with(namespace, name, &[listener]).await;
    }

    async fn gateway(&self, name: &str) {
        self.gateway_in(&self.namespace, name).await;
    }

    async fn gateway_with(&self, namespace: &str, name: &str, listeners: &[Value]) {
        let gateway = json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"gatewayClassName": self.namespace, "listeners": listeners},
        });
        self.objects.apply(&gateway.to_string()).await;
    }

    /// The name of the objects of a Gateway's fleet.
    fn fleet(&self, gateway: &str) -> String {
        fleet_name(gateway, &self.namespace)
    }

    async fn made(&self, kind: (&str, &str), namespace: &str, gateway: &str) -> Value {
        let name = self.fleet(gateway);
        let ask = async || self.objects.get((kind.0, kind.1, namespace, &name)).await;
        until(&format!("{} {name} is made", kind.1), ask, Option::is_some).await.unwrap()
    }

    /// What a load balancer does.
    fn assign(&self, namespace: &str, gateway: &str, ip: &str) {
        let patch = json!({"status": {"loadBalancer": {"ingress": [{"ip": ip}]}}}).to_string();
        let service = self.fleet(gateway);
        let arguments = ["patch", "service", &service, "--namespace", namespace, "--subresource", "status"];
        self.server.kubectl(&[&arguments[..], &["--type", "merge", "--patch", &patch]].concat()).unwrap();
    }

    /// Waits until the condition Programmed of a Gateway says this.
    async fn programmed(&self, namespace: &str, gateway: &str, words: &[&str]) -> Value {
        let ask = async || {
            let found = self.objects.gateway_api("Gateway", namespace, gateway).await.unwrap();
            let conditions = found["status"]["conditions"].as_array().cloned().unwrap_or_default();
            conditions.into_iter().find(|one| one["type"] == "Programmed").unwrap_or_default()
        };
        let good = |condition: &Value| {
            let text = format!("{} {}", condition["reason"], condition["message"]);
            condition["status"] == "False" && words.iter().all(|word| text.contains(word))
        };
        until(&format!("Gateway {gateway} says {words:?}"), ask, good).await
    }

    /// Waits for an event about a Gateway.
    async fn event(&self, namespace: &str, gateway: &str, reason: &str, words: &str) {
        let ask = async || self.objects.list("events.k8s.io/v1", "Event", namespace).await;
        let good = |events: &Vec<Value>| {
            events.iter().any(|event| {
                event["regarding"]["name"] == gateway
                    && event["reason"] == reason
                    && event["note"].as_str().is_some_and(|note| note.contains(words))
            })
        };
        until(&format!("event {reason} on {gateway}"), ask, good).await;
    }

    /// A Gateway is served as far as it can be without proxies: its fleet is there, and its address is told.
    async fn goes_on(&self, namespace: &str, gateway: &str) {
        self.made(DEPLOYMENT, namespace, gateway).await;
        self.made(SERVICE, namespace, gateway).await;
        self.assign(namespace, gateway, "192.0.2.99");
        let ask = async || {
            let found = self.objects.gateway_api("Gateway", namespace, gateway).await.unwrap();
            found["status"]["addresses"][0]["value"].clone()
        };
        until(&format!("{gateway} goes on"), ask, |address| *address == "192.0.2.99").await;
    }

    async fn end(self) {
        self.objects.clear(&self.namespace).await;
    }
}

const SERVICE: (&str, &str) = ("v1", "Service");
const DEPLOYMENT: (&str, &str) = ("apps/v1", "Deployment");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_of_our_name_that_are_not_ours_are_never_adopted() {
    let scene = Scene::open().await;
    let namespace = scene.namespace.as_str();
    let (service, deployment) = (scene.fleet("one"), scene.fleet("two"));
    let labels = json!({"app": "theirs"});
    let strangers = [
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": service, "namespace": namespace},
            "spec": {"selector": labels, "ports": [{"port": 9}]}}),
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": deployment, "namespace": namespace},
            "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels},
                "spec": {"containers": [{"name": "a", "image": "a"}]}}}}),
    ];
    for stranger in &strangers {
        scene.objects.apply(&stranger.to_string()).await;
    }
    let before = (
        scene.objects.get((SERVICE.0, SERVICE.1, namespace, &service)).await,
        scene.objects.get((DEPLOYMENT.0, DEPLOYMENT.1, namespace, &deployment)).await,
    );
    let _replica = scene.operator().await;
    for gateway in ["one", "two", "fine"] {
        scene.gateway(gateway).await;
    }
    let said = format!("Service {service} is not Portolan's");
    scene.programmed(namespace, "one", &[&said, "Delete or rename it"]).await;
    scene.event(namespace, "one", "NotOurs", &said).await;
    scene.made(SERVICE, namespace, "two").await;
    scene.assign(namespace, "two", "192.0.2.2");
    let said = format!("Deployment {deployment} is not Portolan's");
    scene.programmed(namespace, "two", &[&said, "Delete or rename it"]).await;
    scene.event(namespace, "two", "NotOurs", &said).await;
    scene.goes_on(namespace, "fine").await;
    let after = (
        scene.objects.get((SERVICE.0, SERVICE.1, namespace, &service)).await,
        scene.objects.get((DEPLOYMENT.0, DEPLOYMENT.1, namespace, &deployment)).await,
    );
    assert_eq!(before, after);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_cannot_be_pulled_is_why_a_gateway_is_not_programmed() {
    let scene = Scene::open().await;
    let namespace = scene.namespace.as_str();
    let _replica = scene.operator().await;
    scene.gateway("web").await;
    scene.gateway("fine").await;
    let deployment = scene.made(DEPLOYMENT, namespace, "web").await;
    scene.made(SERVICE, namespace, "web").await;
    scene.assign(namespace, "web", "192.0.2.1");
    // What a kubelet writes.
    let mut pod = deployment["spec"]["template"].clone();
    pod["apiVersion"] = "v1".into();
    pod["kind"] = "Pod".into();
    pod["metadata"]["name"] = "web-1".into();
    pod["metadata"]["namespace"] = namespace.into();
    scene.objects.apply(&pod.to_string()).await;
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    let status = json!({"status": {"phase": "Pending", "containerStatuses": [{
        "name": container["name"], "image": container["image"], "imageID": "", "ready": false, "restartCount": 0,
        "state": {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image: not found"}},
    }]}});
    let (arguments, patch) = (["patch", "pod", "web-1", "--namespace", namespace], status.to_string());
    let more = ["--subresource", "status", "--type", "merge", "--patch", &patch];
    scene.server.kubectl(&[&arguments[..], &more[..]].concat()).unwrap();
    scene.programmed(namespace, "web", &["pod web-1", "ImagePullBackOff", "not found"]).await;
    scene.goes_on(namespace, "fine").await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_balancer_that_never_answers_is_named_with_the_way_out() {
    let scene = Scene::open().await;
    let namespace = scene.namespace.as_str();
    let _replica = scene.operator().await;
    scene.gateway("web").await;
    scene.gateway("fine").await;
    let service = scene.fleet("web");
    scene.programmed(namespace, "web", &["AddressNotAssigned", &service, "spec.service.type"]).await;
    scene.goes_on(namespace, "fine").await;
    scene.programmed(namespace, "web", &["AddressNotAssigned"]).await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_that_is_being_deleted_is_told_and_another_one_goes_on() {
    let scene = Scene::open().await;
    let going = scene.objects.namespace("trouble").await;
    scene.gateway_in(&going, "web").await;
    scene.gateway("fine").await;
    scene.objects.delete(&format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {going}}}}}")).await;
    let _replica = scene.operator().await;
    scene.programmed(&going, "web", &["being terminated"]).await;
    scene.goes_on(&scene.namespace, "fine").await;
    scene.objects.clear(&going).await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_with_64_listeners_is_served_like_any_other() {
    let scene = Scene::open().await;
    let namespace = scene.namespace.as_str();
    let _replica = scene.operator().await;
    let listener = |i: usize| json!({"name": format!("l{i}"), "port": 8000 + i, "protocol": "HTTP"});
    let listeners: Vec<_> = (0..64).map(listener).collect();
    scene.gateway_with(namespace, "many", &listeners).await;
    scene.gateway("fine").await;
    let service = scene.made(SERVICE, namespace, "many").await;
    assert_eq!(service["spec"]["ports"].as_array().unwrap().len(), 64);
    let ask = async || {
        let found = scene.objects.gateway_api("Gateway", namespace, "many").await.unwrap();
        let listeners = found["status"]["listeners"].as_array().cloned().unwrap_or_default();
        let accepted = |one: &&Value| {
            let conditions = one["conditions"].as_array().unwrap();
            conditions.iter().any(|it| it["type"] == "Accepted" && it["status"] == "True")
        };
        listeners.iter().filter(accepted).count()
    };
    until("every listener is accepted", ask, |count| *count == 64).await;
    scene.goes_on(namespace, "many").await;
    scene.goes_on(namespace, "fine").await;
    scene.end().await;
}

/// What the shipped roles allow, for an account of this namespace; those for fleets only in `fleets`.
async fn account_with_fleets_in(scene: &Scene, fleets: &str) -> kube::config::Kubeconfig {
    let namespace = scene.namespace.as_str();
    let account = scene.server.with_shipped_roles(namespace).await;
    let role = format!("{namespace}-fleets");
    let binding = |kind: &str, of: Option<&str>| {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind,
            "metadata": {"name": role, "namespace": of},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "ServiceAccount", "name": namespace, "namespace": namespace}],
        })
        .to_string()
    };
    scene.objects.delete(&binding("ClusterRoleBinding", None)).await;
    scene.objects.apply(&binding("RoleBinding", Some(fleets))).await;
    account
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_without_the_role_for_fleets_is_told_which_one_and_another_goes_on() {
    let scene = Scene::open().await;
    let other = scene.objects.namespace("trouble").await;
    let account = account_with_fleets_in(&scene, &other).await;
    let _replica = Replica::ready(&account, &scene.namespace, "a").await;
    scene.gateway("web").await;
    scene.gateway_in(&other, "fine").await;
    let words = ["is forbidden", "ClusterRole portolan-fleets"];
    scene.programmed(&scene.namespace, "web", &words).await;
    scene.event(&scene.namespace, "web", "FleetFailed", "ClusterRole portolan-fleets").await;
    scene.goes_on(&other, "fine").await;
    scene.objects.clear(&other).await;
    scene.end().await;
}

/// Installed twice: whoever came first keeps a fleet, the other one says so, and neither writes over the other for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_operators_with_one_controller_name_are_told_and_do_not_fight() {
    let scene = Scene::open().await;
    let namespace = scene.namespace.as_str();
    let first = scene.operator().await;
    first.comes_to_lead().await;
    scene.gateway("web").await;
    scene.made(DEPLOYMENT, namespace, "web").await;
    scene.made(SERVICE, namespace, "web").await;
    scene.assign(namespace, "web", "192.0.2.1");
    scene.programmed(namespace, "web", &["no proxy"]).await;
    let second = scene.objects.namespace("trouble").await;
    let replica = Replica::ready(&scene.server.configuration(), &second, "b").await;
    replica.comes_to_lead().await;
    let words = format!("kept by the operator in namespace {namespace}");
    scene.event(namespace, "web", "TwoOperators", &words).await;
    until("it logs it", async || replica.log(), |log| log.contains(&words)).await;

    // Only the status is both's to say; who is contradicted says it less and less often.
    let name = scene.fleet("web");
    let look = async || {
        let deployment = scene.objects.get((DEPLOYMENT.0, DEPLOYMENT.1, namespace, &name)).await.unwrap();
        let gateway = scene.objects.gateway_api("Gateway", namespace, "web").await.unwrap();
        (deployment["metadata"]["resourceVersion"].clone(), gateway["metadata"]["resourceVersion"].clone())
    };
    let told = |log: &String| log.contains("a second operator with this controller name");
    until("one of them says so", async || [first.log(), replica.log()].concat(), told).await;
    let before = look().await;
    let (mut last, mut writes) = (before.clone(), 0);
    // A while, in which two that fight would write hundreds of times, and a dozen times if only the pace held them back.
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let now = look().await;
        writes += usize::from(now.1 != last.1);
        last = now;
    }
    assert_eq!(before.0, last.0, "the fleet stays as its operator made it");
    assert!(writes <= 8, "the status changed {writes} times in 5 s");
    assert_eq!(replica.terminate().await, Some(0));
    assert_eq!(first.terminate().await, Some(0));
    scene.end().await;
}
