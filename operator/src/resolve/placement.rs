//! What a fleet says about its Gateway: which addresses its ports got, and under which clients reach it.

use std::{collections::BTreeMap, net::SocketAddr};

use portolan_xds::ir::Transport;

use super::{AddressReport, Engine, Fault, FleetPlan, fleet};
use crate::model::{Address, ObjectKey};

/// Which addresses a fleet gave a Gateway's ports, or why it could not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// By port in the API.
    pub ports: BTreeMap<(u16, Transport), Result<Vec<SocketAddr>, String>>,
    /// Where clients reach the Gateway.
    pub addresses: Addresses,
    /// Whether one of its proxies serves. Once it has been so it stays so until the fleet goes: restarting, scaling and
    /// rolling take nothing back.
    pub ready: bool,
    /// Why none does, as far as is known: for whoever waits for it.
    pub trouble: Option<String>,
}

/// Where clients reach a Gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Addresses {
    /// At the addresses that its ports are bound to: a fleet on this host.
    #[default]
    Bound,
    /// Not known yet, and why: `AddressNotAssigned`.
    Pending {
        /// What it has got so far.
        assigned: Vec<AddressReport>,
        /// What it waits for.
        why: String,
    },
    /// At these, given by something before the proxies: a Service. One that the Gateway asks for and that is not
    /// among them is not usable.
    Assigned(Vec<AddressReport>),
    /// As [`Addresses::Assigned`], and why an address that the Gateway asks for cannot be had: `AddressNotUsable`.
    Refused {
        /// What it got.
        assigned: Vec<AddressReport>,
        /// Which address is refused, and why.
        why: String,
    },
}

impl Placement {
    /// Of a fleet whose clients dial the addresses that its ports are bound to, and that serves them.
    pub fn bound(
        ports: impl IntoIterator<Item = ((u16, Transport), Result<Vec<SocketAddr>, String>)>,
    ) -> Self {
        Self { ports: ports.into_iter().collect(), addresses: Addresses::Bound, ready: true, trouble: None }
    }
}

impl Engine {
    /// What the fleet of a Gateway said last.
    pub fn placement(&self, gateway: &ObjectKey) -> Option<&Placement> {
        self.state.placement(gateway)
    }

    /// The socket addresses that a Gateway got, sorted.
    pub fn bound(&self, gateway: &ObjectKey) -> Vec<SocketAddr> {
        let placement = self.state.placement(gateway);
        let ports = placement.into_iter().flat_map(|placement| placement.ports.values().flatten().flatten());
        let mut bound: Vec<_> = ports.copied().collect();
        bound.sort_unstable();
        bound
    }

    /// The addresses for status, and what is wrong with them (GatewayConditionProgrammed).
    pub(super) fn addresses(
        &self,
        gateway: &ObjectKey,
        plan: &FleetPlan,
    ) -> (Vec<AddressReport>, Option<Fault>) {
        let Some(placement) = self.state.placement(gateway) else { return (Vec::new(), None) };
        let unassigned = |message: &str| Some(Fault::new("AddressNotAssigned", message));
        let unusable = |message: String| Some(Fault::new("AddressNotUsable", message));
        let (mut assigned, refusal) = match &placement.addresses {
            Addresses::Bound => {
                let ips = self.bound(gateway).into_iter().map(|at| AddressReport::ip(at.ip()));
                (ips.collect(), None)
            }
            Addresses::Pending { assigned, why } => return (assigned.clone(), unassigned(why)),
            Addresses::Assigned(assigned) => (assigned.clone(), None),
            Addresses::Refused { assigned, why } => (assigned.clone(), Some(why.clone())),
        };
        assigned.sort();
        assigned.dedup();
        // A host has no inside and outside: there the value alone counts.
        let bound = placement.addresses == Addresses::Bound;
        let has = |asked: &Address, value: &str| {
            assigned.iter().any(|one| if bound { one.value == value } else { one.is(asked) })
        };
        let missing = plan.required().find(|(asked, value)| !has(asked, value)).map(|(_, value)| value);
        let fault = match (refusal, missing) {
            (Some(why), _) => unusable(why),
            (None, Some(value)) => unusable(fleet::not_an_ip(value).unwrap_or_else(|| {
                format!("address {value} is not assigned to the Gateway: remove it, or ask for one that can be had")
            })),
            (None, None) if assigned.is_empty() => unassigned("the Gateway has no address yet"),
            (None, None) => None,
        };
        (assigned, fault)
    }
}
