//! Status of Gateways.

use super::{Condition, GatewayReport, Judge, ListenerReport, Programmed, Status};
use crate::{
    model::ObjectKey,
    resolve::{Engine, FleetPlan, Output, Unit},
};

impl Engine {
    pub(super) fn gateway_report(&self, key: &ObjectKey, programmed: &Programmed) -> Option<GatewayReport> {
        let out = self.state.listeners(key)?;
        let plan = self.state.fleet(key)?;
        let judge = Judge(out.generation);
        let (listeners, served): (Vec<_>, Vec<_>) = out
            .listeners
            .iter()
            .filter(|one| one.set.is_none())
            .map(|one| self.listener_report(key, out, one, programmed))
            .unzip();
        let accepted = accepted(&judge, plan, &listeners);
        let (addresses, fault) = self.addresses(key, plan);
        let condition = if accepted.status == Status::False {
            judge.no("Programmed", "Invalid", "the Gateway is not accepted")
        } else if !served.contains(&true) {
            judge.no("Programmed", "Invalid", "no listener can be served")
        } else if let Some(fault) = fault {
            judge.no("Programmed", fault.reason, fault.message)
        } else {
            judge.programmed("Programmed", programmed)
        };
        let mut conditions = vec![accepted, condition];
        if self.state.frontend(key).is_some_and(|frontend| frontend.insecure()) {
            // Only there while it is true (GatewayConditionInsecureFrontendValidationMode).
            conditions.push(judge.yes(
                "InsecureFrontendValidationMode",
                "ConfigurationChanged",
                "tls.frontend: AllowInsecureFallback lets clients in without a valid certificate",
            ));
        }
        if let Some(client) = self.state.tls(key).and_then(|tls| tls.client.as_ref()) {
            let good = ("ResolvedRefs", "tls.backend.clientCertificateRef can be used");
            conditions.push(judge.of("ResolvedRefs", client.as_ref().err(), good));
        }
        let attached_listener_sets = self.attached_sets(key, out);
        Some(GatewayReport { addresses, conditions, listeners, attached_listener_sets })
    }

    /// The routes on a Gateway that use a Service as a backend. Looks at every unit: for rare questions.
    pub fn routes_using(&self, gateway: &ObjectKey, service: &ObjectKey) -> Vec<ObjectKey> {
        let routes = self.state.outputs.iter().filter_map(|(unit, output)| match (unit, output) {
            (Unit::Attach(route, _), Output::Attach(out)) if out.gateway == *gateway => Some(route),
            _ => None,
        });
        let uses = |route: &&ObjectKey| {
            self.state.route(route).is_some_and(|out| {
                out.clusters.iter().any(|id| id.namespace == service.namespace && id.service == service.name)
            })
        };
        routes.filter(uses).cloned().collect()
    }
}

fn accepted(judge: &Judge, plan: &FleetPlan, listeners: &[ListenerReport]) -> Condition {
    if let Some(fault) = &plan.fault {
        return judge.no("Accepted", fault.reason, fault.message.clone());
    }
    let (good, bad): (Vec<&ListenerReport>, Vec<_>) = listeners.iter().partition(|one| is_accepted(one));
    let note = locked(plan);
    if bad.is_empty() {
        return judge.yes("Accepted", "Accepted", format!("the Gateway is accepted{note}"));
    }
    let names = |list: &[&ListenerReport]| list.iter().map(|one| &*one.name).collect::<Vec<_>>().join(", ");
    let message = format!("listeners that are not accepted: {}", names(&bad));
    if good.is_empty() {
        judge.no("Accepted", "ListenersNotValid", message)
    } else {
        judge.yes("Accepted", "ListenersNotValid", format!("{message}; accepted: {}{note}", names(&good)))
    }
}

/// What the class does not leave to the Gateway's FleetConfig.
fn locked(plan: &FleetPlan) -> String {
    if plan.ignored.is_empty() {
        return String::new();
    }
    let fields: Vec<_> = plan.ignored.iter().map(|field| field.path()).collect();
    format!("; GatewayClass {} locks {}: the FleetConfig's values are ignored", plan.class, fields.join(", "))
}

fn is_accepted(listener: &ListenerReport) -> bool {
    listener.conditions.iter().any(|one| one.type_ == "Accepted" && one.status == Status::True)
}
