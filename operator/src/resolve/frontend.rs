//! How a Gateway validates the clients of its HTTPS listeners (GEP-91).

use std::{collections::BTreeMap, sync::Arc};

use portolan_xds::ir::{self, SecretBody};

use super::{
    Fault, RefFrom,
    authority::{self, AuthorityError},
    class::class_of,
    engine::State,
};
use crate::{
    model::{Kind, ObjectKey, Validation, ValidationMode},
    world::View,
};

/// The validation of clients, by port.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FrontendOut {
    default: Option<Arc<ClientCheck>>,
    per_port: BTreeMap<u16, Option<Arc<ClientCheck>>>,
}

/// One way to validate clients.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientCheck {
    /// The authorities; none when no reference can be used: then the listeners serve nothing.
    pub authorities: Option<Arc<ir::Secret>>,
    /// Whether clients without a valid certificate are let in.
    pub insecure_fallback: bool,
    /// References that cannot be used.
    pub faults: Vec<Fault>,
}

impl FrontendOut {
    /// What holds on a port. An entry of the port replaces the default, also by nothing (FrontendTLSConfig.perPort).
    pub fn on(&self, port: u16) -> Option<&Arc<ClientCheck>> {
        self.per_port.get(&port).unwrap_or(&self.default).as_ref()
    }

    /// Whether clients without a valid certificate are let in anywhere.
    pub fn insecure(&self) -> bool {
        self.per_port.values().chain([&self.default]).flatten().any(|check| check.insecure_fallback)
    }
}

impl ClientCheck {
    /// Why listeners with this check are not accepted, if they are not.
    pub fn refusal(&self) -> Option<Fault> {
        let first = self.faults.first().filter(|_| self.authorities.is_none())?;
        Some(Fault::new(
            "NoValidCACertificate",
            format!("no reference to authorities can be used: {}", first.message),
        ))
    }
}

/// Resolves [`super::Unit::Frontend`].
pub(super) fn frontend(view: &View<'_>, state: &State, key: &ObjectKey) -> Option<FrontendOut> {
    let gateway = view.gateway(key)?;
    class_of(view, state, &gateway)?;
    let base = format!("{}/{}/clients", key.namespace, key.name);
    let of = |validation: &Option<Validation>, name: String, field: &str| {
        validation.as_ref().map(|validation| Arc::new(check((view, state), key, validation, name, field)))
    };
    Some(FrontendOut {
        default: of(&gateway.frontend.default, base.clone(), "default"),
        per_port: gateway
            .frontend
            .per_port
            .iter()
            .map(|(port, validation)| {
                (*port, of(validation, format!("{base}/{port}"), &format!("perPort[{port}].tls")))
            })
            .collect(),
    })
}

/// The secret is named by where it is used, so that an edit of the references changes no listener.
fn check(
    (view, state): (&View<'_>, &State),
    gateway: &ObjectKey,
    validation: &Validation,
    name: String,
    field: &str,
) -> ClientCheck {
    let field = format!("tls.frontend.{field}.validation.caCertificateRefs");
    let from = RefFrom { kind: Kind::Gateway, namespace: &gateway.namespace };
    let (mut bundles, mut faults) = (Vec::new(), Vec::new());
    for (position, reference) in validation.ca_certificate_refs.iter().enumerate() {
        let (reason, message) = match authority::authorities(view, state, &from, reference) {
            Ok(bundle) => {
                bundles.push(bundle);
                continue;
            }
            Err(AuthorityError::Kind(message)) => ("InvalidCACertificateKind", message),
            Err(AuthorityError::NotPermitted(message)) => ("RefNotPermitted", message),
            Err(AuthorityError::Invalid(message)) => ("InvalidCACertificateRef", message),
        };
        faults.push(Fault::new(reason, message).at(format!("{field}[{position}]")));
    }
    if bundles.is_empty() && faults.is_empty() {
        faults.push(Fault::new("InvalidCACertificateRef", "is empty: expected at least one").at(&field));
    }
    let body = SecretBody::Authorities { bundle: authority::join(&bundles) };
    let secret = Arc::new(ir::Secret { name: name.into(), body });
    ClientCheck {
        authorities: (!bundles.is_empty()).then_some(secret),
        insecure_fallback: validation.mode == ValidationMode::AllowInsecureFallback,
        faults,
    }
}
