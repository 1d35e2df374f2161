//! GatewayClasses: which are ours.

use crate::{
    model::{ObjectKey, ParametersRef},
    world::View,
};

/// The controller name of GatewayClasses that are ours.
pub(super) const CONTROLLER: &str = portolan_crds::names::CONTROLLER_NAME;

/// A GatewayClass of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassOut {
    /// metadata.generation.
    pub generation: i64,
    /// parametersRef.
    pub parameters: Option<ParametersRef>,
}

/// Resolves [`super::Unit::Class`].
pub(super) fn class(view: &View<'_>, key: &ObjectKey) -> Option<ClassOut> {
    let class = view.gateway_class(key).filter(|class| *class.controller == *CONTROLLER)?;
    Some(ClassOut { generation: class.meta.generation, parameters: class.parameters.clone() })
}
