//! Status of listeners.

use super::{Condition, Judge, ListenerReport, Programmed};
use crate::{
    model::ObjectKey,
    resolve::{Engine, ListenerOut, ListenerTls, ListenersOut, Protocol, fault::enumerate},
};

impl Engine {
    /// The report of a listener, and whether proxies are to serve it.
    pub(super) fn listener_report(
        &self,
        key: &ObjectKey,
        out: &ListenersOut,
        one: &ListenerOut,
        programmed: &Programmed,
    ) -> (ListenerReport, bool) {
        let owner = one.owner(key);
        let judge = Judge(out.sets.get(owner).map_or(out.generation, |set| set.generation));
        let tls = self.state.tls(owner).and_then(|tls| tls.listeners.get(&one.name));
        let check = self
            .state
            .frontend(key)
            .filter(|_| one.protocol == Some(Protocol::Https))
            .and_then(|frontend| frontend.on(one.port));
        let refusal = check.and_then(|check| check.refusal());
        let authorities_fault = check.and_then(|check| check.faults.first());
        let certificate_fault = tls.and_then(|tls| tls.faults.first());
        let port = (one.port, one.transport());
        let unavailable = self.state.chains(key).and_then(|chains| chains.unavailable.get(&port));
        let accepted = one.fault.as_ref().or(unavailable).or(refusal.as_ref());
        let filters = self.state.pre_routing(owner).and_then(|out| out.listeners.get(&one.name));
        let filter_fault = filters.and_then(|filters| filters.faults.first());
        let unresolved =
            one.invalid_kinds.as_ref().or(certificate_fault).or(authorities_fault).or(filter_fault);
        let mut conditions = vec![
            judge.of("Accepted", accepted, ("Accepted", "the listener is accepted")),
            match (accepted, certificate_fault) {
                // For a listener of a ListenerSet, the API has the conflict itself as the reason (conformance:
                // ListenerSetHostnameConflict); for one of a Gateway it has not.
                (Some(fault), _) if one.conflicted && out.sets.contains_key(owner) => {
                    judge.no("Programmed", fault.reason, "the listener is not accepted")
                }
                (Some(_), _) => judge.no("Programmed", "Invalid", "the listener is not accepted"),
                (None, Some(_)) if tls.is_some_and(|tls| tls.stands) => {
                    judge.no("Programmed", "Invalid", "the listener goes on with the certificates before")
                }
                (None, Some(_)) => {
                    judge.no("Programmed", "Invalid", "the listener's certificates cannot be used")
                }
                (None, None) => judge.programmed("Programmed", programmed),
            },
            judge.of("ResolvedRefs", unresolved, ("ResolvedRefs", "all references are resolved")),
        ];
        if let Some(fault) = one.fault.as_ref().filter(|_| one.conflicted) {
            conditions.push(judge.yes("Conflicted", fault.reason, fault.message.clone()));
        }
        if !one.overlaps.is_empty() {
            let message = format!(
                "hostnames overlap with {}; requests on a connection for another listener's host are answered with 421",
                enumerate(one.overlaps.iter())
            );
            conditions.push(judge.yes("OverlappingTLSConfig", "OverlappingHostnames", message));
        }
        conditions.extend(tls.and_then(|tls| expired(&judge, tls, self.state.now)));
        let counts = self.effects.attached.get(owner);
        let served = accepted.is_none() && certificate_fault.is_none();
        let report = ListenerReport {
            name: one.name.clone(),
            attached_routes: counts.and_then(|counts| counts.get(&one.name)).copied().unwrap_or(0),
            supported_kinds: one.kinds.clone(),
            conditions,
        };
        (report, served)
    }
}

/// A condition of ours, only there when it is true: an expired certificate goes on being served, and somebody should
/// know.
fn expired(judge: &Judge, tls: &ListenerTls, now: i64) -> Option<Condition> {
    let expired = tls.certificates.iter().filter(|one| one.expires <= now);
    let named: Vec<String> = expired
        .map(|one| {
            let moment = jiff::Timestamp::from_second(one.expires.saturating_sub(1));
            let moment = moment.map_or_else(|_| String::new(), |moment| format!(" at {moment}"));
            format!("the certificate of Secret/{} expired{moment}", one.secret.name)
        })
        .collect();
    let message = format!("{}: clients will refuse it", named.join("; "));
    (!named.is_empty()).then(|| judge.yes("portolan.dev/CertificateExpired", "Expired", message))
}
