//! Reports: the status of an object exactly as it would be written to a cluster, less the transition times, which whoever
//! remembers the report before it adds ([`Report::conditions_mut`]).

use std::{
    hash::{Hash, Hasher as _},
    sync::Arc,
};

use jiff::Timestamp;
use portolan_crds::conditions;
use serde::Serialize;
use xxhash_rust::xxh3::Xxh3Default;

use super::{Engine, Fault};
use crate::model::{Address, Object, ObjectKey, ParentRef, RouteKind};

mod class;
mod gateway;
mod listener;
mod policy;
mod route;
mod set;

/// True, False or Unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Status {
    /// True.
    True,
    /// False.
    False,
    /// Unknown.
    Unknown,
}

/// A metav1.Condition.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
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
    /// Since when the status is what it is, in whole seconds (metav1.Time); nothing in a report that was just made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<Timestamp>,
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
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(untagged)]
pub enum Report {
    /// Of a GatewayClass.
    Class(ClassReport),
    /// Of a Gateway.
    Gateway(GatewayReport),
    /// Of a ListenerSet.
    Set(SetReport),
    /// Of a route.
    Route(RouteReport),
    /// Of a policy.
    Policy(PolicyReport),
}

impl Report {
    /// A hash of all that it says. It does not outlive the process.
    pub fn digest(&self) -> u64 {
        digest(self)
    }

    /// A hash of all that it says beside how many objects are attached.
    pub fn digest_of_words(&self) -> u64 {
        let listeners = |listeners: &[ListenerReport]| -> u64 {
            let words = |one: &ListenerReport| digest(&(&one.name, &one.supported_kinds, &one.conditions));
            digest(&listeners.iter().map(words).collect::<Vec<_>>())
        };
        match self {
            Self::Gateway(report) => {
                digest(&(&report.addresses, &report.conditions, listeners(&report.listeners)))
            }
            Self::Set(report) => digest(&(&report.conditions, listeners(&report.listeners))),
            Self::Class(_) | Self::Route(_) | Self::Policy(_) => self.digest(),
        }
    }

    /// Every condition, with a hash of where it stands: the object's own, a listener's by its name, a parent's and an ancestor's by
    /// its reference; not by its position in a list.
    pub fn conditions_mut(&mut self) -> Vec<(u64, &mut Condition)> {
        fn of<'a>(place: &impl Hash, conditions: &'a mut [Condition]) -> Vec<(u64, &'a mut Condition)> {
            let place = digest(place);
            conditions.iter_mut().map(|one| (digest(&(place, one.type_)), one)).collect()
        }
        match self {
            Self::Class(ClassReport { conditions, .. }) => of(&(), conditions),
            Self::Gateway(GatewayReport { conditions, listeners, .. })
            | Self::Set(SetReport { conditions, listeners }) => {
                let mut all = of(&(), conditions);
                all.extend(listeners.iter_mut().flat_map(|one| of(&one.name, &mut one.conditions)));
                all
            }
            Self::Route(RouteReport { parents }) => {
                parents.iter_mut().flat_map(|one| of(&one.parent_ref, &mut one.conditions)).collect()
            }
            Self::Policy(PolicyReport { ancestors }) => {
                ancestors.iter_mut().flat_map(|one| of(&one.ancestor_ref, &mut one.conditions)).collect()
            }
        }
    }
}

impl Condition {
    /// Whether it says that proxies have not answered yet.
    pub fn awaits_proxies(&self) -> bool {
        [conditions::gateway::types::PROGRAMMED, conditions::portolan::types::PROGRAMMED]
            .contains(&self.type_)
            && self.reason == conditions::gateway::reasons::PENDING
    }
}

fn digest(value: &impl Hash) -> u64 {
    let mut hasher = Xxh3Default::default();
    value.hash(&mut hasher);
    hasher.finish()
}

/// GatewayClassStatus.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClassReport {
    /// Conditions.
    pub conditions: Vec<Condition>,
    /// What works, sorted.
    pub supported_features: Vec<FeatureReport>,
}

/// SupportedFeature.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct FeatureReport {
    /// Its name in the official suite.
    pub name: &'static str,
}

/// GatewayStatus.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayReport {
    /// Addresses, without ports.
    pub addresses: Vec<AddressReport>,
    /// Conditions.
    pub conditions: Vec<Condition>,
    /// One per listener of the spec.
    pub listeners: Vec<ListenerReport>,
    /// ListenerSets that are accepted.
    pub attached_listener_sets: usize,
}

/// ListenerSetStatus.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct SetReport {
    /// Conditions.
    pub conditions: Vec<Condition>,
    /// One per listener of the spec.
    pub listeners: Vec<ListenerReport>,
}

/// GatewayStatusAddress.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct AddressReport {
    /// From where it can be reached, where that is less than the default: [`Address::CLUSTER`]. First, so that the addresses for
    /// everybody come before these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub routability: Option<&'static str>,
    /// `IPAddress` or `Hostname`; always set (the suite dials the first address that has a type).
    #[serde(rename = "type")]
    pub type_: &'static str,
    /// The address.
    pub value: String,
}

impl AddressReport {
    /// Of an IP address.
    pub fn ip(address: std::net::IpAddr) -> Self {
        Self { routability: None, type_: "IPAddress", value: address.to_string() }
    }

    /// Of an IP address that only the cluster reaches.
    pub fn inside(address: std::net::IpAddr) -> Self {
        Self { routability: Some(Address::CLUSTER), ..Self::ip(address) }
    }

    /// Of a DNS name.
    pub fn hostname(name: String) -> Self {
        Self { routability: None, type_: "Hostname", value: name }
    }

    /// Whether this is the address that is asked for, by value and by routability.
    pub(in crate::resolve) fn is(&self, asked: &Address) -> bool {
        asked.value.as_deref() == Some(&*self.value) && asked.routability.as_deref() == self.routability
    }
}

/// ListenerStatus.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct RouteReport {
    /// One per parentRef to a Gateway of ours.
    pub parents: Vec<ParentReport>,
}

/// RouteParentStatus.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ParentReport {
    /// The reference as written, with defaults.
    pub parent_ref: ParentRef,
    /// Ours.
    pub controller_name: &'static str,
    /// Conditions.
    pub conditions: Vec<Condition>,
}

/// PolicyStatus.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct PolicyReport {
    /// One per Gateway of ours that reaches a target.
    pub ancestors: Vec<AncestorReport>,
}

/// PolicyAncestorStatus.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AncestorReport {
    /// The Gateway.
    pub ancestor_ref: ParentRef,
    /// Ours.
    pub controller_name: &'static str,
    /// Conditions.
    pub conditions: Vec<Condition>,
}

/// The most bytes of a condition's message (metav1.Condition).
const LONGEST_MESSAGE: usize = 32_768;

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
        let mut message = message.into();
        if message.len() > LONGEST_MESSAGE {
            message.truncate(message.floor_char_boundary(LONGEST_MESSAGE - 3));
            message.push_str("...");
        }
        Condition { type_, status, reason, message, observed_generation: self.0, last_transition_time: None }
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
            Object::ListenerSet(set) => {
                let gateway = set.gateway.as_ref()?;
                self.set_report(key, gateway, &programmed(gateway, gateway)).map(Report::Set)
            }
            Object::BackendTlsPolicy(_) => self.policy_report(key).map(Report::Policy),
            Object::Route(_) => self.route_report(key, programmed).map(Report::Route),
            _ => None,
        }
    }
}
