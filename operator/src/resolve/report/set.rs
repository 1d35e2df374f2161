//! Status of ListenerSets.

use std::collections::BTreeSet;

use super::{Judge, ListenerReport, Programmed, SetReport, Status};
use crate::{
    model::ObjectKey,
    resolve::{Engine, Fault, ListenerOut, ListenersOut, Protocol},
};

impl Engine {
    pub(super) fn set_report(
        &self,
        key: &ObjectKey,
        gateway: &ObjectKey,
        programmed: &Programmed,
    ) -> Option<SetReport> {
        let out = self.state.listeners(gateway)?;
        let set = out.sets.get(key)?;
        let judge = Judge(set.generation);
        let parent = self.state.fleet(gateway).and_then(|plan| plan.fault.as_ref()).map(|fault| {
            Fault::new("ParentNotAccepted", format!("{gateway} is not accepted: {}", fault.message))
        });
        if let Some(fault) = set.fault.as_ref().or(parent.as_ref()) {
            let conditions = ["Accepted", "Programmed"].map(|type_| judge.of(type_, Some(fault), ("", "")));
            return Some(SetReport { conditions: conditions.into(), listeners: Vec::new() });
        }
        let own = out.listeners.iter().filter(|one| one.set.as_ref() == Some(key));
        let listeners: Vec<ListenerReport> =
            own.map(|one| self.listener_report(gateway, out, one, programmed).0).collect();
        let (good, bad): (Vec<&ListenerReport>, Vec<_>) = listeners.iter().partition(|one| is_valid(one));
        let names =
            |list: &[&ListenerReport]| list.iter().map(|one| &*one.name).collect::<Vec<_>>().join(", ");
        let message = format!("listeners that are not valid: {}", names(&bad));
        let conditions = match (good.as_slice(), bad.as_slice()) {
            (_, []) => {
                let accepted = judge.yes("Accepted", "Accepted", format!("{gateway} takes the ListenerSet"));
                vec![accepted, judge.programmed("Programmed", programmed)]
            }
            ([], _) => vec![
                judge.no("Accepted", "ListenersNotValid", message.clone()),
                judge.no("Programmed", "ListenersNotValid", message),
            ],
            (good, _) => {
                let message = format!("{message}; valid: {}", names(good));
                let accepted = judge.yes("Accepted", "ListenersNotValid", message);
                vec![accepted, judge.programmed("Programmed", programmed)]
            }
        };
        Some(SetReport { conditions, listeners })
    }

    /// How many ListenerSets are accepted (GatewayStatus.attachedListenerSets). Says the same as their reports, and makes none.
    pub(super) fn attached_sets(&self, gateway: &ObjectKey, out: &ListenersOut) -> usize {
        if self.state.fleet(gateway).is_some_and(|plan| plan.fault.is_some()) {
            return 0;
        }
        // Listeners of sets that are refused are not among them.
        let usable = out.listeners.iter().filter(|one| self.is_usable(gateway, one));
        usable.filter_map(|one| one.set.as_ref()).collect::<BTreeSet<_>>().len()
    }

    fn is_usable(&self, gateway: &ObjectKey, one: &ListenerOut) -> bool {
        let port = (one.port, one.transport());
        let bound = self.state.chains(gateway).is_none_or(|chains| !chains.unavailable.contains_key(&port));
        let tls = self.state.tls(one.owner(gateway)).and_then(|tls| tls.listeners.get(&one.name));
        let filters = self.state.pre_routing(one.owner(gateway)).and_then(|out| out.listeners.get(&one.name));
        let frontend = self.state.frontend(gateway).filter(|_| one.protocol == Some(Protocol::Https));
        let check = frontend.and_then(|frontend| frontend.on(one.port));
        one.fault.is_none()
            && one.invalid_kinds.is_none()
            && bound
            && tls.is_none_or(|tls| tls.faults.is_empty())
            && filters.is_none_or(|filters| filters.faults.is_empty())
            && check.is_none_or(|check| check.faults.is_empty())
    }
}

/// Whether a listener is accepted and all that it refers to is there (conformance: ListenerSetReferenceGrant).
fn is_valid(listener: &ListenerReport) -> bool {
    let holds =
        |type_: &str| listener.conditions.iter().any(|one| one.type_ == type_ && one.status == Status::True);
    holds("Accepted") && holds("ResolvedRefs")
}
