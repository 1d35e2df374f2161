//! `FleetConfig`: how the Envoys of a Gateway are run.
//!
//! A GatewayClass names one in `parametersRef` for all its Gateways; a Gateway names its own in
//! `infrastructure.parametersRef`. The Gateway's wins field by field ([`FleetConfigSpec::over`]), except for
//! the fields that the class locks. Every field is optional and has no default in the schema: a default there
//! would look like a choice of the Gateway's author and hide the class's.

// Of a field whose type is an enum the schema keeps the text of the enum, so that says what the field's would.
#![expect(unreachable_pub, reason = "KubeSchema copies each struct into a function to derive its schema")]
#![expect(clippy::duplicated_attributes, reason = "two print columns may have the same type")]

mod inherit;
mod locked;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{LocalObjectReference, Toleration};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use inherit::Inherited;
pub use locked::LockedField;

/// How the Envoys of a Gateway are run. Referred to by a GatewayClass (spec.parametersRef) for all of its Gateways,
/// or by a Gateway (spec.infrastructure.parametersRef) for itself: its fields win over those of its class, one by one.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "portolan.dev",
    version = "v1alpha1",
    kind = "FleetConfig",
    namespaced,
    category = "gateway-api",
    doc = "How the Envoys of a Gateway are run. A GatewayClass refers to it in spec.parametersRef for all of its Gateways, a Gateway in spec.infrastructure.parametersRef for itself: there its fields win over those of the class, one by one.",
    derive = "PartialEq",
    printcolumn(json_path = ".spec.workload", name = "Workload", type_ = "string"),
    printcolumn(json_path = ".spec.replicas", name = "Replicas", type_ = "integer"),
    printcolumn(json_path = ".spec.service.type", name = "Service", type_ = "string"),
    printcolumn(json_path = ".metadata.creationTimestamp", name = "Age", type_ = "date")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!(has(self.replicas) && has(self.autoscaling))")
        .message("replicas and autoscaling exclude each other: a fixed number of proxies, or one that follows their load"),
    validation = Rule::new("!(has(self.workload) && self.workload == 'DaemonSet' && (has(self.replicas) || has(self.autoscaling)))")
        .message("a DaemonSet runs one proxy on each node: remove replicas and autoscaling")
)]
pub struct FleetConfigSpec {
    /// Deployment (the default), or DaemonSet: one proxy on each selected node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload: Option<Workload>,
    /// How many proxies a Deployment runs. Default: 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub replicas: Option<i32>,
    /// Lets the number of proxies follow their load (HorizontalPodAutoscaler).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<Autoscaling>,
    /// How many proxies an eviction leaves (PodDisruptionBudget). Default: one may be gone at a time, wherever
    /// there can be more than one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disruption_budget: Option<DisruptionBudget>,
    /// The image of the proxies: Envoy, and portolan as its supervisor. Default: the one that the operator was
    /// installed with.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,
    /// When the image is pulled. Default: Kubernetes'.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<ImagePullPolicy>,
    /// Secrets of the Gateway's namespace to pull the image with.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8))]
    pub image_pull_secrets: Option<Vec<LocalObjectReference>>,
    /// What a proxy requests of its node, and its limits. Envoy sheds load before the memory limit is reached, and
    /// runs as many worker threads as the CPU limit has processors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Labels that a node must have.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 32))]
    pub node_selector: Option<BTreeMap<String, String>>,
    /// Taints of nodes that the proxies tolerate.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub tolerations: Option<Vec<Toleration>>,
    /// How the proxies of one Gateway spread over nodes and zones. Default: over nodes, as far as possible.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8))]
    pub topology_spread: Option<Vec<TopologySpread>>,
    /// The Service in front of the proxies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceSettings>,
    /// Labels on every object of the fleet, pods included. Those of the Gateway's spec.infrastructure win.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 32))]
    #[x_kube(validation = Rule::new("self.all(key, !key.startsWith('gateway.networking.k8s.io/') && !key.startsWith('portolan.dev/') && key != 'app.kubernetes.io/managed-by')")
        .message("labels under gateway.networking.k8s.io/ and portolan.dev/, and app.kubernetes.io/managed-by, are Portolan's own"))]
    pub labels: Option<BTreeMap<String, String>>,
    /// Annotations on every object of the fleet, pods included. Those of the Gateway's spec.infrastructure win.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 32))]
    #[x_kube(validation = Rule::new("self.all(key, !key.startsWith('portolan.dev/'))")
        .message("annotations under portolan.dev/ are Portolan's own"))]
    pub annotations: Option<BTreeMap<String, String>>,
    /// Envoy's own settings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub envoy: Option<EnvoySettings>,
    /// How a proxy ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain: Option<DrainSettings>,
    /// One line of JSON on standard output for each request. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_log: Option<AccessLog>,
    /// In the FleetConfig of a GatewayClass: fields that its Gateways cannot set, whether they are set here or not. A
    /// Gateway's value for one is ignored, and its status says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub locked: Option<Vec<LockedField>>,
}

/// Deployment (the default): a number of proxies, wherever there is room. DaemonSet: one proxy on each selected node.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Workload {
    /// A number of proxies, wherever there is room.
    #[default]
    Deployment,
    /// One proxy on each selected node.
    DaemonSet,
}

/// A number of proxies that follows their load.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.minReplicas) || !has(self.maxReplicas) || self.minReplicas <= self.maxReplicas")
    .message("minReplicas must not exceed maxReplicas"))]
pub struct Autoscaling {
    /// The fewest proxies. Default: 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub min_replicas: Option<i32>,
    /// The most proxies. Must be set here or by the class.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_replicas: Option<i32>,
    /// Average use of the requested CPU to hold, in percent. Default: 80, unless memory is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub cpu_percent: Option<i32>,
    /// Average use of the requested memory to hold, in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub memory_percent: Option<i32>,
}

/// How many proxies an eviction leaves.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.maxUnavailable) != has(self.minAvailable)")
    .message("set exactly one of maxUnavailable and minAvailable"))]
pub struct DisruptionBudget {
    /// How many may be gone at a time: a number, or a share such as "25%".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<IntOrString>,
    /// How many must stay: a number, or a share such as "75%".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_available: Option<IntOrString>,
}

/// When the image is pulled. Default: Kubernetes'.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImagePullPolicy {
    /// At each start.
    Always,
    /// When the node does not have it.
    IfNotPresent,
    /// Never: the node must have it.
    Never,
}

/// Compute resources of one proxy.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// What the scheduler keeps free for it. Default: 100m of cpu, 128Mi of memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 16))]
    pub requests: Option<BTreeMap<String, IntOrString>>,
    /// What it never exceeds. Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 16))]
    pub limits: Option<BTreeMap<String, IntOrString>>,
}

/// A topology spread constraint; its label selector is always the fleet's.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct TopologySpread {
    /// The node label whose values are the places to spread over, such as topology.kubernetes.io/zone.
    #[schemars(length(min = 1, max = 317))]
    pub topology_key: String,
    /// How many proxies one place may have more than another. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_skew: Option<i32>,
    /// What to do with a proxy that would break the rule. Default: ScheduleAnyway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when_unsatisfiable: Option<WhenUnsatisfiable>,
}

/// What to do with a proxy that would break the rule. Default: ScheduleAnyway.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenUnsatisfiable {
    /// It waits.
    DoNotSchedule,
    /// It runs all the same.
    #[default]
    ScheduleAnyway,
}

/// The Service in front of the proxies.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!(has(self.type) && self.type == 'ClusterIP' && has(self.externalTrafficPolicy))")
        .message("externalTrafficPolicy needs type NodePort or LoadBalancer"),
    validation = Rule::new("!(has(self.type) && self.type != 'LoadBalancer' && has(self.loadBalancerClass))")
        .message("loadBalancerClass needs type LoadBalancer")
)]
pub struct ServiceSettings {
    /// How the Service is reached. Default: LoadBalancer. In a cluster that has no load balancers use ClusterIP or
    /// NodePort.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<ServiceType>,
    /// Annotations of the Service alone; many load balancers are configured by them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 32))]
    #[x_kube(validation = Rule::new("self.all(key, !key.startsWith('portolan.dev/'))")
        .message("annotations under portolan.dev/ are Portolan's own"))]
    pub annotations: Option<BTreeMap<String, String>>,
    /// Cluster: any node forwards to any proxy. Local: a node forwards only to proxies of its own, which then see
    /// the client's address. Default: Kubernetes' (Cluster).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_traffic_policy: Option<ExternalTrafficPolicy>,
    /// Which load balancer serves it. Kubernetes allows no change afterwards.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 317))]
    pub load_balancer_class: Option<String>,
}

/// How the Service is reached. Default: LoadBalancer. In a cluster that has no load balancers use ClusterIP or NodePort.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServiceType {
    /// At an address inside the cluster.
    ClusterIP,
    /// At a port of each node, too.
    NodePort,
    /// At an address that a load balancer assigns.
    #[default]
    LoadBalancer,
}

/// Cluster: any node forwards to any proxy. Local: a node forwards only to proxies of its own, which then see the client's
/// address. Default: Kubernetes' (Cluster).
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExternalTrafficPolicy {
    /// All of them.
    Cluster,
    /// Those on the node itself.
    Local,
}

/// Envoy's own settings.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct EnvoySettings {
    /// Worker threads. Default: one for each processor of the CPU limit, or of the node.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1024))]
    pub concurrency: Option<i32>,
    /// What Envoy logs about itself. Default: info.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_level: Option<LogLevel>,
}

/// How much Envoy logs about itself. Default: info.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Everything.
    Trace,
    /// What helps to find a fault.
    Debug,
    /// What happens rarely.
    #[default]
    Info,
    /// What may be wrong.
    Warning,
    /// What is wrong.
    Error,
    /// What ends Envoy.
    Critical,
    /// Nothing.
    Off,
}

impl LogLevel {
    /// As Envoy writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Critical => "critical",
            Self::Off => "off",
        }
    }
}

/// How a proxy ends: it goes on serving for some seconds while the news spreads, asks clients to leave, and waits
/// for them.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.minimumSeconds) || !has(self.timeoutSeconds) || self.minimumSeconds <= self.timeoutSeconds")
    .message("minimumSeconds must not exceed timeoutSeconds"))]
pub struct DrainSettings {
    /// How long it keeps accepting connections although it is going, because kube-proxy and load balancers learn it
    /// late. Default: 5, or the timeout where that is less.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 3600))]
    pub minimum_seconds: Option<i32>,
    /// How long it waits for connections and UDP sessions to end by themselves. Default: 30.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 86400))]
    pub timeout_seconds: Option<i32>,
}

/// The access log: one JSON object per request, with these members. There are no format strings.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct AccessLog {
    /// Whether requests are logged. Default: true where accessLog is given at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// The members of a line. Default: startTime, method, authority, path, protocol, responseCode, responseFlags,
    /// durationMs, bytesReceived, bytesSent, clientAddress, route, cluster, upstreamAddress, requestId.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    pub fields: Option<Vec<AccessLogField>>,
    /// Request headers to log, in the member requestHeaders.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 16),
        inner(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z0-9!#$&'*+.^_`|~-]+$"))
    )]
    pub request_headers: Option<Vec<String>>,
    /// Response headers to log, in the member responseHeaders.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 16),
        inner(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z0-9!#$&'*+.^_`|~-]+$"))
    )]
    pub response_headers: Option<Vec<String>>,
}

/// A member of an access log line. Its name here is its name there.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "camelCase")]
pub enum AccessLogField {
    /// When the request began.
    StartTime,
    /// The method.
    Method,
    /// The host that the client asked for.
    Authority,
    /// The path with its query; after a rewrite, where a filter makes one.
    Path,
    /// HTTP/1.1, HTTP/2 …
    Protocol,
    /// The status that the client got.
    ResponseCode,
    /// Who decided it: the backend, or Envoy and why.
    ResponseCodeDetails,
    /// Envoy's short flags for what went wrong.
    ResponseFlags,
    /// From the first byte of the request to the last one of the response.
    DurationMs,
    /// How long the backend took for its response's headers.
    UpstreamDurationMs,
    /// Bytes of the request's body.
    BytesReceived,
    /// Bytes of the response's body.
    BytesSent,
    /// The client's address and port.
    ClientAddress,
    /// The address and port that the client connected to.
    LocalAddress,
    /// The TLS server name that the client asked for.
    ServerName,
    /// The route, `<kind>/<namespace>/<name>/<rule>`.
    Route,
    /// The backend, `<namespace>/<service>/<port>`.
    Cluster,
    /// The endpoint that answered.
    UpstreamAddress,
    /// Why the endpoint could not be reached.
    UpstreamFailure,
    /// x-request-id.
    RequestId,
    /// The User-Agent header.
    UserAgent,
    /// The X-Forwarded-For header.
    ForwardedFor,
}

#[cfg(test)]
mod tests;
