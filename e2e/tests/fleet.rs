//! Fleets in a real API server, by an account that has nothing but the shipped roles. No controller runs there: what a
//! Deployment or a load balancer would do, the test does.

// A failure of a test's own tools fails the test; clippy knows only the test functions themselves as tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use portolan::{
    fleet::{
        GatewayName,
        cluster::{
            Applier, Connections, Fleet, FleetState, FleetTask, Front, Installation, Owned, Settings, Wanted,
            addresses::Address, fleet_name,
        },
    },
    identity::{AUTHORITY_SECRET, Authorities, Keeper},
};
use portolan_e2e::apiserver::{ApiServer, Objects, Turn, client, until};
use portolan_xds::ir::Transport;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

type Reports = Arc<Mutex<BTreeMap<GatewayName, FleetState>>>;

/// A fleet task against an API server, in a namespace of its own that enforces PodSecurity `restricted`.
struct Rig {
    objects: Objects,
    namespace: String,
    wanted: watch::Sender<Arc<Wanted>>,
    leading: watch::Sender<bool>,
    may_write: Arc<AtomicBool>,
    authorities: watch::Sender<Arc<Authorities>>,
    reports: Reports,
    stop: CancellationToken,
    /// Each rig believes that all fleets are its own, and takes those away that it does not want.
    _turn: Turn,
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// The shipped roles, bound to an account of this namespace. Returns a client with its token.
async fn with_shipped_roles(server: &ApiServer, namespace: &str) -> Client {
    let objects = server.objects().await;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/rbac");
    for file in ["operator.yaml", "fleets.yaml", "secrets.yaml"] {
        let text = std::fs::read_to_string(root.join(file)).unwrap();
        let text = text
            .replace("namespace: portolan-system", &format!("namespace: {namespace}"))
            .replace("name: portolan", &format!("name: {namespace}"));
        objects.apply(&text).await;
    }
    // Without a rule of its own: it has what the bindings above give it.
    client(server.account_named(namespace, namespace).await).await
}

impl Rig {
    async fn start(leading: bool) -> Self {
        let turn = Turn::take().await;
        let server = ApiServer::shared().await;
        let objects = server.objects().await;
        let namespace = objects.namespace("fleet").await;
        let enforce = json!({"pod-security.kubernetes.io/enforce": "restricted"});
        objects.patch_labels("v1", "Namespace", "", &namespace, &enforce).await;
        let client = with_shipped_roles(server, &namespace).await;
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let owned = Owned::start(&client, &tasks, &stop);
        let authorities = watch::Sender::new(Arc::new(Authorities::new(Timestamp::now()).unwrap()));
        let may_write = Arc::new(AtomicBool::new(true));
        let may = Arc::clone(&may_write);
        let applier = Applier::new(
            client,
            Arc::clone(&owned),
            Installation {
                namespace: namespace.clone(),
                proxy_image: "portolan.dev/portolan-proxy:dev".to_owned(),
                xds_host: "portolan.portolan-system.svc".to_owned(),
                xds_port: 18_000,
            },
            "cluster.local".into(),
            authorities.subscribe(),
            Arc::new(move || may.load(Ordering::SeqCst)),
        );
        let wanted = watch::Sender::new(Arc::new(Wanted::new()));
        let synced = watch::Sender::new(true);
        let leading = watch::Sender::new(leading);
        let (reports, mut told) = mpsc::channel(16);
        let connections = Connections {
            wanted: wanted.subscribe(),
            synced: synced.subscribe(),
            leading: leading.subscribe(),
            authorities: authorities.subscribe(),
            reports,
            observed: watch::Sender::new(false),
        };
        tokio::spawn(FleetTask::new(applier, owned, connections).run(stop.clone()));
        let reports = Reports::default();
        let heard = Arc::clone(&reports);
        tokio::spawn(async move {
            while let Some((gateway, state)) = told.recv().await {
                let mut heard = heard.lock().unwrap();
                match state {
                    Some(state) => heard.insert(gateway, state),
                    None => heard.remove(&gateway),
                };
            }
        });
        Self { objects, namespace, wanted, leading, may_write, authorities, reports, stop, _turn: turn }
    }

    /// Creates a Gateway, and gives the fleet that it should have.
    async fn gateway(&self, name: &str, config: Value) -> Fleet {
        let namespace = &self.namespace;
        self.objects
            .apply(&format!(
                "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{gatewayClassName: portolan, listeners: [{{name: http, port: 80, protocol: HTTP}}]}}"
            ))
            .await;
        let gateway = self.objects.gateway_api("Gateway", namespace, name).await.unwrap();
        Fleet {
            gateway: GatewayName::new(namespace, name).unwrap(),
            uid: gateway["metadata"]["uid"].as_str().unwrap().into(),
            class: "portolan".into(),
            ports: [(80, Transport::Tcp)].into(),
            addresses: Vec::new(),
            inside: None,
            labels: [("team".to_owned(), "apps".to_owned())].into(),
            annotations: BTreeMap::new(),
            settings: settings(config),
        }
    }

    fn want(&self, fleet: &Fleet) {
        self.wanted.send_modify(|wanted| {
            let mut all = Wanted::clone(wanted);
            all.insert(fleet.gateway.clone(), Some(fleet.clone()));
            *wanted = Arc::new(all);
        });
    }

    fn drop_wanted(&self, fleet: &Fleet) {
        self.wanted.send_modify(|wanted| {
            let mut all = Wanted::clone(wanted);
            all.remove(&fleet.gateway);
            *wanted = Arc::new(all);
        });
    }

    async fn get(&self, kind: &str, name: &str) -> Option<Value> {
        self.objects.get((version(kind), kind, &self.namespace, name)).await
    }

    /// Waits until an object is there and good.
    async fn until(&self, kind: &str, name: &str, what: &str, good: impl Fn(&Value) -> bool) -> Value {
        let what = format!("{kind} {name} {what}");
        let there = |found: &Option<Value>| found.as_ref().is_some_and(&good);
        until(&what, async || self.get(kind, name).await, there).await.unwrap()
    }

    async fn until_gone(&self, kind: &str, name: &str) {
        until(&format!("{kind} {name} is gone"), async || self.get(kind, name).await, Option::is_none).await;
    }

    async fn until_told(&self, fleet: &Fleet, what: &str, good: impl Fn(&FleetState) -> bool) -> FleetState {
        let told = until(
            what,
            async || self.reports.lock().unwrap().get(&fleet.gateway).cloned(),
            |state| state.as_ref().is_some_and(&good),
        );
        told.await.unwrap()
    }

    /// Everything of a fleet is there.
    async fn until_made(&self, fleet: &Fleet) {
        for kind in ["Secret", "ServiceAccount", "Service", "Deployment"] {
            let name = if kind == "Secret" { fleet.identity_name() } else { fleet.name() };
            self.until(kind, &name, "is made", |_| true).await;
        }
        self.until_told(fleet, "a report", |_| true).await;
    }

    /// What a load balancer does.
    async fn assign(&self, service: &str, ip: &str) {
        let status = json!({"status": {"loadBalancer": {"ingress": [{"ip": ip}]}}});
        self.patch_status("Service", service, &status).await;
    }

    async fn patch_status(&self, kind: &str, name: &str, patch: &Value) {
        let resource = kube::core::ApiResource::from_gvk(&kube::core::GroupVersionKind {
            group: version(kind).rsplit_once('/').map_or("", |(group, _)| group).to_owned(),
            version: version(kind).rsplit('/').next().unwrap().to_owned(),
            kind: kind.to_owned(),
        });
        let api: Api<kube::core::DynamicObject> =
            Api::namespaced_with(self.objects.client().clone(), &self.namespace, &resource);
        api.patch_status(name, &kube::api::PatchParams::default(), &kube::api::Patch::Merge(patch))
            .await
            .unwrap();
    }
}

fn settings(config: Value) -> Settings {
    Settings::of(&serde_json::from_value(config).unwrap()).unwrap()
}

fn version(kind: &str) -> &'static str {
    match kind {
        "Deployment" | "DaemonSet" => "apps/v1",
        "HorizontalPodAutoscaler" => "autoscaling/v2",
        "PodDisruptionBudget" => "policy/v1",
        _ => "v1",
    }
}

fn ip(text: &str) -> Address {
    Address::Ip(text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_is_made_owned_and_told() {
    let rig = Rig::start(true).await;
    let fleet = rig.gateway("web", json!({"replicas": 2})).await;
    rig.want(&fleet);
    rig.until_made(&fleet).await;
    let name = fleet.name();
    for (kind, name) in [
        ("Secret", fleet.identity_name()),
        ("ServiceAccount", name.clone()),
        ("Service", name.clone()),
        ("Deployment", name.clone()),
        ("PodDisruptionBudget", name.clone()),
    ] {
        let object = rig.until(kind, &name, "is made", |_| true).await;
        let owner = &object["metadata"]["ownerReferences"][0];
        assert_eq!(
            (owner["kind"].as_str(), owner["uid"].as_str()),
            (Some("Gateway"), Some(&*fleet.uid)),
            "{kind}"
        );
        assert_eq!(object["metadata"]["labels"]["gateway.networking.k8s.io/gateway-name"], "web", "{kind}");
        assert_eq!(object["metadata"]["labels"]["team"], "apps", "{kind}");
    }
    rig.assign(&name, "192.0.2.7").await;
    rig.until_told(&fleet, "the address", |state| state.addresses.assigned == [ip("192.0.2.7")]).await;
    rig.patch_status("Deployment", &name, &json!({"status": {"replicas": 2, "readyReplicas": 2}})).await;
    rig.until_told(&fleet, "the proxies", |state| state.ready == 2 && state.trouble.is_none()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pods_pass_pod_security_restricted() {
    let rig = Rig::start(true).await;
    let fleet = rig.gateway("web", json!({})).await;
    rig.want(&fleet);
    let deployment = rig.until("Deployment", &fleet.name(), "is made", |_| true).await;
    let mut pod = deployment["spec"]["template"].clone();
    pod["apiVersion"] = "v1".into();
    pod["kind"] = "Pod".into();
    pod["metadata"]["name"] = "probe".into();
    pod["metadata"]["namespace"] = rig.namespace.clone().into();
    // The namespace enforces it: a pod that breaks it is refused.
    rig.objects.apply(&pod.to_string()).await;
    pod["metadata"]["name"] = "loose".into();
    pod["spec"]["containers"][0]["securityContext"] = json!({"privileged": true});
    let pods: Api<kube::core::DynamicObject> = Api::namespaced_with(
        rig.objects.client().clone(),
        &rig.namespace,
        &kube::core::ApiResource::from_gvk(&kube::core::GroupVersionKind::gvk("", "v1", "Pod")),
    );
    let refused = pods.create(&kube::api::PostParams::default(), &serde_json::from_value(pod).unwrap()).await;
    assert!(refused.unwrap_err().to_string().contains("PodSecurity"), "the namespace enforces nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_somebody_changes_or_deletes_comes_back() {
    let rig = Rig::start(true).await;
    let fleet = rig.gateway("web", json!({"replicas": 2})).await;
    rig.want(&fleet);
    rig.until_made(&fleet).await;
    let (name, ns) = (fleet.name(), rig.namespace.as_str());
    rig.objects.patch("v1", "Service", ns, &name, &json!({"spec": {"selector": {"app": "mine"}}})).await;
    rig.until("Service", &name, "is repaired", |it| {
        it["spec"]["selector"]["gateway.networking.k8s.io/gateway-name"] == "web"
    })
    .await;
    rig.objects.patch("apps/v1", "Deployment", ns, &name, &json!({"spec": {"replicas": 7}})).await;
    rig.until("Deployment", &name, "is repaired", |it| it["spec"]["replicas"] == 2).await;
    let account = rig.get("ServiceAccount", &name).await.unwrap();
    let uid = account["metadata"]["uid"].clone();
    rig.objects.delete(&account.to_string()).await;
    rig.until("ServiceAccount", &name, "is made again", |it| it["metadata"]["uid"] != uid).await;
    // What others add to our objects is theirs.
    rig.objects
        .patch("v1", "Service", ns, &name, &json!({"metadata": {"annotations": {"balancer.example/x": "1"}}}))
        .await;
    rig.assign(&name, "192.0.2.7").await;
    rig.until_told(&fleet, "the address", |state| !state.addresses.assigned.is_empty()).await;
    let service = rig.get("Service", &name).await.unwrap();
    assert_eq!(service["metadata"]["annotations"]["balancer.example/x"], "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_that_is_as_it_should_be_is_not_written() {
    let rig = Rig::start(true).await;
    let fleet = rig.gateway("web", json!({"replicas": 2, "resources": {"requests": {"cpu": "0.5"}}})).await;
    rig.want(&fleet);
    rig.until_made(&fleet).await;
    let versions = async || {
        let mut all = Vec::new();
        for kind in ["Secret", "ServiceAccount", "Service", "Deployment", "PodDisruptionBudget"] {
            for object in rig.objects.list(version(kind), kind, &rig.namespace).await {
                all.push(format!(
                    "{kind} {} {}",
                    object["metadata"]["name"], object["metadata"]["resourceVersion"]
                ));
            }
        }
        all
    };
    // Until the watch has shown what was written, and no later.
    let mut before = versions().await;
    let settled = async || {
        let now = versions().await;
        std::mem::replace(&mut before, now.clone()) == now
    };
    until("nothing is written any more", settled, |same| *same).await;
    let before = versions().await;
    // Another look at everything: the same authorities are told again.
    rig.authorities.send_modify(|_| {});
    let other = rig.gateway("other", json!({})).await;
    rig.want(&other);
    rig.until_made(&other).await;
    let after: Vec<_> = versions().await.into_iter().filter(|line| !line.contains("other-")).collect();
    assert_eq!(before, after);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strangers_object_is_never_touched() {
    let rig = Rig::start(true).await;
    let fleet = rig.gateway("web", json!({})).await;
    let name = fleet.name();
    let stranger = format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: {}}}, spec: {{ports: [{{port: 9}}]}}}}",
        rig.namespace
    );
    rig.objects.apply(&stranger).await;
    let before = rig.get("Service", &name).await.unwrap();
    rig.want(&fleet);
    let told = rig.until_told(&fleet, "the conflict", |state| !state.errors.is_empty()).await;
    let why = told.trouble.unwrap();
    assert!(why.contains(&format!("Service {name} is not Portolan's")), "{why}");
    rig.until("Deployment", &name, "is made all the same", |_| true).await;
    assert_eq!(rig.get("Service", &name).await.unwrap(), before);
    rig.objects.delete(&stranger).await;
    let ours = |it: &Value| it["metadata"]["ownerReferences"][0]["uid"] == *fleet.uid;
    rig.until("Service", &name, "is ours", ours).await;
    rig.until_told(&fleet, "the end of it", |state| state.errors.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_gateway_no_longer_needs_goes() {
    let rig = Rig::start(true).await;
    let mut fleet = rig.gateway("web", json!({"autoscaling": {"maxReplicas": 3}})).await;
    rig.want(&fleet);
    let name = fleet.name();
    rig.until("HorizontalPodAutoscaler", &name, "is made", |_| true).await;
    rig.until("PodDisruptionBudget", &name, "is made", |_| true).await;
    fleet.settings = settings(json!({"replicas": 1}));
    rig.want(&fleet);
    rig.until_gone("HorizontalPodAutoscaler", &name).await;
    rig.until_gone("PodDisruptionBudget", &name).await;
    // Proxies that serve are replaced only once others do.
    fleet.settings = settings(json!({"workload": "DaemonSet"}));
    rig.want(&fleet);
    rig.until("DaemonSet", &name, "is made", |_| true).await;
    assert!(rig.get("Deployment", &name).await.is_some(), "the old proxies serve until the new ones do");
    let status = json!({"status": {"numberReady": 1, "currentNumberScheduled": 1, "desiredNumberScheduled": 1, "numberMisscheduled": 0}});
    rig.patch_status("DaemonSet", &name, &status).await;
    rig.until_gone("Deployment", &name).await;
    rig.drop_wanted(&fleet);
    for kind in ["DaemonSet", "Service", "ServiceAccount"] {
        rig.until_gone(kind, &name).await;
    }
    rig.until_gone("Secret", &fleet.identity_name()).await;
    assert!(!rig.reports.lock().unwrap().contains_key(&fleet.gateway));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_is_made_again_gets_a_fleet_of_its_own() {
    let rig = Rig::start(true).await;
    let mut fleet = rig.gateway("web", json!({})).await;
    rig.want(&fleet);
    rig.until_made(&fleet).await;
    let before = rig.get("Deployment", &fleet.name()).await.unwrap();
    fleet.uid = "00000000-0000-0000-0000-000000000001".into();
    rig.want(&fleet);
    let new = |it: &Value| it["metadata"]["ownerReferences"][0]["uid"] == *fleet.uid;
    let after = rig.until("Deployment", &fleet.name(), "is the new Gateway's", new).await;
    assert_ne!(before["metadata"]["uid"], after["metadata"]["uid"], "not adopted, but replaced");
    rig.until("Secret", &fleet.identity_name(), "is the new Gateway's", new).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_autoscaler_is_not_fought() {
    let rig = Rig::start(true).await;
    let mut fleet = rig.gateway("web", json!({"replicas": 3})).await;
    rig.want(&fleet);
    let name = fleet.name();
    rig.until("Deployment", &name, "has 3", |it| it["spec"]["replicas"] == 3).await;
    fleet.settings = settings(json!({"autoscaling": {"minReplicas": 2, "maxReplicas": 9}}));
    rig.want(&fleet);
    rig.until("HorizontalPodAutoscaler", &name, "is made", |_| true).await;
    let replicas_of_ours = |it: &Value| {
        let managers = it["metadata"]["managedFields"].as_array().unwrap();
        managers.iter().any(|entry| {
            entry["manager"] == "portolan" && entry.pointer("/fieldsV1/f:spec/f:replicas").is_some()
        })
    };
    let handed = rig.until("Deployment", &name, "is handed over", |it| !replicas_of_ours(it)).await;
    assert_eq!(handed["spec"]["replicas"], 3, "nobody's proxies were taken away");
    rig.objects
        .patch("apps/v1", "Deployment", &rig.namespace, &name, &json!({"spec": {"replicas": 6}}))
        .await;
    // A change that has to be written does not take the number along.
    fleet.labels.insert("team".to_owned(), "other".to_owned());
    rig.want(&fleet);
    let written =
        rig.until("Deployment", &name, "is written", |it| it["metadata"]["labels"]["team"] == "other").await;
    assert_eq!(written["spec"]["replicas"], 6);
    fleet.settings = settings(json!({"replicas": 1}));
    rig.want(&fleet);
    rig.until("Deployment", &name, "has a fixed number again", |it| it["spec"]["replicas"] == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_static_cluster_ip_is_had_or_refused_and_what_worked_goes_on() {
    let rig = Rig::start(true).await;
    let mut fleet = rig.gateway("web", json!({"service": {"type": "ClusterIP"}})).await;
    rig.want(&fleet);
    let name = fleet.name();
    let told = rig.until_told(&fleet, "an address", |state| !state.addresses.assigned.is_empty()).await;
    let Some(Address::Ip(first)) = told.addresses.assigned.first().cloned() else { panic!("{told:?}") };
    let before = rig.get("Service", &name).await.unwrap();
    // Outside the range of Services.
    fleet.addresses = vec!["192.0.2.1".parse().unwrap()];
    rig.want(&fleet);
    let told = rig.until_told(&fleet, "a refusal", |state| state.addresses.refused.is_some()).await;
    assert!(told.addresses.refused.unwrap().contains("192.0.2.1"));
    let after = rig.get("Service", &name).await.unwrap();
    assert_eq!(before["metadata"]["uid"], after["metadata"]["uid"], "the Service that worked is still there");
    // Free a moment ago: the neighbour of the one that was given, if nobody else has it.
    let free = free_address(&rig, first).await;
    fleet.addresses = vec![free];
    rig.want(&fleet);
    rig.until_told(&fleet, "the address", |state| state.addresses.assigned == [Address::Ip(free)]).await;
    rig.until("Service", &name, "has it", |it| it["spec"]["clusterIP"] == free.to_string()).await;
}

async fn free_address(rig: &Rig, near: std::net::IpAddr) -> std::net::IpAddr {
    let std::net::IpAddr::V4(near) = near else { panic!("{near} is no IPv4 address") };
    let all: Api<k8s_openapi::api::core::v1::Service> = Api::all(rig.objects.client().clone());
    let taken: Vec<String> = all
        .list(&kube::api::ListParams::default())
        .await
        .unwrap()
        .items
        .into_iter()
        .filter_map(|service| service.spec?.cluster_ip)
        .collect();
    let candidates = (1..200).map(|step| std::net::Ipv4Addr::from(u32::from(near) ^ step));
    let free = candidates.into_iter().find(|ip| !taken.contains(&ip.to_string()) && ip.octets()[3] > 20);
    free.unwrap().into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_static_address_of_a_load_balancer_has_a_service() {
    let rig = Rig::start(true).await;
    let mut fleet = rig.gateway("web", json!({})).await;
    fleet.addresses = vec!["192.0.2.7".parse().unwrap(), "192.0.2.8".parse().unwrap()];
    rig.want(&fleet);
    let services = fleet.services();
    for Front { name, address, .. } in &services {
        let wanted = address.unwrap().to_string();
        rig.until("Service", name, "asks", |it| it["spec"]["loadBalancerIP"] == wanted).await;
    }
    rig.assign(&services[1].name, "192.0.2.8").await;
    let refused = |state: &FleetState| {
        state.addresses.refused.as_ref().is_some_and(|why| why.contains("192.0.2.7"))
            && state.addresses.assigned == [ip("192.0.2.8")]
    };
    rig.until_told(&fleet, "one had and one refused", refused).await;
    fleet.addresses.remove(0);
    rig.want(&fleet);
    rig.until_gone("Service", &services[1].name).await;
    rig.until("Service", &services[0].name, "asks", |it| it["spec"]["loadBalancerIP"] == "192.0.2.8").await;
    rig.assign(&services[0].name, "192.0.2.8").await;
    rig.until_told(&fleet, "exactly the usable one", |state| {
        state.addresses.assigned == [ip("192.0.2.8")] && state.addresses.refused.is_none()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_reports_and_writes_nothing_until_it_leads() {
    let rig = Rig::start(false).await;
    let fleet = rig.gateway("web", json!({})).await;
    rig.want(&fleet);
    rig.until_told(&fleet, "a report", |_| true).await;
    let services = rig.objects.list("v1", "Service", &rig.namespace).await;
    assert!(services.is_empty(), "{services:?}");
    rig.leading.send_replace(true);
    rig.until_made(&fleet).await;
    rig.leading.send_replace(false);
    rig.assign(&fleet.name(), "192.0.2.7").await;
    rig.until_told(&fleet, "the address", |state| state.addresses.assigned == [ip("192.0.2.7")]).await;
    // A leader that was suspended believes that it leads, and its time is over.
    rig.may_write.store(false, Ordering::SeqCst);
    rig.leading.send_replace(true);
    let account = rig.get("ServiceAccount", &fleet.name()).await.unwrap();
    rig.objects.delete(&account.to_string()).await;
    let other = rig.gateway("other", json!({})).await;
    rig.want(&other);
    rig.until_told(&other, "a report", |_| true).await;
    assert!(rig.get("ServiceAccount", &fleet.name()).await.is_none());
    assert!(rig.get("Deployment", &other.name()).await.is_none());
    rig.may_write.store(true, Ordering::SeqCst);
    rig.until_made(&other).await;
    rig.until("ServiceAccount", &fleet.name(), "is made again", |_| true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_renewed_when_the_authorities_change_and_not_before() {
    let rig = Rig::start(true).await;
    let fleet = rig.gateway("web", json!({})).await;
    rig.want(&fleet);
    let name = fleet.identity_name();
    let first = rig.until("Secret", &name, "is made", |_| true).await;
    rig.authorities.send_modify(|_| {});
    let other = rig.gateway("other", json!({})).await;
    rig.want(&other);
    rig.until_made(&other).await;
    assert_eq!(rig.get("Secret", &name).await.unwrap()["data"], first["data"]);
    rig.authorities.send_replace(Arc::new(Authorities::new(Timestamp::now()).unwrap()));
    rig.until("Secret", &name, "is renewed", |it| it["data"]["ca.crt"] != first["data"]["ca.crt"]).await;
    // A Secret that is deleted is not watched; the next look makes it again.
    let secret = rig.get("Secret", &name).await.unwrap();
    rig.objects.delete(&secret.to_string()).await;
    rig.authorities.send_modify(|_| {});
    rig.until("Secret", &name, "is made again", |_| true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_longest_name_has_a_fleet() {
    let rig = Rig::start(true).await;
    let long = "g".repeat(253);
    let fleet = rig.gateway(&long, json!({"replicas": 2})).await;
    rig.want(&fleet);
    rig.until_made(&fleet).await;
    assert_eq!(fleet.name(), fleet_name(&long, "portolan"));
    let told = rig.until_told(&fleet, "a report", |_| true).await;
    assert_eq!(told.errors, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_that_is_being_deleted_is_told_and_costs_nobody_else() {
    let rig = Rig::start(true).await;
    let fleet = rig.gateway("web", json!({})).await;
    let namespace = format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {}}}}}", rig.namespace);
    rig.objects.delete(&namespace).await;
    rig.want(&fleet);
    let told = rig.until_told(&fleet, "the end", |state| state.trouble.is_some()).await;
    assert!(told.trouble.unwrap().contains("being terminated"));
}

/// The operator's own namespace, and an account with its role.
async fn system() -> (Objects, String, Client) {
    let server = ApiServer::shared().await;
    let objects = server.objects().await;
    let namespace = objects.namespace("system").await;
    let client = with_shipped_roles(server, &namespace).await;
    (objects, namespace, client)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_start_together_agree_on_one_authority() {
    let (objects, namespace, client) = system().await;
    let open = || Keeper::open(client.clone(), &namespace, "portolan.portolan-system.svc");
    let keepers = futures::future::join_all((0..8).map(|_| open())).await;
    let bundles: std::collections::BTreeSet<_> =
        keepers.into_iter().map(|keeper| keeper.unwrap().authorities().borrow().bundle()).collect();
    assert_eq!(bundles.len(), 1);
    let later = open().await.unwrap();
    assert_eq!(later.authorities().borrow().bundle(), *bundles.first().unwrap());
    let secrets: Api<Secret> = Api::namespaced(objects.client().clone(), &namespace);
    let data = secrets.get(AUTHORITY_SECRET).await.unwrap().data.unwrap();
    assert_eq!(data.len(), 2, "{:?}", data.keys());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authority_is_kept_and_another_one_taken_up() {
    let (objects, namespace, client) = system().await;
    let host = "portolan.portolan-system.svc";
    let mut keeper = Keeper::open(client.clone(), &namespace, host).await.unwrap();
    let (mut authorities, mut server) = (keeper.authorities(), keeper.server_configs());
    let first = authorities.borrow_and_update().bundle();
    server.mark_unchanged();
    keeper.refresh().await.unwrap();
    assert!(!authorities.has_changed().unwrap() && !server.has_changed().unwrap(), "nothing was due");
    let secrets: Api<Secret> = Api::namespaced(objects.client().clone(), &namespace);
    let stored = secrets.get(AUTHORITY_SECRET).await.unwrap();
    secrets.delete(AUTHORITY_SECRET, &kube::api::DeleteParams::default()).await.unwrap();
    keeper.refresh().await.unwrap();
    assert_eq!(
        secrets.get(AUTHORITY_SECRET).await.unwrap().data,
        stored.data,
        "what is in use is written again"
    );
    assert!(!authorities.has_changed().unwrap());
    // Another replica made a successor.
    let entries = |all: &Authorities| {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let all = all.write().into_iter().map(|(name, bytes)| (name, text(bytes)));
        all.collect::<BTreeMap<_, _>>()
    };
    let successor = entries(&Authorities::new(Timestamp::now()).unwrap());
    objects.patch("v1", "Secret", &namespace, AUTHORITY_SECRET, &json!({"stringData": successor})).await;
    keeper.refresh().await.unwrap();
    let both = authorities.borrow_and_update().bundle();
    assert!(both.contains(first.trim()), "the old one is trusted still");
    assert_eq!(both.matches("BEGIN CERTIFICATE").count(), 2);
    assert!(server.has_changed().unwrap(), "the server lets in clients of both");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_authority_is_named_and_never_overwritten() {
    let (objects, namespace, client) = system().await;
    let open = || Keeper::open(client.clone(), &namespace, "portolan.portolan-system.svc");
    open().await.unwrap();
    let key = ("v1", "Secret", namespace.as_str(), AUTHORITY_SECRET);
    let secret = objects.get(key).await.unwrap();
    let mut entries = secret["data"].as_object().unwrap().keys();
    let entry =
        entries.find(|name| name.rsplit_once('.').is_some_and(|(_, end)| end == "key")).unwrap().clone();
    objects.patch("v1", "Secret", &namespace, AUTHORITY_SECRET, &json!({"data": {entry: "eA=="}})).await;
    let damaged = objects.get(key).await.unwrap();
    let error = open().await.unwrap_err().to_string();
    assert!(error.contains(AUTHORITY_SECRET) && error.contains("delete it"), "{error}");
    assert_eq!(objects.get(key).await.unwrap(), damaged);
}
