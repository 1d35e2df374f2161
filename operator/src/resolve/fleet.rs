//! What a Gateway asks of whoever runs its proxies: ports, addresses, and what the fleet's objects carry.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use portolan_xds::ir::Transport;
use serde::Serialize;

use super::{Engine, Fault, Unit, engine::State};
use crate::{
    model::{Address, Kind, ObjectKey, ParametersRef},
    world::{Read, View},
};

/// The plan of a Gateway's fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FleetPlan {
    /// metadata.generation of the Gateway.
    pub generation: i64,
    /// The GatewayClass.
    pub class: Arc<str>,
    /// Ports that its accepted listeners use.
    pub ports: BTreeSet<(u16, Transport)>,
    /// Addresses that are asked for, in order: one that names no value asks for any of its type.
    pub addresses: Vec<Address>,
    /// Labels of the fleet's objects (GatewayInfrastructure).
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
    /// Annotations of the fleet's objects.
    pub annotations: BTreeMap<Arc<str>, Arc<str>>,
    /// Parameters of the class.
    pub class_parameters: Option<ParametersRef>,
    /// Parameters of the Gateway, which override those of the class.
    pub parameters: Option<ParametersRef>,
    /// Why the Gateway is not accepted as a whole. A fleet that exists is left as it is; none is made.
    pub fault: Option<Fault>,
}

impl FleetPlan {
    /// The IP addresses that must be among those that the Gateway gets.
    pub(super) fn required(&self) -> impl Iterator<Item = &Arc<str>> {
        self.addresses.iter().filter_map(|address| address.value.as_ref())
    }
}

/// Resolves [`Unit::Fleet`].
pub(super) fn fleet(view: &View<'_>, state: &State, key: &ObjectKey) -> Option<FleetPlan> {
    view.record(Read::Output(Unit::Listeners(key.clone())));
    let listeners = state.listeners(key)?;
    let gateway = view.gateway(key)?;
    let class = ObjectKey::new(Kind::GatewayClass, "", gateway.class.clone());
    view.record(Read::Output(Unit::Class(class.clone())));
    let infrastructure = &gateway.infrastructure;
    let empty = |value: &Option<Arc<str>>| value.as_ref().is_none_or(|text| text.is_empty());
    let addresses = gateway.addresses.iter().map(|address| Address {
        value: address.value.clone().filter(|_| !empty(&address.value)),
        routability: address.routability.clone().filter(|_| !empty(&address.routability)),
        ..address.clone()
    });
    Some(FleetPlan {
        generation: gateway.meta.generation,
        class: gateway.class.clone(),
        ports: listeners.ports(),
        addresses: addresses.collect(),
        labels: infrastructure.labels.clone(),
        annotations: infrastructure.annotations.clone(),
        class_parameters: state.class(&class).and_then(|class| class.parameters.clone()),
        parameters: infrastructure.parameters_ref.clone(),
        fault: unsupported_address(&gateway.addresses)
            .or_else(|| infrastructure.parameters_ref.as_ref().map(no_parameters)),
    })
}

fn unsupported_address(addresses: &[Address]) -> Option<Fault> {
    let fault = |message: String| Some(Fault::new("UnsupportedAddress", message));
    addresses.iter().enumerate().find_map(|(index, address)| {
        if &*address.type_ != "IPAddress" {
            return fault(format!(
                "addresses[{index}]: type {} is not supported: use IPAddress",
                address.type_
            ));
        }
        match address.routability.as_deref() {
            None | Some("" | "Cluster") => None,
            Some(other) => fault(format!("addresses[{index}]: routability {other} is not supported")),
        }
    })
}

/// Text of an address that is no IP address: nobody can assign it.
pub(super) fn not_an_ip(text: &str) -> Option<String> {
    text.parse::<IpAddr>().is_err().then(|| format!("{text:?} is not an IP address"))
}

pub(super) fn no_parameters(reference: &ParametersRef) -> Fault {
    Fault::new(
        "InvalidParameters",
        format!(
            "parametersRef {}/{} {}: no kind of parameters is supported yet; remove the field",
            reference.group, reference.kind, reference.name
        ),
    )
}

impl Engine {
    /// What a Gateway of ours asks of its fleet.
    pub fn fleet_plan(&self, gateway: &ObjectKey) -> Option<&Arc<FleetPlan>> {
        self.state.fleet(gateway)
    }

    /// The plans of all Gateways of ours.
    pub fn fleet_plans(&self) -> impl Iterator<Item = (&ObjectKey, &Arc<FleetPlan>)> {
        self.gateways.iter().filter_map(|key| Some((key, self.state.fleet(key)?)))
    }

    /// Gateways of ours, with the ports that their fleets should bind.
    pub fn wanted_ports(&self) -> BTreeMap<ObjectKey, BTreeSet<(u16, Transport)>> {
        self.fleet_plans().map(|(key, plan)| (key.clone(), plan.ports.clone())).collect()
    }
}
