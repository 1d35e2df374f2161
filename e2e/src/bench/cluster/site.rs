//! Where a benchmark takes place: a namespace with a Gateway, the control plane under measurement, and watches. It leaves nothing
//! behind for the next one.

use std::{
    collections::BTreeMap,
    net::TcpListener,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use portolan::{
    fleet::GatewayName,
    identity::{AUTHORITY_SECRET, Authorities},
};
use serde_json::{Value, json};

use super::{
    BenchError,
    access::{Access, Pems, TlsFiles},
    api::{Kind, Object, Writer},
    envoy::Envoy,
    homes::Homes,
    objects::{self, GATEWAY},
    operator::{Metrics, Operator},
    probe::Probe,
    process::{self, Memory},
    watch::Watch,
};

/// The namespace of our operator.
const SYSTEM: &str = "bench-system";

/// What is measured.
#[derive(Debug, Clone)]
pub enum Target {
    /// Our operator, which each benchmark starts anew.
    Ours {
        /// The `portolan` binary.
        portolan: PathBuf,
        /// The processors that it may use, as `taskset` reads them.
        cpus: Option<String>,
    },
    /// Another implementation, which runs already and has its class.
    Other {
        /// Its ADS port.
        xds: std::net::SocketAddr,
        /// What the probe says that it is; `{namespace}` and `{gateway}` stand for the Gateway's.
        node_id: String,
        /// Its GatewayClass.
        class: String,
        /// Where its port wants mutual TLS.
        tls: Option<TlsFiles>,
        /// Its process, to measure CPU time and memory.
        pid: Option<u32>,
    },
}

impl Target {
    fn class(&self) -> &str {
        match self {
            Self::Ours { .. } => "bench",
            Self::Other { class, .. } => class,
        }
    }
}

/// See the module.
pub(super) struct Site {
    target: Target,
    pub(super) writer: Writer,
    /// The namespace of its Gateways.
    pub(super) namespace: String,
    /// Where its apps are: in the same, unless they are spread.
    pub(super) homes: Homes,
    /// The port of the Gateway's listener.
    pub(super) port: u16,
    operator: Option<Operator>,
    gateways: Vec<String>,
}

impl Site {
    /// Makes the namespace and its Gateways; the control plane does not run yet.
    pub(super) async fn prepare(
        target: &Target,
        writer: &Writer,
        namespace: &str,
        gateways: usize,
    ) -> Result<Self, BenchError> {
        for name in [SYSTEM, namespace] {
            writer.ensure(&objects::namespace(name)).await?;
        }
        if let Target::Ours { .. } = target {
            writer.ensure(&objects::class(target.class(), portolan_controller())).await?;
        }
        // Free a moment ago; the Envoy of the Gateway binds it.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let names: Vec<String> = (0..gateways)
            .map(|index| if index == 0 { GATEWAY.into() } else { format!("{GATEWAY}-{index}") })
            .collect();
        let all = names.iter().map(|name| objects::gateway(namespace, name, target.class(), port));
        writer.create_all(all.collect::<Vec<_>>().into_iter()).await?;
        Ok(Self {
            target: target.clone(),
            writer: writer.clone(),
            namespace: namespace.into(),
            homes: Homes::one(namespace),
            port,
            operator: None,
            gateways: names,
        })
    }

    /// Makes the namespace and a Gateway, and starts the control plane.
    pub(super) async fn start(target: &Target, writer: &Writer, namespace: &str) -> Result<Self, BenchError> {
        let mut site = Self::prepare(target, writer, namespace, 1).await?;
        site.run().await?;
        Ok(site)
    }

    /// Gives its apps namespaces of their own.
    pub(super) async fn spread(&mut self, namespaces: usize) -> Result<(), BenchError> {
        self.homes = Homes::spread(&self.namespace, namespaces);
        for name in self.homes.all() {
            self.writer.ensure(&objects::namespace(name)).await?;
        }
        Ok(())
    }

    /// A route of the first Gateway to one of the Services.
    pub(super) fn route(&self, index: usize, backend: usize, marker: &str) -> Object {
        objects::route(self.homes.of(backend), (&self.namespace, GATEWAY), index, backend, marker)
    }

    /// Starts the control plane, if it is ours, and waits until it serves.
    pub(super) async fn run(&mut self) -> Result<(), BenchError> {
        if self.is_ours() {
            self.launch()?;
            self.ready().await?;
        }
        Ok(())
    }

    /// Starts our control plane; gives when.
    pub(super) fn launch(&mut self) -> Result<Instant, BenchError> {
        let Target::Ours { portolan, cpus } = &self.target else {
            return Err(BenchError::Setting("only our own control plane can be started".into()));
        };
        let operator = Operator::start(portolan, SYSTEM, cpus.as_deref())?;
        let started = operator.child.started;
        self.operator = Some(operator);
        Ok(started)
    }

    /// Waits until the control plane that was launched is ready and leads; gives when it was ready.
    pub(super) async fn ready(&mut self) -> Result<Instant, BenchError> {
        let Some(operator) = &mut self.operator else {
            return Err(BenchError::Setting("the operator does not run".into()));
        };
        let ready = operator.ready().await?;
        operator.leads().await?;
        self.fleets_serve().await?;
        Ok(ready)
    }

    /// Ends the control plane, which is ours, and runs another binary in its place; gives the one before.
    pub(super) async fn run_instead(&mut self, binary: &Path) -> Result<PathBuf, BenchError> {
        self.halt().await?;
        let Target::Ours { portolan, .. } = &mut self.target else {
            return Err(BenchError::Setting("only our own control plane has other binaries".into()));
        };
        let before = std::mem::replace(portolan, binary.to_owned());
        self.run().await?;
        Ok(before)
    }

    /// Our operator, while it runs.
    pub(super) fn operator(&self) -> Result<&Operator, BenchError> {
        self.operator.as_ref().ok_or_else(|| BenchError::Setting("the operator does not run".into()))
    }

    /// Ends the control plane, if it is ours.
    pub(super) async fn halt(&mut self) -> Result<(), BenchError> {
        match self.operator.take() {
            Some(operator) => operator.stop().await,
            None => Ok(()),
        }
    }

    /// Whether the control plane is ours: then it can be started again, and has our metrics.
    pub(super) fn is_ours(&self) -> bool {
        matches!(self.target, Target::Ours { .. })
    }

    /// Does what a cluster would: pods are ready, Services have an address.
    async fn fleets_serve(&self) -> Result<(), BenchError> {
        let of_fleet = |object: &Value| {
            let labels = &object["metadata"]["labels"];
            let of = labels["gateway.networking.k8s.io/gateway-name"].as_str()?;
            self.gateways
                .iter()
                .any(|name| name == of)
                .then(|| object["metadata"]["name"].as_str())?
                .map(String::from)
        };
        let until = Instant::now() + Duration::from_mins(1);
        let (deployments, services) = loop {
            let deployments = self.writer.list(Kind::Deployment, &self.namespace).await?;
            let services = self.writer.list(Kind::Service, &self.namespace).await?;
            let found: (Vec<String>, Vec<String>) = (
                deployments.iter().filter_map(of_fleet).collect(),
                services.iter().filter_map(of_fleet).collect(),
            );
            if found.0.len() >= self.gateways.len() && found.1.len() >= self.gateways.len() {
                break found;
            }
            if Instant::now() > until {
                return Err(BenchError::Late { of: "the fleets are made".into(), seconds: 60 });
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let ready = json!({"status": {"replicas": 1, "readyReplicas": 1}});
        let address = json!({"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.7"}]}}});
        for (kind, names, patch) in
            [(Kind::Deployment, deployments, ready), (Kind::Service, services, address)]
        {
            for name in names {
                self.writer.patch((kind, &self.namespace, &format!("{name}/status")), &patch).await?;
            }
        }
        Ok(())
    }

    /// How proxies of a Gateway reach the control plane.
    pub(super) async fn access(&self, gateway: &str) -> Result<Access, BenchError> {
        match (&self.target, &self.operator) {
            (Target::Ours { .. }, Some(operator)) => {
                let unusable =
                    |why: String| BenchError::Setting(format!("the operator's authorities: {why}"));
                let secrets: Api<Secret> = Api::namespaced(self.writer.client().clone(), SYSTEM);
                let data = secrets.get(AUTHORITY_SECRET).await?.data.unwrap_or_default();
                let data: BTreeMap<String, Vec<u8>> =
                    data.into_iter().map(|(name, bytes)| (name, bytes.0)).collect();
                let authorities = Authorities::read(&data).map_err(|error| unusable(error.to_string()))?;
                let name = GatewayName::new(&self.namespace, gateway)
                    .map_err(|error| unusable(error.to_string()))?;
                let identity = authorities
                    .proxy("portolan.internal", &name, Timestamp::now())
                    .map_err(|error| unusable(error.to_string()))?;
                let tls = Pems {
                    certificate: identity.certificate.clone(),
                    key: identity.key.clone(),
                    authorities: identity.authorities.clone(),
                    server_name: format!("portolan.{SYSTEM}.svc"),
                };
                Ok(Access { address: operator.xds, node_id: "bench".into(), tls: Some(tls) })
            }
            (Target::Ours { .. }, None) => Err(BenchError::Setting("the operator does not run".into())),
            (Target::Other { xds, node_id, tls, .. }, _) => {
                let node_id = node_id.replace("{namespace}", &self.namespace).replace("{gateway}", gateway);
                let tls = tls.as_ref().map(TlsFiles::read).transpose()?;
                Ok(Access { address: *xds, node_id, tls })
            }
        }
    }

    /// A probe of the site's Gateway, once it has the first configuration.
    pub(super) async fn probe(&self) -> Result<Probe, BenchError> {
        let probe = Probe::connect(&self.access(GATEWAY).await?).await?;
        probe.complete().await?;
        Ok(probe)
    }

    /// An Envoy of the site's Gateway.
    pub(super) async fn envoy(&self) -> Result<Envoy, BenchError> {
        Envoy::start(&self.access(GATEWAY).await?, &format!("{}/{GATEWAY}", self.namespace))
    }

    /// A watch of a kind, of the Gateways or of the apps.
    pub(super) async fn watch(&self, kind: Kind) -> Result<Watch, BenchError> {
        Watch::start(kind, if kind == Kind::Gateway { &self.namespace } else { self.homes.asked() }).await
    }

    fn pid(&self) -> Option<u32> {
        match &self.target {
            Target::Ours { .. } => self.operator.as_ref().map(Operator::pid),
            Target::Other { pid, .. } => *pid,
        }
    }

    /// CPU time of the control plane so far, in seconds; not a number where its process is not known.
    pub(super) fn cpu(&self) -> Result<f64, BenchError> {
        let Some(pid) = self.pid() else { return Ok(f64::NAN) };
        Ok(process::cpu(pid)?.as_secs_f64())
    }

    /// Memory of the control plane.
    pub(super) fn memory(&self) -> Result<Option<Memory>, BenchError> {
        Ok(self.pid().map(process::memory).transpose()?)
    }

    /// Metrics, if it is ours.
    pub(super) async fn metrics(&self) -> Result<Option<Metrics>, BenchError> {
        match &self.operator {
            Some(operator) => Ok(Some(operator.metrics().await?)),
            None => Ok(None),
        }
    }

    /// Waits until every route that the watch knows has a right status.
    pub(super) async fn settled(&self, routes: &mut Watch, count: usize) -> Result<(), BenchError> {
        let limit = Duration::from_mins(4);
        let of = format!("{count} routes have a right status");
        let settled = |objects: &std::collections::HashMap<String, super::watch::Seen>| {
            let there = objects.values().filter(|seen| seen.gone.is_none());
            (there.filter(|seen| seen.settled.is_some()).count() >= count).then_some(())
        };
        routes.until(&of, limit, settled).await
    }

    /// Ends it, and takes away what is in its namespaces.
    pub(super) async fn end(mut self) -> Result<(), BenchError> {
        self.halt().await?;
        for namespace in self.homes.all().filter(|name| *name != self.namespace) {
            self.take_away(namespace).await?;
        }
        self.take_away(&self.namespace).await
    }

    async fn take_away(&self, namespace: &str) -> Result<(), BenchError> {
        let kinds = [
            Kind::Route,
            Kind::Gateway,
            Kind::Slice,
            Kind::Service,
            Kind::Secret,
            Kind::ConfigMap,
            Kind::Deployment,
            Kind::ServiceAccount,
        ];
        for kind in kinds {
            // Services have no deletion of a whole collection in old API servers, and are many: one by one is the same work.
            if kind == Kind::Service {
                let names = self.writer.list(kind, namespace).await?;
                let names = names.iter().filter_map(|it| it["metadata"]["name"].as_str().map(String::from));
                self.writer.delete_many(kind, namespace, names.collect::<Vec<_>>().into_iter()).await?;
            } else {
                self.writer.delete_all(kind, namespace).await?;
            }
        }
        Ok(())
    }
}

fn portolan_controller() -> &'static str {
    "portolan.dev/gateway-controller"
}
