//! Status of BackendTLSPolicies: one entry for each Gateway that reaches a backend of theirs.

use std::collections::BTreeSet;

use super::{AncestorReport, Judge, PolicyReport};
use crate::{
    model::{Object, ObjectKey, ParentRef},
    resolve::{Engine, Unit, attach, class::CONTROLLER},
    world::Read,
};

/// The most ancestors of a policy (PolicyStatus.ancestors).
const MOST_ANCESTORS: usize = 16;

impl Engine {
    pub(super) fn policy_report(&self, key: &ObjectKey) -> Option<PolicyReport> {
        let out = self.state.policy(key)?;
        let judge = Judge(out.generation);
        let notes = out
            .notes
            .iter()
            .fold("the policy is accepted".to_owned(), |text, note| format!("{text}; {note}"));
        let resolved = match out.unresolved.as_slice() {
            [] => judge.yes("ResolvedRefs", "ResolvedRefs", "all references are resolved"),
            [first, ..] => {
                let all: Vec<_> = out.unresolved.iter().map(|fault| fault.message.as_str()).collect();
                judge.no("ResolvedRefs", first.reason, all.join("; "))
            }
        };
        let conditions = vec![judge.of("Accepted", out.fault.as_ref(), ("Accepted", &notes)), resolved];
        let ancestors = self.gateways_that_reach(key).into_iter().take(MOST_ANCESTORS);
        let ancestors = ancestors.map(|gateway| AncestorReport {
            ancestor_ref: ParentRef {
                group: gateway.kind.group().into(),
                kind: gateway.kind.as_str().into(),
                namespace: Some(gateway.namespace),
                name: gateway.name,
                section_name: None,
                port: None,
            },
            controller_name: CONTROLLER,
            conditions: conditions.clone(),
        });
        Some(PolicyReport { ancestors: ancestors.collect() })
    }

    /// Gateways of ours with a route to a Service that the policy is about, or with a listener that asks it.
    fn gateways_that_reach(&self, policy: &ObjectKey) -> BTreeSet<ObjectKey> {
        let Some(Object::BackendTlsPolicy(policy)) = self.world.get(policy) else { return BTreeSet::new() };
        let mut gateways = BTreeSet::new();
        for (service, _) in policy.services() {
            let read = Read::PoliciesOn(policy.meta.key.namespace.clone(), service.clone());
            for unit in self.dependencies.readers(&read) {
                let key = match unit {
                    Unit::Route(key) => key,
                    Unit::PreRouting(owner) => {
                        gateways.extend(self.gateway_of(owner));
                        continue;
                    }
                    _ => continue,
                };
                let Some(Object::Route(route)) = self.world.get(key) else { continue };
                let attached = attach::parents_of(route);
                let attached = attached.iter().filter_map(|parent| self.state.attach(key, parent));
                let accepted = attached.filter(|out| out.parents.iter().any(|one| one.fault.is_none()));
                gateways.extend(accepted.map(|out| out.gateway.clone()));
            }
        }
        gateways
    }
}
