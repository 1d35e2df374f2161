//! GatewayClasses: which are ours.

use std::sync::Arc;

use portolan_crds::fleet_config::FleetConfigSpec;

use super::{Fault, Unit, engine::State, parameters::parameters};
use crate::{
    model::{Gateway, Kind, ObjectKey},
    world::{Read, View},
};

/// The controller name of GatewayClasses that are ours.
pub(super) const CONTROLLER: &str = portolan_crds::names::CONTROLLER_NAME;

/// A GatewayClass of ours.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassOut {
    /// metadata.generation.
    pub generation: i64,
    /// The FleetConfig of its Gateways; empty without parametersRef.
    pub config: Arc<FleetConfigSpec>,
    /// Why parametersRef cannot be followed.
    pub fault: Option<Fault>,
}

/// Resolves [`super::Unit::Class`].
pub(super) fn class(view: &View<'_>, key: &ObjectKey) -> Option<ClassOut> {
    let class = view.gateway_class(key).filter(|class| *class.controller == *CONTROLLER)?;
    let (config, fault) = parameters(view, class.parameters.as_ref(), None);
    Some(ClassOut { generation: class.meta.generation, config, fault })
}

/// The class of a Gateway, if it is ours.
pub(super) fn class_of<'s>(
    view: &View<'_>,
    state: &'s State,
    gateway: &Gateway,
) -> Option<&'s Arc<ClassOut>> {
    let class = ObjectKey::new(Kind::GatewayClass, "", gateway.class.clone());
    view.record(Read::Output(Unit::Class(class.clone())));
    state.class(&class)
}
