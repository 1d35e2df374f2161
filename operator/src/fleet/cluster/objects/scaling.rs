//! How many proxies there are, and how many an eviction leaves.

use k8s_openapi::{
    api::{
        autoscaling::v2::{
            CrossVersionObjectReference, HorizontalPodAutoscaler, HorizontalPodAutoscalerSpec, MetricSpec,
            MetricTarget, ResourceMetricSource,
        },
        policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec},
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};

use crate::fleet::cluster::{
    fleet::Fleet,
    settings::{Budget, Scale},
};

pub(super) fn autoscaler(fleet: &Fleet) -> Option<HorizontalPodAutoscaler> {
    let Scale::Load { min, max, cpu_percent, memory_percent } = fleet.settings.scale else { return None };
    let metrics = [("cpu", cpu_percent), ("memory", memory_percent)];
    Some(HorizontalPodAutoscaler {
        metadata: fleet.meta(fleet.name()),
        spec: Some(HorizontalPodAutoscalerSpec {
            scale_target_ref: CrossVersionObjectReference {
                api_version: Some("apps/v1".to_owned()),
                kind: "Deployment".to_owned(),
                name: fleet.name(),
            },
            min_replicas: Some(min),
            max_replicas: max,
            metrics: Some(
                metrics.into_iter().filter_map(|(name, percent)| Some(metric(name, percent?))).collect(),
            ),
            ..HorizontalPodAutoscalerSpec::default()
        }),
        ..HorizontalPodAutoscaler::default()
    })
}

fn metric(resource: &str, percent: i32) -> MetricSpec {
    MetricSpec {
        type_: "Resource".to_owned(),
        resource: Some(ResourceMetricSource {
            name: resource.to_owned(),
            target: MetricTarget {
                type_: "Utilization".to_owned(),
                average_utilization: Some(percent),
                ..MetricTarget::default()
            },
        }),
        ..MetricSpec::default()
    }
}

pub(super) fn budget(fleet: &Fleet) -> Option<PodDisruptionBudget> {
    let (max_unavailable, min_available) = match fleet.settings.budget.clone()? {
        Budget::MaxUnavailable(most) => (Some(most), None),
        Budget::MinAvailable(least) => (None, Some(least)),
    };
    Some(PodDisruptionBudget {
        metadata: fleet.meta(fleet.name()),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable,
            min_available,
            selector: Some(LabelSelector {
                match_labels: Some(fleet.selector()),
                ..LabelSelector::default()
            }),
            // A proxy that never got ready must not keep its node from being drained.
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
        }),
        ..PodDisruptionBudget::default()
    })
}
