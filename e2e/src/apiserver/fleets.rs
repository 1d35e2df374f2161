//! The task of the fleets against an API server, with the shipped roles, and what a test needs to see of it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use jiff::Timestamp;
use kube::Api;
use portolan::{
    fleet::{
        GatewayName,
        cluster::{
            Applier, Connections, Fleet, FleetState, FleetTask, Installation, Owned, Settings, Wanted,
        },
    },
    identity::Authorities,
};
use portolan_xds::ir::Transport;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{ApiServer, Objects, Turn, client, until};

type Reports = Arc<Mutex<BTreeMap<GatewayName, FleetState>>>;

/// A fleet task against an API server, in a namespace of its own that enforces PodSecurity `restricted`.
#[derive(Debug)]
pub struct FleetRig {
    /// As the administrator.
    pub objects: Objects,
    /// Of the Gateways, and where the task believes that Portolan is installed.
    pub namespace: String,
    wanted: watch::Sender<Arc<Wanted>>,
    /// Whether this replica leads.
    pub leading: watch::Sender<bool>,
    /// Whether its Lease still allows to write.
    pub may_write: Arc<AtomicBool>,
    /// Who signs the proxies' certificates.
    pub authorities: watch::Sender<Arc<Authorities>>,
    reports: Reports,
    stop: CancellationToken,
    /// Each rig believes that all fleets are its own, and takes those away that it does not want.
    _turn: Turn,
}

impl Drop for FleetRig {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl FleetRig {
    /// Starts the task; as a leader or as a follower.
    pub async fn start(leading: bool) -> Self {
        let turn = Turn::take().await;
        let server = ApiServer::shared().await;
        let objects = server.objects().await;
        let namespace = objects.namespace("fleet").await;
        let enforce = json!({"pod-security.kubernetes.io/enforce": "restricted"});
        objects.patch_labels("v1", "Namespace", "", &namespace, &enforce).await;
        let client = client(server.with_shipped_roles(&namespace).await).await;
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
    pub async fn gateway(&self, name: &str, config: Value) -> Fleet {
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

    /// A fleet is wanted, as it is here.
    pub fn want(&self, fleet: &Fleet) {
        self.wanted.send_modify(|wanted| {
            let mut all = Wanted::clone(wanted);
            all.insert(fleet.gateway.clone(), Some(fleet.clone()));
            *wanted = Arc::new(all);
        });
    }

    /// It is not wanted any more.
    pub fn drop_wanted(&self, fleet: &Fleet) {
        self.wanted.send_modify(|wanted| {
            let mut all = Wanted::clone(wanted);
            all.remove(&fleet.gateway);
            *wanted = Arc::new(all);
        });
    }

    /// An object of the namespace.
    pub async fn get(&self, kind: &str, name: &str) -> Option<Value> {
        self.objects.get((version(kind), kind, &self.namespace, name)).await
    }

    /// Waits until an object is there and good.
    pub async fn until(&self, kind: &str, name: &str, what: &str, good: impl Fn(&Value) -> bool) -> Value {
        let what = format!("{kind} {name} {what}");
        let there = |found: &Option<Value>| found.as_ref().is_some_and(&good);
        until(&what, async || self.get(kind, name).await, there).await.unwrap()
    }

    /// Waits until an object is gone.
    pub async fn until_gone(&self, kind: &str, name: &str) {
        until(&format!("{kind} {name} is gone"), async || self.get(kind, name).await, Option::is_none).await;
    }

    /// Waits until the task reports this of a fleet.
    pub async fn until_told(
        &self,
        fleet: &Fleet,
        what: &str,
        good: impl Fn(&FleetState) -> bool,
    ) -> FleetState {
        let told = until(what, async || self.told(fleet), |state| state.as_ref().is_some_and(&good));
        told.await.unwrap()
    }

    /// Everything of a fleet is there.
    pub async fn until_made(&self, fleet: &Fleet) {
        for kind in ["Secret", "ServiceAccount", "Service", "Deployment"] {
            let name = if kind == "Secret" { fleet.identity_name() } else { fleet.name() };
            self.until(kind, &name, "is made", |_| true).await;
        }
        self.until_told(fleet, "a report", |_| true).await;
    }

    /// What the task reports of a fleet now.
    pub fn told(&self, fleet: &Fleet) -> Option<FleetState> {
        self.reports.lock().unwrap().get(&fleet.gateway).cloned()
    }

    /// What a load balancer does.
    pub async fn assign(&self, service: &str, ip: &str) {
        let status = json!({"status": {"loadBalancer": {"ingress": [{"ip": ip}]}}});
        self.patch_status("Service", service, &status).await;
    }

    /// What a controller does.
    pub async fn patch_status(&self, kind: &str, name: &str, patch: &Value) {
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

/// A FleetConfig's spec as settings.
pub fn settings(config: Value) -> Settings {
    Settings::of(&serde_json::from_value(config).unwrap()).unwrap()
}

/// The API version of a kind that fleets are made of.
pub fn version(kind: &str) -> &'static str {
    match kind {
        "Deployment" | "DaemonSet" => "apps/v1",
        "HorizontalPodAutoscaler" => "autoscaling/v2",
        "PodDisruptionBudget" => "policy/v1",
        _ => "v1",
    }
}
