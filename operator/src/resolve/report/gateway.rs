//! Status of Gateways.

use std::collections::BTreeSet;

use super::{AddressReport, GatewayReport, Judge, Programmed, Status};
use crate::{
    model::ObjectKey,
    resolve::{Engine, Unit},
};

impl Engine {
    pub(super) fn gateway_report(&self, key: &ObjectKey, programmed: &Programmed) -> Option<GatewayReport> {
        let out = self.state.listeners(key)?;
        let judge = Judge(out.generation);
        let listeners: Vec<_> =
            out.listeners.iter().map(|one| self.listener_report(key, out, one, programmed)).collect();
        let bad: Vec<&str> =
            out.listeners.iter().filter(|one| one.fault.is_some()).map(|one| &*one.name).collect();
        let accepted = if bad.is_empty() {
            judge.yes("Accepted", "Accepted", "the Gateway is accepted")
        } else {
            let message = format!("listeners that are not accepted: {}", bad.join(", "));
            if bad.len() < out.listeners.len() {
                judge.yes("Accepted", "ListenersNotValid", message)
            } else {
                judge.no("Accepted", "ListenersNotValid", message)
            }
        };
        let served = listeners.iter().any(|one| {
            !one.conditions
                .iter()
                .any(|condition| condition.reason == "Invalid" || condition.reason == "PortUnavailable")
        });
        let condition = if accepted.status == Status::False || !served {
            judge.no("Programmed", "Invalid", "no listener can be served")
        } else {
            judge.programmed("Programmed", programmed)
        };
        let addresses: BTreeSet<AddressReport> = self
            .bound(key)
            .into_iter()
            .map(|address| AddressReport { type_: "IPAddress", value: address.ip().to_string() })
            .collect();
        let addresses = addresses.into_iter().collect();
        Some(GatewayReport { addresses, conditions: vec![accepted, condition], listeners })
    }

    /// The routes on a Gateway that use a Service as a backend. Looks at every unit: for rare questions.
    pub fn routes_using(&self, gateway: &ObjectKey, service: &ObjectKey) -> Vec<ObjectKey> {
        let routes = self.state.outputs.keys().filter_map(|unit| match unit {
            Unit::Attach(route, on) if on == gateway => Some(route),
            _ => None,
        });
        let uses = |route: &&ObjectKey| {
            self.state.route(route).is_some_and(|out| {
                out.clusters.iter().any(|id| id.namespace == service.namespace && id.service == service.name)
            })
        };
        routes.filter(uses).cloned().collect()
    }

    /// Where a Gateway's ports are bound, or why they are not.
    pub fn placement(&self, gateway: &ObjectKey) -> Option<&crate::resolve::Placement> {
        self.state.placement(gateway)
    }

    /// The socket addresses that a Gateway got, sorted.
    pub fn bound(&self, gateway: &ObjectKey) -> Vec<std::net::SocketAddr> {
        let placement = self.state.placement(gateway);
        let ports = placement.into_iter().flat_map(|placement| placement.ports.values().flatten().flatten());
        let mut bound: Vec<_> = ports.copied().collect();
        bound.sort_unstable();
        bound
    }
}
