//! Laying a Gateway's settings over those of its class.

use std::collections::BTreeMap;

use super::{
    AccessLog, Autoscaling, DrainSettings, EnvoySettings, FleetConfigSpec, LockedField, Resources,
    ServiceSettings, Workload,
};

/// What comes of two FleetConfigs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inherited {
    /// The settings that hold. `locked` is empty: the locks have done their work.
    pub spec: FleetConfigSpec,
    /// Fields that the Gateway set and its class locks; their values were ignored.
    pub ignored: Vec<LockedField>,
}

impl FleetConfigSpec {
    /// This one, of a Gateway, over that of its class: field by field, maps key by key, lists as a whole.
    ///
    /// A choice replaces its alternative too: a Gateway's `replicas` puts the class's `autoscaling` out of force, and
    /// the other way round; its DaemonSet both; its `minAvailable` the class's `maxUnavailable`.
    #[must_use]
    pub fn over(mut self, class: &Self) -> Inherited {
        let mut ignored: Vec<_> = class.locked.clone().unwrap_or_default();
        ignored.retain(|field| field.clear(&mut self));
        let mut class = class.clone();
        class.locked = None;
        self.locked = None;
        let fixed_by_node = self.workload == Some(Workload::DaemonSet);
        if self.replicas.is_some() || fixed_by_node {
            class.autoscaling = None;
        }
        if self.autoscaling.is_some() || fixed_by_node {
            class.replicas = None;
        }
        Inherited { spec: self.inherit(class), ignored }
    }
}

/// Values of a Gateway that take what they lack from those of a class.
trait Inherit: Sized {
    fn inherit(self, class: Self) -> Self;
}

impl<V> Inherit for BTreeMap<String, V> {
    fn inherit(self, mut class: Self) -> Self {
        class.extend(self);
        class
    }
}

fn part<T: Inherit>(own: Option<T>, class: Option<T>) -> Option<T> {
    match (own, class) {
        (Some(own), Some(class)) => Some(own.inherit(class)),
        (own, class) => own.or(class),
    }
}

/// Every field must be in one of the two groups, or the struct below does not compile.
macro_rules! inherit {
    ($($type:ident { whole: [$($whole:ident),*], parts: [$($part:ident),*] })*) => {$(
        impl Inherit for $type {
            fn inherit(self, class: Self) -> Self {
                Self {
                    $($whole: self.$whole.or(class.$whole),)*
                    $($part: part(self.$part, class.$part),)*
                }
            }
        }
    )*};
}

inherit! {
    FleetConfigSpec {
        whole: [workload, replicas, disruption_budget, image, image_pull_policy, image_pull_secrets, tolerations, topology_spread, locked],
        parts: [autoscaling, resources, node_selector, service, labels, annotations, envoy, drain, access_log]
    }
    Autoscaling { whole: [min_replicas, max_replicas, cpu_percent, memory_percent], parts: [] }
    Resources { whole: [], parts: [requests, limits] }
    ServiceSettings { whole: [type_, external_traffic_policy, load_balancer_class], parts: [annotations] }
    EnvoySettings { whole: [concurrency, log_level], parts: [] }
    DrainSettings { whole: [minimum_seconds, timeout_seconds], parts: [] }
    AccessLog { whole: [enabled, fields, request_headers, response_headers], parts: [] }
}
