//! From what a fleet should be to its Kubernetes objects. Pure: the same fleet gives the same bytes.
//!
//! The pod template holds nothing of the listeners: a port more or less changes the Service and the configuration that
//! Envoy gets over xDS, and restarts no proxy.

mod scaling;
mod service;
mod workload;

use std::fmt;

use k8s_openapi::{
    ByteString, Metadata, Resource,
    api::core::v1::{Secret, ServiceAccount},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde::Serialize;
use serde_json::Value;

use super::fleet::{Fleet, Installation};

/// The kinds of object that make up a fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OwnedKind {
    /// The proxies' certificate.
    Secret,
    /// Whom the proxies run as.
    ServiceAccount,
    /// What clients connect to.
    Service,
    /// The proxies.
    Deployment,
    /// The proxies, one per node.
    DaemonSet,
    /// Their number by load.
    HorizontalPodAutoscaler,
    /// How many an eviction leaves.
    PodDisruptionBudget,
}

impl OwnedKind {
    /// All of them, in the order in which they are applied: a pod needs its Secret and its account to start.
    pub const ALL: [Self; 7] = [
        Self::Secret,
        Self::ServiceAccount,
        Self::Service,
        Self::Deployment,
        Self::DaemonSet,
        Self::HorizontalPodAutoscaler,
        Self::PodDisruptionBudget,
    ];

    /// The kind's name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Secret => "Secret",
            Self::ServiceAccount => "ServiceAccount",
            Self::Service => "Service",
            Self::Deployment => "Deployment",
            Self::DaemonSet => "DaemonSet",
            Self::HorizontalPodAutoscaler => "HorizontalPodAutoscaler",
            Self::PodDisruptionBudget => "PodDisruptionBudget",
        }
    }

    /// Whether it runs the proxies.
    pub fn is_workload(self) -> bool {
        matches!(self, Self::Deployment | Self::DaemonSet)
    }
}

impl fmt::Display for OwnedKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An object as it should be.
#[derive(Clone, Debug, PartialEq)]
pub struct Desired {
    /// Its kind.
    pub kind: OwnedKind,
    /// Its name.
    pub name: String,
    /// All of it, with apiVersion and kind.
    pub value: Value,
}

impl Desired {
    /// # Errors
    /// Never with the kinds of this module; their types all have a JSON form.
    fn new<T>(kind: OwnedKind, object: &T) -> Result<Self, serde_json::Error>
    where
        T: Resource + Metadata<Ty = ObjectMeta> + Serialize,
    {
        let name = object.metadata().name.clone().unwrap_or_default();
        Ok(Self { kind, name, value: serde_json::to_value(object)? })
    }
}

/// The certificate of a Gateway's proxies, PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// The certificate chain.
    pub certificate: String,
    /// Its key.
    pub key: String,
    /// The authorities of the operator's own certificate.
    pub authorities: String,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

/// The type of the Secrets that hold proxies' certificates. Not `kubernetes.io/tls`: nobody should take one for a
/// listener.
pub const IDENTITY_TYPE: &str = "portolan.dev/proxy-identity";

/// All objects of a fleet but the Secret, in the order in which they are applied.
///
/// # Errors
/// Where an object has no JSON form: a defect.
pub fn objects(fleet: &Fleet, installation: &Installation) -> Result<Vec<Desired>, serde_json::Error> {
    let account = ServiceAccount {
        metadata: fleet.meta(fleet.name()),
        // The proxies talk to nobody but the operator, to whom they show a certificate.
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    };
    let mut objects = vec![Desired::new(OwnedKind::ServiceAccount, &account)?];
    for service in service::services(fleet) {
        objects.push(Desired::new(OwnedKind::Service, &service)?);
    }
    objects.push(workload::workload(fleet, installation)?);
    if let Some(autoscaler) = scaling::autoscaler(fleet) {
        objects.push(Desired::new(OwnedKind::HorizontalPodAutoscaler, &autoscaler)?);
    }
    if let Some(budget) = scaling::budget(fleet) {
        objects.push(Desired::new(OwnedKind::PodDisruptionBudget, &budget)?);
    }
    Ok(objects)
}

/// The Secret with the proxies' certificate.
///
/// # Errors
/// As [`objects`].
pub fn identity(fleet: &Fleet, identity: &Identity) -> Result<Desired, serde_json::Error> {
    let data =
        [("tls.crt", &identity.certificate), ("tls.key", &identity.key), ("ca.crt", &identity.authorities)];
    let data = data.map(|(name, text)| (name.to_owned(), ByteString(text.clone().into_bytes()))).into();
    let secret = Secret {
        metadata: fleet.meta(fleet.identity_name()),
        type_: Some(IDENTITY_TYPE.to_owned()),
        data: Some(data),
        ..Secret::default()
    };
    Desired::new(OwnedKind::Secret, &secret)
}
