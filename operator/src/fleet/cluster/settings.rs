//! A FleetConfig with every default filled in, and checked.
//!
//! The API server has checked each FleetConfig by itself; what only shows once a Gateway's lies over that of its
//! class is checked here, so that nothing below has to ask again whether two settings go together.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{LocalObjectReference, Toleration},
    apimachinery::pkg::{api::resource::Quantity, util::intstr::IntOrString},
};
use portolan_crds::fleet_config::{
    Autoscaling, DisruptionBudget, DrainSettings, ExternalTrafficPolicy, FleetConfigSpec, ImagePullPolicy,
    LogLevel, ServiceSettings, ServiceType, TopologySpread, WhenUnsatisfiable, Workload,
};

/// What a proxy requests when nobody says: enough to be scheduled sensibly and for autoscaling to have a base.
const REQUESTS: [(&str, &str); 2] = [("cpu", "100m"), ("memory", "128Mi")];
/// How long a proxy waits for its clients.
const DRAIN_TIMEOUT: i32 = 30;
/// How long a proxy goes on accepting connections: kube-proxy and load balancers learn of its end late.
const DRAIN_MINIMUM: i32 = 5;
/// The use of the requested CPU that autoscaling holds, in percent: Kubernetes' own default.
const CPU_PERCENT: i32 = 80;

/// How many proxies there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scale {
    /// So many.
    Fixed(i32),
    /// As many as the load asks for.
    Load {
        /// The fewest.
        min: i32,
        /// The most.
        max: i32,
        /// Average use of the requested CPU, in percent.
        cpu_percent: Option<i32>,
        /// Average use of the requested memory, in percent.
        memory_percent: Option<i32>,
    },
    /// One on each selected node.
    PerNode,
}

/// How many proxies an eviction leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Budget {
    /// At most so many are gone.
    MaxUnavailable(IntOrString),
    /// At least so many stay.
    MinAvailable(IntOrString),
}

/// The Service's settings. What does not go with its type is left out by whoever writes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceForm {
    /// How it is reached.
    pub type_: ServiceType,
    /// Its own annotations.
    pub annotations: BTreeMap<String, String>,
    /// Which proxies a node forwards to.
    pub external_traffic_policy: Option<ExternalTrafficPolicy>,
    /// Which load balancer serves it.
    pub load_balancer_class: Option<String>,
}

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// How many proxies.
    pub scale: Scale,
    /// How many an eviction leaves; none where there is only one.
    pub budget: Option<Budget>,
    /// The image, if it is not the operator's default.
    pub image: Option<String>,
    /// When it is pulled.
    pub image_pull_policy: Option<ImagePullPolicy>,
    /// Secrets to pull it with.
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// Resource requests.
    pub requests: BTreeMap<String, Quantity>,
    /// Resource limits.
    pub limits: BTreeMap<String, Quantity>,
    /// Labels that a node must have.
    pub node_selector: BTreeMap<String, String>,
    /// Taints that are tolerated.
    pub tolerations: Vec<Toleration>,
    /// How the proxies spread.
    pub topology_spread: Vec<TopologySpread>,
    /// The Service.
    pub service: ServiceForm,
    /// Labels of all objects.
    pub labels: BTreeMap<String, String>,
    /// Annotations of all objects.
    pub annotations: BTreeMap<String, String>,
    /// Envoy's worker threads, if not one per processor.
    pub concurrency: Option<i32>,
    /// What Envoy logs about itself.
    pub log_level: LogLevel,
    /// Seconds for which a proxy that ends still accepts connections.
    pub drain_minimum: i32,
    /// Seconds for which it waits for its clients.
    pub drain_timeout: i32,
}

/// Why a FleetConfig cannot be used: the Gateway API's `InvalidParameters`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A DaemonSet of the class with a number of the Gateway.
    #[error(
        "spec.workload is DaemonSet, which runs one proxy on each node: remove spec.replicas and spec.autoscaling, or set spec.workload to Deployment"
    )]
    DaemonSetWithNumber,
    /// Nobody said how far to scale.
    #[error("spec.autoscaling.maxReplicas is not set: set the most proxies that the Gateway may have")]
    NoMaximum,
    /// The range is empty.
    #[error("spec.autoscaling.minReplicas ({min}) exceeds maxReplicas ({max})")]
    EmptyRange {
        /// The fewest.
        min: i32,
        /// The most.
        max: i32,
    },
    /// The drain times contradict each other.
    #[error("spec.drain.minimumSeconds ({minimum}) exceeds timeoutSeconds ({timeout})")]
    Drain {
        /// The minimum.
        minimum: i32,
        /// The timeout.
        timeout: i32,
    },
}

impl Settings {
    /// Fills in what is not set.
    ///
    /// # Errors
    /// Where settings contradict each other; the message names the fields.
    pub fn of(spec: &FleetConfigSpec) -> Result<Self, SettingsError> {
        let spec = spec.clone();
        let scale = scale(&spec)?;
        let (drain_minimum, drain_timeout) = drain(&spec.drain.unwrap_or_default())?;
        let resources = spec.resources.unwrap_or_default();
        let mut requests: BTreeMap<String, Quantity> =
            REQUESTS.map(|(name, amount)| (name.to_owned(), Quantity(amount.to_owned()))).into();
        let limits = quantities(resources.limits);
        // A request above its limit is refused; one that nobody made gives way.
        requests.retain(|name, _| !limits.contains_key(name));
        requests.extend(quantities(resources.requests));
        let envoy = spec.envoy.unwrap_or_default();
        let topology_spread = spec.topology_spread.unwrap_or_else(|| match scale {
            Scale::PerNode => Vec::new(),
            _ => vec![TopologySpread {
                topology_key: "kubernetes.io/hostname".to_owned(),
                max_skew: Some(1),
                when_unsatisfiable: Some(WhenUnsatisfiable::ScheduleAnyway),
            }],
        });
        Ok(Self {
            budget: budget(spec.disruption_budget, &scale),
            scale,
            image: spec.image,
            image_pull_policy: spec.image_pull_policy,
            image_pull_secrets: spec.image_pull_secrets.unwrap_or_default(),
            requests,
            limits,
            node_selector: spec.node_selector.unwrap_or_default(),
            tolerations: spec.tolerations.unwrap_or_default(),
            topology_spread,
            service: service(spec.service.unwrap_or_default()),
            labels: spec.labels.unwrap_or_default(),
            annotations: spec.annotations.unwrap_or_default(),
            concurrency: envoy.concurrency,
            log_level: envoy.log_level.unwrap_or_default(),
            drain_minimum,
            drain_timeout,
        })
    }
}

fn scale(spec: &FleetConfigSpec) -> Result<Scale, SettingsError> {
    match (spec.workload.unwrap_or_default(), spec.replicas, &spec.autoscaling) {
        (Workload::DaemonSet, None, None) => Ok(Scale::PerNode),
        (Workload::DaemonSet, _, _) => Err(SettingsError::DaemonSetWithNumber),
        (Workload::Deployment, replicas, None) => Ok(Scale::Fixed(replicas.unwrap_or(1))),
        (Workload::Deployment, _, Some(autoscaling)) => by_load(autoscaling),
    }
}

fn by_load(autoscaling: &Autoscaling) -> Result<Scale, SettingsError> {
    let min = autoscaling.min_replicas.unwrap_or(1);
    let max = autoscaling.max_replicas.ok_or(SettingsError::NoMaximum)?;
    if min > max {
        return Err(SettingsError::EmptyRange { min, max });
    }
    let memory_percent = autoscaling.memory_percent;
    let cpu_percent = autoscaling.cpu_percent.or(memory_percent.is_none().then_some(CPU_PERCENT));
    Ok(Scale::Load { min, max, cpu_percent, memory_percent })
}

fn drain(drain: &DrainSettings) -> Result<(i32, i32), SettingsError> {
    let timeout = drain.timeout_seconds.unwrap_or(DRAIN_TIMEOUT);
    let minimum = drain.minimum_seconds.unwrap_or(DRAIN_MINIMUM.min(timeout));
    if minimum > timeout {
        return Err(SettingsError::Drain { minimum, timeout });
    }
    Ok((minimum, timeout))
}

fn budget(asked: Option<DisruptionBudget>, scale: &Scale) -> Option<Budget> {
    match asked {
        Some(DisruptionBudget { min_available: Some(least), .. }) => Some(Budget::MinAvailable(least)),
        Some(DisruptionBudget { max_unavailable: Some(most), .. }) => Some(Budget::MaxUnavailable(most)),
        _ => match scale {
            // One that may not go would block every drain of its node; a DaemonSet's pods are not evicted.
            Scale::Fixed(..=1) | Scale::PerNode | Scale::Load { max: ..=1, .. } => None,
            Scale::Fixed(_) | Scale::Load { .. } => Some(Budget::MaxUnavailable(IntOrString::Int(1))),
        },
    }
}

fn service(settings: ServiceSettings) -> ServiceForm {
    ServiceForm {
        type_: settings.type_.unwrap_or_default(),
        annotations: settings.annotations.unwrap_or_default(),
        external_traffic_policy: settings.external_traffic_policy,
        load_balancer_class: settings.load_balancer_class,
    }
}

fn quantities(amounts: Option<BTreeMap<String, IntOrString>>) -> BTreeMap<String, Quantity> {
    let text = |amount| match amount {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(text) => text,
    };
    amounts.unwrap_or_default().into_iter().map(|(name, amount)| (name, Quantity(text(amount)))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn settings(spec: serde_json::Value) -> Result<Settings, SettingsError> {
        Settings::of(&serde_json::from_value(spec).unwrap())
    }

    #[test]
    fn one_proxy_behind_a_load_balancer_is_the_default() {
        let settings = settings(json!({})).unwrap();
        assert_eq!(settings.scale, Scale::Fixed(1));
        assert_eq!(settings.budget, None);
        assert_eq!(settings.service.type_, ServiceType::LoadBalancer);
        assert_eq!((settings.drain_minimum, settings.drain_timeout), (5, 30));
    }

    #[test]
    fn more_than_one_proxy_has_a_disruption_budget() {
        let one = Some(Budget::MaxUnavailable(IntOrString::Int(1)));
        assert_eq!(settings(json!({"replicas": 2})).unwrap().budget, one);
        assert_eq!(settings(json!({"autoscaling": {"maxReplicas": 2}})).unwrap().budget, one);
        assert_eq!(settings(json!({"replicas": 0})).unwrap().budget, None);
        assert_eq!(settings(json!({"autoscaling": {"maxReplicas": 1}})).unwrap().budget, None);
        let asked = json!({"replicas": 1, "disruptionBudget": {"minAvailable": "50%"}});
        let half = Budget::MinAvailable(IntOrString::String("50%".into()));
        assert_eq!(settings(asked).unwrap().budget, Some(half));
    }

    #[test]
    fn memory_alone_can_drive_autoscaling() {
        let Scale::Load { cpu_percent, memory_percent, .. } =
            settings(json!({"autoscaling": {"maxReplicas": 3, "memoryPercent": 70}})).unwrap().scale
        else {
            panic!("not by load")
        };
        assert_eq!((cpu_percent, memory_percent), (None, Some(70)));
    }

    #[test]
    fn a_default_request_gives_way_to_a_limit() {
        let settings = settings(json!({"resources": {"limits": {"memory": "64Mi"}}})).unwrap();
        assert_eq!(settings.requests.keys().collect::<Vec<_>>(), ["cpu"]);
        let quantity = |text: &str| Quantity(text.to_owned());
        assert_eq!(settings.limits, [("memory".to_owned(), quantity("64Mi"))].into());
    }

    #[test]
    fn a_short_timeout_shortens_the_minimum_that_nobody_set() {
        let settings = settings(json!({"drain": {"timeoutSeconds": 2}})).unwrap();
        assert_eq!((settings.drain_minimum, settings.drain_timeout), (2, 2));
    }

    #[test]
    fn settings_that_contradict_each_other_name_their_fields() {
        for (spec, expected) in [
            (json!({"workload": "DaemonSet", "replicas": 2}), SettingsError::DaemonSetWithNumber),
            (json!({"autoscaling": {"minReplicas": 2}}), SettingsError::NoMaximum),
            (
                json!({"autoscaling": {"minReplicas": 3, "maxReplicas": 2}}),
                SettingsError::EmptyRange { min: 3, max: 2 },
            ),
            (
                json!({"drain": {"minimumSeconds": 9, "timeoutSeconds": 3}}),
                SettingsError::Drain { minimum: 9, timeout: 3 },
            ),
        ] {
            let error = settings(spec).unwrap_err();
            assert_eq!(error, expected);
            assert!(error.to_string().contains("spec."), "{error}");
        }
    }
}
