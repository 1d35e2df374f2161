//! The proxies: a Deployment or a DaemonSet of pods that meet PodSecurity `restricted`.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        apps::v1::{
            DaemonSet, DaemonSetSpec, DaemonSetUpdateStrategy, Deployment, DeploymentSpec,
            DeploymentStrategy, RollingUpdateDaemonSet, RollingUpdateDeployment,
        },
        core::v1::{
            Capabilities, Container, ContainerPort, EmptyDirVolumeSource, EnvVar, EnvVarSource,
            HTTPGetAction, ObjectFieldSelector, PodSecurityContext, PodSpec, PodTemplateSpec, Probe,
            ResourceFieldSelector, ResourceRequirements, SeccompProfile, SecretVolumeSource, SecurityContext,
            Sysctl, TopologySpreadConstraint, Volume, VolumeMount,
        },
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{LabelSelector, ObjectMeta},
        util::intstr::IntOrString,
    },
};
use portolan_crds::fleet_config::{ImagePullPolicy, TopologySpread, WhenUnsatisfiable};

use super::{Desired, OwnedKind};
use crate::fleet::{
    cluster::{
        fleet::{Fleet, Installation, PROXY_PORT},
        settings::Scale,
    },
    pod,
    proxy::KILL_GRACE,
};

/// Where a pod has its certificate.
const IDENTITY_FOLDER: &str = "/var/run/portolan/identity";
/// Where it may write: bootstrap, status, the admin socket. The rest of its file system is read-only.
const STATE_VOLUME: &str = "/var/run/portolan/state";
/// The volume belongs to root and is open to its group; the supervisor wants a folder of its own, and makes it.
const STATE_FOLDER: &str = "/var/run/portolan/state/proxy";
/// Whom it runs as. The image has the same; written here so that an image of somebody else's cannot run as root.
const USER: i64 = 65_532;
/// Seconds that a pod may take beyond its drain time and Envoy's own end.
const SLACK: i64 = 5;

pub(super) fn workload(fleet: &Fleet, installation: &Installation) -> Result<Desired, serde_json::Error> {
    let metadata = fleet.meta(fleet.name());
    let selector = LabelSelector { match_labels: Some(fleet.selector()), ..LabelSelector::default() };
    let template = template(fleet, installation);
    let (none, one) = (Some(IntOrString::Int(0)), Some(IntOrString::Int(1)));
    let replicas = match fleet.settings.scale {
        Scale::PerNode => {
            let rolling = RollingUpdateDaemonSet { max_surge: one, max_unavailable: none };
            let daemons = DaemonSet {
                metadata,
                spec: Some(DaemonSetSpec {
                    selector,
                    template,
                    revision_history_limit: Some(2),
                    update_strategy: Some(DaemonSetUpdateStrategy {
                        type_: Some("RollingUpdate".to_owned()),
                        rolling_update: Some(rolling),
                    }),
                    ..DaemonSetSpec::default()
                }),
                ..DaemonSet::default()
            };
            return Desired::new(OwnedKind::DaemonSet, &daemons);
        }
        Scale::Fixed(replicas) => replicas,
        // Where the Deployment exists already its number is the autoscaler's: whoever applies it leaves it out.
        Scale::Load { min, .. } => min,
    };
    let rolling = RollingUpdateDeployment { max_surge: one, max_unavailable: none };
    let deployment = Deployment {
        metadata,
        spec: Some(DeploymentSpec {
            replicas: Some(replicas),
            selector,
            template,
            revision_history_limit: Some(2),
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(rolling),
            }),
            ..DeploymentSpec::default()
        }),
        ..Deployment::default()
    };
    Desired::new(OwnedKind::Deployment, &deployment)
}

fn template(fleet: &Fleet, installation: &Installation) -> PodTemplateSpec {
    let settings = &fleet.settings;
    let mut annotations: BTreeMap<String, String> = [
        ("prometheus.io/scrape", "true".to_owned()),
        ("prometheus.io/port", PROXY_PORT.to_string()),
        ("prometheus.io/path", pod::METRICS_PATH.to_owned()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    annotations.extend(fleet.annotations());
    let grace = i64::from(settings.drain_timeout) + KILL_GRACE.as_secs().cast_signed() + SLACK;
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(fleet.labels()),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            service_account_name: Some(fleet.name()),
            automount_service_account_token: Some(false),
            // Variables for every Service of the namespace help nobody here.
            enable_service_links: Some(false),
            containers: vec![container(fleet, installation)],
            volumes: Some(volumes(fleet)),
            termination_grace_period_seconds: Some(grace),
            node_selector: Some(settings.node_selector.clone()).filter(|all| !all.is_empty()),
            tolerations: Some(settings.tolerations.clone()).filter(|all| !all.is_empty()),
            topology_spread_constraints: Some(spread(fleet)).filter(|all| !all.is_empty()),
            image_pull_secrets: Some(settings.image_pull_secrets.clone()).filter(|all| !all.is_empty()),
            security_context: Some(PodSecurityContext {
                run_as_non_root: Some(true),
                run_as_user: Some(USER),
                run_as_group: Some(USER),
                // So that the certificate's files can be read, and nothing else about them.
                fs_group: Some(USER),
                seccomp_profile: Some(SeccompProfile {
                    type_: "RuntimeDefault".to_owned(),
                    ..SeccompProfile::default()
                }),
                // A safe sysctl, of the pod's own network: listeners bind their ports without a capability.
                sysctls: Some(vec![Sysctl {
                    name: "net.ipv4.ip_unprivileged_port_start".to_owned(),
                    value: "0".to_owned(),
                }]),
                ..PodSecurityContext::default()
            }),
            ..PodSpec::default()
        }),
    }
}

fn container(fleet: &Fleet, installation: &Installation) -> Container {
    let settings = &fleet.settings;
    Container {
        name: "proxy".to_owned(),
        image: Some(settings.image.clone().unwrap_or_else(|| installation.proxy_image.clone())),
        image_pull_policy: settings.image_pull_policy.map(|policy| pull_policy(policy).to_owned()),
        args: Some(arguments(fleet, installation)),
        env: Some(environment(fleet)),
        ports: Some(vec![ContainerPort {
            name: Some("metrics".to_owned()),
            container_port: PROXY_PORT.into(),
            protocol: Some("TCP".to_owned()),
            ..ContainerPort::default()
        }]),
        resources: Some(ResourceRequirements {
            requests: Some(settings.requests.clone()).filter(|all| !all.is_empty()),
            limits: Some(settings.limits.clone()).filter(|all| !all.is_empty()),
            ..ResourceRequirements::default()
        }),
        // A pod gets traffic once Envoy has its configuration; its first seconds count.
        readiness_probe: Some(probe(pod::READY_PATH, 1, 2)),
        // The supervisor restarts an Envoy that dies. This is for a supervisor that hangs.
        liveness_probe: Some(probe(pod::LIVE_PATH, 10, 6)),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            run_as_non_root: Some(true),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
            ..SecurityContext::default()
        }),
        volume_mounts: Some(vec![
            VolumeMount {
                name: "identity".to_owned(),
                mount_path: IDENTITY_FOLDER.to_owned(),
                read_only: Some(true),
                ..VolumeMount::default()
            },
            VolumeMount {
                name: "state".to_owned(),
                mount_path: STATE_VOLUME.to_owned(),
                ..VolumeMount::default()
            },
        ]),
        ..Container::default()
    }
}

/// What `portolan proxy` is told; the image's entry point is that command.
fn arguments(fleet: &Fleet, installation: &Installation) -> Vec<String> {
    let settings = &fleet.settings;
    [
        ("--gateway", fleet.gateway.to_string()),
        ("--xds-address", format!("{}:{}", installation.xds_host, installation.xds_port)),
        ("--identity", IDENTITY_FOLDER.to_owned()),
        ("--state-dir", STATE_FOLDER.to_owned()),
        ("--pod-port", PROXY_PORT.to_string()),
        ("--drain-time", settings.drain_timeout.to_string()),
        ("--min-drain-time", settings.drain_minimum.to_string()),
        // Serving never depends on the operator.
        ("--max-detached", "0".to_owned()),
        ("--log-level", settings.log_level.as_str().to_owned()),
    ]
    .map(|(name, value)| format!("{name}={value}"))
    .into()
}

fn environment(fleet: &Fleet) -> Vec<EnvVar> {
    let of = |name: &str, source: EnvVarSource| EnvVar {
        name: name.to_owned(),
        value_from: Some(source),
        ..EnvVar::default()
    };
    let field = |path: &str| EnvVarSource {
        field_ref: Some(ObjectFieldSelector {
            field_path: path.to_owned(),
            ..ObjectFieldSelector::default()
        }),
        ..EnvVarSource::default()
    };
    // Without a limit these are what the node has.
    let limit = |resource: &str| EnvVarSource {
        resource_field_ref: Some(ResourceFieldSelector {
            container_name: Some("proxy".to_owned()),
            resource: resource.to_owned(),
            // As the API server writes it, so that nothing looks changed.
            divisor: Some(Quantity("0".to_owned())),
        }),
        ..EnvVarSource::default()
    };
    let threads = match fleet.settings.concurrency {
        Some(number) => {
            EnvVar { name: pod::CONCURRENCY.to_owned(), value: Some(number.to_string()), ..EnvVar::default() }
        }
        None => of(pod::CONCURRENCY, limit("limits.cpu")),
    };
    vec![of(pod::NAME, field("metadata.name")), of(pod::MEMORY, limit("limits.memory")), threads]
}

fn probe(path: &str, period: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::Int(PROXY_PORT.into()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period),
        timeout_seconds: Some(2),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

fn volumes(fleet: &Fleet) -> Vec<Volume> {
    vec![
        Volume {
            name: "identity".to_owned(),
            secret: Some(SecretVolumeSource {
                secret_name: Some(fleet.identity_name()),
                // The owner is root; the group is the pod's.
                default_mode: Some(0o440),
                ..SecretVolumeSource::default()
            }),
            ..Volume::default()
        },
        Volume {
            name: "state".to_owned(),
            empty_dir: Some(EmptyDirVolumeSource {
                size_limit: Some(Quantity("64Mi".to_owned())),
                ..EmptyDirVolumeSource::default()
            }),
            ..Volume::default()
        },
    ]
}

fn spread(fleet: &Fleet) -> Vec<TopologySpreadConstraint> {
    let constraint = |spread: &TopologySpread| TopologySpreadConstraint {
        topology_key: spread.topology_key.clone(),
        max_skew: spread.max_skew.unwrap_or(1),
        when_unsatisfiable: match spread.when_unsatisfiable.unwrap_or_default() {
            WhenUnsatisfiable::DoNotSchedule => "DoNotSchedule",
            WhenUnsatisfiable::ScheduleAnyway => "ScheduleAnyway",
        }
        .to_owned(),
        label_selector: Some(LabelSelector {
            match_labels: Some(fleet.selector()),
            ..LabelSelector::default()
        }),
        // While a roll is under way, its new pods are spread among themselves.
        match_label_keys: Some(vec!["pod-template-hash".to_owned()])
            .filter(|_| fleet.settings.scale != Scale::PerNode),
        ..TopologySpreadConstraint::default()
    };
    fleet.settings.topology_spread.iter().map(constraint).collect()
}

fn pull_policy(policy: ImagePullPolicy) -> &'static str {
    match policy {
        ImagePullPolicy::Always => "Always",
        ImagePullPolicy::IfNotPresent => "IfNotPresent",
        ImagePullPolicy::Never => "Never",
    }
}
