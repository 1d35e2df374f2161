//! BackendTLSPolicies: how backends are spoken to over TLS, and which of several policies is in force.
//!
//! A policy that cannot be used closes its backends: what should be encrypted and verified never goes out in clear text.

use std::{collections::BTreeSet, sync::Arc};

use portolan_xds::ir::{self, SecretBody, UpstreamTls, UpstreamTrust};

use super::{
    Fault, RefFrom, Unit,
    authority::{self, AuthorityError},
    engine::State,
};
use crate::{
    model::{BackendTlsPolicy, Hostname, Kind, ObjectKey, Service, ServicePort},
    world::{Read, View},
};

/// A BackendTLSPolicy, resolved.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyOut {
    /// metadata.generation.
    pub generation: i64,
    /// How to speak to its backends; none when it cannot be used.
    pub tls: Option<Arc<BackendTls>>,
    /// The authorities that go out over SDS; none when the system's are trusted, or none can be used.
    pub authorities: Option<Arc<ir::Secret>>,
    /// Why it is not accepted.
    pub fault: Option<Fault>,
    /// References that cannot be used; the first one gives the reason.
    pub unresolved: Vec<Fault>,
    /// Targets on which another policy is in force, or which are not there.
    pub notes: Vec<String>,
}

/// TLS towards a backend, as part of a cluster's identity: another policy makes another cluster, which warms before
/// routes move to it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendTls {
    /// The policy.
    pub policy: ObjectKey,
    /// What it says. The Gateway's own certificate is added for each Gateway.
    pub tls: UpstreamTls,
}

impl BackendTls {
    /// The end of the names of its clusters.
    pub(super) fn hash(&self) -> String {
        let text = format!("{} {:?}", self.policy, self.tls);
        blake3::hash(text.as_bytes()).to_hex().chars().take(8).collect()
    }

    /// The policy whose authorities must be there.
    pub(super) fn authorities(&self) -> Option<&ObjectKey> {
        matches!(self.tls.trust, UpstreamTrust::Authorities(_)).then_some(&self.policy)
    }
}

/// How a port of a Service is spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Connection {
    /// In clear text: no policy is about it.
    Plain,
    /// Over TLS.
    Tls(Arc<BackendTls>),
    /// Not at all: the policy that is about it cannot be used.
    Refused,
}

/// The name of the secret with a policy's authorities.
pub(super) fn secret_name(policy: &ObjectKey) -> ir::SecretName {
    format!("{}/{}/authorities", policy.namespace, policy.name).into()
}

/// How a port is spoken to. A policy about the port alone goes before one about the whole Service; of two, the older
/// (BackendTLSPolicySpec.targetRefs; conformance: BackendTLSPolicyConflictResolution).
pub(super) fn connection(
    view: &View<'_>,
    state: &State,
    service: &Service,
    port: &ServicePort,
) -> Connection {
    let policies = view.policies_on(&service.meta.key.namespace, &service.meta.key.name);
    let about = |section: Option<&Arc<str>>| {
        policies.iter().find(|policy| {
            policy.services().any(|(name, of)| *name == service.meta.key.name && of == section)
        })
    };
    let Some(policy) = about(Some(&port.name)).or_else(|| about(None)) else { return Connection::Plain };
    view.record(Read::Output(Unit::Policy(policy.meta.key.clone())));
    let tls = state.policy(&policy.meta.key).and_then(|policy| policy.tls.clone());
    tls.map_or(Connection::Refused, Connection::Tls)
}

/// Resolves [`Unit::Policy`].
pub(super) fn policy(view: &View<'_>, state: &State, key: &ObjectKey) -> Option<PolicyOut> {
    let policy = view.backend_tls_policy(key)?;
    let (lost, missing) = targets(view, &policy);
    let all = policy.targets.len();
    let mut out = PolicyOut {
        generation: policy.meta.generation,
        tls: None,
        authorities: None,
        fault: None,
        unresolved: Vec::new(),
        notes: lost.iter().chain(&missing).cloned().collect(),
    };
    match trust(view, state, &policy, &mut out) {
        Ok(tls) => out.tls = Some(Arc::new(tls)),
        Err(fault) => out.fault = Some(fault),
    }
    if lost.len() == all {
        out.fault = Some(Fault::new("Conflicted", lost.join("; ")));
    } else if lost.len() + missing.len() == all {
        out.fault = Some(Fault::new("TargetNotFound", out.notes.join("; ")));
    }
    Some(out)
}

/// The targets on which an older policy is in force, and those that are not there.
fn targets(view: &View<'_>, policy: &BackendTlsPolicy) -> (Vec<String>, Vec<String>) {
    let (mut lost, mut missing) = (Vec::new(), Vec::new());
    let namespace = &policy.meta.key.namespace;
    for (position, target) in policy.targets.iter().enumerate() {
        let field = format!("targetRefs[{position}]");
        if !target.group.is_empty() || *target.kind != *Kind::Service.as_str() {
            missing.push(format!("{field}: {} {} is no Service of the core group", target.kind, target.name));
            continue;
        }
        let (name, section) = (&target.name, target.section_name.as_ref());
        let key = ObjectKey::new(Kind::Service, namespace.clone(), name.clone());
        match (view.service(&key), section) {
            (None, _) => {
                missing.push(format!("{field}: {key} does not exist"));
                continue;
            }
            (Some(service), Some(section)) if service.ports.iter().all(|port| port.name != *section) => {
                missing.push(format!("{field}: {key} has no port named {section}"));
                continue;
            }
            _ => {}
        }
        let same = |other: &&Arc<BackendTlsPolicy>| other.services().any(|one| one == (name, section));
        let first = view.policies_on(namespace, name).into_iter().find(|other| same(&other));
        if let Some(first) = first.filter(|first| first.meta.key != policy.meta.key) {
            let what = section.map(|section| format!(" port {section}")).unwrap_or_default();
            lost.push(format!("{field}: {} is older and in force on {key}{what}", first.meta.key));
        }
    }
    (lost, missing)
}

/// What a policy says of TLS; an error means that nothing can be verified.
fn trust(
    view: &View<'_>,
    state: &State,
    policy: &BackendTlsPolicy,
    out: &mut PolicyOut,
) -> Result<BackendTls, Fault> {
    let key = &policy.meta.key;
    let validation = &policy.validation;
    let invalid = |message: String| Fault::new("Invalid", message).at("validation");
    if !validation.hostname.parse::<Hostname>().is_ok_and(|name| !name.is_wildcard()) {
        let text = &validation.hostname;
        return Err(invalid(format!("hostname {text:?} is not a DNS name without wildcard")));
    }
    let mut names = BTreeSet::new();
    for (position, name) in validation.subject_alt_names.iter().enumerate() {
        let value = match (&*name.type_, &name.hostname, &name.uri) {
            ("Hostname", Some(hostname), _) => Some(hostname),
            ("URI", _, Some(uri)) if uri.contains("://") => Some(uri),
            _ => None,
        };
        names.insert(value.cloned().ok_or_else(|| {
            let what = "expected type Hostname with a hostname, or type URI with an absolute uri";
            invalid(format!("subjectAltNames[{position}]: {what}"))
        })?);
    }
    let trust = match validation.well_known_ca_certificates.as_deref().filter(|text| !text.is_empty()) {
        Some(_) if !validation.ca_certificate_refs.is_empty() => {
            return Err(invalid(
                "caCertificateRefs and wellKnownCACertificates exclude each other: keep one".into(),
            ));
        }
        Some("System") => UpstreamTrust::System,
        Some(other) => {
            return Err(invalid(format!(
                "wellKnownCACertificates {other} is not supported: expected System, or use caCertificateRefs"
            )));
        }
        None if validation.ca_certificate_refs.is_empty() => {
            return Err(invalid(
                "names no authorities: give caCertificateRefs or wellKnownCACertificates".into(),
            ));
        }
        None => authorities(view, state, policy, out)?,
    };
    Ok(BackendTls {
        policy: key.clone(),
        tls: UpstreamTls {
            server_name: validation.hostname.clone(),
            trust,
            subject_alt_names: names.into_iter().collect(),
            client_certificate: None,
        },
    })
}

/// Gathers the authorities of the references. Those that cannot be used are told; one that can is enough.
fn authorities(
    view: &View<'_>,
    state: &State,
    policy: &BackendTlsPolicy,
    out: &mut PolicyOut,
) -> Result<UpstreamTrust, Fault> {
    let from = RefFrom { kind: Kind::BackendTlsPolicy, namespace: &policy.meta.key.namespace };
    let mut bundles = Vec::new();
    for (position, reference) in policy.validation.ca_certificate_refs.iter().enumerate() {
        let (reason, message) = match authority::authorities(view, state, &from, reference) {
            Ok(bundle) => {
                bundles.push(bundle);
                continue;
            }
            Err(AuthorityError::Kind(message)) => ("InvalidKind", message),
            Err(AuthorityError::NotPermitted(message) | AuthorityError::Invalid(message)) => {
                ("InvalidCACertificateRef", message)
            }
        };
        let field = format!("validation.caCertificateRefs[{position}]");
        out.unresolved.push(Fault::new(reason, message).at(field));
    }
    if bundles.is_empty() {
        let first = out.unresolved.first().map(|fault| fault.message.clone()).unwrap_or_default();
        return Err(Fault::new(
            "NoValidCACertificate",
            format!("no reference to authorities can be used, so its backends are not spoken to: {first}"),
        ));
    }
    let name = secret_name(&policy.meta.key);
    let body = SecretBody::Authorities { bundle: authority::join(&bundles) };
    out.authorities = Some(Arc::new(ir::Secret { name: name.clone(), body }));
    Ok(UpstreamTrust::Authorities(name))
}
