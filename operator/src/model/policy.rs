//! BackendTLSPolicies: how a Gateway speaks TLS to backends.

use std::sync::Arc;

use serde::Deserialize;

use super::{Meta, ObjectRef};

/// A BackendTLSPolicy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendTlsPolicy {
    /// Metadata.
    pub meta: Meta,
    /// spec.targetRefs.
    pub targets: Vec<PolicyTarget>,
    /// spec.validation.
    pub validation: BackendValidation,
}

/// What a policy is about, in its own namespace.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyTarget {
    /// The target's group; empty is core.
    #[serde(default)]
    pub group: Arc<str>,
    /// The target's kind.
    pub kind: Arc<str>,
    /// The target's name.
    pub name: Arc<str>,
    /// Only the port of this name.
    pub section_name: Option<Arc<str>>,
}

/// BackendTLSPolicyValidation.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackendValidation {
    /// Where the authorities are.
    #[serde(default)]
    pub ca_certificate_refs: Vec<ObjectRef>,
    /// Well-known authorities instead.
    #[serde(rename = "wellKnownCACertificates")]
    pub well_known_ca_certificates: Option<Arc<str>>,
    /// The server name sent, and verified unless `subject_alt_names` is given.
    pub hostname: Arc<str>,
    /// Names of which the backend's certificate must have one.
    #[serde(default)]
    pub subject_alt_names: Vec<SubjectAltName>,
}

/// SubjectAltName.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct SubjectAltName {
    /// `Hostname` or `URI`.
    #[serde(rename = "type")]
    pub type_: Arc<str>,
    /// Of type Hostname.
    pub hostname: Option<Arc<str>>,
    /// Of type URI.
    pub uri: Option<Arc<str>>,
}

impl BackendTlsPolicy {
    /// The Services that it targets, each with the port's name if one is given.
    pub fn services(&self) -> impl Iterator<Item = (&Arc<str>, Option<&Arc<str>>)> {
        let service = |target: &&PolicyTarget| target.group.is_empty() && &*target.kind == "Service";
        self.targets.iter().filter(service).map(|target| (&target.name, target.section_name.as_ref()))
    }
}
