//! Classes, and a Gateway's listeners: validity, conflicts, and the route tables they need.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use portolan_crds::fleet_config::FleetConfigSpec;
use portolan_xds::ir::{RouteTable, RouteTableName, Transport, VirtualHostKey};
use serde::Serialize;

use crate::{
    model::{From, Hostname, Kind, ListenerSpec, ObjectKey, RouteKind, TlsMode},
    world::{Read, View},
};

use super::{engine::State, parameters::parameters};

/// The controller name of GatewayClasses that are ours.
pub(super) const CONTROLLER: &str = "portolan.dev/gateway-controller";

/// A GatewayClass of ours.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassOut {
    /// metadata.generation.
    pub generation: i64,
    /// The FleetConfig of its Gateways; empty without parametersRef.
    pub config: Arc<FleetConfigSpec>,
    /// Why parametersRef cannot be followed.
    pub fault: Option<Fault>,
}

/// A condition's False: its reason in the API and a message for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The reason.
    pub reason: &'static str,
    /// The message.
    pub message: String,
}

impl Fault {
    /// A fault from its parts.
    pub fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }

    /// The same, said of a field.
    #[must_use]
    pub fn at(mut self, field: impl std::fmt::Display) -> Self {
        self.message = format!("{field}: {}", self.message);
        self
    }
}

/// A listener after validation.
#[derive(Clone, Debug, PartialEq)]
pub struct ListenerOut {
    /// Its name.
    pub name: Arc<str>,
    /// Its port.
    pub port: u16,
    /// Whether it terminates TLS.
    pub tls: bool,
    /// Its hostname.
    pub hostname: Option<Hostname>,
    /// Which namespaces' routes it takes.
    pub from: From,
    /// Which kinds of route it takes, sorted: `supportedKinds`.
    pub kinds: Vec<RouteKind>,
    /// Why it is not accepted.
    pub fault: Option<Fault>,
    /// Whether the fault is a conflict with another listener.
    pub conflicted: bool,
    /// Kinds that were asked for and are not supported by the protocol.
    pub invalid_kinds: Option<Fault>,
    /// Names of other HTTPS listeners on the port whose hostnames overlap with its own.
    pub overlaps: Vec<Arc<str>>,
    /// The table that routes of this listener go to; none when it is not accepted.
    pub table: Option<RouteTableName>,
}

/// A Gateway of ours.
#[derive(Clone, Debug, PartialEq)]
pub struct ListenersOut {
    /// metadata.generation.
    pub generation: i64,
    /// Its listeners, in order.
    pub listeners: Vec<ListenerOut>,
    /// The tables.
    pub tables: BTreeMap<RouteTableName, Arc<RouteTable>>,
    /// Virtual hosts that exist whatever routes do: a listener's own hostname (404: listener isolation), hostnames of
    /// other listeners (421, `true`).
    pub hosts: BTreeMap<VirtualHostKey, bool>,
}

impl ListenersOut {
    /// The ports of accepted listeners.
    pub fn ports(&self) -> BTreeSet<(u16, Transport)> {
        let accepted = self.listeners.iter().filter(|one| one.table.is_some());
        accepted.map(|one| (one.port, Transport::Tcp)).collect()
    }

    /// The accepted listener that a hostname belongs to among those of a port: the most specific one that covers it
    /// (GatewayHTTPListenerIsolation). `None` stands for every host.
    pub fn owner(&self, port: u16, hostname: Option<&Hostname>) -> Option<&ListenerOut> {
        let covers = |one: &&ListenerOut| match (&one.hostname, hostname) {
            (None, _) => true,
            (Some(own), Some(host)) => own.covers(host),
            (Some(_), None) => false,
        };
        let on_port = self.listeners.iter().filter(|one| one.port == port && one.fault.is_none());
        on_port.filter(covers).min_by_key(|one| Hostname::specificity(one.hostname.as_ref()))
    }
}

/// Resolves [`super::Unit::Class`].
pub(super) fn class(view: &View<'_>, key: &ObjectKey) -> Option<ClassOut> {
    let class = view.gateway_class(key).filter(|class| *class.controller == *CONTROLLER)?;
    let (config, fault) = parameters(view, class.parameters.as_ref(), None);
    Some(ClassOut { generation: class.meta.generation, config, fault })
}

/// Resolves [`super::Unit::Listeners`].
pub(super) fn listeners(view: &View<'_>, state: &State, key: &ObjectKey) -> Option<ListenersOut> {
    let gateway = view.gateway(key)?;
    let class = ObjectKey::new(Kind::GatewayClass, "", gateway.class.clone());
    view.record(Read::Output(super::Unit::Class(class.clone())));
    state.class(&class)?;
    let mut listeners: Vec<ListenerOut> = gateway.listeners.iter().map(validate).collect();
    find_conflicts(&mut listeners, &gateway.listeners);
    find_overlaps(&mut listeners);
    let mut out = ListenersOut {
        generation: gateway.meta.generation,
        listeners,
        tables: BTreeMap::new(),
        hosts: BTreeMap::new(),
    };
    lay_out_tables(&mut out, key);
    Some(out)
}

fn validate(spec: &ListenerSpec) -> ListenerOut {
    let supported: &[Kind] = match &*spec.protocol {
        "HTTP" | "HTTPS" => &[Kind::GrpcRoute, Kind::HttpRoute],
        _ => &[],
    };
    let supported: Vec<RouteKind> = supported
        .iter()
        .map(|kind| RouteKind { group: kind.group().into(), kind: kind.as_str().into() })
        .collect();
    let (mut kinds, mut invalid): (Vec<_>, Vec<_>) =
        spec.allowed.kinds.iter().cloned().partition(|kind| supported.contains(kind));
    if spec.allowed.kinds.is_empty() {
        kinds.clone_from(&supported);
    }
    kinds.sort();
    kinds.dedup();
    invalid.sort();
    let invalid_kinds = (!invalid.is_empty() && !supported.is_empty()).then(|| {
        let names: Vec<_> = invalid.iter().map(|kind| format!("{}/{}", kind.group, kind.kind)).collect();
        Fault::new(
            "InvalidRouteKinds",
            format!(
                "allowedRoutes.kinds: {} is not a kind of route for protocol {}",
                names.join(", "),
                spec.protocol
            ),
        )
    });
    let fault = if !matches!(&*spec.protocol, "HTTP" | "HTTPS") {
        Some(Fault::new(
            "UnsupportedProtocol",
            format!("protocol {:?} is not supported: this version serves HTTP and HTTPS", spec.protocol),
        ))
    } else if let Err(error) = &spec.hostname {
        Some(Fault::new("UnsupportedValue", format!("hostname: {error}")))
    } else if &*spec.protocol == "HTTPS" && spec.tls_mode == TlsMode::Passthrough {
        Some(Fault::new("UnsupportedValue", "tls.mode: Passthrough needs protocol TLS; HTTPS terminates TLS"))
    } else if &*spec.protocol == "HTTP" && spec.has_tls {
        Some(Fault::new(
            "UnsupportedValue",
            "tls: an HTTP listener has no TLS; use protocol HTTPS or remove the field",
        ))
    } else if spec.has_filters {
        // A filter may authorize requests: to serve without it would let them in.
        Some(Fault::new("UnsupportedValue", "filters: filters of a listener are not supported yet"))
    } else {
        None
    };
    ListenerOut {
        name: spec.name.clone(),
        port: spec.port,
        tls: &*spec.protocol == "HTTPS",
        hostname: spec.hostname.clone().ok().flatten(),
        from: spec.allowed.from.clone(),
        kinds,
        fault,
        conflicted: false,
        invalid_kinds,
        overlaps: Vec::new(),
        table: None,
    }
}

/// Listeners of one port must have one protocol and distinct hostnames. Inside a Gateway nobody wins: all that are not
/// distinct are rejected (GatewaySpec.listeners).
fn find_conflicts(listeners: &mut [ListenerOut], specs: &[ListenerSpec]) {
    let others = |index: usize, same: &dyn Fn(&ListenerSpec) -> bool| -> Vec<&str> {
        let port = specs.get(index).map(|spec| spec.port);
        let rest =
            specs.iter().enumerate().filter(|(other, spec)| *other != index && Some(spec.port) == port);
        rest.filter(|(_, spec)| same(spec)).map(|(_, spec)| &*spec.name).collect()
    };
    // UDP shares no port with TCP; unknown protocols are judged by themselves.
    let known = |protocol: &str| matches!(protocol, "HTTP" | "HTTPS" | "TLS" | "TCP");
    let family = |protocol: &str| if protocol == "TLS" { "HTTPS".to_owned() } else { protocol.to_owned() };
    for (index, (listener, spec)) in listeners.iter_mut().zip(specs).enumerate() {
        if listener.fault.is_some() || !known(&spec.protocol) {
            continue;
        }
        let mixed = others(index, &|other| {
            known(&other.protocol) && family(&other.protocol) != family(&spec.protocol)
        });
        let twins = others(index, &|other| {
            family(&other.protocol) == family(&spec.protocol)
                && other.hostname.is_ok()
                && other.hostname == spec.hostname
        });
        let (reason, what, names) = if !mixed.is_empty() {
            ("ProtocolConflict", "another protocol", mixed)
        } else if !twins.is_empty() {
            ("HostnameConflict", "the same hostname", twins)
        } else {
            continue;
        };
        listener.conflicted = true;
        listener.fault = Some(Fault::new(
            reason,
            format!(
                "port {} is also used with {what} by listener {}: give each its own",
                spec.port,
                names.join(", ")
            ),
        ));
    }
}

/// HTTPS listeners whose hostnames overlap: clients that reuse connections can be misdirected (GEP-3567).
fn find_overlaps(listeners: &mut [ListenerOut]) {
    let all: Vec<_> = listeners
        .iter()
        .map(|one| (one.name.clone(), one.port, one.tls, one.hostname.clone(), one.fault.is_none()))
        .collect();
    for listener in listeners.iter_mut().filter(|one| one.tls && one.fault.is_none()) {
        let overlap = |other: &Option<Hostname>| match (&listener.hostname, other) {
            (None, _) | (_, None) => true,
            (Some(own), Some(other)) => own.intersect(other).is_some(),
        };
        let others = all.iter().filter(|(name, port, tls, host, ok)| {
            *ok && *tls && *port == listener.port && *name != listener.name && overlap(host)
        });
        listener.overlaps = others.map(|(name, ..)| name.clone()).collect();
    }
}

fn lay_out_tables(out: &mut ListenersOut, gateway: &ObjectKey) {
    let mut tables = BTreeMap::new();
    for listener in out.listeners.iter_mut().filter(|one| one.fault.is_none()) {
        let base = format!("{}/{}/{}", gateway.namespace, gateway.name, listener.port);
        let host = listener.hostname.as_ref().map_or("*", Hostname::as_str);
        let name: RouteTableName = if listener.tls { format!("{base}/{host}") } else { base }.into();
        tables.insert(
            name.clone(),
            Arc::new(RouteTable { name: name.clone(), port: listener.port, tls: listener.tls }),
        );
        listener.table = Some(name);
    }
    let mut hosts = BTreeMap::new();
    let accepted: Vec<&ListenerOut> = out.listeners.iter().filter(|one| one.table.is_some()).collect();
    for listener in &accepted {
        let Some(table) = &listener.table else { continue };
        for other in accepted.iter().filter(|other| other.port == listener.port) {
            let domain = other.hostname.as_ref().map_or_else(|| Arc::from("*"), Hostname::shared);
            let misdirected = other.table != listener.table;
            // RFC 9110 §15.5.20: in a TLS chain, a host that belongs to another listener is misdirected. The plain-text
            // listeners of a port share one table, where each has its own host.
            let key = VirtualHostKey { table: table.clone(), domain };
            let entry = hosts.entry(key).or_insert(misdirected);
            *entry = *entry && misdirected;
        }
    }
    out.tables = tables;
    out.hosts = hosts;
}
