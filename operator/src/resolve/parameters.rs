//! Following `parametersRef` to a FleetConfig.

use std::sync::Arc;

use portolan_crds::fleet_config::FleetConfigSpec;

use super::Fault;
use crate::{
    model::{Kind, ObjectKey, ParametersRef},
    world::View,
};

/// The FleetConfig that a reference names, or an empty one and why there is none (`InvalidParameters`). `namespace` is
/// the Gateway's; a GatewayClass has none, and names one.
pub(super) fn parameters(
    view: &View<'_>,
    reference: Option<&ParametersRef>,
    namespace: Option<&Arc<str>>,
) -> (Arc<FleetConfigSpec>, Option<Fault>) {
    let Some(reference) = reference else { return (Arc::default(), None) };
    match follow(view, reference, namespace) {
        Ok(config) => (config, None),
        Err(why) => {
            let ParametersRef { group, kind, name, .. } = reference;
            let message = format!("parametersRef {group}/{kind} {name}: {why}");
            (Arc::default(), Some(Fault::new("InvalidParameters", message)))
        }
    }
}

fn follow(
    view: &View<'_>,
    reference: &ParametersRef,
    namespace: Option<&Arc<str>>,
) -> Result<Arc<FleetConfigSpec>, String> {
    let kind = Kind::FleetConfig;
    if (&*reference.group, &*reference.kind) != (kind.group(), kind.as_str()) {
        return Err(format!("expected {}/{kind}", kind.group()));
    }
    let namespace = namespace.or(reference.namespace.as_ref());
    let Some(namespace) = namespace else {
        return Err("it is in a namespace: set parametersRef.namespace".to_owned());
    };
    let key = ObjectKey::new(kind, namespace.clone(), reference.name.clone());
    let found =
        view.fleet_config(&key).ok_or_else(|| format!("there is no {kind} {namespace}/{}", key.name))?;
    found.spec.clone()
}
