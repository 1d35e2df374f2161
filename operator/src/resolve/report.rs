//! Reports: the status of an object exactly as it would be written to a cluster, less the transition times that the
//! writer keeps.

use std::sync::Arc;

use serde::Serialize;

use super::{Engine, Fault, ListenerOut, ListenersOut, RouteOut, Unit, attach, gateway::CONTROLLER};
use crate::model::{Object, ObjectKey, ParentRef, RouteKind};

/// True, False or Unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Status {
    /// True.
    True,
    /// False.
    False,
    /// Unknown.
    Unknown,
}

/// A metav1.Condition without its time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// The type.
    #[serde(rename = "type")]
    pub type_: &'static str,
    /// The status.
    pub status: Status,
    /// The reason.
    pub reason: &'static str,
    /// The message.
    pub message: String,
    /// The generation that was judged.
    pub observed_generation: i64,
}

/// What the fleet acknowledged of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Programmed {
    /// Every connected Envoy has it.
    Yes,
    /// Not yet, and why.
    Pending(String),
    /// Envoy rejected it, with Envoy's message.
    Rejected(String),
}

/// A status, by kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Report {
    /// Of a GatewayClass.
    Class(ClassReport),
    /// Of a Gateway.
    Gateway(GatewayReport),
    /// Of a route.
    Route(RouteReport),
}

/// GatewayClassStatus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClassReport {
    /// Conditions.
    pub conditions: Vec<Condition>,
}

/// GatewayStatus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GatewayReport {
    /// Addresses, without ports.
    pub addresses: Vec<String>,
    /// Conditions.
    pub conditions: Vec<Condition>,
    /// One per listener of the spec.
    pub listeners: Vec<ListenerReport>,
}

/// ListenerStatus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerReport {
    /// The listener.
    pub name: Arc<str>,
    /// Routes that attached.
    pub attached_routes: usize,
    /// Kinds that may attach.
    pub supported_kinds: Vec<RouteKind>,
    /// Conditions.
    pub conditions: Vec<Condition>,
}

/// RouteStatus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RouteReport {
    /// One per parentRef to a Gateway of ours.
    pub parents: Vec<ParentReport>,
}

/// RouteParentStatus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ParentReport {
    /// The reference as written, with defaults.
    pub parent_ref: ParentRef,
    /// Ours.
    pub controller_name: &'static str,
    /// Conditions.
    pub conditions: Vec<Condition>,
}

/// Writes conditions of one generation.
struct Judge(i64);

impl Judge {
    fn yes(&self, type_: &'static str, reason: &'static str, message: impl Into<String>) -> Condition {
        self.condition(type_, Status::True, reason, message)
    }

    fn no(&self, type_: &'static str, reason: &'static str, message: impl Into<String>) -> Condition {
        self.condition(type_, Status::False, reason, message)
    }

    fn of(&self, type_: &'static str, fault: Option<&Fault>, good: (&'static str, &str)) -> Condition {
        match fault {
            Some(fault) => self.no(type_, fault.reason, fault.message.clone()),
            None => self.yes(type_, good.0, good.1),
        }
    }

    fn condition(
        &self,
        type_: &'static str,
        status: Status,
        reason: &'static str,
        message: impl Into<String>,
    ) -> Condition {
        Condition { type_, status, reason, message: message.into(), observed_generation: self.0 }
    }

    fn programmed(&self, type_: &'static str, programmed: &Programmed) -> Condition {
        match programmed {
            Programmed::Yes => {
                self.yes(type_, "Programmed", "every connected Envoy acknowledged the configuration")
            }
            Programmed::Pending(why) => self.no(type_, "Pending", why.clone()),
            Programmed::Rejected(why) => self.no(type_, "Invalid", format!("Envoy rejected it: {why}")),
        }
    }
}

impl Engine {
    /// The report of an object; `None` for kinds without status and for objects that are not ours. `programmed` tells
    /// what the fleet of a Gateway (second) acknowledged of an object (first).
    pub fn report(
        &self,
        key: &ObjectKey,
        programmed: &dyn Fn(&ObjectKey, &ObjectKey) -> Programmed,
    ) -> Option<Report> {
        match self.world.get(key)? {
            Object::GatewayClass(_) => self.class_report(key).map(Report::Class),
            Object::Gateway(_) => self.gateway_report(key, &programmed(key, key)).map(Report::Gateway),
            Object::Route(_) => self.route_report(key, programmed).map(Report::Route),
            _ => None,
        }
    }

    fn class_report(&self, key: &ObjectKey) -> Option<ClassReport> {
        let class = self.state.class(key)?;
        let judge = Judge(class.generation);
        let fault = class.has_parameters.then(|| {
            Fault::new(
                "InvalidParameters",
                "parametersRef: no kind of parameters is supported yet; remove the field",
            )
        });
        Some(ClassReport {
            conditions: vec![judge.of(
                "Accepted",
                fault.as_ref(),
                ("Accepted", "Portolan serves this class"),
            )],
        })
    }

    fn gateway_report(&self, key: &ObjectKey, programmed: &Programmed) -> Option<GatewayReport> {
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
        let mut addresses: Vec<String> =
            self.bound(key).into_iter().map(|address| address.ip().to_string()).collect();
        addresses.dedup();
        Some(GatewayReport { addresses, conditions: vec![accepted, condition], listeners })
    }

    /// The routes on a Gateway that use a Service as a backend. Looks at all routes of the Gateway: for rare questions.
    pub fn routes_using(&self, gateway: &ObjectKey, service: &ObjectKey) -> Vec<ObjectKey> {
        let routes = self.effects.routes.get(gateway).into_iter().flatten();
        let uses = |route: &&ObjectKey| {
            self.state.route(route).is_some_and(|out| {
                out.clusters.iter().any(|id| id.namespace == service.namespace && id.service == service.name)
            })
        };
        routes.filter(uses).cloned().collect()
    }

    /// Where a Gateway's ports are bound, or why they are not.
    pub fn placement(&self, gateway: &ObjectKey) -> Option<&super::Placement> {
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

    fn listener_report(
        &self,
        key: &ObjectKey,
        out: &ListenersOut,
        one: &ListenerOut,
        programmed: &Programmed,
    ) -> ListenerReport {
        let judge = Judge(out.generation);
        let tls = self.state.tls(key).and_then(|tls| tls.listeners.get(&one.name));
        let certificate_fault = tls.and_then(|tls| tls.faults.first());
        let unavailable = self.state.chains(key).and_then(|chains| chains.unavailable.get(&one.port));
        let accepted = one.fault.as_ref().or(unavailable);
        let unresolved = one.invalid_kinds.as_ref().or(certificate_fault);
        let mut conditions = vec![
            judge.of("Accepted", accepted, ("Accepted", "the listener is accepted")),
            match (accepted, certificate_fault) {
                (Some(_), _) => judge.no("Programmed", "Invalid", "the listener is not accepted"),
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
                one.overlaps.join(", ")
            );
            conditions.push(judge.yes("OverlappingTLSConfig", "OverlappingHostnames", message));
        }
        let counts = self.effects.attached.get(key);
        ListenerReport {
            name: one.name.clone(),
            attached_routes: counts.and_then(|counts| counts.get(&one.name)).copied().unwrap_or(0),
            supported_kinds: one.kinds.clone(),
            conditions,
        }
    }

    fn route_report(
        &self,
        key: &ObjectKey,
        programmed: &dyn Fn(&ObjectKey, &ObjectKey) -> Programmed,
    ) -> Option<RouteReport> {
        let Some(Object::Route(model)) = self.world.get(key) else { return None };
        let out = self.state.route(key)?;
        let mut parents = Vec::new();
        for parent in &model.parents {
            let Some(gateway) = attach::gateway_of(model, parent) else { continue };
            let Some(attached) = self.state.attach(key, &gateway) else { continue };
            let Some(outcome) = attached.parents.iter().find(|outcome| outcome.parent == *parent) else {
                continue;
            };
            let conditions =
                self.parent_conditions(out, key, outcome.fault.as_ref(), &|| programmed(key, &gateway));
            parents.push(ParentReport {
                parent_ref: parent.clone(),
                controller_name: CONTROLLER,
                conditions,
            });
        }
        Some(RouteReport { parents })
    }

    fn parent_conditions(
        &self,
        out: &RouteOut,
        key: &ObjectKey,
        fault: Option<&Fault>,
        programmed: &dyn Fn() -> Programmed,
    ) -> Vec<Condition> {
        let judge = Judge(out.generation);
        let panicked = self.state.panics.get(&Unit::Route(key.clone())).map(|text| {
            Fault::new(
                "UnsupportedValue",
                format!("a defect of Portolan: resolving it panicked ({text}); please report it"),
            )
        });
        let all_dropped = out.rules.is_empty().then(|| out.dropped.first()).flatten();
        let all_dropped = all_dropped.map(|(index, fault)| {
            Fault::new(fault.reason, format!("no rule can be used: rules[{index}]: {}", fault.message))
        });
        let fault = fault.or(panicked.as_ref()).or(all_dropped.as_ref());
        let mut conditions = vec![
            judge.of("Accepted", fault, ("Accepted", "the route is accepted")),
            match out.unresolved.as_slice() {
                [] => judge.yes("ResolvedRefs", "ResolvedRefs", "all references are resolved"),
                [first, ..] => {
                    let all: Vec<_> = out.unresolved.iter().map(|fault| fault.message.as_str()).collect();
                    judge.no("ResolvedRefs", first.reason, all.join("; "))
                }
            },
        ];
        if !out.rules.is_empty() && !out.dropped.is_empty() {
            let all: Vec<_> = out
                .dropped
                .iter()
                .map(|(index, fault)| format!("rules[{index}]: {}", fault.message))
                .collect();
            conditions.push(judge.yes(
                "PartiallyInvalid",
                "UnsupportedValue",
                format!("Dropped Rule: {}", all.join("; ")),
            ));
        }
        if fault.is_none() {
            conditions.push(judge.programmed("portolan.dev/Programmed", &programmed()));
        }
        conditions
    }
}
