//! Fields that a GatewayClass keeps to itself.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{FleetConfigSpec, ServiceSettings};

/// Writes the enum with its names, so that a name in the schema and the path in messages are one text.
macro_rules! locked_fields {
    ($($(#[$doc:meta])* $variant:ident = $path:literal,)*) => {
        /// A field that a class can lock, by its path in the spec.
        #[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum LockedField {
            $($(#[$doc])* #[serde(rename = $path)] $variant,)*
        }

        impl LockedField {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The path in the spec.
            pub fn path(self) -> &'static str {
                match self {
                    $(Self::$variant => $path,)*
                }
            }
        }
    };
}

locked_fields! {
    /// What runs the proxies; locks replicas and autoscaling with it, which it decides about.
    Workload = "workload",
    /// The number of proxies; locks workload and autoscaling with it, which would replace it.
    Replicas = "replicas",
    /// How the number follows the load; locks workload and replicas with it, which would replace it.
    Autoscaling = "autoscaling",
    /// How many proxies an eviction leaves.
    DisruptionBudget = "disruptionBudget",
    /// The image.
    Image = "image",
    /// When the image is pulled.
    ImagePullPolicy = "imagePullPolicy",
    /// Secrets to pull the image with.
    ImagePullSecrets = "imagePullSecrets",
    /// Requests and limits.
    Resources = "resources",
    /// Labels that a node must have.
    NodeSelector = "nodeSelector",
    /// Taints that are tolerated.
    Tolerations = "tolerations",
    /// How proxies spread.
    TopologySpread = "topologySpread",
    /// Everything about the Service.
    Service = "service",
    /// How the Service is reached.
    ServiceType = "service.type",
    /// The Service's annotations.
    ServiceAnnotations = "service.annotations",
    /// Which proxies a node forwards to.
    ServiceExternalTrafficPolicy = "service.externalTrafficPolicy",
    /// Which load balancer serves the Service.
    ServiceLoadBalancerClass = "service.loadBalancerClass",
    /// Labels of all objects.
    Labels = "labels",
    /// Annotations of all objects.
    Annotations = "annotations",
    /// Everything about Envoy.
    Envoy = "envoy",
    /// Envoy's worker threads.
    EnvoyConcurrency = "envoy.concurrency",
    /// What Envoy logs about itself.
    EnvoyLogLevel = "envoy.logLevel",
    /// How a proxy ends.
    Drain = "drain",
    /// The access log.
    AccessLog = "accessLog",
}

impl fmt::Display for LockedField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.path())
    }
}

impl LockedField {
    /// Takes the field out of a Gateway's settings, and tells whether it was set.
    pub(super) fn clear(self, spec: &mut FleetConfigSpec) -> bool {
        fn take<T>(field: &mut Option<T>) -> bool {
            field.take().is_some()
        }
        fn in_service<T>(
            spec: &mut FleetConfigSpec,
            field: fn(&mut ServiceSettings) -> &mut Option<T>,
        ) -> bool {
            spec.service.as_mut().is_some_and(|service| take(field(service)))
        }
        match self {
            Self::Workload | Self::Replicas | Self::Autoscaling => {
                // Not `||`: all three are taken.
                take(&mut spec.workload) | take(&mut spec.replicas) | take(&mut spec.autoscaling)
            }
            Self::DisruptionBudget => take(&mut spec.disruption_budget),
            Self::Image => take(&mut spec.image),
            Self::ImagePullPolicy => take(&mut spec.image_pull_policy),
            Self::ImagePullSecrets => take(&mut spec.image_pull_secrets),
            Self::Resources => take(&mut spec.resources),
            Self::NodeSelector => take(&mut spec.node_selector),
            Self::Tolerations => take(&mut spec.tolerations),
            Self::TopologySpread => take(&mut spec.topology_spread),
            Self::Service => take(&mut spec.service),
            Self::ServiceType => in_service(spec, |service| &mut service.type_),
            Self::ServiceAnnotations => in_service(spec, |service| &mut service.annotations),
            Self::ServiceExternalTrafficPolicy => {
                in_service(spec, |service| &mut service.external_traffic_policy)
            }
            Self::ServiceLoadBalancerClass => in_service(spec, |service| &mut service.load_balancer_class),
            Self::Labels => take(&mut spec.labels),
            Self::Annotations => take(&mut spec.annotations),
            Self::Envoy => take(&mut spec.envoy),
            Self::EnvoyConcurrency => spec.envoy.as_mut().is_some_and(|envoy| take(&mut envoy.concurrency)),
            Self::EnvoyLogLevel => spec.envoy.as_mut().is_some_and(|envoy| take(&mut envoy.log_level)),
            Self::Drain => take(&mut spec.drain),
            Self::AccessLog => take(&mut spec.access_log),
        }
    }
}
