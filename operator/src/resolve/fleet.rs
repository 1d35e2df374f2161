//! What a Gateway asks of whoever runs its proxies: ports, addresses, and what the fleet's objects carry.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use portolan_crds::fleet_config::{FleetConfigSpec, Inherited, LockedField};
use portolan_xds::ir::Transport;
use serde::Serialize;

use super::{Engine, Fault, Unit, class::class_of, engine::State, parameters::parameters};
use crate::{
    fleet::cluster::Settings,
    model::{Address, ObjectKey},
    world::{Read, View},
};

/// The plan of a Gateway's fleet.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FleetPlan {
    /// metadata.uid of the Gateway; empty for files.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub uid: Arc<str>,
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
    /// The FleetConfig that holds: the Gateway's over that of its class.
    pub config: FleetConfigSpec,
    /// Fields of the Gateway's FleetConfig that its class locks.
    pub ignored: Vec<LockedField>,
    /// Why the Gateway is not accepted as a whole. A fleet that exists is left as it is; none is made.
    pub fault: Option<Fault>,
}

impl FleetPlan {
    /// The IP addresses that must be among those that the Gateway gets.
    pub fn required(&self) -> impl Iterator<Item = (&Address, &str)> {
        self.addresses.iter().filter_map(|address| Some((address, address.value.as_deref()?)))
    }
}

/// Resolves [`Unit::Fleet`].
pub(super) fn fleet(view: &View<'_>, state: &State, key: &ObjectKey) -> Option<FleetPlan> {
    view.record(Read::Output(Unit::Listeners(key.clone())));
    let listeners = state.listeners(key)?;
    let gateway = view.gateway(key)?;
    let class = class_of(view, state, &gateway)?;
    let infrastructure = &gateway.infrastructure;
    let empty = |value: &Option<Arc<str>>| value.as_ref().is_none_or(|text| text.is_empty());
    let addresses = gateway.addresses.iter().map(|address| Address {
        value: address.value.clone().filter(|_| !empty(&address.value)),
        routability: address.routability.clone().filter(|_| !empty(&address.routability)),
        ..address.clone()
    });
    let (own, fault) = parameters(view, infrastructure.parameters_ref.as_ref(), Some(&key.namespace));
    let Inherited { spec: config, ignored } = (*own).clone().over(&class.config);
    let contradiction = || {
        Settings::of(&config)
            .err()
            .map(|error| Fault::new("InvalidParameters", format!("FleetConfig: {error}")))
    };
    let fault = unsupported_address(&gateway.addresses)
        .or_else(|| class.fault.as_ref().map(|fault| of_class(&gateway.class, fault)))
        .or(fault)
        .or_else(contradiction);
    Some(FleetPlan {
        uid: gateway.meta.uid.clone(),
        generation: gateway.meta.generation,
        class: gateway.class.clone(),
        ports: listeners.ports(),
        addresses: addresses.collect(),
        labels: infrastructure.labels.clone(),
        annotations: infrastructure.annotations.clone(),
        config,
        ignored,
        fault,
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
            None | Some("" | Address::CLUSTER) => None,
            Some(other) => fault(format!(
                "addresses[{index}]: routability {other} is not supported: use {}, or leave it out",
                Address::CLUSTER
            )),
        }
    })
}

/// Text of an address that is no IP address: nobody can assign it.
pub(super) fn not_an_ip(text: &str) -> Option<String> {
    text.parse::<IpAddr>().is_err().then(|| format!("{text:?} is not an IP address"))
}

fn of_class(class: &str, fault: &Fault) -> Fault {
    Fault::new(fault.reason, format!("GatewayClass {class}: {}", fault.message))
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
